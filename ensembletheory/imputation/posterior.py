r"""Draws of the parameters of a Gaussian given rows with holes: what makes imputations proper.

Draws of the conditional at one estimate of the parameters (improper) leave out that the estimate is uncertain, and intervals by Rubin's rules cover too little. Two remedies:

**Posterior draws** under the prior p(mu, S) ~ det(S)^{-(d+1)/2}. For n complete rows with mean xbar and scatter C = sum (x_i - xbar)(x_i - xbar)^T

    S ~ inverse Wishart(n - 1, C),     mu | S ~ N(xbar, S / n).

 - *Monotone holes* (columns can be ordered so that a value is missing only where all later ones are): exact. The prior factors into one for each regression of a column on the
   earlier ones. With n_j rows in which column j = 1 .. d is seen, their residual sum of squares R_j about the regression and the centred scatter C_j of the earlier columns,
       s_j^2 ~ R_j / chi^2 with n_j - 1 - d + j degrees of freedom,   slopes | s_j^2 ~ N(least squares, s_j^2 C_j^{-1}),   mean of the column at the mean of the earlier ones
       | s_j^2 ~ N(its average, s_j^2 / n_j).
 - *Any holes*: data augmentation (Tanner & Wong 1987; Schafer 1997), a Gibbs sampler that draws the missing values given the parameters and the parameters given the completed
   rows; it begins at the estimate of largest likelihood, and its draws are taken `spacing` sweeps apart after `burn_in`. Missing values are drawn without a second
   factorisation: y ~ N(mu, S) is moved to y + S_:o S_oo^{-1} (x_o - y_o), which has the conditional law of x given x_o.

*When it is a law* (derived here): if and only if more than d rows are complete and lie in no common hyperplane, whatever else is seen. Those rows alone give a posterior that
is a law, and the others have a finite density under it. Where d or fewer are so they share a hyperplane: let the variance s of S across it be small. Rows with holes hold
a part of its normal only and bound nothing there; each complete row brings s^{-1/2}, and takes it back as the d parameters of the hyperplane must meet it to within s^{1/2}.
What is left of the prior, s^{-(d+1)/2}, has no integral at 0. So two columns never seen together, or three seen in pairs only, have no posterior: data augmentation would run,
inconspicuously for a while, and end in a singular covariance.

**Bootstrap**: the estimate of largest likelihood of resampled rows, by EM; `bootstrap_mixtures` of one component. Its spread is that of the posterior up to O(1/n).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, refuse
from ensembletheory.fitting import fit_mixture
from ensembletheory.fitting.checks import at_least
from ensembletheory.fitting.mixtures import checked_scale
from ensembletheory.fitting.rows import read_table
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import cholesky, substitute, symmetrised

__all__ = ["fit_monotone", "monotone_order", "posterior_gaussians", "posterior_parameters"]

_REMEDY = "Take more rows or fewer columns, or fit resampled rows instead: `bootstrap_mixtures`."


def posterior_gaussians(key: PRNGKeyArray, X: Numbers, members: int, *, burn_in: int = 100, spacing: int = 20, exact: bool | None = None) -> list[Gaussian]:
    """`members` Gaussians whose parameters are drawn from their posterior given the observed values; arguments as of `posterior_parameters`.

    Raises:
        ValueError: as `posterior_parameters`.

    Warns:
        NotConverged: as `posterior_parameters`.
    """
    return [Gaussian(mean, cov) for mean, cov in zip(*posterior_parameters(key, X, members, burn_in=burn_in, spacing=spacing, exact=exact), strict=True)]


def posterior_parameters(
    key: PRNGKeyArray, X: Numbers, members: int, *, burn_in: int = 100, spacing: int = 20, exact: bool | None = None
) -> tuple[Float[np.ndarray, "members d"], Float[np.ndarray, "members d d"]]:
    """Means and covariances drawn from their posterior given the observed values; see the module.

    Args:
        key: chooses the draws.
        X: rows (n, d); NaN = missing (at random).
        members: how many.
        burn_in: sweeps of data augmentation before the first draw. A sweep forgets all but about the largest fraction of missing information: where 0.99 of what some
            parameter needs is missing, 100 sweeps leave a third of what they began with, so let `burn_in` and `spacing` grow with 1 / (1 - that fraction).
        spacing: sweeps from one draw to the next.
        exact: whether to draw exactly, for which holes have to be monotone; by default wherever they are.

    Raises:
        ValueError: if X is not a table of numbers with NaN for missing; holds an infinity, a constant column, or a row or column wholly missing; if an argument is out of
            range; if the posterior is not a law, the complete rows being d or fewer or in one hyperplane; if a draw is not finite; or if exact draws are asked for and the
            holes are not monotone.

    Warns:
        NotConverged: if the fit at which data augmentation begins reached the largest number of iterations.
    """
    table = read_table(X, None)
    members, burn_in, spacing = at_least("members", members, 1), at_least("burn_in", burn_in, 0), at_least("spacing", spacing, 1)
    location, scale = table.location(), checked_scale(table)
    order, standardised = monotone_order(table.values), (table.values - location) / scale
    _check_proper(standardised)
    if exact and order is None:
        refuse("exact", "True for holes that are not monotone", "a column order in which what is missing comes last in every row", "Leave it out for data augmentation.")
    if order is not None and exact is not False:
        means, covs = _monotone_draws(key, standardised, order, members)
    else:
        means, covs = _augmented_draws(key, standardised, members, burn_in, spacing)
    if not (np.isfinite(means).all() and np.isfinite(covs).all()):
        refuse("X", "draws of its posterior that are not finite", "rows that bound the parameters well within the range of floating point", _REMEDY)
    return means * scale + location, (covs + covs.mT) / 2 * np.outer(scale, scale)


def fit_monotone(X: Numbers) -> Gaussian:
    """The Gaussian of largest observed-data likelihood given rows X (n, d), NaN = missing, whose holes are monotone: one regression a column, no iteration.

    Raises:
        ValueError: as `posterior_parameters` for exact draws.
    """
    table = read_table(X, None)
    location, scale, order = table.location(), checked_scale(table), monotone_order(table.values)
    if order is None:
        refuse("X", "holes that are not monotone", "a column order in which what is missing comes last in every row", "Use fit_mixture with one component.")
    counts = (~np.isnan(table.values)).sum(axis=0)[order]
    d = len(order)
    means, covs = _regressed((table.values - location) / scale, order, np.zeros((1, d, d)), counts[None].astype(float))
    return Gaussian(means[0] * scale + location, (covs[0] + covs[0].T) / 2 * np.outer(scale, scale))


def monotone_order(X: Numbers) -> list[int] | None:
    """An order of the columns in which a value of X (n, d) is missing only where all later ones are; None if there is none."""
    seen = ~np.isnan(np.asarray(X))
    order = np.argsort(-seen.sum(axis=0), kind="stable")
    return order.tolist() if np.all(seen[:, order[:-1]] >= seen[:, order[1:]]) else None


def _check_proper(X: np.ndarray) -> None:
    """Refuse rows for which the posterior is not a law.

    Raises:
        ValueError: naming the rows.
    """
    complete, d = X[~np.isnan(X).any(axis=1)], X.shape[1]
    if len(complete) <= d:
        refuse("X", f"{len(complete)} complete rows", f"at least {d + 1}, one more than columns", f"The posterior is not a law otherwise. {_REMEDY}")
    if np.linalg.matrix_rank(complete - complete.mean(axis=0)) < d:
        refuse("X", "complete rows in one hyperplane", f"at least {d + 1} in no common one", f"The posterior is not a law otherwise. {_REMEDY}")


def _monotone_draws(key: PRNGKeyArray, X: np.ndarray, order: list[int], members: int) -> tuple[np.ndarray, np.ndarray]:
    d = len(order)
    dof = (~np.isnan(X)).sum(axis=0)[order] - d + np.arange(d)
    key_normal, key_gamma = jax.random.split(key)
    z = np.asarray(jax.random.normal(key_normal, (members, d, d)))
    return _regressed(X, order, z, 2 * np.asarray(jax.random.gamma(key_gamma, dof / 2, (members, d))))


def _regressed(X: np.ndarray, order: list[int], z: np.ndarray, divisors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (members, d) and covariances (members, d, d) from the regressions of the columns on earlier ones.

    A column's variance is its residual sum of squares over its `divisors` (members, d); row j of the noise z (members, d, d) moves the j slopes of column j, then its mean.
    """
    members, d = divisors.shape
    means, covs = np.zeros((members, d)), np.zeros((members, d, d))
    for j, column in enumerate(order):
        rows = X[~np.isnan(X[:, column])]
        if len(rows) <= j + 1:
            refuse("X", f"{len(rows)} values in column {column}", f"at least {j + 2}", "Its regression on the columns that are seen more often has no residuals otherwise.")
        earlier, y = rows[:, order[:j]], rows[:, column]
        centre, centred = earlier.mean(axis=0), earlier - earlier.mean(axis=0)
        root = np.linalg.cholesky(centred.T @ centred)
        fitted = np.linalg.solve(root.T, np.linalg.solve(root, centred.T @ y))
        variance = np.sum((y - y.mean() - centred @ fitted) ** 2) / divisors[:, j]
        slopes = fitted + np.sqrt(variance)[:, None] * np.linalg.solve(root.T, z[:, j, :j].T).T
        at_centre = y.mean() + np.sqrt(variance / len(y)) * z[:, j, j]
        means[:, j] = at_centre + np.sum(slopes * (means[:, :j] - centre), axis=1)
        covs[:, j, :j] = covs[:, :j, j] = np.einsum("mi,mij->mj", slopes, covs[:, :j, :j])
        covs[:, j, j] = variance + np.sum(slopes * covs[:, j, :j], axis=1)
    back = np.argsort(order)
    return means[:, back], covs[:, back][:, :, back]


