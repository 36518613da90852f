r"""Members by the bootstrap: each is fitted to n rows drawn with replacement from the data (Efron 1979; bagging of densities: Smyth & Wolpert 1999).

A resample is the vector of counts w ~ Multinomial(n; 1/n, ..., 1/n), and counts are row weights: all members share one copy of the data and are fitted in one compiled
call. Inside it members take turns (`lax.map`), so that each stops at its own convergence: in lockstep every member would pay for the slowest, up to twice the time on a
CPU. The coordinates in which mixtures are fitted, hence the meaning of `ridge`, come from the whole data and are the same for every member.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, refuse
from ensembletheory.fitting import mixture_em, ppca_em
from ensembletheory.fitting.checks import at_least, checked_ridge, checked_tolerance
from ensembletheory.fitting.em import report
from ensembletheory.fitting.mixtures import as_law, checked_scale, refuse_too_few
from ensembletheory.fitting.ppcas import as_ppca, checked_rank, common_scale, refuse_unbounded
from ensembletheory.fitting.rows import Rows, Table, read_table
from ensembletheory.latent import Ppca
from ensembletheory.laws import GaussianMixture

__all__ = ["bootstrap_counts", "bootstrap_mixtures", "bootstrap_ppcas"]


def bootstrap_mixtures(
    key: PRNGKeyArray,
    X: Numbers,
    K: int,
    members: int,
    *,
    ridge: float = 1e-6,
    starts: int = 4,
    tolerance: float | None = None,
    max_iterations: int = 5000,
) -> list[GaussianMixture]:
    """`members` Gaussian mixtures, each fitted as by `fit_mixture` to its own bootstrap resample of the rows, all in one compiled call.

    Args:
        key: chooses the resamples and the starts.
        X: rows (n, d); NaN = missing (at random).
        K: number of components of each member.
        members: how many.
        ridge: as in `fit_mixture`; a fraction of the variances of the whole data.
        starts: as in `fit_mixture`.
        tolerance: as in `fit_mixture`.
        max_iterations: as in `fit_mixture`.

    Raises:
        ValueError: as `fit_mixture`; or if a resample has fewer distinct rows than K, or no observed value in a column.

    Warns:
        NotConverged: if a member reached the largest number of iterations.
    """
    table = read_table(X, None)
    K, members, starts = at_least("K", K, 1), at_least("members", members, 1), at_least("starts", starts, 1)
    max_iterations, ridge, tolerance = at_least("max_iterations", max_iterations, 1), checked_ridge(ridge), checked_tolerance(tolerance)
    location, scale = table.location(), checked_scale(table)
    key_counts, key_fits = jax.random.split(key)
    counts = _checked_counts(key_counts, table, members)
    for weights in np.asarray(counts):
        refuse_too_few(table, weights, K, "distinct rows of a resample")
    keys = jax.random.split(key_fits, members)
    ends = _fit_mixtures(keys, counts, table.rows(location, scale), K, starts, jnp.asarray(ridge), jnp.asarray(tolerance), jnp.asarray(max_iterations))
    report(ends, f"mixtures of {K} components", "Raise `ridge`, which keeps the covariances away from singular ones.")
    return [as_law(_member(ends.parameters, m), location, scale) for m in range(members)]


def bootstrap_ppcas(key: PRNGKeyArray, X: Numbers, q: int, members: int, *, tolerance: float | None = None, max_iterations: int = 5000) -> list[Ppca]:
    """`members` PPCAs, each fitted as by `fit_ppca` to its own bootstrap resample of the rows, all in one compiled call.

    Args:
        key: chooses the resamples.
        X: rows (n, d); NaN = missing (at random).
        q: latent dimension of each member, 1 <= q < d.
        members: how many.
        tolerance: as in `fit_ppca`.
        max_iterations: as in `fit_ppca`.

    Raises:
        ValueError: as `fit_ppca`; or if a resample has no observed value in a column.

    Warns:
        NotConverged: if a member reached the largest number of iterations.
    """
    table = read_table(X, None)
    q, members, max_iterations = checked_rank(q, table), at_least("members", members, 1), at_least("max_iterations", max_iterations, 1)
    location, scale = table.location(), common_scale(table)
    counts = _checked_counts(key, table, members)
    ends = _fit_ppcas(counts, table.rows(location, scale), q, jnp.asarray(checked_tolerance(tolerance)), jnp.asarray(max_iterations))
    refuse_unbounded(ends.parameters, q)
    report(ends, f"PPCAs of {q} latent dimensions", "Fit fewer latent dimensions, or more rows.")
    return [as_ppca(_member(ends.parameters, m), location, scale) for m in range(members)]


def bootstrap_counts(key: PRNGKeyArray, n: int, members: int) -> Float[Array, "members n"]:
    """How often each of n rows occurs in each of `members` resamples of size n."""

    def one(key):
        return jnp.bincount(jax.random.randint(key, (n,), 0, n), length=n)

    return jax.vmap(one)(jax.random.split(key, members)).astype(jnp.result_type(float))


@eqx.filter_jit
def _fit_mixtures(keys, counts, rows: Rows, K: int, starts: int, ridge, tolerance, max_iterations):
    def one(member):
        key, weights = member
        return mixture_em.fit(key, Rows(rows.values, rows.observed, weights), K, starts, ridge, tolerance, max_iterations)

    return jax.lax.map(one, (keys, counts))


@eqx.filter_jit
def _fit_ppcas(counts, rows: Rows, q: int, tolerance, max_iterations):
    return jax.lax.map(lambda weights: ppca_em.fit(Rows(rows.values, rows.observed, weights), q, tolerance, max_iterations), counts)


def _checked_counts(key: PRNGKeyArray, table: Table, members: int) -> Float[Array, "members n"]:
    """Resamples in which every column is observed."""
    counts = bootstrap_counts(key, table.values.shape[0], members)
    unseen = np.argwhere(np.asarray(counts) @ ~np.isnan(table.values) == 0)
    if unseen.size:
        m, column = unseen[0]
        refuse("X", f"column {column} without any observed value in resample {m}", "columns observed in every resample", "Drop columns observed in very few rows.")
    return counts


def _member(batch, m: int):
    return jax.tree.map(lambda leaf: leaf[m], batch)
