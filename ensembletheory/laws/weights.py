r"""Weights on the simplex, and the logarithm of a weighted sum of exponentials.

log sum_k w_k exp(a_k) is differentiable in the weights also where one is zero: the derivative is exp(a_k) / sum, capped at the root of the largest number for a
zero-weight term that dwarfs it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse

__all__ = ["checked_weights", "log_weighted_sum", "relative_terms"]


def checked_weights(weights: Numbers | None, K: int) -> Float[Array, " K"]:
    """`weights` as an array on the simplex of R^K; None means 1/K each.

    Raises:
        ValueError: if the shape is not (K,), a weight is negative, or they do not sum to 1 (beyond rounding).
    """
    if weights is None:
        return jnp.asarray(np.full(K, 1 / K, jnp.result_type(float)))
    array = as_floats("weights", weights)
    if array.shape != (K,):
        refuse("weights", f"shape {array.shape}", f"({K},)", "One weight a member.")
    if is_concrete(array):
        total = float(np.sum(np.asarray(array)))
        if np.any(np.asarray(array) < 0) or abs(total - 1) > 8 * K * np.finfo(array.dtype).eps:
            refuse("weights", f"smallest {np.min(np.asarray(array)):.6g}, sum {total:.17g}", "weights >= 0 that sum to 1", "Divide them by their sum.")
    return array


def log_weighted_sum(weights: Float[Array, " K"], exponents: Float[Array, " K"]) -> Float[Array, ""]:
    """Log sum_k w_k exp(a_k)."""
    top, factors, powers = _parts(weights, exponents)
    return top + jnp.log(factors @ powers)


def relative_terms(weights: Float[Array, " K"], exponents: Float[Array, " K"]) -> Float[Array, " K"]:
    """w_k exp(a_k) / sum_j w_j exp(a_j)."""
    _, factors, powers = _parts(weights, exponents)
    return factors * powers / (factors @ powers)


def _parts(weights: Float[Array, " K"], exponents: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, " K"]]:
    """The logarithm of the largest term, and factors and powers whose products are the terms over it.

    A positive weight is in the power, so that nothing overflows where it is the smallest number there is. A weight of zero is the factor, and its power at most the root
    of the largest number: it may be far above the rest, and its products, slopes included, must stay finite.
    """
    logs = jnp.log(jnp.where(weights > 0, weights, 1.0)) + exponents
    top = jax.lax.stop_gradient(jnp.max(jnp.where(weights > 0, logs, -jnp.inf)))
    highest = jnp.asarray(jnp.where(weights > 0, jnp.inf, np.log(jnp.finfo(logs.dtype).max) / 2), logs.dtype)
    return top, jnp.where(weights > 0, 1.0, weights), jnp.exp(jnp.minimum(logs - top, highest))
