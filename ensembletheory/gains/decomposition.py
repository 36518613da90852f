"""What every decomposition of an ensemble's error returns: named terms, each computed on its own, that sum."""

from collections.abc import Sequence

import equinox as eqx
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws.weights import checked_weights

__all__ = ["Decomposition", "checked_predictions", "weighted_sum"]


class Decomposition(eqx.Module):
    """`ensemble` = `average` - `diversity`: the error of the ensemble, that of its members on average, and what they differ by."""

    average: Estimate
    diversity: Estimate
    ensemble: Estimate

    @property
    def residual(self) -> Estimate:
        """`average` - `diversity` - `ensemble`: zero up to rounding and the terms' errors."""
        return self.average - self.diversity - self.ensemble

    def __str__(self) -> str:
        return terms_of(self)


def terms_of(decomposition: eqx.Module) -> str:
    """One line a term."""
    names = list(decomposition.__dataclass_fields__)
    width = max(map(len, names))
    return "\n".join(f"{name:>{width}}  {getattr(decomposition, name)}" for name in names)


def weighted_sum(weights: Float[Array, " K"], terms: Sequence[Estimate]) -> Estimate:
    """sum_k w_k terms[k]."""
    total = terms[0] * weights[0]
    for weight, term in zip(weights[1:], terms[1:], strict=True):
        total = total + term * weight
    return total


def checked_predictions(predictions: Numbers, weights: Numbers | None, ndim: int, shape: str) -> tuple[Float[Array, "..."], Float[Array, " K"]]:
    """Predictions with `ndim` axes, of which the last but one runs over the members, and their weights.

    Raises:
        ValueError: if the number of axes is another, there is no member, or the weights are off the simplex.
    """
    array = as_floats("predictions", predictions)
    if array.ndim != ndim or 0 in array.shape:
        refuse("predictions", f"shape {array.shape}", shape, "One row a member, one column a coordinate of the prediction; a scalar prediction has one column.")
    return array, checked_weights(weights, array.shape[-2])
