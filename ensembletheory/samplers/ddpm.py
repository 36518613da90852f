r"""The ancestral sampler of denoising diffusion models on a VP path, with `field` a score.

From t to s < t, with b = (t - s) g_t^2 the discrete beta:   x_s = [ x_t + b score(t, x_t) ] / sqrt(1 - b) + sqrt(b) z.

The noise variance is b, not the smaller one of the posterior given X_0 (for that, `Ddim` with eta = 1). Source: Ho et al. (2020), in the form of Pierret & Galerne (2025).
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.fields import Field
from ensembletheory.processes import GaussianPath, Process
from ensembletheory.samplers.scheme import Scheme, gaussian_path

__all__ = ["Ddpm"]


class Ddpm(Scheme):
    """The DDPM step on a VP path; takes a score; weak order 1; exact for N(0, I)."""

    takes: ClassVar[str] = "score"

    @property
    def draws(self) -> int:
        """One."""
        return 1

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        b = (t - s) * gaussian_path(self, process).diffusion(t)
        return (x + b * field(t, x)) / jnp.sqrt(1 - b) + jnp.sqrt(b) * z[0]

    def check(self, process: Process, grid: Float[Array, " n"]) -> None:
        """Refuse paths that do not preserve variance, and steps so long that b >= 1."""
        path = gaussian_path(self, process)
        power, betas = _powers_and_betas(path, grid)
        if not np.allclose(power, 1.0, atol=1e-9):
            refuse("process", f"a path with a^2 + s^2 up to {np.max(power):.6g}", "one that preserves variance, a^2 + s^2 = 1", "Use Ddim(eta=1.0).")
        if np.max(betas) >= 1:
            got = f"{grid.size} nodes, with a discrete beta of {np.max(betas):.4g}"
            refuse("grid", got, "steps with (t - s) g_t^2 < 1", "Use more nodes, or shorter steps near the noise.")


@eqx.filter_jit
def _powers_and_betas(path: GaussianPath, grid: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " m"]]:
    power = jax.vmap(lambda t: path.a(t) ** 2 + path.noise_variance(t))(grid)
    return power, (grid[:-1] - grid[1:]) * jax.vmap(path.diffusion)(grid[:-1])
