"""Forest rules: green as they stand, red when a number moves, losses against NumPy's own softmax and the trees one by one, coverage and intervals by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory.estimators.forests import fit_forest
from ensembletheory.fields import FieldStack
from paper_figures import forest_rules
from paper_figures.forest_rules import FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

X = np.random.default_rng(0).normal(size=(24, 3))


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_numbers_that_move_turn_the_caption_red(drawn):
    data = drawn(FIGURE).data
    swapped = data["iris rules"].copy()
    swapped[..., [0, 3]] = swapped[..., [3, 0]]
    for change, name in (
        ({"iris exact A": 1.02 * data["iris exact A"]}, "largest deviation from A + B / M"),
        ({"iris exact apart": data["iris exact apart"] + 1e-8}, "largest relative distance of the loss of an averaged field from that of products"),
        ({"draws": 1.02 * data["draws"]}, "coverage of exchangeable draws"),
        ({"iris rules": swapped}, "cases in which the mean of draws has more error than draws"),
        ({"iris sampled leaves": 0.0 * data["iris sampled leaves"]}, "sets in which sampled leaves lose less"),
    ):
        off = [number.name for number in FIGURE.caption(data | change).numbers if not number.holds]
        assert name in off


def test_losses_are_those_of_the_trees_one_by_one():
    """The noise prediction of the rows by a softmax of squared distances."""
    t, points = 0.6, np.random.default_rng(1).normal(size=(40, 3))
    a = np.exp(-0.5 * (0.1 * t + 7.9 * t**2 / 2))
    s = np.sqrt(1 - a**2)
    gaps = points[:, None] - a * X
    weights = np.exp(-np.sum(gaps**2, axis=2) / (2 * s**2))
    exact = np.einsum("pn,pnd->pd", weights / weights.sum(axis=1, keepdims=True), gaps) / s
    members = fit_forest(jax.random.key(0), X, forest_rules.PROCESS, np.array([0.2, 0.6, 1.0]), trees=4, duplicates=4)
    batch = jax.jit(lambda field: field.batch(jnp.asarray(t), jnp.asarray(points)))
    errors = np.stack([batch(field) - exact for field in FieldStack(members)])
    found = forest_rules._products(forest_rules.PROCESS.noise(forest_rules.FiniteLaw(X)), members, jnp.asarray(t), jnp.asarray(points))
    np.testing.assert_allclose(found, np.einsum("knd,lnd->kl", errors, errors) / 40, rtol=1e-9)


def test_metrics_count_missing_cells_only():
    truth, observed = np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([[True, False], [False, True]])
    copies = np.stack([np.where(observed, truth, value) for value in (0.5, 1.5, 1.7)])
    error, _, coverage, single = forest_rules._metrics(truth, copies, observed)
    middle = (0.5 + 1.5 + 1.7) / 3
    np.testing.assert_allclose(error, np.sqrt(((middle - 1) ** 2 + (middle - 2) ** 2) / 2))
    assert coverage == 0.5
    np.testing.assert_allclose(single, np.mean([np.sqrt(((v - 1) ** 2 + (v - 2) ** 2) / 2) for v in (0.5, 1.5, 1.7)]))


def test_own_values_are_values_of_the_column():
    holed = np.where(np.random.default_rng(2).random(X.shape) < 0.4, np.nan, X)
    copies = forest_rules._own_values(np.random.default_rng(3), holed, 5)
    for j in range(3):
        assert set(copies[:, :, j].ravel()) <= set(holed[~np.isnan(holed[:, j]), j])
