"""The extended skew normal law: density and moments by sums on a grid, its closure, draws, the truncated limit and the tail."""

import jax
import mpmath
import numpy as np
import pytest
from scipy import stats

import ensembletheory as et
from ensembletheory.laws import ExtendedSkewNormal
from ensembletheory.laws.skew_normal import inverse_mills, truncated_normal
from tests.helpers import assert_mean

MEAN, COV, DIRECTION = np.array([1.0, -0.5]), np.array([[2.0, 0.6], [0.6, 1.0]]), np.array([0.5, -1.2])
STEP = 0.06
LINE = np.arange(-11, 11, STEP)
GRID = np.stack(np.meshgrid(LINE, LINE, indexing="ij"), axis=-1)


def density(x, offset=-0.8, noise=0.7):
    score = offset + (x - MEAN) @ DIRECTION
    return stats.multivariate_normal(MEAN, COV).pdf(x) * stats.norm.cdf(score / noise)


@pytest.fixture(scope="module")
def law():
    return ExtendedSkewNormal(et.Gaussian(MEAN, COV), DIRECTION, -0.8, 0.7)


@pytest.fixture(scope="module")
def sums():
    """Mass, density, mean and covariance on the grid."""
    weights = density(GRID)
    mass = weights.sum() * STEP**2
    mean = np.einsum("ij,ijk->k", weights, GRID) * STEP**2 / mass
    return mass, weights / mass, mean, np.einsum("ij,ijk,ijl->kl", weights, GRID - mean, GRID - mean) * STEP**2 / mass


def test_density_moments_and_score(law, sums):
    mass, _, mean, cov = sums
    points = np.array([[0.3, -1.0], [4.0, 2.0]])
    np.testing.assert_allclose(np.exp(law.log_mass()), mass, rtol=1e-10)
    np.testing.assert_allclose(np.exp(law.log_prob(points)), density(points) / mass, rtol=1e-9)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(law.cov, cov, rtol=1e-9)
    steps = 1e-5 * np.eye(2)
    slopes = [[(np.log(density(x + s)) - np.log(density(x - s))) / 2e-5 for s in steps] for x in points]
    np.testing.assert_allclose(law.score(points), slopes, rtol=1e-6)


def test_marginals_conditionals_and_images_are_of_the_family(law, sums):
    _, p, mean, cov = sums
    marginal = law.marginal([1])
    np.testing.assert_allclose(np.exp(marginal.log_prob(LINE[100:103, None])), p.sum(axis=0)[100:103] * STEP, rtol=1e-9)
    column = p[:, 150] / (p[:, 150].sum() * STEP)
    np.testing.assert_allclose(np.exp(law.condition([1], [LINE[150]]).log_prob(LINE[[150, 200, 230], None])), column[[150, 200, 230]], rtol=1e-8)
    A = np.array([[2.0, -1.0]])
    image = law.push(A, [0.5])
    np.testing.assert_allclose(image.mean, A @ mean + 0.5, rtol=1e-9)
    np.testing.assert_allclose(image.cov, A @ cov @ A.T, rtol=1e-9)


def test_draws(law, sums):
    draws = np.asarray(law.sample(jax.random.key(0), 20_000))
    assert_mean(draws, sums[2])
    assert_mean(np.einsum("ni,nj->nij", draws - sums[2], draws - sums[2]), sums[3])


@pytest.mark.parametrize(("slope", "offset"), [(1.0, 0.4), (-2.0, -3.0)])
def test_without_noise_it_is_truncated(slope, offset):
    found = ExtendedSkewNormal(et.Gaussian([0.3], [[2.0]]), [slope], offset, 0.0)
    cut = (-offset / slope) / 2**0.5
    expected = stats.truncnorm(*((cut, 30.0) if slope > 0 else (-30.0, cut)), loc=0.3, scale=2**0.5)
    np.testing.assert_allclose(found.mean, expected.mean(), rtol=1e-10)
    np.testing.assert_allclose(found.cov, expected.var(), rtol=1e-9)
    np.testing.assert_allclose(found.entropy().value, expected.entropy(), rtol=1e-8)
    points = np.array([[-3.0], [0.2], [2.5]])
    np.testing.assert_allclose(found.log_prob(points), expected.logpdf(points[:, 0]), rtol=1e-12)


def test_the_tail_does_not_cancel():
    ratio, excess = (np.asarray(part) for part in jax.jit(inverse_mills)(np.array([-1e3, -40.0, -5.001, -4.999, 0.0, 6.0])))
    with mpmath.workdps(60):
        for a, r, e in zip([-1e3, -40.0, -5.001, -4.999, 0.0, 6.0], ratio, excess, strict=True):
            exact = mpmath.npdf(a) / mpmath.ncdf(a)
            np.testing.assert_allclose([r, e], [float(exact), float(exact + mpmath.mpf(a))], rtol=1e-12)


def test_the_least_quantile_is_where_the_truncated_normal_begins():
    found = jax.jit(truncated_normal)(np.array([1.0, 1.0, 0.5]), np.array([10.0, 0.3, 0.3]))
    np.testing.assert_allclose(found, [-10.0, -0.3, stats.norm.isf(0.5 * stats.norm.cdf(0.3))], rtol=1e-12)


@pytest.mark.verify
def test_divergences_of_a_half_plane_are_a_number_or_infinite():
    plane = et.Gaussian([0.0, 0.0], np.eye(2))
    half = ExtendedSkewNormal(plane, [1.0, 0.5], 0.3, 0.0)
    found = et.kl(half, plane)
    assert abs(float(found) + stats.norm.logcdf(0.3 / 1.25**0.5)) < float(found.error) < 1e-4
    assert float(et.kl(plane, half)) == np.inf


def test_infinite_where_the_other_truncates():
    line = et.Gaussian([0.0], [[1.0]])
    half = ExtendedSkewNormal(line, [1.0], 0.3, 0.0)
    assert float(et.kl(line, half)) == np.inf
    np.testing.assert_allclose(float(et.kl(half, line)), -stats.norm.logcdf(0.3), rtol=1e-9)


@pytest.mark.verify
def test_draws_far_in_the_tail():
    found = ExtendedSkewNormal(et.Gaussian([0.0], [[1.0]]), [1.0], -40.0, 0.0)
    draws = np.asarray(found.sample(jax.random.key(1), 100_000))[:, 0]
    assert draws.min() > 40
    assert_mean(draws, float(found.mean[0]))
    assert_mean((draws - float(found.mean[0])) ** 2, float(found.cov[0, 0]))


@pytest.mark.parametrize(
    ("direction", "noise", "message"), [([1.0], 1.0, "`direction, offset, noise`"), ([1.0, 1.0], -0.1, "`noise`: got -0.1"), ([0.0, 0.0], 0.0, "`noise`")]
)
def test_bad_input_is_refused(direction, noise, message):
    with pytest.raises(ValueError, match=message):
        ExtendedSkewNormal(et.Gaussian(MEAN, COV), direction, 0.0, noise)
