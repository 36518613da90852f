"""Votes from an urn, against enumerated sequences of draws, enumerated subsets, SciPy's laws of counts and the limit of many voters."""

from fractions import Fraction
from itertools import combinations, product
from math import comb, inf

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ensembletheory.supervised import (
    correlated_majority_vote_error,
    majority_vote_error,
    plurality_vote_error,
    subset_majority_vote_error,
    subset_plurality_vote_error,
    subset_vote_share_loss,
    vote_share_loss,
)

SIZES = np.arange(1, 7)  # of electorates that are enumerated
twentieths = st.integers(0, 20).map(lambda n: Fraction(n, 20))


def sequences(members, probabilities, correlation):
    """Every sequence of votes with its probability, drawn one after the other from Polya's urn, in exact arithmetic."""
    for votes in product(range(len(probabilities)), repeat=members):
        mass, counts = Fraction(1), [0] * len(probabilities)
        for n, vote in enumerate(votes):
            mass *= probabilities[vote] if n == 0 else (probabilities[vote] * (1 - correlation) + counts[vote] * correlation) / (1 - correlation + n * correlation)
            counts[vote] += 1
        yield counts, mass


def lost(counts):
    """Class 0 does not win; ties are broken evenly."""
    most = [c for c, n in enumerate(counts) if n == max(counts)]
    return 1 - Fraction(0 in most, len(most))


