r"""Euler-Maruyama for the reverse dynamics of any noise level, with `field` a score.

From t to s < t, h = t - s, with churn eta (1: the reverse SDE; 0: Euler's method for the probability flow):

    x_s = x_t + h [ -F_t x_t + (1 + eta^2)/2 G_t G_t^T score(t, x_t) ] + eta sqrt(h) G_t z.
"""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.processes import Process
from ensembletheory.samplers.scheme import Scheme

__all__ = ["EulerMaruyama"]


class EulerMaruyama(Scheme):
    """Euler-Maruyama for the reverse SDE, or with `churn` eta >= 0 for the reverse dynamics of that noise level; takes a score; weak order 1."""

    takes: ClassVar[str] = "score"
    churn: float | Float[Array, ""] = 1.0

    def __check_init__(self):
        if is_concrete(self.churn) and not (self.churn >= 0 and np.isfinite(self.churn)):
            refuse("churn", f"{float(self.churn):.6g}", "a finite noise level >= 0", "1 is the reverse SDE; with more churn use shorter steps.")

    @property
    def draws(self) -> int:
        """One."""
        return 1

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        h = t - s
        pulled = (1 + self.churn**2) / 2 * process.spread(t, field(t, x))
        return x + h * (pulled - process.drift(t, x)) + self.churn * jnp.sqrt(h) * process.disturbance(t, z[0])
