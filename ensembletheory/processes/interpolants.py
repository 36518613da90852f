r"""Interpolants between data and a Gaussian source drawn independently: the paths of flow matching (Lipman et al. 2023, Albergo & Vanden-Eijnden 2023).

Time runs from data (0) to noise (1) here as everywhere in this package: X_t = (1 - t) X_0 + t Z. Papers that run the other way have t' = 1 - t and v' = -v.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.processes.path import GaussianPath

__all__ = ["LinearInterpolant"]


class LinearInterpolant(GaussianPath):
    """X_t = (1 - t) X_0 + t Z on [0, 1]."""

    horizon: Float[Array, ""]

    def __init__(self):
        self.horizon = jnp.asarray(1.0)

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """1 - t."""
        return 1 - t

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """t^2."""
        return t**2