def _augmented_draws(key: PRNGKeyArray, X: np.ndarray, members: int, burn_in: int, spacing: int) -> tuple[np.ndarray, np.ndarray]:
    key_fit, key_sweeps = jax.random.split(key)
    fit = fit_mixture(key_fit, X, 1, starts=1)
    seen = ~np.isnan(X)
    means, roots = _swept(key_sweeps, fit.means[0], cholesky(fit.covs[0]), jnp.asarray(np.where(seen, X, 0.0)), jnp.asarray(seen), members, burn_in, spacing)
    return np.asarray(means), np.asarray(roots) @ np.asarray(roots).mT


@eqx.filter_jit
def _swept(
    key: PRNGKeyArray,
    mean: Float[Array, " d"],
    root: Float[Array, "d d"],
    values: Float[Array, "n d"],
    observed: Bool[Array, "n d"],
    members: int,
    burn_in: int,
    spacing: int,
) -> tuple[Float[Array, "members d"], Float[Array, "members d d"]]:
    """Means, and roots R of covariances R R^T, of every `spacing`-th sweep after `burn_in`."""

    def sweep(parameters, key):
        key_rows, key_parameters = jax.random.split(key)
        mean, root = parameters
        return _parameters(key_parameters, _completed(key_rows, mean, root, values, observed)), None

    def draw(parameters, keys):
        parameters, _ = jax.lax.scan(sweep, parameters, keys)
        return parameters, parameters

    key_begin, key_draws = jax.random.split(key)
    begun, _ = jax.lax.scan(sweep, (mean, root), jax.random.split(key_begin, burn_in))
    return jax.lax.scan(draw, begun, jax.random.split(key_draws, (members, spacing)))[1]


