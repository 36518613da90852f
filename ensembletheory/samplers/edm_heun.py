r"""Heun's method of Karras et al. (2022, algorithm 1, no churn) on any Gaussian path, with `field` a denoiser D.

In y = x / a and sigma = s / a the probability flow is dy/dsigma = (y - D) / sigma. From sigma to sigma':

    d = (y - D) / sigma,   y' = y + (sigma' - sigma) d,   and, unless sigma' = 0,   y' = y + (sigma' - sigma) (d + d') / 2,   d' = (y' - D') / sigma'.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import Process
from ensembletheory.samplers.scheme import Scheme, gaussian_path

__all__ = ["EdmHeun"]


class EdmHeun(Scheme):
    """Heun's method in sigma, ended by an Euler step at sigma = 0; takes a denoiser; order 2."""

    takes: ClassVar[str] = "denoiser"

    @property
    def draws(self) -> int:
        """None."""
        return 0

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s that follows x at time t, both with noise or s without."""
        path = gaussian_path(self, process)
        y, sigma, after = x / path.a(t), path.noise_level(t), path.noise_level(s)
        slope = (y - field(t, x)) / sigma
        euler = y + (after - sigma) * slope
        later = (euler - field(s, path.a(s) * euler)) / jnp.where(after > 0, after, 1.0)
        return path.a(s) * jnp.where(after > 0, y + (after - sigma) / 2 * (slope + later), euler)
