"""Ensembles of segmenters: green as it stands, red when the noise moves, limits again from counts of pixels by region."""

import jax
import numpy as np
import pytest
from scipy import stats

from ensembletheory.segmentation import lesion_images
from paper_figures.ged_ensembles import FIGURE, RULES, SCENES


def overlap_of_independent(sizes, p, q):
    """E J by regions of equal pixels: binomial numbers in the union, of which a share is in both."""
    both, one = p * q, p + q - p * q
    numbers = np.meshgrid(*[np.arange(n + 1) for n in sizes], indexing="ij")
    chance = np.prod(np.meshgrid(*[stats.binom.pmf(np.arange(n + 1), n, u) for n, u in zip(sizes, one, strict=True)], indexing="ij"), axis=0)
    union = sum(numbers)
    shared = sum(np.divide(b, u, out=np.zeros_like(b), where=u > 0) * k for b, u, k in zip(both, one, numbers, strict=True))
    return (chance * np.where(union > 0, shared / np.maximum(union, 1), 1.0)).sum()


@pytest.fixture(scope="module")
def lesion():
    lesion = lesion_images(jax.random.key(FIGURE.inputs["seed"]), 1, FIGURE.inputs["size"])
    readings = np.asarray(lesion.readings)[0]
    regions = [readings[2], readings[4] & ~readings[2], readings[1]]
    return np.array([region.sum() for region in regions]), np.array([[(mask & region).any() for region in regions] for mask in readings], float)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "noise")


def test_limits_by_regions(drawn, lesion):
    data, (sizes, readings) = drawn(FIGURE).data, lesion
    chances = data["chances"]

    own = np.array([[overlap_of_independent(sizes, p, q) for q in readings] for p in readings])
    noisy = 0.1 + 0.8 * readings
    logits = chances @ np.log(noisy / (1 - noisy))
    averages = {"drawings_pixel_average": chances @ readings, "single_pixel_average": chances @ noisy, "single_logit_average": 1 / (1 + np.exp(-logits))}
    for name, p in averages.items():
        cross = np.array([overlap_of_independent(sizes, p, q) for q in readings])
        expected = overlap_of_independent(sizes, p, p) + chances @ own @ chances - 2 * cross @ chances
        assert data[f"{name}_limit"] == pytest.approx(expected, abs=1e-12)


def test_dots_lie_on_the_law(drawn):
    data = drawn(FIGURE).data
    for scene in SCENES:
        values, law = data[f"{scene}_mixed"], data[f"{scene}_a"] + data[f"{scene}_b"] / data["members"]
        assert np.all(np.abs(values.mean(1) - law) < 5 * values.std(1, ddof=1) / np.sqrt(values.shape[1]))
    for rule in RULES:
        assert np.all(data[f"single_{rule}"][0] == pytest.approx(data["single_mixed"][0], abs=1e-12))
