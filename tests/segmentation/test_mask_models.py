"""Laws of masks against sums over all masks, orthant probabilities and quadrature elsewhere."""

from itertools import product

import jax
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from ensembletheory.segmentation import (
    IndependentPixels,
    LowRankLogits,
    MaskLaw,
    MixtureOfMasks,
    ProbitMasks,
    ProductModes,
    average_logits,
    average_probabilities,
    deterministic_floor,
    diversity,
    ged_squared,
    mask_kl,
    mean_iou,
    product_ged_squared,
    total_correlation,
)
from ensembletheory.segmentation.factors import tolerance
from ensembletheory.segmentation.low_rank import log_logistic_normal
from tests.helpers import assert_within_errors

ALL = np.array(list(product((0, 1), repeat=3)))
SHARED, EITHER = ALL @ ALL.T, (ALL[:, None] | ALL[None]).sum(-1)
JACCARD = np.where(EITHER > 0, SHARED / np.maximum(EITHER, 1), 1.0)
PROBABILITIES = arrays.arrays(float, 3, elements=st.floats(0, 1, allow_subnormal=False))
RNG = np.random.default_rng(4)
PROBIT = ProbitMasks(RNG.normal(size=(1, 3)), 2 * RNG.normal(size=(1, 3)), [[0.5, 1.0, 2.0]])
LOGITS = LowRankLogits(RNG.normal(size=(1, 2)), 2 * RNG.normal(size=(1, 2, 1)), [[0.5, 4.0]])
EVERY, PAIRS = ALL[:, None, :], ALL[:4, None, 1:]
log_normals = jax.jit(log_logistic_normal)


def masses(p):
    return np.prod(np.where(ALL, p, 1 - np.asarray(p)), axis=1)


def of(law):
    """The masses of all masks."""
    return np.exp(np.asarray(law.log_prob(EVERY if law.shape == (1, 3) else PAIRS)))


@given(PROBABILITIES, PROBABILITIES)
@settings(max_examples=12)
def test_overlap_of_independent_pixels_is_the_sum_over_all_pairs_of_masks(p, q):
    first, second = IndependentPixels(p[None]), IndependentPixels(q[None])
    assert float(mean_iou(first, second)) == pytest.approx(masses(p) @ JACCARD @ masses(q), abs=1e-13)
    gap = masses(p) - masses(q)
    assert float(product_ged_squared(first, second)) == pytest.approx(gap @ JACCARD @ gap, abs=1e-13)
    np.testing.assert_allclose(of(first), masses(p), atol=1e-14)


@pytest.mark.parametrize("size", [0.02, 1.0])
def test_overlap_of_many_pixels_by_the_law_of_counts(size):
    """Against a fixed mask, the shared pixels and those outside are independent Poisson binomials; the second by convolution."""
    p, mask = size * np.random.default_rng(0).uniform(size=400), np.arange(400) < 100
    outside = np.array([1.0])
    for chance in p[~mask]:
        outside = np.convolve(outside, [1 - chance, chance])
    expected = p[mask].sum() * (outside / (100 + np.arange(301))).sum()
    law, fixed = IndependentPixels(p.reshape(20, 20)), MaskLaw(mask.reshape(1, 20, 20))
    assert float(mean_iou(law, fixed)) == pytest.approx(expected, rel=1e-12)


def test_independent_pixels_that_are_sure():
    law = IndependentPixels([[0.0, 1.0, 0.25]])
    np.testing.assert_allclose(of(law), masses([0, 1, 0.25]))
    assert float(law.entropy()) == pytest.approx(stats.bernoulli(0.25).entropy())
    drawn = np.asarray(law.sample(jax.random.key(0), 400))
    np.testing.assert_array_equal(drawn[:, 0, :2].mean(0), [0, 1])
    assert_within_errors(drawn[:, 0, 2].mean(), np.sqrt(0.25 * 0.75 / 400), 0.25)


