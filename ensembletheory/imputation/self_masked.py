r"""The self-masked Gaussian: values that hide themselves, in closed form (the selection model of Heckman 1979, for values that select themselves).

x ~ N(m, S) in R^d. A value x_j of the named columns is missing with probability Phi(b_j (x_j - t_j)), independently given x: if and only if its score a_j + b_j x_j + e_j is
positive, with a_j = -b_j t_j and e_j ~ N(0, 1) (no noise at the hard threshold b -> infinity, where the score is x_j - t_j). Other columns may be missing at random, whose
mechanism drops out. With mu, C the conditional mean and covariance of x given x_o, and for a row in which the named column j is missing,

    alpha = (a_j + b_j mu_j) / sd,    sd^2 = b_j^2 C_jj + 1,    delta = b_j C_:j / sd,    r = phi(alpha) / Phi(alpha):

    log p(x_o, mask) = log N(x_o; m_o, S_oo) + log Phi(alpha) + sum over named columns k that are seen of log Phi(-a_k - b_k x_k),
    E[x | x_o, mask] = mu + r delta,      Cov[x | x_o, mask] = C - r (r + alpha) delta delta^T,

and x_u is extended skew normal (`ExtendedSkewNormal`). The form is closed where at most one named column is missing in a row; with several, Phi(alpha) becomes the
probability of an orthant, and such rows are refused. It is what not-MIWAE with a linear decoder and a probit mechanism approximates (Ipsen, Mattei & Frellsen 2021).

What ignoring the mechanism costs, where one column j hides values and the others are always seen. Given that x_j is seen, x is extended skew normal with the opposite score,
so its moments are closed. Whoever maximises the likelihood of what is observed alone gets in the limit the right law of the others x_r, and for x_j the regression on x_r
among the rows that show it, which is wrong: `ignoring_limit` (derived here). In dimension 1 its mean is that of what is seen, m - r(-alpha) delta. An imputer k + beta^T x_r
has on the values that are missing the mean squared error `hidden_error`, in closed form, beside the least possible one, `least_error`.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, checked_count, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.fitting.mixture_em import condition
from ensembletheory.imputation.conditionals import conditional_draws, conditional_law
from ensembletheory.imputation.masks import SelfMasked
from ensembletheory.imputation.tiles import read_rows
from ensembletheory.laws import ExtendedSkewNormal, Gaussian
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.gaussian import is_singular
from ensembletheory.laws.skew_normal import inverse_mills, log_cdf, truncated_normal
from ensembletheory.linalg import solve_spd

__all__ = ["Scores", "SelfMaskedGaussian", "hidden_error", "ignoring_limit", "joint_log_prob", "least_error", "refuse_several", "scores_of"]

_BLOCK = 1024  # rows conditioned at once


class Scores(NamedTuple):
    """For each column: the score offset + slope x + noise e that is positive where its value hides, and whether it has one."""

    offset: Float[Array, " d"]
    slope: Float[Array, " d"]
    noise: Float[Array, " d"]
    hiding: Bool[Array, " d"]


class SelfMaskedGaussian(eqx.Module):
    """Rows of a Gaussian `law`, of which the `mechanism`, a probit one, hides values.

    Raises:
        ValueError: if the law is singular, or the mechanism is not probit or names columns that the law has not.
    """

    law: Gaussian
    mechanism: SelfMasked

    def __check_init__(self):
        if self.mechanism.link != "probit":
            refuse("mechanism", f"link {self.mechanism.link!r}", '"probit"', "Only the probit link keeps Gaussians in closed form.")
        if is_singular(self.law):
            refuse("law", "a singular Gaussian", "one with a density", "Add noise to it.")
        self.mechanism.hiding(self.law.dim)

    @property
    def hiding(self) -> list[int]:
        """The columns that hide values."""
        return self.mechanism.hiding(self.law.dim)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent rows, NaN = missing."""
        key_rows, key_mask = jax.random.split(key)
        X = np.asarray(self.law.sample(key_rows, n))
        return jnp.asarray(np.where(self.mechanism.observed(key_mask, X), X, np.nan))

    def log_prob(self, X: Numbers) -> Float[Array, " n"]:
        """Log p(x_o, mask) in nats of each row of X (n, d), NaN = missing; differentiable in the law, the slope and the threshold.

        Raises:
            ValueError: if X is not a table of numbers with the columns of the law, holds an infinity, or a row hides several values of named columns.
        """
        return self._rows(X).log_prob

    def conditional_mean(self, X: Numbers) -> Float[Array, "n d"]:
        """E[x | x_o, mask] of each row of X (n, d), NaN = missing: observed values are kept.

        Raises:
            ValueError: as `log_prob`.
        """
        return self._rows(X).mean

    def conditional_variance(self, X: Numbers) -> Float[Array, "n d"]:
        """Var[x_j | x_o, mask] of each entry of X (n, d), NaN = missing: 0 where observed.

        Raises:
            ValueError: as `log_prob`.
        """
        return self._rows(X).variance

    def conditional_draws(self, key: PRNGKeyArray, X: Numbers, n: int) -> Float[Array, "n rows d"]:
        """`n` completed copies of X (rows, d), NaN = missing, each missing part drawn from its exact conditional given what is seen and that the rest hides.

        Raises:
            ValueError: as `log_prob`, or if n < 1.
        """
        key_plain, key_noise, key_cut = jax.random.split(key, 3)
        rows, plain = self._rows(X), conditional_draws(key_plain, self.law, X, checked_count("n", n, 1))
        return _selected(rows, plain, jax.random.normal(key_noise, plain.shape[:2], plain.dtype), jax.random.uniform(key_cut, plain.shape[:2], plain.dtype))

    def conditional_law(self, x: Numbers) -> Gaussian | ExtendedSkewNormal:
        """The law of the missing coordinates of one row x (d,), in order, given those observed and which are missing.

        Raises:
            ValueError: as `log_prob`, or if nothing in x is missing.
        """
        row = read_rows(np.asarray(x)[None], self.law.dim)
        refuse_several(row, self.hiding)
        plain: Gaussian = conditional_law(self.law, row[0])  # pyright: ignore[reportAssignmentType]
        missing = np.flatnonzero(np.isnan(row[0])).tolist()
        hidden = [j for j in missing if j in self.hiding]
        return _where(self, plain, missing.index(hidden[0]), hidden[0], 1) if hidden else plain

    def of_rows(self, seen: bool) -> ExtendedSkewNormal:
        """The law of complete rows given that the one column that hides values shows its value (`seen`), or hides it.

        Raises:
            ValueError: if several columns hide values.
        """
        column = _only(self)
        return _where(self, self.law, column, column, -1 if seen else 1)

    def _rows(self, X: Numbers) -> "_Rows":
        values = read_rows(X, self.law.dim)
        refuse_several(values, self.hiding)
        seen = ~np.isnan(values)
        return _conditioned(self, jnp.asarray(np.where(seen, values, 0.0)), jnp.asarray(seen))


