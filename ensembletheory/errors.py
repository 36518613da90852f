"""One shape for every refusal: the argument, what was got, what was expected, and the remedy."""

from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

__all__ = ["Numbers", "as_floats", "checked_count", "is_concrete", "missing_extra", "refuse"]


Numbers = ArrayLike | Sequence  # what users may pass for an array

_LARGE = 2**22  # numbers


def refuse(argument: str, got: str, expected: str, remedy: str) -> NoReturn:
    """Raise a `ValueError` that names the argument, what was got, what was expected and what to do."""
    raise ValueError(f"`{argument}`: got {got}; expected {expected}. {remedy}")


def missing_extra(package: str, extra: str) -> NoReturn:
    """Raise an `ImportError` that names the extra which brings `package`."""
    raise ImportError(f"this needs {package}, which comes with an extra: pip install 'ensembletheory[{extra}]'")


def is_concrete(*arrays: Any) -> bool:
    """Whether every array holds values that can be looked at (none is traced by jit, vmap or grad)."""
    return not any(isinstance(array, Tracer) for array in arrays)


def checked_count(argument: str, count: int, least: int) -> int:
    """A whole number that is at least `least`.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(count, int | np.integer) or isinstance(count, bool) or count < least:
        refuse(argument, repr(count), f"a whole number >= {least}", "It counts what is drawn or built.")
    return int(count)


def checked_index(argument: str, index: int, size: int) -> int:
    """A whole number from 0 to size - 1.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(index, int | np.integer) or isinstance(index, bool) or not 0 <= index < size:
        refuse(argument, repr(index), f"a whole number from 0 to {size - 1}", "Count from 0.")
    return int(index)


def as_floats(argument: str, value: Numbers) -> Float[Array, "..."]:
    """`value` as a floating array without NaN or infinity.

    Raises:
        ValueError: if it is not numeric, ragged, complex, or (when its values can be looked at) not finite.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        refuse(argument, f"{type(value).__name__} ({error})", "numbers in a regular array", "Pass a list of numbers or an array.")
    if jnp.iscomplexobj(array) or array.dtype == jnp.bool_:
        refuse(argument, f"dtype {array.dtype}", "real numbers", "Convert it with astype(float).")
    with jax.numpy_dtype_promotion("standard"):
        array = array.astype(jnp.promote_types(array.dtype, jnp.result_type(float)))
    if is_concrete(array) and not _all_finite(array):
        bad = int(np.sum(~np.isfinite(array)))
        refuse(argument, f"{bad} NaN or infinite of {array.size} numbers", "finite numbers", "Remove or impute them first.")
    return array


def _all_finite(array: Float[Array, "..."]) -> bool:
    """Of a large array, reduced where it lies, without an array of truth values."""
    return bool(_finite_on_device(array) if array.size > _LARGE else np.all(np.isfinite(array)))


@jax.jit
def _finite_on_device(array: Array) -> Array:
    return jnp.all(jnp.isfinite(array))
