r"""Distribution functions and quantiles of one-dimensional Gaussians, mixtures and grid laws, accurate in both tails.

A probability is carried as a side (1: P(X <= x); -1: P(X > x)) and the logarithm of that tail, the smaller of the two, so that nothing is rounded away. A quantile of
a mixture lies between the smallest and the largest of its components' quantiles, that of a grid law in its box; bisection finds it, and one Newton step then carries its
derivative (implicit function theorem). A tail of a grid law is the mass of the panels beyond x and of the part of its own panel.

JAX ends the tail series of the normal distribution function early: beyond 20 standard deviations, which weigh less than exp(-200), its logarithm is off by up to
105 / 20^8 = 4.1e-9.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Array, Float

from ensembletheory.bisection import bisected
from ensembletheory.laws.grid import GridLaw
from ensembletheory.laws.law import Law
from ensembletheory.laws.mixture import GaussianMixture
from ensembletheory.laws.weights import log_weighted_sum
from ensembletheory.quadrature import gauss_legendre

__all__ = ["log_tail", "quantile", "smaller_tail"]

_BISECTIONS = 64  # of a bracket of at most a few thousand standard deviations; one Newton step follows
_NODES = 16


def log_tail(law: Law, x: Float[Array, ""], side: Float[Array, ""]) -> Float[Array, ""]:
    """Log P(X <= x) for side = 1, log P(X > x) for side = -1, of a one-dimensional Gaussian, mixture or grid law."""
    if isinstance(law, GridLaw):
        return _grid_log_tail(law, x, side)
    centres, widths = law.pieces()
    weights = law.weights if isinstance(law, GaussianMixture) else jnp.ones(1)
    return log_weighted_sum(weights, log_ndtr(side * (x - centres[:, 0]) / widths[:, 0]))


def _grid_log_tail(law: GridLaw, x: Float[Array, ""], side: Float[Array, ""]) -> Float[Array, ""]:
    ends = jax.lax.stop_gradient(law.breaks[0])
    at = jnp.clip(x, ends[0], ends[-1])
    index = jnp.arange(ends.size - 1)
    own = jnp.clip(jnp.sum(ends <= jax.lax.stop_gradient(at)) - 1, 0, ends.size - 2)
    whole = jax.vmap(lambda low, high: _log_mass(law, low, high))(ends[:-1], ends[1:])
    beyond = jnp.where(side > 0, index < own, index > own)
    part = _log_mass(law, jnp.where(side > 0, ends[own], at), jnp.where(side > 0, at, ends[own + 1]))
    logs = jnp.concatenate([jnp.where(beyond, whole, -jnp.inf), part[None]])
    top = jax.lax.stop_gradient(jnp.max(logs))
    return jnp.where(top > -jnp.inf, top + _log(jnp.sum(jnp.exp(logs - jnp.where(top > -jnp.inf, top, 0.0)))), -jnp.inf)


def _log_mass(law: GridLaw, low: Float[Array, ""], high: Float[Array, ""]) -> Float[Array, ""]:
    """The log of the mass of one panel or a part of one, -inf if it has no length."""
    nodes, weights = gauss_legendre(_NODES, 1)
    logs = jax.vmap(law._log_prob)((low + (high - low) * jnp.asarray(nodes[:, 0]))[:, None])
    return jax.nn.logsumexp(logs, b=jnp.asarray(weights)) + _log(high - low)


def _log(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1.0)), -jnp.inf)


def smaller_tail(law: Law, x: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The side of the smaller tail at x, and its logarithm."""
    below, above = log_tail(law, x, jnp.asarray(1.0)), log_tail(law, x, jnp.asarray(-1.0))
    return jnp.where(below < above, 1.0, -1.0), jnp.minimum(below, above)


def quantile(law: Law, side: Float[Array, ""], log_probability: Float[Array, ""]) -> Float[Array, ""]:
    """The x with log_tail(law, x, side) = log_probability."""
    x = jax.lax.stop_gradient(_bisected(law, side, log_probability))
    found = log_tail(law, x, side)
    slope = jax.lax.stop_gradient(side * jnp.exp(law._log_prob(x[None]) - found))  # d log_tail / dx; 0 inside a gap, where x is not to be moved
    movable = (slope != 0) & jnp.isfinite(slope) & jnp.isfinite(log_probability)
    return x - jnp.where(movable, (found - log_probability) / jnp.where(movable, slope, 1.0), 0.0)


def _bisected(law: Law, side: Float[Array, ""], log_probability: Float[Array, ""]) -> Float[Array, ""]:
    low, high = bisected(lambda x: side * (log_tail(law, x, side) - log_probability) < 0, *_bracket(law, side, log_probability), _BISECTIONS)
    return (low + high) / 2


def _bracket(law: Law, side: Float[Array, ""], log_probability: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    if isinstance(law, GridLaw):
        return law.breaks[0][0], law.breaks[0][-1]
    centres, widths = law.pieces()
    candidates = centres[:, 0] + widths[:, 0] * side * ndtri(jnp.exp(log_probability))
    return jnp.min(candidates), jnp.max(candidates)
