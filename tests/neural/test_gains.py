from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory.divergences import kl
from ensembletheory.laws import Gaussian
from ensembletheory.neural import flow_log_prob, sampled_gain, stack, stacked_flow_log_prob
from ensembletheory.pooling import WeightedSum
from ensembletheory.processes import EdmPath, SubVariancePreserving, VarianceExploding, VariancePreserving
from tests.helpers import assert_within_errors

Z = 5.0  # two-sided error level 6e-7 an assertion
GRID = jnp.linspace(1.0, 0.06, 17) ** 2  # of the paths whose horizon is 1; finer towards the data, where the flow is fast
DRAWS = 512
KEY = jax.random.key(2)
TARGET = Gaussian([0.2], 1.0)
MEANS, VARIANCES, WEIGHTS = np.array([0.5, -0.5, 0.3]), np.array([0.5, 2.0, 1.5]), np.array([0.5, 0.2, 0.3])


def scores_of(process):
    return stack([process.score(Gaussian([m], v)) for m, v in zip(MEANS, VARIANCES, strict=True)])


def preserving(t):
    """a^2, s^2, a'/a and g^2 of Song's schedule."""
    a2, b = np.exp(-0.1 * t - 9.95 * t**2), 0.1 + 19.9 * t
    return a2, 1 - a2, -b / 2, b


def sub_preserving(t):
    a2, s2, f, b = preserving(t)
    return a2, s2**2, f, b * (1 - a2**2)


def exploding(t):
    grown = (20.0 / 0.05) ** (2 * t)
    return 1.0, 0.05**2 * (grown - 1), 0.0, 2 * np.log(20.0 / 0.05) * 0.05**2 * grown


def edm(t):
    return 1.0, t**2, 0.0, 2 * t


PATHS = [
    (SubVariancePreserving(), sub_preserving, GRID),
    (VarianceExploding(0.05, 20.0), exploding, jnp.linspace(1.0, 0.06, 33)),
]


def sampled_by_hand(coefficients, grid, weights):
    """Mean and standard deviation of what Heun's method makes of N(0, s_T^2) with the averaged scores, each step an affine map in NumPy."""

    def velocity(t, slope, offset):
        a2, s2, f, g2 = coefficients(t)
        precisions = weights / (a2 * VARIANCES + s2)
        rate = f + g2 / 2 * precisions.sum()
        return rate * slope, rate * offset - g2 / 2 * a2**0.5 * precisions @ MEANS

    slope, offset = coefficients(grid[0])[1] ** 0.5, 0.0
    for t, s in pairwise(grid):
        first = velocity(t, slope, offset)
        second = velocity(s, slope + (s - t) * first[0], offset + (s - t) * first[1])
        slope, offset = slope + (s - t) / 2 * (first[0] + second[0]), offset + (s - t) / 2 * (first[1] + second[1])
    return offset, abs(slope)


def divergence(mean, deviation):
    """From the target."""
    return 0.5 * ((1 + (0.2 - mean) ** 2) / deviation**2 - 1) + np.log(deviation)


@pytest.mark.parametrize(("process", "coefficients", "grid"), PATHS)
def test_with_exact_gaussian_scores_the_measured_divergences_are_those_of_heun_by_hand(process, coefficients, grid):
    """And, up to the steps and the horizon, those of the exact laws, whatever noise the path ends with."""
    measured, x = sampled_gain(KEY, TARGET, scores_of(process), process, grid, DRAWS, WEIGHTS), np.asarray(TARGET.sample(KEY, DRAWS))
    run = [sampled_by_hand(coefficients, np.asarray(grid), weights) for weights in np.eye(3)]
    logs = [-0.5 * ((x[:, 0] - m) / s) ** 2 - np.log(s) - 0.5 * np.log(2 * np.pi) for m, s in run]
    np.testing.assert_allclose(stacked_flow_log_prob(scores_of(process), process, grid, jnp.asarray(x)), logs, rtol=1e-9, atol=1e-9)

    average, pooled = WEIGHTS @ [divergence(*law) for law in run], divergence(*sampled_by_hand(coefficients, np.asarray(grid), WEIGHTS))
    for estimate, truth in ((measured.average, average), (measured.ensemble, pooled), (measured.gain, average - pooled)):
        assert_within_errors(estimate.value, estimate.error, truth)
    np.testing.assert_allclose(measured.best.value, min(np.mean(np.asarray(TARGET.log_prob(x)) - log) for log in logs), atol=1e-9)
    exact = WEIGHTS @ [divergence(m, v**0.5) for m, v in zip(MEANS, VARIANCES, strict=True)]
    assert abs(average - exact) < 0.1 * exact