def ignoring_limit(model: SelfMaskedGaussian) -> Gaussian:
    """The Gaussian that maximises the expected likelihood of what is observed, the mechanism ignored; one column hides values, the others are always seen.

    Raises:
        ValueError: if several columns hide values.
    """
    return _ignoring_limit(model.law, model.of_rows(seen=True), _only(model))


def hidden_error(model: SelfMaskedGaussian, law: Gaussian) -> Estimate:
    """The mean squared error, on the values that `model` hides, of imputing them by their conditional mean under `law` given the other columns; in closed form.

    Raises:
        ValueError: if several columns hide values, or the dimensions differ.
    """
    if law.dim != model.law.dim:
        refuse("law", f"dimension {law.dim}", f"dimension {model.law.dim}", "Impute the same columns.")
    return closed_form(_hidden_error(model.of_rows(seen=False), law, _only(model)))


def least_error(model: SelfMaskedGaussian) -> Estimate:
    """The least mean squared error, on the values that `model` hides, of any imputer that sees the other columns: that of E[x | x_o, mask].

    It is the mean of a conditional variance that depends on the row through the plain conditional mean alone, whose law given that the value hides is extended skew
    normal on a line: an integral, by quadrature; in closed form for d = 1.

    Raises:
        ValueError: if several columns hide values.
    """
    column, hidden = _only(model), model.of_rows(seen=False)
    if model.law.dim == 1:
        return closed_form(hidden.cov[0, 0])
    predictions, parts = _predictions(model.law, hidden, column)
    return expectation(predictions, _hidden_variance, parts)


