r"""Many points, block by block: on the device so that what lies between stays in the cache, and from the host so that the input is never copied whole.

A NumPy array or memory map of more than 32 MB is read in blocks of rows; each is checked, moved to the device, evaluated and written into the result, which is the only large
array made. An array that is on the device already stays there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ensembletheory.errors import as_floats

__all__ = ["is_large", "over_blocks", "streamed"]

_STREAMED = 2**22  # numbers
_ROWS = 2**20  # numbers in a block of rows


def over_blocks(function: Callable[[Float[Array, "n d"]], Array], points: Float[Array, "N d"], block: int) -> Array:
    """The values of `function`, which takes a block of points, at all points."""
    N, d = points.shape
    if N <= block:
        return function(points)
    like = jax.eval_shape(function, jax.ShapeDtypeStruct((block, d), points.dtype))

    def step(values, start):
        at_block = function(jax.lax.dynamic_slice_in_dim(points, start, block))
        return jax.lax.dynamic_update_slice_in_dim(values, at_block, start, axis=0), None

    starts = np.minimum(np.arange(0, N, block), N - block)  # the last block repeats some points, so that all have one shape
    return jax.lax.scan(step, jnp.zeros((N, *like.shape[1:]), like.dtype), starts)[0]


def is_large(x: Any, dim: int) -> TypeGuard[np.ndarray]:
    """Whether x is a host array of points (..., dim) that is to be streamed."""
    return isinstance(x, np.ndarray) and x.size > _STREAMED and x.shape[-1] == dim and (x.ndim == 2 or x.flags.c_contiguous)


def streamed(function: Callable[[Any, Float[Array, "n d"]], Array], law: Any, x: np.ndarray, tail: tuple[int, ...]) -> Array:
    """function(law, points), of shape (..., *tail), at all points of a large host array (..., d).

    Raises:
        ValueError: if x is not numeric, or holds NaN or infinities.
    """
    rows = x.reshape(-1, x.shape[-1])
    size = max(1, _ROWS // rows.shape[1])
    result = None
    for start in range(0, len(rows), size):
        begin = min(start, len(rows) - size)
        values = function(law, as_floats("x", rows[begin : begin + size]))
        result = jnp.empty((len(rows), *tail), values.dtype) if result is None else result
        result = _written(result, values, begin)
    assert result is not None
    return result.reshape(*x.shape[:-1], *tail)


@partial(jax.jit, donate_argnums=0)
def _written(result: Array, values: Array, begin: Int[ArrayLike, ""]) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(result, values, begin, axis=0)
