"""Numbers of pixels that pairs of masks share: one product of matrices for all pairs of two lists, exact in the precision it is done in."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

__all__ = ["disagreements", "shared_pixels", "sizes"]

_EXACT = 2**24  # pixels: what 32-bit arithmetic counts without rounding


def sizes(masks: Bool[Array, "*n H W"]) -> Float[Array, "*n"]:
    """The number of pixels in each mask."""
    return jnp.sum(masks, axis=(-2, -1), dtype=jnp.int32).astype(float)


def shared_pixels(masks: Bool[Array, "*b n H W"], others: Bool[Array, "*b m H W"]) -> Float[Array, "*b n m"]:
    """The number of pixels that masks[..., i] and others[..., j] share, for all pairs."""
    pixels = masks.shape[-2] * masks.shape[-1]
    dtype = jnp.float32 if pixels < _EXACT else jnp.result_type(float)
    first, second = (table.reshape(*table.shape[:-2], pixels).astype(dtype) for table in (masks, others))
    return jnp.matmul(first, jnp.swapaxes(second, -1, -2), precision=jax.lax.Precision.HIGHEST).astype(float)


def disagreements(masks: Bool[Array, "*n H W"], others: Bool[Array, "m H W"]) -> Float[Array, "*n m"]:
    """The number of pixels at which two masks differ, for all pairs: |A| + |B| - 2 |A and B|."""
    listed = masks.reshape(-1, *masks.shape[-2:])
    differ = sizes(listed)[:, None] + sizes(others)[None, :] - 2 * shared_pixels(listed, others)
    return differ.reshape(*masks.shape[:-2], len(others))
