r"""Samplers: a scheme run along a grid of times, from noise to data.

`sample` runs the scheme's step on draws; `law` is the exact law of those draws when the step is affine, x -> A x + b + B z: each step is then the kernel
(A, b, B B^T), read off the same step by linearisation, and the kernels are composed. Affinity is verified at another point, never assumed. `log_prob` is the exact
log-density of the draws of a deterministic scheme: each step is inverted by Newton's method and contributes log |det| of its Jacobian.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import Dense
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Law, standard_normal
from ensembletheory.laws.law import checked_point
from ensembletheory.linalg import symmetrised
from ensembletheory.processes import GaussianPath
from ensembletheory.samplers.scheme import Scheme

__all__ = ["Sampler", "uniform_grid"]

_NEWTON_STEPS = 3


class Sampler(eqx.Module):
    """`scheme` run along `grid` with `field` (a score for stochastic schemes, a velocity for deterministic ones).

    Args:
        process: the path from data to noise.
        field: (t, x) -> vector.
        scheme: the step.
        grid: (n + 1,) times in the order visited, decreasing from noise to data.

    Raises:
        ValueError: if the grid is not strictly decreasing inside [0, horizon].
    """

    process: GaussianPath
    field: Field
    scheme: Scheme
    grid: Float[Array, " n"]

    def __init__(self, process: GaussianPath, field: Field, scheme: Scheme, grid: Numbers):
        self.process, self.field, self.scheme, self.grid = process, field, scheme, as_floats("grid", grid)

    def __check_init__(self):
        if self.grid.ndim != 1 or self.grid.size < 2:
            refuse("grid", f"shape {self.grid.shape}", "at least two times in a row", "See ensembletheory.samplers.uniform_grid.")
        if is_concrete(self.grid, self.process.horizon):
            times, horizon = np.asarray(self.grid), float(self.process.horizon)
            if np.any(np.diff(times) >= 0) or times[0] > horizon or times[-1] < 0:
                expected = f"strictly decreasing times within [0, {horizon:.6g}]"
                refuse("grid", f"times from {times[0]:.6g} to {times[-1]:.6g}", expected, "Sampling runs from noise (the horizon) to data (0).")

    def sample(self, key: PRNGKeyArray, n: int, start: Law) -> Float[Array, "n d"]:
        """`n` independent draws, begun from `start` at the first time of the grid."""
        return _sample(self, key, n, start)

    def law(self, start: Law) -> Law:
        """The exact law of the draws of `sample`, when the step is affine.

        Raises:
            ValueError: naming scheme and field, if the step is not affine.
        """
        kernel, defect = _composed(self, start.dim)
        if is_concrete(defect) and defect > 1e-9:
            names = f"{type(self.scheme).__name__} with {type(self.field).__name__}"
            refuse("field", f"a step of {names} that is off its linearisation by {float(defect):.3g}", "an affine step", "Sample it, or use a Gaussian's field.")
        return kernel.push(start)

    def log_prob(self, x: Numbers) -> Float[Array, "..."]:
        """The log-density in nats, at x (..., d), of the draws of `sample` begun from N(0, I).

        Raises:
            ValueError: if the scheme is stochastic.
        """
        if not self.scheme.deterministic:
            refuse("scheme", type(self.scheme).__name__, "a deterministic scheme", "Use Heun with a velocity; a stochastic step has no inverse.")
        point = as_floats("x", x)
        return _log_prob(self, checked_point("x", point, point.shape[-1] if point.ndim else 1))


def uniform_grid(process: GaussianPath, steps: int, end: float = 0.0) -> Float[Array, " n"]:
    """Steps + 1 equally spaced times from the horizon down to `end`."""
    return jnp.linspace(process.horizon, end, steps + 1)


def _steps(grid: Float[Array, " n"]) -> tuple[Array, Array]:
    return grid[:-1], grid[1:]


@eqx.filter_jit
def _sample(sampler: Sampler, key: PRNGKeyArray, n: int, start: Law) -> Float[Array, "n d"]:
    key_start, key_noise = jax.random.split(key)

    def step(x, inputs):
        t, s, i = inputs
        z = jax.random.normal(jax.random.fold_in(key_noise, i), x.shape, x.dtype)
        return jax.vmap(lambda point, noise: sampler.scheme.step(sampler.process, sampler.field, t, s, point, noise))(x, z), None

    index = jnp.arange(sampler.grid.size - 1)
    return jax.lax.scan(step, start.sample(key_start, n), (*_steps(sampler.grid), index))[0]


@eqx.filter_jit
def _composed(sampler: Sampler, dim: int) -> tuple[AffineKernel, Float[Array, ""]]:
    """The kernel of the whole run, and the largest relative distance of a step from its linearisation."""
    zero, elsewhere = jnp.zeros(dim), jax.random.normal(jax.random.key(0), (2, dim))

    def step(carry, times):
        (kernel, defect), (t, s) = carry, times

        def move(x, z):
            return sampler.scheme.step(sampler.process, sampler.field, t, s, x, z)

        (A, B), b = jax.jacfwd(move, argnums=(0, 1))(zero, zero), move(zero, zero)
        actual = move(elsewhere[0], elsewhere[1])
        off = jnp.max(jnp.abs(actual - (A @ elsewhere[0] + B @ elsewhere[1] + b))) / (1 + jnp.max(jnp.abs(actual)))
        return (AffineKernel(A, b, Dense(symmetrised(B @ B.T))).after(kernel), jnp.maximum(defect, off)), None

    identity = AffineKernel(jnp.eye(dim), zero, Dense(jnp.zeros((dim, dim))))
    return jax.lax.scan(step, (identity, jnp.asarray(0.0)), _steps(sampler.grid))[0]


@eqx.filter_jit
def _log_prob(sampler: Sampler, x: Float[Array, "... d"]) -> Float[Array, "..."]:
    def back(point, times):
        t, s = times

        def move(y):
            return sampler.scheme.step(sampler.process, sampler.field, t, s, y, jnp.zeros_like(y))

        def newton(y, _):
            return y - jnp.linalg.solve(jax.jacfwd(move)(y), move(y) - point), None

        first = sampler.scheme.step(sampler.process, sampler.field, s, t, point, jnp.zeros_like(point))
        y = jax.lax.scan(newton, first, None, length=_NEWTON_STEPS)[0]
        return y, -jnp.linalg.slogdet(jax.jacfwd(move)(y))[1]

    def at(point):
        noise, changes = jax.lax.scan(back, point, _steps(sampler.grid), reverse=True)
        return standard_normal(point.shape[0])._log_prob(noise) + jnp.sum(changes)

    return jnp.vectorize(at, signature="(d)->()")(x)
