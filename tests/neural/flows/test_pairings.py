from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from jaxtyping import Array, Float
from scipy import stats

from ensembletheory.fields import Field
from ensembletheory.laws import FiniteLaw
from ensembletheory.neural import FlowMatching, IndependentPairs, TransportedPairs
from ensembletheory.processes import LinearInterpolant
from ensembletheory.processes.couplings import minibatch_correlation
from tests.helpers import assert_mean

pair = jax.jit(lambda data, source, size: TransportedPairs(size)(data, source), static_argnums=2)


def cost(data, source):
    return np.sum((np.asarray(data) - np.asarray(source)) ** 2)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_small_batches_are_matched_as_the_best_of_all_permutations(d, seed):
    data, source = np.random.default_rng(seed).normal(size=(2, 6, d))
    got = pair(data, source, None)
    assert cost(data, got) == pytest.approx(min(cost(data, source[list(order)]) for order in permutations(range(6))), rel=1e-12)
    np.testing.assert_array_equal(np.sort(np.asarray(got), axis=0), np.sort(source, axis=0))


def test_large_batches_cost_what_the_network_simplex_says():
    data, source = np.random.default_rng(0).normal(size=(2, 64, 3))
    weights = np.full(64, 1 / 64)
    assert cost(data, pair(data, source, None)) / 64 == pytest.approx(ot.emd2(weights, weights, ot.dist(data, source)), rel=1e-10)


def test_groups_are_matched_each_by_itself():
    data, source = np.random.default_rng(1).normal(size=(2, 12, 2))
    apart = [pair(data[i : i + 6], source[i : i + 6], None) for i in (0, 6)]
    np.testing.assert_array_equal(pair(data, source, 6), np.concatenate(apart))
    np.testing.assert_array_equal(IndependentPairs()(jnp.asarray(data), jnp.asarray(source)), source)


def test_between_gaussians_on_the_line_the_pairs_have_the_known_correlation_and_the_marginals_stay():
    size = 8
    data, source = np.random.default_rng(2).normal(size=(2, 40_000, 1))
    got = np.asarray(pair(data, source, size))
    assert_mean(np.mean((data * got).reshape(-1, size), axis=1), float(minibatch_correlation(size).value))
    assert stats.kstest(got[:, 0], "norm").pvalue > 1e-6


class Time(Field):
    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.broadcast_to(t, x.shape)


def test_times_are_independent_of_the_pairs_even_among_equal_data_points():
    """Ties are broken by rows, which times must not follow: E (t - X_1)^2 = 1/3 + 1, and were t and X_1 in one order, 2 E t X_1 = 1 / sqrt(pi) less."""
    objective = FlowMatching(LinearInterpolant(), FiniteLaw(np.zeros((2, 1))), TransportedPairs(), batch=64, start=0.0)
    losses = jax.jit(jax.vmap(lambda key: objective(Time(), key)))(jax.random.split(jax.random.key(0), 500))
    assert_mean(losses, 4 / 3)
    assert np.std(losses) < 0.3 / np.sqrt(np.pi) * np.sqrt(500) / 5  # enough to tell the two


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="`size`: got 0"):
        TransportedPairs(0)
    with pytest.raises(ValueError, match="`size`: got 5 for a batch of 12; expected a divisor"):
        TransportedPairs(5)(np.zeros((12, 1)), np.zeros((12, 1)))
