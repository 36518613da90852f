"""Closed forms of the expected loss of an average, against targets, sums and integrals done by other means, and simulated ensembles."""

from fractions import Fraction
from math import comb, erfc, exp, sqrt

import jax
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from ensembletheory.supervised import brier_score, exponential_tail, gaussian_vote_error, majority_vote_error, second_order_loss, squared_loss, welsch_loss

SIX_DIGITS, FIVE_DIGITS = 5e-7, 5e-6
K = np.array([1, 2, 3, 5, 10, 100])


# The target numbers, to their digits.


@pytest.mark.parametrize(("mean", "sign"), [(0.6, 1), (0.4, -1)])
def test_gaussian_votes_reach_the_targets(mean, sign):
    right = np.array([0.369441, 0.318676, 0.281851, 0.228028, 0.145920])
    expected = right if sign > 0 else 1 - right
    np.testing.assert_allclose(gaussian_vote_error([1, 2, 3, 5, 10], mean, 0.3), expected, atol=SIX_DIGITS)


def test_condorcet_reaches_the_targets():
    np.testing.assert_allclose(majority_vote_error([1, 3, 5, 7, 9], 0.6), [0.4, 0.352, 0.31744, 0.289792, 0.266568], atol=SIX_DIGITS)


@pytest.mark.parametrize(("mean", "targets"), [(1.5, [0.48658, 0.38494, 0.32332, 0.24351, 0.13737, 0.02182]), (0.8, [0.71350, 0.71270, 0.72293, 0.74701, 0.79857, 0.90810])])
def test_exponential_tails_reach_the_targets(mean, targets):
    np.testing.assert_allclose(exponential_tail([1, 2, 3, 5, 10, 30], mean, 1.0), targets, atol=FIVE_DIGITS)


@pytest.mark.parametrize(
    ("bias", "targets"),
    [
        (0.5, [0.335735, 0.248787, 0.211475, 0.177435, 0.148956, 0.120795]),
        (1.3, [0.536558, 0.535162, 0.540488, 0.548567, 0.557731, 0.568983]),
        (2.5, [0.851782, 0.898334, 0.916890, 0.932480, 0.944344, 0.954907]),
    ],
)
def test_welsch_losses_reach_the_targets(bias, targets):
    np.testing.assert_allclose(welsch_loss(K, bias, 1.0, 1.0), targets, atol=SIX_DIGITS)


def test_squared_loss_reaches_the_targets():
    np.testing.assert_allclose(squared_loss([1, 2, 5, 100], 0.5, 1.0, 0.3), [1.25, 0.9, 0.69, 0.557], rtol=1e-14)


# Second routes.

sizes = st.sampled_from([1, 2, 3, 7, 30])
correlations = st.floats(0, 1)


@given(sizes, st.floats(-2, 2), st.floats(0.1, 3), st.floats(-2, 2), correlations)
def test_gaussian_vote_is_the_tail_of_the_mean_of_equicorrelated_votes(members, mean, sd, threshold, correlation):
    covariance = sd**2 * ((1 - correlation) * np.eye(members) + correlation)
    weights = np.full(members, 1 / members)
    variance = weights @ covariance @ weights
    expected = erfc((mean - threshold) / sqrt(2 * variance)) / 2
    np.testing.assert_allclose(gaussian_vote_error(members, mean, sd, threshold, correlation), expected, rtol=1e-9, atol=1e-300)


@given(st.integers(1, 40), st.integers(0, 20))
def test_majority_is_the_exact_binomial_sum_with_half_of_the_splits(members, twentieths):
    p = Fraction(twentieths, 20)
    wrong = [comb(members, j) * p**j * (1 - p) ** (members - j) for j in range(members + 1)]
    expected = sum(w for j, w in enumerate(wrong) if 2 * j < members) + sum(w for j, w in enumerate(wrong) if 2 * j == members) / 2
    np.testing.assert_allclose(majority_vote_error(members, float(p)), float(expected), rtol=1e-12)


def test_majority_keeps_its_relative_accuracy_in_the_far_tail():
    with mpmath.workdps(60):
        expected = mpmath.nsum(lambda j: mpmath.binomial(1001, j) * mpmath.mpf(3) ** j / mpmath.mpf(4) ** 1001, [0, 500])
        assert float(abs(majority_vote_error(1001, 0.75).item() / expected - 1)) < 1e-11


def test_increments_of_the_jury():
    p, m = 0.6, np.arange(1, 20)
    increments = [(2 * p - 1) * comb(2 * k - 1, int(k)) * (p * (1 - p)) ** k for k in m.tolist()]
    np.testing.assert_allclose(majority_vote_error(2 * m - 1, p) - majority_vote_error(2 * m + 1, p), increments, rtol=1e-9)


