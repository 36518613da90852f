r"""Uniform and normal numbers by counters: the word of event k of path i is a fixed function of (key, i, k), whatever else is drawn.

The generator is JAX's own, Threefry-2x32 with 20 rounds, written without the loop over rounds with which JAX compiles it on CPUs, so that XLA fuses it with what uses the
numbers: no state is carried, no array of random bits goes through memory, and a path does not depend on how many are simulated beside it. Source: Salmon et al. (2011).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

__all__ = ["Words", "exponential", "normals", "threefry", "uniform", "uniforms_of_normals"]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)

Word = UInt32[Array, "..."]
Words = tuple[Word, Word]


def threefry(key: Words, high: Word, low: Word) -> Words:
    """Two random words for the counter (high, low)."""
    schedule = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y = high + schedule[0], low + schedule[1]
    for group in range(5):
        for turn in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << np.uint32(turn)) | (y >> np.uint32(32 - turn)))
        x, y = x + schedule[(group + 1) % 3], y + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def uniform(words: Words, dtype: jnp.dtype) -> Float[Array, "..."]:
    """A number in (0, 1), never either end: the middle of one of 2^52 cells, or of 2^23 in 32 bits."""
    high, low = words
    if dtype == jnp.float64:
        bits = (high.astype(jnp.uint64) << np.uint64(20)) | (low >> np.uint32(12)).astype(jnp.uint64) | np.uint64(0x3FF0000000000000)
        return jax.lax.bitcast_convert_type(bits, jnp.float64) - (1 - 2.0**-53)
    return jax.lax.bitcast_convert_type((high >> np.uint32(9)) | np.uint32(0x3F800000), jnp.float32) - np.float32(1 - 2.0**-24)


def exponential(uniforms: Float[Array, "..."]) -> Float[Array, "..."]:
    """Draws of Exp(1)."""
    return -jnp.log(uniforms)


def uniforms_of_normals(count: int) -> int:
    """How many uniform numbers `normals` needs."""
    return 2 * -(-count // 2)


def normals(uniforms: Float[Array, "m n"], count: int) -> Float[Array, "count n"]:
    """`count` draws of N(0, 1) a lane, by Box and Muller's formula; the sine is a cosine a quarter turn later."""
    half = len(uniforms) // 2
    radius, turns = jax.lax.optimization_barrier(jnp.sqrt(2 * exponential(uniforms[:half]))), uniforms[half:]
    shifted = turns[None] - jnp.asarray([0.0, 0.25], turns.dtype)[:, None, None]
    return (radius[None] * jnp.cos(2 * np.pi * shifted)).reshape(2 * half, -1)[:count]