@pytest.mark.parametrize(("x", "d"), [(0.3, 0.0), (-2.0, 0.5), (3.0, 1.0), (-50.0, 100.0), (-900.0, 30.0)])
def test_the_logistic_normal_integral_by_many_digits(x, d):
    """With the normal moved to where the integrand of the tail lies."""
    with mpmath.workdps(20):
        root = mpmath.sqrt(d)
        tilt = root if x < -d / 2 else 0
        value = mpmath.quad(lambda e: mpmath.npdf(e, tilt) * mpmath.exp((tilt**2) / 2 - tilt * e) / (1 + mpmath.exp(-x - root * e)), np.linspace(-26, 46, 73).tolist())
        assert float(log_normals(np.float64(x), np.float64(d))) == pytest.approx(float(mpmath.log(value)), rel=1e-10)


@pytest.mark.parametrize(("d", "log_value"), [(400.0, -52.7819875541752924669), (10_000.0, -1254.37987182747659319)])
def test_the_logistic_normal_integral_where_its_tail_falls_slowest(d, log_value):
    """At x = -d/2 it is the integral of N(u; 0, d) / (2 cosh(u / 2)) times exp(-d/8), by mpmath."""
    assert float(log_normals(np.float64(-d / 2), np.float64(d))) == pytest.approx(log_value, abs=1e-10)


def test_a_mask_far_in_the_tail_and_one_of_steep_pixels():
    """One pixel by Phi; three with centres at 0 by Sheppard's arcsines."""
    far = ProbitMasks([[1e5, 0.0, 0.0]], [[1.0, 0.0, 0.0]])
    assert float(far.log_prob(EVERY[3:4])[0]) == pytest.approx(stats.norm.logcdf(-1e5 / np.sqrt(2)) + 2 * np.log(0.5), abs=1e-5)
    loading, signs = np.array([1e4, -1e4, 5e3]), np.array([1, -1, 1])
    shares = signs * loading / np.sqrt(loading**2 + 1)
    truth = np.log(1 / 8 + sum(np.arcsin(shares[i] * shares[j]) for i, j in ((0, 1), (0, 2), (1, 2))) / (4 * np.pi))
    steep = ProbitMasks(np.zeros((1, 3)), loading[None])
    estimate = steep.log_likelihood(EVERY[5])
    assert abs(float(estimate.value) - truth) <= float(estimate.error) + 1e-9
    assert float(steep.log_prob(EVERY[5:6])[0]) == pytest.approx(truth, abs=1e-9)


def test_rounding_of_many_terms_is_not_refined_away():
    np.testing.assert_allclose(tolerance(np.float64, np.array([-5.0, -700.0])), 1e-6)
    assert float(tolerance(np.float32, np.float32(-700.0))) == pytest.approx(32 * 701 / 2**23)


def test_the_error_of_overlaps_grows_with_the_steepness_of_pixels():
    for mean in np.random.default_rng(0).normal(size=30) * 1000:
        law = ProbitMasks([[mean]], [[1000.0]])
        inside = stats.norm.cdf(mean / np.hypot(1, 1000))
        overlap = mean_iou(law, law)
        assert abs(float(overlap.value) - inside**2 - (1 - inside) ** 2) <= float(overlap.error) + 1e-13


def test_what_rests_on_quadrature_says_so():
    for law in (PROBIT, MixtureOfMasks([PROBIT, IndependentPixels([[0.2, 0.5, 0.7]])])):
        lost = total_correlation(law)
        masses_of_law = of(law)
        independent = masses(masses_of_law @ ALL)
        assert lost.kind == "quadrature"
        assert abs(float(lost.value) - masses_of_law @ np.log(masses_of_law / independent)) <= float(lost.error) < 1e-4


def test_an_infinite_divergence_has_an_infinite_error_when_drawn_and_jits():
    coins, sure = IndependentPixels([[0.5, 0.5, 0.5]]), IndependentPixels([[0.5, 0.5, 0.0]])
    drawn = mask_kl(coins, sure, jax.random.key(0), 100)
    assert (float(drawn.value), float(drawn.error)) == (np.inf, np.inf)
    assert float(jax.jit(lambda key: total_correlation(coins, key, 100).value)(jax.random.key(0))) == pytest.approx(0, abs=1e-12)


def test_ged_and_diversity_are_exact_where_laws_are_mixtures_of_independent_pixels():
    p, q = np.array([0.2, 0.5, 0.7]), np.array([0.9, 0.4, 0.1])
    gap = masses(p) - masses(q)
    squared, spread = ged_squared(IndependentPixels(p[None]), IndependentPixels(q[None])), diversity(IndependentPixels(p[None]))
    assert (squared.kind, spread.kind) == ("closed_form", "closed_form")
    assert float(squared) == pytest.approx(gap @ JACCARD @ gap, abs=1e-13)
    assert float(spread) == pytest.approx(1 - masses(p) @ JACCARD @ masses(p), abs=1e-13)


