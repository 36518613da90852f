r"""SSCS, the symmetric splitting sampler of kinetic Langevin diffusions, with `field` a score of positions and momenta.

With Phi the flip of positions, the reverse of `UnderdampedLangevin` is Phi of the process itself, whose Gaussian kernel is known, plus a pull on the momenta,

    dv = 2 Gamma beta (score_v(t, z) + v / M) dt,

and a step from t to s, h = t - s, is half a step of the first, an Euler step h of the second, and half a step of the first again. Euler's step is of first order, and so is
the whole: with the score at the middle of the step instead of its beginning, too.
Source: Dockhorn, Vahdat & Kreis (2022), section 4.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.fields import Field
from ensembletheory.processes import Process
from ensembletheory.processes.kinetic import KineticProcess
from ensembletheory.samplers.scheme import Scheme

__all__ = ["Sscs", "require_kinetic"]


class Sscs(Scheme):
    """The symmetric splitting sampler; takes a score; weak order 1.

    Args:
        midpoint: whether the score is looked at in the middle of the step in time, not at its beginning.
    """

    takes: ClassVar[str] = "score"
    midpoint: bool = eqx.field(static=True, default=False)

    @property
    def draws(self) -> int:
        """One each half step."""
        return 2

    def step(self, process: KineticProcess, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "2 d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        h = t - s
        E, L = process.rooted_blocks(h / 2)
        flip = jnp.asarray([[-1.0], [1.0]])

        def half(x: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, " d"]:
            return (flip * (E @ (flip * x.reshape(2, -1)) + L @ z.reshape(2, -1))).ravel()

        x = half(x, z[0])
        pulled = process.spread(t, field((t + s) / 2 if self.midpoint else t, x) + x / process.mass)
        return half(x + h * pulled, z[1])

    def check(self, process: Process, grid: Float[Array, " n"]) -> None:
        """Refuse a process that is not kinetic."""
        require_kinetic(self, process)


def require_kinetic(scheme: Scheme, process: Process) -> None:
    """Refuse a process without positions and momenta.

    Raises:
        ValueError: naming both.
    """
    if not isinstance(process, KineticProcess):
        expected = f"a kinetic Langevin diffusion, whose positions and momenta {type(scheme).__name__} moves in turn"
        refuse("process", type(process).__name__, expected, "Use CriticallyDampedLangevin, or EulerMaruyama with this process.")
