"""Log pools without a closed form, normalised by quadrature, and those whose covariances keep their structure."""

import itertools

import numpy as np
import pytest
import scipy.integrate
import scipy.stats

import ensembletheory as et

FIRST = et.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.25], [0.09]])
SECOND = et.GaussianMixture([0.6, 0.4], [[-1.0], [2.0]], [[1.0], [0.5]])
WEIGHTS = np.array([0.35, 0.65])
PLANE = [
    et.GaussianMixture([0.3, 0.7], [[-1.0, 0.0], [1.0, 0.5]], [[[0.5, 0.1], [0.1, 0.3]], [[0.4, 0.0], [0.0, 1.0]]]),
    et.Gaussian([0.5, -0.5], [[1.0, 0.3], [0.3, 0.8]]),
]


def log_density(law, x):
    if isinstance(law, et.Gaussian):
        return scipy.stats.multivariate_normal(law.mean, law.cov).logpdf(x)
    parts = list(zip(np.asarray(law.weights), np.asarray(law.means), np.asarray(law.covs), strict=True))
    if law.dim == 1:
        return np.log(sum(w * np.exp(-0.5 * (x - m[0]) ** 2 / S[0, 0]) / np.sqrt(2 * np.pi * S[0, 0]) for w, m, S in parts))
    return np.log(sum(w * scipy.stats.multivariate_normal(m, S).pdf(x) for w, m, S in parts))


def test_pool_of_mixtures_on_the_line_is_that_of_scipy():
    product = lambda x: np.exp(WEIGHTS[0] * log_density(FIRST, x) + WEIGHTS[1] * log_density(SECOND, x))  # noqa: E731
    ends = [-14.0, -4.0, -2.0, -1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 4.0, 14.0]
    moments = [sum(scipy.integrate.quad(lambda x, k=k: x**k * product(x), *pair, epsabs=0, epsrel=1e-12)[0] for pair in itertools.pairwise(ends)) for k in range(3)]
    pool, log_z = et.log_pool([FIRST, SECOND], WEIGHTS), et.log_normaliser([FIRST, SECOND], WEIGHTS)
    assert isinstance(pool, et.GridLaw)
    assert log_z.kind == "quadrature"
    assert abs(float(log_z) - np.log(moments[0])) < 1e-11
    assert float(log_z.error) < 1e-9
    np.testing.assert_allclose(pool.log_prob([[0.3]]), np.log(product(0.3) / moments[0]), rtol=1e-11)
    assert float(pool.mean[0]) == pytest.approx(moments[1] / moments[0], abs=1e-11)
    assert float(pool.cov[0, 0]) == pytest.approx(moments[2] / moments[0] - (moments[1] / moments[0]) ** 2, rel=1e-10)


def test_pool_in_the_plane_is_that_of_the_trapezoid_rule():
    x, y = np.linspace(-9, 9, 721), np.linspace(-9, 9, 721)  # geometric convergence: halving the step changes nothing in 12 digits
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    mass = np.sum(np.exp(WEIGHTS[0] * log_density(PLANE[0], grid) + WEIGHTS[1] * log_density(PLANE[1], grid))) * (x[1] - x[0]) ** 2
    log_z = et.log_normaliser(PLANE, WEIGHTS)
    assert abs(float(log_z) - np.log(mass)) < 1e-9
    assert abs(float(log_z) - np.log(mass)) <= float(log_z.error) + 1e-12


def test_one_component_mixtures_pool_as_gaussians_do():
    gaussians = [et.Gaussian([-1.0], 0.5), et.Gaussian([1.0], 2.0)]
    single = [et.GaussianMixture([1.0], law.mean[None], law.cov[None]) for law in gaussians]
    closed, grid = et.log_pool(gaussians, WEIGHTS), et.log_pool(single, WEIGHTS)
    np.testing.assert_allclose(grid.mean, closed.mean, atol=1e-12)
    np.testing.assert_allclose(grid.cov, closed.cov, rtol=1e-11)
    exact, found = et.log_normaliser(gaussians, WEIGHTS), et.log_normaliser(single, WEIGHTS)
    assert (exact.kind, found.kind) == ("closed_form", "quadrature")
    assert abs(float(exact) - float(found)) <= float(found.error) < 1e-10


def test_forward_kl_of_the_pool_gains_minus_log_z():
    target = et.Gaussian([0.3], 0.4)
    gain = et.gain(target, [FIRST, SECOND], rule=et.log_pool)
    total = float(gain.gain.error) + float(gain.diversity.error)
    assert abs(float(gain.gain) - float(gain.diversity)) <= total < 1e-8


def test_pools_of_many_coordinates_keep_low_rank_plus_diagonal():
    rng = np.random.default_rng(0)
    d, w = 7, np.array([0.2, 0.5, 0.3])
    members = [et.Gaussian(rng.normal(size=d), et.LowRankPlusDiagonal(rng.normal(size=(d, 2)), rng.uniform(0.5, 2.0, d))) for _ in range(2)]
    members.append(et.Gaussian(rng.normal(size=d), 0.8))
    pool = et.log_pool(members, w)
    assert isinstance(pool.covariance, et.LowRankPlusDiagonal)
    precisions = [np.linalg.inv(member.cov) for member in members]
    cov = np.linalg.inv(sum(a * P for a, P in zip(w, precisions, strict=True)))
    np.testing.assert_allclose(pool.cov, cov, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(pool.mean, cov @ sum(a * P @ member.mean for a, P, member in zip(w, precisions, members, strict=True)), rtol=1e-11)


def test_mixtures_in_three_dimensions_are_refused_by_name():
    law = et.GaussianMixture([0.5, 0.5], np.zeros((2, 3)), np.ones((2, 3)))
    for call in (et.log_pool, et.log_normaliser):
        with pytest.raises(TypeError, match=r"(?s)`members\[1\]`.*GaussianMixture in dimension 3.*one or two dimensions"):
            call([et.standard_normal(3), law])
