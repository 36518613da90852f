"""Moduli: green as it stands, red when an input moves, and its distances again by hand."""

import numpy as np
import pytest

from paper_figures.identifiability_moduli import FIGURE, MODELS


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "separation")


def test_no_pair_is_below_its_bound_and_one_lies_on_it(drawn):
    data = drawn(FIGURE).data
    for name in [name.removesuffix(", bound") for name in data if name.endswith("bound") and "control" not in name]:
        (constant, exponent), pairs = data[f"{name}, bound"], data[f"{name}, pairs"]
        ratios = pairs[:, 1] / (constant * pairs[:, 0] ** exponent)
        assert ratios.min() == pytest.approx(1, rel=1e-9), name
        assert exponent == (2 if "singular" in name else 1)
        assert not len(data[f"{name}, suspects"])


def test_controls_show_equal_laws_on_orbits_far_apart(drawn):
    data = drawn(FIGURE).data
    for model in MODELS:
        suspects = data[f"{model}, control, suspects"]
        assert len(suspects) >= 4
        assert suspects[:, 0].max() > 1
        assert suspects[:, 1].max() < 1e-8


def test_merged_components_part_with_the_square(drawn):
    """Means -h and h of equal weights against N(0, 1), h -> 0: the density moves by h^2 / 2 times the second derivative of the normal density, whose L2 norm
    is sqrt(3 / (8 sqrt(pi))), and the orbits by sqrt(2) h."""
    pairs = drawn(FIGURE).data["mixture, singular, pairs"]
    nearest = pairs[:, 0] < 2e-3
    slowest = pairs[nearest, 1].min() / pairs[nearest, 0][np.argmin(pairs[nearest, 1])] ** 2
    assert slowest == pytest.approx(np.sqrt(3 / (8 * np.sqrt(np.pi))) / 4, rel=1e-3)


def test_regular_mixtures_part_at_the_rate_of_their_derivative(drawn):
    """The smaller singular value of the derivative of the density by the two means."""
    x, m = np.linspace(-12, 12, 4001), FIGURE.inputs["separation"]
    slopes = np.stack([0.5 * (x - c) * np.exp(-((x - c) ** 2) / 2) / np.sqrt(2 * np.pi) for c in (-m, m)])
    rate = np.sqrt(np.linalg.eigvalsh(slopes @ slopes.T * (x[1] - x[0]))[0])
    pairs = drawn(FIGURE).data["mixture, regular, pairs"]
    nearest = pairs[:, 0] < 5e-3
    assert (pairs[nearest, 1] / pairs[nearest, 0]).min() == pytest.approx(rate, rel=5e-3)
