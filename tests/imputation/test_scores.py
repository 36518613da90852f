"""Scores and laws of errors: closed forms against quadrature, brute-force sums and enumeration of subsets."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import ensembletheory as et
from ensembletheory.imputation import (
    crps,
    crps_of_draws,
    draw_errors,
    energy_ambiguity,
    energy_distance,
    energy_score,
    exchangeable_coverage,
    interval_coverage,
    law_of_scores,
    law_of_squares,
    line_energy_distance,
    mean_distance,
    regression,
    rmse,
    scores,
)
from tests.helpers import spd

RNG = np.random.default_rng(11)
W, M, S = np.array([0.2, 0.8, 0.0]), np.array([-1.0, 0.5, 7.0]), np.array([0.3, 1.2, 2.0])
MIXTURE = et.GaussianMixture(W, M[:, None], (S**2)[:, None])


def cdf(x):
    return sum(w * stats.norm.cdf(x, m, s) for w, m, s in zip(W, M, S, strict=True))


def test_crps_of_a_mixture_is_the_integral_of_squared_distribution_functions():
    outcomes = np.array([-3.0, 0.4, 2.5])
    expected = [integrate.quad(lambda x: (cdf(x) - (x >= y)) ** 2, -15, 15, points=[y], limit=300, epsabs=1e-12)[0] for y in outcomes]  # noqa: B023
    np.testing.assert_allclose(crps(MIXTURE, outcomes), expected, rtol=1e-8)
    m, s, z = 0.7, 1.3, (outcomes - 0.7) / 1.3
    gaussian = s * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(crps(et.Gaussian([m], [[s**2]]), outcomes), gaussian, rtol=1e-12)


def test_distances_of_laws_on_the_line_are_integrals():
    other = et.Gaussian([0.2], [[0.49]])
    gap = integrate.quad(lambda x: (cdf(x) - stats.norm.cdf(x, 0.2, 0.7)) ** 2, -15, 15, limit=300, epsabs=1e-12)[0]
    assert float(line_energy_distance(MIXTURE, other)) == pytest.approx(2 * gap, rel=1e-8)  # Szekely: D = 2 int (F - G)^2
    absolute = sum(w * stats.foldnorm.mean(abs(m - 0.2) / np.hypot(s, 0.7), scale=np.hypot(s, 0.7)) for w, m, s in zip(W, M, S, strict=True))
    assert float(mean_distance(MIXTURE, other)) == pytest.approx(absolute, rel=1e-12)


def brute(draws, y, fair):
    """The energy score of draws (L, d) by its double sum."""
    L = len(draws)
    pairs = [np.linalg.norm(draws[i] - draws[j]) for i in range(L) for j in range(L)]
    return np.mean([np.linalg.norm(x - y) for x in draws]) - sum(pairs) / (2 * L * (L - fair))


@pytest.mark.parametrize("fair", [False, True])
def test_scores_of_draws_are_their_double_sums(fair, monkeypatch):
    draws, y = RNG.normal(size=(6, 4, 2)), RNG.normal(size=(4, 2))
    np.testing.assert_allclose(energy_score(draws, y, fair), [brute(draws[:, i], y[i], fair) for i in range(4)], rtol=1e-12)
    monkeypatch.setattr(scores, "_BLOCK", 15)  # three rows at a time
    np.testing.assert_allclose(energy_score(draws, y, fair), [brute(draws[:, i], y[i], fair) for i in range(4)], rtol=1e-12)
    expected = [[brute(draws[:, i, j, None], y[i, j, None], fair) for j in range(2)] for i in range(4)]
    np.testing.assert_allclose(crps_of_draws(draws, y, fair), expected, rtol=1e-12)


def test_energy_distance_of_rows_and_its_unbiased_form():
    x, y = RNG.normal(size=(5, 3)), RNG.normal(size=(7, 3)) + 0.5
    mean = lambda a, b: np.mean([np.linalg.norm(p - q) for p in a for q in b])  # noqa: E731
    assert energy_distance(x, y) == pytest.approx(2 * mean(x, y) - mean(x, x) - mean(y, y), rel=1e-12)
    assert energy_distance(x, y, fair=True) == pytest.approx(2 * mean(x, y) - mean(x, x) * 5 / 4 - mean(y, y) * 7 / 6, rel=1e-12)
    assert energy_distance(x, x) == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_the_energy_score_of_a_pool_is_the_average_less_a_quarter_of_the_distances(seed):
    rng = np.random.default_rng(seed)
    draws, y, weights = rng.normal(size=(3, 4, 2)) * rng.uniform(0.1, 3, size=(3, 1, 1)), rng.normal(size=2), rng.dirichlet(np.ones(3))
    weights[-1] = 1 - weights[:-1].sum()
    parts = energy_ambiguity(draws, y, weights)
    D = [[energy_distance(a, b) for b in draws] for a in draws]
    assert float(parts.diversity) == pytest.approx(weights @ np.array(D) @ weights / 4, rel=1e-10, abs=1e-13)
    assert float(parts.average) == pytest.approx(weights @ [brute(own, y, False) for own in draws], rel=1e-10)
    pooled = np.repeat(weights / 4, 4)  # each draw of a member has a quarter of its weight
    flat = draws.reshape(-1, 2)
    to_outcome, pairs = np.linalg.norm(flat - y, axis=1), np.linalg.norm(flat[:, None] - flat[None], axis=2)
    assert float(parts.ensemble) == pytest.approx(pooled @ to_outcome - pooled @ pairs @ pooled / 2, rel=1e-10)
    assert abs(float(parts.residual)) < 1e-12


@pytest.mark.parametrize("K", [2, 4])
def test_losses_over_all_subsets_of_a_size_are_a_plus_b_over_m(K):
    errors = RNG.normal(size=(K, 5, 3)) + 0.4
    law = law_of_squares(errors)
    draws, y = RNG.normal(size=(K, 6, 2)), RNG.normal(size=2)
    between = np.linalg.norm(draws.reshape(-1, 1, 2) - draws.reshape(1, -1, 2), axis=2).reshape(K, 6, K, 6).mean(axis=(1, 3))
    scores = law_of_scores(np.linalg.norm(draws - y, axis=2).mean(axis=1), between)
    for size in range(1, K + 1):
        subsets = [list(subset) for subset in combinations(range(K), size)]
        assert float(law.at(size)) == pytest.approx(np.mean([np.mean(errors[s].mean(axis=0) ** 2) for s in subsets]), rel=1e-12)
        assert float(scores.at(size)) == pytest.approx(np.mean([brute(draws[s].reshape(-1, 2), y, False) for s in subsets]), rel=1e-12)
    assert float(law.excess) > 0
    assert float(scores.excess) > 0
    assert float(law.at(np.inf)) == pytest.approx(float(law.limit))


def test_errors_of_draws_of_the_exact_and_of_another_conditional():
    """Twice the Bayes error for a draw, (1 + 1/L) times for the mean of L, and bias and spread of another law by hand."""
    truth, other = et.Gaussian([1.0, -1.0, 0.5], spd(RNG, 3)), et.Gaussian([0.0, 0.5, 0.0], spd(RNG, 3))
    X = np.array([[0.3, np.nan, 1.0], [-1.0, np.nan, 2.0], [0.1, 0.2, 0.3]])

    def given_outer(law, x):
        m, C, o = np.asarray(law.mean), np.asarray(law.cov), [0, 2]
        slopes = np.linalg.solve(C[np.ix_(o, o)], C[o, 1])
        return m[1] + slopes @ (x[o] - m[o]), C[1, 1] - slopes @ C[o, 1]

    for draws in (1, 5, np.inf):
        exact, wrong = (np.asarray(draw_errors(truth, law, X, draws)) for law in (truth, other))
        for i in (0, 1):
            (m, v), (n, u) = given_outer(truth, X[i]), given_outer(other, X[i])
            assert exact[i, 1] == pytest.approx((1 + 1 / draws) * v, rel=1e-12)
            assert wrong[i, 1] == pytest.approx((n - m) ** 2 + v + u / draws, rel=1e-12)
        assert exact[2].tolist() == wrong[2].tolist() == [0.0] * 3


def test_the_best_guess_wins_by_squares_and_loses_by_energy():
    """Of a standard normal column whose other one is seen: conditional means against draws."""
    rng = np.random.default_rng(7)
    truth = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=600)
    observed = np.ones((600, 2), bool)
    observed[:300, 1] = False
    guess = np.where(observed, truth, 0.6 * truth[:, :1])
    draw = np.where(observed, truth, guess + 0.8 * rng.normal(size=(600, 2)))
    assert rmse(truth, guess, observed) == pytest.approx(np.sqrt(np.mean((0.6 * truth[:300, 0] - truth[:300, 1]) ** 2)), rel=1e-12)
    assert rmse(truth, guess, observed) < rmse(truth, draw, observed)
    assert energy_distance(guess, truth) > energy_distance(draw, truth)


def test_coverage_of_intervals_counts_entries_and_takes_rows_for_independent():
    draws = np.broadcast_to(np.linspace(-1, 1, 101)[:, None, None], (101, 4, 2))  # 90 %: [-0.9, 0.9]
    truth = np.array([[0.0, 0.95], [0.5, 0.5], [2.0, 0.0], [0.0, 0.0]])
    observed = np.array([[False, False], [False, True], [False, True], [True, True]])
    found = interval_coverage(draws, truth, observed, 0.9)
    hits, cells = np.array([1, 1, 0, 0]), np.array([2, 1, 1, 0])
    assert float(found) == pytest.approx(0.5)
    assert float(found.error) == pytest.approx(np.sqrt(4 / 3 * np.sum((hits - 0.5 * cells) ** 2)) / 4)


@pytest.mark.parametrize(("L", "level", "expected"), [(10, 0.95, 9 / 11), (39, 0.95, 0.95), (50, 0.95, 49 / 51), (100, 0.9, 91 / 101), (1, 0.5, 0.0)])
def test_exact_draws_cover_what_is_said_whatever_the_law(L, level, expected):
    rng, n = np.random.default_rng(L), 20_000
    assert exchangeable_coverage(L, level) == pytest.approx(expected, rel=1e-12)
    for law in (rng.normal, rng.standard_exponential):
        found = interval_coverage(law(size=(L, n, 1)), law(size=(n, 1)), np.zeros((n, 1), bool), level)
        assert abs(float(found) - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)


def test_regression_is_least_squares_pooled():
    tables = RNG.normal(size=(3, 20, 3))
    pooled = regression(tables, 1)
    fits = []
    for table in tables:
        A = np.c_[np.ones(20), table[:, [0, 2]]]
        b, squares = np.linalg.lstsq(A, table[:, 1])[:2]
        fits.append((b, squares[0] / 17 * np.diag(np.linalg.inv(A.T @ A))))
    Q, U = map(np.array, zip(*fits, strict=True))
    np.testing.assert_allclose(pooled.estimate, Q.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(pooled.total, U.mean(axis=0) + 4 / 3 * Q.var(axis=0, ddof=1), rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rmse(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2), bool)), "without holes"),
        (lambda: rmse(np.ones((2, 2)), np.ones((2, 1)), np.zeros((2, 2), bool)), "`truth, imputed, observed`: got shapes"),
        (lambda: crps(et.Gaussian([0.0, 0.0], 1.0), 0.0), "`law`: got dimension 2"),
        (lambda: crps_of_draws(np.ones((1, 2)), np.ones(2), fair=True), "L >= 2"),
        (lambda: energy_score(np.ones((2, 3, 2)), np.ones((2, 2))), "`draws`: got shape"),
        (lambda: energy_distance(np.ones((2, 2)), np.ones((2, 3))), "`x, y`: got shapes"),
        (lambda: energy_ambiguity(np.ones((2, 3)), np.ones(3)), "`draws, y`"),
        (lambda: interval_coverage(np.ones((3, 2, 1)), np.ones((2, 1)), np.array([[True], [False]])), "holes in at least two rows"),
        (lambda: exchangeable_coverage(0), "`draws`: got 0"),
        (lambda: regression(np.ones((2, 3, 3)), 0), r"\(m, n, d\) with n > d"),
        (lambda: regression(np.ones((2, 5, 3)), 0), "depend on each other"),
        (lambda: regression(np.ones((2, 5, 3)), 3), "`target`: got 3"),
        (lambda: law_of_squares(np.ones((1, 3))), r"K >= 2"),
        (lambda: law_of_scores(np.ones(2), np.ones((3, 3))), "`between`"),
        (lambda: draw_errors(et.Gaussian([0.0], 1.0), et.Gaussian([0.0], 1.0), np.array([[np.nan]]), 0), "`draws`: got 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