def test_five_classes_flipped_on_their_own():
    """A scene of six classes, of which five flip: 32 modes, by loops over them; the floor by trying all unions of classes."""
    chances, labels = np.array([0.6, 0.45, 0.35, 0.25, 0.15]), np.repeat([0, 1, 2, 3, 4, 5], [3, 1, 2, 4, 1, 5])[None, :]
    modes = ProductModes.of_classes(labels, [1, 2, 3, 4, 5], chances)
    flips = np.array(list(product((False, True), repeat=5)))
    weights = np.prod(np.where(flips, chances, 1 - chances), axis=1)
    unions = (flips[:, :, None] & (labels[0][None] == np.arange(1, 6)[:, None])[None]).any(1)
    np.testing.assert_allclose(np.exp(modes.log_prob(unions[:, None, :])), weights)
    assert len(modes.law().merged().masks) == 32
    assert float(ged_squared(modes, modes)) == pytest.approx(0, abs=1e-15)
    assert float(product_ged_squared(modes, modes)) == pytest.approx(0, abs=1e-12)
    shared, either = unions.astype(int) @ unions.T, (unions[:, None] | unions[None]).sum(-1)
    table = np.where(either > 0, shared / np.maximum(either, 1), 1.0)
    floor = 2 * (1 - (table @ weights).max()) - (1 - weights @ table @ weights)
    assert float(deterministic_floor(modes.law())) == pytest.approx(floor, rel=1e-12)


def test_masses_that_sum_to_more_than_one_by_rounding_are_no_probabilities_above_one():
    for m in (5, 8, 17):
        law = MaskLaw(np.ones((m, 1, 3), bool), np.random.default_rng(m).dirichlet(np.ones(m)))
        assert np.asarray(IndependentPixels(law.pixel_probabilities()).probabilities).max() <= 1


def test_two_probit_pixels_have_the_orthant_probability_whatever_the_steepness():
    for loading in ([2.0, -1.0], [8.0, 6.0]):
        law = ProbitMasks([[0.0, 0.0, 0.0]], [[*loading, 0.0]], np.ones((1, 3)))  # with a third that is a coin of its own
        rho = np.prod(loading) / np.prod(np.sqrt(1 + np.square(loading)))
        both = 0.25 + np.arcsin(rho) / (2 * np.pi)
        np.testing.assert_allclose(of(law), np.where(ALL[:, 0] == ALL[:, 1], both, 0.5 - both) / 2, rtol=1e-9)


def test_masks_of_probit_pixels_are_orthants():
    loading, mean, noise = np.asarray(PROBIT.loading)[0], np.asarray(PROBIT.mean)[0], np.array([0.5, 1.0, 2.0])
    cov = np.outer(loading, loading) + np.diag(noise)
    for mask, probability in zip(ALL[:4], of(PROBIT), strict=False):
        signs = 2 * mask - 1
        orthant = stats.multivariate_normal(np.zeros(3), cov * np.outer(signs, signs)).cdf(signs * mean)
        assert probability == pytest.approx(orthant, abs=2e-4)


@pytest.mark.parametrize("law", [PROBIT, pytest.param(LOGITS, marks=pytest.mark.verify)], ids=["probit", "logits"])
def test_factor_laws_sum_to_one_over_all_masks_with_their_margins(law):
    pixels = law.shape[1]
    every, probabilities = ALL[: 2**pixels, 3 - pixels :], of(law)
    assert probabilities.sum() == pytest.approx(1, abs=1e-10)
    np.testing.assert_allclose(probabilities @ every, np.asarray(law.pixel_probabilities())[0], atol=1e-10)
    drawn = np.asarray(law.sample(jax.random.key(0), 4000)).reshape(4000, pixels)
    frequencies = (drawn[:, None] == every[None]).all(-1).mean(0)
    assert_within_errors(frequencies, np.sqrt(probabilities * (1 - probabilities) / 4000), probabilities)
    p = np.array([0.2, 0.5, 0.7])[:pixels]
    gap = probabilities - np.prod(np.where(every, p, 1 - p), axis=1)
    table = JACCARD[: 2**pixels, : 2**pixels]
    assert float(product_ged_squared(law, IndependentPixels(p[None]))) == pytest.approx(gap @ table @ gap, abs=1e-10)


