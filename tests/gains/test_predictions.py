"""Decompositions of prediction errors, each side again in NumPy: by sums over all outcomes, trials and members."""

from itertools import combinations, product

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from ensembletheory import gains
from ensembletheory.gains import bregman

WEIGHTS = np.array([0.2, 0.5, 0.3])


def cross_entropy(y, q):
    return np.sum(special.rel_entr(y, q), axis=-1)


def binary(y, q):
    return np.sum(special.rel_entr(y, q) + special.rel_entr(1 - y, 1 - q), axis=-1)


# generator, divergence, centroid of q (K, c) with weights, draws inside its domain
GENERATORS = {
    "squared": (bregman.squared, lambda y, q: np.sum((y - q) ** 2, -1), lambda w, q: w @ q, lambda rng, shape: rng.normal(size=shape)),
    "simplex": (bregman.simplex, cross_entropy, lambda w, q: (g := np.exp(w @ np.log(q))) / g.sum(), lambda rng, shape: rng.dirichlet(np.ones(shape[-1]), shape[:-1])),
    "poisson": (
        bregman.poisson,
        lambda y, q: np.sum(special.rel_entr(y, q) - y + q, -1),
        lambda w, q: stats.gmean(q, axis=0, weights=w[:, None] * np.ones_like(q)),
        lambda rng, shape: rng.uniform(0.1, 4, shape),
    ),
    "bernoulli": (bregman.bernoulli, binary, lambda w, q: special.expit(w @ special.logit(q)), lambda rng, shape: rng.uniform(0.05, 0.95, shape)),
    "itakura": (
        bregman.itakura,
        lambda y, q: np.sum(y / q - np.log(y / q) - 1, -1),
        lambda w, q: stats.hmean(q, axis=0, weights=w[:, None] * np.ones_like(q)),
        lambda rng, shape: rng.uniform(0.1, 4, shape),
    ),
}


@given(st.integers(0, 2**32 - 1))
def test_krogh_vedelsby_sums_whatever_the_target(seed):
    rng = np.random.default_rng(seed)
    q, w = rng.normal(size=(3, 2)), rng.dirichlet(np.ones(3))
    ambiguity = w @ np.sum((q - w @ q) ** 2, axis=1)
    for y in rng.normal(size=(2, 2)) * 3:
        terms = gains.krogh_vedelsby(y, q, w)
        assert float(terms.average) == pytest.approx(w @ np.sum((y - q) ** 2, axis=1), rel=1e-12)
        assert float(terms.diversity) == pytest.approx(ambiguity, rel=1e-12)
        assert float(terms.ensemble) == pytest.approx(np.sum((y - w @ q) ** 2), rel=1e-12)
        assert abs(float(terms.residual)) < 1e-12


def test_jensen_gap_of_a_convex_loss():
    q = np.array([[0.3, -1.0], [2.0, 0.5], [-1.0, 0.2]])

    def loss(x):
        return jnp.logaddexp(x[0], x[1]) + x[0] ** 2

    values = np.logaddexp(q[:, 0], q[:, 1]) + q[:, 0] ** 2
    centre = WEIGHTS @ q
    terms = gains.jensen_gap(loss, q, WEIGHTS)
    assert float(terms.average) == pytest.approx(WEIGHTS @ values, rel=1e-14)
    assert float(terms.ensemble) == pytest.approx(np.logaddexp(*centre) + centre[0] ** 2, rel=1e-14)
    assert float(terms.diversity) > 0.5
    assert abs(float(terms.residual)) < 1e-14
    assert float(gains.jensen_gap(lambda x: jnp.sum(x), q, WEIGHTS).diversity) == pytest.approx(0, abs=1e-15)
    assert float(gains.jensen_gap(lambda x: -loss(x), q, WEIGHTS).diversity) < -0.5
    assert float(gains.jensen_gap(lambda x: -loss(x), q).diversity) != float(gains.jensen_gap(lambda x: -loss(x), q, WEIGHTS).diversity)


@pytest.mark.parametrize("name", GENERATORS)
def test_bregman_terms_and_centroid_are_those_of_textbooks(name):
    generator, divergence, centroid, draw = GENERATORS[name]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        q, y = draw(rng, (3, 2)), draw(rng, (2,))
        combined = centroid(WEIGHTS, q)
        np.testing.assert_allclose(generator.centroid(jnp.asarray(WEIGHTS), jnp.asarray(q)), combined, rtol=1e-13)
        terms = gains.bregman_ambiguity(generator, y, q, WEIGHTS)
        assert float(terms.average) == pytest.approx(WEIGHTS @ divergence(y, q), rel=1e-11)
        assert float(terms.diversity) == pytest.approx(WEIGHTS @ divergence(combined, q), rel=1e-11)
        assert float(terms.ensemble) == pytest.approx(divergence(y, combined), rel=1e-10, abs=1e-14)
        assert abs(float(terms.residual)) < 1e-12


