"""Claims about GED: margins by loops over sets of pixels, what is false without a hypothesis, and the counter-example to a metric of Dice."""

from itertools import combinations, permutations, product

import numpy as np
import pytest

from ensembletheory.claims import get, stored
from tests.claims.margins import all_mutants, assert_violated_as_said, margin
from tests.segmentation import brute

IDS = ("ged-is-mmd", "ged-separates-laws", "ged-ensemble-law", "ged-estimator-bias")
THREE, TWO = brute.subsets(3)[1], brute.subsets(2)[1]
PAIRS = [frozenset(pair) for pair in combinations(range(4), 2)]


def squared(p, q, sets=THREE, overlap=brute.jaccard):
    """2 E d(S, Y) - E d(S, S') - E d(Y, Y')."""
    distance = np.array([[1 - overlap(a, b) for b in sets] for a in sets])
    p, q = np.asarray(p), np.asarray(q)
    return 2 * p @ distance @ q - p @ distance @ p - q @ distance @ q


def by_first_pixels(p, q):
    """The average over orders of the squared difference of the laws of the first pixel."""
    total = 0.0
    for order in permutations(range(3)):
        firsts = [next((x for x in order if x in mask), None) for mask in THREE]
        total += sum(sum((a - b) for a, b, first in zip(p, q, firsts, strict=True) if first == x) ** 2 for x in (None, 0, 1, 2))
    return total / 6


def ged_is_mmd(first, second, overlap=brute.jaccard):
    return -abs(squared(first, second, overlap=overlap) - by_first_pixels(first, second))


def ged_separates_laws(first, second, least=0.0811833):
    gap = np.subtract(first, second)
    return squared(first, second) - least * gap @ gap


def ged_ensemble_law(target, members, weights, factor=0.5, power=1.0):
    members, weights = np.asarray(members), np.asarray(weights)
    pairs = sum(weights[i] * weights[j] * squared(members[i], members[j]) for i in range(3) for j in range(3))
    gap = squared(weights @ members, target) - weights @ [squared(member, target) for member in members] + factor * pairs
    sizes = [np.mean([squared(np.mean(team, axis=0), target) ** power for team in combinations(members, size)]) for size in (1, 2, 3)]
    return gap, sizes[0] - 4 * sizes[1] + 3 * sizes[2]


def ged_estimator_bias(model, graders, n=2, m=2):
    def spread(law):
        return sum(a * b * (1 - brute.jaccard(s, y)) for s, a in zip(TWO, law, strict=True) for y, b in zip(TWO, law, strict=True))

    mean = 0.0
    for i, j, k, l in product(range(4), repeat=4):
        mean += model[i] * model[j] * graders[k] * graders[l] * brute.v_statistic([TWO[i], TWO[j]], [TWO[k], TWO[l]])
    return -abs(mean - squared(model, graders, TWO) - spread(model) / n - (spread(graders) / m if m else 0.0))


NAMED = {
    "ged-is-mmd": ged_is_mmd,
    "ged-separates-laws": ged_separates_laws,
    "ged-ensemble-law": lambda **instance: -max(map(abs, ged_ensemble_law(**instance))),
    "ged-estimator-bias": ged_estimator_bias,
}


@pytest.mark.parametrize("id", IDS)
def test_margins_agree_with_a_second_route(id):
    rng = np.random.default_rng(7)
    for _ in range(3):
        instance = {name: rng.dirichlet(np.ones(part.shape[-1]), part.shape[:-1] or None) for name, part in get(id).domain.parts.items()}
        assert margin(get(id), instance)[0] == pytest.approx(NAMED[id](**instance), abs=1e-13 if id != "ged-separates-laws" else 1e-7)  # of which the constant has 6 digits


def worst():
    """The least eigenvalue on masses that sum to 0, and its eigenvector."""
    kernel, centre = np.array([[brute.jaccard(a, b) for b in THREE] for a in THREE]), np.eye(8) - 1 / 8
    values, vectors = np.linalg.eigh(centre @ kernel @ centre + np.ones((8, 8)))  # the constant has eigenvalue 8
    return values[0], vectors[:, 0]


def test_the_constant_that_separates_laws_is_the_least_eigenvalue_and_is_met():
    least, vector = worst()
    assert least == pytest.approx(0.0811833, abs=5e-8)
    pair = {"first": 1 / 8 + 0.2 * vector, "second": 1 / 8 - 0.2 * vector}
    assert margin(get("ged-separates-laws"), pair)[0] == pytest.approx(0, abs=1e-14)
    assert margin(get("ged-separates-laws"), {"first": FULL, "second": EMPTY})[0] == pytest.approx(2 - 2 * least)


EMPTY = np.eye(8)[0]
FULL = np.eye(8)[7]
MEMBERS = np.eye(8)[[1, 2, 4]]
WORST = worst()[1] / np.maximum(worst()[1], 0).sum()
MUTANTS = [
    ("ged-is-mmd", "dice", {"first": (FULL + np.eye(8)[1]) / 2, "second": np.eye(8)[3]}, lambda i: ged_is_mmd(**i, overlap=brute.dice)),
    ("ged-is-mmd", "empty-masks-differ", {"first": EMPTY, "second": FULL}, lambda i: ged_is_mmd(**i, overlap=lambda a, b: brute.jaccard(a, b, 0.0))),
    ("ged-separates-laws", "larger-constant", {"first": np.maximum(WORST, 0), "second": np.maximum(-WORST, 0)}, lambda i: ged_separates_laws(**i, least=1.1 * worst()[0])),
    ("ged-ensemble-law", "whole-diversity", {"target": FULL, "members": MEMBERS, "weights": [0.5, 0.25, 0.25]}, lambda i: -abs(ged_ensemble_law(**i, factor=1.0)[0])),
    ("ged-ensemble-law", "roots", {"target": FULL, "members": MEMBERS, "weights": [0.5, 0.25, 0.25]}, lambda i: -abs(ged_ensemble_law(**i, power=0.5)[1])),
    ("ged-estimator-bias", "samples-only", {"model": [1.0, 0.0, 0.0, 0.0], "graders": [0.0, 0.5, 0.5, 0.0]}, lambda i: ged_estimator_bias(**i, m=None)),
    ("ged-estimator-bias", "one-sample-less", {"model": [0.5, 0.25, 0.0, 0.25], "graders": [0.0, 0.5, 0.5, 0.0]}, lambda i: ged_estimator_bias(**i, n=1, m=1)),
]


@pytest.mark.parametrize(("id", "name", "instance", "route"), MUTANTS)
def test_every_mutant_is_violated_as_said(id, name, instance, route):
    assert_violated_as_said(id, name, instance, route, rel=1e-9)


def test_every_mutant_is_tried():
    assert {(id, name) for id, name, _, _ in MUTANTS} == all_mutants(IDS)


def test_the_stored_counterexample_refutes_dice_for_every_constant():
    claim = get("dice-ged-metric")
    instance = {name: np.asarray(value, dtype=float) for name, value in stored.read_instance(stored.counterexample_path(claim)).items()}
    assert squared(**{"p": instance["first"], "q": instance["second"]}, sets=PAIRS, overlap=brute.dice) == pytest.approx(0, abs=1e-15)
    value = squared(instance["first"], instance["second"], PAIRS)
    assert value == pytest.approx(1 / 9)
    assert margin(claim, instance)[0] == pytest.approx(-value / 10)
