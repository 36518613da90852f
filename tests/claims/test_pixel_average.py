"""Mixing laws against averaging pixel probabilities: margins from sums over masks, equality where the mixture is independent, mutants violated by hand."""

import numpy as np
import pytest

from ensembletheory.claims import falsify, get
from tests.claims.margins import all_mutants, assert_violated_as_said, margin

CLAIM = get("mixing-beats-pixel-average")
MASKS = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
SHARED, EITHER = MASKS @ MASKS.T, (MASKS[:, None] | MASKS[None]).sum(-1)
JACCARD = np.where(EITHER > 0, SHARED / np.maximum(EITHER, 1), 1.0)


def pools(members, weights):
    mixed = np.einsum("k,ky->y", weights, members)
    p = mixed @ MASKS
    return mixed, np.prod(p**MASKS * (1 - p) ** (1 - MASKS), axis=1)


def ged(p, q):
    return (p - q) @ JACCARD @ (p - q)


def smaller_distance_of_pools(instance):
    """What the theorem says the margin is: the distance of the mixture from independent pixels."""
    mixed, averaged = pools(**instance)
    return min(mixed @ np.log(mixed / averaged), ged(mixed, averaged))


def gain_of(truth, instance):
    mixed, averaged = pools(**instance)
    return min(truth @ np.log(mixed / averaged), ged(truth, averaged) - ged(truth, mixed))


def members(*, alone):
    """Two members with probability 1/2 a pixel, independent and all alike, and a third that has no weight."""
    independent, alike = np.full(8, 1 / 8), np.where(np.isin(MASKS.sum(1), (0, 3)), 0.5, 0.0)
    return {"members": np.stack([independent, 0.9 * alike + 0.1 / 8, np.eye(8)[3] * 0.2 + 0.1]), "weights": np.array([alone, 1 - alone, 0.0])}


MUTANTS = {
    ("mixing-beats-pixel-average", "one-member"): (members(alone=0.5), lambda instance: gain_of(instance["members"][0], instance)),
    ("mixing-beats-pixel-average", "independent-truth"): (members(alone=0.3), lambda instance: gain_of(pools(**instance)[1], instance)),
}


@pytest.mark.parametrize("seed", range(3))
def test_the_margin_is_the_distance_between_both_pools(seed):
    rng = np.random.default_rng(seed)
    instance = {"members": rng.dirichlet(np.full(8, 0.5), 3), "weights": rng.dirichlet(np.ones(3))}
    value, error = margin(CLAIM, instance)
    assert value == pytest.approx(smaller_distance_of_pools(instance), rel=1e-9)
    assert value > max(error, 1e-3)


@pytest.mark.parametrize("which", range(4))
def test_nothing_is_gained_where_the_mixture_is_independent(which):
    assert margin(CLAIM, list(CLAIM.equality())[which])[0] == pytest.approx(0, abs=1e-15)


def test_all_mutants_are_here():
    assert set(MUTANTS) == all_mutants(["mixing-beats-pixel-average"])


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated(id, name):
    instance, route = MUTANTS[id, name]
    assert_violated_as_said(id, name, instance, route, rel=1e-9)


@pytest.mark.verify
@pytest.mark.parametrize("name", CLAIM.mutants)
def test_the_search_finds_every_mutant(name):
    assert falsify(CLAIM.mutated(name)).found
