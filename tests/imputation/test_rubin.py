"""Rubin's rules by hand, and multiple imputation of a Gaussian mean: closed forms against simulation with NumPy alone, quadrature, and limits."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from ensembletheory.imputation import missing_mean, pool_estimates
from tests.helpers import Z, assert_mean, assert_within_errors

RNG = np.random.default_rng(5)
ESTIMATES, VARIANCES = RNG.normal(size=(5, 2)), RNG.uniform(0.2, 1.0, size=(5, 2))


def by_hand(Q, U, complete):
    m = len(Q)
    W, B = U.mean(), ((Q - Q.mean()) ** 2).sum() / (m - 1)
    T = W + (1 + 1 / m) * B
    r = (1 + 1 / m) * B / W
    nu = (m - 1) * (1 + 1 / r) ** 2
    gamma = (r + 2 / (nu + 3)) / (r + 1)  # of large tables (Rubin 1987)
    if np.isfinite(complete):
        observed = (complete + 1) / (complete + 3) * complete * (1 - (1 + 1 / m) * B / T)
        nu = nu * observed / (nu + observed)
    half = stats.t.ppf(0.975, nu) * T**0.5
    return Q.mean(), T, nu, gamma, 1 / (1 + gamma / m), Q.mean() - half, Q.mean() + half


@pytest.mark.parametrize("complete", [np.inf, 12.0])
def test_the_rules_by_hand(complete):
    pooled = pool_estimates(ESTIMATES, VARIANCES, complete)
    low, high = pooled.interval()
    found = [pooled.estimate, pooled.total, pooled.dof, pooled.missing_information, pooled.efficiency, low, high]
    expected = [by_hand(Q, U, complete) for Q, U in zip(ESTIMATES.T, VARIANCES.T, strict=True)]
    np.testing.assert_allclose(np.stack([np.asarray(part) for part in found]), np.transpose(expected), rtol=1e-12)


@settings(max_examples=10)
@given(st.floats(0, 4), st.floats(0, 3), st.sampled_from([np.inf, 7.0]))
def test_degenerate_copies_have_defined_results(between, within, complete):
    pooled = pool_estimates(np.array([[1.0], [1.0 + between]]), np.full((2, 1), within), complete)
    low, high = (np.asarray(end) for end in pooled.interval())
    assert not np.isnan([low, high]).any()
    assert low <= pooled.estimate <= high
    assert 0 <= pooled.missing_share <= 1
    if between == 0:
        assert pooled.dof == (np.inf if np.isinf(complete) else 7 * 8 / 10)
        assert pooled.missing_share == pooled.missing_information == 0
    elif within == 0 and complete == 7.0:
        assert (low, high) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pool_estimates([1.0], [1.0]), "`estimates`: got shape"),
        (lambda: pool_estimates([1.0, 2.0], [1.0]), "`variances`: got shape"),
        (lambda: pool_estimates([1.0, 2.0], [1.0, -1.0]), "`variances`: got -1"),
        (lambda: pool_estimates([1.0, 2.0], [1.0, 1.0], 0.0), "`complete_dof`"),
        (lambda: pool_estimates([1.0, 2.0], [1.0, 1.0]).interval(95.0), "`level`: got 95"),
        (lambda: missing_mean.coverage(10, 10, 5), "`rows`: got 10"),
        (lambda: missing_mean.coverage(10, 5, 1), "`copies`: got 1"),
        (lambda: missing_mean.coverage(10, 5, 5, spread=-1.0), "`spread`"),
        (lambda: missing_mean.coverage_of_mean_imputation(10, 9), "`rows`"),
        (lambda: missing_mean.coverage_with_estimated_variance(jax.random.key(0), 50, 25, np.inf), "`copies`: got inf"),
        (lambda: missing_mean.variance_with_estimated_variance(10, 7, 5), "`rows, missing`: got 10, 7; expected more than 3 observed"),
        (lambda: missing_mean.expected_total_with_estimated_variance(np.array([10, 10]), np.array([2, 8]), 5), "more than 3 observed"),
        (lambda: missing_mean.between_variance(10, 10), "more than 0 observed"),
        (lambda: missing_mean.variance_of_estimate(10, 11, 5), "more than 0 observed"),
        (lambda: missing_mean.expected_total(10, -1, 5), "`rows, missing`"),
        (lambda: missing_mean.expected_total(10, 1, 0), "`copies`: got 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def simulated(rng, rows, missing, copies, spread, known, trials=40_000):
    """Of trials: Q, T and Rubin's degrees of freedom, from tables drawn and imputed row by row; the mean is 2 and the variance 3."""
    observed = 2 + 3**0.5 * rng.normal(size=(trials, rows - missing))
    n1, centre = rows - missing, observed.mean(axis=1)
    variance = np.full((trials, copies), 3.0) if known else ((n1 - 1) * observed.var(axis=1, ddof=1))[:, None] / rng.chisquare(n1 - 1, size=(trials, copies))
    location = centre[:, None] + np.sqrt(spread * variance / n1) * rng.normal(size=(trials, copies))
    imputed = location[..., None] + np.sqrt(variance)[..., None] * rng.normal(size=(trials, copies, missing))
    tables = np.concatenate([np.repeat(observed[:, None], copies, axis=1), imputed], axis=2)
    Q, U = tables.mean(axis=2), np.full((trials, copies), 3 / rows) if known else tables.var(axis=2, ddof=1) / rows
    W, B = U.mean(axis=1), Q.var(axis=1, ddof=1)
    r = (1 + 1 / copies) * B / W
    return Q.mean(axis=1), W + (1 + 1 / copies) * B, (copies - 1) * (1 + 1 / r) ** 2


