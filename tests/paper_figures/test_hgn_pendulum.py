"""Hamiltonian generative networks on pictures of a pendulum: green, and its arrays again by other routes."""

import numpy as np
import pytest

from paper_figures.hgn_pendulum import FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

INPUTS = FIGURE.settings(quick=True)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def shown_energies(frames):
    """Of the angle of first moments, summed pixel by pixel, and the derivative of the polynomial of degree 6 through seven angles."""
    side = INPUTS["side"]
    x = [(2 * i + 1) / side - 1 for i in range(side)]
    pixels = frames.reshape(-1, side, side)
    across = sum(pixels[:, i, j] * x[j] for i in range(side) for j in range(side))
    down = sum(pixels[:, i, j] * x[i] for i in range(side) for j in range(side))
    q = np.unwrap(np.arctan2(across, down))
    t = INPUTS["step"] * np.arange(-3, 4)
    p = [np.polyfit(t, q[i : i + 7], 6)[-2] for i in range(len(q) - 6)]
    return np.array(p) ** 2 / 2 + INPUTS["frequency"] ** 2 * (1 - np.cos(q[3:-3]))


def test_energies_are_those_that_the_frames_show(drawn):
    data = drawn(FIGURE).data
    true = shown_energies(data["truth"])
    assert np.ptp(true) < 4e-3 * true.mean()  # angles are read up to 2e-4 from 12 pixels a side, their differences up to 1e-3
    for kind in ("hgn", "twin"):
        for shown, ratios in zip(data[f"{kind}_shown"], data[f"{kind}_energies"][:-1, 0], strict=True):
            np.testing.assert_allclose(shown_energies(shown) / true.mean(), ratios, rtol=5e-3)


def test_errors_of_averages_and_members(drawn):
    """Jensen at every time."""
    data = drawn(FIGURE).data
    for kind in ("hgn", "twin"):
        errors = data[f"{kind}_errors"]
        assert errors.shape == (INPUTS["members"] + 1, 3 * INPUTS["frames"])
        assert np.all(errors[-1] < errors[:-1].mean(axis=0))


def test_sizes_are_those_of_the_layers(drawn):
    d, w = INPUTS["latent"], INPUTS["width"]
    hgn, twin = drawn(FIGURE).data["parameters"]
    assert hgn == 2 * ((d + 1) * w + w + 1)
    wide = (twin - 2 * d) // (4 * d + 1)
    assert twin == (2 * d + 1) * wide + 2 * d * (wide + 1)
    assert abs(twin - hgn) <= (4 * d + 1) / 2


def test_leapfrog_keeps_volume_and_the_twin_does_not(drawn):
    data = drawn(FIGURE).data
    assert np.max(np.abs(data["hgn_volume"])) < 1e-12
    assert np.min(np.abs(data["twin_volume"])) > 1e-6
    assert data["orders"] == pytest.approx(2.0, abs=0.02)
