r"""Euler-Maruyama for the kinetic Langevin diffusion of any target p(x), with `field` the score (grad log p(x), -v / M) of positions and momenta, the same at all times.

    x <- x + beta h v / M,     v <- v + beta h (grad log p(x) - Gamma v / M) + (2 Gamma beta h)^{1/2} z:

the baseline of `Baoab`, whose law at rest is off in positions, too, and explodes where the friction is small for the step.
"""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import Process
from ensembletheory.processes.kinetic import KineticProcess
from ensembletheory.samplers.scheme import Scheme
from ensembletheory.samplers.sscs import require_kinetic

__all__ = ["KineticEuler"]


class KineticEuler(Scheme):
    """Euler-Maruyama of a target's kinetic Langevin diffusion; takes the score of `KineticProcess.target_score`; weak order 1."""

    takes: ClassVar[str] = "score"

    @property
    def draws(self) -> int:
        """One."""
        return 1

    def step(self, process: KineticProcess, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point that follows x a time t - s later."""
        h, score = t - s, field(t, x)
        of_position, of_momentum = jnp.split(score, 2)
        flow = process.rate * jnp.concatenate([-of_momentum, of_position])
        return x + h * (flow + process.spread(t, score) / 2) + jnp.sqrt(h) * process.disturbance(t, z[0])

    def check(self, process: Process, grid: Float[Array, " n"]) -> None:
        """Refuse a process that is not kinetic."""
        require_kinetic(self, process)
