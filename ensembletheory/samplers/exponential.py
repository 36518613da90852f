r"""The exponential integrator of the reverse SDE of a Gaussian path, the score frozen over a step, with `field` a score.

From t to s < t the SDE dX = [f X - g^2 score(t, x_t)] d tau + g dW, tau running down, is linear in X and solved exactly: with e = a_s / a_t,

    x_s = e x_t + score(t, x_t) a_s int_s^t g_tau^2 / a_tau d tau + sqrt(e^2 s_t^2 - s_s^2) z.

The integral is taken by 16-point Gauss-Legendre; for VP diffusions it is 2 (1/a_t - 1/a_s).
Source: Zhang & Chen (2023), for VP; the general path is derived here.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import Process
from ensembletheory.samplers.scheme import Scheme, gaussian_path

__all__ = ["ExponentialIntegrator"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


class ExponentialIntegrator(Scheme):
    """The exponential integrator of the reverse SDE; takes a score; weak order 1."""

    takes: ClassVar[str] = "score"

    @property
    def draws(self) -> int:
        """One."""
        return 1

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        path = gaussian_path(self, process)
        ratio, times = path.a(s) / path.a(t), s + (t - s) * jnp.asarray((_NODES + 1) / 2)
        pull = path.a(s) * (t - s) / 2 * (jnp.asarray(_WEIGHTS) @ jax.vmap(lambda time: path.diffusion(time) / path.a(time))(times))
        variance = ratio**2 * path.noise_variance(t) - path.noise_variance(s)
        return ratio * x + pull * field(t, x) + jnp.sqrt(jnp.maximum(variance, 0.0)) * z[0]
