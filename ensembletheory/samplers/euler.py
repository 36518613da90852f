r"""Euler's method for a flow dx/dt = v(t, x), with `field` a velocity.

From t to s:   x_s = x_t + (s - t) v(t, x_t).
"""

from typing import ClassVar

from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import Clock
from ensembletheory.samplers.scheme import Scheme

__all__ = ["Euler"]


class Euler(Scheme):
    """Euler's method for the probability flow; takes a velocity; order 1."""

    takes: ClassVar[str] = "velocity"

    @property
    def draws(self) -> int:
        """None."""
        return 0

    def step(self, process: Clock, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s that follows x at time t, in either direction of time."""
        return x + (s - t) * field(t, x)
