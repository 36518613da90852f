r"""Scores of imputations against the truth: some reward the best guess, others the right law.

With X and X' independent draws of the imputed law P, and y the truth,

    CRPS(P, y) = E|X - y| - 1/2 E|X - X'|  on the line,      energy score ES(P, y) = the same with Euclidean norms;      both proper: least on average at the law of y.

For Gaussians E|N(m, s^2)| = A(m, s) = 2 s phi(m/s) + m (2 Phi(m/s) - 1), so for P = sum_k w_k N(m_k, s_k^2), in closed form (Gneiting & Raftery 2007; Grimit et al. 2006),

    CRPS(P, y) = sum_k w_k A(y - m_k, s_k) - 1/2 sum_kl w_k w_l A(m_k - m_l, (s_k^2 + s_l^2)^{1/2});

for one Gaussian s [ z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi) ], z = (y - m)/s. Of L draws, E|X - X'| is the mean over all pairs (the law of the draws themselves), or, with
`fair`, over pairs of different draws, which is unbiased for P. The energy distance of two laws is D(P, Q) = 2 E|X - Y| - E|X - X'| - E|Y - Y'| >= 0, zero only if they are
equal, and the energy score of a linear pool is (derived here; the ambiguity decomposition of a kernel score)

    ES(sum_i w_i P_i, y) = sum_i w_i ES(P_i, y) - 1/4 sum_ij w_i w_j D(P_i, P_j).

The root of the mean squared error is least at the conditional mean, whose law, a point, has the wrong spread: a table of conditional means wins by it and loses by the energy
distance to complete rows. What a user computes from the
table is biased likewise: the slope of a regression on a column of conditional means, say.

Of L draws of the law of y, which are exchangeable with y, the order statistics X_(j) and X_(L+1-j) hold y between them with probability 1 - 2 j / (L + 1), whatever the
continuous law: few draws cannot cover much (the least and the largest of ten cover 9/11).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.spatial.distance import cdist

from ensembletheory.errors import Numbers, as_floats, checked_count, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.gains.decomposition import Decomposition
from ensembletheory.imputation.rubin import MultipleEstimate, checked_level, pool_estimates
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.laws.mixture import weighted_components
from ensembletheory.laws.weights import checked_weights

__all__ = [
    "crps",
    "crps_of_draws",
    "energy_ambiguity",
    "energy_distance",
    "energy_score",
    "exchangeable_coverage",
    "interval_coverage",
    "line_energy_distance",
    "mean_distance",
    "regression",
    "rmse",
]

_BLOCK = 1024  # rows between which distances are held at once
_ROUNDING = 1e-9  # relative, of a rank that is meant to be whole


def rmse(truth: Numbers, imputed: Numbers, observed: Numbers) -> float:
    """The root of the mean squared error over the missing entries.

    Args:
        truth: (n, d), without holes.
        imputed: (n, d), completed.
        observed: (n, d) boolean.

    Raises:
        ValueError: if the shapes differ, a value is not finite, or nothing is missing.
    """
    truth, imputed, missing = _tables(truth, imputed, observed)
    return float(np.sqrt(np.mean((imputed - truth)[missing] ** 2)))


def mean_distance(p: Gaussian | GaussianMixture, q: Gaussian | GaussianMixture) -> Float[Array, ""]:
    """E|X - Y| of independent X ~ p and Y ~ q on the line.

    Raises:
        ValueError: if a law is not on the line.
    """
    return _mean_distance(_on_line("p", p), _on_line("q", q))


def line_energy_distance(p: Gaussian | GaussianMixture, q: Gaussian | GaussianMixture) -> Estimate:
    """The energy distance D of two Gaussians or mixtures on the line, in closed form.

    Raises:
        ValueError: if a law is not on the line.
    """
    return closed_form(_line_energy_distance(_on_line("p", p), _on_line("q", q)))


def crps(law: Gaussian | GaussianMixture, y: Numbers) -> Float[Array, "..."]:
    """The continuous ranked probability score of a Gaussian or a mixture on the line at outcomes y (...), in closed form.

    Raises:
        ValueError: if the law is not on the line, or an outcome is not finite.
    """
    return _crps(_on_line("law", law), as_floats("y", y))


def crps_of_draws(draws: Numbers, y: Numbers, fair: bool = False) -> Float[np.ndarray, "..."]:
    """The continuous ranked probability score of L draws (L, ...) at outcomes y (...), in O(L log L) an outcome.

    Args:
        draws: (L, ...).
        y: (...).
        fair: whether pairs of equal draws are left out, which makes the score unbiased for the law that the draws are from; L >= 2 then.

    Raises:
        ValueError: if the shapes do not agree, or there are too few draws.
    """
    values, outcomes = np.asarray(as_floats("draws", draws)), np.asarray(as_floats("y", y))
    if values.shape[1:] != outcomes.shape or len(values) < 1 + fair:
        refuse("draws", f"shape {values.shape}", f"(L, {', '.join(map(str, outcomes.shape))}) with L >= {1 + fair}", "One draw a slice of the leading axis.")
    L = len(values)
    ranks = (2 * np.arange(L) - L + 1).reshape(-1, *[1] * outcomes.ndim)
    pairs = 2 * np.sum(ranks * np.sort(values, axis=0), axis=0)  # sum_ij |x_i - x_j|
    return np.mean(np.abs(values - outcomes), axis=0) - pairs / (2 * L * (L - 1 if fair else L))


def energy_score(draws: Numbers, y: Numbers, fair: bool = False) -> Float[np.ndarray, " n"]:
    """The energy score of L draws (L, n, d) of n rows at the true rows y (n, d); `fair` as in `crps_of_draws`.

    Raises:
        ValueError: if the shapes do not agree, or there are too few draws.
    """
    values, rows = np.asarray(as_floats("draws", draws)), np.asarray(as_floats("y", y))
    if values.ndim != 3 or values.shape[1:] != rows.shape or len(values) < 1 + fair:
        refuse("draws", f"shape {values.shape}", f"(L, n, d) = (>= {1 + fair}, {', '.join(map(str, rows.shape))})", "One completed table a slice of the leading axis.")
    L = len(values)
    at_once = max(1, _BLOCK**2 // (L * L * values.shape[2]))
    blocks = [values[:, i : i + at_once] for i in range(0, len(rows), at_once)]
    pairs = np.concatenate([np.zeros(0), *(np.sum(np.linalg.norm(own[:, None] - own[None], axis=3), axis=(0, 1)) for own in blocks)])
    return np.mean(np.linalg.norm(values - rows, axis=2), axis=0) - pairs / (2 * L * (L - 1 if fair else L))


def energy_distance(x: Numbers, y: Numbers, fair: bool = False) -> float:
    """The energy distance of two sets of rows (n, d) and (m, d), each taken for a law of finite support.

    Args:
        x: rows.
        y: rows.
        fair: whether pairs of a row with itself are left out, which makes it unbiased for the laws that the rows are from, and possibly negative.

    Raises:
        ValueError: if the numbers of columns differ, or there are too few rows.
    """
    x, y = np.asarray(as_floats("x", x)), np.asarray(as_floats("y", y))
    if x.ndim != 2 or y.ndim != 2 or x.shape[1:] != y.shape[1:] or min(len(x), len(y)) < 1 + fair:
        refuse("x, y", f"shapes {x.shape}, {y.shape}", f"(n, d) and (m, d) with n, m >= {1 + fair}", "One row an observation; on the line write x[:, None].")
    within = [_total_distance(rows, rows) / (len(rows) * (len(rows) - fair)) for rows in (x, y)]
    return 2 * _total_distance(x, y) / (len(x) * len(y)) - sum(within)


def energy_ambiguity(draws: Numbers, y: Numbers, weights: Numbers | None = None) -> Decomposition:
    """The energy score of the linear pool of K members, each given by L draws, at one outcome: the members' average less a quarter of their mean energy distance.

    Args:
        draws: (K, L, d).
        y: (d,).
        weights: on the simplex; default equal.

    Raises:
        ValueError: if the shapes do not agree, or the weights are off the simplex.
    """
    values, outcome = as_floats("draws", draws), as_floats("y", y)
    if values.ndim != 3 or 0 in values.shape or outcome.shape != values.shape[2:]:
        refuse("draws, y", f"shapes {values.shape}, {outcome.shape}", "(K, L, d) and (d,)", "One member a slice of the leading axis.")
    return Decomposition(*map(closed_form, _ambiguity(np.asarray(values), np.asarray(outcome), np.asarray(checked_weights(weights, len(values))))))


def interval_coverage(draws: Numbers, truth: Numbers, observed: Numbers, level: float = 0.95) -> Estimate:
    """The share of missing entries that lie between two order statistics of their L draws (L, n, d): the narrowest pair that covers the level, else the outermost.

    Exact draws cover `exchangeable_coverage(L, level)`, which is less than the level where L is small. The error takes rows, not entries, for independent.

    Raises:
        ValueError: if the shapes do not agree, the level is not between 0 and 1, or fewer than two rows have holes.
    """
    values, level = np.asarray(as_floats("draws", draws)), checked_level(level)
    if values.ndim != 3 or not len(values):
        refuse("draws", f"shape {values.shape}", "(L, n, d) with L >= 1", "One completed table a slice of the leading axis.")
    truth, _, missing = _tables(truth, values[0], observed)
    rank = _lower_rank(len(values), level)
    low, high = np.sort(values, axis=0)[[rank - 1, len(values) - rank]]
    holes = missing.sum(axis=1)
    inside = (missing & (low <= truth) & (truth <= high)).sum(axis=1)
    if np.sum(holes > 0) < 2:
        refuse("observed", f"holes in {int(np.sum(holes > 0))} rows", "holes in at least two rows", "One row does not tell the error.")
    share = inside.sum() / holes.sum()
    n = len(holes)
    error = np.sqrt(n / (n - 1) * np.sum((inside - share * holes) ** 2)) / holes.sum()
    return Estimate(jnp.asarray(share), jnp.asarray(error), "monte_carlo")


def exchangeable_coverage(draws: int, level: float = 0.95) -> float:
    """What `interval_coverage` is on average for L = `draws` exact draws of a continuous law: at least the level for L >= 2 / (1 - level) - 1, else (L - 1) / (L + 1).

    Raises:
        ValueError: if there are no draws, or the level is not between 0 and 1.
    """
    draws = checked_count("draws", draws, 1)
    return 1 - 2 * _lower_rank(draws, checked_level(level)) / (draws + 1)


def regression(completed: Numbers, target: int) -> MultipleEstimate:
    """Least squares of one column on all others with an intercept (first), in m completed tables (m, n, d), pooled by Rubin's rules with n - d degrees of freedom.

    Raises:
        ValueError: if the shape is another, there are fewer than two tables, no such column, no more rows than columns, or columns depend on each other linearly.
    """
    tables = np.asarray(as_floats("completed", completed))
    if tables.ndim != 3 or tables.shape[1] <= tables.shape[2]:
        refuse("completed", f"shape {tables.shape}", "(m, n, d) with n > d", "One completed table a slice of the leading axis.")
    n, d = tables.shape[1:]
    if not 0 <= target < d:
        refuse("target", str(target), f"a column from 0 to {d - 1}", "It is the column to explain.")
    design = np.concatenate([np.ones((len(tables), n, 1)), np.delete(tables, target, axis=2)], axis=2)
    if np.min(np.linalg.matrix_rank(design)) < d:
        refuse("completed", "columns that depend on each other linearly", "columns without such a relation", "Drop a column, constant ones first.")
    inverse = np.linalg.inv(design.mT @ design)
    coefficients = (inverse @ (design.mT @ tables[:, :, target, None]))[:, :, 0]
    residuals = tables[:, :, target] - np.einsum("mnd,md->mn", design, coefficients)
    noise = np.sum(residuals**2, axis=1) / (n - d)
    return pool_estimates(coefficients, noise[:, None] * np.diagonal(inverse, axis1=1, axis2=2), float(n - d))


def _tables(truth: Numbers, imputed: Numbers, observed: Numbers) -> tuple[np.ndarray, np.ndarray, Bool[np.ndarray, "n d"]]:
    """The tables and what is missing.

    Raises:
        ValueError: if the shapes differ, or nothing is missing.
    """
    truth, imputed, seen = np.asarray(as_floats("truth", truth)), np.asarray(as_floats("imputed", imputed)), np.asarray(observed)
    if truth.ndim != 2 or not truth.shape == imputed.shape == seen.shape or seen.dtype != bool:
        refuse("truth, imputed, observed", f"shapes {truth.shape}, {imputed.shape}, {seen.shape} of dtype {seen.dtype}", "one shape (n, d), the last boolean", "True = seen.")
    if seen.all():
        refuse("observed", "a table without holes", "at least one missing entry", "There is nothing to score.")
    return truth, imputed, ~seen


def _lower_rank(draws: int, level: float) -> int:
    """The largest j for which the j-th least and the j-th largest draw cover the level, 1 if none do."""
    return max(1, int((draws + 1) * (1 - level) / 2 * (1 + _ROUNDING)))


def _total_distance(x: np.ndarray, y: np.ndarray) -> float:
    return sum(float(np.sum(cdist(x[i : i + _BLOCK], y))) for i in range(0, len(x), _BLOCK))


def _ambiguity(draws: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float, float]:
    """Average score, diversity, and score of the pool, each by its own formula."""
    K, L, d = draws.shape
    between = cdist(draws.reshape(-1, d), draws.reshape(-1, d)).reshape(K, L, K, L).mean(axis=(1, 3))
    to_outcome, within = np.linalg.norm(draws - y, axis=2).mean(axis=1), np.diagonal(between)
    distances = 2 * between - within[:, None] - within[None, :]
    return weights @ (to_outcome - within / 2), weights @ distances @ weights / 4, weights @ to_outcome - weights @ between @ weights / 2


Line = Gaussian | GaussianMixture


def _on_line(argument: str, law: Line) -> Line:
    """A law on the line.

    Raises:
        ValueError: if it is not.
    """
    if law.dim != 1:
        refuse(argument, f"dimension {law.dim}", "a law on the line", "Take a marginal; draws of any dimension have an `energy_score`.")
    return law


def _parts(law: Line) -> tuple[Float[Array, " K"], Float[Array, " K"], Float[Array, " K"]]:
    """Weights, means and variances of the components."""
    weights, components = weighted_components(law)
    return weights, components.mean[:, 0], jax.vmap(lambda component: component.covariance.diagonal()[0])(components)


def _mean_absolute(mean: Float[Array, "..."], variance: Float[Array, "..."]) -> Float[Array, "..."]:
    """E|N(mean, variance)|."""
    scale = jnp.sqrt(variance)
    z = mean / scale
    return 2 * scale * jax.scipy.stats.norm.pdf(z) + mean * (2 * jax.scipy.special.ndtr(z) - 1)


def _pairs(p: Line, q: Line) -> Float[Array, ""]:
    (w, m, v), (u, n, s) = _parts(p), _parts(q)
    return w @ _mean_absolute(m[:, None] - n[None, :], v[:, None] + s[None, :]) @ u


_mean_distance = eqx.filter_jit(_pairs)


@eqx.filter_jit
def _line_energy_distance(p: Line, q: Line) -> Float[Array, ""]:
    return 2 * _pairs(p, q) - _pairs(p, p) - _pairs(q, q)


@eqx.filter_jit
def _crps(law: Line, y: Float[Array, "..."]) -> Float[Array, "..."]:
    w, m, v = _parts(law)
    to_outcome = jnp.tensordot(_mean_absolute(y[..., None] - m.reshape(*[1] * y.ndim, -1), jnp.broadcast_to(v, (*y.shape, v.size))), w, axes=1)
    return to_outcome - _pairs(law, law) / 2
