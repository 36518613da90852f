"""Networks of ambiguous masks: green in the quick run, and what the caption says of independent pixels, exactly."""

import jax
import numpy as np
import pytest

from ensembletheory.segmentation import IndependentPixels, deterministic_floor, lesion_images, product_ged_squared
from paper_figures.punet_ambiguous import FIGURE


@pytest.mark.verify  # trains; the quick reproduction draws this figure and asserts its caption
def test_every_number_of_the_caption_holds(drawn):
    data = drawn(FIGURE).data
    assert np.mean(data["probabilistic_unet"]) < np.mean(data["floors"])
    assert np.all(data["lost by pooling"] <= 1e-12)


@pytest.mark.verify  # exact sums over the pixels of whole images
@pytest.mark.parametrize("size", [16, 64])
def test_independent_pixels_of_right_probabilities_are_below_the_floor(size):
    lesions = lesion_images(jax.random.key(5), 3, size)
    for i in range(3):
        graders = lesions.law(i)
        pixels = IndependentPixels(np.clip(graders.pixel_probabilities(), 0, 1))
        assert float(product_ged_squared(pixels, graders)) < 0.2 * float(deterministic_floor(graders))
