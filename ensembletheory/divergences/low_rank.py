r"""KL(N(0, S) || N(0, R)) for S = F F^T + D and R = G G^T + E, low rank plus diagonal, in O(d k^2).

With A = E^{-1/2} G = Q B (Q orthonormal), C C^T = I + B B^T and T = I + Q (C^{-1} - I) Q^T, the matrix T E^{-1/2} whitens R. With delta = D / E - 1, what is left of S is

    T E^{-1/2} S E^{-1/2} T^T = I + diag(delta) + U K U^T,      U = [Q, delta Q, T E^{-1/2} F],
    K = [[ (C^{-1} - I) Q^T delta Q (C^{-1} - I)^T - (I - C^{-1} C^{-T}), C^{-1} - I, 0 ], [ (C^{-1} - I)^T, 0, 0 ], [ 0, 0, I ]],

and with lambda the eigenvalues of V K V^T, V = (1 + delta)^{-1/2} U, read from a small matrix after V is orthogonalised,

    2 KL = sum_i (delta_i - log(1 + delta_i)) + sum_j (lambda_j - log(1 + lambda_j)) + sum_i delta_i / (1 + delta_i) (U K U^T)_ii.

Every term is of second order in S - R, so that as many digits are kept between near-equal laws as by Cholesky factors. The derivative is that of the plain formula
1/2 [ tr R^{-1} S - d + log det R - log det S ], by Woodbury, which exists also where columns of U coincide.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned, Covariance, LowRankPlusDiagonal
from ensembletheory.linalg import cholesky, substitute, symmetrised

__all__ = ["low_rank_kl", "pays"]

Parts = tuple[Float[Array, "d _"], Float[Array, " d"]]


def pays(S: Covariance, R: Covariance) -> bool:
    """Whether the matrices' structure makes U narrower than it is long."""
    if not all(isinstance(C, AxisAligned | LowRankPlusDiagonal) for C in (S, R)):
        return False
    return _parts(S)[0].shape[1] + 2 * _parts(R)[0].shape[1] < S.dim


def low_rank_kl(S: Covariance, R: Covariance) -> Float[Array, ""]:
    """KL(N(0, S) || N(0, R)) in nats, for diagonal matrices and such of low rank plus diagonal."""
    return _kl(_parts(S), _parts(R))


def _parts(S: Covariance) -> Parts:
    """Loadings (one column of zeros for a diagonal matrix) and diagonal."""
    if isinstance(S, LowRankPlusDiagonal):
        return S.loadings, S.noise
    assert isinstance(S, AxisAligned)
    return jnp.zeros((S.dim, 1), S.variances.dtype), S.variances


@jax.custom_jvp
def _kl(S: Parts, R: Parts) -> Float[Array, ""]:
    (F, D), (G, E) = S, R
    root = jnp.sqrt(E)[:, None]
    delta = (D - E) / E
    Q, B = jnp.linalg.qr(G / root)
    identity = jnp.eye(B.shape[0], dtype=B.dtype)
    inverse = substitute(cholesky(identity + symmetrised(B @ B.T)), identity)
    shift = inverse - identity
    U = jnp.concatenate([Q, delta[:, None] * Q, F / root + Q @ (shift @ (Q.T @ (F / root)))], axis=1)
    K = _middle(shift @ symmetrised(Q.T @ (delta[:, None] * Q)) @ shift.T - symmetrised(inverse @ B @ B.T @ inverse.T), shift, F.shape[1])
    turned = jnp.linalg.qr(U / jnp.sqrt(1 + delta)[:, None], mode="r")
    eigenvalues = jnp.linalg.eigvalsh(symmetrised(turned @ K @ turned.T))
    return 0.5 * (_surplus(delta) + _surplus(eigenvalues) + jnp.sum(delta / (1 + delta) * jnp.sum((U @ K) * U, axis=1)))


def _middle(first: Float[Array, "k k"], shift: Float[Array, "k k"], width: int) -> Float[Array, "m m"]:
    """The matrix K."""
    zero = jnp.zeros_like(shift)
    return jax.scipy.linalg.block_diag(jnp.block([[first, shift], [shift.T, zero]]), jnp.eye(width, dtype=shift.dtype))


def _surplus(x: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.sum(x - jnp.log1p(x))


@_kl.defjvp
def _kl_jvp(primals, tangents):
    return _kl(*primals), jax.jvp(_plain_kl, primals, tangents)[1]


def _plain_kl(S: Parts, R: Parts) -> Float[Array, ""]:
    p, q = LowRankPlusDiagonal(*S), LowRankPlusDiagonal(*R)
    solved = jax.vmap(q.solve, in_axes=1, out_axes=1)(p.loadings)
    trace = jnp.sum(p.noise * q.inverse_diagonal()) + jnp.sum(p.loadings * solved)
    return 0.5 * (trace - p.dim + q.logdet() - p.logdet())
