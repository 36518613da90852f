"""Stacks: K models of one structure as one model whose arrays have a leading axis K.

Rules that combine fields (`MeanField`, those of `ensembletheory.pooling`) take a stack of fields as they take a list, and evaluate it at once.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import is_concrete, refuse

__all__ = ["count", "member", "member_values", "members", "require_alike", "stack"]


def stack(models: Sequence[Any]) -> Any:
    """The stack of `models`.

    Raises:
        ValueError: if there is none, or they differ in structure or in the shape of an array.
    """
    require_alike("models", models)
    dynamic, static = zip(*[eqx.partition(model, eqx.is_array) for model in models], strict=True)
    return eqx.combine(jax.tree.map(lambda *arrays: _stacked(arrays), *dynamic), static[0])


def require_alike(argument: str, models: Sequence[Any]) -> None:
    """Refuse models that could not be stacked.

    Raises:
        ValueError: if there is none, or they differ in structure or in the shape of an array.
    """
    if not models:
        refuse(argument, "none", "at least one", f"Pass a list of {argument}.")
    dynamic, static = zip(*[eqx.partition(model, eqx.is_array) for model in models], strict=True)
    shapes = [[(array.shape, array.dtype) for array in jax.tree.leaves(part)] for part in dynamic]
    for k in range(1, len(models)):
        if jax.tree.structure(dynamic[k]) != jax.tree.structure(dynamic[0]) or shapes[k] != shapes[0] or not eqx.tree_equal(static[k], static[0]):
            got, expected = f"a structure or shapes other than those of {argument}[0]", f"{argument} that differ in the values of arrays only"
            refuse(f"{argument}[{k}]", got, expected, "Build all by one function.")


def _stacked(arrays: Sequence[Array]) -> Array:
    return jnp.asarray(np.stack(arrays)) if all(map(_plain, arrays)) else jnp.stack(arrays)


def _plain(array: Array) -> bool:
    """Whether NumPy can hold it, which compiles nothing: values are at hand, and are no keys."""
    return is_concrete(array) and not jax.dtypes.issubdtype(array.dtype, jax.dtypes.extended)


def count(stacked: Any) -> int:
    """The number K of members."""
    return jax.tree.leaves(eqx.filter(stacked, eqx.is_array))[0].shape[0]


def member(stacked: Any, k: int) -> Any:
    """Member k of a stack."""
    if not -count(stacked) <= k < count(stacked):
        refuse("k", f"{k}", f"a member of 0 ... {count(stacked) - 1}", "Members count from 0.")
    dynamic, static = eqx.partition(stacked, eqx.is_array)
    return eqx.combine(jax.tree.map(lambda array: jnp.asarray(np.asarray(array)[k]) if _plain(array) else array[k], dynamic), static)


def members(stacked: Any) -> list[Any]:
    """All members of a stack, for what takes lists."""
    return [member(stacked, k) for k in range(count(stacked))]


def member_values(fields: Any, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, "K d"]:
    """The vectors of all members of a stack of fields at time t and one point x."""
    return eqx.filter_vmap(lambda field: field(t, x))(fields)
