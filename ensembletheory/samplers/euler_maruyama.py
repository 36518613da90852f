r"""Euler-Maruyama for the reverse SDE of a diffusion, with `field` a score.

From t to s < t, h = t - s:   x_s = x_t + h [ -f_t x_t + g_t^2 score(t, x_t) ] + g_t sqrt(h) z.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import GaussianPath
from ensembletheory.samplers.scheme import Scheme

__all__ = ["EulerMaruyama"]


class EulerMaruyama(Scheme):
    """Euler-Maruyama for the reverse SDE; takes a score field; weak order 1."""

    deterministic: ClassVar[bool] = False

    def step(self, process: GaussianPath, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        h, diffusion = t - s, process.diffusion(t)
        return x + h * (-process.signal_rate(t) * x + diffusion * field(t, x)) + jnp.sqrt(diffusion * h) * z
