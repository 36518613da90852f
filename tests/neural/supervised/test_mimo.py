"""Networks with several inputs and heads: mixing and losses by NumPy, and the linear case held against its exact optimum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ensembletheory.laws import FiniteLaw, Gaussian
from ensembletheory.neural import (
    MimoClassifierLearner,
    MimoLoss,
    MimoRegressorLearner,
    Mixing,
    Recipe,
    SquaredError,
    fit,
    fit_ensemble,
    predictions,
    stack,
)
from ensembletheory.supervised import linear_mimo, mixmo_shrinkage
from tests.helpers import assert_mean

KEY = jax.random.key(5)
MIMO, LINEARLY, CUT, EITHER = (Mixing(linear, cut, 3) for linear, cut in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.75, 0.25)))
SLOPE = np.array([[1.2, 0.5], [-0.4, 0.9]])  # targets of equal variance, so that their units do not weight them
INPUT_COV = np.array([[1.0, 0.3], [0.3, 0.8]])
EXPLAINED = SLOPE @ INPUT_COV @ SLOPE.T
NOISE = np.diag(4.0 - np.diag(EXPLAINED))
CROSS = INPUT_COV @ SLOPE.T
JOINT = Gaussian(np.zeros(4), np.block([[INPUT_COV, CROSS], [CROSS.T, EXPLAINED + NOISE]]))
WIDTH = 3  # of four components
LINEAR = MimoRegressorLearner(2, slots=2, width=WIDTH, depth=1, batch=128, activation=eqx.nn.Identity())


def started(learner, law):
    return eqx.filter_jit(lambda key: learner.initialise(key, law))(KEY)


@pytest.fixture(scope="module")
def drawn():
    """Masks of 2000 examples, three slots and ten units, by mixing."""
    draw = eqx.filter_jit(lambda mixing: jax.vmap(lambda key: mixing(key, 3, 10))(jax.random.split(KEY, 2000)))
    return {mixing: np.asarray(draw(jax.tree.map(jnp.asarray, mixing))) for mixing in (MIMO, LINEARLY, CUT, EITHER)}


def test_masks_share_every_unit_among_the_slots(drawn):
    for masks in drawn.values():
        assert np.all(masks >= 0)
        np.testing.assert_allclose(masks.sum(axis=1), 1, atol=1e-14)
    assert np.all(drawn[MIMO] == 1 / 3)


def test_shares_are_dirichlet(drawn):
    """Each is Beta(3, 6); two have the covariance -1/90."""
    shares = drawn[LINEARLY][:, :, 0]
    assert np.all(drawn[LINEARLY] == shares[:, :, None])
    for k in range(3):
        assert stats.kstest(shares[:, k], stats.beta(3, 6).cdf).pvalue > 1e-6
    assert_mean((shares[:, 0] - 1 / 3) * (shares[:, 1] - 1 / 3), -1 / 90)


def test_cuts_are_arcs_as_long_as_the_shares(drawn):
    cut = drawn[CUT]
    assert set(np.unique(cut)) == {0.0, 1.0}
    ends = np.sum(cut != np.roll(cut, 1, axis=2), axis=2)  # on a circle an arc has two, unless it is empty or all
    assert set(np.unique(ends)) <= {0, 2}
    assert_mean(cut[:, :, 0], 1 / 3)  # every unit belongs to every slot equally often
    arcs = cut.mean(axis=2)
    squares = (arcs - 1 / 3) ** 2
    error = 5 * squares.std(axis=0) / np.sqrt(2000)
    assert np.all((1 / 45 - error <= squares.mean(axis=0)) & (squares.mean(axis=0) <= 1 / 45 + 0.0025 + error))  # Beta(3, 6), rounded to tenths up or down
    either = drawn[EITHER]
    cuts = np.all((either == 0) | (either == 1), axis=(1, 2))
    assert abs(cuts.mean() - 0.25) <= 5 * np.sqrt(0.25 * 0.75 / 2000)


def test_heads_are_a_perceptron_of_mixed_first_layers(drawn):
    learner = MimoClassifierLearner(3, slots=3, width=10, depth=2)
    law = FiniteLaw([[0.0, 1.0, 0.0], [2.0, 3.0, 1.0], [1.0, 0.0, 2.0]])
    model, x, masks = started(learner, law), np.array([[0.3, 0.1], [1.0, -1.0], [2.0, 0.5]]), drawn[EITHER][0]
    at = eqx.filter_jit(lambda xs, masks: model.mixed(xs, masks))

    def by_hand(xs, masks):
        z = (xs - [1.0, 4 / 3]) / np.sqrt([2 / 3, 14 / 9])
        first = np.stack([np.asarray(W)[:, :-1] @ z[k] + np.asarray(W)[:, -1] for k, W in enumerate(model.encoders)])
        h = np.maximum(3 * np.sum(masks * first, axis=0), 0)
        hidden, last = [np.asarray(layer) for layer in model.trunk.layers]
        outputs = (last[:, :-1] @ np.maximum(hidden[:, :-1] @ h + hidden[:, -1], 0) + last[:, -1]).reshape(3, 3)
        return outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))

    np.testing.assert_allclose(at(jnp.asarray(x), jnp.asarray(masks)), by_hand(x, masks), rtol=1e-10)
    together = eqx.filter_jit(lambda x: model(x))(x[0])
    np.testing.assert_allclose(together, by_hand(np.tile(x[0], (3, 1)), np.full((3, 10), 1 / 3)), rtol=1e-10)


# the linear case


@pytest.fixture(scope="module")
def trained():
    return fit_ensemble(KEY, LINEAR, JOINT, 3, Recipe(steps=300, learning_rate=3e-2, chunk=300, ema_decay=0.98)).average


def maps(encoders, head, scale_in, scale_out):
    """A_ik (2, 2, p, d) of a linear network in plain units."""
    heads = np.asarray(head)[:, :-1].reshape(2, 2, -1)
    return np.einsum("o,ior,krd,d->ikod", scale_out, heads, np.asarray(encoders)[:, :, :-1], 1 / scale_in)


def exact_loss(A):
    """sum_i E|y_i - sum_k A_ik x_k|^2 with independent inputs, of a network without intercepts."""
    missing = np.einsum("ik,od->ikod", np.eye(2), SLOPE) - A
    return 2 * np.trace(NOISE) + np.einsum("ikod,de,ikoe->", missing, INPUT_COV, missing)


OPTIMUM = np.sum(linear_mimo(SLOPE, INPUT_COV, NOISE, WIDTH, [0.5, 0.5]).training_errors)
SCALES = np.sqrt(np.diag(INPUT_COV)), np.array([2.0, 2.0])


def test_no_linear_network_is_below_the_exact_optimum():
    rng = np.random.default_rng(1)
    for scale in np.repeat([0.1, 0.5, 1.0, 2.0], 25):
        assert exact_loss(maps(rng.normal(size=(2, WIDTH, 3)), scale * rng.normal(size=(4, WIDTH + 1)), *SCALES)) > OPTIMUM


def test_trained_linear_networks_reach_the_exact_optimum_from_random_starts(trained):
    """The trunk holds three of four components; what is lost is the smallest, in some slot or shared."""
    losses = [exact_loss(maps(trained.encoders[k], trained.trunk.layers[0][k], *SCALES)) for k in range(3)]
    print(f"exact losses of three seeds {losses}, optimum {OPTIMUM}")
    assert np.all(np.array(losses) >= OPTIMUM)
    np.testing.assert_allclose(losses, OPTIMUM, rtol=0.01)
    assert exact_loss(np.zeros((2, 2, 2, 2))) > 1.4 * OPTIMUM  # nothing learned


def test_random_mixing_shrinks_planted_heads_by_the_exact_factor():
    """With D_i C_k = c delta_ik B the loss is a parabola in c, lowest at the exact factor; its coefficients come from three values of c on the same draws."""
    learner = MimoRegressorLearner(2, slots=2, width=4, depth=1, activation=eqx.nn.Identity())
    planted = started(learner, JOINT)
    zero = np.zeros((4, 1))
    encoders = np.stack([np.hstack([np.vstack([np.eye(2), 0 * np.eye(2)]), zero]), np.hstack([np.vstack([0 * np.eye(2), np.eye(2)]), zero])])
    head = np.hstack([np.kron(np.eye(2), SLOPE * SCALES[0] / 2), zero])
    loss = MimoLoss(JOINT, SquaredError(jnp.full(2, 2.0)), Mixing(linear=jnp.ones(())), 2, 512, 3.0)

    @eqx.filter_jit
    def values(keys, c):
        model = eqx.tree_at(lambda m: (m.encoders, m.trunk.layers), planted, (jnp.asarray(encoders), (c * jnp.asarray(head),)))
        return jax.lax.map(lambda key: loss(model, key), keys)

    keys = jax.random.split(KEY, 20)
    at = [np.asarray(values(keys, np.asarray(c))) for c in (0.0, 1.0, 2.0)]
    curvature, slope = (at[2] - 2 * at[1] + at[0]) / 2, (4 * at[1] - 3 * at[0] - at[2]) / 2
    nodes, weights = np.polynomial.legendre.leggauss(200)
    lam = (nodes + 1) / 2
    kappa = float(mixmo_shrinkage(np.stack([lam, 1 - lam], axis=1), weights / 2 * 6 * lam * (1 - lam))[0])
    assert kappa < 0.95
    assert_mean(slope + 2 * kappa * curvature, 0.0)


def test_one_slot_is_a_network_alone():
    model = started(MimoRegressorLearner(2, slots=1, width=4, depth=1), JOINT)
    x = np.array([0.3, -0.4])
    hidden = np.maximum(np.asarray(model.encoders)[0] @ np.append(x / SCALES[0], 1.0), 0)
    np.testing.assert_allclose(eqx.filter_jit(lambda x: model(x))(x)[0], 2 * np.asarray(model.trunk.layers[0]) @ np.append(hidden, 1.0), rtol=1e-12)


def test_bad_input_is_refused():
    for learner, message in (
        (MimoRegressorLearner(2, slots=0), "`slots`: got 0"),
        (MimoRegressorLearner(2, depth=0), "`depth`: got 0"),
        (MimoRegressorLearner(2, width=0, depth=1), "`width`: got 0"),
        (MimoRegressorLearner(2, batch=0), "`batch`: got 0"),
        (MimoRegressorLearner(2, root=0.0), "`root`: got 0.0; expected a positive number"),
        (MimoRegressorLearner(2, root=np.inf), "`root`: got inf"),
        (MimoRegressorLearner(4), "`inputs`: got 4 of 4"),
        (MimoClassifierLearner(3), "`data`: got a Gaussian"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(KEY, learner, JOINT)
    for x in ([0.1], [0.1, 0.2, 0.3]):
        with pytest.raises(ValueError, match=r"`x`: got shape \(\d,\); expected \(2,\)"):
            predictions(stack([started(MimoRegressorLearner(2, width=4), JOINT)]), [x])
    with pytest.raises(ValueError, match="`linear and cut`: got 0.7 and 0.5; expected probabilities that sum to at most 1"):
        Mixing(0.7, 0.5)
    with pytest.raises(ValueError, match="`concentration`: got 0"):
        Mixing(1.0, 0.0, 0)
