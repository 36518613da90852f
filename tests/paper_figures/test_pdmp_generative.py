"""Learned jump processes on the nine modes: green as it stands, red when an input moves, and its discrepancies by other routes."""

import numpy as np
import pytest

from ensembletheory.divergences import mmd_squared
from ensembletheory.laws import FiniteLaw, GaussianMixture, standard_normal
from paper_figures.pdmp_generative import FIGURE, MODES, RINGS, WEIGHTS, _Set

BANDWIDTH = FIGURE.inputs["bandwidth"]


def nine_modes():
    mean = WEIGHTS @ MODES
    scale = np.sqrt(np.trace(np.cov(MODES.T, aweights=WEIGHTS, ddof=0)) / 2 + 0.1**2)
    return GaussianMixture(WEIGHTS, (MODES - mean) / scale, np.full((9, 2), (0.1 / scale) ** 2))


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify  # draws everything again
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert "squared MMD of noise to the nine modes" in two_percent_off(FIGURE, "bandwidth")


def test_the_discrepancies_again(drawn):
    """Those of the noise in closed form, and of laws of finite support less the pairs of a point with itself."""
    data = drawn(FIGURE).data
    assert data["noise_of_modes"] == pytest.approx(float(mmd_squared(standard_normal(2), nine_modes(), BANDWIDTH).value), rel=1e-10)
    ends, held_out = data["ends, zig_zag"][0], data["held_out"][0]
    n = len(ends)

    def own(x):
        """How much counting points with themselves adds: 1/n of what 1 is above the mean of the others."""
        kernel = np.exp(-np.sum((x[:, None] - x[None]) ** 2, axis=2) / (2 * BANDWIDTH**2))
        return (1 - (kernel.sum() - n) / (n * (n - 1))) / n

    biased = float(mmd_squared(FiniteLaw(ends), FiniteLaw(held_out), BANDWIDTH).value)
    assert data[f"zig_zag, {FIGURE.quick_inputs['evaluations'][0]}"][0, 0] == pytest.approx(biased - own(ends) - own(held_out), abs=1e-10)
    assert own(ends) > 1e-4


def test_the_sets_are_what_they_are_called():
    """Of mean 0 and variance 1 per coordinate, and where they should be."""
    rng, n = np.random.default_rng(0), 20_000
    for name in FIGURE.inputs["sets"]:
        one = _Set(name, rng, 0.1)
        points = one.draw(rng, n)
        assert np.max(np.abs(points.mean(axis=0))) < 0.05
        assert np.trace(np.cov(points.T)) / 2 == pytest.approx(1, abs=0.05)
        raw = points * one._scale + one._mean
        if name == "checkerboard":
            assert np.all((np.floor(raw).sum(axis=1) % 2) == 0)
            assert np.all((raw >= 0) & (raw < 4))
        if name == "rings":
            distances = np.linalg.norm(raw[:, None] - RINGS[None], axis=2)
            assert np.all(np.min(np.abs(distances - 0.45), axis=1) < 0.03 * 6)
        if name == "grid":
            np.testing.assert_allclose(one.means, np.asarray(nine_modes().components.mean), rtol=1e-12)
            shares = np.bincount(np.argmin(np.linalg.norm(raw[:, None] - MODES[None], axis=2), axis=1), minlength=9) / n
            assert np.all(np.abs(shares - WEIGHTS) < 5 * np.sqrt(WEIGHTS / n))
