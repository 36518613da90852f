r"""Dense linear algebra whose derivatives exist where a covariance needs them.

For symmetric positive definite S the symmetric root R (R R = S) is smooth, also where eigenvalues meet, although eigenvectors are not. Differentiating R R = S gives
the Lyapunov equation R dR + dR R = dS, whose solution in the eigenbasis of R divides by r_i + r_j > 0, never by r_i - r_j; differentiating A X + X A = C gives a
Lyapunov equation again, so both functions have derivatives of every order.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = [
    "cholesky",
    "logdet",
    "lyapunov",
    "nearest_orthogonal",
    "oscillation",
    "shifted_solve",
    "solve_lower",
    "solve_lower_transposed",
    "solve_spd",
    "sqrtm",
    "substitute",
    "symmetrised",
    "transition",
    "williamson",
]

_MOST_DOUBLINGS = 24
_UNROLLED = 4  # factorised entry by entry up to this dimension: batches of small matrices then vectorise over the batch


def symmetrised(S: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The symmetric part of a matrix that is symmetric up to rounding."""
    return (S + S.T) / 2


def lyapunov(A: Float[Array, "d d"], C: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The X with A X + X A = C, for A symmetric positive definite."""
    eigenvalues, Q = jnp.linalg.eigh(jax.lax.stop_gradient(A))

    def solve(_, b):
        return Q @ (Q.T @ b @ Q / (eigenvalues[:, None] + eigenvalues[None, :])) @ Q.T

    return jax.lax.custom_linear_solve(lambda X: A @ X + X @ A, C, solve, symmetric=True)


@jax.custom_jvp
def sqrtm(S: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The symmetric positive root R of a symmetric positive definite S, R R = S."""
    eigenvalues, Q = jnp.linalg.eigh(S)
    return (Q * jnp.sqrt(jnp.maximum(eigenvalues, 0.0))[None, :]) @ Q.T


@sqrtm.defjvp
def _sqrtm_jvp(primals, tangents):
    R = sqrtm(*primals)
    return R, lyapunov(R, symmetrised(tangents[0]))


@jax.custom_jvp
def nearest_orthogonal(A: Float[Array, "q q"]) -> Float[Array, "q q"]:
    """The orthogonal Q that maximises tr(Q^T A): the polar factor of A, with A = Q P and P symmetric positive semi-definite. Differentiable where A is regular."""
    U, _, V = jnp.linalg.svd(A)
    return U @ V


@nearest_orthogonal.defjvp
def _nearest_orthogonal_jvp(primals, tangents):
    (A,), (dA,) = primals, tangents
    Q = nearest_orthogonal(A)
    skew = Q.T @ dA
    return Q, Q @ lyapunov(symmetrised(Q.T @ A), skew - skew.T)


def cholesky(S: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The lower triangular L with L L^T = S; NaN where S is not positive definite."""
    d = S.shape[0]
    if d > _UNROLLED:
        return jnp.linalg.cholesky(S)
    L: list[list[Any]] = [[np.zeros((), S.dtype)] * d for _ in range(d)]
    for j in range(d):
        L[j][j] = jnp.sqrt(S[j, j] - sum(L[j][k] ** 2 for k in range(j)))
        for i in range(j + 1, d):
            L[i][j] = (S[i, j] - sum(L[i][k] * L[j][k] for k in range(j))) / L[j][j]
    return jnp.stack([jnp.stack(row) for row in L])


def substitute(L: Float[Array, "d d"], B: Float[Array, "d m"]) -> Float[Array, "d m"]:
    """The Z with L Z = B, for L lower triangular, row by row: LAPACK's threaded solver is no faster, and stalls where threads compete for few cores."""

    def row(i, Z):
        return Z.at[i].set((B[i] - L[i] @ Z) / L[i, i])

    return jax.lax.fori_loop(0, L.shape[0], row, jnp.zeros_like(B))


def _inverse_lower(L: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """L^{-1}; applied to a batch of vectors it is one matrix product, many times faster than as many triangular solves."""
    return substitute(L, jnp.eye(L.shape[0], dtype=L.dtype))


def solve_lower(L: Float[Array, "d d"], x: Float[Array, " d"]) -> Float[Array, " d"]:
    """The z with L z = x, for L lower triangular."""
    d = L.shape[0]
    if d > _UNROLLED:
        return _inverse_lower(L) @ x
    z = []
    for i in range(d):
        z.append((x[i] - sum(L[i, k] * z[k] for k in range(i))) / L[i, i])
    return jnp.stack(z)


def solve_lower_transposed(L: Float[Array, "d d"], z: Float[Array, " d"]) -> Float[Array, " d"]:
    """The x with L^T x = z, for L lower triangular."""
    d = L.shape[0]
    if d > _UNROLLED:
        return _inverse_lower(L).T @ z
    x = [z[0]] * d
    for i in reversed(range(d)):
        x[i] = (z[i] - sum(L[k, i] * x[k] for k in range(i + 1, d))) / L[i, i]
    return jnp.stack(x)


def shifted_solve(
    S: Float[Array, "d d"], Q: Float[Array, "d d"], eigenvalues: Float[Array, " d"], scale: Float[Array, ""], shift: Float[Array, ""], x: Float[Array, " d"]
) -> Float[Array, " d"]:
    """(scale S + shift I)^{-1} x from an eigendecomposition of S that serves every scale and shift; derivatives are taken through S, so eigenvalues may be equal."""

    def solve(_, b):
        return Q @ (Q.T @ b / (scale * eigenvalues + shift))

    return jax.lax.custom_linear_solve(lambda y: scale * (S @ y) + shift * y, x, solve, symmetric=True)


def solve_spd(S: Float[Array, "d d"], B: Float[Array, "d n"]) -> Float[Array, "d n"]:
    """The X with S X = B, for S symmetric positive definite."""
    return jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(S), True), B)


def logdet(S: Float[Array, "d d"]) -> Float[Array, ""]:
    """Log-determinant of a symmetric positive definite matrix."""
    L = cholesky(S)
    diagonal = jnp.stack([L[i, i] for i in range(len(L))]) if len(L) <= _UNROLLED else jnp.diagonal(L)
    return 2 * jnp.sum(jnp.log(diagonal))


def transition(A: Float[Array, "d d"], Q: Float[Array, "d d"], h: Float[Array, ""]) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """Of dX = A X dt + G dW with G G^T = Q, over a time h >= 0: exp(A h) and Van Loan's Gramian int_0^h exp(A u) Q exp(A^T u) du.

    Over h / 2^n, with |A| h / 2^n <= 1/4, both are their power series, the Gramian's in the operator W -> A W + W A^T; then n times E <- E E and W <- W + E W E^T, a sum of
    positive terms, from which nothing cancels. No use is made of exp(-A h), which overflows where the dynamics contracts.
    """
    norm = jax.lax.stop_gradient(jnp.linalg.norm(A) * h)
    n = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(4 * norm, 1.0))), 0, _MOST_DOUBLINGS)
    step = h * 2.0**-n
    E, W = _series(A, Q, step)

    def doubled(carry, i):
        E, W = carry
        return (jnp.where(i < n, E @ E, E), jnp.where(i < n, W + symmetrised(E @ W @ E.T), W)), None

    return jax.lax.scan(doubled, (E, W), jnp.arange(_MOST_DOUBLINGS, dtype=h.dtype))[0]


