"""Matched overlaps, the best single mask, maps of classes and STAPLE: each against a search or a loop of its own."""

import sys
from itertools import permutations, product

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import multinomial

from ensembletheory.segmentation import (
    MaskLaw,
    best_mask,
    class_ged_squared,
    class_overlap_table,
    class_overlaps,
    deterministic_floor,
    expected_hungarian_iou,
    hungarian_iou,
    hungarian_iou_of_laws,
    matched_mean,
    staple,
)
from tests.helpers import assert_within_errors
from tests.segmentation import brute

MASKS, SETS = brute.subsets(4)
RNG = np.random.default_rng(3)
LAW = MaskLaw(MASKS[[0, 3, 9, 14]], [0.1, 0.4, 0.3, 0.2])
GRADERS = MASKS[[1, 7, 8, 14]]


def transport(p, q):
    """1 - the least cost of a coupling, by linear programming."""
    (first, a), (second, b) = (zip(*brute.support(law), strict=True) for law in (p, q))
    costs = np.array([[1 - brute.jaccard(s, y) for y in second] for s in first])
    n, m = costs.shape
    sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    return 1 - linprog(costs.ravel(), A_eq=sums[:-1], b_eq=np.concatenate([a, b])[:-1], method="highs").fun


def matched(samples, graders):
    """Over all pairings of four with four."""
    return max(np.mean([brute.jaccard(samples[i], graders[j]) for i, j in enumerate(order)]) for order in permutations(range(4)))


def test_the_best_pairing_is_found_and_is_a_transport():
    samples = MASKS[RNG.integers(0, 16, (256, 4))]  # of which five by linear programming: one shape with the sum over all draws below
    found = np.asarray(hungarian_iou(samples, np.broadcast_to(GRADERS, samples.shape)))[:5]
    for value, drawn in zip(found, samples[:5], strict=True):
        assert float(value) == pytest.approx(matched([brute.as_set(mask) for mask in drawn], [brute.as_set(mask) for mask in GRADERS]), rel=1e-14)
        assert float(value) == pytest.approx(transport(MaskLaw(drawn), MaskLaw(GRADERS)), rel=1e-9)


def test_long_lists_without_a_common_factor_are_matched_as_transport():
    pytest.importorskip("ot")
    table = RNG.uniform(size=(41, 37))
    sums = np.concatenate([np.kron(np.eye(41), np.ones(37)), np.kron(np.ones(41), np.eye(37))])
    least = linprog(-table.ravel(), A_eq=sums[:-1], b_eq=np.repeat([1 / 41, 1 / 37], [41, 37])[:-1], method="highs").fun
    assert float(matched_mean(table)) == pytest.approx(-least, rel=1e-9)


def test_lists_of_other_lengths_are_repeated_to_one_length():
    samples = MASKS[[3, 5, 14, 9, 0, 6]]
    overlaps = np.array([[brute.jaccard(brute.as_set(mask), brute.as_set(grader)) for grader in GRADERS] for mask in samples])
    assert float(matched_mean(overlaps)) == pytest.approx(transport(MaskLaw(samples), MaskLaw(GRADERS)), rel=1e-9)  # 12 each
    np.testing.assert_allclose(matched_mean(np.array([[[1.0, 0.0]], [[0.2, 0.6]]])), [0.5, 0.4], rtol=1e-15)  # one sample is each grader's


def test_laws_are_matched_by_optimal_transport():
    pytest.importorskip("ot")
    law = MaskLaw(GRADERS, [0.4, 0.1, 0.2, 0.3])
    assert float(hungarian_iou_of_laws(LAW, law)) == pytest.approx(transport(LAW, law), rel=1e-9)