class _Rows(NamedTuple):
    """For each row: its log-likelihood and conditional moments, the plain conditional mean, and of the score of what hides the standardised mean and the rest."""

    log_prob: Float[Array, " n"]
    mean: Float[Array, "n d"]
    variance: Float[Array, "n d"]
    plain: Float[Array, "n d"]
    alpha: Float[Array, " n"]
    delta: Float[Array, "n d"]
    slopes: Float[Array, "n d"]
    noise: Float[Array, " n"]


@eqx.filter_jit
def _conditioned(model: SelfMaskedGaussian, values: Float[Array, "n d"], observed: Bool[Array, "n d"]) -> _Rows:
    mean, cov, scores = model.law.mean, model.law.cov, scores_of(model)
    return jax.lax.map(lambda part: _row(mean, cov, scores, *part), (values, observed), batch_size=_BLOCK)


@eqx.filter_jit
def _where(model: SelfMaskedGaussian, law: Gaussian, place: int, column: int, sign: int) -> ExtendedSkewNormal:
    """Of `law`, the part where `sign` times the score of `column` is positive, which is coordinate `place`."""
    scores = scores_of(model)
    slope = sign * scores.slope[column]
    return ExtendedSkewNormal(law, jnp.zeros(law.dim).at[place].set(slope), sign * scores.offset[column] + slope * law.mean[place], scores.noise[column])


def joint_log_prob(mean: Float[Array, " d"], cov: Float[Array, "d d"], scores: Scores, x: Float[Array, " d"], observed: Bool[Array, " d"]) -> Float[Array, ""]:
    """Log p(x_o, mask) of one row, which hides at most one value; those missing are 0 in `x`."""
    return _row(mean, cov, scores, x, observed).log_prob


def _row(mean: Float[Array, " d"], cov: Float[Array, "d d"], scores: Scores, x: Float[Array, " d"], observed: Bool[Array, " d"]) -> _Rows:
    log_prob, plain, spread = condition(mean, cov, x, observed)
    hidden = (scores.hiding & ~observed).astype(x.dtype)
    hides = jnp.sum(hidden) > 0
    slopes = hidden * scores.slope
    sd = jnp.sqrt(jnp.where(hides, slopes @ spread @ slopes + hidden @ scores.noise**2, 1.0))
    alpha, delta = jnp.where(hides, (hidden @ scores.offset + slopes @ plain) / sd, 0.0), spread @ slopes / sd
    ratio, excess = inverse_mills(alpha)
    log_prob = log_prob + jnp.where(hides, log_cdf(alpha), 0.0) + jnp.sum(_log_shown(scores, x, observed))
    return _Rows(log_prob, plain + ratio * delta, jnp.diagonal(spread) - ratio * excess * delta**2, plain, alpha, delta, slopes / sd, hidden @ scores.noise / sd)


def _log_shown(scores: Scores, x: Float[Array, " d"], observed: Bool[Array, " d"]) -> Float[Array, " d"]:
    """The log-probability that each value of a named column shows itself, 0 for the others."""
    score, noise = scores.offset + scores.slope * x, jnp.where(scores.noise > 0, scores.noise, 1.0)
    shown = jnp.where(scores.noise > 0, log_cdf(-score / noise), jnp.where(score > 0, -jnp.inf, 0.0))
    return jnp.where(scores.hiding & observed, shown, 0.0)


@eqx.filter_jit
def _selected(rows: _Rows, plain: Float[Array, "n rows d"], noise: Float[Array, "n rows"], uniform: Float[Array, "n rows"]) -> Float[Array, "n rows d"]:
    """Of draws that know nothing of the mechanism, those that know it: their standardised score is replaced by a positive one."""
    score = jnp.einsum("rd,nrd->nr", rows.slopes, plain - rows.plain[None]) + rows.noise[None, :] * noise
    cut = truncated_normal(1 - uniform, jnp.broadcast_to(rows.alpha, uniform.shape))
    return plain + (cut - score)[:, :, None] * rows.delta[None]


