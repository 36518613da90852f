"""The energy distance of laws of masks: by loops over sets, as a maximum mean discrepancy, for ensembles, with other overlaps, and from samples."""

from itertools import combinations, product

import equinox as eqx
import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembletheory.gains import size_law
from ensembletheory.segmentation import (
    MaskDistribution,
    MaskLaw,
    dice,
    dice_blind_pair,
    diversity,
    diversity_of_pool,
    diversity_of_samples,
    expected_v_statistic,
    ged_decomposition,
    ged_squared,
    ged_u_statistic,
    ged_v_statistic,
    jaccard_empty_differs,
    size_marginals,
)
from tests.helpers import assert_within_errors
from tests.segmentation import brute

MASKS, SETS = brute.subsets(4)
DIFFERS = jaccard_empty_differs


def random_law(seed, m=4):
    """A law of m masks of four pixels, one of them empty."""
    rng = np.random.default_rng(seed)
    return MaskLaw(MASKS[np.append(0, rng.choice(np.arange(1, 16), m - 1, replace=False))], rng.dirichlet(np.ones(m)))


def empty_mass(law):
    return sum(mass for mask, mass in brute.support(law) if not mask)


P, Q, R, TARGET = (random_law(seed) for seed in range(4))
laws = st.tuples(st.lists(st.integers(0, 15), min_size=4, max_size=4), st.lists(st.integers(1, 9), min_size=4, max_size=4)).map(
    lambda parts: MaskLaw(MASKS[np.array(parts[0])], np.array(parts[1]) / np.sum(parts[1]))
)


@given(laws, laws)
def test_it_is_the_sum_over_pairs_of_masks_and_zero_for_equal_laws_only(p, q):
    value = float(ged_squared(p, q))
    assert value == pytest.approx(brute.ged_squared(p, q), abs=1e-14)
    masses = [{mask: sum(mass for other, mass in brute.support(law) if other == mask) for mask in SETS} for law in (p, q)]
    gap = np.array([masses[0][mask] - masses[1][mask] for mask in SETS])
    assert value >= 0.0196 * gap @ gap - 1e-14  # the least eigenvalue of the kernel on 16 masks
    assert float(ged_squared(p, p)) < 1e-15


@pytest.mark.parametrize("pair", [(P, Q), (Q, P), (P, TARGET)])
def test_other_overlaps_have_their_own_distance(pair):
    p, q = pair
    assert float(ged_squared(p, q, dice)) == pytest.approx(brute.ged_squared(p, q, brute.dice), rel=1e-12)
    assert float(ged_squared(p, q, DIFFERS)) == pytest.approx(brute.ged_squared(p, q, lambda a, b: brute.jaccard(a, b, 0.0)), rel=1e-12)
    assert float(ged_squared(p, q, DIFFERS)) == pytest.approx(float(ged_squared(p, q)) - (empty_mass(p) - empty_mass(q)) ** 2, rel=1e-12)
    assert abs(empty_mass(p) - empty_mass(q)) > 0.1


def test_where_empty_masks_differ_one_mask_is_diverse():
    nothing = MaskLaw(np.zeros((4, 1, 4)))
    assert float(diversity(nothing)) == 0
    assert float(diversity(nothing, DIFFERS)) == 1
    assert float(ged_squared(nothing, nothing, DIFFERS)) == 0
    assert float(expected_v_statistic(nothing, nothing, 2, overlap=DIFFERS)) == 0  # of the self-pairs, too


def test_dice_sees_sizes_and_pixels_and_nothing_else():
    tables = [np.asarray(size_marginals(law)) for law in (P, Q)]
    np.testing.assert_allclose([table.sum(axis=(1, 2)) for table in tables], [[k * sum(w for s, w in brute.support(law) if len(s) == k) for k in range(5)] for law in (P, Q)])
    np.testing.assert_allclose(tables[0].sum(axis=0), P.pixel_probabilities(), rtol=1e-14)
    gap = (tables[0] - tables[1])[1:].reshape(4, -1)
    cauchy = 1 / (np.arange(1, 5)[:, None] + np.arange(1, 5)[None, :])
    by_marginals = 2 * np.sum(cauchy * (gap @ gap.T)) + (empty_mass(P) - empty_mass(Q)) ** 2
    assert float(ged_squared(P, Q, dice)) == pytest.approx(by_marginals, rel=1e-12)


