"""Conditional score and flow matching: the loss exceeds that of the exact field by the distance from it, and a trained network comes near."""

import jax
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.imputation import ExactConditional
from ensembletheory.neural import Recipe, fit, joined_law
from ensembletheory.neural.imputation.conditional_scores import ConditionalLearner, ConditionalMatching, _apart, _missed, _over_draws, conditional_error
from ensembletheory.processes import LinearInterpolant, VariancePreserving
from tests.helpers import assert_mean

LAW = et.Gaussian([0.5, -1.0], [[1.0, 1.2], [1.2, 2.0]])
OTHER = et.Gaussian([0.0, -0.5], [[1.5, 0.2], [0.2, 1.0]])
PATHS = {"score": VariancePreserving(), "velocity": LinearInterpolant()}


@pytest.mark.parametrize("readout", ["score", "velocity"])
def test_the_loss_is_the_distance_from_the_exact_field_above_its_own(readout):
    path = PATHS[readout]
    objective = ConditionalMatching(path, LAW, readout, holes=False)
    exact, other = ExactConditional(path, LAW, readout), ExactConditional(path, OTHER, readout)
    key = jax.random.key(0)
    above = np.asarray(_over_draws(key, _missed, other, objective, 20_000)) - np.asarray(_over_draws(key, _missed, exact, objective, 20_000))
    apart = np.asarray(_over_draws(key, _apart, (other, exact), objective, 20_000))
    assert apart.mean() > 20 * apart.std() / np.sqrt(apart.size)
    assert_mean(above - apart, 0.0)


@pytest.mark.verify
@pytest.mark.parametrize("readout", ["score", "velocity"])
def test_a_network_learns_the_conditional_field_from_rows_with_holes(readout):
    path = PATHS[readout]
    rows = np.array(LAW.sample(jax.random.key(1), 4000))
    rows[np.random.default_rng(0).random(rows.shape) < 0.2] = np.nan
    learner = ConditionalLearner(path, readout, width=32, depth=2)
    trained = fit(jax.random.key(2), learner, joined_law(rows), Recipe(steps=1000, learning_rate=5e-3, chunk=500))
    objective, exact = ConditionalMatching(path, LAW, readout, holes=False), ExactConditional(path, LAW, readout)
    untrained = learner.initialise(jax.random.key(3), joined_law(rows))
    before, after = (conditional_error(jax.random.key(4), field, exact, objective, 4000) for field in (untrained, trained.average))
    assert float(after) < 0.05 * float(before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ConditionalMatching(PATHS["score"], LAW, "denoiser"), "`readout`: got 'denoiser'"),
        (lambda: ConditionalMatching(PATHS["score"], LAW, "score", start=0.0), "`start`: got 0"),
        (lambda: ConditionalMatching(PATHS["score"], LAW, "score", batch=0), "`batch`: got 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message if "denoiser" not in message else "denoiser"):
        call()
