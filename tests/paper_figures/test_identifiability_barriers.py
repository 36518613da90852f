"""Between two networks: green as it stands, red when an input moves, and its exact curves again by NumPy."""

import numpy as np
import pytest

from paper_figures.identifiability_barriers import FIGURE

TIMES = np.linspace(0, 1, 33)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify  # trains everything again
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    red = two_percent_off(FIGURE, "hidden")
    assert "barrier of the relabelled teacher" in red
    assert not {"pairs above the bound", "largest deviation from A + B / K"} & set(red)  # they hold whatever the inputs


def test_the_copy_is_the_teacher_and_what_lies_between_is_not(drawn):
    data, inputs = drawn(FIGURE).data, FIGURE.inputs
    x, w = np.polynomial.hermite_e.hermegauss(12)
    points, weights = np.stack([axis.ravel() for axis in np.meshgrid(x, x)], axis=1), np.outer(w, w).ravel() / w.sum() ** 2
    W, v = np.array(inputs["hidden"]), np.array(inputs["output"])
    order, signs = inputs["order"], np.array(inputs["signs"])
    W2, v2 = signs[:, None] * W[order], np.append(signs * v[:-1][order], v[-1])

    def values(W, v):
        return np.tanh(points @ W[:, :-1].T + W[:, -1]) @ v[:-1] + v[-1]

    losses = [weights @ (values((1 - t) * W + t * W2, (1 - t) * v + t * v2) - values(W, v)) ** 2 for t in TIMES]
    np.testing.assert_allclose(data["copy_raw"], losses, rtol=1e-10, atol=1e-14)
    assert losses[-1] < 1e-28
    assert np.max(np.abs(data["copy_matched"])) < 1e-28


def test_students_have_the_same_losses_in_all_panels(drawn):
    """The ends of the segments of all pairs are the subsets of one student, in the order of the pairs."""
    data = drawn(FIGURE).data
    width, alone = data["widths"][-1], data["sizes"] == 1
    single = data["average_functions"][alone]
    first, second = np.triu_indices(single.size, 1)
    for name in ("raw_weights", "matched_weights", "raw_functions", "matched_functions"):
        np.testing.assert_allclose(data[f"{name}_{width}"][:, 0], single[first], rtol=1e-9)
        np.testing.assert_allclose(data[f"{name}_{width}"][:, -1], single[second], rtol=1e-9)
    np.testing.assert_allclose(data["average_raw"][alone], single, rtol=1e-9)
    np.testing.assert_allclose(data["average_matched"][alone], single, rtol=1e-9)


def test_middles_of_segments_are_averages_of_two(drawn):
    """Of weights as they stand and of functions; matched, a pair may be matched to either of the two, with the same average up to labels."""
    data = drawn(FIGURE).data
    width, two = data["widths"][-1], data["sizes"] == 2
    np.testing.assert_allclose(data[f"raw_weights_{width}"][:, 16], data["average_raw"][two], rtol=1e-9)
    np.testing.assert_allclose(data[f"raw_functions_{width}"][:, 16], data["average_functions"][two], rtol=1e-9)
    np.testing.assert_allclose(data[f"matched_functions_{width}"], data[f"raw_functions_{width}"], rtol=1e-9)


def test_bounds_and_distances_are_on_the_right_side(drawn):
    data = drawn(FIGURE).data
    for width in data["widths"]:
        for name in ("raw", "matched"):
            assert np.all(data[f"{name}_gap_{width}"] <= data[f"{name}_bound_{width}"] * (1 + 1e-6))
        raw, matched = data[f"distances_{width}"].T
        assert np.all(matched <= raw * (1 + 1e-9))