@pytest.mark.parametrize("regions", [None, np.repeat(np.eye(4), 5, axis=1).reshape(4, 4, 5)])
def test_two_laws_without_a_common_mask_are_one_to_dice(regions):
    p, q = dice_blind_pair(regions)
    assert not set(map(brute.as_set, np.asarray(p.masks))) & set(map(brute.as_set, np.asarray(q.masks)))
    assert brute.ged_squared(p, q, brute.dice) == pytest.approx(0, abs=1e-15)
    assert brute.ged_squared(p, q) == pytest.approx(1 / 3, rel=1e-14)


def test_of_a_pool_it_is_the_average_less_the_diversity():
    weights = np.array([0.2, 0.5, 0.3])
    members = [P, Q, R]
    terms = ged_decomposition(TARGET, members, weights)
    pairs = sum(weights[i] * weights[j] * brute.ged_squared(members[i], members[j]) for i in range(3) for j in range(3)) / 2
    assert float(terms.diversity) == pytest.approx(pairs, rel=1e-12)
    assert float(terms.average) == pytest.approx(weights @ [brute.ged_squared(member, TARGET) for member in members], rel=1e-12)
    assert float(terms.ensemble) == pytest.approx(brute.ged_squared(brute.pooled(members, weights), TARGET), rel=1e-12)
    assert abs(float(terms.residual)) < 1e-14
    pooled = diversity_of_pool(members, weights)
    assert float(pooled.within) == pytest.approx(weights @ [brute.mean_distance(member, member) for member in members], rel=1e-12)
    assert float(pooled.between) == pytest.approx(pairs, rel=1e-12)
    assert float(pooled.total) == pytest.approx(float(pooled.within) + pairs, rel=1e-12)


def test_ensembles_of_m_members_have_a_plus_b_over_m():
    members, target = [P, Q, R], random_law(9)
    law = size_law(ged_decomposition(target, members), 3)
    for size in (1, 2, 3):
        teams = [brute.ged_squared(brute.pooled(team, np.full(size, 1 / size)), target) for team in combinations(members, size)]
        assert float(law(size)) == pytest.approx(np.mean(teams), rel=1e-12)
    assert float(law.excess) > 0.1


class Copied(MaskDistribution):
    """A law that is only drawn from."""

    law: MaskLaw = eqx.field()

    @property
    def shape(self):
        return self.law.shape

    def pixel_probabilities(self):
        return self.law.pixel_probabilities()

    def sample(self, key, n):
        return self.law.sample(key, n)


def test_laws_that_are_only_drawn_from_are_compared_by_monte_carlo():
    drawn = ged_squared(Copied(P), Q, key=jax.random.key(0), samples=1000)
    assert drawn.kind == "monte_carlo"
    assert_within_errors(drawn.value, drawn.error, brute.ged_squared(P, Q))
    differs = diversity(Copied(P), key=jax.random.key(1), samples=1000)
    assert_within_errors(differs.value, differs.error, brute.mean_distance(P, P))
    with pytest.raises(ValueError, match="key.*Monte Carlo"):
        ged_squared(Copied(P), Q)


OUTCOMES = np.array(list(product(range(4), repeat=4)))  # two samples and two graders


def enumerated(statistic, **options):
    """The mean of a statistic over all outcomes."""
    samples, graders = np.asarray(P.masks)[OUTCOMES[:, :2]], np.asarray(Q.masks)[OUTCOMES[:, 2:]]
    mass = np.prod(np.asarray(P.weights)[OUTCOMES[:, :2]], axis=1) * np.prod(np.asarray(Q.weights)[OUTCOMES[:, 2:]], axis=1)
    return mass @ np.asarray(statistic(samples, graders, **options))


