r"""What ensembles of Gaussian fits by maximum likelihood are expected to gain.

The target is any Gaussian p on R^d. Each member is N(m_k, S_k), the sample mean and the sample covariance (divided by n) of its own n points, which are

 - `independent`: drawn from p, anew for each member;
 - `parametric_bootstrap`: drawn from the fit N(m, S) to one set of n points from p;
 - `bootstrap`: drawn with replacement from one set of n points from p.

Fits and pools are equivariant under affine maps, so that the expected KL from p to the pool is the same for every p: take N(0, I). Then m_k ~ N(0, I/n) and, independent
of it, n S_k ~ Wishart(I, n - 1). For m ~ N(0, v I) and C ~ Wishart(I, f) independent, E C^{-1} = I / (f - d - 1) and
E log det C = sum_{i < d} digamma((f - i)/2) + d log 2 give

    E KL( N(0, I) || N(m, C/c) ) = 1/2 [ d (c (1 + v) / (f - d - 1) - 1) + sum_{i < d} digamma((f - i)/2) + d log(2/c) ],   infinite unless f > d + 1.     (*)

| pool of K independent fits      | its law                                                          | expected KL                                                      |
|---------------------------------|------------------------------------------------------------------|------------------------------------------------------------------|
| one fit                         |                                                                  | (*) with f = n - 1, c = n, v = 1/n: finite iff n > d + 2         |
| `average_covariances`           | K n times its covariance ~ Wishart(I, K (n - 1))                 | (*) with f = K (n - 1), c = K n, v = 1/(K n)                     |
| `match_moments`                 | the fit to all K n points                                        | the fit's with K n for n                                         |
| `log_pool`                      | the mean precision tends to n / (n - d - 2) I                    | K = oo: d/2 (1/a - 1 + log a), a = (n - d - 2)/n; d = 1: exact   |
|                                 |                                                                  | by quadrature (see `chi_square`); else Monte Carlo               |
| `linear_pool`                   | E N(x; m, S) as K -> oo                                          | K = oo, d = 1: exact by quadrature; else Monte Carlo             |

So averages of covariances keep the bias of the single fit, (n - 1)/n; the log pool has a larger one, for precisions are biased upwards: in the limit its variance is
(n - d - 2)/n of the target's; the linear pool is the predictive law of the fits.

Parametric bootstrap: given the fit N(m, S), the members are independent fits to n points, mapped by x -> m + S^{1/2} x.
A Gaussian pool N(u, V) of independent fits with E V^{-1} = A I thus becomes N(m + S^{1/2} u, S^{1/2} V S^{1/2}), and the expected KL grows by exactly

    1/2 [ d A ( (1 + 1/n) n / (n - d - 2) - 1 ) + E log det S ],     A = n / (n - d - 2) for the log pool, c / (f - d - 1) for averages.

Monte Carlo draws the fits; KL from p to a Gaussian pool is then exact, that to a linear pool is averaged over points of p (stratified on the line). Its
standard error needs a second moment: n > d + 4 in general, K (n - d) > 4 for linear pools of independent fits; for the bootstrap also at least d + 5 different points in
every resample, on which it is conditional, since resamples of fewer would make the expectation (or the variance) infinite.
"""

from collections.abc import Callable
from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.gains import chi_square
from ensembletheory.gains.simulated_fits import simulated
from ensembletheory.laws import Law
from ensembletheory.laws.weights import checked_weights
from ensembletheory.pooling import average_covariances, linear_pool, log_pool, match_moments
from ensembletheory.precision import require_x64

__all__ = ["ExpectedGain", "Fits", "expected_gain", "expected_kl", "expected_kl_of_fit", "wishart_kl"]

Fits = Literal["independent", "parametric_bootstrap", "bootstrap"]
Rule = Callable[..., Law]

_RULES: dict[Rule, str] = {linear_pool: "linear", log_pool: "log", average_covariances: "covariances", match_moments: "moments"}
_DEFAULT_SAMPLES = 10_000


class ExpectedGain(eqx.Module):
    """Expected KL from the target: of one member, of the pool; and what pooling gains."""

    average: Estimate
    ensemble: Estimate
    gain: Estimate


