"""What leapfrog reaches: green as it stands, red when an input moves, and its arrays again from products of kicks and drifts."""

import numpy as np
import pytest

from paper_figures.leapfrog_reachability import FIGURE


def power(stiffness, step, mass, L):
    kick, drift = np.array([[1, 0], [-step * stiffness / 2, 1]]), np.array([[1, step / mass], [0, 1]])
    return np.linalg.matrix_power(kick @ drift @ kick, L)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "c")


def test_deviations_are_those_of_matrices(drawn):
    data = drawn(FIGURE).data
    for L in (1, 2, 4):
        for y, found in list(zip(data["y"], data[f"deviations_{L}"], strict=True))[::10]:
            assert found == pytest.approx(np.linalg.norm(power(4 * y / 0.3, 1.0, 1 / 0.3, L)[0]), rel=1e-10)


def test_least_deviations_and_trained_deficits(drawn):
    data = drawn(FIGURE).data
    theta = np.linspace(0, np.pi, 40_001)[1:-1]
    for L in (1, 2, 4):
        least = np.sqrt(np.min(np.cos(L * theta) ** 2 + (0.3 * np.sin(L * theta) / np.sin(theta)) ** 2))
        assert data["least"][L - 1] == pytest.approx(least, rel=1e-6)
        r = np.minimum(data["sigmas"] / least, 1) ** 2
        np.testing.assert_allclose(data[f"trained_{L}"], (r - 1 - np.log(r)) / 2, atol=1e-6)


def test_divergences_and_gaps(drawn):
    data = drawn(FIGURE).data
    for L, divergence, gap in zip(data["steps"], data["divergences"], data["gaps"], strict=True):
        (A, B), (C, D) = power(0.25, np.pi / L, 1.0, int(L))
        model = A**2 + B**2
        W = (A * C + B * D) / model
        assert divergence == pytest.approx((4 / model - 1 + np.log(model / 4)) / 2, rel=1e-6)
        assert gap == pytest.approx((model / 4 - 1 - np.log(model / 4) + W**2 * 4 * model) / 2, rel=1e-6)
