"""Sources from two segments, the mean correlation coefficient and its null, canonical mixtures, and the score's blindness with its cure: all by a second route."""

import itertools

import jax
import numpy as np
import pytest
from scipy import integrate, stats

import ensembletheory as et
from ensembletheory.identifiability import (
    Action,
    Monomial,
    canonical_mixture,
    fisher_bound,
    integrated_fisher,
    matched_w2_squared,
    mcc,
    mcc_null,
    mean_null_correlation,
    noised_fisher,
    recover_mixing,
)
from tests.helpers import assert_mean, spd

RNG = np.random.default_rng(0)


def segments(W, variances, noise):
    return [W @ np.diag(v) @ W.T + noise * np.eye(len(W)) for v in variances]


@pytest.mark.parametrize(("d", "q", "noise"), [(3, 3, 0.0), (4, 2, 0.5), (2, 1, 0.3)])
def test_two_segments_give_the_mixing_up_to_permutation_and_scale(d, q, noise):
    W, variances = RNG.normal(size=(d, q)), np.array([[1.0, 2.0, 0.5], [2.0, 1.0, 3.0]])[:, :q]
    found, ratios = recover_mixing(*segments(W, variances, noise), factors=q, noise_variance=noise)
    assert Action(Monomial(q)).distance(W, found) < 1e-7
    np.testing.assert_allclose(ratios, sorted(variances[0] / variances[1], reverse=True), rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1, rtol=1e-12)


def test_equal_ratios_are_refused_because_a_rotation_is_left():
    W, Q = RNG.normal(size=(2, 2)), np.array([[0.6, -0.8], [0.8, 0.6]])
    one, other = segments(W, [[1.0, 1.0], [3.0, 3.0]], 0.1), segments(W @ Q, [[1.0, 1.0], [3.0, 3.0]], 0.1)
    np.testing.assert_allclose(one, other, atol=1e-12)
    with pytest.raises(ValueError, match=r"ratios of variances .*; expected distinct ratios. Equal ratios leave a rotation"):
        recover_mixing(*one, factors=2, noise_variance=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((np.eye(2), np.eye(3), 1), "shapes"), ((np.eye(2), np.eye(2), 3), "3 factors"), ((2 * np.eye(2), np.eye(2), 2, 1.0), "`second`: got smallest eigenvalue 0")],
)
def test_what_cannot_be_unmixed_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        recover_mixing(*arguments)


def test_mcc_is_the_best_matching_of_absolute_correlations():
    z, y = RNG.normal(size=(50, 3)), RNG.normal(size=(50, 3)) + RNG.normal(size=(50, 1))
    table = np.abs(np.corrcoef(z.T, y.T)[:3, 3:])
    assert mcc(z, y) == pytest.approx(max(np.mean([table[i, order[i]] for i in range(3)]) for order in itertools.permutations(range(3))), rel=1e-12)


def test_mcc_is_one_for_what_components_leave_undetermined_and_less_after_a_rotation():
    z = RNG.normal(size=(40, 3))
    assert mcc(z, z[:, [2, 0, 1]] * [-2.0, 0.1, 5.0] + [1.0, 2.0, 3.0]) == pytest.approx(1, abs=1e-12)
    assert mcc(z, z @ np.linalg.qr(RNG.normal(size=(3, 3)))[0]) < 0.99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((np.ones((4, 2)), np.eye(4)[:, :2]), "a constant column"), ((np.eye(2), np.eye(2)), "n >= 3"), ((np.eye(4)[:, :2], np.eye(4)), "shapes")],
)
def test_mcc_refuses_what_does_not_correlate(arguments, message):
    with pytest.raises(ValueError, match=message):
        mcc(*arguments)


@pytest.mark.parametrize("n", [3, 10, 40])
def test_the_null_of_one_source_is_a_beta_law(n):
    """corr^2 ~ Beta(1/2, n/2 - 1): its mean root by quadrature, and the simulated null against it."""
    law = stats.beta(0.5, n / 2 - 1)
    mean = integrate.quad(lambda r: 2 * r**2 * law.pdf(r**2) if 0 < r < 1 else 0.0, 0, 1, limit=200)[0]
    assert mean_null_correlation(n) == pytest.approx(mean, rel=1e-6)
    assert mean_null_correlation(4000) == pytest.approx(np.sqrt(2 / (np.pi * 4000)), rel=1e-3)
    if n == 10:
        null = mcc_null(jax.random.key(0), n, 1, draws=2000)
        assert stats.kstest(null**2, law.cdf).pvalue > 1e-6
        assert_mean(null, mean)
        assert np.all(np.diff(null) >= 0)


