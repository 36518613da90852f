"""Networks of masks against NumPy: convolutions and their slopes, the bound by hand, and laws by their draws. Tiny networks; training is that of the figure."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.signal import correlate2d
from scipy.special import expit, log_expit, ndtr
from scipy.stats import norm

from ensembletheory.laws import FiniteLaw
from ensembletheory.neural import (
    FlowMasks,
    FlowSegmenterLearner,
    LatentMasks,
    PixelHead,
    PixelSegmenterLearner,
    ProbabilisticUNetLearner,
    StochasticSegmenterLearner,
    ThresholdedLogits,
    joined_rows,
)
from ensembletheory.neural.segmentation.unet import convolved, patches, pixels
from ensembletheory.processes import TrigonometricInterpolant
from tests.helpers import assert_mean

SHAPE = (4, 4)
RNG = np.random.default_rng(3)
IMAGES, MASKS = RNG.normal(size=(3, *SHAPE)), RNG.random((3, 2, *SHAPE)) < 0.4
LAW = joined_rows(IMAGES, MASKS, [0.25, 0.75])


def test_a_convolution_and_its_slopes_are_those_of_sums():
    x, kernel, slope = RNG.normal(size=(5, 4, 2)), RNG.normal(size=(3, 3, 2, 3)), RNG.normal(size=(5, 4, 3))
    value, back = jax.jit(lambda x, k, g: (lambda pair: (pair[0], pair[1](g)))(jax.vjp(convolved, x, k)))(x, kernel, slope)
    by_hand = np.stack([sum(correlate2d(x[:, :, c], kernel[:, :, c, d], mode="same") for c in range(2)) for d in range(3)], axis=-1)
    np.testing.assert_allclose(value, by_hand, rtol=1e-12, atol=1e-12)
    padded = np.pad(x, [(1, 1), (1, 1), (0, 0)])
    in_kernel = [[np.einsum("abc,abd->cd", padded[i : i + 5, j : j + 4], slope) for j in range(3)] for i in range(3)]
    np.testing.assert_allclose(back[1], in_kernel, rtol=1e-12, atol=1e-12)
    spread = np.zeros((7, 6, 2))
    for i in range(3):
        for j in range(3):
            spread[i : i + 5, j : j + 4] += slope @ kernel[i, j].T
    np.testing.assert_allclose(back[0], spread[1:-1, 1:-1], rtol=1e-12, atol=1e-12)


def test_pixels_undo_patches():
    x = np.arange(4 * 6 * 3.0).reshape(4, 6, 3)
    cut, again = jax.jit(lambda x: (patches(x, 2), pixels(patches(x, 2), 2)))(x)
    np.testing.assert_array_equal(again, x)
    np.testing.assert_array_equal(cut[1, 2], x[2:4, 4:6].ravel())


def test_rows_are_pairs_of_an_image_and_a_mask_with_its_graders_weight():
    rows = np.asarray(LAW.points).reshape(3, 2, 2, *SHAPE)
    np.testing.assert_array_equal(rows[:, :, 0], np.repeat(IMAGES[:, None], 2, axis=1))
    np.testing.assert_array_equal(rows[:, :, 1], MASKS)
    np.testing.assert_allclose(np.asarray(LAW.weights).reshape(3, 2), [[1 / 12, 1 / 4]] * 3)


@eqx.filter_jit
def built(learner, key):
    return learner.initialise(key, LAW)


def test_the_objective_of_independent_pixels_is_minus_the_log_probability_of_the_mask():
    model = built(PixelSegmenterLearner(SHAPE, (2, 3), 1), jax.random.key(0))
    p, value = eqx.filter_jit(lambda m, x, y: (m.law(x).probabilities, m.objective(jax.random.key(0), x, y)))(model, jnp.asarray(IMAGES[0]), jnp.asarray(MASKS[0, 0]))
    np.testing.assert_allclose(value, -np.sum(np.log(np.where(MASKS[0, 0], p, 1 - np.asarray(p)))), rtol=1e-5)
    assert model.unet.down[0].kernels[0].dtype == jnp.float64  # as the optimiser's numbers
    assert np.std(p) > 0


def test_the_bound_is_fit_and_divergence():
    model = built(ProbabilisticUNetLearner(SHAPE, (2, 3), 1, latent=2, beta=0.7), jax.random.key(1))

    def parts(model, key, x, y):
        law, seen = model.law(x), model.exposure.of(x)
        given = model.posterior(jnp.concatenate([seen, 2 * y[..., None].astype(seen.dtype) - 1], axis=-1))
        e = jax.random.normal(key, (2,), given.dtype)
        return model.objective(key, x, y), law.mean, law.scale, given, law.logits(given[:2] + jnp.exp(given[2:]) * e)

    value, m, s, given, logits = eqx.filter_jit(parts)(model, jax.random.key(4), jnp.asarray(IMAGES[1]), jnp.asarray(MASKS[1, 1]))
    m, s, (mean, log_scale), logits = *(np.asarray(a, float) for a in (m, s)), np.split(np.asarray(given, float), 2), np.asarray(logits, float)
    v, w = np.exp(2 * log_scale), s**2
    divergence = 0.5 * np.sum(v / w + (mean - m) ** 2 / w - 1 - np.log(v / w))
    np.testing.assert_allclose(value, -np.sum(log_expit(np.where(MASKS[1, 1], logits, -logits))) + 0.7 * divergence, rtol=1e-4)


def test_bounds_are_those_of_quadrature_and_below_the_likelihood():
    """With one latent: q(y | x) by a rule on its line, and L_1 and L_2 by rules on one and two draws of the posterior."""
    model = built(ProbabilisticUNetLearner(SHAPE, (2, 3), 1, latent=1, beta=0.7), jax.random.key(1))

    def parts(model, x, y, e):
        law, seen = model.law(x), model.exposure.of(x)
        mean, log_scale = model.posterior(jnp.concatenate([seen, 2 * y[..., None].astype(seen.dtype) - 1], axis=-1))
        places = law.mean + law.scale * e, mean + jnp.exp(log_scale) * e
        return law.mean, law.scale, mean, log_scale, *[jax.vmap(law.logits)(z[:, None]) for z in places]

    e = np.linspace(-7, 7, 281, dtype=np.float32)
    x, y = jnp.asarray(IMAGES[1]), jnp.asarray(MASKS[1, 1])
    m, s, mean, log_scale, prior, posterior = (np.asarray(a, float) for a in eqx.filter_jit(parts)(model, x, y, jnp.asarray(e)))
    normal = norm.pdf(e) / norm.pdf(e).sum()
    fit = [log_expit(np.where(MASKS[1, 1], logits, -logits)).sum(axis=(1, 2)) for logits in (prior, posterior)]
    z = mean + np.exp(log_scale) * e
    weights = fit[1] + norm.logpdf(z, m, s) - norm.logpdf(z, mean, np.exp(log_scale))
    exact = normal @ weights, normal @ (np.logaddexp(weights[:, None], weights) - np.log(2)) @ normal, np.log(normal @ np.exp(fit[0]))
    assert exact[0] < exact[1] < exact[2]
    found = [model.bounds(jax.random.key(5), IMAGES[1:2], MASKS[1:2, 1], K, samples=4000) for K in (1, 2)]
    for bound, value in zip(found, exact[:2], strict=True):
        assert abs(bound.value[0] - value) < 5 * bound.error[0]
        assert bound.error[0] < (exact[2] - exact[0]) / 10


def test_the_bound_of_gaussian_logits_is_the_log_mean_of_likelihoods():
    """With hardly any spread of the logits every draw gives the likelihood of independent pixels."""
    model = built(StochasticSegmenterLearner(SHAPE, (2, 3), 1, rank=1, samples=3), jax.random.key(2))
    flat = np.asarray(model.head.network.layers[0]).copy()
    flat[1:] = 0
    flat[1, -1] = -60.0
    model = eqx.tree_at(lambda m: m.head.network.layers, model, (jnp.asarray(flat),))
    mean, value = eqx.filter_jit(lambda m, x, y: (m.maps(x)[0], m.objective(jax.random.key(0), x, y)))(model, jnp.asarray(IMAGES[0]), jnp.asarray(MASKS[0, 0]))
    mean = np.asarray(mean, float)
    np.testing.assert_allclose(value, -np.sum(np.log(expit(np.where(MASKS[0, 0], mean, -mean)))), atol=5 * 4 * np.exp(-5.0))  # sixteen logits with the least deviation


def test_thresholded_logits_are_a_gaussian_orthant():
    mean, factor, diagonal = RNG.normal(size=(1, 3)), RNG.normal(size=(1, 3, 2)), RNG.uniform(0.2, 2, size=(1, 3))
    law = ThresholdedLogits(mean, factor, diagonal)
    p = ndtr(mean / np.sqrt((factor**2).sum(-1) + diagonal))
    np.testing.assert_allclose(law.pixel_probabilities(), p, rtol=1e-12)
    assert_mean(np.asarray(law.sample(jax.random.key(0), 4000), float), p)


def test_latent_masks_by_hand():
    """One pixel a place, a head without hidden layers: logit f + 2 z_1 - z_2 is normal."""
    head = eqx.tree_at(lambda h: h.network.layers, PixelHead(jax.random.key(0), 3, 1, 1), (jnp.asarray([[1.0, 2.0, -1.0, 0.5]]),))
    features, m, s = np.array([[[0.3], [-1.0]]], np.float32), np.array([0.1, -0.4], np.float32), np.array([0.5, 1.5], np.float32)
    law = LatentMasks(jnp.asarray(features), jnp.asarray(m), jnp.asarray(s), head)
    p = ndtr((features[..., 0] + 2 * m[0] - m[1] + 0.5) / np.sqrt(4 * s[0] ** 2 + s[1] ** 2))
    assert law.shape == (1, 2)
    np.testing.assert_allclose(law.pixel_probabilities(), p, atol=0.01)
    assert_mean(np.asarray(law.sample(jax.random.key(1), 4000), float), p)


def test_a_flow_with_the_exact_denoiser_draws_the_law_of_the_masks():
    masks, weights = np.array([[0, 0, 1], [1, 1, 0], [1, 1, 1]]), [0.2, 0.5, 0.3]
    process = TrigonometricInterpolant()
    law = FlowMasks(process, process.denoiser(FiniteLaw(2.0 * masks - 1, weights)), 1 - np.linspace(0, 1, 101) ** 2, (1, 3))
    drawn = np.asarray(law.sample(jax.random.key(2), 4000))[:, 0]
    found = np.stack([np.all(drawn == mask, axis=1) for mask in masks], axis=1)
    assert np.all(found.any(axis=1))
    assert_mean(found.astype(float), np.array(weights))
    with pytest.raises(TypeError, match="FlowMasks: got a request for its pixel probabilities"):
        law.pixel_probabilities()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: built(ProbabilisticUNetLearner(SHAPE, (2, 3), 1, latent=1, beta=0.7), jax.random.key(1)).bounds(jax.random.key(0), IMAGES, MASKS), "a mask for each image"),
        (lambda: joined_rows(IMAGES, MASKS[:2]), "`images`: got 3 for masks of 2"),
        (lambda: joined_rows(np.zeros((3, *SHAPE)), MASKS), "`images`: got equal pixels only"),
        (lambda: joined_rows(IMAGES, MASKS[:, 0]), r"`masks`: got shape \(3, 4, 4\)"),
        (lambda: PixelSegmenterLearner((6, 4), (2, 2, 2), 1), "`shape`: got .* expected multiples of 4"),
        (lambda: PixelSegmenterLearner(SHAPE, (2, 2), 1).loss(FiniteLaw(np.eye(3))), "`data`: got a FiniteLaw of dimension 3"),
        (lambda: PixelSegmenterLearner(SHAPE, (2, 2), 1).loss(FiniteLaw(np.eye(32) * 3)), "`data`: got masks of other values"),
        (lambda: ProbabilisticUNetLearner(SHAPE, (2, 2), 1, latent=0), "`latent`"),
        (lambda: StochasticSegmenterLearner(SHAPE, (2, 2), 1, rank=0), "`rank`"),
        (lambda: FlowSegmenterLearner(SHAPE, (2, 2), 1, steps=0), "`steps`"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
