"""The losses of averages: green as they stand, red when an input moves, simulated apart from their closed forms."""

import numpy as np
import pytest
from scipy import stats

from paper_figures.mattei_garreau_losses import FIGURE

# Which captions a 2 % change of each input must upset.
UPSETS = {
    "bias": ["squared"],
    "sd": ["squared", "welsch"],
    "correlation": ["squared", "vote correlated"],
    "welsch_biases": ["welsch"],
    "welsch_width": ["welsch"],
    "vote_means": ["vote"],
    "vote_sd": ["vote"],
    "accuracy": ["jury"],
    "exponential_means": ["tail"],
    "threshold": ["tail"],
}


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "vote_sd")


@pytest.mark.parametrize("argument", UPSETS)
def test_every_input_is_tied_to_its_numbers(argument):
    settings = FIGURE.settings(quick=True)
    settings[argument] = (np.asarray(settings[argument]) * 1.02).tolist()
    caption = FIGURE.caption({name: np.asarray(array) for name, array in FIGURE.compute(**settings).items()})
    off = [number.name for number in caption.numbers if not number.holds]
    assert off
    assert {next(start for start in UPSETS[argument] if name.startswith(start)) for name in off} == set(UPSETS[argument])


def test_every_input_but_those_of_the_simulation_is_tried():
    assert set(UPSETS) == set(FIGURE.inputs) - {"seed", "ensembles"}


def test_dots_scatter_about_the_lines_by_their_standard_errors(drawn):
    data = drawn(FIGURE).data
    lines = [name for name in data if f"{name}, simulated" in data]
    z = np.concatenate([(data[f"{n}, simulated"] - data[n][data["simulated"] - 1]) / data[f"{n}, standard error"] for n in lines])
    assert np.abs(z).max() < stats.norm.isf(1e-6 / z.size / 2)
    # One dot a line is independent of those of other lines: their squares must not be small either, or the bars are too long.
    assert (z[::6] ** 2).sum() > stats.chi2(len(lines)).ppf(1e-3)


def test_lines_fall_turn_and_rise_as_the_caption_says(drawn):
    data = drawn(FIGURE).data
    for name in ("squared", "welsch falls", "vote falls", "vote correlated", "jury", "tail falls"):
        assert (np.diff(data[name]) <= 1e-12).all(), name
    for name in ("welsch rises", "vote rises"):
        assert (np.diff(data[name]) >= -1e-12).all(), name
    for name in ("welsch turns", "tail turns"):
        assert np.argmin(data[name]) == 1, name