@given(sizes, st.floats(0.1, 5), st.floats(0.1, 5))
def test_exponential_tail_is_the_distribution_function_of_a_gamma(members, mean, threshold):
    expected = stats.gamma(members, scale=mean / members).cdf(threshold)
    np.testing.assert_allclose(exponential_tail(members, mean, threshold), expected, rtol=1e-11)


def test_exponential_tail_is_an_erlang_sum_in_exact_terms():
    x = 10 / 1.5
    expected = 1 - exp(-x) * sum(Fraction(20, 3) ** j / Fraction(np.prod(range(1, j + 1), dtype=object) if j else 1) for j in range(10))
    np.testing.assert_allclose(exponential_tail(10, 1.5, 1.0), float(expected), rtol=1e-13)


@pytest.mark.parametrize("members", [1, 4])
@pytest.mark.parametrize(("bias", "sd", "width", "correlation"), [(0.5, 1.0, 1.0, 0.0), (-1.7, 0.4, 2.0, 0.3), (3.0, 2.0, 0.5, 1.0)])
def test_gaussian_losses_are_integrals_against_the_normal_density(members, bias, sd, width, correlation):
    law = stats.norm(bias, sd * sqrt(correlation + (1 - correlation) / members))
    low, high = law.mean() - 12 * law.std(), law.mean() + 12 * law.std()
    welsch, bound = integrate.quad(lambda d: -np.expm1(-(d**2) / (2 * width**2)) * law.pdf(d), low, high, points=[0.0, bias], epsabs=1e-12)
    squared, bound_squared = integrate.quad(lambda d: d**2 * law.pdf(d), low, high, epsabs=1e-12)
    assert abs(welsch_loss(members, bias, sd, width, correlation) - welsch) <= bound + 1e-13
    assert abs(squared_loss(members, bias, sd, correlation) - squared) <= bound_squared + 1e-13


# Simulated ensembles: each draw is a whole ensemble; z = 5 standard errors, so the five assertions together fail a correct formula with probability 3e-6.

Z, DRAWS, SIZE = 5.0, 40_000, 4


def _assert_mean(draws, exact):
    error = draws.std(ddof=1) / np.sqrt(draws.size)
    assert abs(draws.mean() - exact) <= Z * error, f"mean {draws.mean()}, exact {exact}, n {draws.size}, standard error {error}"


def _gaussian_members(seed, mean, sd, correlation):
    shared, own = np.split(np.random.default_rng(seed).normal(size=(DRAWS, SIZE + 1)), [1], axis=1)
    return mean + sd * (np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own)


def test_simulated_ensembles_agree():
    average = _gaussian_members(1, 0.9, 0.8, 0.25).mean(axis=1)
    _assert_mean(average**2, squared_loss(SIZE, 0.9, 0.8, 0.25))
    _assert_mean(-np.expm1(-(average**2) / (2 * 0.7**2)), welsch_loss(SIZE, 0.9, 0.8, 0.7, 0.25))
    _assert_mean((average < 0.5).astype(float), gaussian_vote_error(SIZE, 0.9, 0.8, 0.5, 0.25))


def test_simulated_juries_and_exponential_members_agree():
    rng = np.random.default_rng(2)
    right = (rng.random((DRAWS, SIZE)) < 0.6).sum(axis=1)
    _assert_mean((2 * right < SIZE) + 0.5 * (2 * right == SIZE), majority_vote_error(SIZE, 0.6))
    _assert_mean((rng.exponential(1.3, (DRAWS, SIZE)).mean(axis=1) < 1.0).astype(float), exponential_tail(SIZE, 1.3, 1.0))


# Edges and laws.


def test_one_member_is_the_member():
    np.testing.assert_allclose(majority_vote_error(1, 0.6), 0.4, rtol=1e-12)
    np.testing.assert_allclose(exponential_tail(1, 2.0, 1.0), -np.expm1(-0.5), rtol=1e-14)
    np.testing.assert_array_equal(gaussian_vote_error(1, 0.6, 0.3), gaussian_vote_error(1, 0.6, 0.3, correlation=0.7))


def test_a_mean_on_the_threshold_or_a_blind_jury_is_a_coin():
    np.testing.assert_array_equal(gaussian_vote_error(K, 0.5, 0.3), np.full(6, 0.5))
    np.testing.assert_allclose(majority_vote_error(K, 0.5), np.full(6, 0.5), rtol=1e-12)
    np.testing.assert_array_equal(majority_vote_error(3, [0.0, 1.0]), [1.0, 0.0])


def test_full_correlation_makes_every_ensemble_one_member():
    for loss in (lambda k: gaussian_vote_error(k, 0.6, 0.3, 0.5, 1.0), lambda k: welsch_loss(k, 0.5, 1.0, 1.0, 1.0), lambda k: squared_loss(k, 0.5, 1.0, 1.0)):
        np.testing.assert_allclose(loss(K), np.full(6, loss(1)), rtol=1e-14)