def expected_gain(
    rule: Rule,
    n: int,
    d: int = 1,
    K: int | float = 2,
    fits: Fits = "independent",
    weights: Numbers | None = None,
    key: PRNGKeyArray | None = None,
    samples: int | None = None,
) -> ExpectedGain:
    """What pooling K Gaussian fits is expected to gain over one of them, in KL from the target; arguments as of `expected_kl`.

    Raises:
        ValueError: as `expected_kl`.
    """
    average = expected_kl(rule, n, d, 1, fits, None, key, samples)
    ensemble = expected_kl(rule, n, d, K, fits, weights, key, samples)
    return ExpectedGain(average, ensemble, average - ensemble)


def expected_kl(
    rule: Rule,
    n: int,
    d: int = 1,
    K: int | float = 2,
    fits: Fits = "independent",
    weights: Numbers | None = None,
    key: PRNGKeyArray | None = None,
    samples: int | None = None,
) -> Estimate:
    """Expected KL from a Gaussian on R^d to the pool of K Gaussians, each fitted by maximum likelihood to n points: see the module for what is exact.

    Args:
        rule: `linear_pool`, `log_pool`, `average_covariances` or `match_moments`.
        n: points a fit, more than d.
        d: the dimension.
        K: number of members; jnp.inf for the limit.
        fits: where the points of the members come from.
        weights: of the members, on the simplex; anything but equal weights is answered by Monte Carlo.
        key: needed where only Monte Carlo can answer.
        samples: number of simulated ensembles (default 10,000); giving it asks for Monte Carlo unless K is infinite.

    Raises:
        ValueError: if the rule or the fits are none of those above, n <= d, K < 1, the weights are off the simplex; if a key is needed; if the limit has no exact answer, or a
            Monte-Carlo answer no standard error.
        RuntimeError: in 32-bit mode.
    """
    require_x64("expected_kl")
    _check(rule, n, d, K, fits)
    exact = None if samples is not None and np.isfinite(K) else _exact(_RULES[rule], n, d, K, fits)
    if exact is not None and (weights is None or _equal(weights, K)):
        return exact
    if np.isinf(K):
        refuse("K", f"infinitely many members, {fits}, in dimension {d}", "a number of members, since this limit has no exact answer", "Pass K=100, say, and a key.")
    if key is None:
        refuse("key", "None", "a PRNG key, since only Monte Carlo can answer", "Pass key=jax.random.key(0), and samples=n if you like.")
    _check_moments(_RULES[rule], n, d, int(K), fits)
    return simulated(key, _RULES[rule], fits, n, checked_weights(weights, int(K)), d, _DEFAULT_SAMPLES if samples is None else samples)


def expected_kl_of_fit(n: int | float | Float[Array, ""], d: int = 1) -> Estimate:
    """Expected KL from a Gaussian on R^d to the Gaussian fitted to n of its points by maximum likelihood: infinite unless n > d + 2."""
    n = jnp.asarray(n, dtype=jnp.result_type(float))
    return closed_form(wishart_kl(d, n - 1, n, 1 / n))


def _check(rule: Rule, n: int, d: int, K: int | float, fits: Fits) -> None:
    if rule not in _RULES:
        names = ", ".join(known.__name__ for known in _RULES)
        refuse("rule", getattr(rule, "__name__", repr(rule)), f"one of {names}", "Other rules have no known expectation: simulate them.")
    if fits not in get_args(Fits):
        refuse("fits", repr(fits), f"one of {', '.join(map(repr, get_args(Fits)))}", "See ensembletheory.gains.gaussian_fits.")
    if d < 1 or n <= d:
        refuse("n", f"{n} points in dimension {d}", f"more than {d} points", "Fewer have a singular sample covariance.")
    if not K >= 1 or (np.isfinite(K) and K != int(K)):
        refuse("K", str(K), "a whole number >= 1, or jnp.inf", "K is the number of members.")


def _equal(weights: Numbers, K: int | float) -> bool:
    return bool(np.isfinite(K)) and bool(np.all(np.asarray(checked_weights(weights, int(K))) == 1 / int(K)))


