"""Lists of any masks, empty ones among them, and masks of different sizes: estimates, matching and a grader, by Hypothesis; and what two empty masks that differ break."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembletheory.segmentation import (
    MaskLaw,
    dilated,
    diversity,
    ged_squared,
    ged_u_statistic,
    ged_v_statistic,
    hungarian_iou,
    jaccard_empty_differs,
    morphological_graders,
)
from tests.segmentation import brute

MASKS, SETS = brute.subsets(4)
four = st.lists(st.sampled_from([0, 0, 0, *range(1, 16)]), min_size=4, max_size=4)


def apart(first, second):
    return np.array([[1 - brute.jaccard(SETS[i], SETS[j]) for j in second] for i in first])


@settings(max_examples=15, deadline=None)
@given(four, four)
def test_estimates_and_matching_of_any_lists(first, second):
    samples, graders = MASKS[first], MASKS[second]
    cross, own, other = apart(first, second), apart(first, first), apart(second, second)
    v = 2 * cross.mean() - own.mean() - other.mean()
    assert float(ged_v_statistic(samples, graders)) == pytest.approx(v, abs=1e-14)
    u = 2 * cross.mean() - (own.sum() + other.sum()) / 12
    assert float(ged_u_statistic(samples, graders, graders_drawn=True)) == pytest.approx(u, abs=1e-14)
    best = max(np.mean([1 - cross[i, j] for i, j in enumerate(order)]) for order in permutations(range(4)))
    assert float(hungarian_iou(samples, graders)) == pytest.approx(best, abs=1e-14)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 15), st.floats(0, 0.4), st.floats(0, 0.4))
def test_a_grader_of_any_mask_even_of_none(which, over, miss):
    truth = MASKS[which]
    law = morphological_graders(truth, over=over, under=0.0, shift=0.0, miss=miss)
    expected = over * dilated(truth, 1) + (1 - over - miss) * truth
    np.testing.assert_allclose(law.pixel_probabilities(), expected, atol=1e-15)


def test_background_alone_is_at_no_distance_from_itself():
    nothing = np.zeros((4, 1, 4), bool)
    assert float(ged_v_statistic(nothing, nothing)) == float(ged_u_statistic(nothing, nothing, graders_drawn=True)) == 0
    assert float(hungarian_iou(nothing, nothing)) == 1


def test_masks_of_different_sizes_are_refused():
    for call in (ged_v_statistic, hungarian_iou):
        with pytest.raises(ValueError, match="expected"):
            call(MASKS[:4], np.zeros((4, 2, 4), bool))


@settings(max_examples=15, deadline=None)
@given(four, four)
def test_empty_masks_that_differ_leave_ged_positive(first, second):
    """Its square loses (P(empty) - Q(empty))^2 and stays above 0 for laws that differ; diversity and 1 - overlap as a distance are what break."""
    p, q = MaskLaw(MASKS[first]), MaskLaw(MASKS[second])
    value = float(ged_squared(p, q, jaccard_empty_differs))
    empty = (first.count(0) - second.count(0)) / 4
    assert value == pytest.approx(brute.ged_squared(p, q) - empty**2, abs=1e-14)
    assert (value > 1e-9) == (sorted(first) != sorted(second))
    nothing = MaskLaw(np.zeros((4, 1, 4)))
    assert float(diversity(nothing, jaccard_empty_differs)) == 1