def test_its_mean_over_draws_is_the_sum_over_all_draws():
    which = np.array(list(product(range(4), repeat=4)))
    each = np.asarray(hungarian_iou(np.asarray(LAW.masks)[which], np.broadcast_to(GRADERS, (256, *GRADERS.shape))))
    exact = np.prod(np.asarray(LAW.weights)[which], axis=1) @ each
    assert float(expected_hungarian_iou(LAW, GRADERS, 4)) == pytest.approx(exact, rel=1e-12)
    simulated = expected_hungarian_iou(LAW, GRADERS, 4, jax.random.key(0), 500)
    assert_within_errors(simulated.value, simulated.error, exact)


def test_it_rises_with_the_draws_towards_that_of_the_law():
    means = [float(expected_hungarian_iou(LAW, GRADERS, n)) for n in (1, 2, 3, 5, 8)]
    assert np.all(np.diff(means) > 0)
    assert means[-1] < transport(LAW, MaskLaw(GRADERS))
    assert multinomial(2, np.asarray(LAW.weights)).pmf([0, 1, 1, 0]) == pytest.approx(0.24)  # a pair with two ways


graders = st.lists(st.integers(0, 2**8 - 1), min_size=1, max_size=5).map(lambda bits: np.array([[b >> i & 1 for i in range(8)] for b in bits], bool)[:, None, :])
ALL_OF_EIGHT = brute.subsets(8)[1]


@given(graders, st.integers(0, 99))
def test_no_mask_beats_the_best_union_of_regions(masks, seed):
    law = MaskLaw(masks, np.random.default_rng(seed).dirichlet(np.ones(len(masks))))
    pairs = brute.support(law)
    least = min(sum(mass * (1 - brute.jaccard(s, y)) for y, mass in pairs) for s in ALL_OF_EIGHT)
    found = best_mask(law)
    assert found.distance.kind == "closed_form"
    assert float(found.distance) == pytest.approx(least, abs=1e-13)
    assert sum(mass * (1 - brute.jaccard(brute.as_set(found.mask), y)) for y, mass in pairs) == pytest.approx(least, abs=1e-13)


def test_the_floor_of_one_mask_is_its_distance():
    law = MaskLaw(GRADERS, [0.4, 0.1, 0.2, 0.3])
    least = min(2 * sum(mass * (1 - brute.jaccard(s, y)) for y, mass in brute.support(law)) for s in SETS) - brute.mean_distance(law, law)
    assert float(deterministic_floor(law)) == pytest.approx(least, rel=1e-12)
    assert least > 0.3
    assert float(deterministic_floor(MaskLaw(GRADERS[[0, 0, 0, 0]]))) == 0


def test_many_regions_give_an_enclosure_that_holds_the_truth(monkeypatch):
    module = sys.modules["ensembletheory.segmentation.best_mask"]
    law = MaskLaw(RNG.random((9, 1, 12)) < 0.5)
    exact = best_mask(law)
    monkeypatch.setattr(module, "_MOST_REGIONS", 5)
    enclosed = best_mask(law)
    low, high = (float(enclosed.distance.value) + sign * float(enclosed.distance.error) for sign in (-1, 1))
    assert (exact.distance.kind, enclosed.distance.kind) == ("closed_form", "enclosure")
    assert 0 < low < float(exact.distance) <= high + 1e-12
    reached = np.mean([1 - brute.jaccard(brute.as_set(enclosed.mask), brute.as_set(y)) for y in np.asarray(law.masks)])
    assert reached == pytest.approx(high, rel=1e-12)


def test_classes_that_neither_map_holds_are_left_out():
    zeros, half = np.zeros((1, 4, 4), int), np.repeat([0, 1], 8).reshape(1, 4, 4)
    np.testing.assert_array_equal(np.ravel(class_overlaps(zeros, zeros, [0, 1])), [1.0, np.nan])
    np.testing.assert_array_equal(np.ravel(class_overlaps(zeros, half, [0, 1])), [0.5, 0.0])
    np.testing.assert_array_equal(class_overlap_table(zeros, half, [0, 1]), [[0.25]])
    np.testing.assert_array_equal(class_overlap_table(zeros, half, [1, 2]), [[0.0]])
    np.testing.assert_array_equal(class_overlap_table(zeros, zeros, [1, 2]), [[1.0]])  # no class at all
    assert float(class_ged_squared(zeros, half, [0, 1])) == 1.5


