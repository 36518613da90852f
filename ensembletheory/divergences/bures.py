r"""The squared Bures distance of covariances, B^2(S, R) = tr S + tr R - 2 tr (S^{1/2} R S^{1/2})^{1/2}.

In its Procrustes form, the least of |L - K Q|_F^2 over orthogonal Q for any L L^T = S and K K^T = R, it is never negative, and accurate where S and R are nearly equal. The
best Q is the orthogonal polar factor of K^T L. The differential is tr((I - T_SR) dS) + tr((I - T_RS) dR) with T_SR = S^{-1/2} (S^{1/2} R S^{1/2})^{1/2} S^{-1/2} the
optimal map, smooth also where the covariances meet.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned, Covariance, SemiDefinite
from ensembletheory.linalg import cholesky, nearest_orthogonal, solve_spd, sqrtm, symmetrised

__all__ = ["bures_squared", "covariance_bures_squared", "optimal_map", "semidefinite_bures_squared"]


def covariance_bures_squared(S: Covariance, R: Covariance) -> Float[Array, ""]:
    """B^2 of two covariances, by coordinates where both are diagonal; without derivative where one is a full matrix that is singular."""
    first, second = (one.inner if isinstance(one, SemiDefinite) else one for one in (S, R))
    if isinstance(first, AxisAligned) and isinstance(second, AxisAligned):
        roots = jnp.sqrt(first.variances) + jnp.sqrt(second.variances)
        return jnp.sum((first.variances - second.variances) ** 2 / jnp.where(roots > 0, roots, 1.0) ** 2)
    if first is not S or second is not R:
        return semidefinite_bures_squared(first.as_matrix(), second.as_matrix())
    return bures_squared(S.as_matrix(), R.as_matrix())


def bures_squared(S: Float[Array, "d d"], R: Float[Array, "d d"]) -> Float[Array, ""]:
    """B^2 of two positive definite matrices."""
    if S.shape[0] == 1:
        return ((S - R) ** 2 / (jnp.sqrt(S) + jnp.sqrt(R)) ** 2)[0, 0]
    return _dense(S, R)


@eqx.filter_jit
def semidefinite_bures_squared(S: Float[Array, "d d"], R: Float[Array, "d d"]) -> Float[Array, ""]:
    """B^2 of two positive semi-definite matrices, without derivative."""
    L, K = jax.vmap(sqrtm)(jax.lax.stop_gradient(jnp.stack([S, R])))
    return jnp.sum((L - K @ nearest_orthogonal(K.T @ L)) ** 2)


@jax.custom_jvp
def _dense(S: Float[Array, "d d"], R: Float[Array, "d d"]) -> Float[Array, ""]:
    L, K = jax.vmap(cholesky)(jnp.stack([S, R]))
    return jnp.sum((L - K @ _polar_factor(K.T @ L)) ** 2)


def _polar_factor(A: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The rotation nearest to A, whose determinant is positive: for d = 2 proportional to A plus its cofactor matrix."""
    if A.shape[0] == 2:
        rotation = A + jnp.stack([jnp.stack([A[1, 1], -A[1, 0]]), jnp.stack([-A[0, 1], A[0, 0]])])
        return rotation / jnp.sqrt(jnp.sum(rotation**2) / 2)
    return nearest_orthogonal(A)


@_dense.defjvp
def _dense_jvp(primals, tangents):
    (S, R), (dS, dR) = primals, tangents
    identity = jnp.eye(S.shape[0], dtype=S.dtype)
    return _dense(S, R), jnp.sum((identity - optimal_map(S, R)) * dS) + jnp.sum((identity - optimal_map(R, S)) * dR)


def optimal_map(S: Float[Array, "d d"], R: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The T with T S T = R."""
    root = sqrtm(S)
    middle = sqrtm(symmetrised(root @ R @ root))
    return symmetrised(solve_spd(root, solve_spd(root, middle).T))
