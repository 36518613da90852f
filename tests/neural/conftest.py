"""A small mixture on the line, its path and a network small enough to be trained in seconds."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from ensembletheory.laws import GaussianMixture
from ensembletheory.neural import Recipe, ScoreMatching, ScoreNetwork, train_ensemble
from ensembletheory.neural.training import member_keys
from ensembletheory.processes import VariancePreserving

RECIPE = Recipe(steps=400, learning_rate=1e-2, chunk=200, ema_decay=0.98)


@pytest.fixture(scope="session")
def process():
    return VariancePreserving()


@pytest.fixture(scope="session")
def target():
    return GaussianMixture([0.4, 0.6], [[-1.5], [1.0]], [[0.2], [0.35]])


@pytest.fixture(scope="session")
def objective(process, target):
    return ScoreMatching(process, target, batch=128)


@pytest.fixture(scope="session")
def initialise(process, target):
    return lambda key: ScoreNetwork(key, process, target, width=32, depth=3)


@pytest.fixture(scope="session")
def trained(objective, initialise):
    """Three members trained on the same law."""
    return train_ensemble(jax.random.key(1), initialise, [objective] * 3, RECIPE)


@pytest.fixture(scope="session")
def untrained(initialise):
    """The members of `trained` before training."""
    keys, _ = jax.vmap(lambda k: member_keys(jax.random.key(1), k))(jnp.arange(3))
    return eqx.filter_jit(eqx.filter_vmap(initialise))(keys)


@pytest.fixture(scope="session")
def laws():
    """Three laws around the target."""
    return [GaussianMixture([w, 1 - w], [[-1.5 + m], [1.0 + m]], [[0.3], [0.4]]) for w, m in ((0.7, -0.4), (0.3, 0.4), (0.4, 0.1))]


@pytest.fixture(scope="session")
def specialists(process, laws, initialise):
    """Three members, each trained on its own law."""
    return train_ensemble(jax.random.key(1), initialise, [ScoreMatching(process, law, batch=128) for law in laws], RECIPE)


@pytest.fixture(scope="session")
def times():
    return jnp.array([1e-3, 0.1, 0.5, 1.0])
