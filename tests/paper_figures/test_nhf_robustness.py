"""Robustness of neural Hamiltonian flows: green as it stands, red when an input moves; the exact line in closed form, and a verdict that follows from the arrays."""

import numpy as np
import pytest

from paper_figures.nhf_robustness import FIGURE, SETTINGS, _tested, _verdict


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


@pytest.mark.parametrize(
    ("deficits", "verdict"),
    [
        ([[0.3, 0.5], [0.377, 0.5]], "passes"),
        ([[0.3, 0.5], [0.378, 0.5]], "is undecided"),
        ([[0.3, 0.622], [0.3, 0.5]], "is undecided"),
        ([[0.3, 0.623], [0.3, 0.5]], "fails"),
    ],
)
def test_a_verdict_follows_from_intervals(deficits, verdict):
    """Both targets count. With three seeds of deviation 0.01 in both cells the half-width is t_4(0.975) 0.01 sqrt(2 / 3) = 0.0227; the margin is 0.1."""
    assert 2.776 * 0.01 * np.sqrt(2 / 3) == pytest.approx(0.0227, abs=5e-5)
    around = np.asarray(deficits)[:, :, None] + np.array([-0.01, 0.0, 0.01])
    alike = np.full((2, 2, 1), 0.8) + np.array([-0.01, 0.0, 0.01])
    data = {"margin": np.asarray(0.1), "families": np.asarray(["nhf", "fixed"]), "fixed steps": around, "nhf steps": alike}
    assert _verdict(data, "fixed", "steps") == verdict
    assert _verdict(data, "nhf", "steps") == "fails"  # alike everywhere, and beside a better family


def test_the_caption_says_what_it_did_not_test(drawn):
    text = drawn(FIGURE).record["caption"]
    assert "By this test" not in text
    assert "NHF)" in text
    assert "both energies learned" not in text
    tested = _tested({"margin": 0.1, "fixed steps": np.full((2, 2, 3), 0.3) + np.array([-1e-3, 0.0, 1e-3]), "families": np.asarray(["fixed"])}, ["fixed"], ["steps"])
    assert "FK-NHF passes for steps. By this test, at these sizes, the claim passes." in tested
