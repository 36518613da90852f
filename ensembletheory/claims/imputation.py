r"""Claims about imputing what is missing: the price of a draw, how errors fall with the number of members, and when multiple imputation covers.

Formulas and proofs: `ensembletheory.imputation.error_laws` and `ensembletheory.imputation.missing_mean`.
"""

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, spd
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.imputation.missing_mean import expected_total, variance_of_estimate
from ensembletheory.imputation.scores import crps
from ensembletheory.laws import GaussianMixture
from ensembletheory.linalg import solve_spd

__all__ = ["imputation_ensemble_law", "imputation_two_times_bayes", "rubin_coverage"]

ONE_MISSING = Domain(
    mean=real(-3, 3, shape=(3,)),
    cov=spd(3, 0.1, 5),
    intercept=real(-3, 3),
    slopes=real(-3, 3, shape=(2,)),
    draws=positive(1, 50),
)

Affine = tuple[Float[Array, ""], Float[Array, " o"]]  # x_o -> intercept + slopes . x_o


def _conditional(mean: Float[Array, " 3"], cov: Float[Array, "3 3"]) -> tuple[Affine, Float[Array, ""]]:
    """Of x_3 given x_1 and x_2: the mean and the variance."""
    slopes = solve_spd(cov[:2, :2], cov[:2, 2:])[:, 0]
    return (mean[2] - slopes @ mean[:2], slopes), cov[2, 2] - slopes @ cov[:2, 2]


def _squared_error(mean: Float[Array, " d"], cov: Float[Array, "d d"], imputed: Affine) -> Float[Array, ""]:
    """E (x_d - imputed)^2 under N(mean, cov)."""
    direction = jnp.append(-imputed[1], 1.0)
    return (direction @ mean - imputed[0]) ** 2 + direction @ cov @ direction


def _price(mean, cov, imputed: Affine, price: Float[Array, ""], law: tuple[Affine, Float[Array, ""]], draws) -> Estimate:
    """`price` times the error of an imputation, less the error of the mean of some draws of a law."""
    centre, variance = law
    return closed_form(price * _squared_error(mean, cov, imputed) - _squared_error(mean, cov, centre) - variance / draws)


def _best_guesses() -> Iterator[dict[str, Any]]:
    for mean, cov in (([1.0, -2.0, 0.5], [[2.0, 0.5, 1.0], [0.5, 1.0, -0.3], [1.0, -0.3, 1.5]]), ([0.0, 1.0, 2.0], [[1.0, 0.0, -0.5], [0.0, 3.0, 1.0], [-0.5, 1.0, 2.0]])):
        slopes = np.linalg.solve(np.array(cov)[:2, :2], np.array(cov)[:2, 2])
        guess = {"intercept": mean[2] - slopes @ np.array(mean[:2]), "slopes": slopes}
        yield from ({"mean": mean, "cov": cov, "draws": draws, **guess} for draws in (1.0, 7.0))


def _cheaper(mean, cov, intercept, slopes, draws) -> Estimate:
    return _price(mean, cov, (intercept, slopes), 1 + 0.9 / draws, _conditional(mean, cov), draws)


def _unconditional(mean, cov, intercept, slopes, draws) -> Estimate:
    return _price(mean, cov, (intercept, slopes), 1 + 1 / draws, ((mean[2], jnp.zeros(2)), cov[2, 2]), draws)


def _other_law(mean, cov, intercept, slopes, draws, other_mean, other_cov) -> Estimate:
    return _price(mean, cov, (intercept, slopes), 1 + 1 / draws, _conditional(other_mean, other_cov), draws)


