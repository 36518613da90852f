r"""Fields: time-dependent vector fields (t, x) -> vector on R^d.

Scores, velocities and neural networks are all fields, so that an exact answer and a trained one can change places.
"""

from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, refuse
from ensembletheory.laws.weights import checked_weights

__all__ = ["Field", "MeanField"]


class Field(eqx.Module):
    """A vector field that depends on time."""

    @property
    def kind(self) -> str | None:
        """What the vector is, where that is known: "score", "velocity", "denoiser" or "noise"."""
        return None

    @abstractmethod
    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one point x."""


class MeanField(Field):
    """The weighted average sum_k w_k v_k(t, x) of fields.

    Raises:
        ValueError: if there is no field, or the weights are off the simplex.
    """

    fields: tuple[Field, ...]
    weights: Float[Array, " K"]

    def __init__(self, fields: Sequence[Field], weights: Numbers | None = None):
        if not fields:
            refuse("fields", "an empty list", "at least one field", "Pass the members' fields.")
        self.fields = tuple(fields)
        self.weights = checked_weights(weights, len(self.fields))

    @property
    def kind(self) -> str | None:
        """The kind of the fields, if all have the same."""
        kinds = {field.kind for field in self.fields}
        return kinds.pop() if len(kinds) == 1 else None

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The average at time t and one point x."""
        return self.weights @ jnp.stack([field(t, x) for field in self.fields])
