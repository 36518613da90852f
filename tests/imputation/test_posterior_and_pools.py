"""Draws of parameters against the inverse Wishart law and the estimate of largest likelihood by optimisation; pools by Bayes' rule on mixtures, in NumPy and SciPy."""

import jax
import numpy as np
import pytest
from scipy import optimize, stats

import ensembletheory as et
from ensembletheory.imputation import conditional_weights, fit_monotone, pooled_draws, pooled_law, pooled_mean, posterior, posterior_parameters
from ensembletheory.imputation.posterior import monotone_order
from tests.helpers import assert_mean, spd

RNG = np.random.default_rng(3)
ROWS = RNG.multivariate_normal([1.0, -2.0, 0.5], spd(RNG, 3), size=24)
MONOTONE = np.where(np.arange(24)[:, None] >= np.array([16, 24, 20]), np.nan, ROWS)  # the second column is seen most, the first least


def test_draws_for_complete_rows_are_of_the_inverse_wishart_law():
    n, d, draws = 24, 3, 6_000
    means, covs = posterior_parameters(jax.random.key(0), ROWS, draws)
    centre, scatter = ROWS.mean(axis=0), (ROWS - ROWS.mean(axis=0)).T @ (ROWS - ROWS.mean(axis=0))
    assert_mean(covs, scatter / (n - 1 - d - 1))
    assert_mean(np.linalg.inv(covs), (n - 1) * np.linalg.inv(scatter))
    assert_mean(np.linalg.slogdet(covs)[1], np.linalg.slogdet(scatter)[1] - d * np.log(2) - sum(stats.loggamma.mean((n - 1 - i) / 2) for i in range(d)))
    assert_mean(means, centre)
    assert_mean((means - centre)[:, :, None] * (means - centre)[:, None, :], scatter / (n - 1 - d - 1) / n)


def test_draws_for_monotone_holes_are_of_the_regressions():
    """Of the column seen least, given the others: residual variance, and slopes about least squares."""
    means, covs = posterior_parameters(jax.random.key(1), MONOTONE, 6_000)
    full = MONOTONE[:16]
    A = np.c_[np.ones(16), full[:, 1:]]
    coefficients, squares = np.linalg.lstsq(A, full[:, 0])[:2]
    slopes = np.linalg.solve(covs[:, 1:, 1:], covs[:, 1:, :1])[..., 0]
    residual = covs[:, 0, 0] - np.sum(slopes * covs[:, 0, 1:], axis=1)
    assert_mean(1 / residual, 15 / squares[0])  # chi^2 with n_j - 1 - d + j = 15 degrees of freedom
    assert_mean(slopes, coefficients[1:])
    centred = full[:, 1:] - full[:, 1:].mean(axis=0)
    assert_mean((slopes - coefficients[1:])[:, :, None] * (slopes - coefficients[1:])[:, None, :] / residual[:, None, None], np.linalg.inv(centred.T @ centred))
    at_centre = means[:, 0] + np.sum(slopes * (full[:, 1:].mean(axis=0) - means[:, 1:]), axis=1)
    assert_mean((at_centre - full[:, 0].mean()) ** 2 / residual, 1 / 16)
    assert_mean(1 / covs[:, 1, 1], 21 / (23 * ROWS[:, 1].var(ddof=1)))  # of the column seen most: 24 - 1 - 3 + 1


def test_the_fit_to_monotone_holes_has_the_largest_likelihood():
    law = fit_monotone(MONOTONE)

    def loss(parameters):
        root = np.zeros((3, 3))
        root[np.tril_indices(3)] = parameters[3:]
        cov = root @ root.T
        parts = [stats.multivariate_normal.logpdf(x[~np.isnan(x)], parameters[:3][~np.isnan(x)], cov[np.ix_(~np.isnan(x), ~np.isnan(x))]) for x in MONOTONE]
        return -np.sum(parts)

    start = np.r_[np.asarray(law.mean), np.linalg.cholesky(np.asarray(law.cov))[np.tril_indices(3)]]
    slope = optimize.approx_fprime(start, loss, 1e-6)
    assert np.max(np.abs(slope)) < 1e-3
    curvature = [loss(start + 0.05 * step) + loss(start - 0.05 * step) - 2 * loss(start) for step in np.eye(9)]
    assert min(curvature) > 0


