r"""Data as fits see it: rows x_i in R^d, of which some coordinates are observed, with weights w_i >= 0.

A row of weight w counts as w copies of it, so a bootstrap resample is a vector of counts. Missing values are NaN on the way in; inside they are 0 and masked. Fits work
on (x - location) / scale, with location and scale made from the weighted mean and standard deviation of the observed values of each column; this makes them equivariant
to shifts and rescalings, and their rounding errors independent of the units.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse

__all__ = ["Rows", "Table", "blocks", "read_table", "read_values"]


class Rows(eqx.Module):
    """Rows for compiled code: values with 0 where missing; `observed` is None when nothing is missing."""

    values: Float[Array, "... n d"]
    observed: Bool[Array, "... n d"] | None
    weights: Float[Array, "... n"]


class Table(eqx.Module):
    """Checked rows as the user gave them, NaN for missing, with their weights; held by the host."""

    values: np.ndarray
    weights: np.ndarray

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not np.isnan(self.values).any()

    def location(self) -> np.ndarray:
        """The weighted mean of the observed values of each column."""
        seen = ~np.isnan(self.values)
        total = self.weights @ seen
        return self.weights @ np.where(seen, self.values, 0.0) / total

    def scale(self) -> np.ndarray:
        """The weighted standard deviation of the observed values of each column, exactly 0 for a constant column."""
        seen = ~np.isnan(self.values)
        kept = self.values[self.weights > 0]
        deviations = np.where(seen, self.values - self.location()[None, :], 0.0)
        return np.where(np.nanmin(kept, axis=0) == np.nanmax(kept, axis=0), 0.0, np.sqrt(self.weights @ deviations**2 / (self.weights @ seen)))

    def labels(self) -> np.ndarray:
        """A label for each row, equal for equal rows."""
        seen = ~np.isnan(self.values)
        return np.unique(np.hstack([np.where(seen, self.values, 0.0), seen]), axis=0, return_inverse=True)[1].ravel()

    def rows(self, location: np.ndarray, scale: np.ndarray) -> Rows:
        """The rows in the coordinates (x - location) / scale."""
        seen = ~np.isnan(self.values)
        values = np.where(seen, (self.values - location[None, :]) / scale[None, :], 0.0)
        return Rows(jnp.asarray(values), None if self.complete else jnp.asarray(seen), jnp.asarray(self.weights))


def read_table(X: Numbers, weights: Numbers | None) -> Table:
    """The rows `X` (n, d), NaN = missing, with weights (n,), 1 each by default.

    Raises:
        ValueError: if X is not a table of numbers, holds an infinity, a row or column without any observed value (of positive weight), or the weights do not fit.
    """
    values = read_values(X)
    weights = _read_weights(weights, values.shape[0])
    seen = ~np.isnan(values)
    _refuse_where(np.all(~seen, axis=1), "rows", "at least one observed value a row", "Drop rows that are wholly missing: they carry no information.")
    _refuse_where(
        np.all(~seen[weights > 0], axis=0), "columns", "at least one observed value (in a row of positive weight) a column", "Drop the columns that are wholly missing."
    )
    return Table(values, weights)


def blocks(rows: Rows, size: int) -> Rows:
    """The rows cut into blocks of `size` along a new leading axis, the last one filled with rows of weight 0."""
    n, d = rows.values.shape
    count = -(-n // size)
    missing = count * size - n
    values = jnp.pad(rows.values, ((0, missing), (0, 0))).reshape(count, size, d)
    observed = None if rows.observed is None else jnp.pad(rows.observed, ((0, missing), (0, 0))).reshape(count, size, d)
    return Rows(values, observed, jnp.pad(rows.weights, (0, missing)).reshape(count, size))


def read_values(X: Numbers) -> np.ndarray:
    """The rows `X` (n, d), NaN = missing.

    Raises:
        ValueError: if X is not a table of numbers with at least one row and column, or holds an infinity.
    """
    if not is_concrete(X):
        refuse("X", "an array traced by jit, vmap or grad", "rows whose values can be looked at", "Fit outside the transformation; several members fit in one call.")
    try:
        values = np.asarray(X, dtype=jnp.result_type(float))
    except (TypeError, ValueError) as error:
        refuse("X", f"{type(X).__name__} ({error})", "numbers in a regular table", "Pass a list of rows or an array, with NaN for missing values.")
    if values.ndim != 2 or 0 in values.shape:
        refuse("X", f"shape {values.shape}", "(n, d) with n, d >= 1", "One row an observation; for d = 1 write x[:, None].")
    if np.isinf(values).any():
        refuse("X", f"{int(np.isinf(values).sum())} infinite values", "finite numbers, or NaN for missing", "Replace the infinities.")
    return values


def _read_weights(weights: Numbers | None, n: int) -> np.ndarray:
    if weights is None:
        return np.ones(n, dtype=jnp.result_type(float))
    array = np.asarray(as_floats("weights", weights))
    if array.shape != (n,):
        refuse("weights", f"shape {array.shape}", f"({n},)", "One weight a row.")
    if (array < 0).any() or not array.sum() > 0:
        refuse("weights", f"smallest {array.min():.6g}, sum {array.sum():.6g}", "weights >= 0 with a positive sum", "Weights count how often a row occurs.")
    return array


def _refuse_where(bad: np.ndarray, what: str, expected: str, remedy: str) -> None:
    if bad.any():
        first = ", ".join(str(i) for i in np.flatnonzero(bad)[:5])
        refuse("X", f"{int(bad.sum())} {what} without any (index {first}{', ...' if bad.sum() > 5 else ''})", expected, remedy)
