"""Averages of parameters: rotated copies by hand, geodesics, least squares over random rotations, moments of mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.linalg import nearest_orthogonal

W = np.array([[1.0, 0.5], [-0.5, 2.0], [0.3, 1.0]])
AVERAGES = (et.average_loadings, et.average_aligned_loadings, et.average_covariances)


def turn(theta):
    return np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])


def model(loadings, mean=(0.5, -1.0, 2.0), noise=0.3):
    return et.Ppca(loadings, np.array(mean), noise)


def different(seed, K):
    rng = np.random.default_rng(seed)
    return [et.Ppca(rng.normal(size=(3, 2)), rng.normal(size=3), rng.uniform(0.1, 1.0)) for _ in range(K)], rng.dirichlet(np.ones(K))


def distance(members, weights, loadings):
    """sum_k w_k (|W_k|^2 + |W|^2 - 2 |W_k^T W|_nuclear)."""
    norms = [np.linalg.norm(m.loadings) ** 2 + np.linalg.norm(loadings) ** 2 - 2 * np.linalg.norm(np.asarray(m.loadings).T @ loadings, "nuc") for m in members]
    return weights @ norms


def test_rotated_copies_lose_what_the_cosine_says():
    for theta, w in [(0.4, 0.5), (2.0, 0.5), (np.pi, 0.5), (1.3, 0.2)]:
        average = et.average_loadings([model(W), model(W @ turn(theta))], [w, 1 - w])
        kept = np.cos(theta / 2) ** 2 if w == 0.5 else 1 - 4 * w * (1 - w) * np.sin(theta / 2) ** 2
        np.testing.assert_allclose(average.law.cov, kept * W @ W.T + 0.3 * np.eye(3), atol=1e-14)
        np.testing.assert_allclose(average.mean, [0.5, -1.0, 2.0])


@pytest.mark.parametrize("rule", AVERAGES[1:])
def test_copies_turned_or_reflected_keep_their_law_elsewhere(rule):
    flip = np.diag([1.0, -1.0])
    copies = [model(W @ Q) for Q in (np.eye(2), turn(2.5), turn(1.0) @ flip, flip)]
    for K, weights in [(1, None), (2, [0.3, 0.7]), (3, [0.2, 0.3, 0.5]), (4, None)]:
        law = rule(copies[-K:], weights)
        cov = law.cov if isinstance(law, et.Gaussian) else law.law.cov
        np.testing.assert_allclose(cov, W @ W.T + 0.3 * np.eye(3), atol=1e-13)


def test_means_and_noise_are_averaged_with_the_weights():
    members, weights = different(0, 3)
    mean = weights @ np.stack([m.mean for m in members])
    noise = weights @ np.stack([m.noise_variance for m in members])
    for rule in AVERAGES[:2]:
        average = rule(members, weights)
        np.testing.assert_allclose(average.mean, mean)
        np.testing.assert_allclose(average.noise_variance, noise)
    np.testing.assert_allclose(et.average_loadings(members, weights).loadings, sum(w * np.asarray(m.loadings) for w, m in zip(weights, members, strict=True)))
    law = et.average_covariances(members, weights)
    np.testing.assert_allclose(law.mean, mean)
    np.testing.assert_allclose(law.cov, sum(w * (m.loadings @ m.loadings.T + m.noise_variance * np.eye(3)) for w, m in zip(weights, members, strict=True)), rtol=1e-13)


def test_two_aligned_members_lie_on_the_geodesic_between_their_covariances():
    """A point at the distances (1 - w) D and w D from the two ends."""
    members, weights = different(1, 2)
    loadings = np.asarray(et.average_aligned_loadings(members, weights).loadings)
    apart = distance(members[:1], np.ones(1), np.asarray(members[1].loadings))
    ridged = [et.Gaussian(np.zeros(3), m.loadings @ m.loadings.T + 1e-12 * np.eye(3)) for m in members]
    assert float(et.w2_squared(*ridged)) == pytest.approx(apart, rel=1e-5)
    for k in (0, 1):
        assert distance([members[k]], np.ones(1), loadings) == pytest.approx((1 - weights[k]) ** 2 * apart, rel=1e-10)


def test_several_aligned_members_are_closest_among_rotations_and_perturbations():
    members, weights = different(2, 4)
    loadings = np.asarray(et.average_aligned_loadings(members, weights).loadings)
    least, rng = distance(members, weights, loadings), np.random.default_rng(0)
    for _ in range(200):
        rotations = [np.linalg.qr(rng.normal(size=(2, 2)))[0] for _ in members]
        other = sum(w * np.asarray(m.loadings) @ Q for w, m, Q in zip(weights, members, rotations, strict=True))
        assert distance(members, weights, other) >= least - 1e-12
        assert distance(members, weights, loadings + 1e-3 * rng.normal(size=(3, 2))) > least


def test_the_alignment_forgets_how_members_are_turned():
    members, weights = different(3, 3)
    turned = [et.Ppca(m.loadings @ turn(a), m.mean, m.noise_variance) for m, a in zip(members, (0.3, 2.0, 4.0), strict=True)]
    np.testing.assert_allclose(et.average_aligned_loadings(members, weights).law.cov, et.average_aligned_loadings(turned, weights).law.cov, atol=1e-9)


def test_a_barycenter_of_higher_rank_comes_closer_than_aligned_loadings():
    """Three directions of the plane, one factor each: aligned loadings stay on a line, the barycenter of the covariances does not."""
    angles = [0.0, 2 * np.pi / 3, 4 * np.pi / 3]
    members = [et.Ppca(np.array([[np.cos(a)], [np.sin(a)]]), np.zeros(2), 1.0) for a in angles]
    loadings = np.asarray(et.average_aligned_loadings(members).loadings)
    assert distance(members, np.ones(3) / 3, loadings) == pytest.approx(5 / 9, abs=1e-12)
    disc = et.Gaussian(np.zeros(2), 0.25)
    ridged = [et.Gaussian(np.zeros(2), np.asarray(m.loadings @ m.loadings.T) + 1e-12 * np.eye(2)) for m in members]
    assert np.mean([float(et.w2_squared(disc, g)) for g in ridged]) == pytest.approx(1 / 2, abs=1e-5)


def test_matched_moments_are_those_of_the_linear_pool():
    members, weights = different(4, 3)
    pool, law = et.linear_pool(members, weights), et.match_moments(members, weights)
    np.testing.assert_allclose(law.mean, pool.mean, rtol=1e-13)
    np.testing.assert_allclose(law.cov, pool.cov, rtol=1e-13)
    other = et.average_covariances(members, weights)
    means = np.stack([m.mean for m in members]) - np.asarray(law.mean)
    np.testing.assert_allclose(law.cov - other.cov, np.einsum("k,ki,kj->ij", weights, means, means), atol=1e-13)


def test_nearest_orthogonal_and_its_derivative():
    rng = np.random.default_rng(0)
    A, dA, h = rng.normal(size=(2, 2)), rng.normal(size=(2, 2)), 1e-5
    U, _, V = np.linalg.svd(A)
    Q, dQ = jax.jvp(nearest_orthogonal, (jnp.asarray(A),), (jnp.asarray(dA),))
    np.testing.assert_allclose(Q, U @ V, atol=1e-14)
    shifted = [np.linalg.svd(A + s * h * dA) for s in (1, -1)]
    np.testing.assert_allclose(dQ, (shifted[0][0] @ shifted[0][2] - shifted[1][0] @ shifted[1][2]) / (2 * h), atol=1e-8)
    equal = jax.jvp(nearest_orthogonal, (2 * jnp.eye(2),), (jnp.asarray(dA),))[1]  # equal singular values
    np.testing.assert_allclose(equal, (dA - dA.T) / 4, atol=1e-15)


def test_bad_members_are_refused_with_a_reason():
    g = et.standard_normal(3)
    with pytest.raises(TypeError, match=r"`members\[1\]`.*Gaussian.*average_covariances"):
        et.average_loadings([model(W), g])
    with pytest.raises(ValueError, match="`members`.*empty"):
        et.average_aligned_loadings([])
    with pytest.raises(ValueError, match=r"`members`.*\(3, 1\)"):
        et.average_loadings([model(W), model(W[:, :1])])
    with pytest.raises(ValueError, match="`weights`"):
        et.average_covariances([model(W), g], [0.5, 0.6])
    with pytest.raises(TypeError, match=r"`members\[0\]`.*GaussianMixture"):
        et.average_covariances([et.linear_pool([g, g])])
