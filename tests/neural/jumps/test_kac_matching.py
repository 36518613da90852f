"""Velocities of telegraph flows: bounded for any weights, the regression's target and floor by other routes, training that reaches the floor, and the flows they drive."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from ensembletheory.fields import MeanField
from ensembletheory.laws import GaussianMixture, KacLaw
from ensembletheory.neural import KacLearner, KacMatching, KacVelocityNetwork, Recipe, fit_ensemble, kac_error, kac_loss
from ensembletheory.processes import Telegraph
from ensembletheory.samplers import Heun, Sampler
from tests.helpers import Z, assert_within_errors
from tests.laws.kac_by_hand import parts, smoothed_on

LINE = GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [[0.16], [0.09]])
C, A, T = 3.0, 3.0, 0.5
PROCESS = Telegraph(C, A, T)
OBJECTIVE = KacMatching(PROCESS, LINE, 256)
DRAWS = 2048
U, WEIGHTS = (1 + np.polynomial.legendre.leggauss(12)[0]) / 2, np.polynomial.legendre.leggauss(12)[1] / 2
X = np.linspace(-5, 5, 201)


@pytest.fixture(scope="module")
def trained():
    """Three members, begun at random."""
    return fit_ensemble(jax.random.key(1), KacLearner(PROCESS, width=32, depth=3, batch=256), LINE, 3, Recipe(steps=150, learning_rate=1e-2, chunk=150)).model


@eqx.filter_jit
def measure(trained):
    """Losses and errors, on the same draws, of three trained members and three before training; the draws; and the losses of batches of the first."""
    start = eqx.filter_vmap(lambda key: KacVelocityNetwork(key, PROCESS, LINE, 32, 3))(jax.random.split(jax.random.key(2), 3))
    groups, key = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), trained, start), jax.random.key(3)
    batches = jax.vmap(lambda key: OBJECTIVE(first(trained), key))(jax.random.split(jax.random.key(5), 32))
    measured = eqx.filter_vmap(lambda field: (kac_loss(key, field, OBJECTIVE, DRAWS), kac_error(key, field, OBJECTIVE, DRAWS)))(groups)
    return measured, OBJECTIVE._drawn(key, DRAWS), batches


def first(stacked):
    return jax.tree.map(lambda array: array[0], stacked)


@pytest.fixture(scope="module")
def measured(trained):
    return jax.tree.map(np.asarray, measure(trained))


def floor():
    """(E w^2 - E u^2) / c^2, with E w^2 over the light cone and its ends and E u^2 over the line."""
    nodes, weights = np.polynomial.legendre.leggauss(60)

    def at(t):
        plus, minus = parts(C, A, t, C * t * nodes)
        given = np.exp(-A * t) + C * t * weights @ ((plus - minus) ** 2 / (plus + minus))
        plus, minus = sum(w * smoothed_on(C, A, t, X - m, s) for w, m, s in ((0.3, -1.0, 0.4), (0.7, 1.0, 0.3)))
        return given - np.sum((plus - minus) ** 2 / np.maximum(plus + minus, 1e-300)) * (X[1] - X[0])

    return WEIGHTS @ [at(T * u**2) for u in U]


def test_training_reaches_the_floor(measured):
    """Of three members, within their intervals; the error falls to less than a sixteenth; and loss = floor + error."""
    (losses, errors), _, batches = measured
    lowest = floor()
    print(lowest, losses.value, losses.error, errors.value, errors.error)
    assert_within_errors(losses.value[:3], losses.error[:3], lowest)
    assert np.all(errors.value[:3] + Z * errors.error[:3] < (np.min(errors.value[3:]) - Z * np.max(errors.error[3:])) / 16)
    assert_within_errors(losses.value, losses.error + errors.error, lowest + errors.value)
    assert np.all(losses.value[3:] - Z * losses.error[3:] > lowest)  # so that the first comparison can fail
    assert_within_errors(np.mean(batches), np.hypot(np.std(batches, ddof=1) / np.sqrt(32), losses.error[0]), losses.value[0])


def test_the_target_is_the_velocity_given_the_start():
    """x / (t + (r/c) I_0 / I_1) by SciPy within the cone, and +-c on it, where as many are as have not turned."""
    t = np.repeat([0.05, 0.4], 1000)
    moved, signs = eqx.filter_jit(PROCESS.displacements)(jax.random.key(6), jnp.asarray(t))
    w = np.asarray(eqx.filter_jit(lambda *draws: jax.vmap(OBJECTIVE._given)(*draws))(jnp.asarray(t), moved, signs))[:, 0]
    moved, signs = np.asarray(moved)[:, 0], np.asarray(signs)[:, 0]
    on = np.abs(moved) >= C * t
    np.testing.assert_array_equal(w[on], C * signs[on])
    y, s = moved[~on], t[~on]
    r = np.sqrt((C * s - y) * (C * s + y))
    np.testing.assert_allclose(w[~on], y / (s + r / C * special.iv(0, A / C * r) / special.iv(1, A / C * r)), rtol=1e-9)
    assert np.all(np.abs(w) <= C)
    for time in (0.05, 0.4):
        assert_within_errors(np.mean(on[t == time]), np.sqrt(np.exp(-A * time) * (1 - np.exp(-A * time)) / 1000), np.exp(-A * time))


@eqx.filter_jit
def speeds(seed, scale):
    """Velocities of two random networks and of their mean, at random points, some of them far away."""
    keys, key_point = jax.random.split(jax.random.key(seed), 2), jax.random.key(seed + np.uint32(1))
    fields = eqx.filter_vmap(lambda key: KacVelocityNetwork(key, PROCESS, LINE, 8, 2))(keys)
    fields = eqx.tree_at(lambda f: f.network, fields, jax.tree.map(lambda a: a * scale, fields.network))
    t, x = jnp.linspace(0.0, T, 16), 2 * scale * jax.random.normal(key_point, (16, 1))
    return jax.vmap(MeanField(fields, jnp.array([0.3, 0.7])))(t, x), eqx.filter_vmap(lambda field: jax.vmap(field)(t, x))(fields)


@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0.1, 30))
@settings(max_examples=20)
def test_no_weights_are_faster_than_the_particles(seed, scale):
    mean, each = map(np.asarray, speeds(np.uint32(seed), np.asarray(scale)))
    assert np.max(np.abs(each)) <= C
    assert np.max(np.abs(mean)) <= C * (1 + 1e-15)
    np.testing.assert_allclose(mean, 0.3 * each[0] + 0.7 * each[1], rtol=1e-12)


def test_without_its_network_the_field_is_the_best_linear_guess():
    """Its slope is Cov(v, X_t) / Var X_t, Cov(v, X_t) being half the rate at which the variance of the noise grows."""
    network = eqx.filter_jit(lambda key: KacVelocityNetwork(key, PROCESS, LINE, 8, 2))(jax.random.key(7))
    network = eqx.tree_at(lambda n: n.network, network, jax.tree.map(jnp.zeros_like, network.network))
    t, h, x = 0.3, 1e-4, -0.4
    late, early = (float(KacLaw(C, A, t + step).variance) for step in (h, -h))
    mean = 0.3 * -1 + 0.7 * 1
    variance = 0.3 * 0.16 + 0.7 * 0.09 + 0.3 * 0.7 * 4 + float(KacLaw(C, A, t).variance)
    found = eqx.filter_jit(network)(jnp.asarray(t), jnp.asarray([x]))[0]
    assert float(found) == pytest.approx(C * np.tanh((late - early) / (4 * h) / variance * (x - mean) / C), rel=1e-7)
    assert network.kind == "velocity"


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: KacLearner(PROCESS, batch=0), "batch"),
        (lambda: KacLearner(PROCESS, width=0), "width"),
        (lambda: KacLearner(PROCESS, depth=-1), "depth"),
        (lambda: KacMatching(PROCESS, LINE, 0), "batch"),
        (lambda: kac_loss(jax.random.key(0), MeanField, OBJECTIVE, 1), "samples"),
        (lambda: kac_error(jax.random.key(0), MeanField, OBJECTIVE, 0), "samples"),
    ],
)
def test_bad_sizes(call, argument):
    with pytest.raises(ValueError, match=f"`{argument}`: got .*; expected a whole number"):
        call()


def test_the_flow_of_trained_velocities_reaches_the_data(trained):
    """From the exact noised law: the law of the ends is near that of the data, where the noised one is not."""
    noised = PROCESS.marginal(LINE, T)
    x = np.asarray(noised.sample(jax.random.key(8), 4000))[:, 0]
    ends = np.asarray(Sampler(PROCESS, MeanField(trained), Heun(), T * np.linspace(1, 0, 14) ** 2).sample(jax.random.key(8), 4000, noised))[:, 0]

    def distance(draws):
        return stats.kstest(draws, lambda y: 0.3 * stats.norm.cdf(y, -1, 0.4) + 0.7 * stats.norm.cdf(y, 1, 0.3)).statistic

    print(distance(ends), distance(x))
    assert distance(ends) < 0.07 < 0.15 < distance(x)
