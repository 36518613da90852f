r"""Where EM starts: centres spread over the data by k-means++ (Arthur & Vassilvitskii 2007) and a few k-means steps, one covariance for all.

The first centre is a row drawn with probability proportional to its weight, every next one proportional to its weight times its squared distance to the nearest
centre so far. A k-means step (Lloyd 1982) moves each centre to the weighted mean of the rows nearest to it. All components start with probability 1/K and with the pooled
covariance of the rows about their nearest centre, which no small cluster can make singular. Missing values count as the column's mean here: this only chooses a start.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

__all__ = ["settled_centres", "spread_centres", "within_covariance"]

_LLOYD_STEPS = 10


def spread_centres(key: PRNGKeyArray, values: Float[Array, "n d"], weights: Float[Array, " n"], K: int) -> Float[Array, "K d"]:
    """K rows of `values` drawn by the k-means++ rule; rows of weight 0 are never drawn while other rows differ from the centres."""

    def draw(nearest, noise):
        centre = values[jnp.argmax(jnp.log(weights * nearest) + noise)]
        squared = jnp.sum((values - centre[None, :]) ** 2, axis=1)
        return jnp.minimum(nearest, squared), centre

    far = jnp.full_like(weights, jnp.finfo(weights.dtype).max ** 0.5)
    return jax.lax.scan(draw, far, jax.random.gumbel(key, (K, weights.size)))[1]


def settled_centres(values: Float[Array, "n d"], weights: Float[Array, " n"], centres: Float[Array, "K d"]) -> Float[Array, "K d"]:
    """The centres after a few k-means steps; one that no row is nearest to stays."""

    def settle(_, centres):
        owned = jax.nn.one_hot(_nearest(values, centres), centres.shape[0], dtype=values.dtype) * weights[:, None]
        mass = jnp.sum(owned, axis=0)[:, None]
        return jnp.where(mass > 0, owned.T @ values / jnp.where(mass > 0, mass, 1.0), centres)

    return jax.lax.fori_loop(0, _LLOYD_STEPS, settle, centres)


def within_covariance(values: Float[Array, "n d"], weights: Float[Array, " n"], centres: Float[Array, "K d"]) -> Float[Array, "d d"]:
    """The weighted covariance of the rows about their nearest centre."""
    centred = values - centres[_nearest(values, centres)]
    return (weights[:, None] * centred).T @ centred / jnp.sum(weights)


def _nearest(values: Float[Array, "n d"], centres: Float[Array, "K d"]) -> Int[Array, " n"]:
    squared = jnp.sum(centres**2, axis=1)[None, :] - 2 * values @ centres.T
    return jax.lax.argmin(squared, 1, int)
