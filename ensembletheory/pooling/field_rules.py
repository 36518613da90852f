r"""Rules that combine the members' vectors v_1, ..., v_K at every time and point: fields of fields, for scores, noise predictions and velocities alike.

| rule | vector | law of the sampler for Gaussian members |
|---|---|---|
| `MeanField` (arithmetic) | sum_k w_k v_k | `mean_score_law`; a `Sampler`'s own `law` in finitely many steps |
| `WeightedSum` | sum_k c_k v_k: the sum of scores (c = 1), guidance (c = g, 1 - g) | `score_sum_law`; likewise |
| `PosteriorWeighted` | sum_k r_k(t, x) s_k, r_k the posterior probability of member k | the linear pool, exactly |
| `MedianField` | the median, coordinate by coordinate | none: not affine (centred members on the line: the member of middle variance) |
| `DominantField` | the entry of largest magnitude, sign kept | none: not affine (centred members on the line, scores: the member of smallest variance) |
| `ShiftedGeometricField` | exp( mean_k log(v_k + o) ) - o, o an offset that makes all entries positive | none |

Coordinate by coordinate, the last is at most the mean, by AM-GM: v_geo ~ mean - Var_k(v) / (2 (mean + o)). It does not commute with x -> -x, which moves the mean of
symmetric data, and the offset is an arbitrary number: taken from the points at hand, as in the published code, the vector at a point depends on the other points of its batch,
and the draws of a sampler are no longer independent. Here the offset is given. Scores and noise predictions are proportional, so rules that commute with positive factors
agree on both; that of the offset does not. Velocities are affine in scores, which means, medians and sums to one respect, and the dominant entry does not: apply it to scores
and convert.

The fields come as a list or as a stack (`ensembletheory.fields`).

Source of the rules: Razafindralambo et al. (2026) and its code; the laws are derived here.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.fields import CombinedField, Field, Fields, checked_fields
from ensembletheory.laws import Law
from ensembletheory.laws.weights import relative_terms
from ensembletheory.pooling.mean_score import checked_coefficients
from ensembletheory.pooling.members import Member, checked_laws
from ensembletheory.processes import Process

__all__ = ["AnyRule", "DominantField", "MedianField", "PosteriorWeighted", "RelativeNoise", "ShiftedGeometricField", "WeightedSum"]


class WeightedSum(CombinedField):
    """sum_k c_k v_k with any coefficients: ones sum the members' vectors, (g, 1 - g) guides from the second to the first with scale g. For averages see `MeanField`.

    Raises:
        ValueError: if there is no field, kinds or processes differ, or there is not one finite coefficient a field.
    """

    fields: Fields
    coefficients: Float[Array, " K"]

    def __init__(self, fields: Sequence[Field] | Field, coefficients: Numbers):
        self.fields = checked_fields(fields)
        self.coefficients = checked_coefficients(coefficients, len(self.fields))

    def combine(self, vectors: Float[Array, "K *points d"]) -> Float[Array, "*points d"]:
        """sum_k c_k v_k."""
        return jnp.tensordot(self.coefficients, vectors, axes=1)


class _Selected(CombinedField):
    """Entries of members that stand out, coordinate by coordinate."""

    @property
    def piecewise(self) -> bool:
        """It is, for several members."""
        return len(self.fields) > 1


class MedianField(_Selected):
    """The median of each coordinate; of an even number the midpoint of the two middle values (torch takes the lower, which is not symmetric). NaN where a member is NaN.

    Raises:
        ValueError: if there is no field, or kinds or processes differ.
    """

    fields: Fields

    def __init__(self, fields: Sequence[Field] | Field):
        self.fields = checked_fields(fields)

    def combine(self, vectors: Float[Array, "K *points d"]) -> Float[Array, "*points d"]:
        """The median."""
        ordered = jnp.sort(vectors, axis=0)  # NaN comes last
        middle = (ordered[(len(self.fields) - 1) // 2] + ordered[len(self.fields) // 2]) / 2
        return jnp.where(jnp.isnan(ordered[-1]), ordered[-1], middle)


class DominantField(_Selected):
    """The entry of largest magnitude of each coordinate, its sign kept; the first of equals.

    Raises:
        ValueError: if there is no field, or kinds or processes differ.
    """

    fields: Fields

    def __init__(self, fields: Sequence[Field] | Field):
        self.fields = checked_fields(fields)

    def combine(self, vectors: Float[Array, "K *points d"]) -> Float[Array, "*points d"]:
        """The dominant entry."""
        chosen = jnp.argmax(jnp.abs(vectors), axis=0)
        return jnp.take_along_axis(vectors, chosen[None], axis=0)[0]


class ShiftedGeometricField(CombinedField):
    """The geometric mean of the entries shifted by an offset, shifted back; what is wrong with it is said in the module. Entries below -offset give NaN.

    Raises:
        ValueError: if there is no field, kinds or processes differ, or the offset is not positive.
    """

    fields: Fields
    offset: Float[Array, ""]

    def __init__(self, fields: Sequence[Field] | Field, offset: Numbers):
        self.fields, self.offset = checked_fields(fields), as_floats("offset", offset)
        if is_concrete(self.offset) and not self.offset > 0:
            refuse("offset", f"{float(self.offset):.6g}", "a positive number", "It must exceed the magnitude of every negative entry that is met.")

    def combine(self, vectors: Float[Array, "K *points d"]) -> Float[Array, "*points d"]:
        """exp( mean_k log(v_k + o) ) - o."""
        return jnp.exp(jnp.mean(jnp.log(vectors + self.offset), axis=0)) - self.offset


class AnyRule(CombinedField):
    """The rule of one index among rules of the same fields, so that all of them are one compiled program."""

    rules: tuple[CombinedField, ...]
    index: Int[Array, ""]

    def __init__(self, rules: tuple[CombinedField, ...], index: Int[Array, ""]):
        self.rules, self.index = rules, index

    @property
    def fields(self) -> Fields:
        """Those of the rules."""
        return self.rules[0].fields

    @property
    def piecewise(self) -> bool:
        """Whether one of the rules may be."""
        return any(rule.piecewise for rule in self.rules)

    def combine(self, vectors: Float[Array, "K *points d"]) -> Float[Array, "*points d"]:
        """That rule."""
        return jax.lax.switch(self.index, [lambda vectors, rule=rule: rule.combine(vectors) for rule in self.rules], vectors)


class PosteriorWeighted(Field):
    """sum_k r_k(t, x) s_k(t, x), with r_k proportional to w_k q_{k,t}(x): the exact score of the linear pool, for members with exact noised densities.

    Args:
        process: the noising process, the same for all members.
        members: laws (or PPCA models).
        weights: on the simplex; default equal.

    Raises:
        ValueError: if there is no member, dimensions differ, or the weights are off the simplex.
    """

    process: Process
    laws: tuple[Law, ...]
    scores: tuple[Field, ...]
    weights: Float[Array, " K"]

    def __init__(self, process: Process, members: Sequence[Member], weights: Numbers | None = None):
        laws, self.weights = checked_laws(members, weights)
        self.process, self.laws, self.scores = process, tuple(laws), tuple(process.score(law) for law in laws)

    @property
    def kind(self) -> str:
        """A score."""
        return "score"

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one point x."""
        log_densities = jnp.stack([self.process.marginal(law, t)._log_prob(x) for law in self.laws])
        return relative_terms(self.weights, log_densities) @ jnp.stack([score(t, x) for score in self.scores])

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse a time at which a member has no density."""
        for score in self.scores:
            score.check(t)


class RelativeNoise(Field):
    """v + size (|v| / |z|) z with one direction z for all times and points: a field whose relative error is `size` everywhere.

    Args:
        field: the field v.
        direction: z (d,), drawn once.
        size: the relative error >= 0.

    Raises:
        ValueError: if z is not a vector other than 0, or the size is negative.
    """

    field: Field
    direction: Float[Array, " d"]
    size: Float[Array, ""]

    def __init__(self, field: Field, direction: Numbers, size: Numbers):
        self.field, self.direction, self.size = field, as_floats("direction", direction), as_floats("size", size)
        if self.direction.ndim != 1 or (is_concrete(self.direction) and not jnp.any(self.direction != 0)):
            refuse("direction", f"shape {self.direction.shape}, or zeros", "a vector (d,) other than 0", "Draw it from N(0, I), once.")
        if is_concrete(self.size) and not self.size >= 0:
            refuse("size", f"{float(self.size):.6g}", "a number >= 0", "It is the relative error of the field.")

    @property
    def kind(self) -> Any:
        """That of the field."""
        return self.field.kind

    @property
    def piecewise(self) -> bool:
        """It is, on the line: |v| has a kink."""
        return True

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one point x."""
        return self._disturbed(self.field(t, x))

    def batch(self, t: Float[Array, ""], points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The vectors at time t and many points."""
        return jax.vmap(self._disturbed)(self.field.batch(t, points))

    def check(self, t: Float[Array, ""]) -> None:
        """What the field refuses."""
        self.field.check(t)

    def _disturbed(self, v: Float[Array, " d"]) -> Float[Array, " d"]:
        return v + self.size * jnp.linalg.norm(v) * self.direction / jnp.linalg.norm(self.direction)