@pytest.mark.parametrize("spread", [1.0, 0.0])
def test_known_variance_against_simulation(spread):
    rows, missing, copies = 12, 5, 3
    Q, T, nu = simulated(np.random.default_rng(1), rows, missing, copies, spread, known=True)
    assert_mean((Q - 2) ** 2, 3 * missing_mean.variance_of_estimate(rows, missing, copies, spread))
    assert_mean(T, 3 * missing_mean.expected_total(rows, missing, copies, spread))
    covered = missing_mean.coverage(rows, missing, copies, 0.9, spread)
    assert_mean(np.abs(Q - 2) <= stats.t.ppf(0.95, nu) * np.sqrt(T), float(covered))
    assert covered.kind == "quadrature"
    assert covered.error < 1e-9


def test_estimated_variance_against_simulation():
    rows, missing, copies = 12, 5, 3
    Q, T, nu = simulated(np.random.default_rng(2), rows, missing, copies, 1.0, known=False)
    assert_mean((Q - 2) ** 2, 3 * missing_mean.variance_with_estimated_variance(rows, missing, copies))
    assert_mean(T, 3 * missing_mean.expected_total_with_estimated_variance(rows, missing, copies))
    inside = np.abs(Q - 2) <= stats.t.ppf(0.95, nu) * np.sqrt(T)
    covered = missing_mean.coverage_with_estimated_variance(jax.random.key(0), rows, missing, copies, 0.9, small=False, samples=4_000)
    error = np.hypot(float(covered.error), inside.std() / len(inside) ** 0.5)
    assert_within_errors(float(covered), error, inside.mean(), Z)
    small = missing_mean.coverage_with_estimated_variance(jax.random.key(0), rows, missing, copies, 0.9, samples=4_000)
    assert float(small) > float(covered)  # fewer degrees of freedom, from the same draws


def test_mean_imputation_against_simulation():
    rng, rows, missing = np.random.default_rng(3), 12, 5
    seen = rng.normal(size=(40_000, rows - missing))
    tables = np.concatenate([seen, np.repeat(seen.mean(axis=1, keepdims=True), missing, axis=1)], axis=1)
    half = stats.t.ppf(0.95, rows - 1) * tables.std(axis=1, ddof=1) / rows**0.5
    assert_mean(np.abs(tables.mean(axis=1)) <= half, float(missing_mean.coverage_of_mean_imputation(rows, missing, 0.9)))
    assert float(missing_mean.coverage_of_mean_imputation(rows, 0, 0.9)) == pytest.approx(0.9, rel=1e-12)


@settings(max_examples=15)
@given(st.integers(4, 60), st.floats(0, 0.95), st.sampled_from([2, 5, 40]))
def test_the_total_is_unbiased_if_and_only_if_draws_are_proper(rows, share, copies):
    missing = min(int(share * rows), rows - 4)
    observed = rows - missing
    for spread in (0.0, 0.6, 1.0, 1.7):
        excess = missing_mean.expected_total(rows, missing, copies, spread) - missing_mean.variance_of_estimate(rows, missing, copies, spread)
        assert excess == pytest.approx((spread - 1) * (missing / rows) ** 2 / observed, abs=1e-14)
    excess = missing_mean.expected_total_with_estimated_variance(rows, missing, copies) - missing_mean.variance_with_estimated_variance(rows, missing, copies)
    assert excess == pytest.approx(2 / (observed - 3) * (1 / observed - (observed - 1) / (rows * (rows - 1))), abs=1e-12)
    assert excess >= -1e-15
    assert (excess > 1e-9) == (missing > 0)


def test_the_limit_of_many_copies_and_a_normal_quantile():
    nominal, improper = (missing_mean.coverage(40, 20, np.inf, 0.95, spread) for spread in (1.0, 0.0))
    assert float(nominal) == pytest.approx(0.95, rel=1e-12)
    assert float(improper) == pytest.approx(2 * stats.norm.cdf(stats.norm.ppf(0.975) * np.sqrt(1 - 0.25)) - 1, rel=1e-12)
    gaps = [abs(float(missing_mean.coverage(40, 20, m)) - 0.95) for m in (2, 5, 20, 100)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 1e-4
    assert float(missing_mean.coverage(40, 0, 3)) == pytest.approx(0.95, rel=1e-12)

    def with_normal_quantile(m):
        b, V = missing_mean.between_variance(40, 20), missing_mean.variance_of_estimate(40, 20, m)
        cover = lambda x: 2 * stats.norm.cdf(stats.norm.ppf(0.975) * np.sqrt((1 / 40 + (1 + 1 / m) * b * x / (m - 1)) / V)) - 1  # noqa: E731
        return integrate.quad(lambda x: stats.chi2.pdf(x, m - 1) * cover(x), 0, 200, limit=200)[0]

    for m in (3, 10):
        assert with_normal_quantile(m) < min(0.95, float(missing_mean.coverage(40, 20, m)))
