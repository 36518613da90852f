"""Dropout as an action on weights: against NumPy, the enumeration of all masks, and the loss of the thinned model."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory.laws import standard_normal
from ensembletheory.neural import DropoutLearner, Recipe, ScoreLearner, ThinnedLoss, dropout_members, fit_ensemble, member, member_errors, thinned
from ensembletheory.processes import VariancePreserving
from tests.helpers import Z
from tests.neural.networks import drawn, values

KEY = jax.random.key(0)
X = np.random.default_rng(2).normal(size=(6, 3))
RATE = 0.25
TWO_LAYERS = drawn(np.random.default_rng(0), 3, 2, 4, 2, jnp.tanh)


def masks(network, thin):
    """Which units were kept, read off the weights; what was kept is enlarged by 1 / (1 - rate)."""
    found = []
    for before, after in zip(network.layers[1:], thin.layers[1:], strict=True):
        ratio = np.asarray(after) / np.asarray(before)
        assert np.all(np.isclose(ratio, 0) | np.isclose(ratio[0], ratio))  # whole columns
        assert np.all(ratio[:, -1] == 1)
        assert np.all(np.isclose(ratio, 0) | np.isclose(ratio, 1 / (1 - RATE)) | np.isclose(ratio, 1))
        found.append(ratio[0, :-1] > 0)
    np.testing.assert_array_equal(thin.layers[0], network.layers[0])
    return np.array(found)


def test_members_are_the_network_with_units_left_out_as_often_as_said():
    many = dropout_members(KEY, TWO_LAYERS, RATE, 400)
    kept = np.array([masks(TWO_LAYERS, jax.tree.map(lambda leaf: np.asarray(leaf)[k], many)) for k in range(400)])  # noqa: B023
    error = (RATE * (1 - RATE) / 400) ** 0.5
    assert np.all(np.abs(kept.mean(axis=0) - (1 - RATE)) <= 5 * error)
    pairs = kept.reshape(400, -1).astype(float)
    assert np.max(np.abs(np.corrcoef(pairs.T) - np.eye(8))) < 5 / 400**0.5  # units, and layers, independently
    first = member(many, 0)
    by_hand = eqx.tree_at(lambda n: n.layers, TWO_LAYERS, tuple(np.asarray(layer) for layer in first.layers))
    np.testing.assert_allclose(jax.jit(jax.vmap(first))(X), values(by_hand, X), rtol=1e-12)


def test_with_one_hidden_layer_the_mean_over_all_masks_is_the_network():
    """By enumeration of the 2^4 masks with their probabilities; with two hidden layers it is not."""
    for depth, equal in ((1, True), (2, False)):
        network = drawn(np.random.default_rng(1), 3, 2, 4, depth, jnp.tanh)
        mean = np.zeros((6, 2))
        for kept in itertools.product((0.0, 1.0), repeat=4 * depth):
            scales = np.reshape(kept, (depth, 4)) / (1 - RATE)
            layers = [network.layers[0], *(np.append(scale, 1.0)[None] * layer for scale, layer in zip(scales, network.layers[1:], strict=True))]
            mean += np.prod(np.where(kept, 1 - RATE, RATE)) * values(eqx.tree_at(lambda n: n.layers, network, tuple(layers)), X)
        assert np.allclose(mean, values(network, X), rtol=1e-12) == equal


def test_training_with_dropout_is_training_by_the_loss_of_thinned_networks():
    """Thinning goes through any model that holds perceptrons; members of the trained network differ, and their average errs less than they do on average."""
    process, law = VariancePreserving(), standard_normal(1)
    learner = DropoutLearner(ScoreLearner(process, width=8, depth=2, batch=32), RATE)
    trained = fit_ensemble(KEY, learner, law, 2, Recipe(steps=20, chunk=20))
    loss, inner, model = learner.loss(law), learner.learner.loss(law), member(trained.model, 0)
    assert isinstance(loss, ThinnedLoss)
    key_masks, key_loss = jax.random.split(KEY)
    both = jax.jit(lambda arrays: (loss(eqx.combine(arrays, rest), KEY), inner(thinned(key_masks, eqx.combine(arrays, rest), RATE), key_loss)))
    arrays, rest = eqx.partition(model, eqx.is_array)
    first, second = both(arrays)
    np.testing.assert_allclose(first, second, rtol=1e-12)
    assert first != jax.jit(lambda arrays: inner(eqx.combine(arrays, rest), key_loss))(arrays)
    errors = np.asarray(member_errors(KEY, dropout_members(KEY, model, RATE, 8), inner, 2000))
    assert np.all(np.std(errors, axis=1) > 0)
    saved = np.mean(np.sum(errors**2, axis=2), axis=1) - np.sum(errors.mean(axis=1) ** 2, axis=1)
    assert saved.mean() > Z * saved.std() / 2000**0.5


def test_a_rate_of_zero_changes_nothing():
    for before, after in zip(TWO_LAYERS.layers, thinned(KEY, TWO_LAYERS, 0.0).layers, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match=r"`rate`: got .*; expected a share in \[0, 1\)"):
        thinned(KEY, TWO_LAYERS, rate)


def test_nothing_to_leave_out_and_no_members_are_refused():
    with pytest.raises(ValueError, match="`model`: got Perceptron; expected a model with a Perceptron that has hidden units"):
        thinned(KEY, drawn(np.random.default_rng(0), 3, 2, 4, 0, jnp.tanh), RATE)
    stacked = eqx.tree_at(lambda n: n.layers, TWO_LAYERS, tuple(np.stack([layer, layer]) for layer in TWO_LAYERS.layers))
    with pytest.raises(ValueError, match=r"`model`: got a stack of Perceptron; expected one model. Pass member\(model, k\)"):
        thinned(KEY, stacked, RATE)
    with pytest.raises(ValueError, match="`members`: got 0; expected at least 1"):
        dropout_members(KEY, TWO_LAYERS, RATE, 0)