def test_logits_of_rank_one_against_a_fine_grid():
    z = np.linspace(-10, 10, 2001)
    logits = np.asarray(LOGITS.mean)[0] + z[:, None] * np.asarray(LOGITS.factor)[0, :, 0]
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    d = np.asarray(LOGITS.diagonal)[0]
    chance = np.stack([(1 / (1 + np.exp(-logits[:, i, None] - np.sqrt(d[i]) * nodes))) @ weights / weights.sum() for i in range(2)], axis=1)
    given_z = np.prod(np.where(PAIRS, chance, 1 - chance), axis=-1)
    np.testing.assert_allclose(of(LOGITS), np.trapezoid(given_z * stats.norm.pdf(z), z), rtol=1e-6)


@pytest.mark.verify
@pytest.mark.parametrize("rank", [2, 3])
def test_higher_ranks_by_importance_sampling_and_a_plane_of_panels(rank):
    """A factor of rank 1 written with more columns has the same law."""
    law = LowRankLogits(LOGITS.mean, np.asarray(LOGITS.factor) * np.array([0.6, 0.8] if rank == 2 else [0.6, 0.0, 0.8]), LOGITS.diagonal)
    exact = np.log(of(LOGITS)[1])
    estimate = law.log_likelihood(PAIRS[1], key=jax.random.key(1), samples=1000)
    assert estimate.kind == "monte_carlo"
    assert_within_errors(estimate.value, estimate.error, exact)
    if rank == 2:
        assert float(law.log_likelihood(PAIRS[1])) == pytest.approx(exact, abs=1e-9)
        return
    for call in (lambda: law.log_prob(PAIRS), lambda: law.log_likelihood(PAIRS[0]), lambda: product_ged_squared(law, law)):
        with pytest.raises(ValueError, match="got"):
            call()


def test_mixtures_are_sums_and_their_gaps_what_the_identity_says():
    laws, weights = [IndependentPixels([[0.8, 0.7, 0.4]]), IndependentPixels([[0.1, 0.6, 0.9]]), MaskLaw(EVERY[[0, 3, 7]], [0.5, 0.2, 0.3])], np.array([0.2, 0.3, 0.5])
    mixture, averaged = MixtureOfMasks(laws, weights), average_probabilities(laws, weights)
    tables = np.stack([of(law) for law in laws])
    mixed = weights @ tables
    np.testing.assert_allclose(of(mixture), mixed, atol=1e-12)
    np.testing.assert_allclose(mixture.pixel_probabilities(), (mixed @ ALL)[None], atol=1e-12)
    independent = masses(mixed @ ALL)
    lost = mixed @ np.log(mixed / independent)
    assert float(total_correlation(mixture)) == pytest.approx(lost, abs=1e-12)
    assert float(product_ged_squared(mixture, averaged)) == pytest.approx((mixed - independent) @ JACCARD @ (mixed - independent), abs=1e-12)
    estimate = mask_kl(mixture, averaged, jax.random.key(0), 4000)
    assert_within_errors(estimate.value, estimate.error, lost)
    drawn = np.asarray(mixture.sample(jax.random.key(2), 4000)).reshape(4000, 3)
    assert_within_errors((drawn[:, None] == ALL[None]).all(-1).mean(0), np.sqrt(mixed * (1 - mixed) / 4000), mixed)


def test_a_mask_no_member_gives_is_impossible_and_a_truth_beyond_a_law_infinitely_far():
    mixture = MixtureOfMasks([MaskLaw(EVERY[[0, 0, 0]]), IndependentPixels([[1.0, 0.5, 0.0]])])
    np.testing.assert_allclose(of(mixture), (np.eye(8)[0] + masses([1.0, 0.5, 0.0])) / 2)
    assert float(mask_kl(MaskLaw(EVERY), mixture)) == np.inf