def _check_moments(rule: str, n: int, d: int, K: int, fits: Fits) -> None:
    if rule == "linear" and fits == "independent":
        if K * (n - d) <= 4:
            refuse("n", f"{n} points, {K} members, dimension {d}", "K (n - d) > 4", "Below, the Monte-Carlo estimate has no standard error: use more members or points.")
    elif n <= d + 4:
        refuse("n", f"{n} points in dimension {d}", f"more than {d + 4}", "Below, the Monte-Carlo estimate has no standard error: use more points.")


def _exact(rule: str, n: int, d: int, K: int | float, fits: Fits) -> Estimate | None:
    """The exact answer for equal weights, or None."""
    if fits == "bootstrap":
        return None
    if rule == "linear":
        return _exact_linear(n, d, K, fits)
    independent = _exact_gaussian(rule, n, d, K)
    if independent is None or fits == "independent":
        return independent
    return independent + _bootstrap_surplus(rule, n, d, K)


def _exact_linear(n: int, d: int, K: int | float, fits: Fits) -> Estimate | None:
    if K == 1:
        return _exact("covariances", n, d, 1, fits)
    if d > 1 or np.isfinite(K):
        return None
    if fits == "independent":
        return chi_square.linear_limit(jnp.asarray(float(n)))
    return chi_square.bootstrap_linear_limit(jnp.asarray(float(n))) if n > 2 else closed_form(jnp.inf)


def _exact_gaussian(rule: str, n: int, d: int, K: int | float) -> Estimate | None:
    """Of a Gaussian pool of independent fits."""
    if rule == "log":
        if n <= d + 2:
            return closed_form(jnp.inf)
        if np.isinf(K):
            return closed_form(_isotropic_kl(d, jnp.asarray((n - d - 2) / n)))
        if K > 1:
            return chi_square.log_pool_on_the_line(jnp.asarray(float(n)), jnp.asarray(float(K))) if d == 1 else None
    if np.isinf(K):
        return closed_form(_isotropic_kl(d, jnp.asarray((n - 1) / n if rule == "covariances" else 1.0)))
    points = float(K * n)
    return closed_form(wishart_kl(d, jnp.asarray(_freedom(rule, n, int(K))), jnp.asarray(points), jnp.asarray(1 / points)))


def _freedom(rule: str, n: int, K: int) -> float:
    """Degrees of freedom of the pooled covariance."""
    return float(K * n - 1 if rule == "moments" else K * (n - 1))


def _bootstrap_surplus(rule: str, n: int, d: int, K: int | float) -> Estimate:
    """What the parametric bootstrap adds: the last display of the module."""
    if n <= d + 2:
        return closed_form(jnp.inf)
    fit = n / (n - d - 2)
    if rule == "log":
        precision = fit
    elif np.isinf(K):
        precision = n / (n - 1) if rule == "covariances" else 1.0
    else:
        precision = K * n / (_freedom(rule, n, int(K)) - d - 1)
    return closed_form(0.5 * (d * precision * ((1 + 1 / n) * fit - 1) + _mean_logdet(d, jnp.asarray(n - 1.0), jnp.asarray(float(n)))))


@eqx.filter_jit
def wishart_kl(d: int, dof: Float[Array, ""], divisor: Float[Array, ""], mean_variance: Float[Array, ""]) -> Float[Array, ""]:
    """E KL(N(0, I) || N(m, C/divisor)) of m ~ N(0, mean_variance I) and C ~ Wishart(I, dof): the display (*) of the module."""
    finite = dof > d + 1
    precision = divisor / jnp.where(finite, dof - d - 1, 1.0)
    return jnp.where(finite, 0.5 * (d * (precision * (1 + mean_variance) - 1) + _mean_logdet(d, jnp.where(finite, dof, d + 2.0), divisor)), jnp.inf)


def _mean_logdet(d: int, dof: Float[Array, ""], divisor: Float[Array, ""]) -> Float[Array, ""]:
    """E log det(C / divisor), C ~ Wishart(I, dof)."""
    return jnp.sum(digamma((dof - jnp.arange(d, dtype=dof.dtype)) / 2)) + d * jnp.log(2 / divisor)


@eqx.filter_jit
def _isotropic_kl(d: int, variance: Float[Array, ""]) -> Float[Array, ""]:
    """KL(N(0, I) || N(0, variance I))."""
    excess = 1 / variance - 1
    return 0.5 * d * (excess - jnp.log1p(excess))
