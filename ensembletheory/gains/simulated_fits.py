"""Ensembles of Gaussian fits by simulation: see `gaussian_fits` for what they are and what of them is exact."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ensembletheory.covariance import Dense
from ensembletheory.divergences import kl
from ensembletheory.errors import refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Gaussian, GaussianMixture, standard_normal
from ensembletheory.linalg import cholesky, solve_spd, symmetrised

__all__ = ["simulated"]

_POINTS = 64  # of the target, for one linear pool
_BLOCK = 1000  # ensembles at once

Moments = tuple[Float[Array, "b K d"], Float[Array, "b K d d"]]


def simulated(key: PRNGKeyArray, rule: str, fits: str, n: int, weights: Float[Array, " K"], d: int, samples: int) -> Estimate:
    """The mean KL from N(0, I) to the pool over `samples` simulated ensembles, with its standard error.

    Raises:
        ValueError: if fewer than two simulated bootstrap ensembles have enough different points in every resample.
    """
    blocks = [_block(one, rule, fits, n, d, weights) for one in jax.random.split(key, -(-samples // _BLOCK))]
    divergences, kept = (np.concatenate([np.asarray(part) for part in parts])[:samples] for parts in zip(*blocks, strict=True))
    draws = divergences[kept]
    if draws.size < 2:
        refuse("n", str(n), f"resamples with at least {d + 5} different points", "Use more points.")
    return Estimate(jnp.asarray(draws.mean()), jnp.asarray(draws.std(ddof=1) / np.sqrt(draws.size)), "monte_carlo")


@eqx.filter_jit
def _block(key: PRNGKeyArray, rule: str, fits: str, n: int, d: int, weights: Float[Array, " K"]) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
    """Divergences of simulated ensembles, and whether every resample has enough different points."""
    key_fits, key_points = jax.random.split(key)
    (means, covs), enough = _members(key_fits, fits, n, d, weights.size)
    points = _points(key_points, d) if rule == "linear" else jnp.zeros((_BLOCK, 0, d))
    return jax.vmap(lambda m, S, x: _divergence(rule, weights, m, S, x))(means, covs, points), enough


def _members(key: PRNGKeyArray, fits: str, n: int, d: int, K: int) -> tuple[Moments, Bool[Array, " b"]]:
    """Means and covariances of the members, and whether every resample has enough different points."""
    if fits == "independent":
        return _fits(key, n, d, K), jnp.ones(_BLOCK, bool)
    key_data, key_members = jax.random.split(key)
    if fits == "bootstrap":
        return jax.vmap(_resampled)(jax.random.randint(key_members, (_BLOCK, K, n), 0, n), jax.random.normal(key_data, (_BLOCK, n, d)))
    (mean, cov), (means, covs) = _fits(key_data, n, d, 1), _fits(key_members, n, d, K)
    factor = jax.vmap(cholesky)(cov[:, 0])[:, None]
    return (mean + means @ factor[:, 0].mT, factor @ covs @ factor.mT), jnp.ones(_BLOCK, bool)


def _fits(key: PRNGKeyArray, n: int, d: int, K: int) -> Moments:
    """Means and covariances of K independent fits to n points of N(0, I)."""
    key_mean, key_scatter = jax.random.split(key)
    z = jax.random.normal(key_scatter, (_BLOCK, K, n - 1, d))
    return jax.random.normal(key_mean, (_BLOCK, K, d)) / np.sqrt(n), z.mT @ z / n


def _resampled(rows: Int[Array, "K n"], data: Float[Array, "n d"]):
    """Fits to the given rows of `data`, and whether every resample has enough different ones."""
    n, d = data.shape
    counts = jax.vmap(lambda drawn: jnp.bincount(drawn, length=n))(rows)
    shares = counts.astype(data.dtype) / n
    means = shares @ data
    centred = data[None] - means[:, None, :]
    return (means, (shares[:, :, None] * centred).mT @ centred), jnp.all(jnp.sum(counts > 0, axis=1) >= d + 5)


def _points(key: PRNGKeyArray, d: int) -> Float[Array, "b m d"]:
    """Points of N(0, I) for each ensemble; on the line one in each stratum of equal probability."""
    if d > 1:
        return jax.random.normal(key, (_BLOCK, _POINTS, d))
    within = jax.random.uniform(key, (_BLOCK, _POINTS), minval=1e-12)
    return ndtri((jnp.arange(_POINTS, dtype=within.dtype)[None, :] + within) / _POINTS)[:, :, None]


def _divergence(rule: str, weights: Float[Array, " K"], means: Float[Array, "K d"], covs: Float[Array, "K d d"], x: Float[Array, "m d"]) -> Float[Array, ""]:
    """KL from N(0, I) to the pool: exact for Gaussian pools, an unbiased average over the points x for the linear one."""
    target = standard_normal(means.shape[1])
    if rule == "linear":
        pool = GaussianMixture(weights, means, covs)
        return jnp.mean(jax.vmap(lambda point: target._log_prob(point) - pool._log_prob(point))(x))
    return kl(target, Gaussian(*_pooled(rule, weights, means, covs))).value


def _pooled(rule: str, weights: Float[Array, " K"], means: Float[Array, "K d"], covs: Float[Array, "K d d"]) -> tuple[Float[Array, " d"], Dense]:
    """Mean and covariance of a Gaussian pool."""
    if rule == "log":
        identity = jnp.eye(means.shape[1])
        precisions = weights[:, None, None] * jax.vmap(lambda cov: solve_spd(cov, identity))(covs)
        cov = symmetrised(solve_spd(symmetrised(jnp.sum(precisions, axis=0)), identity))
        return cov @ jnp.einsum("kij,kj->i", precisions, means), Dense(cov)
    mean = weights @ means
    scatter = means - mean[None, :] if rule == "moments" else jnp.zeros_like(means)
    return mean, Dense(symmetrised(jnp.tensordot(weights, covs, 1) + (weights[:, None] * scatter).T @ scatter))
