"""Regressors and classifiers: networks and losses by NumPy and SciPy, training held against laws whose conditionals are known, and what is true of any ensemble."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ensembletheory.gains import bregman, bregman_ambiguity, jensen_gap
from ensembletheory.laws import FiniteLaw, Gaussian
from ensembletheory.neural import (
    Classifier,
    ClassifierLearner,
    GaussianRegressorLearner,
    MeanRegressorLearner,
    Recipe,
    SquaredError,
    SupervisedLoss,
    cross_entropy,
    fit,
    fit_ensemble,
    gaussian_error,
    predictions,
    weight_cosines,
)
from ensembletheory.neural.supervised.supervised_loss import reach
from ensembletheory.neural.training import member_keys
from ensembletheory.supervised import linear_pool_of_classes, log_pool_of_classes, mixture_nll, moment_matched, subset_losses

KEY = jax.random.key(3)
JOINT = Gaussian([1.0, -2.0, 3.0], [[1.0, 0.3, 1.2], [0.3, 0.5, -0.2], [1.2, -0.2, 4.0]])  # two inputs, one target
INPUTS = np.random.default_rng(0).multivariate_normal([1.0, -2.0], [[1.0, 0.3], [0.3, 0.5]], 256)
SLOPE = np.linalg.solve([[1.0, 0.3], [0.3, 0.5]], [1.2, -0.2])
MEAN, VARIANCE = 3 + (INPUTS - [1.0, -2.0]) @ SLOPE, 4 - SLOPE @ [1.2, -0.2]

PLACES = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [1.0, 2.0]])
CHANCES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.05, 0.05, 0.9]])
SHARES = np.array([0.4, 0.3, 0.2, 0.1])  # of the places
LABELLED = FiniteLaw([[*x, c] for x in PLACES for c in range(3)], (SHARES[:, None] * CHANCES).ravel())

REGRESSOR = GaussianRegressorLearner(2, width=16, batch=64)
CLASSIFIER = ClassifierLearner(3, width=16, depth=1, batch=64)
RECIPE = Recipe(steps=300, learning_rate=2e-2, chunk=300, ema_decay=0.98)


def before(learner, law):
    """The members of an ensemble of `KEY` before training."""
    _, run = jax.random.split(KEY)
    return eqx.filter_jit(eqx.filter_vmap(lambda k: learner.initialise(member_keys(run, k)[0], law)))(jnp.arange(3))


def started(learner):
    return eqx.filter_jit(lambda key: learner.initialise(key, JOINT))(KEY)


@pytest.fixture(scope="module")
def regressors():
    return fit_ensemble(KEY, REGRESSOR, JOINT, 3, RECIPE)


@pytest.fixture(scope="module")
def classifiers():
    return fit_ensemble(KEY, CLASSIFIER, LABELLED, 3, RECIPE)


@pytest.fixture(scope="module")
def regressed(regressors):
    """Means and variances (3, 256) of the members."""
    return tuple(np.asarray(part)[:, :, 0] for part in predictions(regressors.average, INPUTS))


@pytest.fixture(scope="module")
def classified(classifiers):
    """Log-probabilities (3, 4, 3) of the members."""
    return np.asarray(predictions(classifiers.average, PLACES))


def forward(layers, z):
    """A perceptron of rectified units, at rows z."""
    *hidden, last = [np.asarray(layer) for layer in layers]
    for layer in hidden:
        z = np.maximum(z @ layer[:, :-1].T + layer[:, -1], 0)
    return z @ last[:, :-1].T + last[:, -1]


def test_regressors_are_perceptrons_in_units_of_the_law(regressors, regressed):
    for k, (mean, variance) in enumerate(zip(*regressed, strict=True)):
        outputs = forward([layer[k] for layer in regressors.average.network.layers], (INPUTS - [1.0, -2.0]) / np.sqrt([1.0, 0.5]))
        np.testing.assert_allclose(mean, 3 + 2 * outputs[:, 0], rtol=1e-11)
        np.testing.assert_allclose(variance, 4 * (np.logaddexp(0, outputs[:, 1]) + 1e-6), rtol=1e-11)


def test_classifiers_are_softmax_perceptrons(classifiers, classified):
    mean = SHARES @ PLACES
    z = (PLACES - mean) / np.sqrt(SHARES @ (PLACES - mean) ** 2)
    for k, log_probs in enumerate(classified):
        logits = forward([layer[k] for layer in classifiers.average.network.layers], z)
        np.testing.assert_allclose(log_probs, logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), rtol=1e-9, atol=1e-12)


def regression_excess(mean, variance):
    """Expected negative log-likelihood above that of the law's own conditional: KL(N(MEAN, VARIANCE) || N(mean, variance)), averaged over inputs."""
    return np.mean((np.log(variance / VARIANCE) + (VARIANCE + (mean - MEAN) ** 2) / variance - 1) / 2, axis=-1)


