r"""Mixtures of PPCA fitted to rows, which may have missing values: EM with closed-form steps (Tipping & Bishop 1999b).

Hidden are the labels and the missing coordinates, not the latents, so the M-step maximises each component's -1/2 ( log det C + tr(C^{-1} T) ) over C = W W^T + s2 I, with T
the component's expected covariance (plus ridge, as in `mixture_em`). Its maximiser is the PPCA of T: with eigenvalues l_1 >= ... >= l_d and eigenvectors U of T,

    s2 = mean(l_{q+1..d}),   W = U_q (L_q - s2 I)^{1/2},   so  C = U_q L_q U_q^T + s2 (I - U_q U_q^T),

the covariance of that form to which N(0, T) has least divergence. So a step is one of full-covariance EM, with each covariance replaced by its PPCA, and never lowers
the penalised likelihood. As in `fit_ppca` the columns share one unit, for a rescaling of one column changes the family.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ensembletheory.errors import Numbers
from ensembletheory.fitting import mixture_em
from ensembletheory.fitting.checks import at_least, checked_ridge, checked_tolerance
from ensembletheory.fitting.em import Climb, report
from ensembletheory.fitting.mixture_em import MixtureParameters
from ensembletheory.fitting.mixtures import refuse_too_few
from ensembletheory.fitting.ppcas import checked_rank, common_scale
from ensembletheory.fitting.rows import Rows, read_table
from ensembletheory.latent import PpcaMixture

__all__ = ["fit_ppca_mixture", "nearest_ppca"]


def fit_ppca_mixture(
    key: PRNGKeyArray,
    X: Numbers,
    K: int,
    q: int,
    *,
    weights: Numbers | None = None,
    ridge: float = 1e-6,
    starts: int = 4,
    tolerance: float | None = None,
    max_iterations: int = 5000,
) -> PpcaMixture:
    """The mixture of K PPCAs with q latent dimensions each that maximises the exact observed-data log-likelihood, penalised by `ridge` as in `fit_mixture`.

    Loadings are unique up to a rotation of each latent space, components up to their order. Shifts, rotations and a common rescaling of the columns do the same to the result.

    Args:
        key: chooses the starts.
        X: rows (n, d); NaN = missing (at random).
        K: number of components.
        q: latent dimension of each, 1 <= q < d.
        weights: (n,) non-negative, how often each row counts; 1 each by default.
        ridge: fraction of the mean variance of the columns, >= 0.
        starts: how many starts get a short climb; the best one goes on.
        tolerance: stop when an iteration gains less than this, relative to 1 + |nats per row|; by default the root of the machine epsilon.
        max_iterations: largest number of EM iterations.

    Raises:
        ValueError: if X is not a table of numbers with NaN for missing; holds an infinity, only constant columns, a row or column wholly missing, fewer distinct rows than
            K; if q is not in 1..d-1 or another argument is out of range; or if a covariance became singular.

    Warns:
        NotConverged: if the largest number of iterations was reached.
    """
    table = read_table(X, weights)
    K, q, starts = at_least("K", K, 1), checked_rank(q, table), at_least("starts", starts, 1)
    max_iterations, ridge, tolerance = at_least("max_iterations", max_iterations, 1), checked_ridge(ridge), checked_tolerance(tolerance)
    location, scale = table.location(), common_scale(table)
    refuse_too_few(table, table.weights, K)
    end = _fit(key, table.rows(location, scale), K, q, starts, jnp.asarray(ridge), jnp.asarray(tolerance), jnp.asarray(max_iterations))
    report(end, f"a mixture of {K} PPCAs", "Raise `ridge`, which keeps the covariances away from singular ones.")
    return _as_ppca_mixture(end.parameters, q, location, float(scale[0]))


@eqx.filter_jit
def _fit(key: PRNGKeyArray, rows: Rows, K: int, q: int, starts: int, ridge: Float[Array, ""], tolerance: Float[Array, ""], max_iterations: Int[Array, ""]) -> Climb:
    return mixture_em.fit(key, rows, K, starts, ridge, tolerance, max_iterations, partial(nearest_ppca, q=q))


def nearest_ppca(cov: Float[Array, "d d"], q: int) -> Float[Array, "d d"]:
    """The matrix W W^T + s2 I, W of q columns, that maximises -log det C - tr(C^{-1} cov)."""
    loadings, noise = principal(cov, q)
    return loadings @ loadings.T + noise * jnp.eye(cov.shape[0], dtype=cov.dtype)


def principal(cov: Float[Array, "d d"], q: int) -> tuple[Float[Array, "d q"], Float[Array, ""]]:
    """Loadings and noise variance of that matrix."""
    eigenvalues, vectors = jnp.linalg.eigh(cov)
    d = eigenvalues.size
    noise = jnp.mean(eigenvalues[: d - q])
    return vectors[:, d - q :] * jnp.sqrt(jnp.maximum(eigenvalues[d - q :] - noise, 0.0))[None, :], noise


@eqx.filter_jit
def _principal_parts(covs: Float[Array, "K d d"], q: int) -> tuple[Float[Array, "K d q"], Float[Array, " K"]]:
    return jax.vmap(lambda cov: principal(cov, q))(covs)


def _as_ppca_mixture(parameters: MixtureParameters, q: int, location: np.ndarray, unit: float) -> PpcaMixture:
    """The mixture in the user's coordinates."""
    loadings, noise = _principal_parts(parameters.covs, q)
    return PpcaMixture(parameters.weights, loadings * unit, parameters.means * unit + jnp.asarray(location)[None, :], noise * unit**2)
