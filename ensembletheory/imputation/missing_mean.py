r"""Multiple imputation of the mean of a Gaussian sample, exactly.

Of n rows of N(mu, s2) n_1 are observed and n_0 = n - n_1 missing completely at random. Copy l imputes the missing ones, Q_l is the mean of its n values and U_l its variance.

**Known variance.** The imputations are N(a, s2) with one a ~ N(mean of the observed, rho s2 / n_1) a copy: rho = 1 are proper draws (the posterior under a flat prior), rho
= 0 improper ones, with the parameter at its estimate. Given the observed values the Q_l are independent N(mean of the observed, b), and U_l = s2 / n, so that

    b = s2 (n_0^2 / n^2) (rho / n_1 + 1 / n_0),     Var Q = s2 / n_1 + b / m,     E T = s2 / n + (1 + 1/m) b,     E T - Var Q = -(1 - rho) (n_0 / n)^2 s2 / n_1,

whatever m: Rubin's T is unbiased if and only if the draws are proper. B is independent of Q and (m - 1) B / b ~ chi^2 with m - 1 degrees of freedom, so the interval covers
mu with

    E_B [ 2 Phi( t_nu(B) sqrt(T(B) / Var Q) ) - 1 ],     as m -> infinity   2 Phi( z sqrt(1 - (1 - rho) (n_0 / n)^2) ) - 1,

an integral on the line. Proper draws cover at the nominal level in the limit, but not exactly for finite m: Student's law is an approximation, worst for m = 2. With the
normal quantile in place of Student's, a finite m covers less than the level (Jensen: 2 Phi(z sqrt(x)) - 1 is concave).

**Estimated variance**, n_1 > 3: s2* = (n_1 - 1) s_1^2 / chi^2 with n_1 - 1 degrees of freedom, a ~ N(mean of the observed, s2* / n_1), the imputations N(a, s2*), and U_l the
sample variance of the copy over n. With k = (n_1 - 1) / (n_1 - 3), the mean of s2* / s_1^2,

    Var Q = s2 [ 1/n_1 + k (1/n_1 - 1/n) / m ],     E T = s2 k [ (n - 3) / (n (n - 1)) + (1 + 1/m) (1/n_1 - 1/n) ],
    E T - Var Q = 2 s2 / (n_1 - 3) [ 1/n_1 - (n_1 - 1) / (n (n - 1)) ]  >= 0,

zero only if nothing is missing: T is a little too large on average. Its coverage is an expectation over the imputations alone, for (mean of the observed - mu) sqrt(n_1) /
s_1 is Student's and independent of them, which Monte Carlo answers.

**Mean imputation** puts the mean of the observed in every hole and takes the copy for a complete table: Q is right, the variance (n_1 - 1) s_1^2 / (n (n - 1)) too small by
almost the square of the share observed, and the coverage is P(|t_{n_1 - 1}| <= t_{n - 1} sqrt((n_1 - 1) n_1 / ((n - 1) n))).

Rubin (1987) for the rules; the formulas are derived here.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy import integrate, special, stats

from ensembletheory.errors import checked_count, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form, monte_carlo
from ensembletheory.imputation.rubin import checked_level, pool_estimates

__all__ = [
    "between_variance",
    "coverage",
    "coverage_of_mean_imputation",
    "coverage_with_estimated_variance",
    "expected_total",
    "expected_total_with_estimated_variance",
    "variance_of_estimate",
    "variance_with_estimated_variance",
]

_DEFAULT_SAMPLES = 20_000
_BOX = 1e-16  # of the law of B, which the quadrature leaves out on either side


def between_variance(rows: Any, missing: Any, spread: Any = 1.0) -> Any:
    """B on average, b / s2, with known variance: `spread` is rho, 1 for proper draws and 0 for improper ones; any numbers or arrays with 0 <= missing < rows.

    Raises:
        ValueError: if missing is out of that range (and can be looked at), here and below.
    """
    _check_observed(rows, missing, 0)
    return missing / rows**2 * (spread * missing / (rows - missing) + 1)


def variance_of_estimate(rows: Any, missing: Any, copies: Any, spread: Any = 1.0) -> Any:
    """Var Q / s2 of m = `copies` >= 1, with known variance."""
    _check_copies(copies)
    return 1 / (rows - missing) + between_variance(rows, missing, spread) / copies


def expected_total(rows: Any, missing: Any, copies: Any, spread: Any = 1.0) -> Any:
    """E T / s2 of m = `copies` >= 1, with known variance."""
    _check_copies(copies)
    return 1 / rows + (1 + 1 / copies) * between_variance(rows, missing, spread)


def variance_with_estimated_variance(rows: Any, missing: Any, copies: Any) -> Any:
    """Var Q / s2 of proper draws, the variance being estimated from more than three observed rows."""
    _check_observed(rows, missing, 3)
    _check_copies(copies)
    observed = rows - missing
    return 1 / observed + (observed - 1) / (observed - 3) * (1 / observed - 1 / rows) / copies


def expected_total_with_estimated_variance(rows: Any, missing: Any, copies: Any) -> Any:
    """E T / s2 of proper draws, the variance being estimated from more than three observed rows."""
    _check_observed(rows, missing, 3)
    _check_copies(copies)
    observed = rows - missing
    return (observed - 1) / (observed - 3) * ((rows - 3) / (rows * (rows - 1)) + (1 + 1 / copies) * (1 / observed - 1 / rows))


def coverage(rows: int, missing: int, copies: int | float, level: float = 0.95, spread: float = 1.0) -> Estimate:
    """The probability that Rubin's interval covers the mean, with known variance; exact in the limit of infinitely many copies, else by quadrature.

    Args:
        rows: n.
        missing: n_0, less than n.
        copies: m >= 2, or infinity.
        level: of the interval.
        spread: rho >= 0, the variance of the drawn parameter relative to its posterior variance: 1 for proper draws, 0 for improper ones.

    Raises:
        ValueError: if an argument is out of range.
    """
    level = checked_level(level)
    _check(rows, missing, copies)
    if not 0 <= spread < math.inf:
        refuse("spread", f"{spread}", "a finite number >= 0", "1 for proper draws, 0 for parameters fixed at their estimates.")
    if missing == 0 or copies == math.inf:
        z = stats.norm.ppf((1 + level) / 2)
        return closed_form(_two_sided(z * np.sqrt(expected_total(rows, missing, math.inf, spread) * (rows - missing))))
    dof, root = copies - 1, math.sqrt(variance_of_estimate(rows, missing, copies, spread))
    slope, log_scale = (1 + 1 / copies) * between_variance(rows, missing, spread) / dof, math.log(2) * (1 - dof / 2) - math.lgamma(dof / 2)

    def integrand(y: float) -> float:
        total = 1 / rows + slope * y**2
        t = special.stdtrit(dof * (total / (slope * y**2)) ** 2, (1 + level) / 2)
        return math.exp((dof - 1) * math.log(y) - y**2 / 2 + log_scale) * _two_sided(t * math.sqrt(total) / root)

    low, high = stats.chi.ppf([_BOX, 1 - _BOX], dof)
    value, error = integrate.quad(integrand, low, high, epsabs=1e-11, epsrel=1e-11, limit=400)
    return Estimate(jnp.asarray(value), jnp.asarray(error + 2 * _BOX), "quadrature")


def coverage_of_mean_imputation(rows: int, missing: int, level: float = 0.95) -> Estimate:
    """The probability that the interval of the completed table covers the mean, all holes being filled with the mean of the observed values.

    Raises:
        ValueError: if an argument is out of range, or fewer than two values are observed.
    """
    level, observed = checked_level(level), rows - missing
    _check(rows, missing, 2, least=2)
    shrunk = np.sqrt((observed - 1) * observed / ((rows - 1) * rows))
    return closed_form(2 * stats.t.cdf(stats.t.ppf((1 + level) / 2, rows - 1) * shrunk, observed - 1) - 1)


def coverage_with_estimated_variance(
    key: PRNGKeyArray, rows: int, missing: int, copies: int | float, level: float = 0.95, small: bool = True, samples: int = _DEFAULT_SAMPLES
) -> Estimate:
    """The probability that Rubin's interval of proper draws covers the mean, the variance being estimated: the mean over draws of the imputations of an exact probability.

    Args:
        key: of the imputations.
        rows: n.
        missing: n_0, with at least two values observed.
        copies: m >= 2, finite.
        level: of the interval.
        small: whether the degrees of freedom are Barnard and Rubin's, with n - 1 for the complete table, or Rubin's of large tables.
        samples: how many sets of m imputations.

    Raises:
        ValueError: if an argument is out of range.
    """
    level = checked_level(level)
    if copies == math.inf:
        refuse("copies", "inf", "a whole number >= 2", "Imputations are drawn here; take many.")
    _check(rows, missing, copies, least=2)
    Q, U = _imputed(key, jnp.asarray(float(rows - missing)), jnp.asarray(float(missing)), int(copies), checked_count("samples", samples, 2))
    ends = np.stack(pool_estimates(Q.T, U.T, rows - 1.0 if small else math.inf).interval(level))
    low, high = stats.t.cdf(ends * np.sqrt(rows - missing), rows - missing - 1)
    return monte_carlo(jnp.asarray(high - low))


@eqx.filter_jit
def _imputed(key: PRNGKeyArray, observed: Float[Array, ""], missing: Float[Array, ""], copies: int, samples: int) -> tuple[Float[Array, "s m"], Float[Array, "s m"]]:
    """Means and variances of the copies where the observed values have mean 0 and sample variance 1."""
    key_squares, key_mean = jax.random.split(key)
    rows, dof = observed + missing, jnp.stack([observed, jnp.maximum(missing, 2.0)])[:, None, None] - 1
    chi_squares = 2 * jax.random.gamma(key_squares, dof / 2, (2, samples, copies))
    variance = (observed - 1) / chi_squares[0]
    # the mean of the imputed, whose variance given s2* is s2* (1/n_1 + 1/n_0), and their sum of squares about it
    gap = jnp.sqrt(variance * (1 / observed + 1 / jnp.maximum(missing, 1.0))) * jax.random.normal(key_mean, (samples, copies))
    squares = jnp.where(missing > 1, variance * chi_squares[1], 0.0)
    U = (observed - 1 + squares + observed * missing / rows * gap**2) / (rows * (rows - 1))
    return missing / rows * gap, U


def _two_sided(x: Any) -> Any:
    return 2 * special.ndtr(x) - 1


def _check_observed(rows: Any, missing: Any, more_than: int) -> None:
    """Refuse numbers or arrays with too few rows observed, where they can be looked at.

    Raises:
        ValueError: naming them.
    """
    if is_concrete(rows, missing) and not np.all((np.asarray(missing) >= 0) & (np.asarray(rows) - np.asarray(missing) > more_than)):
        refuse("rows, missing", f"{rows}, {missing}", f"more than {more_than} observed, and missing >= 0", "The variance is infinite, or there is nothing to impute from.")


def _check_copies(copies: Any) -> None:
    if is_concrete(copies) and not np.all(np.asarray(copies) >= 1):
        refuse("copies", f"{copies}", "numbers >= 1, or infinity", "It counts completed tables.")


def _check(rows: int, missing: int, copies: int | float, least: int = 1) -> None:
    """Refuse what is not a table with holes.

    Raises:
        ValueError: naming the argument.
    """
    checked_count("missing", missing, 0)
    checked_count("rows", rows, missing + least)
    if copies != math.inf:
        checked_count("copies", copies, 2)  # pyright: ignore[reportArgumentType]
