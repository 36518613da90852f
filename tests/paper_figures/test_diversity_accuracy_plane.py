"""The plane: green as it stands, red when an input moves, its control on its curve, and its points counted again."""

import numpy as np
import pytest

from paper_figures import diversity_accuracy_plane
from paper_figures.diversity_accuracy_plane import FIGURE


def copy_curve(a, reference):
    """The part q of replaced predictions that lowers the accuracy to a changes 9/10 of them."""
    q = (reference - a) / (reference - 0.1)
    return 0.9 * q / (1 - a)


def independent_curve(a, reference):
    return 1 - (a * reference + 9 * (1 - a) / 9 * (1 - reference) / 9)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.parametrize("argument", ["example_accuracy", "example_reference"])
def test_a_change_of_two_percent_turns_the_caption_red(drawn, argument):
    moved = {name: FIGURE.inputs[name] * (1.02 if name == argument else 1.0) for name in ("example_accuracy", "example_reference")}
    example = diversity_accuracy_plane._example(*moved.values())
    off = [number.name for number in FIGURE.caption(drawn(FIGURE).data | {"example": example}).numbers if not number.holds]
    assert off == ["independent at the example", "copy at the example"]


def test_curves_are_those_of_the_mean_reference(drawn):
    data = drawn(FIGURE).data
    reference = data["reference"].mean()
    np.testing.assert_allclose(data["copy curve"], copy_curve(data["below"], reference), atol=1e-12)
    np.testing.assert_allclose(data["independent curve"], independent_curve(data["shown"], reference) / (1 - data["shown"]), rtol=1e-12)


def test_the_control_lies_on_its_curve(drawn):
    """898 predictions a copy: the ratio has a standard deviation below 0.05."""
    data = drawn(FIGURE).data
    for split, reference in enumerate(data["reference"]):
        a, y = data["random_labels"][split].reshape(-1, 2).T
        np.testing.assert_allclose(y, copy_curve(a, reference), atol=0.2)
    residuals = data["random_labels"][..., 1] - copy_curve(data["random_labels"][..., 0], data["reference"][:, None, None])
    assert abs(residuals.mean()) < 0.05


def test_families_lie_between_the_curves(drawn):
    data = drawn(FIGURE).data
    reference = data["reference"].mean()
    for family in ("snapshot", "perturbed", "tree"):
        a, y = data[family].mean(axis=(0, 2)).T
        assert np.all(y > copy_curve(np.minimum(a, reference), reference)), family
        assert np.all(y < independent_curve(a, reference) / (1 - a)), family
    accuracy, diversity = data["initialisation"].mean(axis=(0, 1, 2))
    assert abs(accuracy - reference) < 0.02
    assert 0.5 < diversity < independent_curve(accuracy, reference) / (1 - accuracy)


def test_points_count_errors_and_disagreements():
    labels, reference = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 0])
    points = diversity_accuracy_plane._points(np.array([[[0, 1, 0, 0], [1, 1, 2, 2]]]), reference, labels)
    np.testing.assert_allclose(points, [[[0.5, 0.25 / 0.5], [0.5, 0.5 / 0.5]]])


def test_replaced_labels_are_uniform():
    moved = diversity_accuracy_plane._relabelled(np.zeros(50_000, int), 0.4, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(moved, minlength=10) / 50_000, [0.64, *[0.04] * 9], atol=0.01)