@claim(
    id="imputation-two-times-bayes",
    statement=r"E \, (\frac{1}{L} \sum_l \tilde x_l - x)^2 = (1 + \frac{1}{L}) \, \min_f E \, (x - f(x_o))^2, \quad \tilde x_l \sim p(x|x_o)",
    source="derived here: a draw of the exact conditional errs by twice the Bayes error",
    domain=ONE_MISSING,
    kind="theorem",
    references=["rubin1987multiple", "mattei2019miwae"],
    equality=_best_guesses,
    mutants={
        "cheaper-draws": Mutant("the constant: 1 + 0.9 / L", _cheaper),
        "unconditional-draws": Mutant("draws from the conditional: from the marginal law of what is missing, instead", _unconditional),
        "other-law": Mutant(
            "draws from the conditional of p: from that of another law", _other_law, ONE_MISSING.replace(other_mean=real(-3, 3, shape=(3,)), other_cov=spd(3, 0.1, 5))
        ),
    },
    proof="Draws are independent of x given x_o and have its conditional variance v: the error is v + v / L, and v is the least error of any function of x_o.",
)
def imputation_two_times_bayes(mean, cov, intercept, slopes, draws) -> Estimate:
    """(1 + 1/L) times the squared error of an affine imputation, less that of the mean of L draws of the exact conditional."""
    return _price(mean, cov, (intercept, slopes), 1 + 1 / draws, _conditional(mean, cov), draws)


THREE_IMPUTERS = Domain(
    mean=real(-3, 3, shape=(2,)),
    cov=spd(2, 0.1, 5),
    intercepts=real(-3, 3, shape=(3,)),
    slopes=real(-3, 3, shape=(3,)),
    variances=positive(0.05, 5, shape=(3,)),
    seen=real(-3, 3),
    outcome=real(-5, 5),
)

_ROUNDING = 1e-12  # relative, of differences of losses
Loss = Callable[[list[int]], Float[Array, ""]]  # of the ensemble of some members


def _law_of(loss: Loss) -> Float[Array, ""]:
    """What the third member gains; minus the distance from A + B / M, whose fall from 1 to 2 is three times that from 2 to 3, where that is more than rounding.

    Losses are averaged over all subsets of a size.
    """
    one, two, three = (jnp.mean(jnp.stack([loss(list(subset)) for subset in combinations(range(3), size)])) for size in (1, 2, 3))
    gain, off = two - three, jnp.abs((one - two) - 3 * (two - three))
    return jnp.where(off > _ROUNDING * (jnp.abs(one) + jnp.abs(two) + jnp.abs(three)), jnp.minimum(gain, -off), gain)


def _mean_squares(mean, cov, intercepts, slopes) -> Loss:
    return lambda members: _squared_error(mean, cov, (jnp.mean(intercepts[np.array(members)]), jnp.mean(slopes[np.array(members)])[None]))


def _pool_scores(intercepts, slopes, variances, seen, outcome) -> Loss:
    def score(members: list[int]) -> Float[Array, ""]:
        who = np.array(members)
        pool = GaussianMixture(jnp.full(len(who), 1 / len(who)), (intercepts + slopes * seen)[who][:, None], variances[who][:, None])
        return crps(pool, outcome)

    return score


def _equal_imputers() -> Iterator[dict[str, Any]]:
    for intercept, slope, variance in ((0.5, -1.0, 1.0), (-1.0, 2.0, 0.25)):
        imputers = {"intercepts": [intercept] * 3, "slopes": [slope] * 3, "variances": [variance] * 3}
        yield {"mean": [1.0, 0.5], "cov": [[2.0, 0.7], [0.7, 1.0]], "seen": 0.7, "outcome": -1.5, **imputers}


def _root(mean, cov, intercepts, slopes, variances, seen, outcome) -> Estimate:
    squares = _mean_squares(mean, cov, intercepts, slopes)
    return closed_form(_law_of(lambda members: jnp.sqrt(squares(members))))


def _in_one_order(mean, cov, intercepts, slopes, variances, seen, outcome) -> Estimate:
    squares = _mean_squares(mean, cov, intercepts, slopes)
    return closed_form(squares([0, 1]) - squares([0, 1, 2]))


def _weighed_by_what_is_seen(mean, cov, intercepts, slopes, variances, seen, outcome, densities) -> Estimate:
    def square(members: list[int]) -> Float[Array, ""]:
        who = np.array(members)
        weights = densities[who] / jnp.sum(densities[who])
        return (outcome - weights @ (intercepts + slopes * seen)[who]) ** 2

    return closed_form(_law_of(square))


