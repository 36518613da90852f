"""Symmetries of perceptrons: the function stays for any weights, the quotient is a metric, and the check says of a network what Sussmann's theorem says."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembletheory.fields import MeanField
from ensembletheory.identifiability import Permutations, PositiveMonomial, Product, SignedPermutations, check
from ensembletheory.identifiability.axioms import action_defects, metric_defects
from ensembletheory.laws import standard_normal
from ensembletheory.neural import (
    OnNormalInputs,
    PerceptronSymmetry,
    ScoreNetwork,
    average_weights,
    matched,
    permutations_of,
    stack,
    symmetry_of,
)
from ensembletheory.processes import VariancePreserving
from tests.neural.networks import drawn, planted, relabelled, values

KINDS = {jnp.tanh: SignedPermutations, jax.nn.relu: PositiveMonomial, jax.nn.silu: Permutations}
CASES = [(activation, depth) for activation in KINDS for depth in (1, 2, 3)]
SEEDS = st.integers(0, 2**31 - 1)
X = np.random.default_rng(1).normal(size=(5, 3))


def layers_of(network):
    return eqx.tree_at(lambda n: n.layers, network, tuple(np.asarray(layer) for layer in network.layers))


@pytest.mark.parametrize(("activation", "depth"), CASES)
def test_the_group_is_that_of_the_activation(activation, depth):
    network = drawn(np.random.default_rng(0), 3, 2, 4, depth, activation)
    assert symmetry_of(network).group == Product((KINDS[activation](4),) * depth)
    assert permutations_of(network).group == Product((Permutations(4),) * depth)


@pytest.mark.parametrize(("activation", "depth"), CASES)
@settings(max_examples=6)
@given(seed=SEEDS, scale=st.floats(0.1, 3.0))
def test_any_element_leaves_the_function_of_any_weights(activation, depth, seed, scale):
    network = drawn(np.random.default_rng(seed), 3, 2, 4, depth, activation, scale)
    symmetry = symmetry_of(network)
    g = symmetry.group.random(jax.random.key(seed))
    moved, before = symmetry.act(g, network), values(network, X)
    np.testing.assert_allclose(values(moved, X), before, atol=1e-12 * max(1.0, np.max(np.abs(before))) * 1e2**depth)
    assert not np.allclose(moved.layers[0], network.layers[0]) or np.array_equal(g, symmetry.group.identity)


@pytest.mark.parametrize(("activation", "wrong"), [(jax.nn.relu, SignedPermutations), (jax.nn.silu, PositiveMonomial), (jnp.tanh, PositiveMonomial)])
def test_the_group_of_another_activation_changes_the_function(activation, wrong):
    network = drawn(np.random.default_rng(0), 3, 2, 4, 1, activation)
    symmetry = PerceptronSymmetry(Product((wrong(4),)))
    moved = symmetry.act(symmetry.group.random(jax.random.key(1)), network)
    assert np.max(np.abs(values(moved, X) - values(network, X))) > 0.1


@pytest.mark.parametrize(("activation", "depth"), CASES)
def test_axioms_of_action_and_quotient_metric(activation, depth):
    rng = np.random.default_rng(2)
    networks = [drawn(rng, 2, 1, 2, depth, activation) for _ in range(3)]
    symmetry = symmetry_of(networks[0])
    elements = [symmetry.group.random(jax.random.key(seed)) for seed in range(3)]
    assert max(action_defects(symmetry, elements, networks).values()) < 1e-12
    assert max(metric_defects(symmetry, elements, networks).values()) < 1e-7  # distances of 0 are known to the root of rounding


@settings(max_examples=10)
@given(seed=SEEDS)
def test_the_distance_of_tanh_networks_is_the_minimum_over_all_relabellings_and_signs(seed):
    rng = np.random.default_rng(seed)
    a, b = (drawn(rng, 2, 2, 3, 1, jnp.tanh) for _ in range(2))
    images = [relabelled(b, list(order), np.array(signs)) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]
    brute = min(np.sqrt(sum(np.sum((x - y) ** 2) for x, y in zip(a.layers, image.layers, strict=True))) for image in images)
    assert symmetry_of(a).distance(a, b) == pytest.approx(brute, rel=1e-12)


@pytest.mark.parametrize("depth", [1, 2])
def test_relu_networks_are_compared_with_incoming_weights_of_length_one(depth):
    network = drawn(np.random.default_rng(3), 3, 2, 4, depth, jax.nn.relu)
    symmetry = symmetry_of(network)
    section = symmetry.section(network)
    for layer in section.layers[:-1]:
        np.testing.assert_allclose(np.linalg.norm(layer, axis=1), 1, rtol=1e-14)
    np.testing.assert_allclose(values(section, X), values(network, X), rtol=1e-12)
    moved = symmetry.act(symmetry.group.random(jax.random.key(1)), network)
    assert symmetry.distance(network, moved) < 1e-7
    for x, y in zip(symmetry.aligned(network, moved).layers, section.layers, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-12)


FIRST, LAST = [[1.5, 0.3, 0.4], [-0.5, 1.2, -0.6]], [[1.0, -1.4, 0.3]]


def around(layers, activation, spread):
    """Draws near a planted network."""

    def draw(key):
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        return planted(*(np.asarray(layer) + spread * rng.normal(size=np.shape(layer)) for layer in layers), activation=activation)

    return draw


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu])
def test_one_line_says_that_a_network_is_identified_up_to_its_symmetries(activation):
    draw = around((FIRST, LAST), activation, 0.2)
    report = check(OnNormalInputs(2), symmetry_of(draw(jax.random.key(0))), draw, points=2, searches=3)
    assert report.holds, str(report)
    assert report.exponent == 1
    assert report.reached > 0


def test_relabellings_alone_do_not_identify_a_tanh_network():
    network = planted(FIRST, LAST, activation=jnp.tanh)
    symmetry = symmetry_of(network)
    report = check(OnNormalInputs(2), permutations_of(network), lambda key: symmetry.act(symmetry.group.random(key), network), points=2, searches=4)
    assert report.invariant
    assert report.suspects
    for pair in report.suspects:
        np.testing.assert_allclose(values(pair.a, X[:, :2]), values(pair.b, X[:, :2]), atol=1e-6)


CONTROLS = {
    "idle unit": ((FIRST, [[1.0, 0.0, 0.3]]), jnp.tanh),
    "dead unit": (([FIRST[0], [0.1, 0.1, -3.0]], LAST), jax.nn.relu),
    "twins": (([FIRST[0], FIRST[0]], LAST), jnp.tanh),
    "a unit and its negative": (([FIRST[0], [-w for w in FIRST[0]]], LAST), jnp.tanh),
    "constant unit": (([FIRST[0], [0.0, 0.0, 0.7]], LAST), jnp.tanh),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if i < 2 else pytest.mark.verify) for i, name in enumerate(CONTROLS)])
def test_networks_that_can_be_reduced_are_not_identified(name):
    layers, activation = CONTROLS[name]
    network = planted(*layers, activation=activation)
    report = check(OnNormalInputs(2), symmetry_of(network), [network], searches=3)
    assert report.invariant
    assert not report.holds, str(report)
    assert report.suspects
    assert report.suspects[0].quotient > 0.05
    assert "not identified up to" in report.verdict


def test_averages_of_scores_need_no_alignment_and_averages_of_weights_do():
    """K score networks in other coordinates of their hidden layers: the averaged score is the same field, the field of averaged weights is another."""
    process = VariancePreserving()
    score = eqx.filter_jit(lambda key: ScoreNetwork(key, process, standard_normal(2), width=4, depth=2))(jax.random.key(0))
    rng = np.random.default_rng(0)
    networks = [jax.tree.map(lambda layer: rng.normal(size=layer.shape), score.network) for _ in range(3)]
    symmetry = symmetry_of(networks[0])
    moved = [symmetry.act(symmetry.group.random(jax.random.key(seed)), network) for seed, network in enumerate(networks)]

    @eqx.filter_jit
    def at(perceptrons):
        """The averaged field, and the field of the averaged weights, of scores with these networks."""
        with_network = lambda network: eqx.tree_at(lambda s: s.network, score, network)  # noqa: E731
        scores = stack([with_network(jax.tree.map(jnp.asarray, perceptron)) for perceptron in perceptrons])
        fields = MeanField(scores), with_network(jax.tree.map(lambda *layers: sum(layers) / 3, *perceptrons))
        return [jax.vmap(lambda x: field(jnp.asarray(0.4), x))(jnp.asarray(X[:, :2])) for field in fields]  # noqa: B023

    (functions, weights), (functions_moved, weights_moved) = (map(np.asarray, at(each)) for each in (networks, moved))
    np.testing.assert_allclose(functions_moved, functions, rtol=1e-12)
    assert np.max(np.abs(weights_moved - weights)) > 0.05


def test_matched_averages_do_not_depend_on_labels_and_return_copies_to_themselves():
    rng = np.random.default_rng(5)
    network = drawn(rng, 3, 2, 4, 2, jnp.tanh)
    symmetry = symmetry_of(network)
    copies = [symmetry.act(symmetry.group.random(jax.random.key(seed)), network) for seed in range(4)]
    average = average_weights(copies, [0.1, 0.2, 0.3, 0.4], symmetry)
    assert symmetry.distance(network, average) < 1e-6
    raw = average_weights(copies, [0.1, 0.2, 0.3, 0.4])
    for k, layer in enumerate(raw.layers):
        np.testing.assert_allclose(layer, np.average([copy.layers[k] for copy in copies], axis=0, weights=[0.1, 0.2, 0.3, 0.4]), rtol=1e-13)
    assert np.max(np.abs(values(raw, X) - values(network, X))) > 0.1
    for image in matched(network, copies):
        np.testing.assert_allclose(values(image, X), values(network, X), atol=1e-12)


def test_rounds_of_matching_end_below_one_round():
    """sum_k |average - member_k|^2 after all rounds is at most that after matching to the first member."""
    rng = np.random.default_rng(6)
    networks = [drawn(rng, 2, 1, 3, 1, jnp.tanh) for _ in range(5)]
    symmetry = symmetry_of(networks[0])

    def spread(average):
        return sum(symmetry.distance(average, network) ** 2 for network in networks)

    once = average_weights(matched(networks[0], networks))
    assert spread(average_weights(networks, symmetry=symmetry)) <= spread(once) * (1 + 1e-12)


def test_arrays_keep_their_kind_and_precision_and_can_be_traced():
    network = drawn(np.random.default_rng(0), 3, 2, 4, 1, jnp.tanh)
    symmetry = symmetry_of(network)
    g = symmetry.group.random(jax.random.key(0))
    single = jax.tree.map(lambda layer: jnp.asarray(layer.astype(np.float32)), network)
    moved = symmetry.act(g, single)
    assert all(isinstance(layer, jax.Array) and layer.dtype == jnp.float32 for layer in moved.layers)
    assert all(isinstance(layer, np.ndarray) for layer in symmetry.act(g, network).layers)
    traced = jax.jit(lambda n: symmetry.act(g, n))(single)
    for x, y in zip(traced.layers, moved.layers, strict=True):
        np.testing.assert_array_equal(x, y)


FURTHER = [
    (jax.nn.sigmoid, r"with f\(-x\) = 1 - f\(x\)"),
    (lambda x: jnp.exp(-(x**2)), "that is even"),
    (jnp.abs, "that is even"),
    (lambda x: x**3, r"with f\(c x\) proportional to f\(x\)"),
    (lambda x: jax.nn.relu(x) ** 2, r"with f\(c x\) proportional to f\(x\)"),
]


def test_what_is_refused_has_symmetries_that_relabellings_miss():
    """A unit of each kind with other weights and the same function: its sign turned (the bias shifted), or its weights doubled and its share divided."""
    u = np.random.default_rng(0).normal(size=50)
    for (f, _), share, scale, shift in zip(FURTHER, (-1, 1, 1, 1 / 8, 1 / 4), (-1, -1, -1, 2, 2), (1, 0, 0, 0, 0), strict=True):
        np.testing.assert_allclose(share * np.asarray(f(scale * u)) + shift, np.asarray(f(u)), rtol=1e-12)


def _mistakes():
    rng = np.random.default_rng(0)
    network, other = drawn(rng, 3, 2, 4, 1, jnp.tanh), drawn(rng, 3, 2, 5, 1, jnp.tanh)
    dead = planted([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]], activation=jax.nn.relu)
    return [
        (lambda: symmetry_of(drawn(rng, 3, 2, 4, 0, jnp.tanh)), "`network`: got a perceptron without hidden layers"),
        (lambda: symmetry_of(jax.tree.map(lambda layer: layer[None], network)), r"`network`: got layers of shape \(1, 4, 4\); expected one network"),
        (lambda: symmetry_of(drawn(rng, 3, 2, 4, 1, lambda x: 2 * x)), "`network`: got a linear activation"),
        *((lambda f=f: symmetry_of(drawn(rng, 3, 2, 4, 1, f)), f"`network`: got an activation {words}") for f, words in FURTHER),
        (lambda: symmetry_of(network).act(np.eye(4), other), r"`parameters`: got hidden layers of widths \[5\]; expected \[4\]"),
        (lambda: symmetry_of(network).distance(network, drawn(rng, 2, 2, 4, 1, jnp.tanh)), "`b`: got layers of shapes"),
        (lambda: symmetry_of(dead).section(dead), "`parameters`: got a unit of hidden layer 1 without weights"),
        (lambda: average_weights([]), "`networks`: got none"),
        (lambda: average_weights([network, other]), r"`networks\[1\]`: got arrays of shapes"),
        (lambda: average_weights([network] * 2, [0.5, 0.6]), "`weights`"),
        (lambda: OnNormalInputs(9), "`inputs and nodes`: got 9 and 12"),
    ]


@pytest.mark.parametrize(("mistake", "message"), _mistakes())
def test_mistakes_are_refused(mistake, message):
    with pytest.raises(ValueError, match=message):
        mistake()
