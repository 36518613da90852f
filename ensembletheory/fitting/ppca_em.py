r"""Maximum likelihood for probabilistic PCA: in closed form when nothing is missing, by EM when values are missing at random.

x = W z + mu + noise, z ~ N(0, I_q), noise ~ N(0, s2 I_d); row i has weight w_i, observed coordinates o and n = sum_i w_i.

Complete rows. With S the weighted covariance (divided by n), eigenvalues l_1 >= ... >= l_d and eigenvectors U,

    mu = weighted mean,   s2 = mean(l_{q+1..d}),   W = U_q (L_q - s2 I)^{1/2}   (unique up to a rotation of z),
    log-likelihood / n = -1/2 [ d log 2 pi + sum_{j<=q} log l_j + (d - q) log s2 + d ]                                 (Tipping & Bishop 1999).

Missing values. Only z is treated as hidden (not the missing coordinates), so that a step uses the observed values alone (Ilin & Raiko 2010):

E-step.  z | x_io ~ N(zhat_i, s2 M_i^{-1}),   M_i = W_o^T W_o + s2 I,   zhat_i = M_i^{-1} W_o^T (x_io - mu_o),
         log N(x_io) = -1/2 [ |o| log 2 pi + (|o| - q) log s2 + log det M_i + |x_io - mu_o - W_o zhat_i|^2 / s2 + |zhat_i|^2 ].
M-step.  For each coordinate j, a regression of x_j on (z, 1) over the rows that observe it, solved jointly for loading and mean:
         (W_j, mu_j) = ( sum_i w_i E[(z,1)(z,1)^T] )^{-1} sum_i w_i x_ij E[(z,1)],
         s2 = sum_ij w_i [ (x_ij - mu_j - W_j zhat_i)^2 + s2_old W_j M_i^{-1} W_j^T ] / (number of observed values).
The quadratic form above is a sum of squares, so nothing cancels when s2 is small. The likelihood is unbounded when some q-dimensional affine space holds every row (then
s2 -> 0).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ensembletheory.fitting.em import Climb, climb
from ensembletheory.fitting.rows import Rows
from ensembletheory.linalg import cholesky, solve_spd

__all__ = ["PpcaParameters", "ascend", "closed_form", "fit", "observed_log_prob", "start", "step"]


class PpcaParameters(eqx.Module):
    """Loadings, mean and noise variance."""

    loadings: Float[Array, "... d q"]
    mean: Float[Array, "... d"]
    noise_variance: Float[Array, "..."]


def fit(rows: Rows, q: int, tolerance: Float[Array, ""], max_iterations: Int[Array, ""]) -> Climb:
    """The maximum likelihood fit: closed form (no iteration) for complete rows, else EM."""
    if rows.observed is not None:
        return ascend(start(rows, q), rows, tolerance, max_iterations)
    parameters, log_likelihood = closed_form(rows.values, rows.weights, q)
    return Climb(parameters, log_likelihood, jnp.asarray(0), jnp.asarray(True))


def closed_form(values: Float[Array, "n d"], weights: Float[Array, " n"], q: int) -> tuple[PpcaParameters, Float[Array, ""]]:
    """The maximiser for complete rows and its log-likelihood per unit of weight; a noise variance within rounding of 0 comes back as 0."""
    d = values.shape[1]
    mean = weights @ values / jnp.sum(weights)
    centred = values - mean[None, :]
    eigenvalues, vectors = jnp.linalg.eigh((weights[:, None] * centred).T @ centred / jnp.sum(weights))
    top, noise = eigenvalues[d - q :], jnp.mean(eigenvalues[: d - q])
    noise = jnp.where(noise > d * jnp.finfo(noise.dtype).eps * top[-1], noise, 0.0)
    log_likelihood = -0.5 * (d * math.log(2 * math.pi) + jnp.sum(jnp.log(top)) + (d - q) * jnp.log(noise) + d)
    return PpcaParameters(vectors[:, d - q :] * jnp.sqrt(jnp.maximum(top - noise, 0.0))[None, :], mean, noise), log_likelihood


def start(rows: Rows, q: int) -> PpcaParameters:
    """The closed form of the rows with column means in place of missing values, its noise kept away from 0."""
    filled, _ = closed_form(rows.values, rows.weights, q)
    least = 1e-3 * jnp.sum(filled.loadings**2) / filled.mean.size
    return PpcaParameters(filled.loadings, filled.mean, jnp.maximum(filled.noise_variance, least))


def ascend(begin: PpcaParameters, rows: Rows, tolerance: Float[Array, ""], max_iterations: Int[Array, ""]) -> Climb:
    """EM from `begin`."""
    return climb(lambda parameters: step(parameters, rows), begin, tolerance, max_iterations)


def step(parameters: PpcaParameters, rows: Rows) -> tuple[Float[Array, ""], PpcaParameters]:
    """The log-likelihood of the parameters per unit of weight, and the parameters after one EM step."""
    seen = _seen(rows)
    log_probs, z, spreads = jax.vmap(_latent, (None, 0, 0))(parameters, rows.values, seen)
    weights = rows.weights[:, None] * seen
    return rows.weights @ log_probs / jnp.sum(rows.weights), _maximise(rows.values, weights, z, spreads)


def _seen(rows: Rows) -> Float[Array, "n d"]:
    return jnp.ones_like(rows.values) if rows.observed is None else rows.observed.astype(rows.values.dtype)


def observed_log_prob(parameters: PpcaParameters, x: Float[Array, " d"], observed: Bool[Array, " d"]) -> Float[Array, ""]:
    """The log-density of the observed coordinates of one row; the others are 0."""
    return _latent(parameters, x, observed.astype(x.dtype))[0]


def _latent(parameters: PpcaParameters, x: Float[Array, " d"], seen: Float[Array, " d"]):
    """For one row: log-density of its observed values, posterior mean and covariance of z."""
    s2, q = parameters.noise_variance, parameters.loadings.shape[1]
    W = seen[:, None] * parameters.loadings
    gap = seen * (x - parameters.mean)
    root = cholesky(W.T @ W + s2 * jnp.eye(q))
    solved = jax.scipy.linalg.cho_solve((root, True), jnp.concatenate([(W.T @ gap)[:, None], s2 * jnp.eye(q)], axis=1))
    z, spread = solved[:, 0], solved[:, 1:]
    residual = gap - W @ z
    count = jnp.sum(seen)
    log_volume = 2 * jnp.sum(jnp.log(jnp.diagonal(root))) + (count - q) * jnp.log(s2) + count * math.log(2 * math.pi)
    return -0.5 * (log_volume + residual @ residual / s2 + z @ z), z, spread


def _maximise(values: Float[Array, "n d"], weights: Float[Array, "n d"], z: Float[Array, "n q"], spreads: Float[Array, "n q q"]) -> PpcaParameters:
    """The M-step; `weights` are 0 where a value is missing."""
    q = z.shape[1]
    regressors = jnp.concatenate([z, jnp.ones_like(z[:, :1])], axis=1)
    uncertainty = jnp.einsum("nj,nab->jab", weights, spreads)
    grams = jnp.einsum("nj,na,nb->jab", weights, regressors, regressors) + jnp.pad(uncertainty, ((0, 0), (0, 1), (0, 1)))
    coefficients = jax.vmap(lambda gram, b: solve_spd(gram, b[:, None])[:, 0])(grams, (weights * values).T @ regressors)
    loadings, mean = coefficients[:, :q], coefficients[:, q]
    squared = weights * (values - regressors @ coefficients.T) ** 2
    spread = jnp.einsum("ja,jab,jb->", loadings, uncertainty, loadings)
    return PpcaParameters(loadings, mean, (jnp.sum(squared) + spread) / jnp.sum(weights))