@claim(
    id="imputation-ensemble-law",
    statement=r"E \, \ell(M) = A + B / M, \quad B \geq 0, \quad \ell \ \mathrm{the\ squared\ error\ or\ energy\ score\ of}\ M\ \mathrm{exchangeable\ imputers}",
    source="derived here, in the setting of Mattei & Garreau (2025)",
    domain=THREE_IMPUTERS,
    kind="theorem",
    references=["mattei2025ensembles", "gneiting2007strictly"],
    equality=_equal_imputers,
    mutants={
        "root": Mutant("a loss quadratic in the ensemble: the root of the mean squared error", _root),
        "one-order": Mutant("exchangeable members: the first two of three given ones", _in_one_order),
        "weighed-by-what-is-seen": Mutant(
            "equal weights: those of the linear pool given what is seen", _weighed_by_what_is_seen, THREE_IMPUTERS.replace(densities=positive(0.01, 1, shape=(3,)))
        ),
    },
    proof="Expand the square, or the double sum: M diagonal terms and M (M - 1) others; B is half a squared, or a quarter of an energy, distance of members, on average.",
)
def imputation_ensemble_law(mean, cov, intercepts, slopes, variances, seen, outcome) -> Estimate:
    """The least, over both losses, of what a third member gains, B / 6, or minus the distance from A + B / M where that is more than rounding."""
    squares, scores = _mean_squares(mean, cov, intercepts, slopes), _pool_scores(intercepts, slopes, variances, seen, outcome)
    return closed_form(jnp.minimum(_law_of(squares), _law_of(scores)))


TABLES = Domain(rows=positive(4, 400), share=real(0, 0.95), copies=positive(2, 100), spread=real(1, 3), level=real(0.5, 0.99))


def _nominal(level, ratio) -> Float[Array, ""]:
    """What an interval of this level covers if its squared length is `ratio` of what it should be, less the level."""
    return 2 * jax.scipy.special.ndtr(jax.scipy.special.ndtri((1 + level) / 2) * jnp.sqrt(ratio)) - 1 - level


def _proper() -> Iterator[dict[str, Any]]:
    for rows, share, copies, spread in ((50.0, 0.3, 5.0, 1.0), (8.0, 0.75, 2.0, 1.0), (20.0, 0.0, 10.0, 2.5)):
        yield {"rows": rows, "share": share, "copies": copies, "spread": spread, "level": 0.95}


def _without_simulation_error(rows, share, copies, spread, level) -> Estimate:
    missing = share * rows
    return closed_form(expected_total(rows, missing, jnp.inf, spread) / variance_of_estimate(rows, missing, copies, spread) - 1)


def _as_if_complete(rows, share, copies, spread, level) -> Estimate:
    return closed_form(_nominal(level, 1 - share))


@claim(
    id="rubin-coverage",
    statement=r"E \, T = \mathrm{Var} \, \bar Q, \quad \lim_m P(|\bar Q - \mu| \leq z \sqrt{T}) = \mathrm{level} \quad (\mathrm{proper\ draws};\ \geq \mathrm{if\ wider})",
    source="Rubin (1987); the exact laws for the mean of a Gaussian with known variance, values missing completely at random, are derived here",
    domain=TABLES,
    kind="theorem",
    references=["rubin1987multiple", "barnard1999small"],
    equality=_proper,
    mutants={
        "improper-draws": Mutant(
            "parameters drawn with at least their posterior variance: fixed at, or drawn too near, their estimate", None, TABLES.replace(spread=real(0, 0.9))
        ),
        "without-simulation-error": Mutant("the factor 1 + 1/m of B", _without_simulation_error, TABLES.replace(spread=real(1, 1.01))),
        "as-if-complete": Mutant("the variance between copies: the completed table is taken for a complete one", _as_if_complete),
    },
    proof="T and Q as in imputation.missing_mean: E T - Var Q = (spread - 1) (missing / rows)^2 / observed; in the limit T is a constant and Q Gaussian.",
)
def rubin_coverage(rows, share, copies, spread, level) -> Estimate:
    """The lesser of E T / Var Q - 1, and what infinitely many copies cover less the level."""
    missing = share * rows
    unbiased = expected_total(rows, missing, copies, spread) / variance_of_estimate(rows, missing, copies, spread) - 1
    return closed_form(jnp.minimum(unbiased, _nominal(level, expected_total(rows, missing, jnp.inf, spread) * (rows - missing))))
