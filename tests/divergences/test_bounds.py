"""Bounds for mixtures: formulas in plain NumPy, validity against integrals, tightness, and what is no bound."""

import numpy as np
import pytest
import scipy.stats
from scipy.special import logsumexp

import ensembletheory as et
from ensembletheory.divergences import bounds
from tests.divergences.laws import line, pair, pdf


def plain_kl(m, P, n, Q):
    M = np.linalg.solve(Q, P)
    return 0.5 * (np.trace(M) - len(m) - np.linalg.slogdet(M)[1] + (m - n) @ np.linalg.solve(Q, m - n))


def log_overlap(m, P, n, Q):
    return -0.5 * ((m - n) @ np.linalg.solve(P + Q, m - n) + np.linalg.slogdet(2 * np.pi * (P + Q))[1])


def table(function, f, g):
    return np.array(
        [[function(m, P, n, Q) for n, Q in zip(np.asarray(g.means), np.asarray(g.covs), strict=True)] for m, P in zip(np.asarray(f.means), np.asarray(f.covs), strict=True)]
    )


def plain(f, g):
    """All numbers by name, from tables of pairs."""
    a, b = np.asarray(f.weights), np.asarray(g.weights)
    z, k, s, t = table(plain_kl, f, f), table(plain_kl, f, g), table(log_overlap, f, f), table(log_overlap, f, g)
    H = np.array([0.5 * np.linalg.slogdet(2 * np.pi * np.e * S)[1] for S in np.asarray(f.covs)])
    own_kl, cross_kl = logsumexp(-z, b=a[None], axis=1), logsumexp(-k, b=b[None], axis=1)
    own, cross = logsumexp(s, b=a[None], axis=1), logsumexp(t, b=b[None], axis=1)
    return {
        "lower": a @ (own_kl - cross - H),
        "upper": a @ (own - cross_kl + H),
        "hershey_olsen": a @ (own_kl - cross_kl),
        "product_approximation": a @ (own - cross),
        "convexity_bound": a @ k @ b,
        "goldberger": a @ np.min(k + np.log(a)[:, None] - np.log(b)[None], axis=1),
    }


@pytest.mark.parametrize("d", [1, 2])
def test_formulas(d):
    p, q = pair("MM", d)
    numbers = plain(p, q)
    for bound, name in zip(bounds.durrieu(p, q), ("lower", "upper"), strict=True):
        assert bound.kind == "closed_form"
        assert float(bound) == pytest.approx(numbers[name], rel=1e-10)
    for name in ("hershey_olsen", "product_approximation", "convexity_bound", "goldberger"):
        assert float(getattr(bounds, name)(p, q)) == pytest.approx(numbers[name], rel=1e-10)


def random_pair(seed):
    rng = np.random.default_rng(seed)
    return [et.GaussianMixture(rng.dirichlet(np.ones(2)), rng.normal(size=(2, 1)) * 2, rng.uniform(0.1, 2, size=(2, 1, 1))) for _ in range(2)]


def integrated_kl(p, q):
    x = line(p, q)
    a, b = pdf(p, x), pdf(q, x)
    inside = (a > 1e-300) & (b > 1e-300)
    return np.trapezoid(a[inside] * np.log(a[inside] / b[inside]), x[inside])


@pytest.mark.parametrize("seed", range(8))
def test_the_sandwich_and_convexity_hold(seed):
    p, q = random_pair(seed)
    truth = integrated_kl(p, q)
    lower, upper = map(float, bounds.durrieu(p, q))
    assert lower <= truth <= min(upper, float(bounds.convexity_bound(p, q)))
    matched = np.argmin(table(plain_kl, p, q) + np.log(np.asarray(p.weights))[:, None] - np.log(np.asarray(q.weights))[None], axis=1)
    if len(set(matched)) == 2:
        assert truth <= float(bounds.goldberger(p, q)) + 1e-12


def test_what_is_tight_and_what_is_no_bound():
    single, other = et.Gaussian([0.0], 1.0), et.Gaussian([1.0], 2.0)
    truth = float(et.kl(single, other))
    for name in ("hershey_olsen", "convexity_bound", "goldberger"):
        assert float(getattr(bounds, name)(single, other)) == pytest.approx(truth, rel=1e-12)
    two = et.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[[1.0]], [[1.0]]])
    assert float(bounds.hershey_olsen(single, two)) > integrated_kl(single, two)
    assert float(bounds.hershey_olsen(two, single)) < integrated_kl(two, single)
    gaps = [float(bounds.product_approximation(p, q)) - integrated_kl(p, q) for p, q in ((single, other), (other, single), *map(random_pair, range(8)))]
    assert min(gaps) < -0.01
    assert max(gaps) > 0.01


