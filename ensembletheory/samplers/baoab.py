r"""Splittings of the kinetic Langevin diffusion of any target p(x), with `field` the score (grad log p(x), -v / M) of positions and momenta, the same at all times.

    B:  v <- v + beta h grad log p(x),     A:  x <- x + beta h v / M,     O:  v <- e v + (M (1 - e^2))^{1/2} z,  e = exp(-Gamma beta h / M),

in the order of the letters, a letter that stands n times with h / n each time. For a Gaussian target of precision k in some direction, with h for beta h, BAOAB keeps exactly

    x ~ N(0, 1/k),     v ~ N(0, M (1 - h^2 k / (4 M))),     independent,     where h^2 k < 4 M:

positions carry no bias of the step, whatever the friction. For where O acts, the law is N(0, (1 - h^2 k / (4 M)) / k) x N(0, M), which O keeps as every law with these
momenta, and ABBA, a step of Verlet's, as a function of the energy that it keeps; half an A and half a B carry it to the above.
Source: Leimkuhler & Matthews (2013).
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
from ensembletheory.samplers.sscs import require_kinetic

__all__ = ["Baoab"]


class Baoab(Scheme):
    """A palindromic splitting; takes the score of `KineticProcess.target_score`; weak order 2. The grid of a sampler gives the steps, and time changes nothing else.

    Args:
        letters: the order of the parts of a step, such as "BAOAB", "OBABO" or "ABOBA".

    Raises:
        ValueError: if the letters are not a palindrome of A, B and O, each there.
    """

    takes: ClassVar[str] = "score"
    letters: str = eqx.field(static=True, default="BAOAB")

    def __check_init__(self):
        if set(self.letters) != set("ABO") or self.letters != self.letters[::-1]:
            refuse("letters", repr(self.letters), "a palindrome of A, B and O, each there", "Other orders are of weak order 1.")

    @property
    def draws(self) -> int:
        """One each O."""
        return self.letters.count("O")

    def step(self, process: KineticProcess, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point that follows x a time t - s later."""
        position, momentum = jnp.split(x, 2)
        draws = iter(z)
        for letter in self.letters:
            h = process.rate * (t - s) / self.letters.count(letter)
            if letter == "A":
                position = position + h * momentum / process.mass
            elif letter == "B":
                force, _ = jnp.split(field(t, jnp.concatenate([position, momentum])), 2)
                momentum = momentum + h * force
            else:
                decay = process.friction * h / process.mass
                kick = jnp.sqrt(-process.mass * jnp.expm1(-2 * decay))
                momentum = jnp.exp(-decay) * momentum + kick * jnp.split(next(draws), 2)[1]
        return jnp.concatenate([position, momentum])

    def check(self, process: Process, grid: Float[Array, " n"]) -> None:
        """Refuse a process that is not kinetic."""
        require_kinetic(self, process)