def test_average_logits_are_logarithmic_pools_of_pixels():
    p, q = np.array([[0.2, 0.5, 0.0]]), np.array([[0.9, 0.4, 0.3]])
    odds = (p / (1 - p)) ** 0.25 * (q / (1 - q)) ** 0.75
    pooled = average_logits([IndependentPixels(p), IndependentPixels(q)], np.array([0.25, 0.75]))
    np.testing.assert_allclose(pooled.probabilities, odds / (1 + odds))
    with pytest.raises(ValueError, match="members sure of contraries"):
        average_logits([IndependentPixels([[0.0, 0.5, 0.5]]), IndependentPixels([[1.0, 0.5, 0.5]])])


def test_product_modes_of_five_classes():
    areas, chances = [5, 1, 3, 2, 4], np.array([0.8, 0.3, 0.5, 1.0, 0.1])
    regions = np.repeat(np.arange(5), areas)[None, None, :] == np.arange(5)[:, None, None]
    modes = ProductModes(np.concatenate([regions, np.zeros((5, 1, 1), bool)], axis=2), chances)
    labels, weights = modes.labels()
    assert weights.shape == (32,)
    assert np.asarray(weights).sum() == pytest.approx(1)
    impossible = np.arange(16) < np.array([[3], [16]])  # a part of a region; a pixel in none
    np.testing.assert_allclose(np.exp(modes.log_prob(np.concatenate([modes.law().masks, impossible[:, None]]))), np.append(weights, [0, 0]))
    np.testing.assert_allclose(np.asarray(weights) @ np.asarray(labels, float), chances)
    entropies = stats.bernoulli(chances).entropy()
    assert float(modes.entropy()) == pytest.approx(entropies.sum())
    margins = np.asarray(weights) @ np.asarray(modes.law().masks).reshape(32, 16)
    np.testing.assert_allclose(np.asarray(modes.pixel_probabilities())[0], margins)
    assert stats.bernoulli(margins[:15]).entropy().sum() - float(modes.entropy()) == pytest.approx((np.array(areas) - 1) @ entropies)
    layer = modes.layer(2)
    np.testing.assert_array_equal(np.asarray(layer.masks)[:, 0], [np.isin(np.arange(16), (6, 7, 8)), np.zeros(16, bool)])
    np.testing.assert_allclose(layer.weights, [0.5, 0.5])
    drawn = np.asarray(modes.sample(jax.random.key(0), 1000))
    centres = np.cumsum(areas) - 1
    assert_within_errors(drawn[:, 0, centres].mean(0)[[0, 1, 2, 4]], np.sqrt(chances * (1 - chances) / 1000)[[0, 1, 2, 4]], chances[[0, 1, 2, 4]])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: IndependentPixels([[1.2]]), "`probabilities`: got values from 1.2"),
        (lambda: IndependentPixels([0.2]), "`probabilities`: got shape"),
        (lambda: ProbitMasks([[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]], 0.0), "`noise`: got smallest 0"),
        (lambda: ProbitMasks([[0.0]], [[1.0, 2.0, 0.0]]), "`factor`: got shape"),
        (lambda: LowRankLogits([[0.0]], [[[1.0]]], [[-1.0]]), "`diagonal`: got smallest -1"),
        (lambda: MixtureOfMasks([]), "`members`: got"),
        (lambda: MixtureOfMasks([IndependentPixels([[0.1]]), IndependentPixels([[0.1, 0.2]])]), "`members`: got"),
        (lambda: product_ged_squared(IndependentPixels([[0.1]]), IndependentPixels([[0.1, 0.2]])), "`q`: got"),
        (lambda: total_correlation(IndependentPixels(np.full((4, 4), 0.5))), "`law`: got 16 pixels"),
        (lambda: ProductModes([[[1, 1]], [[0, 1]]], [0.1, 0.2]), "`regions`: got 0 empty regions, 1 pixels in two"),
        (lambda: ProductModes([[[1, 1]]], [1.1]), "`probabilities`: got"),
        (lambda: ProductModes([[[1, 1]]], [0.1]).layer(1), "`c`: got 1; expected a whole number from 0 to 0"),
        (lambda: ProductModes([[[1, 1]]], [0.1]).layer(-1), "`c`: got -1"),
        (lambda: ProductModes.of_classes([1, 2], [1], [0.1]), "`labels`: got"),
    ],
)
def test_refusals_name_the_argument(call, says):
    with pytest.raises(ValueError, match=says):
        call()
