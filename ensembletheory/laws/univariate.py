r"""Distribution functions and quantiles of one-dimensional Gaussians and mixtures, accurate in both tails.

A probability is carried as a side (1: P(X <= x); -1: P(X > x)) and the logarithm of that tail, the smaller of the two, so that nothing is rounded away. A quantile of
a mixture lies between the smallest and the largest of its components' quantiles, where bisection finds it; one Newton step then carries its derivative (implicit
function theorem).

JAX ends the tail series of the normal distribution function early: beyond 20 standard deviations, which weigh less than exp(-200), its logarithm is off by up to
105 / 20^8 = 4.1e-9.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import log_ndtr, ndtri
from jaxtyping import Array, Float

from ensembletheory.laws.law import Law
from ensembletheory.laws.mixture import GaussianMixture
from ensembletheory.laws.weights import log_weighted_sum

__all__ = ["log_tail", "quantile"]

_BISECTIONS = 120


def log_tail(law: Law, x: Float[Array, ""], side: Float[Array, ""]) -> Float[Array, ""]:
    """Log P(X <= x) for side = 1, log P(X > x) for side = -1, of a one-dimensional Gaussian or mixture."""
    centres, widths = law.pieces()
    weights = law.weights if isinstance(law, GaussianMixture) else jnp.ones(1)
    return log_weighted_sum(weights, log_ndtr(side * (x - centres[:, 0]) / widths[:, 0]))


def smaller_tail(law: Law, x: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The side of the smaller tail at x, and its logarithm."""
    below, above = log_tail(law, x, jnp.asarray(1.0)), log_tail(law, x, jnp.asarray(-1.0))
    return jnp.where(below < above, 1.0, -1.0), jnp.minimum(below, above)


def quantile(law: Law, side: Float[Array, ""], log_probability: Float[Array, ""]) -> Float[Array, ""]:
    """The x with log_tail(law, x, side) = log_probability."""
    x = jax.lax.stop_gradient(_bisected(law, side, log_probability))
    found = log_tail(law, x, side)
    slope = jax.lax.stop_gradient(side * jnp.exp(law._log_prob(x[None]) - found))  # d log_tail / dx; 0 inside a gap, where x is not to be moved
    return x - jnp.where(slope != 0, (found - log_probability) / jnp.where(slope != 0, slope, 1.0), 0.0)


def _bisected(law: Law, side: Float[Array, ""], log_probability: Float[Array, ""]) -> Float[Array, ""]:
    centres, widths = law.pieces()
    candidates = centres[:, 0] + widths[:, 0] * side * ndtri(jnp.exp(log_probability))

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        short = side * (log_tail(law, middle, side) - log_probability) < 0
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.min(candidates), jnp.max(candidates)))
    return (low + high) / 2
