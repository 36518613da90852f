r"""Distribution functions and quantiles of one-dimensional Gaussians and mixtures, accurate in both tails.

A probability u is carried as the pair (log u, log(1 - u)), so that neither tail is rounded away; the smaller of the two decides. A quantile of a mixture lies between
the smallest and the largest of its components' quantiles, where bisection finds it; one Newton step then carries its derivative (implicit function theorem).
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from ensembletheory.laws.law import Law
from ensembletheory.laws.mixture import GaussianMixture

__all__ = ["log_tails", "quantile"]

_BISECTIONS = 120


def log_tails(law: Law, x: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(log P(X <= x), log P(X > x)) of a one-dimensional Gaussian or mixture."""
    centres, widths = law.pieces()
    z = (x - centres[:, 0]) / widths[:, 0]
    weights = law.weights if isinstance(law, GaussianMixture) else jnp.ones_like(z)
    return jax.nn.logsumexp(norm.logcdf(z), b=weights), jax.nn.logsumexp(norm.logsf(z), b=weights)


def quantile(law: Law, tails: tuple[Float[Array, ""], Float[Array, ""]]) -> Float[Array, ""]:
    """The x with log_tails(law, x) = tails."""
    lower_half = tails[0] < tails[1]

    def excess(x):
        below, above = log_tails(law, x)
        return jnp.where(lower_half, below - tails[0], tails[1] - above)

    x = jax.lax.stop_gradient(_bisected(law, tails, excess))
    slope = jax.lax.stop_gradient(jax.grad(excess)(x))
    return x - jnp.where(slope > 0, excess(x) / jnp.where(slope > 0, slope, 1.0), 0.0)


def _bisected(law: Law, tails, excess) -> Float[Array, ""]:
    centres, widths = law.pieces()
    standard = jnp.where(tails[0] < tails[1], ndtri(jnp.exp(tails[0])), -ndtri(jnp.exp(tails[1])))
    candidates = centres[:, 0] + widths[:, 0] * standard

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        below = excess(middle) < 0
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (jnp.min(candidates), jnp.max(candidates)))
    return (low + high) / 2