@pytest.mark.verify
def test_data_augmentation_has_the_exact_law_of_monotone_holes():
    exact = posterior_parameters(jax.random.key(2), MONOTONE, 40_000)
    swept = posterior_parameters(jax.random.key(3), MONOTONE, 8_000, spacing=15, exact=False)
    for function in (lambda mean, cov: mean, lambda mean, cov: np.log(np.diagonal(cov, axis1=1, axis2=2)), lambda mean, cov: mean**2):
        target = function(*exact)
        assert_mean(function(*swept), target.mean(axis=0), z=6.0)


def test_orders_of_columns():
    assert monotone_order(MONOTONE) == [1, 2, 0]
    assert monotone_order(np.array([[1.0, np.nan], [np.nan, 1.0]])) is None


IN_PAIRS = np.where(np.arange(15)[:, None] % 3 == np.arange(3), np.nan, ROWS[:15])  # no row is complete, every pair of columns is seen five times
APART = np.where(np.arange(24)[:, None] // 12 == np.arange(2), np.nan, ROWS[:, :2])  # two columns never seen together


def augmented(X, sweeps):
    """Log-determinants of the correlations that a Gibbs sampler in NumPy and SciPy visits."""
    rng, seen = np.random.default_rng(0), ~np.isnan(X)
    mean, cov, visited = np.nanmean(X, axis=0), np.diag(np.nanvar(X, axis=0)), []
    for _ in range(sweeps):
        Z = X.copy()
        for row, o in zip(Z, seen, strict=True):
            slopes = np.linalg.solve(cov[np.ix_(o, o)], cov[np.ix_(o, ~o)])
            rest = cov[np.ix_(~o, ~o)] - cov[np.ix_(~o, o)] @ slopes
            row[~o] = mean[~o] + (row[o] - mean[o]) @ slopes + np.sqrt(np.maximum(np.diag(rest), 0)) * rng.normal(size=(~o).sum())  # one hole a row
        centre = Z.mean(axis=0)
        cov = stats.invwishart(len(X) - 1, (Z - centre).T @ (Z - centre)).rvs(random_state=rng)
        mean = rng.multivariate_normal(centre, cov / len(X))
        visited.append(np.linalg.slogdet(cov / np.sqrt(np.outer(np.diag(cov), np.diag(cov))))[1])
        if visited[-1] < -20:
            break
    return visited


@pytest.mark.verify
def test_without_more_complete_rows_than_columns_the_chain_ends_in_a_singular_covariance():
    """Every pair of columns is seen in as many rows in both cases."""
    assert augmented(IN_PAIRS, 4_000)[-1] < -20
    assert min(augmented(np.vstack([IN_PAIRS, ROWS[15:19]]), 4_000)) > -20


def test_four_complete_rows_of_three_columns_are_enough():
    holed = np.vstack([IN_PAIRS[:4], ROWS[15:19]])
    means, covs = posterior_parameters(jax.random.key(5), holed, 3, burn_in=20, spacing=5)
    assert np.isfinite(means).all()
    assert np.linalg.eigvalsh(covs).min() > 0


def test_draws_that_are_not_finite_are_refused(monkeypatch):
    monkeypatch.setattr(posterior, "_augmented_draws", lambda *_: (np.full((1, 3), np.nan), np.ones((1, 3, 3))))
    with pytest.raises(ValueError, match="not finite; expected rows that bound"):
        posterior_parameters(jax.random.key(0), np.vstack([IN_PAIRS, ROWS]), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: posterior_parameters(jax.random.key(0), ROWS[:3], 5), "`X`: got 3 complete rows; expected at least 4"),
        (lambda: posterior_parameters(jax.random.key(0), np.vstack([IN_PAIRS[:2], ROWS[2:5]]), 5), "`X`: got 3 complete rows"),
        (lambda: posterior_parameters(jax.random.key(0), IN_PAIRS, 5), "`X`: got 0 complete rows"),
        (lambda: posterior_parameters(jax.random.key(0), APART, 5), "The posterior is not a law"),
        (lambda: posterior_parameters(jax.random.key(0), np.vstack([IN_PAIRS[:3], np.repeat(ROWS[:2], 2, axis=0)]), 5), "complete rows in one hyperplane"),
        (lambda: posterior_parameters(jax.random.key(0), ROWS, 0), "`members`: got 0"),
        (lambda: posterior_parameters(jax.random.key(0), np.vstack([IN_PAIRS, ROWS]), 5, exact=True), "`exact`"),
        (lambda: fit_monotone(np.array([[1.0, np.nan], [np.nan, 1.0], [0.0, 2.0]])), "`X`: got holes that are not monotone"),
        (lambda: fit_monotone(np.array([[1.0, np.nan], [2.0, 1.0], [0.0, 2.0]])), "`X`: got 2 values in column 1"),
        (lambda: pooled_mean([et.Gaussian([0.0], 1.0)], [[np.nan]], "mean"), "`rule`: got 'mean'"),
        (lambda: pooled_law([et.Gaussian([0.0], 1.0)], "conditionals"), "`rule`: got 'conditionals'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


MEMBERS = [et.Gaussian([0.0, 1.0], [[1.0, 0.5], [0.5, 2.0]]), et.Gaussian([2.0, -1.0], [[0.5, -0.3], [-0.3, 1.0]])]
WEIGHTS = np.array([0.3, 0.7])
X = np.array([[0.4, np.nan], [np.nan, -0.5], [np.nan, np.nan], [1.0, 2.0]])


def conditionals(i, j, value):
    """Means and variances of coordinate j given coordinate i in each member, and the members' densities of the value seen."""
    parts = []
    for law in MEMBERS:
        m, C = np.asarray(law.mean), np.asarray(law.cov)
        parts.append((m[j] + C[i, j] / C[i, i] * (value - m[i]), C[j, j] - C[i, j] ** 2 / C[i, i], stats.norm.pdf(value, m[i], C[i, i] ** 0.5)))
    return (np.array(part) for part in zip(*parts, strict=True))


def test_pools_weigh_members_as_their_rules_say():
    linear, mixed, logged = (np.asarray(pooled_mean(MEMBERS, X, rule, WEIGHTS)) for rule in ("linear", "conditionals", "log"))
    shares = np.asarray(conditional_weights(MEMBERS, X, WEIGHTS))
    for row, (i, j) in enumerate([(0, 1), (1, 0)]):
        m, v, density = conditionals(i, j, X[row, i])
        r = WEIGHTS * density / (WEIGHTS @ density)
        np.testing.assert_allclose(shares[:, row], r, rtol=1e-10)
        assert linear[row, j] == pytest.approx(r @ m, rel=1e-10)
        assert mixed[row, j] == pytest.approx(WEIGHTS @ m, rel=1e-10)
        assert logged[row, j] == pytest.approx((WEIGHTS / v) @ m / (WEIGHTS @ (1 / v)), rel=1e-10)  # the log pool of the conditionals
        assert abs(linear[row, j] - mixed[row, j]) > 0.01
    np.testing.assert_allclose(linear[2], mixed[2], rtol=1e-12)  # nothing is seen: nobody loses its say
    np.testing.assert_allclose(shares[:, 2], WEIGHTS, rtol=1e-12)
    for completed in (linear, mixed, logged):
        np.testing.assert_array_equal(completed[3], X[3])


def test_draws_of_the_mixture_of_conditionals_have_its_moments():
    draws = np.asarray(pooled_draws(jax.random.key(4), MEMBERS, X, 6_000, "conditionals", WEIGHTS))
    m, v, _ = conditionals(0, 1, 0.4)
    assert_mean(draws[:, 0, 1], WEIGHTS @ m)
    assert_mean(draws[:, 0, 1] ** 2, WEIGHTS @ (v + m**2))
    np.testing.assert_array_equal(draws[:, 3], np.broadcast_to(X[3], (6_000, 2)))
