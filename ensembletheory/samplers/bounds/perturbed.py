r"""Fields off by a known affine error, v(t, x) + b x + c: models whose bounds and exact laws can be set side by side."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats
from ensembletheory.fields import Field

__all__ = ["Perturbed"]


class Perturbed(Field):
    """field(t, x) + slope x + shift.

    Args:
        field: of any kind, which the sum keeps.
        slope: a number, or one a coordinate.
        shift: a number, or one a coordinate.
    """

    field: Field
    slope: Float[Array, "..."]
    shift: Float[Array, "..."]

    def __init__(self, field: Field, slope: Numbers = 0.0, shift: Numbers = 0.0):
        self.field, self.slope, self.shift = field, as_floats("slope", slope), as_floats("shift", shift)

    @property
    def kind(self) -> str | None:
        """That of the field."""
        return self.field.kind

    @property
    def origin(self) -> Any:
        """The process of the field."""
        return self.field.origin

    @property
    def piecewise(self) -> bool:
        """Whether the field may be."""
        return self.field.piecewise

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one point x."""
        return self.field(t, x) + jnp.broadcast_to(self.slope, x.shape) * x + jnp.broadcast_to(self.shift, x.shape)

    def check(self, t: Float[Array, ""]) -> None:
        """What the field refuses."""
        self.field.check(t)
