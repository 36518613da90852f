r"""The setting of Pierret & Galerne, "Diffusion models for Gaussian distributions: exact solutions and Wasserstein errors" (ICML 2025).

Data N(0, diag(lambda)) on a VP diffusion, so that every law is known by its variances v and W2^2 = sum (sqrt(v) - sqrt(lambda))^2. A scheme runs over N uniform times from the
horizon down to a truncation, begun at N(0, I) or at the exact p_T; N is the number of evaluations of the score (NFE) divided by those that a step needs.
The eigenvalues are those of a file, or interpolated between knots: log lambda is linear in the rank.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.kernels import DiagonalKernel
from ensembletheory.laws import Gaussian, singular_gaussian
from ensembletheory.processes import VariancePreserving, reverse_kernel
from ensembletheory.samplers import Ddpm, Euler, EulerMaruyama, ExponentialIntegrator, Heun, Rk4, Sampler, Scheme, padded

__all__ = ["CIFAR_KNOTS", "CONTINUOUS", "METHODS", "Method", "continuous_variances", "end_variances", "errors_along_runs", "node_times", "noised", "read_spectrum", "w2"]


class Method(NamedTuple):
    """A scheme, the evaluations of the score that a step needs, and the name of its look."""

    scheme: Scheme
    evaluations: int
    look: str


METHODS = {
    "EM": Method(EulerMaruyama(), 1, "euler_maruyama"),
    "EI": Method(ExponentialIntegrator(), 1, "exponential_integrator"),
    "DDPM": Method(Ddpm(), 1, "ddpm"),
    "Euler": Method(Euler(), 1, "euler"),
    "Heun": Method(Heun(), 2, "heun"),
    "RK4": Method(Rk4(), 4, "rk4"),
}

CONTINUOUS = {"SDE": 1.0, "ODE": 0.0}  # churn

# Eigenvalues, by rank, of the covariance of the pixels of CIFAR-10, scaled to [-1, 1]: 24 of the 3072.
CIFAR_KNOTS = {
    "ranks": [1, 2, 3, 4, 6, 8, 11, 16, 24, 40, 70, 120, 200, 350, 600, 1000, 1500, 2000, 2400, 2700, 2850, 2950, 3010, 3072],
    "eigenvalues": [
        *(221.0, 85.7, 51.0, 28.0, 21.4, 16.5, 9.98, 6.23, 3.74, 1.89, 0.923, 0.444, 0.21, 0.083, 0.0286, 0.00814, 0.00186),
        *(4.22e-4, 1.31e-4, 5.07e-5, 2.83e-5, 1.76e-5, 1.22e-5, 6.34e-6),
    ],
}


def read_spectrum(spectrum: Mapping[str, str] | None, ranks: Sequence[int], eigenvalues: Sequence[float]) -> Float[np.ndarray, " d"]:
    """The eigenvalues of the file of `spectrum`, or, if it is None, those between the knots.

    Raises:
        ValueError: if the file holds anything but a row of finite eigenvalues >= 0.
    """
    if spectrum is None:
        return np.exp(np.interp(np.arange(1, ranks[-1] + 1), ranks, np.log(eigenvalues)))
    values = np.asarray(np.load(Path(spectrum["file"])), dtype=float)
    if values.ndim != 1 or not np.all(np.isfinite(values)) or np.any(values < 0):
        refuse("spectrum", f"an array of shape {values.shape}", "a row of finite eigenvalues >= 0", "Save them with numpy.save.")
    return values


def node_times(nodes: int, truncation: float, length: int) -> Float[np.ndarray, " length"]:
    """`nodes` uniform times from 1 to the truncation, begun by as many steps of length zero as make them `length` times."""
    return np.asarray(padded(np.linspace(1.0, truncation, nodes), length))


@eqx.filter_jit
def noised(process: VariancePreserving, eigenvalues: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, " d"]:
    """The variances of p_t."""
    return process.a(t) ** 2 * eigenvalues + process.noise_variance(t)


def w2(variances, eigenvalues):
    """W2 of centred laws along the same axes, over the last axis of NumPy or JAX arrays; infinite where a variance is."""
    return ((variances**0.5 - eigenvalues**0.5) ** 2).sum(-1) ** 0.5


@eqx.filter_jit
def end_variances(
    process: VariancePreserving, scheme: Scheme, eigenvalues: Float[Array, " d"], grids: Float[Array, "g n"], starts: Float[Array, "k d"]
) -> Float[Array, "g k d"]:
    """The variances at the end of a run along each grid, from each start."""
    field = _field(process, scheme, eigenvalues)

    def end(grid):
        kernel = Sampler(process, field, scheme, grid).coordinatewise_kernel(eigenvalues.size)
        return jax.vmap(lambda start: _pushed(kernel, start))(starts)

    return jax.vmap(end)(grids)


@eqx.filter_jit
def errors_along_runs(
    process: VariancePreserving, scheme: Scheme, eigenvalues: Float[Array, " d"], grids: Float[Array, "g n"]
) -> tuple[Float[Array, "g n"], Float[Array, " g"]]:
    """Of runs begun at N(0, I), W2 from p_t at each time of the grid, and W2 of the end from the data."""
    field = _field(process, scheme, eigenvalues)

    def run(grid):
        def step(variances, times):
            moved = _pushed(Sampler(process, field, scheme, times).coordinatewise_kernel(eigenvalues.size), variances)
            return moved, w2(moved, noised(process, eigenvalues, times[1]))

        start = jnp.ones_like(eigenvalues)
        end, errors = jax.lax.scan(step, start, jnp.stack([grid[:-1], grid[1:]], axis=1))
        return jnp.append(w2(start, noised(process, eigenvalues, grid[0])), errors), w2(end, eigenvalues)

    return jax.vmap(run)(grids)


@eqx.filter_jit
def continuous_variances(
    process: VariancePreserving, eigenvalues: Float[Array, " d"], times: Float[Array, " n"], churns: Float[Array, " c"], starts: Float[Array, "k d"]
) -> Float[Array, "c n k d"]:
    """The variances of the reverse dynamics with each churn at each time, from each start."""
    data = _gaussian(eigenvalues)

    def at(churn, t):
        kernel = reverse_kernel(process, data, t, process.horizon, churn)
        assert isinstance(kernel, DiagonalKernel)
        return jax.vmap(lambda start: _pushed(kernel, start))(starts)

    return jax.vmap(lambda churn: jax.vmap(lambda t: at(churn, t))(times))(churns)


def _gaussian(eigenvalues: Float[Array, " d"]) -> Gaussian:
    return singular_gaussian(jnp.zeros_like(eigenvalues), eigenvalues)


def _field(process: VariancePreserving, scheme: Scheme, eigenvalues: Float[Array, " d"]):
    return getattr(process, scheme.takes)(_gaussian(eigenvalues))


def _pushed(kernel: DiagonalKernel, variances: Float[Array, " d"]) -> Float[Array, " d"]:
    """The variances of the output; infinite along an eigenvalue 0, by which a step that looks at time 0 divides."""
    pushed = kernel.a**2 * variances + kernel.C.variances
    return jnp.where(jnp.isfinite(pushed), pushed, jnp.inf)
