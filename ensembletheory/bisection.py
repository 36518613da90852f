"""Bisection to a fixed number of halvings, which compiles, batches and needs no tolerance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ["bisected"]


def bisected(before: Callable[[Array], Bool[Array, "..."]], low: Float[Array, "..."], high: Float[Array, "..."], halvings: int) -> tuple[Array, Array]:
    """The bracket [low, high] of where `before`, true at first and false from some place on, changes, halved so many times; arrays are bisected entry by entry."""

    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        short = before(middle)
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    return jax.lax.fori_loop(0, halvings, halve, (low, high))
