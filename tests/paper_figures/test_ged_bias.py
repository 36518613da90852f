"""What GED from samples measures: every number from the masses of three masks, and the lines through printed values by a search of their own."""

import numpy as np
import pytest

from paper_figures.ged_bias import FIGURE, PIXELS, PRINTED


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "missed")


def pixels(radius):
    return sum((x - (PIXELS - 1) / 2) ** 2 + (y - (PIXELS - 1) / 2) ** 2 <= radius**2 for x in range(PIXELS) for y in range(PIXELS))


def test_exact_lines_follow_from_the_masses_of_nested_masks(drawn):
    data = drawn(FIGURE).data
    grown, missed = 0.05, 0.03
    agreed, apart = 1 - grown - missed, 1 - pixels(7.0) / pixels(8.0)  # the disc lies in the grown one
    spread = 2 * (agreed * grown * apart + missed * (agreed + grown))
    np.testing.assert_allclose(data["V"], spread / data["sizes"], rtol=1e-12)
    to_disc, to_grown, to_nothing = grown * apart + missed, agreed * apart + missed, 1 - missed
    assert to_disc < min(to_grown, to_nothing)
    assert data["floor"] == pytest.approx(2 * to_disc - spread, rel=1e-10)


def test_dots_scatter_about_the_lines_by_their_standard_errors(drawn):
    data = drawn(FIGURE).data
    for name, truth in (("V", data["diversity"] / data["simulated"]), ("U", np.zeros(len(data["simulated"])))):
        assert np.all(np.abs(data[f"{name}, simulated"] - truth) < 5 * data[f"{name}, standard error"])
        assert np.all(data[f"{name}, standard error"] > 0)


def test_lines_through_printed_values_have_the_least_largest_residual(drawn):
    data = drawn(FIGURE).data
    slopes = np.linspace(0, 1.5, 15001)
    for row, limit, slope, residual in zip(PRINTED.values(), data["limit"], data["slope"], data["residual"], strict=True):
        n, printed = np.array(list(row)), np.array([float(text) for text in row.values()])
        rest = printed[None, :] - slopes[:, None] / n[None, :]
        half_widths = (rest.max(axis=1) - rest.min(axis=1)) / 2  # with the best limit for each slope
        assert residual == pytest.approx(half_widths.min(), abs=1e-5)
        assert np.abs(printed - limit - slope / n).max() == pytest.approx(residual, abs=1e-9)
    allowed = slopes <= 1
    n, printed = np.array([16, 32, 100]), np.array([0.310, 0.303, 0.252])
    rest = printed[None, :] - slopes[allowed, None] / n[None, :]
    assert (rest.max(axis=1) - rest.min(axis=1)).min() / 2 > 0.013  # the first row is none of this law, rounding or not
