r"""DDIM on any Gaussian path, with `field` a denoiser D.

From t to s < t, with eps = (x_t - a_t D) / s_t the predicted noise and tau^2 = (s_s^2 / s_t^2) (s_t^2 - (a_t/a_s)^2 s_s^2) the variance of X_s given X_t and X_0,

    x_s = a_s D(t, x_t) + sqrt(s_s^2 - eta^2 tau^2) eps + eta tau z.

eta = 0 is deterministic (and Euler's method in the variable x/a against s/a), eta = 1 the ancestral sampler with the posterior's variance. Source: Song, Meng & Ermon (2021).
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import GaussianPath, Process
from ensembletheory.samplers.scheme import Scheme, gaussian_path

__all__ = ["Ddim", "posterior_variance", "towards"]


class Ddim(Scheme):
    """DDIM; takes a denoiser; order 1.

    Args:
        eta: the share of the posterior's noise, 0 (none) to 1.
    """

    takes: ClassVar[str] = "denoiser"
    eta: float = eqx.field(static=True, default=0.0)

    @property
    def draws(self) -> int:
        """None for eta = 0, else one."""
        return int(self.eta > 0)

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        path = gaussian_path(self, process)
        variance = self.eta**2 * posterior_variance(path, t, s)
        mean = towards(path, field(t, x), variance, t, s, x)
        return mean + jnp.sqrt(variance) * z[0] if self.draws else mean


def posterior_variance(path: GaussianPath, t: Float[Array, ""], s: Float[Array, ""]) -> Float[Array, ""]:
    """tau^2, the variance of X_s given X_t and X_0, s <= t."""
    noise_t, noise_s = path.noise_variance(t), path.noise_variance(s)
    return noise_s / noise_t * jnp.maximum(noise_t - (path.a(t) / path.a(s)) ** 2 * noise_s, 0.0)


def towards(
    path: GaussianPath, denoised: Float[Array, " d"], variance: Float[Array, ""], t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"]
) -> Float[Array, " d"]:
    """a_s D + sqrt(s_s^2 - variance) eps."""
    noise = (x - path.a(t) * denoised) / jnp.sqrt(path.noise_variance(t))
    return path.a(s) * denoised + jnp.sqrt(jnp.maximum(path.noise_variance(s) - variance, 0.0)) * noise
