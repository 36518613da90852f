r"""Paths whose signal decays, a_t = exp(-I_t / 2) with I_0 = 0, and those of them that preserve variance, s_t^2 = 1 - a_t^2 = -expm1(-I_t)."""

from abc import abstractmethod

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.processes.path import GaussianPath

__all__ = ["DecayingPath", "PreservingPath"]


class DecayingPath(GaussianPath):
    """A path known by I_t = -2 log a_t; where dX = -(b_t / 2) X dt + ..., I_t is the integral of b from 0 to t."""

    @abstractmethod
    def decay(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """I_t = -2 log a_t."""

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """exp(-I_t / 2)."""
        return jnp.exp(-self.decay(t) / 2)


class PreservingPath(DecayingPath):
    """A path with a^2 + s^2 = 1, which keeps N(0, I)."""

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """1 - exp(-I_t)."""
        return -jnp.expm1(-self.decay(t))
