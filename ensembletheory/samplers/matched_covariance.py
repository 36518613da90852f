r"""The ancestral step with the full posterior covariance, on any Gaussian path, with `field` a denoiser D: exact for Gaussian data, whatever the grid, where a_t > 0.

By Tweedie's second identity Cov(X_0 | X_t = x) = (s_t^2 / a_t) dD/dx, so the moments of X_s given X_t = x are those of the mean of `Ddim` with eta = 1 and of

    tau^2 I + (a_s - s_s^2 a_t^2 / (s_t^2 a_s))^2 (s_t^2 / a_t) dD/dx,

with tau^2 as there. For Gaussian data X_s given X_t is Gaussian. A step takes the derivative of the field, d evaluations of it, and a root of a d x d matrix.

Where a_t = 0, as at the end of `LinearInterpolant`, X_t says nothing of X_0: D is constant, its derivative is 0, and Cov(X_0) cannot be had from it. Such a grid is refused.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.fields import Field
from ensembletheory.linalg import sqrtm, symmetrised
from ensembletheory.processes import Process
from ensembletheory.samplers.ddim import posterior_variance, towards
from ensembletheory.samplers.scheme import Scheme, gaussian_path

__all__ = ["MatchedCovariance"]


class MatchedCovariance(Scheme):
    """The ancestral step with the posterior's mean and covariance; takes a denoiser; exact for Gaussian data where a_t > 0."""

    takes: ClassVar[str] = "denoiser"

    @property
    def draws(self) -> int:
        """One."""
        return 1

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        path = gaussian_path(self, process)
        noise_t, noise_s, own = path.noise_variance(t), path.noise_variance(s), posterior_variance(path, t, s)
        weight = path.a(s) - noise_s * path.a(t) ** 2 / (noise_t * path.a(s))
        slope = jax.jacfwd(lambda y: field(t, y))(x)
        covariance = own * jnp.eye(x.size, dtype=x.dtype) + weight**2 * noise_t / path.a(t) * symmetrised(slope)
        return towards(path, field(t, x), own, t, s, x) + sqrtm(jax.lax.stop_gradient(covariance)) @ z[0]

    def check(self, process: Process, grid: Float[Array, " n"]) -> None:
        """Refuse a grid that begins where nothing is left of the data."""
        first = np.asarray(grid)[0]
        if not float(gaussian_path(self, process).a(jnp.asarray(first))) > 0:
            refuse("grid", f"a first time of {first:.6g}, at which a_t = 0", "a_t > 0", "Begin where some of the data is left.")