def test_w2_bounds_by_name():
    p, q = pair("MM", 1)
    distance, ceiling = float(et.w2(p, q)), float(bounds.mw2_upper_bound_on_w2(p, q))
    assert float(bounds.gelbrich(p, q)) <= distance <= ceiling
    slack = sum(np.sqrt(2 * np.asarray(law.weights) @ np.asarray(law.covs)[:, 0, 0]) for law in (p, q))
    converse = bounds.w2_upper_bound_on_mw2(p, q, et.w2(p, q))
    assert converse.kind == "quadrature"
    assert float(converse) == pytest.approx(distance + slack, rel=1e-12)
    assert ceiling <= float(converse)


def test_the_converse_needs_its_root_of_two():
    """N(0, 1) against many narrow components of equal mass at its quantiles: MW2 - W2 comes near sqrt 2, so sqrt(1.7) would not do."""
    p, K = et.Gaussian([0.0], 1.0), 201
    q = et.FiniteLaw(scipy.stats.norm.ppf((np.arange(K) + 0.5) / K)[:, None])
    gap = float(bounds.mw2_upper_bound_on_w2(p, q)) - float(et.w2(p, q))
    assert np.sqrt(1.7) < gap < np.sqrt(2)
    assert float(bounds.mw2_upper_bound_on_w2(p, q)) <= float(bounds.w2_upper_bound_on_mw2(p, q, et.w2(p, q)))


def entropy(law):
    x = line(law)
    density = pdf(law, x)
    inside = density > 1e-300
    return -np.trapezoid(density[inside] * np.log(density[inside]), x[inside])


@pytest.mark.parametrize("seed", range(4))
def test_kolchinsky_tracey_encloses_the_entropy_and_the_diversity(seed):
    law, _ = random_pair(seed)
    lower, upper = map(float, bounds.kolchinsky_tracey(law))
    truth = entropy(law)
    assert lower <= truth <= upper
    members = [et.Gaussian(m, S) for m, S in zip(law.means, law.covs, strict=True)]
    within = sum(float(w) * float(member.entropy()) for w, member in zip(law.weights, members, strict=True))
    low, high = map(float, bounds.kolchinsky_tracey_diversity(members, law.weights))
    assert low == pytest.approx(lower - within, abs=1e-12)
    assert high == pytest.approx(upper - within, abs=1e-12)


def test_kolchinsky_tracey_is_tight_for_equal_and_for_separated_components():
    for shift, excess in ((0.0, 0.0), (60.0, np.log(2))):
        members = [et.Gaussian([0.0], 1.0), et.Gaussian([shift], 1.0)]
        for bound in bounds.kolchinsky_tracey_diversity(members):
            assert float(bound) == pytest.approx(excess, abs=1e-12)


def test_the_chernoff_exponent_counts():
    """-log int p^{1 - a} q^a on a fine grid."""
    law = et.GaussianMixture([0.4, 0.6], [[0.0], [1.0]], [[[0.5]], [[2.0]]])
    x, a, w = line(law), 0.3, np.array([0.4, 0.6])
    parts = [pdf(et.Gaussian(m, S), x) for m, S in zip(law.means, law.covs, strict=True)]
    overlaps = np.array([[np.trapezoid(p ** (1 - a) * q**a, x) for q in parts] for p in parts])
    within = sum(v * 0.5 * np.log(2 * np.pi * np.e * float(S[0, 0])) for v, S in zip(w, law.covs, strict=True))
    assert float(bounds.kolchinsky_tracey(law, alpha=a)[0]) == pytest.approx(within - w @ np.log(overlaps @ w), rel=1e-10)


def test_other_laws_are_refused_by_name():
    with pytest.raises(TypeError, match="FiniteLaw and Gaussian in dimension 1"):
        bounds.durrieu(et.FiniteLaw([[0.0]]), et.standard_normal(1))
    with pytest.raises(ValueError, match="`alpha`.*1.5"):
        bounds.kolchinsky_tracey(et.standard_normal(1), alpha=1.5)
