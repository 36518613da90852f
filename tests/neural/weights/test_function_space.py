"""Distances of functions under N(0, I): against the arc-cosine kernel, SciPy on the line, and NumPy rules in the plane."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from ensembletheory.neural import OnNormalInputs, function_distance_squared, symmetry_of
from tests.helpers import assert_mean
from tests.neural.networks import drawn, planted, values


def without_biases(network):
    return eqx.tree_at(lambda n: n.layers, network, tuple(np.hstack([layer[:, :-1], np.zeros((len(layer), 1))]) for layer in network.layers))


def relu_pair(seed=0, inputs=3, outputs=2, width=4):
    rng = np.random.default_rng(seed)
    return tuple(drawn(rng, inputs, outputs, width, 1, jax.nn.relu) for _ in range(2))


def test_without_biases_it_is_the_arc_cosine_kernel():
    a, b = (without_biases(network) for network in relu_pair())
    w, v = np.concatenate([a.layers[0], b.layers[0]])[:, :-1], np.hstack([a.layers[1], -b.layers[1]])[:, [0, 1, 2, 3, 5, 6, 7, 8]]
    lengths = np.linalg.norm(w, axis=1)
    angle = np.arccos(np.clip(w @ w.T / np.outer(lengths, lengths), -1, 1))
    kernel = np.outer(lengths, lengths) * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    got = function_distance_squared(a, b)
    assert got.kind == "quadrature"
    assert float(got) == pytest.approx(np.trace(v @ kernel @ v.T), rel=1e-12)
    assert float(got.error) < 1e-12


@pytest.mark.parametrize("seed", [1, 2])
def test_with_biases_on_the_line_it_is_the_integral(seed):
    a, b = relu_pair(seed, inputs=1, outputs=1)
    kinks = sorted(x for network in (a, b) for x in -network.layers[0][:, 1] / network.layers[0][:, 0] if abs(x) < 12)
    square = lambda x: ((values(a, np.array([[x]])) - values(b, np.array([[x]])))[0, 0]) ** 2 * stats.norm.pdf(x)  # noqa: E731
    ends = [-14.0, *kinks, 14.0]
    exact = sum(integrate.quad(square, *piece, epsabs=1e-14, epsrel=1e-12)[0] for piece in pairwise(ends))
    got = function_distance_squared(a, b)
    assert abs(float(got) - exact) <= float(got.error) + 1e-11


def test_with_biases_in_three_dimensions_it_is_the_mean_over_draws():
    a, b = relu_pair(3)
    x = np.random.default_rng(0).normal(size=(400_000, 3))
    assert_mean(np.sum((values(a, x) - values(b, x)) ** 2, axis=1), float(function_distance_squared(a, b)))


def test_constant_and_opposite_and_equal_units_have_their_values():
    """relu(x) - relu(-x) - x = 0, relu(x) + relu(-x) = |x|, and a unit without inputs is a constant."""
    line = planted([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], [[1.0, -1.0, 0.5, 3.0, -1.0]], activation=jax.nn.relu)  # x
    size = planted([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0], [0.0, 0.0]], [[1.0, 1.0, 7.0, 3.0, 0.0]], activation=jax.nn.relu)  # |x|
    zero = planted([[1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [0.0, 0.0]], [[1.0, -1.0, 0.0, 3.0, 0.0]], activation=jax.nn.relu)  # 0
    assert float(function_distance_squared(line, zero)) == pytest.approx(1, rel=1e-12)
    assert float(function_distance_squared(size, zero)) == pytest.approx(1, rel=1e-12)
    assert float(function_distance_squared(line, size)) == pytest.approx(2, rel=1e-12)  # E (x - |x|)^2 = 4 E x^2 1(x < 0)


def test_its_slope_is_that_of_differences_also_for_a_unit_without_inputs():
    a, b = relu_pair(8, inputs=1, outputs=1)
    a = eqx.tree_at(lambda n: n.layers[0], a, np.vstack([[0.0, 0.7], a.layers[0][1:]]))
    distance = lambda first, last: function_distance_squared(eqx.tree_at(lambda n: n.layers, a, (first, last)), b).value  # noqa: E731
    slopes = jax.jit(jax.grad(distance, argnums=(0, 1)))(*a.layers)
    rng, h = np.random.default_rng(0), 1e-6
    steps = [rng.normal(size=layer.shape) for layer in a.layers]
    up, down = (float(distance(*(layer + sign * h * step for layer, step in zip(a.layers, steps, strict=True)))) for sign in (1, -1))
    assert sum(np.sum(slope * step) for slope, step in zip(slopes, steps, strict=True)) == pytest.approx((up - down) / (2 * h), rel=1e-6)


def test_networks_of_one_orbit_are_at_distance_zero():
    a, _ = relu_pair(4)
    symmetry = symmetry_of(a)
    got = function_distance_squared(a, symmetry.act(symmetry.group.random(jax.random.key(0)), a))
    assert abs(float(got)) <= float(got.error) < 1e-10


def test_tanh_networks_on_the_line_by_another_rule():
    rng = np.random.default_rng(5)
    a, b = (drawn(rng, 1, 2, 3, 2, jnp.tanh) for _ in range(2))
    x = np.linspace(-12, 12, 4001)[:, None]
    exact = np.sum((values(a, x) - values(b, x)) ** 2 * stats.norm.pdf(x)) * (x[1, 0] - x[0, 0])  # trapezoid: geometric convergence
    got = function_distance_squared(a, b)
    assert abs(float(got) - exact) <= float(got.error) + 1e-10


def test_vectors_of_values_are_as_far_apart_as_the_functions():
    rng = np.random.default_rng(6)
    a, b = (drawn(rng, 2, 2, 3, 1, jnp.tanh, 0.5) for _ in range(2))
    x, w = np.polynomial.hermite_e.hermegauss(40)
    points, weights = np.stack([axis.ravel() for axis in np.meshgrid(x, x)], axis=1), np.outer(w, w).ravel() / w.sum() ** 2
    exact = weights @ np.sum((values(a, points) - values(b, points)) ** 2, axis=1)
    observe = eqx.filter_jit(OnNormalInputs(2, nodes=24))
    left, right = (np.asarray(observe(network)) for network in (a, b))
    assert np.sum((left - right) ** 2) == pytest.approx(exact, rel=1e-6)


def test_in_three_dimensions_other_networks_need_a_key():
    rng = np.random.default_rng(7)
    a, b = (drawn(rng, 3, 1, 3, 1, jnp.tanh) for _ in range(2))
    with pytest.raises(ValueError, match="`key`: got None"):
        function_distance_squared(a, b)
    got, x = function_distance_squared(a, b, jax.random.key(0), samples=20_000), rng.normal(size=(200_000, 3))
    draws = np.sum((values(a, x) - values(b, x)) ** 2, axis=1)
    assert got.kind == "monte_carlo"
    assert abs(float(got) - draws.mean()) <= 5 * np.hypot(float(got.error), draws.std() / np.sqrt(len(draws)))
    with pytest.raises(ValueError, match="`b`: got 2 inputs and 1 outputs; expected 3 and 1"):
        function_distance_squared(a, drawn(rng, 2, 1, 3, 1, jnp.tanh))
