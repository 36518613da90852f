"""Losses that a second member makes worse: found where they exist, not where they do not, and verified by simulating the two-point law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembletheory.supervised import harmful_two_point_law, second_member_gain
from tests.helpers import assert_mean

NOT_CONVEX = {
    "welsch": (lambda d: -np.expm1(-(d**2) / 2), -3.0, 3.0),
    "error": (lambda score: (score < 0.5).astype(float), 0.0, 1.0),
    "root": (lambda d: np.abs(d) ** 0.5, -1.0, 1.0),
    "dent": (lambda d: d**2 + 0.05 * np.sin(20 * d), -1.0, 1.0),
    "capped": (lambda d: np.minimum(d**2, 1.0), -2.0, 2.0),
}
CONVEX = {
    "square": lambda d: d**2,
    "absolute": np.abs,
    "pinball": lambda d: np.maximum(0.2 * d, -0.8 * d),
    "hinge": lambda d: np.maximum(1 - d, 0.0),
    "logistic": lambda d: np.logaddexp(0.0, -d),
    "line": lambda d: 3 * d - 1,
}


@pytest.mark.parametrize("name", NOT_CONVEX)
def test_a_law_is_found_and_simulation_confirms_it(name):
    loss, low, high = NOT_CONVEX[name]
    result = harmful_two_point_law(loss, low, high)
    assert result.found
    assert low <= result.low < result.high <= high
    assert result.verdict.startswith("a second member harms")
    draws = np.random.default_rng(0).choice([result.low, result.high], size=(100_000, 2))
    assert_mean(loss(draws.mean(axis=1)) - loss(draws[:, 0]), result.harm)


@pytest.mark.parametrize("name", CONVEX)
def test_none_is_found_for_convex_losses_and_the_verdict_says_how_hard_it_looked(name):
    result = harmful_two_point_law(CONVEX[name], -3.0, 2.0, budget=700)
    assert not result.found
    assert result.harm <= result.rounding
    assert result.evaluations == 700
    assert "none found: no two-point law of 700 evaluations" in result.verdict
    assert "no proof" in result.verdict


def test_the_worst_law_for_the_capped_square_is_found():
    """min(d^2, 1) on [-2, 2]: of -l(a) + 2 l(m) - l(b) the largest, 1/2 at a = 0, b = 2 (then m = 1): -(0 - 2 + 1)/4 = 1/4."""
    result = harmful_two_point_law(NOT_CONVEX["capped"][0], -2.0, 2.0)
    np.testing.assert_allclose(result.harm, 0.25, atol=1e-4)


def test_the_budget_is_kept():
    evaluated = []

    def loss(d):
        evaluated.append(d.size)
        return d**2

    result = harmful_two_point_law(loss, 0.0, 1.0, budget=500)
    assert sum(evaluated) == result.evaluations == 500


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0, 1))
def test_the_identity_is_an_enumeration_of_four_pairs(a, b, p):
    def loss(d):
        return np.exp(0.3 * d) - 0.5 * d**2

    pairs = p * p * loss(a) + 2 * p * (1 - p) * loss((a + b) / 2) + (1 - p) ** 2 * loss(b)
    np.testing.assert_allclose(
        second_member_gain(lambda d: np.exp(0.3 * np.asarray(d)) - 0.5 * np.asarray(d) ** 2, a, b, p), p * loss(a) + (1 - p) * loss(b) - pairs, atol=1e-14
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: harmful_two_point_law(np.abs, 1.0, 0.0), "`low, high`: got 1.0, 0.0"),
        (lambda: harmful_two_point_law(np.abs, 0.0, np.inf), "`low, high`"),
        (lambda: harmful_two_point_law(np.abs, 0.0, 1.0, budget=100), "`budget`: got 100; expected at least 200"),
        (lambda: harmful_two_point_law(lambda d: np.where(d > 0.5, np.nan, d), 0.0, 1.0), "`loss`: got shape"),
        (lambda: harmful_two_point_law(lambda d: 1.0, 0.0, 1.0), "`loss`: got shape"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()