@pytest.mark.verify
def test_noise_of_eighty_at_the_horizon_is_where_draws_begin():
    """Karras et al. (2022): s_t = t up to 80."""
    process, grid = EdmPath(), jnp.linspace(80.0 ** (1 / 7), 0.05 ** (1 / 7), 17) ** 7
    run, x = sampled_by_hand(edm, np.asarray(grid), WEIGHTS), np.linspace(-2.0, 2.0, 5)
    measured = sampled_gain(KEY, TARGET, scores_of(process), process, grid, DRAWS, WEIGHTS)
    assert_within_errors(measured.ensemble.value, measured.ensemble.error, divergence(*run))
    alone = flow_log_prob(process.score(Gaussian([0.5], 0.5)), process, grid, jnp.asarray(x[:, None]))
    mean, deviation = sampled_by_hand(edm, np.asarray(grid), np.array([1.0, 0.0, 0.0]))
    np.testing.assert_allclose(alone, -0.5 * ((x - mean) / deviation) ** 2 - np.log(deviation) - 0.5 * np.log(2 * np.pi), rtol=1e-9)


@pytest.mark.verify  # compiles four programs; simulations/network_ensembles.py measures the same
def test_the_gain_of_networks_stands_beside_the_exact_gain(process, target, laws, untrained, specialists):
    """Members trained each on its own law. The gain is paired; training brings it towards that of the exact scores, which exceeds zero by the theorem of averaged scores."""
    exact, before, after = (sampled_gain(KEY, target, fields, process, GRID, DRAWS) for fields in (stack([process.score(law) for law in laws]), untrained, specialists.model))
    for name, measured in (("exact", exact), ("before training", before), ("after training", after)):
        print(f"{name}\n{measured}")
        np.testing.assert_allclose(measured.gain.value, measured.average.value - measured.ensemble.value, atol=1e-12)
        assert measured.gain.error < measured.average.error
        assert measured.best.value <= measured.average.value
        assert measured.diversity is None
    assert exact.gain.value > Z * exact.gain.error
    for name in ("average", "ensemble"):
        off = [abs(getattr(measured, name).value - getattr(exact, name).value) for measured in (before, after)]
        assert off[1] < off[0] / 2


def test_the_likelihood_of_trained_flows_agrees_with_the_exact_one(process, target, trained):
    """Its mean over draws of the target lies within its interval around minus the entropy; paired with the exact densities it falls short by less than the best Gaussian."""
    x = target.sample(KEY, DRAWS)
    logs, exact = np.asarray(stacked_flow_log_prob(trained.model, process, GRID, x)), np.asarray(target.log_prob(x))
    entropy, gaussian = target.entropy(), kl(target, Gaussian(target.mean, target.cov))
    for k in range(3):
        error = np.std(logs[k], ddof=1) / DRAWS**0.5
        assert abs(np.mean(logs[k]) + entropy.value) <= Z * error + entropy.error
        short, doubt = np.mean(exact - logs[k]), Z * np.std(exact - logs[k], ddof=1) / DRAWS**0.5
        assert -doubt < short < gaussian.value - gaussian.error - doubt


def test_weights_move_the_mean_and_the_average_and_a_rule_the_mean_alone():
    process, _, grid = PATHS[1]
    scores, x = scores_of(process), TARGET.sample(KEY, DRAWS)
    members = np.mean(np.asarray(TARGET.log_prob(x)) - np.asarray(stacked_flow_log_prob(scores, process, grid, x)), axis=1)
    measured = sampled_gain(KEY, TARGET, scores, process, grid, DRAWS, [0.0, 1.0, 0.0])
    np.testing.assert_allclose([measured.average.value, measured.ensemble.value], members[1], rtol=1e-9)
    assert abs(measured.gain.value) < 1e-9
    ruled = sampled_gain(KEY, TARGET, scores, process, grid, DRAWS, WEIGHTS, partial(WeightedSum, coefficients=[0.0, 0.0, 1.0]))
    np.testing.assert_allclose([ruled.average.value, ruled.ensemble.value], [WEIGHTS @ members, members[2]], rtol=1e-9)


def test_bad_input_is_refused(process):
    scores = scores_of(process)
    with pytest.raises(ValueError, match="`grid`: got times from 0.1 to 1"):
        sampled_gain(KEY, TARGET, scores, process, [0.1, 1.0], DRAWS)
    with pytest.raises(ValueError, match="`grid`: got times from 0.9; expected times from the horizon, 1"):
        sampled_gain(KEY, TARGET, scores, process, [0.9, 0.1], DRAWS)
    with pytest.raises(ValueError, match="`weights`"):
        sampled_gain(KEY, TARGET, scores, process, GRID, DRAWS, weights=[1.0])
    with pytest.raises(ValueError, match=r"`fields`: got a field of another process \(VariancePreserving\)"):
        sampled_gain(KEY, TARGET, scores, VarianceExploding(0.05, 20.0), GRID, DRAWS)
    with pytest.raises(ValueError, match=r"`fields`: got a field of another process \(VariancePreserving\)"):
        stacked_flow_log_prob(scores, VariancePreserving(0.1, 5.0), GRID, jnp.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"(?s)`fields`: .*; expected vectors of shape"):
        sampled_gain(KEY, TARGET, stack([process.score(Gaussian([0.0, 0.0], 1.0))]), process, GRID, DRAWS)
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(RuntimeError, match="64-bit"):
            sampled_gain(KEY, TARGET, scores, process, GRID, DRAWS)
    finally:
        jax.config.update("jax_enable_x64", True)
