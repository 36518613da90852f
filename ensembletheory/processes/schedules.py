r"""Variance-preserving paths, a^2 + s^2 = 1, with schedules other than Song's.

- Cosine (Nichol & Dhariwal 2021): a_t = cos(theta_t) / cos(theta_0), theta_t = (pi / 2) (t/T + o) / (1 + o), offset o = 0.008. At the horizon a = 0, and the SDE's b is
  infinite there: start an SDE's scheme a little earlier; flows may start at the horizon.
- EDM: a = 1 / sqrt(1 + sigma^2), the EDM process divided by sqrt(1 + sigma^2), with the powers of Karras et al. (2022, equation 5),
  p_t = (sigma_min^(1/rho) + (t/T) (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho. They stop at sigma_min; here time 0 is the data, and sigma_t^2 is p_t^2 - p_0^2, scaled to end
  at sigma_max^2.
- Discrete: DDPM's betas (Ho et al. 2020), a_n^2 = prod_{i <= n} (1 - beta_i) at n = 0, 1, ..., N, with log a linear between.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.processes.arguments import levels, positive
from ensembletheory.processes.decaying import PreservingPath
from ensembletheory.processes.path import GaussianPath

__all__ = ["CosineVariancePreserving", "DiscreteVariancePreserving", "EdmVariancePreserving", "log_signals"]


class CosineVariancePreserving(GaussianPath):
    """The cosine schedule.

    Raises:
        ValueError: unless offset and horizon are positive and finite.
    """

    offset: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, offset: Numbers = 0.008, horizon: Numbers = 1.0):
        self.offset, self.horizon = positive("offset", offset), positive("horizon", horizon)

    def _angle(self, t: Float[Array, ""]) -> Float[Array, ""]:
        return np.pi / 2 * (t / self.horizon + self.offset) / (1 + self.offset)

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """cos(theta_t) / cos(theta_0), as a sine so that it is exactly zero at the horizon."""
        left = np.pi / 2 * (1 - t / self.horizon) / (1 + self.offset)
        return jnp.sin(left) / jnp.cos(self._angle(jnp.zeros_like(t)))

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """1 - a_t^2 = sin(theta_t - theta_0) sin(theta_t + theta_0) / cos(theta_0)^2."""
        gone, first = np.pi / 2 * t / self.horizon / (1 + self.offset), self._angle(jnp.zeros_like(t))
        return jnp.sin(gone) * jnp.sin(gone + 2 * first) / jnp.cos(first) ** 2


class EdmVariancePreserving(PreservingPath):
    """The variance-preserving form of EDM's power schedule.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max, 0 < rho and 0 < horizon, all finite.
    """

    sigma_min: Float[Array, ""]
    sigma_max: Float[Array, ""]
    rho: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, sigma_min: Numbers = 0.002, sigma_max: Numbers = 80.0, rho: Numbers = 7.0, horizon: Numbers = 1.0):
        self.sigma_min, self.sigma_max = levels(sigma_min, sigma_max)
        self.rho, self.horizon = positive("rho", rho), positive("horizon", horizon)

    def decay(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """log(1 + sigma_t^2)."""
        growth = (self.sigma_max / self.sigma_min) ** (1 / self.rho) - 1
        gone, whole = (jnp.expm1(2 * self.rho * jnp.log1p(growth * share)) for share in (t / self.horizon, jnp.ones_like(t)))  # p_t^2 / p_0^2 - 1
        return jnp.log1p(self.sigma_max**2 * gone / whole)


class DiscreteVariancePreserving(PreservingPath):
    """The path through the noise levels of DDPM; times run from 0 (data) to N.

    Args:
        betas: (N,), between 0 and 1.

    Raises:
        ValueError: if there is none, or one is not between 0 and 1.
    """

    log_signals: Float[Array, " levels"]
    horizon: Float[Array, ""]

    def __init__(self, betas: Numbers):
        self.log_signals = log_signals(betas)
        self.horizon = jnp.asarray(self.log_signals.size - 1, dtype=self.log_signals.dtype)

    def decay(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """-sum_{i <= n} log(1 - beta_i), interpolated."""
        return -jnp.interp(t, jnp.arange(self.log_signals.size, dtype=t.dtype), self.log_signals)


def log_signals(betas: Numbers) -> Float[Array, " levels"]:
    """The logarithms of a_n^2 for n = 0, ..., N, from DDPM's betas (N,).

    Raises:
        ValueError: if there is none, or one is not between 0 and 1.
    """
    values = as_floats("betas", betas)
    if values.ndim != 1 or values.size == 0:
        refuse("betas", f"shape {values.shape}", "(N,) with N >= 1", "One beta a step, such as np.linspace(1e-4, 0.02, 1000).")
    if is_concrete(values) and not np.all((np.asarray(values) > 0) & (np.asarray(values) < 1)):
        refuse("betas", f"values from {np.min(values):.6g} to {np.max(values):.6g}", "values between 0 and 1", "A beta is the share of variance that a step replaces.")
    return _accumulated(values)


@jax.jit
def _accumulated(betas: Float[Array, " N"]) -> Float[Array, " levels"]:
    return jnp.concatenate([jnp.zeros(1, betas.dtype), jnp.cumsum(jnp.log1p(-betas))])
