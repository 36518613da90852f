r"""Maximum likelihood for the self-masked Gaussian: law and mechanism together, from rows that hide values.

The log-likelihood sum_i log p(x_io, mask_i) of `self_masked` is exact and smooth in the mean, the Cholesky factor of the covariance (its diagonal by logarithms) and the
scores a_j + b_j x_j + e_j. It is climbed by L-BFGS with its exact gradient, in units of the columns' observed means and standard deviations, from slopes b of 0 (where the
mechanism can be ignored), 1 and -1; the best end is taken. With the mechanism given, only the law is fitted.

A mechanism is told from the law by the shape of the Gaussian alone: in dimension 1 by the skewness of what is seen, with more columns by how the regression of the hidden
column on the others bends. Where the other columns tell little, many rows are needed. A mask with a hard threshold drives the slope to infinity; the climb then ends where
gains fade.
"""

import warnings
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.optimize import OptimizeResult, minimize
from scipy.special import ndtri

from ensembletheory.errors import Numbers, refuse
from ensembletheory.fitting import NotConverged
from ensembletheory.fitting.checks import at_least
from ensembletheory.fitting.mixtures import checked_scale
from ensembletheory.fitting.rows import Table, read_values
from ensembletheory.imputation.masks import SelfMasked
from ensembletheory.imputation.self_masked import Scores, SelfMaskedGaussian, joint_log_prob, refuse_several, scores_of
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import symmetrised

__all__ = ["fit_self_masked"]

_STARTS = (0.0, 1.0, -1.0)
_FLAT = 1e-4  # largest slope of the log-likelihood a row at an end, in units of the columns


def fit_self_masked(X: Numbers, columns: list[int] | tuple[int, ...], *, mechanism: SelfMasked | None = None, max_iterations: int = 1000) -> SelfMaskedGaussian:
    """The self-masked Gaussian of largest likelihood, of rows X (n, d), NaN = missing, whose named columns hide values by a probit mechanism.

    Args:
        X: rows; a row may be wholly missing, which tells of the mechanism, but hides at most one of the named columns.
        columns: the columns that hide values; missing values of others are at random.
        mechanism: the mechanism of these columns, where it is known; by default it is fitted, with its sign.
        max_iterations: largest number of L-BFGS iterations from each start.

    Raises:
        ValueError: if X is not a table of numbers, holds an infinity, a constant column or one wholly missing; a row hides several values; a named column hides none and the
            mechanism is not given; the fitted slope is exactly 0, so that no mechanism is visible; or the mechanism is of other columns or has no positive likelihood.

    Warns:
        NotConverged: if the gradient at the end is not small.
    """
    table, which = _read(X, columns, mechanism is not None), sorted(int(column) for column in columns)
    known = _known(mechanism, which, table.values.shape[1])
    location, scale = table.location(), checked_scale(table)
    rows = table.rows(location, scale)
    begin = [_start(table.values, which, slope) for slope in ((0.0,) if known else _STARTS)]
    held = known and _standardised(known, location, scale)
    seen = jnp.asarray(~np.isnan(table.values))
    ends = [_climbed(one, held, rows.values, seen, which, at_least("max_iterations", max_iterations, 1)) for one in begin]
    best = min((end for end in ends if np.isfinite(end.fun)), key=lambda end: end.fun, default=None)
    if best is None:
        refuse("mechanism", "one under which these rows have no likelihood", "a mechanism that admits every row", "Check the threshold: values that it hides are seen.")
    if np.max(np.abs(best.jac)) > _FLAT:
        warnings.warn(f"L-BFGS left a slope of {np.max(np.abs(best.jac)):.2g} a row after {best.nit} iterations", NotConverged, stacklevel=2)
    return _as_model(_unravelled(jnp.asarray(best.x), table.values.shape[1], len(which)), mechanism, which, location, scale)


class _Parameters(NamedTuple):
    mean: Float[Array, " d"]
    root: Float[Array, "d d"]
    offset: Float[Array, " h"]
    slope: Float[Array, " h"]