def scores_of(model: SelfMaskedGaussian) -> Scores:
    """The scores of the columns of a model."""
    d, which = model.law.dim, np.asarray(model.hiding)
    slope, threshold = (jnp.broadcast_to(part, which.shape) for part in (model.mechanism.slope, model.mechanism.threshold))
    hard = jnp.isinf(slope)
    scale = jnp.where(hard, jnp.sign(slope), slope)
    placed = [jnp.zeros(d, scale.dtype).at[which].set(part) for part in (-scale * threshold, scale, jnp.where(hard, 0.0, 1.0))]
    return Scores(placed[0], placed[1], placed[2], jnp.asarray(np.isin(np.arange(d), which)))


def refuse_several(values: np.ndarray, hiding: list[int]) -> None:
    """Refuse rows (n, d), NaN = missing, of which several named columns are missing.

    Raises:
        ValueError: naming the first such row.
    """
    several = np.flatnonzero(np.isnan(values[:, hiding]).sum(axis=1) > 1)
    if several.size:
        got = f"{several.size} rows that hide several values (index {several[0]}{', ...' if several.size > 1 else ''})"
        refuse("X", got, f"at most one missing value a row in the columns {hiding}", "With several, the likelihood is an orthant probability, which has no closed form.")


def _only(model: SelfMaskedGaussian) -> int:
    """The one column that hides values.

    Raises:
        ValueError: if there are several.
    """
    if len(model.hiding) > 1:
        refuse("mechanism", f"columns {model.hiding}", "one column", "What ignoring costs is closed in form where one column hides values.")
    return model.hiding[0]


@eqx.filter_jit
def _ignoring_limit(law: Gaussian, seen: ExtendedSkewNormal, column: int) -> Gaussian:
    others = np.delete(np.arange(law.dim), column)
    slopes, intercept, left = _regression(seen.mean, seen.cov, column, others)
    S = law.cov[others[:, None], others]
    of_others = jnp.zeros((law.dim, law.dim - 1)).at[others].set(jnp.eye(law.dim - 1)).at[column].set(slopes)
    mean = (of_others @ law.mean[others]).at[column].add(intercept)
    return Gaussian(mean, (of_others @ S @ of_others.T).at[column, column].add(left))


@eqx.filter_jit
def _hidden_error(hidden: ExtendedSkewNormal, law: Gaussian, column: int) -> Float[Array, ""]:
    others = np.delete(np.arange(law.dim), column)
    slopes, intercept, _ = _regression(law.mean, law.cov, column, others)
    residual = jnp.zeros(law.dim).at[column].set(1.0).at[others].set(-slopes)
    return residual @ hidden.cov @ residual + (residual @ hidden.mean - intercept) ** 2


@eqx.filter_jit
def _predictions(law: Gaussian, hidden: ExtendedSkewNormal, column: int) -> tuple[ExtendedSkewNormal, tuple[Float[Array, ""], ...]]:
    """The law of E[x_j | x_r] given that x_j hides, and what `_hidden_variance` needs beside it, such as the variance of x_j that is left given x_r."""
    left = _regression(law.mean, law.cov, column, np.delete(np.arange(law.dim), column))[2]
    slope = hidden.direction[column]
    predictions = Gaussian(law.mean[column][None], (law.cov[column, column] - left)[None, None])
    predicted = ExtendedSkewNormal(predictions, slope[None], hidden.offset, jnp.sqrt(hidden.noise**2 + slope**2 * left))
    return predicted, (slope, hidden.offset, hidden.noise, left, law.mean[column])


def _hidden_variance(x: Float[Array, " 1"], slope, offset, noise, left, centre) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Var[x_j | x_r, hidden] where E[x_j | x_r] is x."""
    sd = jnp.sqrt(slope**2 * left + noise**2)
    ratio, excess = inverse_mills((offset + slope * (x[0] - centre)) / sd)
    variance = left - ratio * excess * (slope * left / sd) ** 2
    return variance, left + variance


def _regression(mean: Float[Array, " d"], cov: Float[Array, "d d"], column: int, others: np.ndarray) -> tuple[Float[Array, " r"], Float[Array, ""], Float[Array, ""]]:
    """Of a column on the others: slopes, intercept and the variance left."""
    if not others.size:
        return jnp.zeros(0, mean.dtype), mean[column], cov[column, column]
    slopes = solve_spd(cov[others[:, None], others], cov[others, column][:, None])[:, 0]
    return slopes, mean[column] - slopes @ mean[others], cov[column, column] - slopes @ cov[others, column]
