"""Gains of pools over a plane: green as it stands, red when an input moves, and its maps again from textbook formulas."""

import numpy as np
import pytest

from paper_figures.pool_gains import DIVERGENCES, FIGURE, RULES

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption


def divergences(s):
    """From N(0, 1) to N(0, s^2)."""
    v = s**2
    return np.stack([(1 / v - 1 + np.log(v)) / 2, (v - 1 - np.log(v)) / 2, (s - 1) ** 2, (1 / v - 1) ** 2], axis=-1)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "examples")


def test_gaussian_pools_are_of_textbooks(drawn):
    data = drawn(FIGURE).data
    a, b = np.meshgrid(data["deviations"], data["deviations"], indexing="ij")
    average = (divergences(a) + divergences(b)) / 2
    for rule, s in (("log", np.sqrt(2 / (1 / a**2 + 1 / b**2))), ("barycenter", (a + b) / 2)):
        np.testing.assert_allclose(data["shares"][..., RULES.index(rule)], 1 - divergences(s) / average, atol=1e-9)


def test_the_linear_pool_by_sums_over_a_fine_grid(drawn):
    data = drawn(FIGURE).data
    x = np.linspace(-60, 60, 120_001)
    p = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    for i, j in ((1, 9), (4, 10), (3, 6)):
        s = data["deviations"][[i, j]]
        q = np.mean([np.exp(-(x**2) / 2 / v**2) / np.sqrt(2 * np.pi) / v for v in s], axis=0) + 1e-300
        forward = np.trapezoid(p * (np.log(p + 1e-300) - np.log(q)), x)
        reverse = np.trapezoid(q * (np.log(q) + x**2 / 2 + np.log(2 * np.pi) / 2), x)
        average = divergences(s).mean(axis=0)
        for name, value in (("forward", forward), ("reverse", reverse)):
            column = list(DIVERGENCES).index(name)
            np.testing.assert_allclose(data["shares"][i, j, column, 0], 1 - value / average[column], atol=1e-7)


def test_maps_that_theorems_call_gains_are_gains(drawn):
    shares = drawn(FIGURE).data["shares"]
    for rule, names in {"linear": ("forward", "reverse", "w2"), "log": ("forward", "fisher"), "barycenter": ("reverse", "w2")}.items():
        for name in names:
            assert shares[..., list(DIVERGENCES).index(name), RULES.index(rule)].min() > -1e-10
    assert shares[..., 1, 1].min() < -0.1
    assert shares[..., 0, 2].min() < -0.1
