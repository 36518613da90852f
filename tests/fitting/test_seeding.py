import jax
import jax.numpy as jnp
import numpy as np

from ensembletheory.fitting.seeding import settled_centres, spread_centres, within_covariance

KEYS = jax.random.split(jax.random.key(0), 2000)


def draws(values, weights, K):
    """Which row each centre is, for every key; rows are recognised by their first coordinate."""
    centres = jax.jit(jax.vmap(lambda key: spread_centres(key, jnp.asarray(values), jnp.asarray(weights), K)))(KEYS)
    return np.argmin(np.abs(np.asarray(centres)[:, :, :1] - values[None, None, :, 0]), axis=2)


def test_centres_follow_the_rule_of_k_means_plus_plus():
    values, weights = np.array([[0.0], [1.0], [3.0], [10.0]]), np.array([2.0, 1.0, 1.0, 0.0])
    rows = draws(values, weights, 2)
    expected = np.zeros((4, 4))
    for first in range(4):
        chance = weights * (values[:, 0] - values[first, 0]) ** 2
        expected[first] = weights[first] / weights.sum() * chance / chance.sum()
    observed = np.zeros((4, 4))
    np.add.at(observed, (rows[:, 0], rows[:, 1]), 1 / len(KEYS))
    # Binomial frequencies, 16 of them, at 5 standard errors; a pair of probability 0 never occurs.
    assert np.all(np.abs(observed - expected) <= 5 * np.sqrt(expected * (1 - expected) / len(KEYS)))


def test_settled_centres_are_the_means_of_their_rows():
    rng = np.random.default_rng(1)
    values = np.concatenate([rng.normal(size=(10, 2)), 30 + rng.normal(size=(14, 2))])
    weights = rng.random(24)
    centres = np.asarray(settled_centres(jnp.asarray(values), jnp.asarray(weights), jnp.asarray([[5.0, 5.0], [40.0, 20.0], [500.0, 0.0]])))
    np.testing.assert_allclose(centres[0], np.average(values[:10], axis=0, weights=weights[:10]), rtol=1e-12)
    np.testing.assert_allclose(centres[1], np.average(values[10:], axis=0, weights=weights[10:]), rtol=1e-12)
    np.testing.assert_array_equal(centres[2], [500.0, 0.0])


def test_within_covariance_is_about_the_nearest_centre():
    values, weights, centres = np.array([[0.0, 1.0], [2.0, 0.0], [9.0, 9.0]]), np.array([1.0, 2.0, 3.0]), np.array([[0.0, 0.0], [10.0, 10.0]])
    gaps = np.array([[0.0, 1.0], [2.0, 0.0], [-1.0, -1.0]])
    expected = sum(w * np.outer(g, g) for w, g in zip(weights, gaps, strict=True)) / 6
    np.testing.assert_allclose(within_covariance(jnp.asarray(values), jnp.asarray(weights), jnp.asarray(centres)), expected, rtol=1e-14)
