r"""Mechanisms: which values of complete rows are seen. `observed` (True = seen) has the shape of the rows.

With m the missing pattern of a row x = (x_o, x_u) and P(m | x) the mechanism, the likelihood of what is observed is p(x_o, m) = int p(x_o, x_u) P(m | x_o, x_u) dx_u.
 - Missing completely at random (MCAR): P(m | x) does not depend on x: `CompletelyAtRandom`, `CellsAtRandom`.
 - Missing at random (MAR): it depends on what that pattern shows, x_o, alone: `AtRandom`. Then p(x_o, m) = p(x_o) P(m | x_o): the mechanism drops out of the likelihood of
   the law's parameters and of the law of x_u given (x_o, m), which is that given x_o (Rubin 1976).
 - Missing not at random (MNAR): it depends on the hidden values: `SelfMasked`, `AboveMean`. Whoever ignores it is biased; `SelfMaskedGaussian` says by how much.

A mechanism whose cells are missing independently given x is a `CellMechanism`: it has the probability of each cell, hence of each pattern.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.special import expit, log_expit, log_ndtr, ndtr

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse

__all__ = ["AboveMean", "AtRandom", "CellMechanism", "CellsAtRandom", "CompletelyAtRandom", "Mechanism", "SelfMasked", "masked"]

Link = Literal["logistic", "probit"]

_ROUNDING = 1e-12  # relative, below which a product counts as rounded


class Mechanism(eqx.Module):
    """A random choice of which values are seen, given complete rows."""

    @abstractmethod
    def observed(self, key: PRNGKeyArray, X: Numbers) -> Bool[Array, "n d"]:
        """Which values of the complete rows X (n, d) are seen.

        Raises:
            ValueError: if X is not a complete table, or has not the columns that the mechanism names.
        """


class CellMechanism(Mechanism):
    """A mechanism whose cells are missing independently given the complete row."""

    @abstractmethod
    def missing_probability(self, X: Numbers) -> Float[Array, "n d"]:
        """The probability that each value of the complete rows X (n, d) is missing.

        Raises:
            ValueError: if X is not a complete table, or has not the columns that the mechanism names.
        """

    def observed(self, key: PRNGKeyArray, X: Numbers) -> Bool[Array, "n d"]:
        """Which values of the complete rows X (n, d) are seen."""
        missing = np.asarray(self.missing_probability(X))
        return jnp.asarray(np.asarray(jax.random.uniform(key, missing.shape, missing.dtype)) >= missing)

    def log_prob(self, X: Numbers, observed: Bool[Array, "n d"] | np.ndarray) -> Float[Array, " n"]:
        """The log-probability of the pattern of each complete row.

        Raises:
            ValueError: if the shapes do not agree.
        """
        missing, seen = self._log_chances(X)
        if np.shape(observed) != missing.shape:
            refuse("observed", f"shape {np.shape(observed)}", f"{missing.shape}, that of X", "One truth value a cell.")
        return jnp.asarray(np.sum(np.where(observed, seen, missing), axis=1))

    def _log_chances(self, X: Numbers) -> tuple[np.ndarray, np.ndarray]:
        """The log-probabilities that each value is missing, and that it is seen."""
        missing = np.asarray(self.missing_probability(X))
        with np.errstate(divide="ignore"):
            return np.log(missing), np.log1p(-missing)


class _ScoredMechanism(CellMechanism):
    """A mechanism whose cells are missing with probability link(score)."""

    link: eqx.AbstractVar[Link]

    @abstractmethod
    def _scores(self, X: Numbers) -> np.ndarray:
        """The score of each value of the complete rows X (n, d); -inf in columns that hide none."""

    def missing_probability(self, X: Numbers) -> Float[Array, "n d"]:
        """The probability that each value is missing; 0 in columns that hide none."""
        return jnp.asarray(_linked(self._scores(X), self.link))

    def _log_chances(self, X: Numbers) -> tuple[np.ndarray, np.ndarray]:
        """From the scores, as a probability close to 1 leaves none of the digits of its complement."""
        scores, log = self._scores(X), {"logistic": log_expit, "probit": log_ndtr}[_checked_link(self.link)]
        return log(scores), log(-scores)


class CompletelyAtRandom(CellMechanism):
    """Each value is missing with probability `rate`, independently.

    Raises:
        ValueError: if the rate is not in [0, 1].
    """

    rate: float

    def __check_init__(self):
        _require_share("rate", self.rate)

    def missing_probability(self, X: Numbers) -> Float[Array, "n d"]:
        """The rate, for every cell."""
        return jnp.asarray(np.full(_complete(X).shape, self.rate, jnp.result_type(float)))


class CellsAtRandom(Mechanism):
    """Exactly floor(share n d) of the cells are missing, all choices being equally likely.

    A product that rounding alone puts below a whole number, such as 0.29 times 100, counts as that number.

    Raises:
        ValueError: if the share is not in [0, 1].
    """

    share: float

    def __check_init__(self):
        _require_share("share", self.share)

    def observed(self, key: PRNGKeyArray, X: Numbers) -> Bool[Array, "n d"]:
        """Which values of the complete rows X (n, d) are seen."""
        shape = _complete(X).shape
        size = shape[0] * shape[1]
        return jnp.asarray(np.asarray(jax.random.permutation(key, size)).reshape(shape) >= int(np.floor(self.share * size * (1 + _ROUNDING))))


class AtRandom(_ScoredMechanism):
    """The columns `given` are always seen; every other value is missing with probability link(intercept + slopes . x_given): missing at random.

    Args:
        given: columns that are always seen.
        slopes: one for each of them; or (others, len(given)), a row for each other column, in order.
        intercept: a number, or one for each other column.
        link: "logistic" or "probit".

    Raises:
        ValueError: if shapes do not agree or a column occurs twice.
    """

    given: tuple[int, ...] = eqx.field(static=True)
    slopes: Float[Array, "... g"]
    intercept: Float[Array, "..."]
    link: Link = eqx.field(static=True)

    def __init__(self, given: Sequence[int], slopes: Numbers, intercept: Numbers = 0.0, link: Link = "logistic"):
        self.given, self.link = _columns("given", given), link
        self.slopes, self.intercept = as_floats("slopes", slopes), as_floats("intercept", intercept)
        if self.slopes.ndim not in (1, 2) or self.slopes.shape[-1] != len(self.given) or self.intercept.ndim > 1:
            got = f"shapes {self.slopes.shape} and {self.intercept.shape} for {len(self.given)} columns"
            refuse("slopes, intercept", got, "(given,) or (others, given), and a scalar or (others,)", "One slope for each column that is always seen.")

    def _scores(self, X: Numbers) -> np.ndarray:
        values = np.asarray(_complete(X, self.given))
        others = [j for j in range(values.shape[1]) if j not in self.given]
        if not others:
            refuse("X", f"{values.shape[1]} columns, all of them always seen", "at least one other", "Leave a column out of `given`.")
        count = len(others)
        for name, part, rows in (("slopes", self.slopes, self.slopes.ndim == 2), ("intercept", self.intercept, self.intercept.ndim == 1)):
            if rows and len(part) != count:
                refuse(name, f"{len(part)} rows", f"{count}, one for each column that is not always seen", "Match them to the columns of X.")
        shifts = np.asarray(self.intercept)[..., None] if self.intercept.ndim else np.asarray(self.intercept)
        scores = (np.broadcast_to(self.slopes, (count, len(self.given))) @ values[:, self.given].T + shifts).T
        return _in_columns(values, others, scores)


class SelfMasked(_ScoredMechanism):
    """A value x of the named columns is missing with probability link(slope (x - threshold)): not at random.

    Args:
        slope: how fast the probability rises; negative where small values hide; infinite for a hard threshold, at which a value is seen.
        threshold: where a value is missing with probability 1/2; a number, or one for each column named. So is the slope.
        columns: the columns that hide values; all by default.
        link: "probit", which keeps Gaussians in closed form, or "logistic".

    Raises:
        ValueError: if a slope is NaN, shapes do not agree or a column occurs twice.
    """

    slope: Float[Array, "..."]
    threshold: Float[Array, "..."]
    columns: tuple[int, ...] | None = eqx.field(static=True)
    link: Link = eqx.field(static=True)

    def __init__(self, slope: Numbers, threshold: Numbers = 0.0, columns: Sequence[int] | None = None, link: Link = "probit"):
        self.slope, self.threshold = jnp.asarray(slope, jnp.result_type(float)), as_floats("threshold", threshold)
        self.columns, self.link = None if columns is None else _columns("columns", columns), link
        shapes = {part.shape for part in (self.slope, self.threshold)} - {()}
        if len(shapes) > 1 or any(len(shape) != 1 or (columns is not None and shape != (len(columns),)) for shape in shapes):
            refuse("slope, threshold", f"shapes {self.slope.shape} and {self.threshold.shape}", "scalars, or one number a column", "Name as many columns.")
        if is_concrete(self.slope) and np.isnan(self.slope).any():
            refuse("slope", "NaN", "numbers, or infinity for a hard threshold", "A slope of 0 hides half of the values at random.")

    def _scores(self, X: Numbers) -> np.ndarray:
        values = np.asarray(_complete(X, self.columns or ()))
        which, slopes = self.hiding(values.shape[1]), np.asarray(self.slope)
        gaps = values[:, which] - np.asarray(self.threshold)
        with np.errstate(invalid="ignore"):
            return _in_columns(values, which, np.where(np.isinf(slopes) & (gaps == 0), -np.inf, slopes * gaps))

    def hiding(self, d: int) -> list[int]:
        """The columns that hide values, of rows with d columns.

        Raises:
            ValueError: if there are fewer columns, or there are not as many slopes or thresholds as columns that hide values.
        """
        which = list(range(d)) if self.columns is None else list(self.columns)
        if max(which) >= d or any(part.ndim and len(part) != len(which) for part in (self.slope, self.threshold)):
            got = f"{d} columns for a mechanism of columns {which}, slopes {self.slope.shape} and thresholds {self.threshold.shape}"
            refuse("mechanism", got, "columns that exist, and one slope and threshold for each", "Name the columns, or give one slope and threshold for all.")
        return which


class AboveMean(CellMechanism):
    """In the named columns every value above the mean of its column (over the rows given) is missing, for certain (Ipsen, Mattei & Frellsen 2021).

    Args:
        columns: the columns that hide values; by default the first half, floor(d / 2).

    Raises:
        ValueError: if a column occurs twice.
    """

    columns: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, columns: Sequence[int] | None = None):
        self.columns = None if columns is None else _columns("columns", columns)

    def missing_probability(self, X: Numbers) -> Float[Array, "n d"]:
        """1 where a value is missing, else 0."""
        values = np.asarray(_complete(X, self.columns or ()))
        which = list(range(values.shape[1] // 2)) if self.columns is None else list(self.columns)
        result = np.zeros(values.shape, values.dtype)
        result[:, which] = values[:, which] > values[:, which].mean(axis=0)
        return jnp.asarray(result)


def masked(X: Numbers, observed: Bool[Array, "n d"] | np.ndarray) -> Float[Array, "n d"]:
    """The rows X (n, d) with NaN where they are not observed.

    Raises:
        ValueError: if X is not a complete table, or the shapes do not agree.
    """
    values, seen = np.asarray(_complete(X)), np.asarray(observed)
    if seen.shape != values.shape or seen.dtype != bool:
        refuse("observed", f"{seen.dtype} of shape {seen.shape}", f"truth values of shape {values.shape}", "True marks what is seen.")
    return jnp.asarray(np.where(seen, values, np.nan))


def _in_columns(values: np.ndarray, which: list[int], scores: np.ndarray) -> np.ndarray:
    """The scores in their columns of a table like `values`, -inf in the others."""
    result = np.full(values.shape, -np.inf, values.dtype)
    result[:, which] = scores
    return result


def _linked(scores: np.ndarray, link: Link) -> np.ndarray:
    """The probabilities of scores."""
    return expit(scores) if _checked_link(link) == "logistic" else ndtr(scores)


def _checked_link(link: Link) -> Link:
    if link not in ("logistic", "probit"):
        refuse("link", repr(link), '"logistic" or "probit"', "They differ in their tails.")
    return link


def _complete(X: Numbers, columns: Sequence[int] = ()) -> Float[Array, "n d"]:
    """Complete rows that have the columns named.

    Raises:
        ValueError: otherwise.
    """
    values = as_floats("X", X)
    if values.ndim != 2 or 0 in values.shape:
        refuse("X", f"shape {values.shape}", "(n, d) with n, d >= 1", "One row an observation; for d = 1 write x[:, None].")
    if columns and max(columns) >= values.shape[1]:
        refuse("X", f"{values.shape[1]} columns", f"at least {max(columns) + 1}, as column {max(columns)} is named", "Count columns from 0.")
    return values


def _columns(argument: str, columns: Sequence[int]) -> tuple[int, ...]:
    """Different columns, counted from 0.

    Raises:
        ValueError: otherwise.
    """
    listed = tuple(int(column) for column in columns)
    if not listed or min(listed) < 0 or len(set(listed)) < len(listed):
        refuse(argument, str(listed), "one or more different columns, counted from 0", "List each column once.")
    return listed


def _require_share(argument: str, share: float) -> None:
    if not 0 <= share <= 1:
        refuse(argument, f"{share}", "a number from 0 to 1", "It is the share of the values that are missing.")