def test_the_mean_over_classes_tells_no_negative_distance_but_not_all_laws_apart():
    maps = np.array(list(product(range(3), repeat=3)))[:, None, :]

    def similar(a, b):
        present = [c for c in range(3) if c in a or c in b]
        return np.mean([np.sum((a == c) & (b == c)) / np.sum((a == c) | (b == c)) for c in present])

    kernel = np.array([[similar(a[0], b[0]) for b in maps] for a in maps])
    np.testing.assert_allclose(class_overlap_table(maps, maps, [0, 1, 2]), kernel, rtol=1e-14)
    values, vectors = np.linalg.eigh(kernel)
    assert values[0] > -1e-13
    blind = vectors[:, 0]  # sums to 0: the kernel's rows all have the mean overlap with themselves
    assert abs(blind.sum()) < 1e-10
    first, second = np.maximum(blind, 0), np.maximum(-blind, 0)
    p, q = first / first.sum(), second / second.sum()
    assert abs(p - q).sum() == pytest.approx(2)  # no map in common
    assert float(class_ged_squared(maps, maps, [0, 1, 2], p, q)) == pytest.approx(0, abs=1e-13)


def expectation_maximisation(masks, steps=2000):
    """STAPLE by its formulas."""
    marked = masks.reshape(len(masks), -1).astype(float)
    prior, sensitivity, specificity = marked.mean(), np.full(len(masks), 0.99999), np.full(len(masks), 0.99999)
    for _ in range(steps):
        inside = prior * np.prod(np.where(marked, sensitivity[:, None], 1 - sensitivity[:, None]), axis=0)
        outside = (1 - prior) * np.prod(np.where(marked, 1 - specificity[:, None], specificity[:, None]), axis=0)
        truth = inside / (inside + outside)
        sensitivity, specificity = marked @ truth / truth.sum(), (1 - marked) @ (1 - truth) / (1 - truth).sum()
    return truth, sensitivity, specificity


def test_staple_finds_the_fixed_point_of_its_formulas():
    pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(0)
    truth = np.add.outer(np.arange(12), np.arange(10)) < 9
    flips = rng.random((4, 12, 10)) < np.array([0.05, 0.1, 0.2, 0.3])[:, None, None]
    masks = truth ^ flips
    found = staple(masks)
    probabilities, sensitivity, specificity = expectation_maximisation(masks)
    np.testing.assert_allclose(np.asarray(found.probabilities).ravel(), probabilities, atol=1e-5)  # the filter stops at seven digits of its parameters
    np.testing.assert_allclose(found.sensitivity, sensitivity, atol=1e-5)
    np.testing.assert_allclose(found.specificity, specificity, atol=1e-5)
    assert np.mean((np.asarray(found.probabilities) > 0.5) == truth) > 0.95
    assert found.iterations > 3


def test_staple_without_its_extra_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ImportError, match=r"ensembletheory\[images\]"):
        staple(GRADERS)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: matched_mean(np.zeros((0, 2))), "overlaps.*n, m"),
        (lambda: expected_hungarian_iou(LAW, GRADERS[0], 2), "graders.*m, H, W"),
        (lambda: expected_hungarian_iou(LAW, GRADERS, 2000), "key.*Monte Carlo"),
        (lambda: class_overlaps(np.zeros((1, 2, 2)), np.zeros((1, 2, 2), int), [0]), "labels.*whole numbers"),
        (lambda: class_overlaps(np.zeros((1, 2, 2), int), np.zeros((1, 2, 3), int), [0]), "others.*one size"),
        (lambda: class_overlaps(np.zeros((1, 2, 2), int), np.zeros((1, 2, 2), int), []), "classes.*one or more"),
        (lambda: staple(np.zeros((2, 3, 3))), "masks.*some not"),
    ],
)
def test_refusals_name_the_argument_and_the_remedy(call, words):
    with pytest.raises(ValueError, match=words):
        call()