def test_v_statistics_are_too_high_by_the_diversities_over_the_draws():
    assert enumerated(ged_v_statistic) == pytest.approx(float(expected_v_statistic(P, Q, 2, 2)), rel=1e-12)
    bias = brute.mean_distance(P, P) / 2 + brute.mean_distance(Q, Q) / 2
    assert float(expected_v_statistic(P, Q, 2, 2)) == pytest.approx(brute.ged_squared(P, Q) + bias, rel=1e-12)
    assert float(expected_v_statistic(P, Q, 2)) == pytest.approx(brute.ged_squared(P, Q) + brute.mean_distance(P, P) / 2, rel=1e-12)
    assert enumerated(ged_v_statistic, overlap=DIFFERS) == pytest.approx(float(expected_v_statistic(P, Q, 2, 2, DIFFERS)), rel=1e-12)


def test_u_statistics_are_unbiased():
    assert enumerated(ged_u_statistic, graders_drawn=True) == pytest.approx(brute.ged_squared(P, Q), rel=1e-12)
    two_graders = MaskLaw(np.asarray(Q.masks)[:2], [0.3, 0.7])
    samples = np.asarray(P.masks)[OUTCOMES[:, :2]]
    mass = np.prod(np.asarray(P.weights)[OUTCOMES[:, :2]], axis=1) / 16
    each = ged_u_statistic(samples, np.broadcast_to(two_graders.masks, samples.shape), two_graders.weights)
    assert mass @ np.asarray(each) == pytest.approx(brute.ged_squared(P, two_graders), rel=1e-12)
    assert np.asarray(each).min() < 0


def test_batches_of_images_are_taken_one_by_one():
    rng = np.random.default_rng(5)
    samples, graders = rng.random((2, 3, 5, 3, 2)) < 0.4, rng.random((2, 3, 2, 3, 2)) < 0.6
    values, spread = np.asarray(ged_v_statistic(samples, graders)), np.asarray(diversity_of_samples(samples))
    for image in product(range(2), range(3)):
        sets = [[brute.as_set(mask) for mask in masks[image]] for masks in (samples, graders)]
        assert float(values[image]) == pytest.approx(brute.v_statistic(*sets), abs=1e-14)
        assert float(spread[image]) == pytest.approx(np.mean([1 - brute.jaccard(a, b) for a, b in combinations(sets[0], 2)]), rel=1e-13)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ged_squared(P, MaskLaw([[[0, 1]]])), "q.*shape"),
        (lambda: ged_u_statistic(MASKS[:1], MASKS), "samples.*>= 2"),
        (lambda: ged_u_statistic(MASKS, MASKS[:1], graders_drawn=True), "graders.*>= 2"),
        (lambda: ged_u_statistic(MASKS, MASKS, np.full(16, 1 / 16), graders_drawn=True), "weights.*None"),
        (lambda: ged_v_statistic(MASKS, MASKS, [0.5, 0.5]), "weights.*shape"),
        (lambda: ged_v_statistic(MASKS, MASKS[:2], [0.5, 0.4]), "weights.*sum to 1"),
        (lambda: ged_v_statistic(MASKS[None], MASKS), "graders.*same images"),
        (lambda: expected_v_statistic(P, Q, 0), "n.*whole number"),
        (lambda: diversity_of_samples(MASKS[:1]), "samples.*n >= 2"),
        (lambda: diversity(Copied(P)), "key.*Monte Carlo"),
        (lambda: dice_blind_pair(np.eye(3).reshape(3, 1, 3)), "regions.*4, H, W"),
        (lambda: dice_blind_pair(np.ones((4, 2, 2))), "regions.*disjoint"),
    ],
)
def test_refusals_name_the_argument_and_the_remedy(call, words):
    with pytest.raises(ValueError, match=words):
        call()
