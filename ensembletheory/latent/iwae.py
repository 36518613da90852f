r"""The importance-weighted bound (IWAE, Burda et al. 2016) of a linear VAE: when its weights have a second moment.

With posterior N(m, S), encoder N(m + delta, D) at x, and w = p(x, z) / e(z | x):

    E_e[(w / p(x))^2] = |D| |S|^{-1/2} |2D - S|^{-1/2} exp( delta^T (2D - S)^{-1} delta )   if 2D - S is positive definite, else +infinity

(derived here: the integral of S-posterior^2 / encoder is Gaussian with precision 2 S^{-1} - D^{-1} = S^{-1} (2D - S) D^{-1}). Where it is finite the gap of the K-sample
bound is (that - 1) / (2K) + o(1/K). For q = 2 and the best diagonal encoder, with posterior correlation r, it is finite if and only if |r| < 1/2.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent.ppca import Ppca
from ensembletheory.laws.law import checked_point
from ensembletheory.linalg import symmetrised

__all__ = ["iwae_second_moment", "iwae_threshold"]


def _excess(model: Ppca, encoder: AffineKernel) -> Float[Array, "q q"]:
    """2D - S."""
    return symmetrised(2 * encoder.C.as_matrix() - model.posterior.C.as_matrix())


@eqx.filter_jit
def iwae_threshold(model: Ppca, encoder: AffineKernel) -> Float[Array, ""]:
    """The smallest eigenvalue of S^{-1/2} (2D - S) S^{-1/2}: the weights have a second moment if and only if it is positive."""
    whitener = jnp.linalg.inv(jnp.linalg.cholesky(model.posterior.C.as_matrix()))
    return jnp.linalg.eigvalsh(symmetrised(whitener @ _excess(model, encoder) @ whitener.T))[0]


def iwae_second_moment(model: Ppca, encoder: AffineKernel, x: Numbers) -> Float[Array, ""]:
    """E[(w / p(x))^2] at one point x (d,) under a linear-Gaussian encoder; infinite where 2D - S is not positive definite (up to rounding)."""
    point = checked_point("x", x, model.dim)
    return _second_moment(model, encoder, point)


@eqx.filter_jit
def _second_moment(model: Ppca, encoder: AffineKernel, point: Float[Array, " d"]) -> Float[Array, ""]:
    exact, excess = model.posterior, _excess(model, encoder)
    delta = (encoder.A - exact.A) @ point + encoder.b - exact.b
    log_moment = encoder.C.logdet() - 0.5 * (exact.C.logdet() + jnp.linalg.slogdet(excess)[1]) + delta @ jnp.linalg.solve(excess, delta)
    rounding = 16 * excess.shape[0] * jnp.finfo(excess.dtype).eps
    return jnp.where(iwae_threshold(model, encoder) > rounding, jnp.exp(log_moment), jnp.inf)
