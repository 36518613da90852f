"""Robustness of neural Hamiltonian flows: green as it stands, red when an input moves; the exact line in closed form, and a verdict that follows from the arrays."""

import numpy as np
import pytest

from paper_figures.nhf_robustness import FIGURE, SETTINGS, _passes


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify  # trains again
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert "least deficit of linear flows" in two_percent_off(FIGURE.with_inputs(**FIGURE.quick_inputs), "correlation")


def test_the_line_is_the_closed_form(drawn):
    """For two coordinates of correlation rho, with r = tan(asin(rho) / 2) and s = (1 - r rho) / (1 - r^2)."""
    rho = FIGURE.inputs["correlation"]
    r = np.tan(np.arcsin(rho) / 2)
    s = (1 - r * rho) / (1 - r**2)
    ratios = np.array([(1 + rho) / (s * (1 + r)), (1 - rho) / (s * (1 - r))])
    assert drawn(FIGURE).data["exact"] == pytest.approx(np.sum(ratios - 1 - np.log(ratios)) / 2 - np.log(1 - r**2) / 2, rel=1e-10)


def test_settings_that_agree_with_the_base_are_one_training(drawn):
    data = drawn(FIGURE).data
    base = data["fixed steps"]
    assert base.shape == (1, 2, FIGURE.quick_inputs["seeds"])
    for name in SETTINGS:
        np.testing.assert_array_equal(data[f"fixed {name}"], base)


@pytest.mark.parametrize(("deficits", "verdict"), [([[0.3, 0.5], [0.39, 0.5]], True), ([[0.3, 0.5], [0.41, 0.5]], False), ([[0.3, 0.7], [0.3, 0.59]], False)])
def test_a_verdict_follows_from_the_means(deficits, verdict):
    """Both targets count, and a mean over seeds: 0.1 up and down leaves it. A family that fails alike everywhere does not pass beside a better one."""
    around = np.asarray(deficits)[:, :, None] + np.array([-0.1, 0.1])
    data = {"margin": np.asarray(0.1), "families": np.asarray(["nhf", "fixed"]), "fixed steps": around, "nhf steps": np.full((2, 2, 2), 0.8)}
    assert _passes(data, "fixed", "steps") is verdict
    assert not _passes(data, "nhf", "steps")
