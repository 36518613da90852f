r"""The W2 barycenter: the law that minimises sum_k w_k W2^2(q_k, q).

For Gaussians it is N(sum_k w_k m_k, S) with S = sum_k w_k (S^{1/2} S_k S^{1/2})^{1/2} (Agueh & Carlier 2011). Commuting diagonal covariances: S = (sum_k w_k S_k^{1/2})^2.
Otherwise S is the fixed point of S <- S^{-1/2} ( sum_k w_k (S^{1/2} S_k S^{1/2})^{1/2} )^2 S^{-1/2} (Alvarez-Esteban et al. 2016); its residual is verified.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import solve_spd, sqrtm, symmetrised
from ensembletheory.pooling.members import Member, checked_gaussians, stacked_means

__all__ = ["w2_barycenter"]

_MOST_ITERATIONS = 100
_RESIDUAL = 1e-9


def w2_barycenter(members: Sequence[Member], weights: Numbers | None = None) -> Gaussian:
    """The W2 barycenter of Gaussian members with `weights` (default equal).

    Raises:
        ValueError: if there is no member, dimensions differ, the weights are off the simplex, or the iteration does not converge.
        TypeError: if a member is not Gaussian.
    """
    gaussians, weights = checked_gaussians(members, weights, "W2 barycenter")
    mean = weights @ stacked_means(gaussians)
    if all(isinstance(member.covariance, AxisAligned) for member in gaussians) or mean.size == 1:
        roots = jnp.stack([jnp.sqrt(member.covariance.diagonal()) for member in gaussians])
        return Gaussian(mean, (weights @ roots) ** 2)
    S, residual = _fixed_point(weights, jnp.stack([member.cov for member in gaussians]))
    if is_concrete(residual) and not residual < _RESIDUAL:
        refuse("members", f"a fixed-point residual of {float(residual):.3g}", f"less than {_RESIDUAL}", "The covariances are too ill-conditioned: rescale them.")
    return Gaussian(mean, S)


@eqx.filter_jit
def _fixed_point(weights: Float[Array, " K"], covs: Float[Array, "K d d"]) -> tuple[Float[Array, "d d"], Float[Array, ""]]:
    """The covariance of the barycenter, and its relative residual in the fixed-point equation; derivatives are those of the equation's solution."""
    tolerance = 32 * covs.shape[-1] * jnp.finfo(covs.dtype).eps

    def mean_root(S):
        root = sqrtm(S)
        return root, jnp.tensordot(weights, jax.vmap(lambda C: sqrtm(symmetrised(root @ C @ root)))(covs), 1)

    def defect(S):
        return mean_root(S)[1] - S

    def relative(defect, S):
        return jnp.max(jnp.abs(defect)) / jnp.max(jnp.abs(S))

    def iterate(state):
        S, _, i = state
        root, middle = mean_root(S)
        half = solve_spd(root, middle)
        return symmetrised(half @ half.T), relative(middle - S, S), i + 1

    def solve(_, start):
        return jax.lax.while_loop(lambda state: (state[1] > tolerance) & (state[2] < _MOST_ITERATIONS), iterate, (start, jnp.asarray(jnp.inf, start.dtype), 0))[0]

    S = jax.lax.custom_root(defect, jnp.tensordot(weights, covs, 1), solve, _solve_linear)
    return S, relative(defect(S), S)


def _solve_linear(function: Callable[[Array], Array], y: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The X with function(X) = y, for a linear function of matrices."""
    jacobian = jax.jacobian(function)(jnp.zeros_like(y)).reshape(y.size, y.size)
    return jnp.linalg.solve(jacobian, y.ravel()).reshape(y.shape)
