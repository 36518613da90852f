r"""Objectives averaged over data: the log-likelihood of PPCA and the (beta-)ELBO of a linear VAE depend on the data through their covariance alone.

For data of mean mu (that of the model) and covariance S, C = W W^T + s2 I, M = W^T W + s2 I, and an encoder N(V (x - mu) + e, D):

    E log p(x)  = -1/2 [ d log 2 pi + log det C + tr(C^{-1} S) ],   log det C = (d - q) log s2 + log det M,   tr(C^{-1} S) = ( tr S - tr(M^{-1} W^T S W) ) / s2,
    E ELBO_b(x) = -1/2 [ d log 2 pi s2 + ( tr((I - W V) S (I - W V)^T) + |W e|^2 + tr(W^T W D) ) / s2 ] - b/2 [ tr(V S V^T) + |e|^2 + tr D - q - log det D ].

ELBO_b weighs the divergence to the prior by b (Higgins et al. 2017); b = 1 is the evidence lower bound. Completing b s2 = t gives, with the same encoder,

    ELBO_b(W, V, D; s2) = b ELBO_1(W, V, D; b s2) + d/2 ( b log(2 pi b s2) - log(2 pi s2) )

(derived here), so at fixed s2 a beta-VAE has the loadings and the encoder of a linear VAE of noise variance b s2.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import Diagonal
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent.ppca import Ppca
from ensembletheory.linalg import logdet, solve_spd

__all__ = ["average_elbo", "average_log_likelihood", "beta_encoder", "checked_beta"]


def average_log_likelihood(model: Ppca, S: Numbers) -> Float[Array, ""]:
    """E log p(x) in nats, over data whose mean is the model's and whose covariance is S (d, d).

    Raises:
        ValueError: if S is not (d, d).
    """
    return _average_log_likelihood(model, checked_data_covariance(S, model.dim))


@eqx.filter_jit
def _average_log_likelihood(model: Ppca, S: Float[Array, "d d"]) -> Float[Array, ""]:
    W, s2 = model.loadings, model.noise_variance
    d, q = W.shape
    mahalanobis = (jnp.trace(S) - jnp.trace(solve_spd(model.M, W.T @ S @ W))) / s2
    return -0.5 * (d * np.log(2 * np.pi) + (d - q) * jnp.log(s2) + logdet(model.M) + mahalanobis)


def average_elbo(model: Ppca, encoder: AffineKernel, S: Numbers, beta: Numbers = 1.0) -> Float[Array, ""]:
    """E ELBO_beta(x) in nats, over data whose mean is the model's and whose covariance is S (d, d).

    Raises:
        ValueError: if the encoder does not map R^d to R^q, S is not (d, d), or beta is not a positive number.
    """
    if encoder.A.shape != model.loadings.shape[::-1]:
        refuse("encoder", f"a kernel of shape {encoder.A.shape}", f"{model.loadings.shape[::-1]}", "An encoder maps x to z.")
    return _average_elbo(model, encoder, checked_data_covariance(S, model.dim), checked_beta(beta))


@eqx.filter_jit
def _average_elbo(model: Ppca, encoder: AffineKernel, S: Float[Array, "d d"], beta: Float[Array, ""]) -> Float[Array, ""]:
    W, s2, V, D = model.loadings, model.noise_variance, encoder.A, encoder.C
    d, q = W.shape
    offset, left = V @ model.mean + encoder.b, jnp.eye(d, dtype=W.dtype) - W @ V
    errors = jnp.trace(left @ S @ left.T) + jnp.sum((W @ offset) ** 2) + jnp.trace(W.T @ W @ D.as_matrix())
    divergence = jnp.trace(V @ S @ V.T) + jnp.sum(offset**2) + D.trace() - q - D.logdet()
    return -0.5 * (d * jnp.log(2 * np.pi * s2) + errors / s2 + beta * divergence)


def beta_encoder(model: Ppca, beta: Numbers) -> AffineKernel:
    """The encoder of largest ELBO_beta among those with diagonal covariance: mean N^{-1} W^T (x - mu), variances beta s2 / N_jj, N = W^T W + beta s2 I.

    Raises:
        ValueError: if beta is not a positive number.
    """
    return _beta_encoder(model, checked_beta(beta))


@eqx.filter_jit
def _beta_encoder(model: Ppca, beta: Float[Array, ""]) -> AffineKernel:
    softened = eqx.tree_at(lambda whole: whole.noise_variance, model, beta * model.noise_variance)
    V = solve_spd(softened.M, model.loadings.T)
    return AffineKernel(V, -V @ model.mean, Diagonal(softened.noise_variance / jnp.diagonal(softened.M)))


def checked_beta(beta: Numbers) -> Float[Array, ""]:
    """The weight of the divergence to the prior.

    Raises:
        ValueError: if it is not a positive number.
    """
    weight = as_floats("beta", beta)
    if weight.ndim or (is_concrete(weight) and weight <= 0):
        refuse("beta", f"{np.asarray(weight) if is_concrete(weight) else weight.shape}", "a positive number", "beta = 1 is the evidence lower bound.")
    return weight


def checked_data_covariance(S: Numbers, dim: int) -> Float[Array, "d d"]:
    """The covariance of the data.

    Raises:
        ValueError: if its shape is not (dim, dim).
    """
    matrix = as_floats("S", S)
    if matrix.shape != (dim, dim):
        refuse("S", f"shape {matrix.shape}", f"({dim}, {dim})", "Pass the covariance matrix of the data, divided by n.")
    return matrix
