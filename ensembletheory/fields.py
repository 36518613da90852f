r"""Fields: time-dependent vector fields (t, x) -> vector on R^d.

Scores, velocities and neural networks are all fields, so that an exact answer and a trained one can change places. Rules that combine K fields take a list of them, or
a stack: one field whose arrays have a leading axis K, which is evaluated at once (`vmap`) where a list is evaluated field by field.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.laws.weights import checked_weights

__all__ = [
    "Batching",
    "CombinedField",
    "Field",
    "FieldStack",
    "Fields",
    "MeanField",
    "checked_fields",
    "differ",
    "is_stack",
    "require_field",
    "require_origin",
    "require_vectors",
]


class Field(eqx.Module):
    """A vector field that depends on time."""

    @property
    def kind(self) -> str | None:
        """What the vector is, where that is known: "score", "velocity", "denoiser" or "noise"."""
        return None

    @property
    def origin(self) -> Any:
        """The process it is a field of, where that is known."""
        return None

    @property
    def piecewise(self) -> bool:
        """Whether it may be affine in pieces, which looking at a few points does not tell from affine."""
        return False

    @abstractmethod
    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one point x."""

    def batch(self, t: Float[Array, ""], points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The vectors at time t and many points."""
        return jax.vmap(self, in_axes=(None, 0))(t, points)

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse a time, whose value can be looked at, at which the field is not defined."""


class FieldStack(eqx.Module):
    """K fields of one structure as one, `stacked`, whose arrays have a leading axis K; a sequence of fields that is evaluated at once.

    Raises:
        ValueError: if the arrays do not have one leading axis, of length 1 at least.
    """

    stacked: Field

    def __check_init__(self):
        if not is_stack(self.stacked):
            got = f"one {type(self.stacked).__name__}, whose arrays have shapes {sorted(set(_shapes(self.stacked)))}"
            refuse("fields", got, "a list of fields, or a stack of them", "Pass [field], or neural.stack([field, ...]).")

    def __len__(self) -> int:
        return jax.tree.leaves(eqx.filter(self.stacked, eqx.is_array))[0].shape[0]

    def __iter__(self) -> Iterator[Field]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, k: int) -> Field:
        arrays, rest = eqx.partition(self.stacked, eqx.is_array)
        return eqx.combine(jax.tree.map(lambda array: array[k], arrays), rest)


Fields = tuple[Field, ...] | FieldStack
_ONE_PROCESS = "At equal times their laws hold different noise: take all members' fields from one process."


def is_stack(model: Any) -> bool:
    """Whether all arrays of a model have one leading axis, of length 1 at least."""
    leading = {shape[:1] for shape in _shapes(model)}
    return len(leading) == 1 and not leading & {(), (0,)}


def _shapes(model: Any) -> list[tuple[int, ...]]:
    return [array.shape for array in jax.tree.leaves(eqx.filter(model, eqx.is_array))]


