"""Learners, on the smallest there is: a point that learns the mean of its data."""

import logging

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from ensembletheory.laws import FiniteLaw, Gaussian, Law
from ensembletheory.neural import Learner, Recipe, as_data, fit, fit_ensemble, member, train
from ensembletheory.neural.data import bootstrap_sample, subset_sample
from ensembletheory.neural.training import member_keys

ROWS = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.3], [-1.0, 4.0]])
KEY = jax.random.key(3)
RECIPE = Recipe(steps=40, learning_rate=0.05, chunk=20, ema_decay=0.9)
MEMBERS = 3
RESAMPLED = {None: lambda key, law: law, "bootstrap": bootstrap_sample, 0.5: lambda key, law: subset_sample(key, law, 0.5)}


class Point(eqx.Module):
    w: Float[Array, " d"]


class Distance(eqx.Module):
    """E |w - X|^2 / 2 over four draws."""

    law: Law

    def __call__(self, model, key):
        return 0.5 * jnp.mean(jnp.sum((model.w[None] - self.law.sample(key, 4)) ** 2, axis=1))


class MeanLearner(Learner):
    scale: float = eqx.field(static=True, default=1.0)

    def initialise(self, key, law):
        return Point(law.mean + self.scale * jax.random.normal(key, (law.dim,)))

    def loss(self, law):
        return Distance(law)


def identical(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.mark.parametrize("resample", list(RESAMPLED))
def test_a_member_is_what_trains_alone_on_its_data_with_its_keys(resample):
    """Bit for bit, and so in law at every step; members differ in what they begin from, in the order of the draws and in their data."""
    law, learner = as_data(ROWS), MeanLearner()
    together = fit_ensemble(KEY, learner, ROWS, MEMBERS, RECIPE, resample)
    data_key, run = jax.random.split(KEY)
    for k, key in enumerate(jax.random.split(data_key, MEMBERS)):
        (init_key, train_key), own = member_keys(run, k), RESAMPLED[resample](key, law)
        alone = train(train_key, learner.initialise(init_key, own), learner.loss(own), RECIPE)
        assert identical((member(together.model, k), member(together.average, k), together.losses[k]), (alone.model, alone.average, alone.losses))
    assert len(np.unique(np.asarray(together.model.w)[:, 0])) == MEMBERS
    assert len(np.unique(np.asarray(together.losses)[:, -1])) == MEMBERS


def test_one_program_serves_every_ensemble_of_one_shape(caplog):
    """Whatever the keys, the data's weights, or the number of members; nothing is compiled for a second run."""
    learner = MeanLearner(0.5)
    fit_ensemble(KEY, learner, ROWS, MEMBERS, RECIPE, "bootstrap")
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        fit_ensemble(jax.random.key(9), learner, ROWS + 1, MEMBERS, RECIPE, "bootstrap")
        fit_ensemble(KEY, learner, ROWS, MEMBERS, RECIPE)
        fit(KEY, learner, ROWS, RECIPE)
    compiled = [record.getMessage() for record in caplog.records if "Finished XLA compilation of jit(_chunk)" in record.getMessage()]
    assert compiled == []
    assert any("Finished XLA compilation" in record.getMessage() for record in caplog.records)  # of what `fit` begins from: so the log is read


def test_a_bootstrap_ensemble_has_the_spread_of_bootstrap_means():
    """Trained to the end each member stands at the mean of its data. With many members: Var of the mean of n draws from n rows is their variance / n."""
    recipe = Recipe(steps=300, learning_rate=0.1, chunk=300, ema_decay=0.99)
    members = np.asarray(fit_ensemble(KEY, MeanLearner(), ROWS, 40, recipe, "bootstrap").average.w)
    expected = ROWS.var(axis=0) / len(ROWS)
    noise = (members - members.mean(axis=0)) ** 2 * 40 / 39
    assert np.all(np.abs(noise.mean(axis=0) - expected) <= 5 * noise.std(axis=0, ddof=1) / 40**0.5 + 0.1 * expected)  # what is left of the noise of the draws: under a tenth


def test_one_law_a_member(tmp_path):
    laws = [Gaussian([m], 1.0) for m in (-3.0, 0.0, 3.0)]
    trained = fit_ensemble(KEY, MeanLearner(), laws, 3, Recipe(steps=300, learning_rate=0.1, chunk=100, ema_decay=0.99), checkpoint=tmp_path / "run")
    np.testing.assert_allclose(np.asarray(trained.average.w)[:, 0], [-3.0, 0.0, 3.0], atol=0.5)
    assert (tmp_path / "run").is_file()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"members": 0}, "`members`: got 0; expected at least 1"),
        ({"data": [Gaussian([0.0], 1.0)]}, "`data`: got 1 laws for 3 members; expected one law a member"),
        ({"data": Gaussian([0.0], 1.0), "resample": "bootstrap"}, "`resample`: got 'bootstrap' of a Gaussian; expected None"),
        ({"resample": 0.1}, "`share`: got 0.1 of 4 rows"),
        ({"data": [FiniteLaw(ROWS)] * 3, "resample": "bootstrap"}, "`resample`: got 'bootstrap' with one law a member; expected None"),
        ({"resample": True}, "`resample`: got True; expected 'bootstrap', a share"),
        ({"data": FiniteLaw(ROWS, [0.0, 0.0, 0.5, 0.5]), "resample": 0.5}, "`law`: got rows of unequal weights; expected equal weights"),
        ({"resample": "jackknife"}, "`resample`: got 'jackknife'; expected 'bootstrap', a share"),
        ({"data": ROWS[:1]}, "`data`: got shape"),
    ],
)
def test_bad_input_is_refused(changed, told):
    arguments = {"key": KEY, "learner": MeanLearner(), "data": ROWS, "members": 3, "recipe": RECIPE}
    with pytest.raises(ValueError, match=told):
        fit_ensemble(**arguments | changed)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    fit(KEY, MeanLearner(), ROWS, RECIPE, tmp_path / "run")
    with pytest.raises(ValueError, match="`checkpoint`: got .*run, written with another initial model"):
        fit(KEY, MeanLearner(2.0), ROWS, RECIPE, tmp_path / "run")
