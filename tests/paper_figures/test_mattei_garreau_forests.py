"""Forests: green as they stand, red when an input moves, convex losses that never rise, and averages over subsets against their enumeration."""

from itertools import combinations

import numpy as np
import pytest

from paper_figures import mattei_garreau_forests
from paper_figures.mattei_garreau_forests import FIGURE

VOTES = np.array([[0, 1, 2, 1, 1], [0, 1, 2, 2, 0], [1, 1, 0, 2, 2], [0, 1, 1, 0, 1]])  # four trees, five points, three classes
LABELS = np.array([0, 1, 0, 2, 1])


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_caption_red(drawn):
    data = drawn(FIGURE).data
    off = [number.name for number in FIGURE.caption(data | {"floor": 1.02 * data["floor"]}).numbers if not number.holds]
    assert off == ["largest cross-entropy"]


def test_convex_losses_never_rise_on_any_split(drawn):
    data = drawn(FIGURE).data
    for name in ("cancer", "digits"):
        for loss in ("cross-entropy", "Brier"):
            assert np.diff(data[f"{name}, {loss}"], axis=1).max() < 0, (name, loss)


def test_one_tree_votes_for_one_class(drawn):
    """Its cross-entropy is its error times -log floor, its Brier score twice its error."""
    data = drawn(FIGURE).data
    alone = data["cancer, error"][:, 0]
    np.testing.assert_allclose(data["cancer, cross-entropy"][:, 0], alone * -np.log(data["floor"]), rtol=1e-10)
    for name in ("cancer", "digits"):
        np.testing.assert_allclose(data[f"{name}, cross-entropy"][:, 0] / -np.log(data["floor"]), data[f"{name}, Brier"][:, 0] / 2, rtol=1e-10)


def test_errors_fall_on_one_side_and_rise_on_the_other(drawn):
    data = drawn(FIGURE).data
    right, wrong = (data[f"cancer, error where {side}"].mean(axis=0) for side in ("right", "wrong"))
    assert np.diff(right).max() < 1e-3
    assert np.diff(wrong).min() > -5e-3  # the last sizes are those of one forest, whose vote may differ from that of the other trees
    for name in ("cancer", "digits"):
        assert (data[f"{name}, error where right"][:, -1] < 0.05).all()
        assert (data[f"{name}, error where wrong"][:, -1] > 0.6).all()


def test_the_error_of_all_points_is_a_mixture_of_both_sides(drawn):
    data = drawn(FIGURE).data
    for name in ("cancer", "digits"):
        part = data[f"{name}, part where wrong"][:, None]
        mixed = part * data[f"{name}, error where wrong"] + (1 - part) * data[f"{name}, error where right"]
        np.testing.assert_allclose(data[f"{name}, error"], mixed, atol=0.01)  # but for points on which the other trees are tied


def subsets(K):
    return [np.array(rows) for rows in combinations(range(4), K)]


def test_brier_scores_average_over_all_subsets():
    shares = np.stack([(VOTES == c).mean(axis=0) for c in range(3)])
    one_hot = np.eye(3)[LABELS].T
    expected = [np.mean([np.sum((np.stack([(VOTES[s] == c).mean(axis=0) for c in range(3)]) - one_hot) ** 2, axis=0).mean() for s in subsets(K)]) for K in (1, 2, 3, 4)]
    np.testing.assert_allclose(mattei_garreau_forests._brier(shares, LABELS, np.arange(1, 5)), expected, rtol=1e-13)


def lost(votes, label):
    counts = np.bincount(votes, minlength=3)
    winners = np.flatnonzero(counts == counts.max())
    return 1 - (label in winners) / len(winners)


def test_random_orders_average_over_subsets():
    orders = 4000
    expected = np.array([[np.mean([lost(VOTES[s, i], LABELS[i]) for s in subsets(K)]) for K in (1, 2, 3, 4)] for i in range(5)])
    got = mattei_garreau_forests._by_orders(VOTES, LABELS, np.random.default_rng(0), orders)
    np.testing.assert_allclose(got, expected, atol=5 * 0.5 / orders**0.5)
    np.testing.assert_allclose(got[:, -1], expected[:, -1], atol=1e-12)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_ties_are_broken_evenly(label):
    counts = np.array([[2], [2], [1]])
    np.testing.assert_allclose(mattei_garreau_forests._lost(counts, np.array([label])), [0.5 if label < 2 else 1.0])
