r"""The classical Runge-Kutta method of order 4 for a flow dx/dt = v(t, x), with `field` a velocity.

From t to s, h = s - t:

    k_1 = v(t, x),  k_2 = v(t + h/2, x + h/2 k_1),  k_3 = v(t + h/2, x + h/2 k_2),  k_4 = v(s, x + h k_3),   x_s = x + h/6 (k_1 + 2 k_2 + 2 k_3 + k_4).
"""

from typing import ClassVar

from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import Clock
from ensembletheory.samplers.scheme import Scheme

__all__ = ["Rk4"]


class Rk4(Scheme):
    """The classical Runge-Kutta method for the probability flow; takes a velocity; order 4."""

    takes: ClassVar[str] = "velocity"

    @property
    def draws(self) -> int:
        """None."""
        return 0

    def step(self, process: Clock, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s that follows x at time t, in either direction of time."""
        h, middle = s - t, (t + s) / 2
        k1 = field(t, x)
        k2 = field(middle, x + h / 2 * k1)
        k3 = field(middle, x + h / 2 * k2)
        k4 = field(s, x + h * k3)
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
