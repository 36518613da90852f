"""What averages of pixels forget: green as it stands, red when an input moves, distances again by textbook sums."""

import numpy as np
from scipy import stats

from paper_figures.probability_averaging_gap import FIGURE


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "confidence")


def test_two_pixels_in_closed_form(drawn):
    data = drawn(FIGURE).data
    delta = (2 * data["a"] - 1) ** 2
    np.testing.assert_allclose(data["two_ged"], delta**2 / 8, atol=1e-14)
    masses = np.stack([1 + delta, 1 + delta, 1 - delta, 1 - delta]) / 4
    np.testing.assert_allclose(data["two_kl"], stats.entropy(masses, np.full_like(masses, 0.25)), atol=1e-14)


def test_all_or_nothing_by_binomial_counts(drawn):
    """Of fair independent pixels, the union of two draws is binomial of 3/4, a third of it shared; all pixels are met by half."""
    data = drawn(FIGURE).data
    for n, squared in zip(data["pixels"], data["all_ged"], strict=True):
        own = (1 - 0.25**n) / 3 + 0.25**n
        cross = (0.5 + 0.5**n) / 2
        np.testing.assert_allclose(squared, 0.5 + own - 2 * cross, atol=1e-13)


def test_mixing_is_nearer_up_to_half_way(drawn):
    data = drawn(FIGURE).data
    nearer = data["ged_to_mixed"] < data["ged_to_averaged"]
    np.testing.assert_array_equal(nearer, data["s"] < 0.5 - 1e-9)
    np.testing.assert_array_equal(data["kl_to_mixed"] < data["kl_to_averaged"], data["s"] < data["kl_crossing"])