def test_matching_raises_the_null():
    """With two sources and many samples sqrt(n) corr is normal: E max(|a| + |d|, |b| + |c|) / 2 for four normals, which is sqrt(2 / pi) plus half their mean difference."""
    n, null = 100, mcc_null(jax.random.key(1), 100, 2, draws=2000)
    pairs = np.abs(np.random.default_rng(1).normal(size=(400_000, 2, 2))).sum(axis=2)
    limit = pairs.max(axis=1).mean() / 2 / np.sqrt(n)
    assert null.mean() == pytest.approx(limit, abs=5 * null.std() / np.sqrt(2000) + 0.01 * limit)
    assert null.mean() > 1.2 * mean_null_correlation(n)
    for bad in ((2, 1, 1), (3, 0, 1), (3, 1, 0)):
        with pytest.raises(ValueError, match="`n, q, draws`"):
            mcc_null(jax.random.key(0), *bad)
    with pytest.raises(ValueError, match="`n`"):
        mean_null_correlation(2)


MESSY = et.GaussianMixture([0.2, 0.0, 0.3, 0.1, 0.4], [[1.0], [9.0], [-1.0], [1.0], [1.0]], [[[1.0]], [[1.0]], [[2.0]], [[1.0]], [[0.5]]])


def test_the_canonical_form_is_the_same_law_and_has_no_symmetry_left():
    clean = canonical_mixture(MESSY)
    np.testing.assert_allclose(clean.weights, [0.3, 0.4, 0.3])
    np.testing.assert_array_equal(clean.means, [[-1.0], [1.0], [1.0]])
    np.testing.assert_array_equal(clean.covs, [[[2.0]], [[0.5]], [[1.0]]])
    x = np.linspace(-4, 4, 9)[:, None]
    np.testing.assert_allclose(clean.log_prob(x), MESSY.log_prob(x), rtol=1e-12)
    again = canonical_mixture(et.GaussianMixture(clean.weights[::-1], clean.means[::-1], clean.covs[::-1]))
    np.testing.assert_array_equal(again.means, clean.means)
    np.testing.assert_array_equal(again.covs, clean.covs)


def test_nearly_equal_components_merge_within_a_tolerance():
    near = et.GaussianMixture([0.5, 0.5], [[0.0], [1e-9]], [[[1.0]], [[1.0]]])
    assert canonical_mixture(near).weights.shape == (2,)
    assert canonical_mixture(near, tolerance=1e-8).weights.shape == (1,)


def random_mixture(K=3):
    return et.GaussianMixture(np.full(K, 1 / K), RNG.normal(size=(K, 2)), np.stack([spd(RNG, 2) for _ in range(K)]))


def test_matched_w2_is_the_best_permutation_of_components():
    p, q = random_mixture(), random_mixture()

    def w2_squared(m, A, n, B):
        eigenvalues, vectors = np.linalg.eigh(A)
        root = (vectors * np.sqrt(eigenvalues)) @ vectors.T
        return np.sum((m - n) ** 2) + np.trace(A + B) - 2 * np.sum(np.sqrt(np.linalg.eigvalsh(root @ B @ root)))

    left, right = (list(zip(np.asarray(law.means), np.asarray(law.covs), strict=True)) for law in (p, q))
    cost = np.array([[w2_squared(*one, *other) for other in right] for one in left])
    brute = min(np.mean([cost[i, order[i]] for i in range(3)]) for order in itertools.permutations(range(3)))
    found = matched_w2_squared(p, q)
    assert float(found) == pytest.approx(brute, rel=1e-9)
    assert found.kind == "closed_form"
    assert float(matched_w2_squared(p, et.GaussianMixture(p.weights, p.means[::-1], p.covs[::-1]))) < 1e-12
    ot = pytest.importorskip("ot")
    assert ot.emd2(np.full(3, 1 / 3), np.full(3, 1 / 3), cost) == pytest.approx(brute, rel=1e-9)  # MW2^2 with equal weights: Birkhoff
    assert float(et.mw2(p, q)) ** 2 == pytest.approx(brute, rel=1e-9)
    with pytest.raises(ValueError, match="3 in dimension 2"):
        matched_w2_squared(p, random_mixture(2))


