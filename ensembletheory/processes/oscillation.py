r"""Oscillation as a path from data to noise: x'' = -a^2 x from x_0 ~ data with an independent velocity v_0 ~ N(0, r^2 I), over a quarter of a period.

    X_t = cos(a t) X_0 + (sin(a t) / a) V_0,     X_T = V_0 / a at T = pi / (2 a),

which does not depend on the data: the noise is reached exactly in finite time. The probability-flow velocity is the Hamiltonian velocity predictor E[V_t | X_t = x].
With r = a this is the trigonometric interpolant run at another speed. Source: Holderrieth, Xu & Jaakkola (2024).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.path import GaussianPath

__all__ = ["Oscillation"]


class Oscillation(GaussianPath):
    """X_t = cos(a t) X_0 + sin(a t) V_0 / a on [0, pi / (2 a)], V_0 ~ N(0, r^2 I).

    Args:
        frequency: a.
        speed: r, the standard deviation of the velocities.

    Raises:
        ValueError: unless both are above 0.
    """

    frequency: Float[Array, ""]
    speed: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, frequency: Numbers = 1.0, speed: Numbers = 1.0):
        self.frequency, self.speed = positive("frequency", frequency), positive("speed", speed)
        self.horizon = np.pi / 2 / self.frequency

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """cos(a t), as a sine so that it is exactly zero at the horizon."""
        return jnp.sin(self.frequency * (self.horizon - t))

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """(r sin(a t) / a)^2."""
        return (self.speed * jnp.sin(self.frequency * t) / self.frequency) ** 2