def _completed(key: PRNGKeyArray, mean: Float[Array, " d"], root: Float[Array, "d d"], values: Float[Array, "n d"], observed: Bool[Array, "n d"]) -> Float[Array, "n d"]:
    """The rows with what is missing drawn from its conditional under N(mean, root root^T)."""
    cov = root @ root.T
    drawn = mean[None, :] + jax.random.normal(key, values.shape, values.dtype) @ root.T

    def moved(y, x, seen):
        on = seen.astype(x.dtype)
        factor = cholesky(on[:, None] * cov * on[None, :] + jnp.diag(1 - on))
        whitened = substitute(factor, jnp.stack([on * (x - y), *(on[:, None] * cov).T], axis=1))
        return jnp.where(seen, x, y + whitened[:, 1:].T @ whitened[:, 0])

    return jax.vmap(moved)(drawn, values, observed)


def _parameters(key: PRNGKeyArray, rows: Float[Array, "n d"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """A draw of the mean and of a root of the covariance given complete rows: C = L L^T, and S = L (A A^T)^{-1} L^T by Bartlett's decomposition of the Wishart law."""
    n, d = rows.shape
    key_gamma, key_below, key_mean = jax.random.split(key, 3)
    centre = jnp.mean(rows, axis=0)
    centred = rows - centre[None, :]
    diagonal = jnp.sqrt(2 * jax.random.gamma(key_gamma, (n - 1 - np.arange(d)) / 2))
    A = jnp.tril(jax.random.normal(key_below, (d, d), rows.dtype), -1) + jnp.diag(diagonal)
    root = cholesky(symmetrised(centred.T @ centred)) @ substitute(A, jnp.eye(d, dtype=rows.dtype)).T
    return centre + root @ jax.random.normal(key_mean, (d,), rows.dtype) / np.sqrt(n), root
