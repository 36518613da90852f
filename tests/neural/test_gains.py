import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory.divergences import kl
from ensembletheory.fields import MeanField
from ensembletheory.laws import Gaussian, GaussianMixture, standard_normal
from ensembletheory.neural import sampled_gain, stack, stacked_flow_log_prob
from ensembletheory.processes import convert
from ensembletheory.samplers import Heun, Sampler

Z = 5.0  # two-sided error level 6e-7 an assertion
GRID = jnp.linspace(1.0, 0.06, 25) ** 2  # finer towards the data, where the flow is fast
DRAWS = 512
KEY = jax.random.key(2)


def test_with_exact_gaussian_scores_the_measured_divergences_are_those_of_the_exact_laws(process):
    """The exact laws come from the composed affine steps, the measured densities from Newton and Jacobians. Theory (T = infinity, exact time): 1/8, and 0 for the mean."""
    laws, target, weights = [Gaussian([0.0], variance) for variance in (0.5, 2.0, 2.0)], Gaussian([0.0], 1.0), [0.5, 0.25, 0.25]
    fields = [process.score(law) for law in laws]
    run = [Sampler(process, convert(process, field, "velocity", given="score"), Heun(), GRID).law(standard_normal(1)) for field in (*fields, MeanField(fields, weights))]
    scores = [process.score(twice(law)) for law in laws]
    x = target.sample(KEY, DRAWS)
    np.testing.assert_allclose(stacked_flow_log_prob(stack(scores), process, GRID, x), [law.log_prob(x) for law in run[:3]], atol=1e-10)

    measured = sampled_gain(KEY, target, stack(scores), process, GRID, DRAWS, weights)
    *each, pooled = [kl(target, law).value for law in run]
    average = np.dot(weights, each)
    for estimate, truth in ((measured.average, average), (measured.ensemble, pooled), (measured.gain, average - pooled)):
        assert abs(estimate.value - truth) <= Z * estimate.error + 1e-10
    single = [np.mean(target.log_prob(x) - law.log_prob(x)) for law in run[:3]]
    np.testing.assert_allclose(measured.best.value, min(single), atol=1e-10)
    assert abs(average - 0.125) < 2e-3  # of the grid and the horizon
    assert abs(pooled) < 1e-4


def twice(law: Gaussian) -> GaussianMixture:
    """The same law as a mixture of two equal components, so that it shares the compiled programs of the mixtures below."""
    return GaussianMixture([0.3, 0.7], [law.mean] * 2, [jnp.diag(law.cov)] * 2)


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


def test_the_likelihood_of_trained_flows_agrees_with_the_exact_one(process, target, trained, untrained):
    """Its mean over draws of the target lies within its interval around minus the entropy; paired with the exact densities it is seen to fall short, by little."""
    x = target.sample(KEY, DRAWS)
    logs, exact = np.asarray(stacked_flow_log_prob(trained.model, process, GRID, x)), np.asarray(target.log_prob(x))
    entropy = target.entropy()
    assert np.all(np.mean(exact[None] - np.asarray(stacked_flow_log_prob(untrained, process, GRID, x)), axis=1) > 0.2)
    for k in range(3):
        error = np.std(logs[k], ddof=1) / DRAWS**0.5
        assert abs(np.mean(logs[k]) + entropy.value) <= Z * error + entropy.error
        short = exact - logs[k]
        assert -Z * np.std(short, ddof=1) / DRAWS**0.5 < np.mean(short) < 0.1  # nats; untrained members fall short by more than twice as much


def test_weights_move_the_mean_and_the_average(process, target, laws):
    scores = stack([process.score(law) for law in laws])
    x = target.sample(KEY, DRAWS)
    measured = sampled_gain(KEY, target, scores, process, GRID, DRAWS, weights=[0.0, 1.0, 0.0])
    second = np.mean(target.log_prob(x) - stacked_flow_log_prob(scores, process, GRID, x)[1])
    np.testing.assert_allclose([measured.average.value, measured.ensemble.value], second, rtol=1e-9)
    assert abs(measured.gain.value) < 1e-9


def test_bad_input_is_refused(process, target, laws):
    scores = stack([process.score(law) for law in laws])
    with pytest.raises(ValueError, match="`grid`: got times from 0.1 to 1"):
        sampled_gain(KEY, target, scores, process, [0.1, 1.0], DRAWS)
    with pytest.raises(ValueError, match="`weights`"):
        sampled_gain(KEY, target, scores, process, GRID, DRAWS, weights=[1.0])
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(RuntimeError, match="64-bit"):
            sampled_gain(KEY, target, scores, process, GRID, DRAWS)
    finally:
        jax.config.update("jax_enable_x64", True)