def modes(a, w):
    return et.GaussianMixture([w, 1 - w], [[a], [-a]], [[1.0], [1.0]])


@pytest.mark.parametrize("a", [1.0, 4.0, 6.0])
def test_noise_cures_blindness(a):
    """The integral over noise levels is the KL divergence, at every separation, though the Fisher divergence of the data vanishes."""
    p, q = modes(a, 0.5), modes(a, 0.2)
    density = lambda x, w: w * stats.norm.pdf(x, a) + (1 - w) * stats.norm.pdf(x, -a)  # noqa: E731
    kl = integrate.quad(lambda x: density(x, 0.5) * np.log(density(x, 0.5) / density(x, 0.2)), -a - 12, a + 12, points=[-a, 0, a], epsrel=1e-11, limit=300)[0]
    found = integrated_fisher(p, q)
    assert found.kind == "quadrature"
    assert float(found) == pytest.approx(kl, abs=float(found.error) + 1e-9)
    assert float(found.error) < 1e-5


def test_a_finite_horizon_leaves_the_divergence_of_the_noised_laws():
    """A Gaussian pair, whose KL divergence is known at every noise level."""
    m, S, n, T, u = 1.5, 0.5, -0.5, 2.0, 0.3

    def gaussian_kl(m, S, n, T):
        return 0.5 * (S / T - 1 - np.log(S / T) + (m - n) ** 2 / T)

    noised = gaussian_kl(np.sqrt(u) * m, u * S + 1 - u, np.sqrt(u) * n, u * T + 1 - u)
    found = integrated_fisher(et.Gaussian([m], S), et.Gaussian([n], T), signal=u)
    assert float(found) == pytest.approx(gaussian_kl(m, S, n, T) - noised, rel=1e-9)
    with pytest.raises(ValueError, match=r"`signal`: got 1; expected a number in \[0, 1\)"):
        integrated_fisher(et.Gaussian([m], S), et.Gaussian([n], T), signal=1.0)


def test_the_noised_fisher_divergence_is_that_of_the_pushed_laws():
    u, p, q = 0.4, modes(3.0, 0.5), modes(3.0, 0.2)
    a, v = np.sqrt(u) * 3.0, 1.0  # u + 1 - u

    def score(x, w):
        right, left = w * stats.norm.pdf(x, a, v), (1 - w) * stats.norm.pdf(x, -a, v)
        return (-(x - a) * right - (x + a) * left) / (right + left)

    density = lambda x: 0.5 * (stats.norm.pdf(x, a) + stats.norm.pdf(x, -a))  # noqa: E731
    expected = integrate.quad(lambda x: density(x) * (score(x, 0.5) - score(x, 0.2)) ** 2, -16, 16, points=[-a, 0, a], epsrel=1e-11, limit=300)[0]
    assert float(noised_fisher(p, q, u)) == pytest.approx(expected, rel=1e-8)


def test_the_bound_on_the_fisher_divergence():
    """The constants of the theory: separation 4, weights 1/2 and 1/5."""
    assert float(et.fisher_divergence(modes(4.0, 0.5), modes(4.0, 0.2))) == pytest.approx(4.114145e-4, rel=1e-6)
    expected = np.sqrt(2 * np.pi) / 8 * 4 * 0.3**2 * np.exp(-8) / (0.5 * 0.2 * 0.8)
    assert float(fisher_bound(4.0, 0.5, 0.2)) == pytest.approx(expected, rel=1e-12)
    for bad in ((-1.0, 0.5, 0.5), (1.0, 0.0, 0.5), (1.0, 0.5, 1.0)):
        with pytest.raises(ValueError, match="`separation, weight, other`"):
            fisher_bound(*bad)
