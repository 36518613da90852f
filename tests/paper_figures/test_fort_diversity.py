"""Weights beside predictions: green as it stands, red when an input moves, and what copies are by other routes."""

import numpy as np
import pytest

from paper_figures import fort_diversity
from paper_figures.fort_diversity import FIGURE

RNG = np.random.default_rng(0)
LAYERS = [RNG.normal(size=(6, 4)), RNG.normal(size=(3, 7))]
Z = RNG.normal(size=(5, 3))


def outputs(layers, z=Z):
    hidden, last = layers
    return np.maximum(z @ hidden[:, :-1].T + hidden[:, -1], 0) @ last[:, :-1].T + last[:, -1]


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.parametrize("moved", [[0.918, 0.96], [0.9, 0.9792]])
def test_a_change_of_two_percent_turns_the_caption_red(drawn, moved):
    off = [number.name for number in FIGURE.caption(drawn(FIGURE).data | {"example": fort_diversity._example(*moved)}).numbers if not number.holds]
    assert off == ["independent at the example", "copy at the example"]


def test_permuted_copies_predict_the_same_and_thinned_ones_the_same_on_average():
    np.testing.assert_allclose(outputs(fort_diversity._permuted(LAYERS, np.random.default_rng(1))), outputs(LAYERS), rtol=1e-12)
    rng = np.random.default_rng(2)
    draws = np.array([outputs(fort_diversity._thinned(LAYERS, 0.5, rng)) for _ in range(2000)])
    error = draws.std(axis=0) / np.sqrt(len(draws))
    assert np.all(np.abs(draws.mean(axis=0) - outputs(LAYERS)) <= 5 * error + 1e-12)
    assert error.max() > 0


def test_noise_lowers_the_cosine_as_its_size_says(drawn):
    """Noise of scale times the deviation of each layer's weights, which have a mean near zero: about 1 / sqrt(1 + scale^2)."""
    for level, scale in enumerate(FIGURE.inputs["scales"]):
        np.testing.assert_allclose(drawn(FIGURE).data["perturbed"][:, level, 0], 1 / np.sqrt(1 + scale**2), atol=0.03)


def test_points_count_errors_and_disagreements():
    classes, labels = np.array([[0, 1, 2, 3], [0, 1, 2, 0], [0, 0, 2, 0], [3, 3, 3, 3]]), np.array([0, 1, 2, 3])
    compared = fort_diversity._Compared(np.arange(16.0).reshape(4, 4), classes, labels, 1, 2)
    np.testing.assert_allclose(compared._points([np.array([0, 2, 3])]), [[[1.0, 0.25, 1.0], [9.0, 0.25, 0.5], [13.0, 1.0, 0.25]]])


def test_snapshots_come_nearer_and_other_initialisations_stay_away(drawn):
    data = drawn(FIGURE).data
    assert np.all(np.diff(data["snapshot"][:, :, 0], axis=1) > 0)
    assert np.all(np.abs(data["initialisation"][:, 0, 0]) < 0.3)
    assert np.all(data["initialisation"][:, 0, 1] > data["snapshot"][:, -1, 1])
    assert np.all(data["permuted"][:, 0, 1] == 0)
