"""Conditional fields against the path's own fields of conditioned laws, and what they sample against the exact conditional."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.imputation import ConditionalSampler, ExactConditional
from ensembletheory.processes import LinearInterpolant, VariancePreserving
from ensembletheory.samplers import Ddim, Heun
from ensembletheory.samplers.matched_covariance import MatchedCovariance

VP = VariancePreserving()
COV = np.array([[2.0, 0.8, -0.3], [0.8, 1.0, 0.2], [-0.3, 0.2, 0.6]])
MEAN = np.array([1.0, -1.0, 0.5])
LAW = et.Gaussian(MEAN, COV)
MIXTURE = et.GaussianMixture([0.4, 0.6], [MEAN, -MEAN], [COV, np.diag([0.5, 0.3, 1.0])])
GIVEN, POINT, TIME = jnp.array([False, True, False]), jnp.array([0.4, 0.3, -0.2]), jnp.asarray(0.3)


@pytest.mark.parametrize("kind", ["score", "velocity"])
def test_it_is_the_field_of_the_path_that_starts_from_the_conditional(kind):
    field = ExactConditional(VP, MIXTURE, kind)
    joint, alone = jax.jit(lambda: (field(TIME, POINT, GIVEN, ~GIVEN), field(TIME, POINT, GIVEN, jnp.array([True, False, False]))))()  # the last coordinate is absent
    expected = getattr(VP, kind)(MIXTURE.condition([1], [0.3]))(TIME, POINT[np.array([0, 2])])
    np.testing.assert_allclose(joint, [expected[0], 0.0, expected[1]], rtol=1e-9)
    expected = getattr(VP, kind)(MIXTURE.marginal([0, 1]).condition([1], [0.3]))(TIME, POINT[:1])
    np.testing.assert_allclose(alone, [expected[0], 0.0, 0.0], rtol=1e-9)


def test_with_exact_steps_it_samples_the_conditional_on_any_grid():
    sampler = ConditionalSampler(VP, ExactConditional(VP, LAW, "denoiser"), MatchedCovariance(), [1.0, 0.6, 0.2, 0.0])
    law = sampler.law([np.nan, 0.3, np.nan])
    gain = COV[[0, 2], 1] / COV[1, 1]
    a = np.exp(-(0.1 + 19.9 / 2) / 2)  # what is left of the data at the start, from N(0, I)
    np.testing.assert_allclose(law.mean, MEAN[[0, 2]] + gain * 1.3, atol=4 * a**1)
    np.testing.assert_allclose(law.cov, COV[np.ix_([0, 2], [0, 2])] - np.outer(gain, gain) * COV[1, 1], atol=4 * a**2)


def test_draws_keep_what_is_observed_and_by_row_depend_on_nothing_else():
    path = LinearInterpolant()
    table = np.array([[np.nan, 0.3, np.nan], [1.0, 2.0, 3.0]])
    sampler = ConditionalSampler(path, ExactConditional(path, LAW, "velocity"), Heun(), np.linspace(1.0, 0.0, 5))
    draws = np.asarray(sampler.sample(jax.random.key(0), table, 2, by_row=True))
    np.testing.assert_array_equal(draws[:, :, 1], [[0.3, 2.0]] * 2)
    np.testing.assert_array_equal(draws[:, 1], [table[1]] * 2)
    np.testing.assert_array_equal(draws, np.asarray(sampler.sample(jax.random.key(0), table[::-1], 2, by_row=True))[:, ::-1])
    assert len(np.unique(draws[:, 0, 0])) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ExactConditional(VP, LAW, "drift"), ValueError, "`kind`: got 'drift'"),
        (lambda: ConditionalSampler(VP, ExactConditional(VP, LAW), Ddim(), [1.0, 0.0]), ValueError, "`field`: got a score"),
        (lambda: ConditionalSampler(LinearInterpolant(), ExactConditional(VP, LAW, "denoiser"), Ddim(), [1.0, 0.0]), ValueError, "another process"),
        (lambda: ConditionalSampler(VP, ExactConditional(VP, LAW, "denoiser"), Ddim(), [1.0, 0.0]).law([1.0, 2.0, 3.0]), ValueError, "without a missing value"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
