r"""The 2-Wasserstein distance W2 and its square, always by name.

Gaussians: W2^2 = |m_p - m_q|^2 + min over orthogonal Q of |L_p - L_q Q|_F^2 (the Bures distance in its Procrustes form: never negative, accurate for near-equal
covariances). Its differential is tr((I - T_pq) dS_p) + tr((I - T_qp) dS_q) with T_pq = S_p^{-1/2} (S_p^{1/2} S_q S_p^{1/2})^{1/2} S_p^{-1/2} the optimal map, smooth also
where the covariances meet.

One dimension: W2^2 = E_p (x - T(x))^2 with the monotone map T = F_q^{-1} o F_p, by quadrature; panels break at the pieces of p and at the pre-images of those of q,
so that a jump of T over a gap of q falls on a break.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.covariance import Covariance, Diagonal
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import breaks
from ensembletheory.laws.law import require_same_dim
from ensembletheory.laws.univariate import quantile, smaller_tail
from ensembletheory.linalg import cholesky, solve_spd, sqrtm, symmetrised
from ensembletheory.quadrature import integrate

__all__ = ["w2", "w2_squared"]


def w2_squared(p: Law, q: Law, rtol: float | None = None) -> Estimate:
    """The squared 2-Wasserstein distance: closed form for Gaussians, quadrature of quantile functions in one dimension.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for mixtures in more than one dimension, for which no exact route is known.
    """
    require_same_dim(p, q)
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return closed_form(_gaussian_w2_squared(p, q))
    if p.dim > 1:
        got = f"{type(p).__name__} and {type(q).__name__} in dimension {p.dim}"
        raise TypeError(f"`p`, `q`: got {got}; expected Gaussians, or laws in one dimension: W2 between mixtures has no exact form in several. Compare marginals.")
    return integrate(Partial(_squared_move, p, q), (_breaks_with_preimages(p, q),), rtol)


def w2(p: Law, q: Law, rtol: float | None = None) -> Estimate:
    """The 2-Wasserstein distance, the root of `w2_squared`; its error is the larger half-width of the root of that interval.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for mixtures in more than one dimension.
    """
    squared = w2_squared(p, q, rtol)
    value = jnp.sqrt(jnp.maximum(squared.value, 0.0))
    return Estimate(value, value - jnp.sqrt(jnp.maximum(squared.value - squared.error, 0.0)), squared.kind)


@eqx.filter_jit
def _gaussian_w2_squared(p: Gaussian, q: Gaussian) -> Float[Array, ""]:
    return jnp.sum((p.mean - q.mean) ** 2) + _bures_squared(p.covariance, q.covariance)


def _bures_squared(S: Covariance, R: Covariance) -> Float[Array, ""]:
    if isinstance(S, Diagonal) and isinstance(R, Diagonal):
        return jnp.sum((S.variances - R.variances) ** 2 / (jnp.sqrt(S.variances) + jnp.sqrt(R.variances)) ** 2)
    return _bures_squared_dense(S.as_matrix(), R.as_matrix())


@jax.custom_jvp
def _bures_squared_dense(S: Float[Array, "d d"], R: Float[Array, "d d"]) -> Float[Array, ""]:
    L, K = jax.vmap(cholesky)(jnp.stack([S, R]))
    return jnp.sum((L - K @ _polar_factor(K.T @ L)) ** 2)


def _polar_factor(A: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The rotation nearest to A, whose determinant is positive: for d = 2 proportional to A plus its cofactor matrix."""
    if A.shape[0] == 2:
        rotation = A + jnp.stack([jnp.stack([A[1, 1], -A[1, 0]]), jnp.stack([-A[0, 1], A[0, 0]])])
        return rotation / jnp.sqrt(jnp.sum(rotation**2) / 2)
    U, _, V = jnp.linalg.svd(A)
    return U @ V


@_bures_squared_dense.defjvp
def _bures_squared_jvp(primals, tangents):
    (S, R), (dS, dR) = primals, tangents
    identity = jnp.eye(S.shape[0], dtype=S.dtype)
    return _bures_squared_dense(S, R), jnp.sum((identity - _optimal_map(S, R)) * dS) + jnp.sum((identity - _optimal_map(R, S)) * dR)


def _optimal_map(S: Float[Array, "d d"], R: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The T with T S T = R."""
    root = sqrtm(S)
    middle = sqrtm(symmetrised(root @ R @ root))
    return symmetrised(solve_spd(root, solve_spd(root, middle).T))


def _squared_move(p: Law, q: Law, x: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    image = quantile(q, *smaller_tail(p, x[0]))
    density = jnp.exp(p._log_prob(x))
    return density * (x[0] - image) ** 2, density * (x[0] ** 2 + image**2)


@eqx.filter_jit
def _breaks_with_preimages(p: Law, q: Law) -> Float[Array, " n"]:
    (own,), (other,) = breaks(p, ()), breaks(q, ())
    preimages = jax.vmap(lambda y: quantile(p, *smaller_tail(q, y)))(other)
    return jnp.sort(jnp.concatenate([own, jnp.clip(preimages, own[0], own[-1])]))
