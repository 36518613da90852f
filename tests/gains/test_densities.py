"""Decompositions of divergences between laws: terms by textbook integrals, sums to rounding or to the terms' errors."""

from itertools import product

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.linalg import sqrtm

import ensembletheory as et
from ensembletheory import gains
from tests.helpers import spd

TABLE = [et.Gaussian([-1.0], 0.25), et.Gaussian([2.0], 4.0)]
TARGET = et.Gaussian([0.3], 1.2)
MIXED = [et.Gaussian([-1.0], 0.5), et.GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], [[0.4], [0.2]]), et.Gaussian([0.5], 1.5)]
WEIGHTS = [0.2, 0.5, 0.3]


def within(terms):
    return abs(float(terms.residual)) <= float(terms.residual.error) + 1e-12


def gaussians(seed, d=2, K=3):
    rng = np.random.default_rng(seed)
    return et.Gaussian(rng.normal(size=d), spd(rng, d)), [et.Gaussian(rng.normal(size=d), spd(rng, d)) for _ in range(K)], rng.dirichlet(np.ones(K))


def test_numbers_of_the_table():
    """Experts N(-1, 1/4), N(2, 4), target N(0.3, 1.2), and equal variances 1/2."""
    log, linear, reverse = (rule(TARGET, TABLE) for rule in (gains.kl_log_decomposition, gains.kl_linear_decomposition, gains.reverse_kl_decomposition))
    assert float(log.average) == pytest.approx(2.5544642216, abs=5e-11)
    assert float(log.diversity) == pytest.approx(0.9062976659, abs=5e-11)
    assert float(log.ensemble) == pytest.approx(1.6481665557, abs=5e-11)
    assert float(linear.ensemble) == pytest.approx(0.5405857202, abs=5e-11)
    assert float(linear.diversity) == pytest.approx(2.0138785014, abs=5e-11)
    assert float(reverse.diversity) == pytest.approx(0.4655356203, abs=5e-11)
    assert float(gains.kl_log_decomposition(TARGET, [et.Gaussian([-1.0], 0.5), et.Gaussian([2.0], 0.5)]).diversity) == pytest.approx(2.25, abs=1e-14)
    assert log.residual.kind == "closed_form"
    assert all(map(within, (log, linear, reverse)))
    assert "diversity" in str(log)


def test_terms_of_mixtures_are_their_integrals():
    w = np.array(WEIGHTS)

    def logs(x):
        return np.stack([np.asarray(q.log_prob(x[:, None])) for q in MIXED])

    x = np.linspace(-14, 14, 20_001)
    member, p = logs(x), stats.norm(0.3, 1.2**0.5)
    pool = np.log(w @ np.exp(member))
    linear, reverse = gains.kl_linear_decomposition(TARGET, MIXED, WEIGHTS), gains.reverse_kl_decomposition(TARGET, MIXED, WEIGHTS)
    assert float(linear.diversity) == pytest.approx(np.trapezoid(p.pdf(x) * (pool - w @ member), x), rel=1e-10)
    assert float(linear.average) == pytest.approx(np.trapezoid(p.pdf(x) * (p.logpdf(x) - w @ member), x), rel=1e-10)
    assert float(reverse.diversity) == pytest.approx(np.trapezoid(w @ (np.exp(member) * (member - pool)), x), rel=1e-9)
    assert float(reverse.ensemble) == pytest.approx(np.trapezoid(np.exp(pool) * (pool - p.logpdf(x)), x), rel=1e-9)
    assert 0 < float(gains.generalised_jensen_shannon(MIXED, WEIGHTS)) < stats.entropy(w)
    assert within(linear)
    assert within(reverse)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_closed_forms_sum_to_rounding(seed):
    p, members, weights = gaussians(seed)
    for terms in (gains.kl_log_decomposition(p, members, weights), gains.l2_decomposition(p, members, weights), gains.w2_decomposition(p, members, weights)):
        assert terms.residual.kind == "closed_form"
        assert abs(float(terms.residual)) < 1e-12 * (1 + abs(float(terms.average)))


def test_l2_terms_by_quadrature():
    p, w = stats.norm(0.3, 1.2**0.5), np.array(WEIGHTS)
    x = np.linspace(-14, 14, 20_001)
    q = np.exp(np.stack([np.asarray(law.log_prob(x[:, None])) for law in MIXED]))
    terms = gains.l2_decomposition(TARGET, MIXED, WEIGHTS)
    assert float(terms.average) == pytest.approx(np.trapezoid(w @ (q - p.pdf(x)) ** 2, x), rel=1e-9)
    assert float(terms.diversity) == pytest.approx(np.trapezoid(w @ (q - w @ q) ** 2, x), rel=1e-9)
    assert float(terms.ensemble) == pytest.approx(np.trapezoid((w @ q - p.pdf(x)) ** 2, x), rel=1e-9)
    assert within(gains.l2_decomposition(TARGET, MIXED, WEIGHTS, et.mmd_squared))