class CombinedField(Field):
    """A field made of the vectors of several fields at the same time and point; see `MeanField` and `ensembletheory.pooling.field_rules`."""

    fields: eqx.AbstractVar[Fields]

    @property
    def kind(self) -> str | None:
        """The kind of the fields, if all have the same."""
        kinds = {field.kind for field in self._representatives()}
        return kinds.pop() if len(kinds) == 1 else None

    @property
    def origin(self) -> Any:
        """The process of the fields."""
        return self.fields[0].origin

    @property
    def piecewise(self) -> bool:
        """Whether one of the fields may be."""
        return any(field.piecewise for field in self._representatives())

    @abstractmethod
    def combine(self, vectors: Float[Array, "K *points d"]) -> Float[Array, "*points d"]:
        """The rule."""

    def each(self, evaluate: Callable[[Field], Float[Array, "*points d"]]) -> Float[Array, "K *points d"]:
        """What a function makes of every field."""
        if isinstance(self.fields, FieldStack):
            return eqx.filter_vmap(evaluate)(self.fields.stacked)
        return jnp.stack([evaluate(field) for field in self.fields])

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one point x."""
        return self.combine(self.each(lambda field: field(t, x)))

    def batch(self, t: Float[Array, ""], points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The vectors at time t and many points."""
        return self.combine(self.each(lambda field: field.batch(t, points)))

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse a time at which one of the fields is not defined."""
        for field in self.fields:
            field.check(t)

    def _representatives(self) -> tuple[Field, ...]:
        """The fields; of a stack, one that says what all have in common."""
        return (self.fields.stacked,) if isinstance(self.fields, FieldStack) else self.fields


class MeanField(CombinedField):
    """The weighted average sum_k w_k v_k(t, x) of fields.

    Raises:
        ValueError: if there is no field, their kinds or processes differ, or the weights are off the simplex.
    """

    fields: Fields
    weights: Float[Array, " K"]

    def __init__(self, fields: Sequence[Field] | Field, weights: Numbers | None = None):
        self.fields = checked_fields(fields)
        self.weights = checked_weights(weights, len(self.fields))

    def combine(self, vectors: Float[Array, "K *points d"]) -> Float[Array, "*points d"]:
        """sum_k w_k v_k."""
        return jnp.tensordot(self.weights, vectors, axes=1)


def checked_fields(fields: Sequence[Field] | Field) -> Fields:
    """The fields, a list or a stack, if there is one and no two are known to be of different kinds or processes.

    Raises:
        ValueError: naming what differs.
    """
    if isinstance(fields, Field):
        stack = FieldStack(fields)
        if _known_to_vary(fields.origin):
            refuse("fields", f"a stack of fields of {type(fields.origin).__name__} processes that differ", "fields of one process", _ONE_PROCESS)
        return stack
    if not fields:
        refuse("fields", "an empty list", "at least one field", "Pass the members' fields.")
    kinds = sorted({field.kind for field in fields if field.kind is not None})
    if len(kinds) > 1:
        refuse("fields", f"kinds {kinds}", "one kind", "Convert them: processes.convert(process, field, kind).")
    origins = [field.origin for field in fields if field.origin is not None]
    for origin in origins[1:]:
        if differ(origins[0], origin):
            got = f"fields of {type(origins[0]).__name__} and of another {type(origin).__name__}"
            refuse("fields", got, "fields of one process", _ONE_PROCESS)
    return tuple(fields)


def _known_to_vary(stacked: Any) -> bool:
    """Whether the members of a stack are known to be unequal."""
    arrays = jax.tree.leaves(eqx.filter(stacked, eqx.is_array))
    return is_concrete(*arrays) and any(np.any(np.asarray(array) != np.atleast_1d(array)[:1]) for array in arrays)


def differ(first: Any, second: Any) -> bool:
    """Whether two processes are known to be different."""
    if first is second:
        return False
    equal = eqx.tree_equal(first, second)
    return is_concrete(equal) and not equal


class Batching(Field):
    """A field written for one point which `vmap` over points evaluates by its `batch`; derivatives are those of the one-point form."""

    field: Field

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one point x."""
        arrays, rest = eqx.partition(self.field, eqx.is_array)

        def one(arrays, t, x):
            return eqx.combine(arrays, rest)(t, x)

        def many(size, mapped, arrays, t, x):
            if mapped[-1] and not any(jax.tree.leaves(mapped[:-1])):
                return eqx.combine(arrays, rest).batch(t, x), True
            return jax.vmap(one, jax.tree.map(lambda is_mapped: 0 if is_mapped else None, tuple(mapped)), axis_size=size)(arrays, t, x), True

        batched = jax.custom_batching.custom_vmap(one)
        batched.def_vmap(many)
        evaluated = jax.custom_jvp(batched)
        evaluated.defjvp(lambda primals, tangents: jax.jvp(one, primals, tangents))
        return evaluated(arrays, t, x)


def require_vectors(argument: str, field: Field, dim: int) -> None:
    """Refuse a field whose vectors, at points of dimension `dim`, are not of that dimension.

    Raises:
        ValueError: naming the shape.
    """
    try:
        got = f"vectors of shape {eqx.filter_eval_shape(field, jnp.zeros(()), jnp.zeros(dim)).shape}"
    except TypeError as error:
        got = f"{type(field).__name__}, which fails ({error})"
    if got != f"vectors of shape ({dim},)":
        refuse(argument, f"{got}, at points of shape ({dim},)", f"vectors of shape ({dim},)", "A field maps (t, x) to a vector as long as x.")


def require_field(argument: str, field: Field, kind: str, dim: int) -> None:
    """Refuse a field that says it is of another kind, or whose vectors have another dimension.

    Raises:
        ValueError: naming the kind or the shape.
    """
    if field.kind not in (None, kind):
        refuse(argument, f"a {field.kind}", f"a {kind}", f"Convert it: processes.convert(process, field, {kind!r}).")
    require_vectors(argument, field, dim)


def require_origin(argument: str, field: Field, process: Any) -> None:
    """Refuse a field that is known to be of another process.

    Raises:
        ValueError: naming both.
    """
    if field.origin is not None and differ(field.origin, process):
        got = f"a field of another process ({type(field.origin).__name__})"
        refuse(argument, got, f"a field of the {type(process).__name__} at hand", "At equal times their laws hold different noise.")
