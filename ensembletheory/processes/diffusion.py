r"""Diffusions with scalar coefficients, dX = f_t X dt + g_t dW.

| process | SDE | a_t | s_t^2 |
|---|---|---|---|
| variance preserving | dX = -(b/2) X dt + sqrt(b) dW | exp(-I/2), I = int_0^t b | 1 - exp(-I) |
| sub-variance-preserving | dX = -(b/2) X dt + sqrt(b (1 - exp(-2I))) dW | exp(-I/2) | (1 - exp(-I))^2 |
| variance exploding | dX = sigma_t sqrt(2 log(sigma_max / sigma_min)) dW, sigma_t = sigma_min (sigma_max / sigma_min)^(t/T) | 1 | sigma_t^2 - sigma_min^2 |
| Ornstein-Uhlenbeck | dX = -r X dt + sqrt(2 r) dW | exp(-r t) | 1 - exp(-2 r t) |
| EDM | dX = sqrt(2 t) dW | 1 | t^2 |

The first three are those of Song et al. (2021), with b linear in time. For variance exploding their code takes N(x_0, sigma_t^2) as the law of X_t given X_0; the SDE that
starts from the data has sigma_t^2 - sigma_min^2, as here. The Ornstein-Uhlenbeck process is variance preserving with constant b = 2 r. EDM: Karras et al. (2022), where time
is the noise level.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.processes.arguments import levels, positive
from ensembletheory.processes.decaying import DecayingPath, PreservingPath
from ensembletheory.processes.path import GaussianPath

__all__ = ["EdmPath", "OrnsteinUhlenbeck", "SubVariancePreserving", "VarianceExploding", "VariancePreserving"]


class _LinearBeta(DecayingPath):
    """b_t = beta_min + (beta_max - beta_min) t / horizon."""

    beta_min: eqx.AbstractVar[Float[Array, ""]]
    beta_max: eqx.AbstractVar[Float[Array, ""]]

    def decay(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """int_0^t b."""
        return self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / (2 * self.horizon)


class VariancePreserving(_LinearBeta, PreservingPath):
    """VP diffusion with b_t = beta_min + (beta_max - beta_min) t / horizon.

    Raises:
        ValueError: unless 0 <= beta_min, 0 < beta_max and 0 < horizon, all finite.
    """

    beta_min: Float[Array, ""]
    beta_max: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, beta_min: Numbers = 0.1, beta_max: Numbers = 20.0, horizon: Numbers = 1.0):
        self.beta_min, self.beta_max, self.horizon = _checked(beta_min, beta_max, horizon)


class SubVariancePreserving(_LinearBeta):
    """Sub-VP diffusion with b_t = beta_min + (beta_max - beta_min) t / horizon: its variance is never larger than that of VP.

    Raises:
        ValueError: unless 0 <= beta_min, 0 < beta_max and 0 < horizon, all finite.
    """

    beta_min: Float[Array, ""]
    beta_max: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, beta_min: Numbers = 0.1, beta_max: Numbers = 20.0, horizon: Numbers = 1.0):
        self.beta_min, self.beta_max, self.horizon = _checked(beta_min, beta_max, horizon)

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """(1 - exp(-I_t))^2."""
        return jnp.expm1(-self.decay(t)) ** 2


def _checked(beta_min: Numbers, beta_max: Numbers, horizon: Numbers) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """The three, checked."""
    values = as_floats("beta_min", beta_min), as_floats("beta_max", beta_max), as_floats("horizon", horizon)
    if is_concrete(*values) and not (values[0] >= 0 and values[1] > 0 and values[2] > 0):
        got = ", ".join(f"{float(value):.6g}" for value in values)
        refuse("beta_min, beta_max, horizon", got, "beta_min >= 0, beta_max > 0, horizon > 0", "Song's values are 0.1, 20 and 1.")
    return values


class VarianceExploding(GaussianPath):
    """VE diffusion, X_t = X_0 + sqrt(sigma_t^2 - sigma_min^2) Z with sigma_t = sigma_min (sigma_max / sigma_min)^(t / horizon).

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max and 0 < horizon, all finite.
    """

    sigma_min: Float[Array, ""]
    sigma_max: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, sigma_min: Numbers = 0.01, sigma_max: Numbers = 50.0, horizon: Numbers = 1.0):
        (self.sigma_min, self.sigma_max), self.horizon = levels(sigma_min, sigma_max), positive("horizon", horizon)

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """1."""
        return jnp.ones_like(t)

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """sigma_t^2 - sigma_min^2."""
        return self.sigma_min**2 * jnp.expm1(2 * t / self.horizon * jnp.log(self.sigma_max / self.sigma_min))


class OrnsteinUhlenbeck(PreservingPath):
    """dX = -rate X dt + sqrt(2 rate) dW, which is variance preserving with constant b = 2 rate; the default horizon ends at a^2 = exp(-10).

    Raises:
        ValueError: unless rate and horizon are positive and finite.
    """

    rate: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, rate: Numbers = 1.0, horizon: Numbers = 5.0):
        self.rate, self.horizon = positive("rate", rate), positive("horizon", horizon)

    def decay(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """2 rate t."""
        return 2 * self.rate * t


class EdmPath(GaussianPath):
    """X_t = X_0 + t Z: time is the noise level.

    Raises:
        ValueError: unless the horizon is positive and finite.
    """

    horizon: Float[Array, ""]

    def __init__(self, horizon: Numbers = 80.0):
        self.horizon = positive("horizon", horizon)

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """1."""
        return jnp.ones_like(t)

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """t^2."""
        return t**2
