"""Mechanisms: their probabilities in NumPy, shares of what they hide, and which of them drop out of the likelihood."""

import jax
import numpy as np
import pytest
from scipy import stats

from ensembletheory.imputation import AboveMean, AtRandom, CellsAtRandom, CompletelyAtRandom, SelfMasked, masked
from tests.helpers import assert_mean

X = np.random.default_rng(0).normal(size=(4000, 4)) @ np.array([[1.0, 0.5, 0.2, 0.0], [0.0, 1.0, 0.3, 0.0], [0.0, 0.0, 1.0, 0.7], [0.0, 0.0, 0.0, 0.5]])
KEY = jax.random.key(1)


def logistic(scores):
    return 1 / (1 + np.exp(-scores))


def zeros(*columns):
    """A table of zeros with some columns filled."""
    table = np.zeros(X.shape)
    for j, values in columns:
        table[:, j] = values
    return table


MECHANISMS = {
    "completely": (CompletelyAtRandom(0.3), np.full(X.shape, 0.3)),
    "never": (CompletelyAtRandom(0.0), np.zeros(X.shape)),
    "always": (CompletelyAtRandom(1.0), np.ones(X.shape)),
    "by others": (
        AtRandom((2, 0), [[1.0, -2.0], [0.5, 0.0]], [0.3, -1.0]),
        zeros((1, logistic(X[:, 2] - 2 * X[:, 0] + 0.3)), (3, logistic(0.5 * X[:, 2] - 1))),
    ),
    "by one, alike": (AtRandom((0,), [2.0], 0.5, "probit"), zeros(*((j, stats.norm.cdf(2 * X[:, 0] + 0.5)) for j in (1, 2, 3)))),
    "by itself": (SelfMasked([2.0, -1.0], [0.5, 0.1], (3, 1)), zeros((3, stats.norm.cdf(2 * X[:, 3] - 1)), (1, stats.norm.cdf(0.1 - X[:, 1])))),
    "by itself, logistic": (SelfMasked(2.0, 0.5, link="logistic"), logistic(2 * X - 1)),
    "by a threshold": (SelfMasked(np.inf, 0.5, (0,)), zeros((0, X[:, 0] > 0.5))),
    "below a threshold": (SelfMasked(-np.inf, 0.5, (0,)), zeros((0, X[:, 0] < 0.5))),
    "above the mean": (AboveMean(), zeros((0, X[:, 0] > X[:, 0].mean()), (1, X[:, 1] > X[:, 1].mean()))),
}


@pytest.mark.parametrize("name", MECHANISMS)
def test_cells_are_missing_with_their_probabilities(name):
    mechanism, expected = MECHANISMS[name]
    np.testing.assert_allclose(mechanism.missing_probability(X), expected, rtol=1e-12, atol=1e-15)
    observed = np.asarray(mechanism.observed(KEY, X))
    certain = (expected == 0) | (expected == 1)
    np.testing.assert_array_equal(observed[certain], expected[certain] == 0)
    for values in (1.0, X):  # the share of what is missing, and its mean value
        error = np.where(certain, 0.0, (~observed - expected) * values).sum(axis=1)
        if error.any():
            assert_mean(error, 0.0)
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(observed, 1 - expected, expected)).sum(axis=1)
    np.testing.assert_allclose(mechanism.log_prob(X, observed), logs, rtol=1e-9, atol=1e-12)
    assert np.isfinite(logs).all()
    assert not np.isfinite(np.asarray(mechanism.log_prob(X, ~observed))).any() or not certain.any()


def test_exactly_a_share_of_the_cells_is_missing():
    observed = np.asarray(CellsAtRandom(0.37).observed(KEY, X[:9]))
    assert (~observed).sum() == 13  # of 36
    assert np.asarray(CellsAtRandom(0.0).observed(KEY, X[:9])).all()
    assert not np.asarray(CellsAtRandom(1.0).observed(KEY, X[:9])).any()


