"""Closed forms between Gaussians against plain NumPy, SciPy, POT and autodiff, on pairs in which every term matters."""

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

import ensembletheory as et
from tests.helpers import assert_within_errors, spd


def pair(seed, d, diagonal=(False, False)):
    rng = np.random.default_rng(seed)
    return [et.Gaussian(rng.normal(size=d), rng.uniform(0.2, 3.0, d) if flat else spd(rng, d)) for flat in diagonal]


def plain_kl(p, q):
    m, P, n, Q = (np.asarray(part) for part in (p.mean, p.cov, q.mean, q.cov))
    M = np.linalg.solve(Q, P)
    return 0.5 * (np.trace(M) - len(m) - np.linalg.slogdet(M)[1] + (m - n) @ np.linalg.solve(Q, m - n))


def plain_w2_squared(p, q):
    root = scipy.linalg.sqrtm(np.asarray(p.cov))
    cross = scipy.linalg.sqrtm(root @ np.asarray(q.cov) @ root).real
    return np.sum((np.asarray(p.mean) - np.asarray(q.mean)) ** 2) + np.trace(np.asarray(p.cov) + np.asarray(q.cov) - 2 * cross)


def plain_fisher(p, q):
    """E|B x + c|^2 under p, with moments written out."""
    P, Q = np.linalg.inv(p.cov), np.linalg.inv(q.cov)
    B, c = Q - P, P @ np.asarray(p.mean) - Q @ np.asarray(q.mean)
    return np.trace(B @ (np.asarray(p.cov) + np.outer(p.mean, p.mean)) @ B.T) + 2 * c @ B @ np.asarray(p.mean) + c @ c


DIVERGENCES = {"kl": (et.kl, plain_kl), "w2_squared": (et.w2_squared, plain_w2_squared), "fisher": (et.fisher_divergence, plain_fisher)}


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize(("d", "diagonal"), [(1, (False, False)), (3, (False, False)), (3, (True, False)), (3, (False, True)), (3, (True, True)), (6, (False, False))])
def test_closed_forms(name, d, diagonal):
    ours, plain = DIVERGENCES[name]
    for seed in range(3):
        p, q = pair(seed, d, diagonal)
        estimate = ours(p, q)
        assert estimate.kind == "closed_form"
        assert float(estimate) == pytest.approx(plain(p, q), rel=1e-10)


def test_w2_is_that_of_pot_and_of_commuting_covariances():
    p, q = pair(0, 3)
    bures = ot.gaussian.bures_wasserstein_distance(*(np.asarray(part) for part in (p.mean, q.mean, p.cov, q.cov)))
    assert float(et.w2(p, q)) == pytest.approx(float(bures), rel=1e-8)
    p, q = pair(1, 3, (True, True))
    gap = np.sqrt(np.diag(p.cov)) - np.sqrt(np.diag(q.cov))
    assert float(et.w2_squared(p, q)) == pytest.approx(np.sum((np.asarray(p.mean) - np.asarray(q.mean)) ** 2) + gap @ gap)


@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
def test_near_equal_gaussians_keep_their_digits(size):
    """To second order KL = |A|_F^2 / 4 and W2^2 = <dS, L^{-1} dS> / 2 with S L + L S = dS: relative errors of order `size`, never negative."""
    p, _ = pair(2, 3)
    H = spd(np.random.default_rng(9), 3)
    q = et.Gaussian(p.mean, np.asarray(p.cov) + size * H)
    whitened = np.linalg.solve(np.asarray(p.cov), H)
    assert float(et.kl(p, q)) == pytest.approx(size**2 * np.trace(whitened @ whitened) / 4, rel=20 * size + 1e-6 * (1e-9 / size) ** 0.5 + 2e-6)
    velocity = scipy.linalg.solve_sylvester(np.asarray(p.cov), np.asarray(p.cov), H)
    assert float(et.w2_squared(p, q)) == pytest.approx(size**2 * np.trace(velocity @ np.asarray(p.cov) @ velocity), rel=20 * size + 1e-15 / size)


@given(st.integers(0, 2**32 - 1))
def test_divergences_are_non_negative_and_vanish_only_at_equality(seed):
    p, q = pair(seed, 2)
    for ours, _ in DIVERGENCES.values():
        assert float(ours(p, q)) > 0
        assert 0 <= float(ours(p, p)) < 1e-28


@given(st.integers(0, 2**32 - 1))
def test_w2_is_a_metric(seed):
    (p, q), (r, _) = pair(seed, 2), pair(seed + 1, 2)
    assert float(et.w2(p, q)) == pytest.approx(float(et.w2(q, p)), rel=1e-10)
    assert float(et.w2(p, r)) <= float(et.w2(p, q)) + float(et.w2(q, r)) + 1e-12


@given(st.integers(0, 2**32 - 1))
def test_invariances(seed):
    p, q = pair(seed, 2)
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(2, 2)) + 2 * np.eye(2), rng.normal(size=2)
    rotation = np.linalg.qr(A)[0]
    assert float(et.kl(p.push(A, b), q.push(A, b))) == pytest.approx(float(et.kl(p, q)), rel=1e-7)
    for divergence in (et.w2_squared, et.fisher_divergence):
        assert float(divergence(p.push(rotation, b), q.push(rotation, b))) == pytest.approx(float(divergence(p, q)), rel=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("equal", [False, True])
def test_gradients_are_finite_differences_also_at_equal_laws(name, equal):
    p, q = pair(4, 2)
    q = p if equal else q
    _, plain = DIVERGENCES[name]
    direction = np.random.default_rng(0).normal(size=(2, 2))
    direction = direction + direction.T

    def along(t):
        return DIVERGENCES[name][0](et.Gaussian(p.mean + t * jnp.ones(2), p.cov + t * jnp.asarray(direction)), q).value

    def plain_along(t):
        return plain(et.Gaussian(p.mean + t * np.ones(2), np.asarray(p.cov) + t * direction), q)

    step = 1e-5
    difference = (plain_along(step) - plain_along(-step)) / (2 * step)
    assert float(jax.grad(along)(0.0)) == pytest.approx(difference, abs=1e-7 * max(1.0, abs(difference)))


def test_monte_carlo_agrees_with_the_closed_form():
    p, q = pair(5, 3)
    single = et.GaussianMixture([1.0], p.mean[None], p.cov[None])
    for divergence in (et.kl, et.fisher_divergence):
        estimate = divergence(single, q, key=jax.random.key(0), samples=50_000)
        assert estimate.kind == "monte_carlo"
        assert_within_errors(estimate.value, estimate.error, float(divergence(p, q)))


def test_what_cannot_be_answered_is_refused():
    p, q = pair(0, 3)
    single = et.GaussianMixture([1.0], p.mean[None], p.cov[None])
    with pytest.raises(ValueError, match="`key`.*None.*dimension 3"):
        et.kl(single, q)
    with pytest.raises(ValueError, match="`q`.*dimension 2.*dimension 3"):
        et.kl(p, et.standard_normal(2))
