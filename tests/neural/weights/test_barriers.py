"""Barriers and averages between two networks: by NumPy, with the cases in which they are 0 and in which the bound is attained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Array, Float
from scipy import integrate

from ensembletheory.neural import Perceptron, averaging_bound, averaging_gap, barrier, losses_along, segment, symmetry_of
from ensembletheory.neural.weights.barriers import _kinked
from tests.neural.networks import drawn, values

SEEDS = st.integers(0, 2**31 - 1)
X = np.random.default_rng(1).normal(size=(20, 2))
Y = np.sin(X[:, :1]) - X[:, 1:]


class SquaredError(eqx.Module):
    x: Float[Array, "n d"]
    y: Float[Array, "n o"]

    def __call__(self, network):
        return jnp.mean((jax.vmap(network)(self.x) - self.y) ** 2)


LOSS = SquaredError(jnp.asarray(X), jnp.asarray(Y))


def identity(x):
    return x


def pair(seed, depth=1, activation=jnp.tanh):
    rng = np.random.default_rng(seed)
    return tuple(drawn(rng, 2, 1, 4, depth, activation) for _ in range(2))


def between(a, b, t):
    return eqx.tree_at(lambda n: n.layers, a, tuple((1 - t) * x + t * y for x, y in zip(a.layers, b.layers, strict=True)))


def gap(a, b, t):
    return np.sqrt(np.mean((values(between(a, b, t), X) - (1 - t) * values(a, X) - t * values(b, X)) ** 2))


def test_losses_along_the_segment_are_those_of_mixed_weights():
    a, b = pair(0)
    got, times = barrier(LOSS, a, b, points=5), np.linspace(0, 1, 5)
    exact = np.array([np.mean((values(between(a, b, t), X) - Y) ** 2) for t in times])
    np.testing.assert_allclose(got.losses, exact, rtol=1e-12)
    excess = exact - (1 - times) * exact[0] - times * exact[-1]
    assert float(got.height) == pytest.approx(excess.max(), rel=1e-12)
    assert float(got.at) == times[np.argmax(excess)]
    for x, y in zip(segment(a, b, 0.3).layers, between(a, b, 0.3).layers, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-14)


@settings(max_examples=10)
@given(seed=SEEDS)
def test_a_relabelled_copy_has_a_barrier_before_matching_and_none_after(seed):
    a, _ = pair(seed)
    symmetry = symmetry_of(a)
    flipped = symmetry.act(-np.eye(4)[[2, 0, 3, 1]], a)
    before, after = (np.asarray(losses_along(LOSS, a, other, np.linspace(0, 1, 9))) for other in (flipped, symmetry.aligned(a, flipped)))
    np.testing.assert_allclose(before[-1], before[0], rtol=1e-12)
    np.testing.assert_allclose(after, before[0], rtol=1e-12)
    assert np.max(np.abs(before - before[0])) > 1e-3 * before[0]
    middle = between(a, flipped, 0.5)
    assert before[4] == pytest.approx(np.mean((values(middle, X) - Y) ** 2), rel=1e-12)


@settings(max_examples=10)
@given(seed=SEEDS)
def test_averaged_functions_have_no_barrier_and_affine_networks_neither(seed):
    a, b = pair(seed)
    times = np.linspace(0, 1, 9)
    averaged = np.array([np.mean(((1 - t) * values(a, X) + t * values(b, X) - Y) ** 2) for t in times])
    assert np.all(averaged <= (1 - times) * averaged[0] + times * averaged[-1] + 1e-12)
    affine = barrier(LOSS, *pair(seed, depth=0), points=9)
    assert float(affine.height) <= 1e-12
    assert np.all(np.asarray(affine.excess) <= 1e-12)


@settings(max_examples=8)
@given(seed=SEEDS, t=st.sampled_from([0.1, 0.5, 0.8]))
def test_the_gap_is_below_the_bound_and_roots_of_losses_differ_by_less(seed, t):
    a, b = pair(seed)
    got, bound = float(averaging_gap(a, b, X, t)), averaging_bound(a, b, X, t)
    assert got == pytest.approx(gap(a, b, t), rel=1e-10)
    assert got <= float(bound) + float(bound.error)
    of_weights, of_functions = (np.sqrt(np.mean((out - Y) ** 2)) for out in (values(between(a, b, t), X), (1 - t) * values(a, X) + t * values(b, X)))
    assert abs(of_weights - of_functions) <= got * (1 + 1e-9)


def test_the_bound_is_greens_integral_of_second_differences():
    a, b = pair(3)
    h = 1e-4

    def bend(s):
        return np.sqrt(np.mean((values(between(a, b, s + h), X) - 2 * values(between(a, b, s), X) + values(between(a, b, s - h), X)) ** 2)) / h**2

    exact = sum(integrate.quad(lambda s: min(s, 0.3) * (1 - max(s, 0.3)) * bend(s), *ends, epsabs=1e-8)[0] for ends in ((0, 0.3), (0.3, 1)))
    bound = averaging_bound(a, b, X, 0.3)
    assert abs(float(bound) - exact) <= float(bound.error) + 1e-6
    assert float(bound.error) < 1e-3


@pytest.mark.parametrize("t", [0.2, 0.5])
def test_two_linear_layers_attain_the_bound_and_half_of_it_is_too_little(t):
    a, b = pair(4, activation=identity)
    (W, V), (W2, V2) = a.layers, b.layers
    exact = t * (1 - t) * np.sqrt(np.mean((np.hstack([X, np.ones((20, 1))]) @ (W2 - W).T @ (V2 - V)[:, :-1].T) ** 2))
    got, bound = float(averaging_gap(a, b, X, t)), float(averaging_bound(a, b, X, t))
    assert got == pytest.approx(exact, rel=1e-12)
    assert bound == pytest.approx(exact, rel=1e-12)
    assert got > bound / 2


class Scaled(eqx.Module):
    """A network that is not a perceptron but holds one."""

    network: Perceptron
    scale: Float[Array, ""]

    def __call__(self, x):
        return self.scale * self.network(x)


def scaled(activation):
    return tuple(Scaled(network, np.asarray(size)) for network, size in zip(pair(5, activation=activation), (0.5, 2.0), strict=True))


def test_the_bound_holds_of_models_that_hold_a_smooth_perceptron():
    """phi'' has the share of the scale too: the gap by NumPy is not that of the networks alone."""
    a, b = scaled(jnp.tanh)
    middle = 1.25 * values(between(a.network, b.network, 0.5), X)
    exact = np.sqrt(np.mean((middle - 0.25 * values(a.network, X) - values(b.network, X)) ** 2))
    got, bound = float(averaging_gap(a, b, X)), averaging_bound(a, b, X)
    assert got == pytest.approx(exact, rel=1e-10)
    assert got <= float(bound) + float(bound.error)


KINKED = {"relu": jax.nn.relu, "leaky": jax.nn.leaky_relu, "hard tanh": jax.nn.hard_tanh, "relu6": jax.nn.relu6, "hard SiLU": jax.nn.hard_silu, "step": jnp.sign}
SMOOTH = {"tanh": jnp.tanh, "SiLU": jax.nn.silu, "softplus": jax.nn.softplus, "elu": jax.nn.elu, "sine": lambda x: jnp.sin(10 * x), "linear": identity}


@pytest.mark.parametrize("name", KINKED | SMOOTH)
def test_kinks_are_found_wherever_they_lie(name):
    assert _kinked((KINKED | SMOOTH)[name]) == (name in KINKED)


def test_mistakes_are_refused():
    a, b = pair(0)
    for mistake, message in (
        (lambda: barrier(LOSS, a, b, points=2), "`points`: got 2; expected at least 3"),
        (lambda: barrier(LOSS, a, pair(0, depth=2)[0]), "`b`: got a model with arrays of shapes"),
        (lambda: averaging_gap(a, pair(0, activation=jax.nn.relu)[0], X), "`b`: got a model"),
        (lambda: averaging_bound(*pair(0, activation=jax.nn.relu), X), "`a`: got a network with a kinked activation"),
        (lambda: averaging_bound(*scaled(jax.nn.hard_tanh), X), "`a`: got a network with a kinked activation"),
        (lambda: averaging_bound(*(SquaredError(LOSS.x, LOSS.y),) * 2, X), "`a`: got a SquaredError without perceptrons"),
        (lambda: losses_along(LOSS, a, b, [0.0, np.nan]), "`times`: got 1 NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            mistake()
