"""Ratios of jump processes: their symmetry for any weights, the minimum of their loss by another route, training that reaches it, ensembles, and the samplers they drive."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ensembletheory.laws import Gaussian, GaussianMixture, standard_normal
from ensembletheory.neural import AveragedRatios, RatioLearner, RatioMatching, RatioNetwork, Recipe, fit_ensemble, least_ratio_loss, members, ratio_error, ratio_loss, stack
from ensembletheory.processes import Telegraph, ZigZag
from ensembletheory.processes.pdmp import ReverseFlips, ZigZagTables
from ensembletheory.samplers import JumpSampler
from tests.helpers import Z, assert_mean, assert_within_errors
from tests.laws.kac_by_hand import smoothed_on

LINE = GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [[0.16], [0.09]])
C, A, T = 3.0, 3.0, 0.5
PROCESS = Telegraph(C, A, T)
LEARNER = RatioLearner(PROCESS, width=32, depth=3, batch=256)
OBJECTIVE = RatioMatching(PROCESS, LINE, 256)
DRAWS = 2048
WEIGHTED = np.array([0.5, 0.2, 0.3])
U, WEIGHTS = (1 + np.polynomial.legendre.leggauss(12)[0]) / 2, np.polynomial.legendre.leggauss(12)[1] / 2
X = np.linspace(-5, 5, 201)


@pytest.fixture(scope="module")
def least():
    return least_ratio_loss(OBJECTIVE)


@pytest.fixture(scope="module")
def trained():
    """Three members, begun at random."""
    return fit_ensemble(jax.random.key(1), LEARNER, LINE, 3, Recipe(steps=150, learning_rate=1e-2, chunk=150)).model


@eqx.filter_jit
def measure(trained, exact):
    """Losses and errors, on the same draws, of three trained members and three before training; the same of an average of the trained ones; the trained members'
    ratios at these draws and with signs turned; and the losses of batches of the first."""
    start = eqx.filter_vmap(lambda key: RatioNetwork(key, PROCESS, LINE, 32, 3))(jax.random.split(jax.random.key(2), 3))
    groups, key = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), trained, start), jax.random.key(3)

    def both(ratios):
        return ratio_loss(key, ratios, OBJECTIVE, DRAWS), ratio_error(key, ratios, exact, OBJECTIVE, DRAWS)

    t, x, v = OBJECTIVE._drawn(key, DRAWS)
    at = eqx.filter_vmap(lambda ratios: (jax.vmap(ratios)(t, x, v), jax.vmap(ratios)(t, x, -v)))(trained)
    batches = jax.vmap(lambda key: OBJECTIVE(first(trained), key))(jax.random.split(jax.random.key(5), 32))
    return eqx.filter_vmap(both)(groups), both(AveragedRatios(trained, WEIGHTED)), at, batches


@pytest.fixture(scope="module")
def measured(trained):
    return jax.tree.map(np.asarray, measure(trained, PROCESS.turned_ratios(LINE)))


def first(stacked):
    return jax.tree.map(lambda array: array[0], stacked)


def by_hand(u):
    """p_+ and p_- at T u^2 of the mixture, on the grid."""
    return sum(w * smoothed_on(C, A, T * u**2, X - m, s) for w, m, s in ((0.3, -1.0, 0.4), (0.7, 1.0, 0.3)))


def test_the_least_loss_again_by_sums(least):
    at = [-np.sum((p**2).sum(axis=0) / np.maximum(p.sum(axis=0), 1e-300)) * (X[1] - X[0]) for p in map(by_hand, U)]
    assert least.value == pytest.approx(WEIGHTS @ at, abs=1e-5)
    assert 0 < least.error < 2e-5
    assert least.value < -0.55


def test_training_reaches_the_least_loss(measured, least):
    """Of three members, within their intervals; the error against the exact ratios falls to less than an eighth; and loss = least loss + error."""
    (losses, errors), *_ = measured
    print(losses.value, losses.error, errors.value, errors.error)
    assert_within_errors(losses.value[:3], losses.error[:3], least.value)
    assert np.all(errors.value[:3] + Z * errors.error[:3] < (np.min(errors.value[3:]) - Z * np.max(errors.error[3:])) / 8)
    assert_within_errors(losses.value, losses.error + errors.error, least.value + errors.value)
    assert np.all(losses.value[3:] - Z * losses.error[3:] > least.value)  # so that the first comparison can fail


def test_the_average_errs_by_the_mean_less_the_ambiguity(measured):
    """Of the probabilities; the gain in loss, in error against the exact ratios, and the ambiguity, each by itself on the same draws."""
    (losses, errors), (loss, error), (own, _), _ = measured
    gain = WEIGHTED @ losses.value[:3] - loss.value
    assert gain > 1e-4
    np.testing.assert_allclose(gain, WEIGHTED @ errors.value[:3] - error.value, atol=1e-12)
    G = 1 / (1 + own[:, :, 0])
    np.testing.assert_allclose(gain, WEIGHTED @ np.mean(2 * (G - WEIGHTED @ G) ** 2, axis=1), atol=1e-12)


def test_the_loss_of_training_is_that_of_bertazzi_et_al(measured):
    """With the ratios of both signs by hand, on the same draws, and unbiased over batches."""
    (losses, _), _, ratios, batches = measured
    own, turned = (1 / (1 + part[0, :, 0]) for part in ratios)
    np.testing.assert_allclose(losses.value[0], np.mean(own**2 + turned**2 - 2 * own), rtol=1e-12)
    assert_within_errors(np.mean(batches), np.hypot(np.std(batches, ddof=1) / np.sqrt(32), losses.error[0]), losses.value[0])


PLANE = GaussianMixture([0.3, 0.7], [[-1.0, 0.4], [1.0, 0.2]], [[0.16, 0.3], [0.09, 0.2]])
ZIGZAG = ZigZag(Gaussian([0.1, 0.2], [1.0, 2.0]), 0.5, 4.0)


def states(seed, scale):
    """A random network of the plane, and its log-ratios at one point for all four signs."""
    key_network, key_point = jax.random.split(jax.random.key(seed))
    network = RatioNetwork(key_network, ZIGZAG, PLANE, 8, 3)
    network = eqx.tree_at(lambda n: (n.trunk, n.head), network, jax.tree.map(lambda a: a * scale, (network.trunk, network.head)))
    x = 2 * jax.random.normal(key_point, (2,))
    signs = jnp.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    return network, x, jax.vmap(lambda v: network.log_ratios(jnp.asarray(1.3), x, v))(signs)


_states = eqx.filter_jit(states)


@given(seed=st.integers(0, 2**31 - 1), scale=st.floats(0.1, 30))
@settings(max_examples=20)
def test_turning_a_sign_inverts_its_ratio_for_any_weights(seed, scale):
    logs = np.asarray(_states(np.uint32(seed), np.asarray(scale))[2])
    np.testing.assert_allclose(logs[[1, 0, 3, 2], 0], -logs[:, 0], rtol=1e-8)  # v_j is subtracted where it was added
    np.testing.assert_allclose(logs[[2, 3, 0, 1], 1], -logs[:, 1], rtol=1e-8)
    assert np.all(logs[0] != -logs[3])  # the other sign matters


def test_a_network_by_hand():
    network, x, logs = _states(np.uint32(3), np.asarray(1.0))

    def silu(y):
        return y / (1 + np.exp(-y))

    u = np.sqrt(1.3 / 4.0)
    spread = np.trace(np.asarray(PLANE.cov)) / 2 + 1.5
    z = (np.asarray(x) - np.asarray(PLANE.mean)) / np.sqrt(spread)
    of_place, of_time = [k * np.pi / 2 * place for place in z for k in (1, 2, 4)], np.pi * u * np.arange(1, 5)
    h = np.concatenate([z, np.sin(of_place), np.cos(of_place), [u], np.sin(of_time), np.cos(of_time)])
    for W in map(np.asarray, network.trunk.layers):
        h = silu(W @ np.append(h, 1))
    joined, last = map(np.asarray, network.head.layers)
    for row, v in zip(np.asarray(logs), [(1, 1), (-1, 1), (1, -1), (-1, -1)], strict=True):
        odds = [last[j] @ np.append(silu(joined @ np.concatenate([h, np.where(np.arange(2) == j, 0, v), [1]])), 1) for j in range(2)]
        np.testing.assert_allclose(row, -np.array(v) * odds, rtol=1e-9, atol=1e-12)


def test_paths_may_end_at_times_of_their_own():
    """Of the zig-zag the same bits as with one end for all; of the telegraph process moments and masses of light cones."""
    x = np.asarray(PLANE.sample(jax.random.key(6), 500))
    v, times = np.where(x > 0, 1.0, -1.0), np.where(np.arange(500) < 250, 0.7, 3.1)
    own = ZIGZAG.run(jax.random.key(7), x, v, times)
    for part, end in ((slice(250), 0.7), (slice(250, 500), 3.1)):
        alone = ZIGZAG.run(jax.random.key(7), x, v, end)
        for name in ("positions", "velocities", "mean", "second_moment"):
            np.testing.assert_array_equal(getattr(own, name)[part], getattr(alone, name)[part])
    moved, signs = map(np.asarray, eqx.filter_jit(PROCESS.displacements)(jax.random.key(8), jnp.asarray(np.repeat([0.1, 0.5], 4000)), 2))
    for part, t in ((slice(4000), 0.1), (slice(4000, 8000), 0.5)):
        assert_mean(moved[part] ** 2, np.full(2, C**2 / A * (t - (1 - np.exp(-2 * A * t)) / (2 * A))))
        assert_mean(np.abs(moved[part]) >= C * t, np.full(2, np.exp(-A * t)))
        assert_mean(moved[part] * signs[part], np.full(2, C / (2 * A) * (1 - np.exp(-2 * A * t))))


def test_trained_ratios_run_the_process_backwards(trained):
    """From the exact noised law to the data: the law of the ends is near that of the data, where the noised one is not."""
    x, v = PROCESS.simulate(jax.random.key(9), 4000, LINE)
    sampler = JumpSampler(ReverseFlips(PROCESS, AveragedRatios(trained)), T * np.linspace(1, 0, 26) ** 2, "DJD")
    ends, x = np.asarray(sampler.run(jax.random.key(10), x, v)[0])[:, 0], np.asarray(x)[:, 0]

    def distance(draws):
        return stats.kstest(draws, lambda y: 0.3 * stats.norm.cdf(y, -1, 0.4) + 0.7 * stats.norm.cdf(y, 1, 0.3)).statistic

    print(distance(ends), distance(x))
    assert distance(ends) < 0.07 < 0.15 < distance(x)


@pytest.mark.verify  # trains on the plane
def test_zig_zag_ratios_approach_the_exact_ones():
    """With correlated signs (a mixture on the plane): three members against tables of the exact ratios, at kept times."""
    process = ZigZag(standard_normal(2), 1.0, 5.0)
    objective, u = RatioMatching(process, PLANE, 256), np.linspace(0.02, 1, 200)
    trained = fit_ensemble(jax.random.key(11), RatioLearner(process, 64, 3, 256), PLANE, 3, Recipe(steps=2000, learning_rate=5e-3)).average
    tables = ZigZagTables(process, PLANE, 5.0 * u**2, points=1601)
    start = RatioNetwork(jax.random.key(12), process, PLANE)
    before = ratio_error(jax.random.key(13), start, tables, objective, 4096)
    for member in members(trained):
        after = ratio_error(jax.random.key(13), member, tables, objective, 4096)
        print(before, after)
        assert after.value + Z * after.error < (before.value - Z * before.error) / 8


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: RatioNetwork(jax.random.key(0), ZIGZAG, LINE), "`law`: got dimension 1"),
        (lambda: RatioNetwork(jax.random.key(0), PROCESS, LINE, depth=1), "`depth`: got 1"),
        (lambda: AveragedRatios(stack([RatioNetwork(jax.random.key(0), PROCESS, LINE, 4, 2)] * 2), [0.5, 0.6]), "`weights`"),
        (lambda: RatioLearner(PROCESS, batch=0), "`batch`: got 0"),
        (lambda: RatioLearner(PROCESS, depth=1), "`depth`: got 1"),
        (lambda: RatioLearner(PROCESS, width=0), "`width`: got 0"),
        (lambda: RatioMatching(PROCESS, LINE, 0), "`batch`: got 0"),
        (lambda: ratio_loss(jax.random.key(0), None, OBJECTIVE, 1), "`samples`: got 1"),
        (lambda: ratio_error(jax.random.key(0), None, None, OBJECTIVE, 0), "`samples`: got 0"),
        (lambda: least_ratio_loss(RatioMatching(ZigZag(standard_normal(1)), LINE)), "`objective`: got one of a ZigZag"),
        (lambda: least_ratio_loss(RatioMatching(PROCESS, PLANE)), "`noised`: got dimension 2"),
        (lambda: ZIGZAG.noised(jax.random.key(0), np.zeros((3, 2)), [0.1, 0.2]), "`until`: got shape"),
        (lambda: ZIGZAG.noised(jax.random.key(0), np.zeros((2, 2)), [0.1, 4.2]), "`until`: got 4.2"),
    ],
)
def test_bad_input(call, argument):
    with pytest.raises(ValueError, match=argument):
        call()
