r"""What steps do to linear processes that run forwards: the largest stable step of Euler-Maruyama, and the law at rest of any affine step.

Euler-Maruyama multiplies by I - h B, whose eigenvalues 1 - h l lie inside the unit circle, l those of B, iff

    h < min_l 2 Re(l) / |l|^2:

what an antisymmetric part gains in time it may lose in steps. A step x -> A x + b + N(0, C) that contracts has the law at rest N(m, P), m = (I - A)^{-1} b,
P = A P A^T + C, of which P - Sigma is the bias of the step.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import Dense
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import symmetrised
from ensembletheory.nonreversible.convergence import drift_matrix, rates
from ensembletheory.processes import HomogeneousProcess

__all__ = ["euler_kernel", "law_at_rest", "step_limit"]

_DOUBLINGS = 60  # of the steps summed over: 2^60


def step_limit(process: HomogeneousProcess) -> Float[Array, ""]:
    """Steps of Euler-Maruyama below it are stable; 0 if none are."""
    return _step_limit(process)


def euler_kernel(process: HomogeneousProcess, h: Numbers, unstable: bool = False) -> AffineKernel:
    """One step h of Euler-Maruyama, forwards in time, on the (smallest) dimension of the process.

    Raises:
        ValueError: if the step is not positive, or not stable and not asked for by `unstable`.
    """
    step = as_floats("h", h)
    if is_concrete(step) and not float(step) > 0:
        refuse("h", f"{float(step):.6g}", "a number above 0", "A step has a length.")
    if not unstable and is_concrete(step):
        limit = step_limit(process)
        if is_concrete(limit) and not float(step) < float(limit):
            refuse("h", f"{float(step):.6g}", f"a step below {float(limit):.6g}, the limit 2 Re(l) / |l|^2 over the rates l", "Pass unstable=True if you want it.")
    return _euler_kernel(process, step)


def law_at_rest(kernel: AffineKernel) -> Gaussian:
    """The stationary law of a step.

    Raises:
        ValueError: if the step does not contract, naming the largest modulus of its eigenvalues.
    """
    if is_concrete(kernel.A):
        radius = float(np.max(np.abs(np.linalg.eigvals(np.asarray(kernel.A)))))
        if not radius < 1:
            refuse("kernel", f"a step whose largest eigenvalue has modulus {radius:.6g}", "a modulus below 1", "Take a shorter step: this one has no law at rest.")
    mean, covariance = _at_rest(kernel)
    return Gaussian(mean, covariance)


@eqx.filter_jit
def _step_limit(process: HomogeneousProcess) -> Float[Array, ""]:
    values = rates(process)
    square = values.real**2 + values.imag**2
    return jnp.maximum(jnp.min(jnp.where(square > 0, 2 * values.real / jnp.where(square > 0, square, 1.0), 0.0)), 0.0)


@eqx.filter_jit
def _euler_kernel(process: HomogeneousProcess, h: Float[Array, ""]) -> AffineKernel:
    d, zero = process.dim, jnp.zeros(())
    Q = jax.vmap(lambda y: process.spread(zero, y), out_axes=1)(jnp.eye(d))
    return AffineKernel(jnp.eye(d) - h * drift_matrix(process), h * process.drift(zero, jnp.zeros(d)), Dense(h * symmetrised(Q)))


@eqx.filter_jit
def _at_rest(kernel: AffineKernel) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """The sum of A^k C A^kT, doubling the number of its terms: nothing cancels."""

    def doubled(_, carry):
        A, P = carry
        return A @ A, P + symmetrised(A @ P @ A.T)

    covariance = jax.lax.fori_loop(0, _DOUBLINGS, doubled, (kernel.A, kernel.C.as_matrix()))[1]
    return jnp.linalg.solve(jnp.eye(kernel.b.size) - kernel.A, kernel.b), covariance