def test_regressors_learn_the_conditional_law_from_random_starts(regressors, regressed):
    start = [np.asarray(part)[:, :, 0] for part in predictions(before(REGRESSOR, JOINT), INPUTS)]
    first, last = regression_excess(*start), regression_excess(*regressed)
    print("excess negative log-likelihood of three seeds, before and after", first, last)
    assert np.all(last >= 0)
    assert np.all(last < first / 10)
    assert np.all(last < 0.05)


def classification_excess(log_probs):
    return np.einsum("i,ic,...ic->...", SHARES, CHANCES, np.log(CHANCES) - log_probs)


def test_classifiers_learn_the_conditional_probabilities_from_random_starts(classifiers, classified):
    first, last = (classification_excess(log_probs) for log_probs in (np.asarray(predictions(before(CLASSIFIER, LABELLED), PLACES)), classified))
    print("excess cross-entropy of three seeds, before and after", first, last)
    assert np.all(last >= 0)
    assert np.all(last < first / 10)
    assert np.all(last < 0.01)


# what is true whatever was learned


def test_the_pooled_prediction_of_gaussians_is_a_mixture(regressed):
    means, variances = regressed
    y = MEAN + 1.5
    mixture, each = np.asarray(mixture_nll(y, means, variances)), -stats.norm(means, np.sqrt(variances)).logpdf(y)
    np.testing.assert_allclose(mixture, -np.log(np.mean(np.exp(-each), axis=0)), rtol=1e-11)
    assert np.all(mixture <= each.mean(axis=0))
    matched = moment_matched(means, variances)
    np.testing.assert_allclose(matched.variance, np.mean(variances + means**2, axis=0) - means.mean(axis=0) ** 2, rtol=1e-9)


def test_jensen_holds_for_every_place_and_label(classified):
    """The linear pool gains what `jensen_gap` says, which depends on the label; the log pool the same for all labels."""
    average = classified.mean(axis=0)
    linear, geometric = average - np.asarray(linear_pool_of_classes(classified)), average - np.asarray(log_pool_of_classes(classified))
    assert np.all(linear <= 0)
    assert np.all(geometric <= 0)
    assert np.all(np.ptp(geometric, axis=-1) < 1e-14)
    gap = jensen_gap(_first_label, np.exp(classified[:, 1]))
    np.testing.assert_allclose(gap.diversity.value, -linear[1, 0], atol=1e-13)
    ambiguity = bregman_ambiguity(bregman.simplex, [0.2, 0.5, 0.3], np.exp(classified[:, 1]))
    np.testing.assert_allclose(ambiguity.diversity.value, -geometric[1, 0], atol=1e-13)


def _first_label(probs):
    return -jnp.log(probs[0])


def _losses(average):
    """Of averaged probabilities and logits (2, places, labels): cross-entropies of linear and log pool, Brier score, 0/1 loss; at all places and labels."""
    probs, logits = average
    brier = jnp.sum((probs[:, None, :] - jnp.eye(3)[None]) ** 2, axis=-1)
    wrong = (jnp.argmax(probs, axis=-1)[:, None] != jnp.arange(3)[None]).astype(probs.dtype)
    return jnp.stack([-jnp.log(probs), -jax.nn.log_softmax(logits), brier, wrong])


@eqx.filter_jit
def _losses_of_any_networks(key, scale):
    """By size of the subsets of four networks with random weights."""
    networks = eqx.filter_vmap(lambda k: Classifier(k, LABELLED, 3, 8, 1))(jax.random.split(key, 4))
    logits = scale * predictions(networks, PLACES)
    return subset_losses(_losses, jnp.stack([jax.nn.softmax(logits), logits], axis=1))


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 30))
def test_convex_losses_never_rise_with_the_members_of_any_networks(seed, scale):
    convex = np.asarray(_losses_of_any_networks(jax.random.key(seed), np.asarray(scale)))[:, :3]
    assert np.all(np.diff(convex, axis=0) <= 1e-12 * (1 + convex[1:]))


def test_the_error_rises_for_some_networks():
    """The 0/1 loss is not convex: the same check would fail for it."""
    rises = [np.max(np.diff(np.asarray(_losses_of_any_networks(jax.random.key(seed), np.asarray(5.0)))[:, 3], axis=0)) for seed in range(5)]
    assert max(rises) > 0.05


# losses


@pytest.fixture(scope="module")
def at():
    """The loss of one example, compiled."""
    return eqx.filter_jit(lambda loss, model, x, y: loss.at(model, x, y))


def test_the_adversarial_squared_error_of_a_linear_predictor_is_known(at):
    """Every input moves against the residual: |r| grows by sum_j e_j |slope_j|."""
    model = started(MeanRegressorLearner(2, width=1, depth=0))
    slope = 2 * np.asarray(model.network.layers[0])[0, :2] / np.sqrt([1.0, 0.5])
    e, x, y = np.array([0.3, 0.7]), jnp.array([0.2, 1.0]), jnp.array([2.5])
    r = float(y[0] - model(x)[0])
    got = at(SupervisedLoss(JOINT, SquaredError(jnp.array([2.0])), 2, 1, jnp.asarray(e)), model, x, y)
    np.testing.assert_allclose(got, (r**2 + (abs(r) + e @ abs(slope)) ** 2) / 2 / 4, rtol=1e-12)


