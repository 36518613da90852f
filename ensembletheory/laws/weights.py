"""Weights on the simplex."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse

__all__ = ["checked_weights"]


def checked_weights(weights: Numbers | None, K: int) -> Float[Array, " K"]:
    """`weights` as an array on the simplex of R^K; None means 1/K each.

    Raises:
        ValueError: if the shape is not (K,), a weight is negative, or they do not sum to 1 (beyond rounding).
    """
    if weights is None:
        return jnp.full((K,), 1 / K)
    array = as_floats("weights", weights)
    if array.shape != (K,):
        refuse("weights", f"shape {array.shape}", f"({K},)", "One weight a member.")
    if is_concrete(array):
        total = float(jnp.sum(array))
        if np.any(np.asarray(array) < 0) or abs(total - 1) > 8 * K * np.finfo(array.dtype).eps:
            refuse("weights", f"smallest {np.min(array):.6g}, sum {total:.17g}", "weights >= 0 that sum to 1", "Divide them by their sum.")
    return array