@pytest.mark.parametrize("name", GENERATORS)
def test_bias_variance_diversity_by_sums_over_everything(name):
    generator, divergence, centroid, draw = GENERATORS[name]
    rng = np.random.default_rng(1)
    outcomes, predictions = draw(rng, (4, 2)), draw(rng, (5, 3, 2))
    chances, trials = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(5))
    mean = chances @ outcomes
    combined = np.stack([centroid(WEIGHTS, q) for q in predictions])
    centres = np.stack([centroid(trials, predictions[:, k]) for k in range(3)])
    expected = {
        "noise": chances @ divergence(outcomes, mean),
        "bias": WEIGHTS @ divergence(mean, centres),
        "variance": sum(t * w * divergence(centres[k], predictions[i, k]) for i, t in enumerate(trials) for k, w in enumerate(WEIGHTS)),
        "diversity": sum(t * w * divergence(combined[i], predictions[i, k]) for i, t in enumerate(trials) for k, w in enumerate(WEIGHTS)),
        "ensemble": sum(t * c * divergence(outcomes[m], combined[i]) for i, t in enumerate(trials) for m, c in enumerate(chances)),
    }
    terms = gains.bias_variance_diversity(generator, outcomes, predictions, WEIGHTS, chances, trials)
    for term, value in expected.items():
        assert float(getattr(terms, term)) == pytest.approx(value, rel=1e-10), term
    assert abs(float(terms.residual)) < 1e-12
    assert "diversity" in str(terms)


def test_labels_are_targets_of_the_cross_entropy():
    q = np.array([[0.5, 0.2, 0.3], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]])
    terms = gains.bregman_ambiguity(bregman.simplex, [0.0, 1.0, 0.0], q, WEIGHTS)
    geometric = np.exp(WEIGHTS @ np.log(q))
    assert float(terms.average) == pytest.approx(-WEIGHTS @ np.log(q[:, 1]), rel=1e-13)
    assert float(terms.ensemble) == pytest.approx(-np.log(geometric[1] / geometric.sum()), rel=1e-13)
    assert float(terms.diversity) == pytest.approx(-np.log(geometric.sum()), rel=1e-12)  # -log Z


def test_squared_errors_of_random_members_fall_as_a_plus_b_over_k():
    """All subsets and all words, by enumeration."""
    rng = np.random.default_rng(0)
    q, y = rng.normal(size=(4, 2)), rng.normal(size=2)
    whole = gains.krogh_vedelsby(y, q)
    subsets, words = gains.size_law(whole, members=4), gains.size_law(whole)
    for K in (1, 2, 3, 4):
        by_subset = np.mean([np.sum((y - q[list(chosen)].mean(axis=0)) ** 2) for chosen in combinations(range(4), K)])
        assert float(subsets(K)) == pytest.approx(by_subset, rel=1e-12)
        by_word = np.mean([np.sum((y - q[list(chosen)].mean(axis=0)) ** 2) for chosen in product(range(4), repeat=K)])
        assert float(words(K)) == pytest.approx(by_word, rel=1e-12)
    w = WEIGHTS
    weighted = gains.size_law(gains.krogh_vedelsby(y, q[:3], w))
    pairs = sum(w[i] * w[j] * np.sum((y - (q[i] + q[j]) / 2) ** 2) for i in range(3) for j in range(3))
    assert float(weighted(2)) == pytest.approx(pairs, rel=1e-12)


def test_bad_predictions_are_refused_with_a_reason():
    for call, message in [
        (lambda: gains.krogh_vedelsby([1.0], [1.0, 2.0]), r"`predictions`.*\(K, c\)"),
        (lambda: gains.krogh_vedelsby([1.0, 2.0], [[1.0]]), r"`target`.*\(1,\)"),
        (lambda: gains.krogh_vedelsby([1.0], [[1.0], [2.0]], [0.2, 0.2]), "`weights`.*sum"),
        (lambda: gains.bias_variance_diversity(bregman.squared, [[1.0, 2.0]], np.ones((2, 2, 1))), r"`outcomes`.*\(M, 1\)"),
        (lambda: gains.size_law(gains.krogh_vedelsby([1.0], [[1.0]]), members=1), "`members`.*at least 2"),
    ]:
        with pytest.raises(ValueError, match=f"(?s){message}"):
            call()
