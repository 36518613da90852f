"""Conditional score and flow matching: the loss exceeds that of the exact field by the distance from it, and a trained network comes near."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.imputation import ExactConditional
from ensembletheory.imputation.conditional_fields import ConditionalField
from ensembletheory.neural import Recipe, fit, joined_law
from ensembletheory.neural.imputation.conditional_scores import ConditionalLearner, ConditionalMatching, _apart, _missed, _over_draws, conditional_error
from ensembletheory.processes import GaussianPath, LinearInterpolant, VariancePreserving
from tests.helpers import assert_mean

LAW = et.Gaussian([0.5, -1.0], [[1.0, 1.2], [1.2, 2.0]])
OTHER = et.Gaussian([0.0, -0.5], [[1.5, 0.2], [0.2, 1.0]])
PATHS = {"score": VariancePreserving(), "velocity": LinearInterpolant()}


class Pair(ConditionalField):
    """The exact conditional field of N(mean, cov) on the plane, by the adjugate of the covariance of what is given and noised."""

    process: GaussianPath
    mean: jax.Array
    cov: jax.Array
    readout: str = eqx.field(static=True)

    def __call__(self, t, x, given, noised):
        a, variance = self.process.a(t), self.process.noise_variance(t)
        scale = jnp.where(given, 1.0, jnp.where(noised, a, 0.0))
        added = jnp.where(noised, variance, jnp.where(given, 0.0, 1.0))
        gap = jnp.where(given | noised, x - scale * self.mean, 0.0)
        first, cross, last = scale[0] ** 2 * self.cov[0, 0] + added[0], scale[0] * scale[1] * self.cov[0, 1], scale[1] ** 2 * self.cov[1, 1] + added[1]
        y = jnp.stack([last * gap[0] - cross * gap[1], first * gap[1] - cross * gap[0]]) / (first * last - cross**2)
        along_line = jnp.sqrt(variance) * y - self.mean - self.cov @ (scale * y)  # E[Z - X_0]
        return jnp.where(noised, -y if self.readout == "score" else along_line, 0.0)


def both(fields, *draw):
    """Losses of two fields, and how far they are apart, at one draw."""
    return jnp.stack([*(_missed(field, *draw) for field in fields), _apart(fields, *draw)])


@pytest.mark.parametrize("readout", ["score", "velocity"])
def test_the_loss_is_the_distance_from_the_exact_field_above_its_own(readout):
    path = PATHS[readout]
    objective = ConditionalMatching(path, LAW, readout, holes=False)
    fields = tuple(Pair(path, law.mean, law.cov, readout) for law in (OTHER, LAW))
    of_other, of_exact, apart = np.asarray(_over_draws(jax.random.key(0), both, fields, objective, 4 * 4096)).T
    assert apart.mean() > 20 * apart.std() / np.sqrt(apart.size)
    assert_mean(of_other - of_exact - apart, 0.0)


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
