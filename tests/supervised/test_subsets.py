from itertools import combinations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ensembletheory.supervised import linear_pool_of_classes, log_pool_of_classes, subset_losses, votes_for_classes

M, N, C = 4, 3, 3
LABELS = np.array([0, 2, 1])
RNG = np.random.default_rng(5)
LOGITS = RNG.normal(size=(M, N, C)) * 2
LOG_PROBS = LOGITS - np.log(np.exp(LOGITS).sum(axis=-1, keepdims=True))
WEIGHTS = np.array([0.1, 0.4, 0.2, 0.3])


def cross_entropy(average):
    return -jnp.log(average[jnp.arange(N), LABELS])


def wrong(average):
    return (jnp.argmax(average, axis=-1) != LABELS).astype(float)


def by_hand(loss, predictions):
    """Every subset by itself."""
    return [np.mean([loss(predictions[list(S)].mean(axis=0)) for S in combinations(range(len(predictions)), K)], axis=0) for K in range(1, len(predictions) + 1)]


def test_losses_of_subsets_are_those_of_every_subset_by_itself():
    probs = np.exp(LOG_PROBS)
    got = subset_losses(cross_entropy, probs)
    np.testing.assert_allclose(got, by_hand(lambda average: -np.log(average[np.arange(N), LABELS]), probs), rtol=1e-13)
    assert np.all(np.diff(np.asarray(got), axis=0) < 0)  # strictly convex, and the members differ
    np.testing.assert_allclose(subset_losses(wrong, probs), by_hand(lambda average: np.argmax(average, axis=-1) != LABELS, probs), rtol=1e-13)


def test_the_error_of_votes_is_hypergeometric_and_rises_where_they_are_wrong():
    """An odd number of voters is never split; 2 of 5 are right."""
    votes = np.array([[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 3)
    error = subset_losses(lambda share: (share[0] < 0.5).astype(float), votes)[::2]
    np.testing.assert_allclose(error, [stats.hypergeom(5, 2, K).cdf(K // 2) for K in (1, 3, 5)], rtol=1e-12)
    assert np.all(np.diff(np.asarray(error)) > 0)  # the error of a vote that is wrong more often than not rises


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_pools_of_classes(weights):
    w = np.full(M, 1 / M) if weights is None else weights
    probs = np.exp(LOG_PROBS)
    linear, geometric = np.tensordot(w, probs, 1), np.prod(probs ** w[:, None, None], axis=0)
    Z = geometric.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(linear_pool_of_classes(LOG_PROBS, weights), np.log(linear), rtol=1e-12)
    np.testing.assert_allclose(log_pool_of_classes(LOG_PROBS, weights), np.log(geometric / Z), rtol=1e-12)
    gains = np.asarray(log_pool_of_classes(LOG_PROBS, weights)) - np.tensordot(w, LOG_PROBS, 1)
    np.testing.assert_allclose(gains, np.broadcast_to(-np.log(Z), gains.shape), rtol=1e-12)  # whatever the label
    counted = np.array([[sum(wk for wk, p in zip(w, LOG_PROBS[:, n], strict=True) if p.argmax() == c) for c in range(C)] for n in range(N)])
    np.testing.assert_allclose(votes_for_classes(LOG_PROBS, weights), counted, atol=1e-15)


def test_a_member_of_weight_zero_and_a_pool_of_one():
    np.testing.assert_allclose(linear_pool_of_classes(LOG_PROBS, [0.0, 1.0, 0.0, 0.0]), LOG_PROBS[1], atol=1e-14)
    for pool in (linear_pool_of_classes, log_pool_of_classes):
        np.testing.assert_allclose(pool(LOG_PROBS[:1]), LOG_PROBS[0], atol=1e-14)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"`predictions`: got shape \(17, 2\); expected \(M, \.\.\.\) with M from 1 to 16"):
        subset_losses(jnp.sum, np.zeros((17, 2)))
    with pytest.raises(ValueError, match="`predictions`: got shape"):
        subset_losses(jnp.sum, 1.0)
    with pytest.raises(ValueError, match="`log_probs`: got 1 NaN or infinite of 2 numbers"):
        linear_pool_of_classes([[0.0, -np.inf]])
    with pytest.raises(ValueError, match=r"`log_probs`: got shape \(2,\)"):
        log_pool_of_classes([0.0, 1.0])
    with pytest.raises(ValueError, match="`weights`"):
        votes_for_classes(LOG_PROBS, [1.0])