def test_the_plain_loss_is_the_mean_over_the_draws(at):
    """Also the adversarial one with no reach; the latter moves each input by its sign, found here by finite differences."""
    model = started(GaussianRegressorLearner(2, width=4))
    plain, still, moved = (SupervisedLoss(JOINT, gaussian_error, 2, 8, e) for e in (None, jnp.zeros(2), jnp.array([0.1, 0.2])))
    rows, predicted = np.asarray(JOINT.sample(KEY, 8)), eqx.filter_jit(eqx.filter_vmap(model))

    def error(rows):
        mean, variance = (np.asarray(part)[:, 0] for part in predicted(rows[:, :2]))
        return -stats.norm(mean, np.sqrt(variance)).logpdf(rows[:, 2])

    value = eqx.filter_jit(lambda loss: loss(model, KEY))
    np.testing.assert_allclose(value(plain), error(rows).mean(), rtol=1e-12)
    np.testing.assert_allclose(value(still), error(rows).mean(), rtol=1e-12)
    steps = [np.where(np.arange(3) == j, 1e-6, 0.0) for j in range(2)]
    signs = np.stack([np.sign(error(rows + step) - error(rows - step)) for step in steps], axis=1)
    near = rows + np.pad(signs * [0.1, 0.2], ((0, 0), (0, 1)))
    np.testing.assert_allclose(value(moved), (error(rows) + error(near)).mean() / 2, rtol=1e-12)


def test_the_reach_is_a_share_of_the_range_of_rows_that_count():
    law = FiniteLaw([[0.0, 1.0, 0.0], [2.0, 5.0, 1.0], [100.0, 7.0, 1.0]], [0.5, 0.5, 0.0])
    np.testing.assert_allclose(reach(law, 2, 0.01), [0.02, 0.04], rtol=1e-13)
    assert reach(law, 2, 0.0) is None


def test_the_cross_entropy_reads_the_label():
    assert float(cross_entropy(jnp.log(jnp.array([0.2, 0.5, 0.3])), jnp.array([2.0]))) == pytest.approx(-np.log(0.3), rel=1e-14)


def test_cosines_of_weights(classifiers):
    rows = np.concatenate([np.asarray(layer).reshape(3, -1) for layer in classifiers.model.network.layers], axis=1)
    expected = [[a @ b / np.sqrt(a @ a * (b @ b)) for b in rows] for a in rows]
    np.testing.assert_allclose(weight_cosines(classifiers.model.network), expected, rtol=1e-12)


def test_bad_input_is_refused():
    rows = np.random.default_rng(0).normal(size=(6, 3))
    labelled = np.column_stack([rows[:, :2], [0, 1, 2, 0, 1, 2]])
    for learner, data, message in (
        (MeanRegressorLearner(3), rows, r"`inputs`: got 3 of 3 coordinates; expected 1 to 2"),
        (GaussianRegressorLearner(0), rows, "`inputs`: got 0 of 3"),
        (ClassifierLearner(2), labelled, r"`data`: got a label 2 in the last column; expected one of 0 \.\.\. 1"),
        (ClassifierLearner(3), rows, "`data`: got a label"),
        (ClassifierLearner(1), labelled, "`classes`: got 1; expected at least 2"),
        (ClassifierLearner(3), JOINT, "`data`: got a Gaussian; expected rows"),
        (ClassifierLearner(3), rows[:1], "`data`: got shape"),
        (ClassifierLearner(3), np.full((4, 3), np.nan), "`data`: got 12 NaN"),
        (MeanRegressorLearner(1), np.column_stack([rows[:, :2], np.ones(6)]), r"`data`: got constant columns \[2\]"),
        (MeanRegressorLearner(1, batch=0), rows, "`batch`: got 0"),
        (GaussianRegressorLearner(1, width=0), rows, "`width`: got 0"),
        (ClassifierLearner(3, depth=-1), labelled, "`depth`: got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(KEY, learner, data, RECIPE)
    with pytest.raises(ValueError, match=r"`adversarial`: got -0.1; expected a share"):
        MeanRegressorLearner(2, adversarial=-0.1).loss(JOINT)
    with pytest.raises(ValueError, match="`adversarial`: got 0.01 of the range of a Gaussian; expected rows"):
        GaussianRegressorLearner(2, adversarial=0.01).loss(JOINT)
    with pytest.raises(ValueError, match=r"`x`: got shape \(2,\); expected \(n, d\)"):
        predictions(None, [0.0, 1.0])


@pytest.mark.parametrize("coordinates", [1, 3])
def test_inputs_of_another_dimension_are_refused_where_they_would_broadcast(regressors, classifiers, coordinates):
    for learned in (regressors, classifiers):
        with pytest.raises(ValueError, match=rf"`x`: got shape \({coordinates},\); expected \(2,\)"):
            predictions(learned.model, np.ones((4, coordinates)))
