r"""The midpoint method for a flow dx/dt = v(t, x), with `field` a velocity.

From t to s, h = s - t:   x_s = x_t + h v(t + h/2, x_t + h/2 v(t, x_t)).
"""

from typing import ClassVar

from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import Clock
from ensembletheory.samplers.scheme import Scheme

__all__ = ["Midpoint"]


class Midpoint(Scheme):
    """The explicit midpoint method for the probability flow; takes a velocity; order 2; never looks at the last time."""

    takes: ClassVar[str] = "velocity"

    @property
    def draws(self) -> int:
        """None."""
        return 0

    def step(self, process: Clock, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s that follows x at time t, in either direction of time."""
        half = (s - t) / 2
        return x + 2 * half * field(t + half, x + half * field(t, x))
