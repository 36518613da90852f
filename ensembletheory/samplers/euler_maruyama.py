r"""Euler-Maruyama for the reverse SDE, with `field` a score.

From t to s < t, h = t - s:   x_s = x_t + h [ -F_t x_t + G_t G_t^T score(t, x_t) ] + sqrt(h) G_t z.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import Process
from ensembletheory.samplers.scheme import Scheme

__all__ = ["EulerMaruyama"]


class EulerMaruyama(Scheme):
    """Euler-Maruyama for the reverse SDE; takes a score; weak order 1."""

    takes: ClassVar[str] = "score"

    @property
    def draws(self) -> int:
        """One."""
        return 1

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        h = t - s
        return x + h * (process.spread(t, field(t, x)) - process.drift(t, x)) + jnp.sqrt(h) * process.disturbance(t, z[0])
