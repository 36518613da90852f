"""Tables with holes, their rows sorted by which values are observed and cut into tiles of equal size.

All rows of a tile have the same mask, so that what depends on the mask alone (a factorisation) is computed once for the first tile of a mask and kept for the others. A
tile that is not full repeats a row of its mask; the number of tiles is rounded up, so that tables of nearly equal size share one compiled program.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.fitting.rows import read_values

__all__ = ["Tiles", "read_rows", "restored", "tiled"]

_SIZES = (1, 4, 16, 64)  # rows a tile: with 64 the arrays of a tile stay in the cache
_LEAST = 16  # tiles, and rows of a table that are not cut one by one


class Tiles(eqx.Module):
    """Rows for compiled code: `values` are 0 where missing, `fresh` says which tiles begin a mask."""

    values: np.ndarray  # (tiles, size, d)
    observed: np.ndarray  # (tiles, d)
    fresh: np.ndarray  # (tiles,)


def read_rows(X: Numbers, dim: int) -> np.ndarray:
    """The rows `X` (n, dim), NaN = missing; any of them may be wholly missing.

    Raises:
        ValueError: if X is not a table of numbers with `dim` columns, or holds an infinity.
    """
    values = read_values(X)
    if values.shape[1] != dim:
        refuse("X", f"{values.shape[1]} columns", f"{dim}, the dimension of the law", "One column a coordinate.")
    return values


def tiled(X: np.ndarray) -> tuple[Tiles, np.ndarray]:
    """The rows of a table (n, d), NaN = missing, in tiles, and the place (n,) of each row among those of all tiles."""
    n, d = X.shape
    seen = ~np.isnan(X)
    masks = _masks(seen)
    counts = np.bincount(masks)
    size = max(size for size in _SIZES if size == 1 or (n > _LEAST and size * len(counts) <= n))
    needed = -(-counts // size)
    first = np.cumsum(needed) - needed
    order, begins = np.argsort(masks, kind="stable"), np.cumsum(counts) - counts
    places = np.empty(n, dtype=int)
    places[order] = np.arange(n) + np.repeat(first * size - begins, counts)
    total = _rounded(int(needed.sum()))
    slots = np.full(total * size, order[-1])
    slots[: needed.sum() * size] = np.repeat(order[begins], needed * size)
    slots[places] = np.arange(n)
    values = np.where(seen, X, np.zeros((), X.dtype))[slots].reshape(total, size, d)
    return Tiles(values, seen[slots[::size]], np.isin(np.arange(total), first)), places


def restored(places: np.ndarray, results: Array | np.ndarray, axis: int = 1) -> Array:
    """What was computed for tiles, (tiles, ..., size, ...) with the rows of a tile on `axis`, as (..., n, ...) in the order of the table."""
    xp: Any = np if is_concrete(results) else jnp
    joined = xp.moveaxis(xp.asarray(results), 0, axis - 1)
    shape = joined.shape
    return jnp.asarray(xp.take(joined.reshape(*shape[: axis - 1], -1, *shape[axis + 1 :]), places, axis=axis - 1))


def _masks(seen: np.ndarray) -> np.ndarray:
    """The number (n,) of each row's mask, from 0, equal for equal rows of `seen`."""
    bits = np.packbits(seen, axis=1)
    words = np.ascontiguousarray(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8)))).view(np.uint64)  # tables may come column by column
    numbers = np.zeros(len(seen), dtype=int)
    for word in words.T:
        own = np.unique(word, return_inverse=True)[1]
        numbers = np.unique(numbers * (own.max() + 1) + own, return_inverse=True)[1]
    return numbers


def _rounded(count: int) -> int:
    """At least the least number of tiles, and then the next number of at most three binary digits and zeros."""
    count = max(count, _LEAST)
    unit = 2 ** max(0, count.bit_length() - 3)
    return -(-count // unit) * unit