def test_log_probabilities_keep_what_is_all_but_impossible():
    far, rows = np.array([[9.0, -40.0]]), np.array([[True, False]])
    expected = stats.norm.logcdf([-9.0, -40.0]).sum()
    np.testing.assert_allclose(SelfMasked(1.0).log_prob(far, rows), expected, rtol=1e-12)
    np.testing.assert_allclose(SelfMasked(1.0, link="logistic").log_prob(50 * far, rows), -np.logaddexp(0, 450) - np.logaddexp(0, 2000), rtol=1e-12)
    np.testing.assert_allclose(AtRandom((0,), [10.0]).log_prob(far, np.ones((1, 2), bool)), -90.0, rtol=1e-12)


def test_a_share_that_is_a_whole_number_but_for_rounding():
    assert 0.29 * 100 < 29
    assert (~np.asarray(CellsAtRandom(0.29).observed(KEY, np.zeros((10, 10))))).sum() == 29


def test_what_is_not_seen_is_nan():
    observed = np.asarray(CompletelyAtRandom(0.5).observed(KEY, X))
    np.testing.assert_array_equal(masked(X, observed), np.where(observed, X, np.nan))


def test_at_random_the_mechanism_drops_out_of_the_likelihood_and_self_masked_it_does_not():
    law, shown = stats.multivariate_normal([0.3, -0.2], [[1.0, 0.6], [0.6, 2.0]]), np.array([[True, False]])
    for mechanism, drops in ((AtRandom((0,), [1.5], -0.4), True), (SelfMasked(1.5, 0.4, (1,)), False)):
        ratios = []
        for x in (-1.0, 0.5, 2.0):
            rows = np.stack([np.full(2001, x), np.linspace(-15, 15, 2001)], axis=1)
            joint = law.pdf(rows) * np.exp(mechanism.log_prob(rows, np.tile(shown, (2001, 1))))
            ratios.append(joint.sum() * 0.015 / stats.norm(0.3, 1.0).pdf(x) / (logistic(1.5 * x - 0.4) if drops else 1.0))  # the trapezoid rule, exact to rounding
        assert (np.ptp(ratios) < 1e-9) == drops
        if drops:
            np.testing.assert_allclose(ratios, 1.0, rtol=1e-9)  # p(x_o, mask) = p(x_o) P(mask | x_o)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CompletelyAtRandom(1.2), "`rate`: got 1.2"),
        (lambda: CellsAtRandom(-0.1), "`share`"),
        (lambda: AtRandom((0, 0), [1.0, 1.0]), "`given`"),
        (lambda: AtRandom((0,), [1.0, 2.0]), "`slopes, intercept`"),
        (lambda: AtRandom((0,), [[1.0], [2.0]]).missing_probability(X), "`slopes`: got 2 rows"),
        (lambda: AtRandom((0,), [1.0], [0.0, 1.0]).missing_probability(X), "`intercept`: got 2 rows"),
        (lambda: AtRandom((0, 1, 2, 3), np.ones(4)).missing_probability(X), "all of them always seen"),
        (lambda: AtRandom((7,), [1.0]).missing_probability(X), "`X`: got 4 columns"),
        (lambda: SelfMasked(np.nan), "`slope`"),
        (lambda: SelfMasked([1.0, 2.0], columns=(0,)), "`slope, threshold`"),
        (lambda: SelfMasked([1.0, 2.0]).missing_probability(X), "`mechanism`"),
        (lambda: SelfMasked(1.0, columns=(5,)).missing_probability(X), "`X`: got 4 columns"),
        (lambda: AboveMean((-1,)), "`columns`"),
        (lambda: CompletelyAtRandom(0.5).log_prob(X, np.ones((2, 2), bool)), "`observed`"),
        (lambda: CompletelyAtRandom(0.5).observed(KEY, [[np.nan]]), "`X`: got 1 NaN"),
        (lambda: masked(X, np.ones(X.shape)), "`observed`: got float64"),
        (lambda: masked([0.0], np.ones(1, bool)), r"`X`: got shape \(1,\)"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