def test_expected_l2_of_random_members_is_exactly_a_plus_b_over_k():
    law, w = gains.size_law(gains.l2_decomposition(TARGET, MIXED, WEIGHTS)), WEIGHTS
    pairs = sum(w[i] * w[j] * float(et.l2_squared(TARGET, et.linear_pool([MIXED[i], MIXED[j]]))) for i, j in product(range(3), repeat=2))
    assert float(law(2)) == pytest.approx(pairs, rel=1e-11)
    assert float(law(1)) == pytest.approx(sum(v * float(et.l2_squared(TARGET, q)) for v, q in zip(w, MIXED, strict=True)), rel=1e-11)
    assert np.all(np.diff(law([1, 2, 3, 10]).value) < 0)


def test_the_defect_of_w2_is_nonnegative_and_zero_where_covariances_commute():
    for seed in range(6):
        p, members, weights = gaussians(seed)
        terms = gains.w2_decomposition(p, members, weights)
        assert float(terms.defect) > 1e-6
        assert float(terms.ensemble) > float(terms.average) - float(terms.spread)
    rng = np.random.default_rng(0)
    Q = np.linalg.qr(rng.normal(size=(2, 2)))[0]
    turned = [et.Gaussian(rng.normal(size=2), (C := (Q * rng.uniform(0.2, 3, 2)) @ Q.T) / 2 + C.T / 2) for _ in range(4)]
    terms = gains.w2_decomposition(turned[0], turned[1:], [0.5, 0.2, 0.3])
    assert abs(float(terms.defect)) < 1e-9
    assert abs(float(terms.residual)) < 1e-12


def test_terms_of_w2_by_maps_in_numpy():
    p, members, weights = gaussians(3)
    terms = gains.w2_decomposition(p, members, weights)

    def bures(S, R):
        root = sqrtm(S)
        return np.trace(S + R - 2 * sqrtm(root @ R @ root).real)

    covs, means = [np.asarray(q.cov) for q in members], np.stack([q.mean for q in members])
    b = np.asarray(et.w2_barycenter(members, weights).cov)
    centre = weights @ means
    spread = sum(w * (np.sum((m - centre) ** 2) + bures(b, S)) for w, m, S in zip(weights, means, covs, strict=True))
    assert float(terms.spread) == pytest.approx(spread, rel=1e-9)

    def map_to(S):
        inverse = np.linalg.inv(sqrtm(b))
        return inverse @ sqrtm(sqrtm(b) @ S @ sqrtm(b)).real @ inverse

    T = map_to(np.asarray(p.cov))
    defect = sum(w * (np.trace((map_to(S) - T) @ b @ (map_to(S) - T)) - bures(np.asarray(p.cov), S)) for w, S in zip(weights, covs, strict=True))
    assert float(terms.defect) == pytest.approx(defect, rel=1e-6)


def test_monte_carlo_terms_see_the_same_draws():
    p, members, weights = gaussians(0, d=3)
    terms = gains.kl_linear_decomposition(p, members, weights, key=jax.random.key(0), samples=2_000)
    assert terms.diversity.kind == "monte_carlo"
    assert abs(float(terms.residual)) <= 6 * float(terms.residual.error)


def test_gains_name_the_hilbert_distances():
    for divergence in (et.l2_squared, et.mmd_squared):
        gain = et.gain(TARGET, MIXED, et.linear_pool, divergence, WEIGHTS)
        assert float(gain.diversity) == pytest.approx(float(gain.gain), rel=1e-9)


def test_bad_laws_are_refused_with_a_reason():
    with pytest.raises(ValueError, match="`members`.*empty"):
        gains.kl_linear_decomposition(TARGET, [])
    with pytest.raises(ValueError, match="dimension"):
        gains.w2_decomposition(et.standard_normal(2), TABLE)
    with pytest.raises(TypeError, match="GaussianMixture"):
        gains.w2_decomposition(TARGET, MIXED)
    with pytest.raises(ValueError, match="`weights`"):
        gains.generalised_jensen_shannon(TABLE, [0.9, 0.2])
