import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.neural import CouplingFlow, CouplingFlowLearner, Recipe, fit_ensemble, jacobian_cost, operations
from ensembletheory.neural.flows.coupling_flow import dense_log_prob
from tests.helpers import Z, assert_mean

TARGET = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.0, -0.5]], [[[0.3, 0.1], [0.1, 0.5]], [[0.4, -0.2], [-0.2, 0.6]]])
LEARNER = CouplingFlowLearner(layers=4, width=16, depth=1, batch=128)
STEPS = Recipe(steps=300, learning_rate=1e-2, chunk=300, ema_decay=0.98)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def trained():
    return fit_ensemble(KEY, LEARNER, TARGET, 3, STEPS)


@pytest.fixture(scope="module")
def flow(trained):
    """The first member."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[0]), trained.average)


@eqx.filter_jit
def looked_at(flows, x):
    """Of a stack: log-densities by both routes, scores, and where the points come out after there and back."""

    def of(flow):
        by_both = [jax.vmap(f)(x) for f in (flow._log_prob, lambda y: dense_log_prob(flow, y))]
        return (*by_both, jax.vmap(flow._score)(x), jax.vmap(lambda y: flow.generate(flow.encode(y)[0]))(x))

    return eqx.filter_vmap(of)(flows)


AXIS, STEP = np.linspace(-6, 6, 61, retstep=True)
PLANE = np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), axis=-1).reshape(-1, 2)


def test_log_determinants_are_those_of_the_jacobian_and_the_flow_is_undone(trained):
    x = np.random.default_rng(0).normal(size=PLANE.shape)
    x[:2] = [[8.0, -9.0], [-30.0, 0.0]]  # far out, too
    read_off, dense, _, back = looked_at(trained.average, x)
    np.testing.assert_allclose(read_off, dense, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(back, np.stack([x] * 3), rtol=1e-9, atol=1e-9)


def test_the_density_integrates_to_one_and_its_gradient_is_the_score(trained):
    logs, _, scores, _ = (np.asarray(part) for part in looked_at(trained.average, PLANE))
    middle = np.s_[28:33, 28:33]
    for log, score in zip(logs.reshape(3, 61, 61), scores.reshape(3, 61, 61, 2), strict=True):
        assert integrate.trapezoid(integrate.trapezoid(np.exp(log), dx=STEP), dx=STEP) == pytest.approx(1, abs=2e-3)
        for i, slope in enumerate(np.gradient(log, STEP, edge_order=2)):
            np.testing.assert_allclose(score[*middle, i], slope[middle], atol=0.2)  # of a difference over 0.4


def test_training_by_likelihood_comes_near_the_target_and_draws_are_those_of_the_density(trained, flow):
    p = sum(w * stats.multivariate_normal(m, S).pdf(PLANE) for w, m, S in zip(*map(np.asarray, (TARGET.weights, TARGET.means, TARGET.covs)), strict=True))
    losses, entropy = np.asarray(trained.losses), -np.sum(p * np.log(p)) * STEP**2
    last = losses[:, -100:].mean(axis=1)
    assert np.all(last - entropy < 0.35 * (losses[:, :3].mean(axis=1) - entropy))
    assert np.all(last > entropy - Z * losses[:, -100:].std(axis=1) / 10)
    surprise = -np.asarray(looked_at(trained.average, np.asarray(flow.sample(KEY, len(PLANE))))[0][0])
    assert float(flow.entropy(KEY, len(PLANE)).value) == pytest.approx(surprise.mean(), rel=1e-9)
    log = np.asarray(looked_at(trained.average, PLANE)[0][0])
    assert_mean(surprise, -np.sum(np.exp(log) * log) * STEP**2)


def test_location_and_scales_stay_and_members_share_one_structure(trained):
    for model in (trained.model, trained.average):
        np.testing.assert_array_equal(np.asarray(model.location), [np.asarray(TARGET.mean)] * 3)
        np.testing.assert_allclose(np.asarray(model.scales), [np.sqrt(np.diag(TARGET.cov))] * 3, rtol=1e-14)
    assert not any(np.array_equal(*np.asarray(leaf)[:2]) for leaf in trained.model.leaves if leaf.dtype == float)


def test_what_has_no_closed_form_is_refused_by_name(flow):
    for refused in (lambda f: f.mean, lambda f: f.cov, lambda f: f.marginal([0]), lambda f: f.condition([0], [0.0]), lambda f: f.push([[1.0, 0.0]], [0.0])):
        with pytest.raises(TypeError, match="CouplingFlow: got a request for its"):
            refused(flow)
    with pytest.raises(ValueError, match="`key`: got None"):
        flow.entropy()
    with pytest.raises(ValueError, match="`law`: got dimension 1; expected dimension 2 or more"):
        CouplingFlow(KEY, Gaussian([0.0], 1.0))
    with pytest.raises(ValueError, match="`layers, width, depth`: got 0, 32, 2"):
        CouplingFlow(KEY, TARGET, layers=0)


def by_hand(d, layers, width):
    """Products of matrices only: a perceptron of one hidden layer from d // 2 inputs to two outputs for each of the others."""
    return layers * 2 * (d // 2 * width + width * 2 * (d - d // 2))


@pytest.mark.parametrize("d", [2, 9])
def test_the_cost_of_a_density_is_that_of_its_perceptrons_and_the_jacobian_multiplies_it(d):
    abstract = eqx.filter_eval_shape(lambda: CouplingFlow(KEY, Gaussian(np.zeros(d), 1.0), 3, 16, 1))
    read_off, autodiff = jacobian_cost(abstract)
    products = by_hand(d, 3, 16)
    elementwise = 3 * (5 * 16 + 20 * d) + 10 * d
    assert products < read_off < products + elementwise
    assert autodiff > d * products  # d tangents through every product, and the products themselves
    assert autodiff < (d + 1) * (products + 4 * elementwise) + d**3


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda A, x: A @ x, 2 * 4 * 4),
        (lambda A, x: jnp.sum(jnp.tanh(A @ x) + x), 2 * 16 + 4 + 4 + 4),
        (lambda A, x: jax.lax.scan(lambda y, _: (jnp.exp(A @ y), None), x, length=7)[0], 7 * (32 + 4)),
        (lambda A, x: (A @ x, A @ A)[0], 32),  # what is not needed is not counted
        (lambda A, x: jax.jit(lambda y: y * y)(x)[::-1], 4),
        (lambda A, x: jax.lax.cond(x[0] > 0, lambda: A @ x, lambda: x), 32),
        (lambda A, x: jax.vmap(lambda y: A @ y)(A), 2 * 4 * 16),
        (lambda A, x: jax.jvp(jnp.sin, (x,), (x,))[1], 4 + 4),
    ],
)
def test_operations_are_counted_as_by_hand(function, count):
    A, x = jax.ShapeDtypeStruct((4, 4), float), jax.ShapeDtypeStruct((4,), float)
    assert operations(function, A, x) == count


def test_determinants_count_their_factorisation_and_open_loops_are_refused():
    A = jax.ShapeDtypeStruct((30, 30), float)
    assert 2 * 30**3 // 3 <= operations(lambda A: jnp.linalg.slogdet(A)[1], A) <= 2 * 30**3 // 3 + 3 * 30**2
    with pytest.raises(ValueError, match="`function`: got a loop whose length depends on values"):
        operations(lambda A: jax.lax.while_loop(lambda y: jnp.sum(y) > 0, lambda y: y - 1, A), A)
