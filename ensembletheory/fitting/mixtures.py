"""Gaussian mixtures fitted to rows, which may have missing values; the mathematics is in `mixture_em`."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ensembletheory.errors import Numbers, refuse
from ensembletheory.fitting import mixture_em
from ensembletheory.fitting.checks import at_least, checked_ridge, checked_tolerance
from ensembletheory.fitting.em import report
from ensembletheory.fitting.mixture_em import MixtureParameters
from ensembletheory.fitting.rows import Table, read_table
from ensembletheory.laws import GaussianMixture

__all__ = ["fit_mixture"]

_fit = eqx.filter_jit(mixture_em.fit)


def fit_mixture(
    key: PRNGKeyArray,
    X: Numbers,
    K: int,
    *,
    weights: Numbers | None = None,
    ridge: float = 1e-6,
    starts: int = 4,
    tolerance: float | None = None,
    max_iterations: int = 5000,
) -> GaussianMixture:
    """The Gaussian mixture with K full covariances that maximises the exact observed-data log-likelihood, penalised by `ridge`.

    A mixture's likelihood is unbounded (a component may shrink onto one row). `ridge` bounds it: it is the scale of a prior on the covariances that adds
    ridge x (number of rows) / (rows of the component) x (variance of the column) to each component's variances. Raise it when components have few rows; with ridge = 0
    the fit is a plain maximum likelihood one, bounded only for K = 1. Shifting or rescaling a column does the same to the result.

    Args:
        key: chooses the starts.
        X: rows (n, d); NaN = missing (at random).
        K: number of components.
        weights: (n,) non-negative, how often each row counts; 1 each by default.
        ridge: fraction of the columns' variances, >= 0.
        starts: how many starts get a short climb; the best one goes on.
        tolerance: stop when an iteration gains less than this, relative to 1 + |nats per row|; by default the root of the machine epsilon.
        max_iterations: largest number of EM iterations.

    Raises:
        ValueError: if X is not a table of numbers with NaN for missing; holds an infinity, a constant column, a row or column wholly missing, fewer distinct rows than
            K; if another argument is out of range; or if a covariance became singular.

    Warns:
        NotConverged: if the largest number of iterations was reached.
    """
    table = read_table(X, weights)
    K, starts, max_iterations = at_least("K", K, 1), at_least("starts", starts, 1), at_least("max_iterations", max_iterations, 1)
    ridge, tolerance = checked_ridge(ridge), checked_tolerance(tolerance)
    location, scale = table.location(), checked_scale(table)
    refuse_too_few(table, table.weights, K)
    end = _fit(key, table.rows(location, scale), K, starts, jnp.asarray(ridge), jnp.asarray(tolerance), jnp.asarray(max_iterations))
    report(end, f"a mixture of {K} components", "Raise `ridge`, which keeps the covariances away from singular ones.")
    return as_law(end.parameters, location, scale)


def as_law(parameters: MixtureParameters, location: np.ndarray, scale: np.ndarray) -> GaussianMixture:
    """The mixture in the user's coordinates."""
    weights, means, covs = (np.asarray(part) for part in (parameters.weights, parameters.means, parameters.covs))
    covs = covs * np.outer(scale, scale)
    return GaussianMixture(weights, means * scale + location, (covs + covs.swapaxes(1, 2)) / 2)


def checked_scale(table: Table) -> np.ndarray:
    """The columns' standard deviations.

    Raises:
        ValueError: if a column is constant.
    """
    scale = table.scale()
    constant = np.flatnonzero(scale == 0)
    if constant.size:
        got = f"{constant.size} constant columns (index {', '.join(map(str, constant[:5]))}{', ...' if constant.size > 5 else ''})"
        refuse("X", got, "columns that vary", "Drop constant columns: no density is best for them.")
    return scale


def refuse_too_few(table: Table, weights: np.ndarray, K: int, what: str = "distinct rows of positive weight") -> None:
    """Refuse more components than distinct rows.

    Raises:
        ValueError: naming both numbers.
    """
    distinct = np.unique(table.labels()[weights > 0]).size
    if distinct < K:
        refuse("K", f"{K} components for {distinct} {what}", f"at most {distinct}", "Fit fewer components, or more rows.")
