"""One description of the instances of a claim: a strategy, a chart, random draws and rational neighbours all follow from it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory import errors
from ensembletheory.claims.parts import Part

__all__ = ["LEAST", "Domain", "NoRational"]

LEAST = 1e-12  # uniform draws stay above it, so that their logits are finite
EDGE = 3.0  # about half of the random draws are spread by this factor, towards the boundary of the box, where extremes of margins often lie


class NoRational(ValueError):
    """The set holds no point of fractions that small near the given one."""


class Domain:
    """The instances of a claim: one named part per argument of its margin."""

    def __init__(self, **parts: Any):
        for name, part in parts.items():
            if not isinstance(part, Part):
                errors.refuse(name, type(part).__name__, "a part of a domain", "Use real, positive, simplex, spd or orthogonal of ensembletheory.claims.")
        if not parts:
            errors.refuse("parts", "none", "at least one named part", "Write Domain(mean=real(-3, 3)).")
        self.parts: Mapping[str, Part] = dict(parts)
        self._spread_instance = jax.jit(lambda uniform: self.instance(self.spread(uniform)))

    def __str__(self) -> str:
        return "; ".join(f"{name} in {part}" for name, part in self.parts.items())

    def replace(self, **parts: Part) -> "Domain":
        """This domain with some parts replaced or added."""
        return Domain(**{**self.parts, **parts})

    @property
    def size(self) -> int:
        """Number of coordinates of the chart."""
        return sum(part.size for part in self.parts.values())

    def instance(self, u: Float[Array, " n"]) -> dict[str, Float[Array, "..."]]:
        """The instance with coordinates `u`, of `size` numbers; smooth in `u` and never outside the domain."""
        ends = np.cumsum([part.size for part in self.parts.values()])
        pieces = jnp.split(u, ends[:-1].tolist())
        return {name: part.point(piece) for (name, part), piece in zip(self.parts.items(), pieces, strict=True)}

    def spread(self, uniform: Float[Array, " m"]) -> Float[Array, " n"]:
        """Coordinates out of `size` + 1 numbers in (0, 1): uniform on the boxes if the first is below 1/2, else nearer to their boundary."""
        return jax.scipy.special.logit(uniform[1:]) * jnp.where(uniform[0] < 0.5, 1.0, EDGE)

    def sample(self, key: PRNGKeyArray) -> dict[str, Float[Array, "..."]]:
        """A random instance."""
        return self._spread_instance(jax.random.uniform(key, (self.size + 1,), minval=LEAST))

    def strategy(self) -> Any:
        """Hypothesis strategy of instances, as dictionaries of NumPy arrays.

        Raises:
            ImportError: without hypothesis, naming the extra that brings it.
        """
        try:
            import hypothesis.strategies as st
        except ImportError:
            errors.missing_extra("hypothesis", "test")
        return st.fixed_dictionaries({name: part.strategy() for name, part in self.parts.items()})

    def check(self, instance: Mapping[str, Any]) -> dict[str, Float[Array, "..."]]:
        """`instance` as arrays, if it belongs to the domain.

        Raises:
            ValueError: naming the part that is missing, unknown, of the wrong shape, not finite, or outside its set.
        """
        if set(instance) != set(self.parts):
            errors.refuse("instance", f"the names {sorted(instance)}", f"exactly {sorted(self.parts)}", "Give every argument of the margin once.")
        return {name: self._check_part(name, instance[name]) for name in self.parts}

    def _check_part(self, name: str, value: Any) -> Float[Array, "..."]:
        part, array = self.parts[name], errors.as_floats(name, value)
        if array.shape != part.shape:
            errors.refuse(name, f"shape {array.shape}", f"shape {part.shape}", f"The domain says: {name} in {part}.")
        complaint = part.complaint(np.asarray(array))
        if complaint is not None:
            errors.refuse(name, complaint, str(part), "Move the instance into the domain, or widen the domain of the claim.")
        return array

    def snap(self, instance: Mapping[str, Any], bound: int) -> dict[str, np.ndarray]:
        """An instance near `instance`, still in the domain, made of fractions no higher than `bound` (see `rationals`; its `floats` turns them into numbers).

        Raises:
            NoRational: if some part has no such point.
        """
        snapped = {name: part.snap(np.asarray(instance[name], dtype=float), bound) for name, part in self.parts.items()}
        for name, value in snapped.items():
            if value is None:
                raise NoRational(f"`{name}`: no point of {self.parts[name]} is made of fractions as small as `bound` = {bound} asks; ask for a larger bound")
        return {name: value for name, value in snapped.items() if value is not None}
