"""Overlaps of masks against sets of pixels: their values, which of them are metrics and kernels, and laws of masks themselves."""

from itertools import permutations, product

import jax
import numpy as np
import pytest

from ensembletheory.segmentation import (
    MaskLaw,
    dice,
    dice_coefficient,
    dice_rank,
    intersection_over_union,
    jaccard,
    jaccard_empty_differs,
    mixture_of_masks,
    overlap_table,
)
from tests.helpers import assert_mean
from tests.segmentation import brute

MASKS, SETS = brute.subsets(4)
KERNELS = {
    "jaccard": (jaccard, brute.jaccard),
    "dice": (dice, brute.dice),
    "empty differs": (jaccard_empty_differs, lambda a, b: brute.jaccard(a, b, empty=0.0)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_tables_hold_the_overlaps_of_sets(name):
    overlap, by_sets = KERNELS[name]
    expected = [[by_sets(a, b) for b in SETS] for a in SETS]
    np.testing.assert_allclose(overlap_table(MASKS, MASKS, overlap), expected, rtol=1e-15)


def test_pairs_are_the_diagonal_of_tables_and_batches_are_lists_of_them():
    others = MASKS[::-1].copy()
    np.testing.assert_array_equal(intersection_over_union(MASKS, others), np.diagonal(overlap_table(MASKS, others)))
    np.testing.assert_array_equal(dice_coefficient(MASKS, others), np.diagonal(overlap_table(MASKS, others, dice)))
    batched = np.asarray(overlap_table(np.stack([MASKS, others]), np.stack([others, MASKS])))
    np.testing.assert_array_equal(batched[0], batched[1].T)
    np.testing.assert_array_equal(batched[0], overlap_table(MASKS, others))


def test_the_jaccard_index_is_the_probability_of_a_common_first_pixel():
    def first(mask, order):
        return next((x for x in order if x in mask), None)

    orders = list(permutations(range(4)))
    for a, b in product(SETS, SETS):
        assert brute.jaccard(a, b) == pytest.approx(np.mean([first(a, order) == first(b, order) for order in orders]), abs=1e-15)


def test_the_jaccard_distance_is_a_metric_and_that_of_dice_is_not():
    distance = 1 - np.asarray(overlap_table(MASKS, MASKS))
    assert np.all(distance[:, None, :] <= distance[:, :, None] + distance[None, :, :] + 1e-15)
    assert np.all((distance == 0) == np.eye(16, dtype=bool))
    one, other, both = ({0}, {1}, {0, 1})
    assert 1 - brute.dice(one, other) > 2 - brute.dice(one, both) - brute.dice(both, other) + 0.3


@pytest.mark.parametrize(("pixels", "least"), [(1, 1.0), (2, 0.2928932188), (3, 0.0806677329), (4, 0.0196459895), (5, 4.5e-3), (6, 1.0e-3)])
def test_ranks_and_least_eigenvalues_of_the_two_kernels(pixels, least):
    sets = brute.subsets(pixels)[1]
    kernels = [np.array([[overlap(a, b) for b in sets] for a in sets]) for overlap in (brute.jaccard, brute.dice)]
    spectrum, of_dice = (np.linalg.eigvalsh(kernel) for kernel in kernels)
    assert spectrum[0] == pytest.approx(least, rel=2e-2 if pixels > 4 else 1e-8)
    assert of_dice[0] > -1e-13
    assert np.sum(of_dice > 1e-12) == dice_rank(pixels) == min(2**pixels, pixels * (pixels - 1) + 2)


LAW = MaskLaw([[[0, 1, 1, 0]], [[1, 1, 0, 0]], [[0, 1, 1, 0]], [[1, 1, 1, 0]]], [0.2, 0.5, 0.3, 0.0])


def test_a_law_adds_the_weights_of_equal_masks():
    np.testing.assert_allclose(np.exp(LAW.log_prob([[[[0, 1, 1, 0]], [[1, 1, 0, 0]]], [[[1, 1, 1, 0]], [[0, 0, 0, 0]]]])), [[0.5, 0.5], [0.0, 0.0]], rtol=1e-15)
    np.testing.assert_allclose(LAW.pixel_probabilities(), [[0.5, 1.0, 0.5, 0.0]], rtol=1e-15)
    merged = LAW.merged()
    assert merged.masks.tolist() == [[[False, True, True, False]], [[True, True, False, False]]]
    np.testing.assert_allclose(merged.weights, [0.5, 0.5], rtol=1e-15)


def test_draws_and_mixtures_have_the_masses_of_the_law():
    drawn = LAW.sample(jax.random.key(0), 2000)
    assert drawn.dtype == bool
    assert_mean(np.asarray(drawn)[:, 0, [0, 2]].astype(float), [0.5, 0.5])
    pool = mixture_of_masks([LAW, MaskLaw([[[1, 1, 1, 0]]] * 4)], [0.25, 0.75])
    np.testing.assert_allclose(np.exp(pool.log_prob([[[1, 1, 1, 0]], [[0, 1, 1, 0]]])), [0.75, 0.125], rtol=1e-15)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MaskLaw([[[0.5, 1.0]]]), "masks.*0 and 1"),
        (lambda: MaskLaw([[0, 1]]), "masks.*m, H, W"),
        (lambda: MaskLaw([0, 1]), "masks.*H, W"),
        (lambda: MaskLaw([[[0, 1]], [[0]]]), "masks.*regular"),
        (lambda: MaskLaw([[[0, 1]]], [0.5]), "weights.*sum to 1"),
        (lambda: LAW.log_prob([[0, 1]]), r"masks.*\(..., 1, 4\)"),
        (lambda: LAW.sample(jax.random.key(0), 0), "n.*whole number"),
        (lambda: mixture_of_masks([]), "members.*one or more"),
        (lambda: mixture_of_masks([LAW, MaskLaw([[[0, 1]]])]), "members.*one shape"),
        (lambda: overlap_table([[[0, 1]]], [[0, 1]]), "others.*3 axes"),
        (lambda: overlap_table([[0, 1]], [[0, 1]]), "others.*n, H, W"),
        (lambda: intersection_over_union([[0, 1]], [[0, 1, 1]]), r"others.*\(..., 1, 2\)"),
        (lambda: dice_rank(0), "n.*whole number"),
    ],
)
def test_refusals_name_the_argument_and_the_remedy(call, words):
    with pytest.raises(ValueError, match=words):
        call()
