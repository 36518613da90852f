r"""The variance-preserving diffusion dX = -(b_t / 2) X dt + sqrt(b_t) dW with b linear in time (Song et al. 2021).

a_t = exp(-1/2 int_0^t b), s_t^2 = 1 - a_t^2; u_t = a_t^2 = exp(-int_0^t b) is the only way in which the schedule enters closed forms.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.processes.path import GaussianPath

__all__ = ["VariancePreserving"]


class VariancePreserving(GaussianPath):
    """VP diffusion with b_t = beta_min + (beta_max - beta_min) t / horizon.

    Raises:
        ValueError: unless 0 <= beta_min, 0 < beta_max and 0 < horizon, all finite.
    """

    beta_min: Float[Array, ""]
    beta_max: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, beta_min: Numbers = 0.1, beta_max: Numbers = 20.0, horizon: Numbers = 1.0):
        self.beta_min, self.beta_max = as_floats("beta_min", beta_min), as_floats("beta_max", beta_max)
        self.horizon = as_floats("horizon", horizon)
        values = (self.beta_min, self.beta_max, self.horizon)
        if is_concrete(*values) and not (self.beta_min >= 0 and self.beta_max > 0 and self.horizon > 0):
            got = ", ".join(f"{float(value):.6g}" for value in values)
            refuse("beta_min, beta_max, horizon", got, "beta_min >= 0, beta_max > 0, horizon > 0", "Song's values are 0.1, 20 and 1.")

    def _integrated(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """int_0^t b."""
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / (2 * self.horizon)

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """exp(-1/2 int_0^t b)."""
        return jnp.exp(-self._integrated(t) / 2)

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """1 - exp(-int_0^t b)."""
        return -jnp.expm1(-self._integrated(t))
