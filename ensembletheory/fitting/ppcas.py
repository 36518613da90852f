"""Probabilistic PCA fitted to rows, which may have missing values; the mathematics is in `ppca_em`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, refuse
from ensembletheory.fitting import ppca_em
from ensembletheory.fitting.checks import at_least, checked_tolerance
from ensembletheory.fitting.em import report
from ensembletheory.fitting.ppca_em import PpcaParameters
from ensembletheory.fitting.rows import Table, read_table
from ensembletheory.latent import Ppca

__all__ = ["fit_ppca"]

_fit = eqx.filter_jit(ppca_em.fit)


def fit_ppca(X: Numbers, q: int, *, weights: Numbers | None = None, tolerance: float | None = None, max_iterations: int = 5000) -> Ppca:
    """The maximum likelihood PPCA with q latent dimensions: in closed form for complete data, by EM on the exact observed-data likelihood when values are missing.

    Nothing is added to the likelihood, so complete data for which it is unbounded (every row in one q-dimensional affine space) are refused; with missing values EM then
    does not converge, and warns. PPCA is equivariant to shifts, rotations and a common rescaling of the columns, not to rescaling one column; a constant column is admitted.
    Loadings are unique up to a rotation of the latent space.

    Args:
        X: rows (n, d); NaN = missing (at random).
        q: latent dimension, 1 <= q < d.
        weights: (n,) non-negative, how often each row counts; 1 each by default.
        tolerance: stop EM when an iteration gains less than this, relative to 1 + |nats per row|; by default the root of the machine epsilon.
        max_iterations: largest number of EM iterations.

    Raises:
        ValueError: if X is not a table of numbers with NaN for missing; holds an infinity, or a row or column wholly missing; q is not in 1..d-1; another argument is out
            of range; or the likelihood is unbounded.

    Warns:
        NotConverged: if the largest number of iterations was reached.
    """
    table = read_table(X, weights)
    q, max_iterations, tolerance = checked_rank(q, table), at_least("max_iterations", max_iterations, 1), checked_tolerance(tolerance)
    location, scale = table.location(), common_scale(table)
    end = _fit(table.rows(location, scale), q, jnp.asarray(tolerance), jnp.asarray(max_iterations))
    refuse_unbounded(end.parameters, q)
    report(end, f"a PPCA of {q} latent dimensions", "Fit fewer latent dimensions, or more rows.")
    return as_ppca(end.parameters, location, scale)


def as_ppca(parameters: PpcaParameters, location: np.ndarray, scale: np.ndarray) -> Ppca:
    """The PPCA in the user's coordinates; every entry of `scale` is the same."""
    return Ppca(*_rescaled(parameters, jnp.asarray(location), jnp.asarray(scale[0])))


@jax.jit
def _rescaled(parameters: PpcaParameters, location: Float[Array, " d"], unit: Float[Array, ""]) -> tuple[Float[Array, "d q"], Float[Array, " d"], Float[Array, ""]]:
    return parameters.loadings * unit, parameters.mean * unit + location, parameters.noise_variance * unit**2


def checked_rank(q: int, table: Table) -> int:
    """`q` if it is a whole number in 1..d-1.

    Raises:
        ValueError: otherwise.
    """
    d = table.values.shape[1]
    if at_least("q", q, 1) >= d:
        refuse("q", str(q), f"at most {d - 1}, one less than the {d} columns", "With q = d - 1 a PPCA is any Gaussian; fit fewer latent dimensions.")
    return q


def common_scale(table: Table) -> np.ndarray:
    """The root of the mean variance of the columns, for every column.

    Raises:
        ValueError: if every column is constant.
    """
    scale = table.scale()
    if not scale.any():
        refuse("X", "constant columns only", "columns that vary", "A density needs rows that differ.")
    return np.full_like(scale, np.sqrt(np.mean(scale**2)))


def refuse_unbounded(parameters: PpcaParameters, q: int) -> None:
    """Refuse fits whose noise variance is 0.

    Raises:
        ValueError: naming how many.
    """
    flat = int(np.sum(np.asarray(parameters.noise_variance) == 0))
    if flat:
        got = f"rows in an affine space of {q} dimensions ({flat} of {parameters.noise_variance.size} fits)"
        refuse("X", got, "rows that need noise beside the latent dimensions", "Fit fewer latent dimensions, or more rows: here the likelihood is unbounded.")