def _series(A: Float[Array, "d d"], Q: Float[Array, "d d"], h: Float[Array, ""]) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """`transition` for |A| h <= 1/4: the terms fall at least as 2^{-k} / k!."""

    def added(carry, k):
        (E, power), (W, term) = carry
        power, image = h / k * (A @ power), A @ term
        term = h / (k + 1) * (image + image.T)
        return ((E + power, power), (W + term, term)), None

    identity, first = jnp.eye(A.shape[0], dtype=A.dtype), h * Q
    (E, _), (W, _) = jax.lax.scan(added, ((identity, identity), (first, first)), jnp.arange(1, 18, dtype=h.dtype))[0]
    return E, W


def oscillation(A: Float[Array, "d d"], h: Float[Array, ""]) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """Of x'' = -A x, over a time h: the C = cos(A^{1/2} h) and S = A^{-1/2} sin(A^{1/2} h) with x_h = C x_0 + S x'_0.

    Both are entire in A, which may be singular, indefinite and not symmetric. Over h / 2^n, with |A| (h / 2^n)^2 <= 1/4, they are their power series; then n times
    C <- C C - A S S and S <- 2 S C.
    """
    norm = jax.lax.stop_gradient(jnp.sqrt(jnp.linalg.norm(A)) * jnp.abs(h))
    n = jnp.clip(jnp.ceil(jnp.log2(jnp.maximum(2 * norm, 1.0))), 0, _MOST_DOUBLINGS)
    step = h * 2.0**-n
    identity, square = jnp.eye(A.shape[0], dtype=A.dtype), -(step**2) * A

    def added(carry, k):
        C, S, power = carry
        even = square @ power / ((2 * k - 1) * (2 * k))
        return (C + even, S + even / (2 * k + 1), even), None

    def doubled(carry, i):
        C, S = carry
        return (jnp.where(i < n, C @ C - A @ S @ S, C), jnp.where(i < n, 2 * S @ C, S)), None

    C, S, _ = jax.lax.scan(added, (identity, identity, identity), jnp.arange(1, 9, dtype=A.dtype))[0]
    return jax.lax.scan(doubled, (C, step * S), jnp.arange(_MOST_DOUBLINGS, dtype=A.dtype))[0]


def williamson(P: Float[Array, "n n"]) -> tuple[Float[Array, " d"], Float[Array, "n n"]]:
    """Of a symmetric positive definite P on phase space R^{2d}: its symplectic eigenvalues nu, ascending, and a symplectic S with P = S diag(nu, nu) S^T.

    The Hermitian matrix i P^{1/2} J P^{1/2} has the eigenvalues +-nu. With unit eigenvectors (x + i y) / sqrt(2) of +nu, the columns O = [y, x] are orthonormal and
    S = P^{1/2} O diag(nu, nu)^{-1/2}. No symplectic map changes nu. The derivative of S exists where the eigenvalues differ.
    """
    R, d = sqrtm(P), P.shape[0] // 2
    turned = jnp.concatenate([R[:, d:], -R[:, :d]], axis=1) @ R  # R^T J^T R would have the other sign: R J = [-R_p, R_q]
    eigenvalues, vectors = jnp.linalg.eigh(jax.lax.complex(jnp.zeros_like(turned), -turned))
    nu, of_plus = eigenvalues[d:], vectors[:, d:]
    O = np.sqrt(2) * jnp.concatenate([of_plus.imag, of_plus.real], axis=1)
    return nu, R @ O / jnp.sqrt(jnp.concatenate([nu, nu]))[None, :]