def test_an_even_jury_with_a_fair_coin_is_the_jury_without_its_last_voter():
    even = np.array([2, 4, 10, 100])
    np.testing.assert_array_equal(majority_vote_error(even, 0.6), majority_vote_error(even - 1, 0.6))


def test_welsch_turns_where_the_variance_meets_the_square_of_the_bias():
    losses = np.asarray(welsch_loss(np.arange(1, 30), 1.3, 1.0, 1.0))
    turn = 1 / (1.3**2 - 1)  # V = 1/K = delta^2 - h^2
    falls = np.diff(losses) < 0
    assert falls[0]
    assert not falls[int(np.ceil(turn)) :].any()


def test_losses_jit_and_differentiate_in_their_parameters():
    def loss(mean):
        return gaussian_vote_error(5.0, mean, 0.3) + majority_vote_error(5.0, mean) + exponential_tail(5.0, mean, 1.0) + welsch_loss(5.0, mean, 1.0, 1.0)

    step = 1e-5
    slope = (loss(0.6 + step) - loss(0.6 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(0.6), slope, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(welsch_loss)(K, 0.5, 1.0, 1.0), welsch_loss(K, 0.5, 1.0, 1.0), rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: majority_vote_error(0, 0.6), "`members`: got 0; expected whole numbers"),
        (lambda: majority_vote_error([1.0, 2.5], 0.6), "`members`: got 2.5"),
        (lambda: majority_vote_error(3, 1.2), r"`accuracy`: got 1.2; expected numbers in \[0, 1\]"),
        (lambda: gaussian_vote_error(3, 0.6, 0.0), "`sd`: got 0; expected numbers above 0"),
        (lambda: gaussian_vote_error(3, 0.6, 0.3, correlation=-0.1), "`correlation`: got -0.1"),
        (lambda: gaussian_vote_error(3, float("nan"), 0.3), "`mean`: got 1 NaN"),
        (lambda: exponential_tail(3, -1.0, 1.0), "`mean`: got -1"),
        (lambda: exponential_tail(3, 1.0, 0.0), "`threshold`: got 0"),
        (lambda: welsch_loss(3, 0.5, 1.0, -1.0), "`width`: got -1"),
        (lambda: squared_loss(3, float("inf"), 1.0), "`bias`: got 1 NaN or infinite"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# Brier scores and expansions.


def test_brier_score_of_dirichlet_members_is_exact():
    """The mean of K independent Dirichlet members has the variances of one, divided by K; by moments of the beta law."""
    concentration, truth = np.array([2.0, 1.0, 0.5]), np.array([0.0, 1.0, 0.0])
    total = concentration.sum()
    mean, variances = concentration / total, stats.dirichlet(concentration).var()
    expected = [sum((m - t) ** 2 + v / k for m, t, v in zip(mean, truth, variances, strict=True)) for k in K]
    np.testing.assert_allclose(brier_score(K, mean, truth, sqrt(variances.sum())), expected, rtol=1e-13)
    draws = np.random.default_rng(4).dirichlet(concentration, size=(DRAWS, SIZE)).mean(axis=1)
    _assert_mean(((draws - truth) ** 2).sum(axis=1), brier_score(SIZE, mean, truth, sqrt(variances.sum())).item())


def test_correlated_brier_score_by_a_common_part():
    mean, truth = np.array([0.6, 0.4]), np.array([1.0, 0.0])
    shared, own = np.array([0.03, 0.03]), np.array([0.02, 0.02])
    s2, rho = (shared + own).sum(), shared.sum() / (shared + own).sum()
    np.testing.assert_allclose(brier_score(K, mean, truth, sqrt(s2), rho), [0.32 + shared.sum() + own.sum() / k for k in K], rtol=1e-13)


def test_the_expansion_errs_by_the_inverse_square_of_the_size():
    sizes = np.array([16, 32, 64, 128, 256])
    error = np.asarray(welsch_loss(sizes, 1.3, 1.0, 1.0) - second_order_loss(sizes, lambda d: -jax.numpy.expm1(-(d**2) / 2), 1.3, 1.0))
    slope = np.polyfit(np.log(sizes), np.log(np.abs(error)), 1)[0]
    assert -2.1 < slope < -1.85
    np.testing.assert_allclose(second_order_loss(sizes, lambda d: d**2, 0.5, 2.0, 0.3), squared_loss(sizes, 0.5, 2.0, 0.3), rtol=1e-13)


def test_expansions_and_brier_scores_refuse_bad_input():
    with pytest.raises(ValueError, match=r"`mean`: got shape \(2,\)"):
        second_order_loss(3, lambda d: d**2, [0.0, 1.0], 1.0)
    with pytest.raises(ValueError, match=r"`truth`: got shape \(3,\)"):
        brier_score(3, [0.5, 0.5], [0.0, 1.0, 0.0], 1.0)