@eqx.filter_jit
def _unravelled(vector: Float[Array, " p"], d: int, h: int) -> _Parameters:
    """Mean, root of the covariance, offsets and slopes of the scores."""
    mean, entries, offset, slope = jnp.split(vector, np.cumsum([d, d * (d + 1) // 2, h]))
    lower = jnp.zeros((d, d), vector.dtype).at[np.tril_indices(d)].set(entries)
    diagonal = jnp.diagonal(lower)
    return _Parameters(mean, lower - jnp.diag(diagonal) + jnp.diag(jnp.exp(diagonal)), offset, slope)


@eqx.filter_jit
@eqx.filter_value_and_grad
def _loss(vector: Float[Array, " p"], held: Scores | None, values: Float[Array, "n d"], observed: Bool[Array, "n d"], which: tuple[int, ...]) -> Float[Array, ""]:
    """Minus the mean log-likelihood of the rows."""
    d = values.shape[1]
    parts = _unravelled(vector, d, len(which))
    columns = np.asarray(which)
    scores = held or Scores(jnp.zeros(d).at[columns].set(parts.offset), jnp.zeros(d).at[columns].set(parts.slope), jnp.ones(d), jnp.asarray(np.isin(np.arange(d), columns)))
    cov = symmetrised(parts.root @ parts.root.T)
    return -jnp.mean(jax.vmap(lambda x, seen: joint_log_prob(parts.mean, cov, scores, x, seen))(values, observed))


def _climbed(begin: np.ndarray, held: Scores | None, values: Float[Array, "n d"], observed: Bool[Array, "n d"], which: list[int], most: int) -> OptimizeResult:
    def loss(vector):
        value, slope = _loss(jnp.asarray(vector), held, values, observed, tuple(which))
        return float(value), np.asarray(slope, dtype=float)

    return minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": most, "maxfun": 4 * most, "ftol": 1e-15, "gtol": 1e-9})


def _start(values: np.ndarray, which: list[int], slope: float) -> np.ndarray:
    """A standard normal, and scores that hide as many values as are hidden."""
    d = values.shape[1]
    shares = np.isnan(values[:, which]).mean(axis=0)
    offsets = ndtri(np.clip(shares, 1e-3, 1 - 1e-3)) * np.sqrt(1 + slope**2)
    return np.concatenate([np.zeros(d + d * (d + 1) // 2), offsets, np.full(len(which), slope)])


def _standardised(known: SelfMaskedGaussian, location: np.ndarray, scale: np.ndarray) -> Scores:
    """The scores in units of the columns."""
    scores = scores_of(known)
    return scores._replace(offset=scores.offset + scores.slope * location, slope=scores.slope * scale)


def _as_model(parts: _Parameters, mechanism: SelfMasked | None, which: list[int], location: np.ndarray, scale: np.ndarray) -> SelfMaskedGaussian:
    """Law and mechanism in the user's units."""
    mean, root, offset, slope = (np.asarray(part) for part in parts)
    cov = (root @ root.T) * np.outer(scale, scale)
    law = Gaussian(mean * scale + location, (cov + cov.T) / 2)
    if mechanism is None and not slope.all():
        got = f"rows in which no mechanism is visible: the fitted slope of column {which[int(np.argmin(np.abs(slope)))]} is 0"
        refuse("X", got, "rows whose hidden values differ from those seen", "Fit the law alone, as of values missing at random, or give the mechanism.")
    return SelfMaskedGaussian(law, mechanism or SelfMasked(slope / scale[which], location[which] - offset / slope * scale[which], which))


def _known(mechanism: SelfMasked | None, which: list[int], d: int) -> SelfMaskedGaussian | None:
    """The mechanism with any law, if it is given.

    Raises:
        ValueError: if it is not probit, or of other columns.
    """
    if mechanism is None:
        return None
    model = SelfMaskedGaussian(Gaussian(np.zeros(d), 1.0), mechanism)
    if sorted(model.hiding) != which:
        refuse("mechanism", f"columns {model.hiding}", f"the columns {which}", "Name the same columns.")
    return model


def _read(X: Numbers, columns: list[int] | tuple[int, ...], known: bool) -> Table:
    """The rows, with weight 1 each.

    Raises:
        ValueError: if a column is wholly missing, a named one is out of range, repeated or hides nothing although it is not known how, or a row hides several values.
    """
    values = read_values(X)
    if not columns or min(columns) < 0 or max(columns) >= values.shape[1] or len(set(columns)) < len(columns):
        refuse("columns", str(list(columns)), f"one or more different columns from 0 to {values.shape[1] - 1}", "Name each column that hides values once.")
    refuse_several(values, list(columns))
    missing = np.isnan(values)
    if missing.all(axis=0).any():
        refuse("X", "a column wholly missing", "at least one observed value a column", "Drop it: nothing is known of it.")
    if not known and not missing[:, list(columns)].any(axis=0).all():
        refuse("columns", "one that hides no value", "at least one missing value in each", "Leave it out, or give the mechanism.")
    return Table(values, np.ones(len(values), values.dtype))
