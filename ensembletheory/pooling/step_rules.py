r"""Rules that act step by step: another member's field at every step, and averaged noise.

`Alternating` draws at each step one member k with probability w_k and moves by its field. The mean of one step is that of the averaged field, so that the law tends to the
averaged field's as the steps shrink, at order 1; in finitely many steps it is a mixture over all choices, whose moments obey the recursion of the test.

`ScaledNoise` multiplies the noise of a scheme. With the mean of the scores and the factor 1/sqrt(K) it is the rule "deviation", whose noise is the average of K draws:
of centred members whose averaged score gives the variance V it makes V/K (infinite horizon, short steps), so that even equal members lose K - 1 parts of K of their variance.

Source of the rules: Razafindralambo et al. (2026) and its code; the laws are derived here.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ensembletheory.errors import is_concrete, refuse
from ensembletheory.fields import Batching, Field, MeanField
from ensembletheory.processes import Process
from ensembletheory.samplers import Scheme

__all__ = ["Alternating", "ScaledNoise"]


class _Wrapped(Scheme):
    """A scheme around another, which takes the same field."""

    scheme: Scheme

    @property
    def takes(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the inner scheme takes."""
        return self.scheme.takes

    def check(self, process: Process, grid: Float[Array, " n"]) -> None:
        """What the inner scheme refuses."""
        self.scheme.check(process, grid)


class Alternating(_Wrapped):
    """A scheme whose every step moves by one field of a `MeanField`, drawn with its weights; it has samples, and no law in closed form."""

    scheme: Scheme

    def __init__(self, scheme: Scheme):
        self.scheme = scheme

    @property
    def draws(self) -> int:
        """The scheme's and one that chooses the member."""
        return self.scheme.draws + 1

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        mean = _members(field)
        chosen = jnp.sum(jax.scipy.special.ndtr(z[-1, 0]) > jnp.cumsum(mean.weights)[:-1])
        return self.scheme.step(process, _Chosen(mean, chosen), t, s, x, z[:-1])

    def branches(self, field: Field) -> list[tuple[float | Float[Array, ""], Scheme, Field]]:
        """The members."""
        mean = _members(field)
        return [(mean.weights[k], self.scheme, member) for k, member in enumerate(mean.fields)]


def _members(field: Field) -> MeanField:
    mean = field.field if isinstance(field, Batching) else field
    if not isinstance(mean, MeanField):
        refuse("field", type(mean).__name__, "a MeanField, whose members take turns", "Pass et.MeanField(fields, weights).")
    return mean


class _Chosen(Field):
    """The field of one index."""

    mean: MeanField
    index: Int[Array, ""]

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.mean.each(lambda field: Batching(field)(t, x))[self.index]


class ScaledNoise(_Wrapped):
    """A scheme with its noise multiplied by a factor; with 1/sqrt(K) the rule "deviation", averaged noise of K draws.

    Raises:
        ValueError: if the factor is negative.
    """

    scheme: Scheme
    factor: float | Float[Array, ""]

    def __init__(self, scheme: Scheme, factor: float | Float[Array, ""]):
        self.scheme, self.factor = scheme, factor

    def __check_init__(self):
        if is_concrete(self.factor) and not self.factor >= 0:
            refuse("factor", f"{float(self.factor):.6g}", "a number >= 0", "It multiplies every draw of noise.")

    @property
    def draws(self) -> int:
        """The scheme's."""
        return self.scheme.draws

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        return self.scheme.step(process, field, t, s, x, self.factor * z)
