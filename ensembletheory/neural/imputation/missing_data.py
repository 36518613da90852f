r"""Rows with holes as networks see them: the law of joined rows (x with 0 where missing, o), o_j = 1 where x_j is observed and 0 where not, in 2 d columns.

As a `FiniteLaw` it is weighted, sampled and resampled like all data of `ensembletheory.neural`. The units of a column are the mean and the standard deviation of its observed
values; under a mechanism that is not completely at random these are not those of the column.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ensembletheory.errors import Numbers, refuse
from ensembletheory.fitting.rows import read_values
from ensembletheory.laws import FiniteLaw, Law
from ensembletheory.neural.units import Units

__all__ = ["joined_law", "observed_units", "own_units", "parted", "values_and_observed"]


def values_and_observed(table: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, "n d"], Bool[np.ndarray, "n d"]]:
    """Values with 0 where missing, and where they are observed, of rows with NaN for missing."""
    observed = ~np.isnan(table)
    return np.where(observed, table, 0.0).astype(table.dtype), observed


def joined_law(X: Numbers, weights: Numbers | None = None) -> FiniteLaw:
    """The law of the joined rows of a table X (n, d) with NaN for missing, of weights (n,) on the simplex, 1/n each by default.

    Raises:
        ValueError: if X is not a table of numbers, holds an infinity or a column without an observed value, or the weights are off the simplex.
    """
    values, observed = values_and_observed(read_values(X))
    law = FiniteLaw(np.concatenate([values, observed], axis=1), weights)
    empty = np.flatnonzero(np.asarray(law.weights) @ observed == 0)
    if empty.size:
        refuse("X", f"columns {empty.tolist()} without an observed value", "one or more a column (in a row of positive weight)", "Leave these columns out.")
    return law


def parted(row: Float[Array, " two_d"]) -> tuple[Float[Array, " d"], Bool[Array, " d"]]:
    """Values and where they are observed, of one joined row."""
    d = len(row) // 2
    return row[:d], row[d:] > 0


@eqx.filter_jit
def observed_units(law: FiniteLaw) -> Units:
    """Mean and standard deviation of the observed values of each column, of a law of joined rows; where these are all the same the scale is 1."""
    values, observed = jnp.split(law.points, 2, axis=1)
    weights = law.weights[:, None] * observed
    total = jnp.sum(weights, axis=0)
    shares = weights / jnp.where(total > 0, total, 1.0)[None, :]  # a resampled law may see nothing of a column
    mean = jnp.sum(shares * values, axis=0)
    varies = jnp.max(values, axis=0, where=weights > 0, initial=-jnp.inf) > jnp.min(values, axis=0, where=weights > 0, initial=jnp.inf)
    return _units(mean, jnp.where(varies, jnp.sqrt(jnp.sum(shares * (values - mean[None, :]) ** 2, axis=0)), 0.0))


@eqx.filter_jit
def own_units(law: Law) -> Units:
    """Mean 0 and scale 1 for each column, of a law of joined rows: the units that the data come in."""
    zeros = jnp.zeros(law.dim // 2)
    return _units(zeros, zeros + 1)


def _units(mean: Float[Array, " d"], deviation: Float[Array, " d"]) -> Units:
    """Of the law of the two points mean +- deviation."""
    return Units(FiniteLaw(jnp.stack([mean - deviation, mean + deviation])), slice(None))
