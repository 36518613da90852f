r"""The antisymmetric part that lets dX = -(D + J) S (X - m) dt + (2 D)^{1/2} dW forget its start fastest, in any dimension.

With C C^T = Sigma, the drift in whitened coordinates C^{-1} x is -(N + K), N = C^{-1} D C^{-T}, K = C^{-1} J C^{-T} antisymmetric. The real parts of the eigenvalues of N + K
sum to tr N = tr(D S), so the slowest rate is at most tr(D S) / d, and this is attained for every D:

 1. rotations of two axes at a time, of the largest and the smallest diagonal entry, make N of equal diagonal n = tr(D S) / d in some orthonormal basis psi_1 ... psi_d;
 2. for any distinct lambda_k > 0, K_jk = (lambda_j + lambda_k) / (lambda_j - lambda_k) N_jk, in this basis, gives, with Q = sum_k lambda_k psi_k psi_k^T,

        (N + K) Q + Q (N + K)^T = 2 n Q:

in the norm of Q everything decays exactly at the rate n, and in the plain norm |exp(-t (N + K))| <= kappa(Q)^{1/2} exp(-n t), kappa(Q) = max lambda / min lambda.

With D = I the optimum is tr(S) / d. If D may be chosen, too, of trace d (as much noise as the identity), tr(D S) / d <= lambda_max(S), attained by D = d e e^T along the
direction e of least variance: noise in one direction only, which J carries to all others.
Sources: Lelievre, Nier & Pavliotis (2013), for D = I; Guillin & Monmarche (2016).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import Covariance, as_covariance
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import substitute, symmetrised

__all__ = ["FastestSkew", "fastest_skew", "one_direction"]


class FastestSkew(eqx.Module):
    """An optimal J, with what proves it.

    Attributes:
        skew: J.
        metric: P = C Q C^T, with B P + P B^T = 2 rate P for B = (D + J) S.
        rate: tr(D S) / d, the real part of every eigenvalue of B.
        prefactor: kappa(Q)^{1/2}, the bound on the norm of exp(-t B), in whitened coordinates, times exp(rate t).
    """

    skew: Float[Array, "d d"]
    metric: Float[Array, "d d"]
    rate: Float[Array, ""]
    prefactor: Float[Array, ""]


def fastest_skew(target: Gaussian, noise: Numbers | None = None, condition: Numbers | None = None) -> FastestSkew:
    """An antisymmetric J of the largest possible rate for a target and a noise D.

    Args:
        target: N(m, Sigma) on R^d.
        noise: D, as of `SkewOrnsteinUhlenbeck`; None is the identity.
        condition: kappa(Q) > 1, with lambda equally spaced from 1 to it; None is d. The smaller, the smaller the prefactor, and the larger J.

    Raises:
        ValueError: if D is not symmetric positive semi-definite of the target's dimension, or the condition is not above 1.
    """
    D = as_covariance("noise", 1.0 if noise is None else noise, target.dim)
    kappa = as_floats("condition", float(max(target.dim, 2)) if condition is None else condition)
    if is_concrete(kappa) and (kappa.ndim or not float(kappa) > 1):
        refuse("condition", f"{kappa}", "one number above 1", "Equal eigenvalues of Q would need an infinite J.")
    return _fastest_skew(target, D, kappa)


def one_direction(target: Gaussian) -> Float[Array, "d d"]:
    """D = d e e^T, of trace d, with e the direction of least variance of the target: the noise with which `fastest_skew` reaches lambda_max(S)."""
    return _one_direction(target)


@eqx.filter_jit
def _one_direction(target: Gaussian) -> Float[Array, "d d"]:
    e = jnp.linalg.eigh(target.cov)[1][:, 0]
    return target.dim * jnp.outer(e, e)


@eqx.filter_jit
def _fastest_skew(target: Gaussian, D: Covariance, kappa: Float[Array, ""]) -> FastestSkew:
    d, C = target.dim, jnp.linalg.cholesky(target.cov)
    inverse = substitute(C, jnp.eye(d, dtype=C.dtype))
    N, axes = _equalised(D.congruence(inverse).as_matrix(), C)
    weights = jnp.linspace(1.0, kappa, d)
    gaps = weights[:, None] - weights[None, :]
    K = jnp.where(gaps == 0, 0.0, (weights[:, None] + weights[None, :]) / jnp.where(gaps == 0, 1.0, gaps) * N)
    J = axes @ K @ axes.T
    metric = symmetrised((axes * weights[None, :]) @ axes.T)
    return FastestSkew((J - J.T) / 2, metric, jnp.trace(N) / d, jnp.sqrt(weights[-1] / weights[0]))


def _equalised(N: Float[Array, "d d"], C: Float[Array, "d d"]) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """V^T N V of equal diagonal, and C V, with V a product of d - 1 rotations of two axes."""
    d = N.shape[0]
    level = jnp.trace(N) / d

    def rotated(_, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        N, rows, done = carry  # rows of (C V)^T
        diagonal: Array = jnp.diagonal(N)
        i, j = jnp.argmax(jnp.where(done, -jnp.inf, diagonal)), jnp.argmin(jnp.where(done, jnp.inf, diagonal))
        pair = jnp.stack([i, j])
        turn = _levelling(N[i, i] - level, N[i, j], N[j, j] - level)
        N = N.at[pair].set(turn @ N[pair])
        N = N.at[:, pair].set(N[:, pair] @ turn.T)
        return N, rows.at[pair].set(turn @ rows[pair]), done.at[i].set(True)

    N, rows, _ = jax.lax.fori_loop(0, d - 1, rotated, (N, C.T, jnp.zeros(d, bool)))
    return N, rows.T


def _levelling(a: Float[Array, ""], c: Float[Array, ""], b: Float[Array, ""]) -> Float[Array, "2 2"]:
    """The rotation that takes [[a, c], [c, b]], a >= 0 >= b, to first diagonal entry 0: tan t solves b t^2 + 2 c t + a = 0, and is its smaller root."""
    larger = jnp.abs(c) + jnp.sqrt(jnp.maximum(c**2 - a * b, 0.0))
    t = -jnp.where(c < 0, -1.0, 1.0) * a / jnp.where(larger == 0, 1.0, larger)
    cosine = 1 / jnp.sqrt(1 + t**2)
    return cosine * jnp.stack([jnp.stack([jnp.ones_like(t), t]), jnp.stack([-t, jnp.ones_like(t)])])
