"""The toy problem: green as it stands, red when the noise moves, and its arrays again by other routes."""

import math
from itertools import combinations

import numpy as np
import pytest

from paper_figures.deep_ensembles_toy import FIGURE, METHODS

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

X = np.linspace(-6, 6, 97)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert "likelihood of the exact law" in two_percent_off(FIGURE, "noise")


def test_coverages_count_new_targets(drawn):
    """Of the first data set, from the bands that are drawn, by the error function."""
    data = drawn(FIGURE).data
    for name in METHODS:
        mean, deviation = data[f"{name}, mean"], data[f"{name}, deviation"]
        low, high = ((mean + side * deviation - X**3) / 3 / math.sqrt(2) for side in (-2, 2))
        inside = np.array([(math.erf(b) - math.erf(a)) / 2 for a, b in zip(low, high, strict=True)])
        within = np.abs(X) <= 4
        np.testing.assert_allclose(data[f"{name}, coverage"][0], [inside[within].mean(), inside[~within].mean()], atol=1e-12)


def test_one_network_is_its_own_mixture_and_none_is_below_the_exact_law(drawn):
    data = drawn(FIGURE).data
    np.testing.assert_allclose(data["mixture"][:, 0], data["matched"][:, 0], rtol=1e-9)
    for name in ("mixture", "matched"):
        assert np.all(data[name] > data["exact"])
    assert np.all(np.diff(data["mixture"], axis=1) < 0)


def test_likelihoods_of_subsets_are_integrals_over_new_targets(drawn):
    """Of the first data set, for all pairs and all five, by the trapezoid rule."""
    data = drawn(FIGURE).data
    t = np.linspace(-8, 8, 2001)[:, None]
    y, mass = X**3 + 3 * t, np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi) * 0.008
    logs = -(np.log(2 * np.pi * data["variances"])[:, None] + (y - data["means"][:, None]) ** 2 / data["variances"][:, None]) / 2
    for K in (2, 5):
        each = [-np.sum(mass * (np.logaddexp.reduce(logs[list(S)], axis=0) - np.log(K)), axis=0) for S in combinations(range(5), K)]
        expected = np.mean(each, axis=0)
        within = np.abs(X) <= 4
        np.testing.assert_allclose(data["mixture"][0, K - 1], [expected[within].mean(), expected[~within].mean()], rtol=2e-3)