@given(twentieths, twentieths)
def test_correlated_jury_is_the_sum_over_all_sequences_of_votes(p, rho):
    expected = [sum(mass * lost(counts) for counts, mass in sequences(K, (p, 1 - p), rho)) for K in SIZES.tolist()]
    np.testing.assert_allclose(correlated_majority_vote_error(SIZES, float(p), float(rho)), np.array(expected, float), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("correlation", [Fraction(0), Fraction(3, 10), Fraction(1)])
@pytest.mark.parametrize("probabilities", [(Fraction(2, 5), Fraction(7, 20), Fraction(1, 4)), (Fraction(1, 10), Fraction(0), Fraction(9, 10))])
def test_plurality_is_the_sum_over_all_sequences_of_votes(probabilities, correlation):
    expected = [sum(mass * lost(counts) for counts, mass in sequences(K, probabilities, correlation)) for K in SIZES.tolist()]
    np.testing.assert_allclose(plurality_vote_error(SIZES, np.array(probabilities, float), float(correlation)), np.array(expected, float), rtol=0, atol=1e-13)


@pytest.mark.parametrize("votes", [(3, 2, 2), (1, 5, 1), (0, 3, 4), (6, 0, 1)])
def test_subsets_are_enumerated(votes):
    electorate = np.repeat(np.arange(3), votes)
    sizes = np.arange(1, len(electorate) + 1)
    plurality = [np.mean([float(lost(np.bincount(s, minlength=3).tolist())) for s in combinations(electorate, K)]) for K in sizes.tolist()]
    np.testing.assert_allclose(subset_plurality_vote_error(sizes, votes), plurality, rtol=0, atol=1e-13)
    majority = [np.mean([float(lost([s.count(0), K - s.count(0)])) for s in combinations(electorate.tolist(), K)]) for K in sizes.tolist()]
    np.testing.assert_allclose(subset_majority_vote_error(sizes, votes[0], sum(votes)), majority, rtol=0, atol=1e-13)
    brier = [np.mean([(1 - s.count(0) / K) ** 2 for s in combinations(electorate.tolist(), K)]) for K in sizes.tolist()]
    np.testing.assert_allclose(subset_vote_share_loss(sizes, votes[0], sum(votes), lambda share: (1 - share) ** 2), brier, rtol=1e-12, atol=1e-15)


def test_subsets_are_hypergeometric_at_the_size_of_a_forest():
    sizes, wrong = np.array([1, 10, 11, 60, 99, 100]), np.arange(101)
    for right in (49, 50, 97):
        laws = [stats.hypergeom(100, 100 - right, K) for K in sizes.tolist()]
        expected = [law.pmf(wrong) @ ((2 * wrong > K) + 0.5 * (2 * wrong == K)) for law, K in zip(laws, sizes.tolist(), strict=True)]
        np.testing.assert_allclose(subset_majority_vote_error(sizes, right, 100.0), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("p", "rho"), [(0.6, 0.2), (0.3, 0.05)])
def test_shares_follow_the_beta_binomial_law(p, rho):
    sizes, a = np.array([1, 4, 50, 300]), (1 - rho) / rho
    for K, got in zip(sizes.tolist(), np.asarray(vote_share_loss(sizes, p, _floored, rho)), strict=True):
        right = np.arange(K + 1)
        expected = stats.betabinom(K, p * a, (1 - p) * a).pmf(right) @ -np.log(np.maximum(right / K, 0.01))
        np.testing.assert_allclose(got, expected, rtol=1e-10)


def _floored(share):
    return -jax.numpy.log(jax.numpy.maximum(share, 0.01))


def test_logarithmic_loss_of_votes_is_infinite_while_none_may_be_right():
    np.testing.assert_array_equal(vote_share_loss([1, 5], 0.9, lambda share: -jax.numpy.log(share)), [inf, inf])
    np.testing.assert_allclose(vote_share_loss([1, 5], 1.0, lambda share: -jax.numpy.log(share)), [0.0, 0.0])


def test_uncorrelated_voters_are_condorcets_jury_also_in_the_tail():
    sizes = np.array([1, 2, 9, 101, 600])
    np.testing.assert_allclose(correlated_majority_vote_error(sizes, 0.8), majority_vote_error(sizes, 0.8), rtol=1e-10)
    np.testing.assert_allclose(plurality_vote_error([1, 2, 9, 100], [0.6, 0.4]), majority_vote_error([1, 2, 9, 100], 0.6), rtol=0, atol=1e-13)


def test_a_large_correlated_jury_errs_where_the_beta_law_is_below_one_half():
    a = 0.8 / 0.2
    limit = stats.beta(0.6 * a, 0.4 * a).cdf(0.5)
    errors = correlated_majority_vote_error([101, 301, 599], 0.6, 0.2) - limit
    np.testing.assert_array_less(np.abs(errors), [1e-2, 3e-3, 2e-3])
    assert np.all(np.diff(np.abs(errors)) < 0)


@pytest.mark.parametrize("urn", ["correlated", "subset"])
def test_increments_are_those_of_the_urn(urn):
    a, b, s = (0.6 * 0.7, 0.4 * 0.7, 0.3) if urn == "correlated" else (12.0, 9.0, -1.0)
    odd = np.arange(1, 20, 2)
    errors = np.asarray(correlated_majority_vote_error(odd, 0.6, 0.3) if urn == "correlated" else subset_majority_vote_error(odd, 12, 21))

    def rising(x, m):
        return np.prod(x + s * np.arange(m))

    m = np.arange(1, 10)
    increments = [comb(2 * k - 1, k) * rising(a, k) * rising(b, k) / rising(a + b, 2 * k + 1) * (a - b) for k in m.tolist()]
    np.testing.assert_allclose(errors[:-1] - errors[1:], increments, rtol=1e-9)


def test_split_juries_decide_as_told():
    coin, right, wrong = (np.asarray(correlated_majority_vote_error([1, 2, 4], 0.6, 0.3, split)) for split in (0.5, 0.0, 1.0))
    np.testing.assert_allclose(coin, (right + wrong) / 2, rtol=1e-14)
    np.testing.assert_allclose([wrong[1] - right[1], wrong[0] - right[0]], [2 * 0.6 * 0.4 * 0.7, 0.0], rtol=1e-13)


def test_with_four_classes_the_error_turns():
    errors = plurality_vote_error([1, 10, 30, 100, 300], [0.3, 0.32, 0.19, 0.19])
    assert np.all(np.diff(errors[:4]) < 0)
    assert errors[4] > errors[3] + 0.05


def test_simulated_electorates_agree():
    """Ten classes and 15 voters: too many for an enumeration."""
    p = np.array([0.2, 0.15, *[0.65 / 8] * 8])
    rng = np.random.default_rng(3)
    counts = rng.multinomial(15, p, size=200_000)
    most = counts == counts.max(axis=1, keepdims=True)
    losses = 1 - most[:, 0] / most.sum(axis=1)
    assert abs(losses.mean() - float(plurality_vote_error(15, p))) <= 5 * losses.std() / np.sqrt(len(losses))


def test_errors_differentiate_in_accuracy_and_correlation():
    step = 1e-5
    moves = np.array([0.6, 0.3]) + step * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    errors = np.asarray(correlated_majority_vote_error(5, moves[:, 0], moves[:, 1]))
    slopes = jax.jit(jax.grad(lambda p, rho: correlated_majority_vote_error(5, p, rho), (0, 1)))(0.6, 0.3)
    np.testing.assert_allclose(slopes, (errors[::2] - errors[1::2]) / (2 * step), rtol=1e-7)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: correlated_majority_vote_error(601, 0.6), "`members`: got 601; expected at most 600"),
        (lambda: correlated_majority_vote_error(3, 0.6, -0.1), "`correlation`: got -0.1"),
        (lambda: correlated_majority_vote_error(2, 0.6, 0.1, split=2.0), "`split`: got 2"),
        (lambda: jax.jit(lambda k: vote_share_loss(k, 0.5, lambda s: s))(3), "`members`: got a traced array"),
        (lambda: subset_majority_vote_error(8, 3, 7), "`members`: got 8; expected at most the 7"),
        (lambda: subset_majority_vote_error(3, 8, 7), "`right`: got numbers between 8 and 8"),
        (lambda: plurality_vote_error(3, [1.0]), r"`probabilities`: got shape \(1,\)"),
        (lambda: plurality_vote_error(3, [0.5, 0.6]), "`weights`: got smallest 0.5"),
        (lambda: subset_plurality_vote_error(3, [2.5, 1]), "`votes`"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()
