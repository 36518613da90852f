"""Weight matching: exact on plants, equal to brute force where that can be run, and never losing on the way."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensembletheory.identifiability import Permutations, SignedPermutations
from ensembletheory.neural import permutations_of, symmetry_of
from ensembletheory.neural.weights.matching import best_match, descend, overlap, starts
from tests.neural.networks import drawn

SEEDS = st.integers(0, 2**31 - 1)


def moved(layers, elements):
    """The layers (W b) moved by one matrix a hidden layer, by hand."""
    after, before = [*elements, np.eye(len(layers[-1]))], [np.eye(layers[0].shape[1] - 1), *elements]
    return [np.hstack([g @ W[:, :-1] @ h.T, g @ W[:, -1:]]) for W, g, h in zip(layers, after, before, strict=True)]


def planted_elements(rng, widths, signs):
    return [np.eye(h)[rng.permutation(h)] * (rng.choice([-1.0, 1.0], h) if signs else 1.0) for h in widths]


def pair(rng, inputs, widths, outputs):
    shapes = list(itertools.pairwise([inputs, *widths, outputs]))
    return ([rng.normal(size=(after, before + 1)) for before, after in shapes] for _ in range(2))


@pytest.mark.parametrize("widths", [(6,), (64,), (32, 32), (16, 16, 16), (16, 8, 4, 8)], ids=str)
@pytest.mark.parametrize("kind", [Permutations, SignedPermutations])
@settings(max_examples=5)
@given(seed=SEEDS)
def test_planted_elements_are_found_exactly(widths, kind, seed):
    """With two inputs only, so that incoming weights of many units are close."""
    rng = np.random.default_rng(seed)
    a, _ = pair(rng, 2, widths, 1)
    planted = planted_elements(rng, widths, kind is SignedPermutations)
    b = moved(a, [g.T for g in planted])
    for g, found in zip(planted, best_match(a, b, [kind(h) for h in widths]), strict=True):
        np.testing.assert_array_equal(found, g)


@settings(max_examples=10)
@given(seed=SEEDS)
def test_small_noise_on_the_copy_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    a, noise = pair(rng, 8, (16, 16), 4)
    planted = planted_elements(rng, (16, 16), signs=True)
    b = [layer + 0.05 * jitter for layer, jitter in zip(moved(a, [g.T for g in planted]), noise, strict=True)]
    for g, found in zip(planted, best_match(a, b, [SignedPermutations(16)] * 2), strict=True):
        np.testing.assert_array_equal(found, g)


def brute(a, b, widths, signs):
    """The largest overlap over all relabellings (and signs), by trying them."""
    patterns = [list(itertools.product((1.0, -1.0), repeat=h)) if signs else [(1.0,) * h] for h in widths]
    choices = [[(list(order), np.array(s)) for order in itertools.permutations(range(h)) for s in each] for h, each in zip(widths, patterns, strict=True)]
    best = -np.inf
    for choice in itertools.product(*choices):
        total, columns, flips = 0.0, list(range(a[0].shape[1] - 1)), np.ones(a[0].shape[1] - 1)
        for x, y, (order, s) in zip(a, b, [*choice, (list(range(len(a[-1]))), np.ones(len(a[-1])))], strict=True):
            y = s[:, None] * y[order]
            total += np.sum(x[:, :-1] * y[:, :-1][:, columns] * flips) + x[:, -1] @ y[:, -1]
            columns, flips = order, s
        best = max(best, total)
    return best


@pytest.mark.parametrize(("widths", "signs"), [((1,), True), ((4,), True), ((6,), False), ((3, 3), False), ((2, 3), True), ((2, 2, 3), False)], ids=str)
@settings(max_examples=3)
@given(seed=SEEDS)
def test_few_units_are_matched_as_by_brute_force(widths, signs, seed):
    a, b = pair(np.random.default_rng(seed), 2, widths, 1)
    kind = SignedPermutations if signs else Permutations
    found = best_match(a, b, [kind(h) for h in widths])
    assert overlap(a, b, found) == pytest.approx(brute(a, b, widths, signs), rel=1e-12)


@settings(max_examples=10)
@given(seed=SEEDS)
def test_the_overlap_is_what_the_distance_loses(seed):
    rng = np.random.default_rng(seed)
    a, b = pair(rng, 2, (3, 4, 2), 2)
    elements = planted_elements(rng, (3, 4, 2), signs=True)
    squared = sum(np.sum((x - y) ** 2) for x, y in zip(a, moved(b, elements), strict=True))
    assert squared == pytest.approx(sum(np.sum(x**2) + np.sum(y**2) for x, y in zip(a, b, strict=True)) - 2 * overlap(a, b, elements), rel=1e-12)


@pytest.mark.parametrize("kind", [Permutations, SignedPermutations])
@settings(max_examples=10)
@given(seed=SEEDS)
def test_descent_never_falls_and_ends_where_no_layer_alone_gains(kind, seed):
    rng = np.random.default_rng(seed)
    a, b = pair(rng, 2, (8, 8, 8), 1)
    groups = [kind(8)] * 3
    for start in starts(a, b, groups):
        elements, overlaps = descend(a, b, groups, start)
        assert np.all(np.diff(overlaps) >= -1e-12 * abs(overlaps[-1]))
        assert overlaps[-1] == pytest.approx(overlap(a, b, elements), rel=1e-12)
        for i in range(3):
            for _ in range(5):
                other = planted_elements(rng, (8,), kind is SignedPermutations)[0]
                assert overlap(a, b, [*elements[:i], other, *elements[i + 1 :]]) <= overlaps[-1] * (1 + 1e-12)
    assert overlap(a, b, best_match(a, b, groups)) >= max(descend(a, b, groups, start)[1][-1] for start in starts(a, b, groups)) * (1 - 1e-12)


def test_descent_from_the_identity_alone_misses_plants():
    """Why there are three starts: while most units have the wrong signs, the outgoing weights drown the incoming ones."""
    missed = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        a, _ = pair(rng, 2, (32, 32, 32), 1)
        b = moved(a, planted_elements(rng, (32, 32, 32), signs=True))
        groups = [SignedPermutations(32)] * 3
        missed += descend(a, b, groups, starts(a, b, groups)[0])[1][-1] < sum(np.sum(x**2) for x in a) * (1 - 1e-9)
    assert missed == 5


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_planted_copy_of_a_network_comes_back(activation, depth):
    rng = np.random.default_rng(0)
    network = drawn(rng, 2, 1, 24, depth, activation)
    for symmetry in (symmetry_of(network), permutations_of(network)):
        copy = symmetry.act(symmetry.group.random(jax.random.key(depth)), network)
        for x, y in zip(symmetry.aligned(network, copy).layers, symmetry.section(network).layers, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-12)
