"""One-step potentials: green as they stand, red when an input moves, and their arrays again by interpolation and sums."""

import numpy as np
import pytest
from scipy import special

from paper_figures.nhf_one_step_potential import FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

SPREAD = np.sqrt(0.25 - 0.16)
X = np.linspace(-6, 6, 400_001)
LEVELS = special.ndtri(np.clip((special.ndtr((X - 2) / SPREAD) + special.ndtr((X + 2) / SPREAD)) / 2, 1e-300, 1 - 1e-16))  # of modes 4 apart


def transport(q):
    return np.where(q > 0, 1, -1) * np.interp(-abs(q), LEVELS, -X)  # odd, from the smaller tail


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "deviation")


def test_transport_and_potential(drawn):
    data = drawn(FIGURE).data
    np.testing.assert_allclose(data["transported_4"][:-1], transport(data["start"]), atol=1e-5)
    below = X <= 0
    for q, value in zip(data["q"][::5], data["values_4"][::5], strict=True):
        until = below & (LEVELS >= -abs(q))
        conjugate = np.trapezoid(X[until], LEVELS[until]) if np.any(until) else 0.0  # of T over (-|q|, 0)
        assert value == pytest.approx(q**2 / 2 + conjugate, abs=3e-4)


def test_the_posterior_of_the_momentum(drawn):
    """Its mass is 1, and it has one mode: between two equal modes of the target lies a cliff, not a valley."""
    data = drawn(FIGURE).data
    order = np.argsort(data["momenta"])
    momenta, density = data["momenta"][order], data["posterior"][order]
    assert np.trapezoid(density, momenta) == pytest.approx(1, abs=0.02)
    rises = np.diff(density)[np.abs(np.diff(density)) > 1e-9] > 0
    assert np.sum(np.abs(np.diff(rises.astype(int)))) == 1
