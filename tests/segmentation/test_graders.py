"""Graders: laws against frequencies and sets of pixels, refusals."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ensembletheory.segmentation import (
    MaskLaw,
    deterministic_floor,
    dilated,
    eroded,
    ged_squared,
    grey_matter_map,
    lesion_images,
    morphological_graders,
    shifted,
    threshold_graders,
)
from tests.helpers import assert_within_errors

MASKS = arrays.arrays(bool, (2, 5, 6))


def grown(mask, radius):
    """The pixels within the radius of a pixel of the mask, one by one."""
    places = np.argwhere(mask)
    return np.array([[any((y - a) ** 2 + (x - b) ** 2 <= radius**2 for a, b in places) for x in range(mask.shape[1])] for y in range(mask.shape[0])])


@given(MASKS, st.integers(0, 2))
@settings(max_examples=15)
def test_growth_is_by_discs_and_shrinkage_its_dual(masks, radius):
    np.testing.assert_array_equal(dilated(masks, radius), [grown(mask, radius) for mask in masks])
    np.testing.assert_array_equal(eroded(masks, radius), [~grown(~mask, radius) for mask in masks])


@given(MASKS, st.integers(-3, 3), st.integers(-3, 3))
@settings(max_examples=15)
def test_a_moved_mask_loses_what_leaves(masks, down, across):
    moved = shifted(masks, down, across)
    for k, y, x in np.ndindex(masks.shape):
        inside = 0 <= y - down < 5 and 0 <= x - across < 6
        assert moved[k, y, x] == (inside and masks[k, y - down, x - across])


def test_morphological_graders_have_the_chances_that_were_asked_for():
    truth = np.zeros((7, 7), bool)
    truth[2:5, 2:5] = True
    law = morphological_graders(truth, over=0.1, under=0.15, shift=0.4, miss=0.05)
    drawn = [truth, dilated(truth, 1), eroded(truth, 1), truth & False, *[shifted(truth, *by) for by in ((1, 0), (-1, 0), (0, 1), (0, -1))]]
    assert np.exp(law.log_prob(np.stack(drawn))) == pytest.approx([0.3, 0.1, 0.15, 0.05, *[0.1] * 4])


def test_rounding_of_chances_that_fill_up_is_forgiven_and_more_refused():
    truth = np.ones((3, 3), bool)
    assert np.asarray(morphological_graders(truth, over=0.5, under=0.3, shift=0.1, miss=0.1).weights)[0] == 0
    for chances in ({"over": 0.9, "shift": 0.4}, {"miss": -0.1}):
        with pytest.raises(ValueError, match=r"over, under, shift, miss.*expected probabilities >= 0"):
            morphological_graders(truth, **chances)


def test_equally_spaced_levels_reproduce_a_soft_map_by_nested_masks():
    soft = np.random.default_rng(0).uniform(size=(4, 5))
    law = threshold_graders(soft, (np.arange(20) + 0.5) / 20)
    assert np.max(np.abs(np.asarray(law.pixel_probabilities()) - soft)) <= 1 / 40 + 1e-12
    areas = np.asarray(law.masks)
    assert (areas[:-1] >= areas[1:]).all()


@pytest.mark.verify
def test_grey_matter_is_a_map_of_probabilities():
    pytest.importorskip("nilearn")
    soft = np.asarray(grey_matter_map(10))
    assert 0 <= soft.min() < 0.05
    assert 0.7 < soft.max() <= 1
    with pytest.raises(ValueError, match="height"):
        grey_matter_map(10, height=1.5)
    nested = threshold_graders(soft, (np.arange(20) + 0.5) / 20)
    assert np.max(np.abs(np.asarray(nested.pixel_probabilities()) - soft)) <= 1 / 40 + 1e-12
    drawn = morphological_graders(soft >= 0.5)
    areas = np.asarray(drawn.masks).sum((1, 2))
    assert areas[1] > areas[0] > areas[2] > areas[3] == 0
    assert 0 < float(deterministic_floor(drawn)) <= float(ged_squared(MaskLaw((soft >= 0.5)[None]), drawn))


@pytest.fixture(scope="module")
def lesions():
    return lesion_images(jax.random.key(1), 300, 16, graders=4)


def test_lesions_are_read_by_their_law(lesions):
    assert (lesions.images.shape, lesions.masks.shape) == ((300, 16, 16), (300, 4, 16, 16))
    same = (np.asarray(lesions.masks)[:, :, None] == np.asarray(lesions.readings)[:, None]).all((-2, -1))
    assert (same.sum(-1) == 1).all()
    chances = np.outer([0.1, 0.4, 0.5], [0.6, 0.4]).ravel()
    assert_within_errors(same.mean((0, 1)), np.sqrt(chances * (1 - chances) / 1200), chances)
    np.testing.assert_allclose(lesions.law(3).pixel_probabilities(), np.tensordot(chances, np.asarray(lesions.readings)[3], axes=1))


def test_readings_are_unions_of_three_disjoint_regions_none_of_them_empty(lesions):
    nothing, beside, core, core_beside, whole, both = np.moveaxis(np.asarray(lesions.readings), 1, 0)
    assert not np.any([nothing, whole & beside, core & ~whole])
    for region in (core, beside, whole & ~core):
        assert region.any((-2, -1)).all()
    np.testing.assert_array_equal(core_beside, core | beside)
    np.testing.assert_array_equal(both, whole | beside)


def test_brightness_is_that_of_the_regions(lesions):
    images, readings = np.asarray(lesions.images), np.asarray(lesions.readings)
    core, rim, beside = readings[:, 2], readings[:, 4] & ~readings[:, 2], readings[:, 1]
    for region, level in ((core, 1.0), (rim, 0.5), (beside, 0.5), (~readings[:, 5], 0.0)):
        values = images[region]
        assert_within_errors(values.mean(), np.sqrt((0.15**2 + 0.1**2) / 300), level)  # the slow waves, of variance 0.1^2, count once an image


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: lesion_images(jax.random.key(0), 2, 15), "size"),
        (lambda: threshold_graders([[0.2, 1.2]], [0.5]), "probabilities"),
        (lambda: threshold_graders([[0.2, 0.9]], []), "levels"),
        (lambda: threshold_graders(np.zeros((0, 2)), [0.5]), "probabilities"),
        (lambda: lesion_images(jax.random.key(1), 300, 16, graders=4).law(300), "i"),
        (lambda: morphological_graders(np.ones((2, 3, 3)), radius=1), "mask"),
        (lambda: dilated(np.ones((3, 3)), -1), "radius"),
    ],
)
def test_refusals_name_the_argument(call, names):
    with pytest.raises(ValueError, match=f"`{names}`: got"):
        call()
