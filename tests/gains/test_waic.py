"""Scores of points out of distribution, by sums over members, by Gauss-Hermite over the law of the means, and in their order."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

import ensembletheory as et
from ensembletheory.gains import waic, waic_of_gaussian_means
from tests.helpers import spd

WEIGHTS = np.array([0.2, 0.5, 0.3])
X = np.array([[0.0, 0.0], [1.0, -2.0], [8.0, 5.0]])


def test_scores_of_a_list_of_members_are_weighted_moments():
    rng = np.random.default_rng(0)
    members = [et.Gaussian(rng.normal(size=2), spd(rng, 2)) for _ in range(2)]
    members.append(et.linear_pool(members, [0.3, 0.7]))
    logs = np.stack([np.asarray(q.log_prob(X)) for q in members])
    scores = waic(X, members, WEIGHTS)
    np.testing.assert_allclose(scores.mean, WEIGHTS @ logs, rtol=1e-13)
    np.testing.assert_allclose(scores.variance, WEIGHTS @ logs**2 - (WEIGHTS @ logs) ** 2, rtol=1e-9)
    np.testing.assert_allclose(scores.log_mean, np.log(WEIGHTS @ np.exp(logs)), rtol=1e-12)
    np.testing.assert_allclose(scores.waic, scores.mean - scores.variance)
    assert waic(X[0], members).waic.shape == ()


def test_exact_scores_are_expectations_over_the_means():
    """Gauss-Hermite with five nodes an axis is exact for E l and E l^2, polynomials of degree four in the mean."""
    rng = np.random.default_rng(1)
    m, C, S = rng.normal(size=2), spd(rng, 2), spd(rng, 2)
    scores = waic_of_gaussian_means(X, et.Gaussian(m, C), et.Gaussian([5.0, 5.0], S))
    z, mass = np.polynomial.hermite_e.hermegauss(5)
    points = np.stack(np.meshgrid(z, z, indexing="ij"), -1).reshape(-1, 2)
    weights = np.outer(mass, mass).ravel() / mass.sum() ** 2
    means = m + points @ np.linalg.cholesky(C).T
    for i, x in enumerate(X):
        logs = np.array([multivariate_normal(mean, S).logpdf(x) for mean in means])
        np.testing.assert_allclose(scores.mean[i], weights @ logs, rtol=1e-12)
        np.testing.assert_allclose(scores.variance[i], weights @ (logs - weights @ logs) ** 2, rtol=1e-11)
        np.testing.assert_allclose(scores.log_mean[i], multivariate_normal(m, S + C).logpdf(x), rtol=1e-12)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_waic_is_at_most_the_mean_which_is_at_most_the_log_mean(seed):
    rng = np.random.default_rng(seed)
    x, members = rng.normal(size=(3, 2)) * 3, [et.Gaussian(rng.normal(size=2), spd(rng, 2)) for _ in range(3)]
    for scores in (waic(x, members, rng.dirichlet(np.ones(3))), waic_of_gaussian_means(x, members[0], members[1])):
        assert np.all(scores.waic <= scores.mean + 1e-12)
        assert np.all(scores.mean <= scores.log_mean + 1e-12)


def test_members_that_agree_have_one_score():
    g = et.Gaussian([1.0, 0.0], [0.5, 2.0])
    scores = waic(X, [g, g])
    np.testing.assert_allclose(scores.waic, g.log_prob(X), rtol=1e-13)
    np.testing.assert_allclose(scores.log_mean, g.log_prob(X), rtol=1e-13)


def test_far_out_waic_falls_faster_by_one_plus_two_over_n():
    n, far = 10, np.array([[0.0], [1e4]])
    scores = waic_of_gaussian_means(far, et.Gaussian([0.0], 2.0 / n), et.Gaussian([0.0], 2.0))
    falls = [float(score[1] - score[0]) for score in (scores.waic, scores.mean, scores.log_mean)]
    np.testing.assert_allclose([falls[0] / falls[1], falls[2] / falls[1]], [1 + 2 / n, 1 / (1 + 1 / n)], rtol=1e-12)
