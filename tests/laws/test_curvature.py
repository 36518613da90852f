"""Hessians, modes and sums: what a law's log-density looks like around a point, and what independent draws add up to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import ensembletheory as et
from tests.helpers import spd

RNG = np.random.default_rng(3)
WEIGHTS, MEANS, COVS = np.array([0.2, 0.5, 0.3]), RNG.normal(size=(3, 3)), np.stack([spd(RNG, 3) for _ in range(3)])
MIXTURE = et.GaussianMixture(WEIGHTS, MEANS, COVS)
LOADINGS, NOISE = RNG.normal(size=(3, 3, 1)), RNG.uniform(0.5, 2.0, (3, 3))
STRUCTURED = et.GaussianMixture(WEIGHTS, MEANS, [et.LowRankPlusDiagonal(F, D) for F, D in zip(LOADINGS, NOISE, strict=True)])
X = RNG.normal(size=(2, 3))


def parts(law):
    return (np.asarray(part) for part in (law.weights, law.means, law.covs))


def log_density(law, x):
    return np.log(sum(w * scipy.stats.multivariate_normal(m, S).pdf(x) for w, m, S in zip(*parts(law), strict=True)))


def quick_log_density(law):
    """At one point, with the matrices inverted once."""
    weights, means, covs = parts(law)
    precisions, scales = np.linalg.inv(covs), weights / np.sqrt(np.linalg.det(2 * np.pi * covs))
    return lambda x: np.log(scales @ np.exp(-0.5 * np.einsum("ki,kij,kj->k", x - means, precisions, x - means)))


@pytest.mark.parametrize("law", [MIXTURE, STRUCTURED], ids=["dense", "low rank plus diagonal"])
def test_hessian_of_a_mixture_is_the_difference_of_its_scores(law):
    hessian, step = np.asarray(law.hessian(X)), 1e-5
    assert hessian.shape == (2, 3, 3)
    ahead, behind = (np.asarray(law.score(X[:, None, :] + sign * step * np.eye(3))) for sign in (1, -1))
    np.testing.assert_allclose(hessian, (ahead - behind) / (2 * step), atol=1e-8)
    np.testing.assert_allclose(hessian, np.swapaxes(hessian, 1, 2), atol=1e-14)


def test_hessian_of_a_gaussian_is_minus_its_precision():
    np.testing.assert_allclose(et.Gaussian(MEANS[0], COVS[0]).hessian(X), -np.linalg.inv(COVS[0])[None].repeat(2, 0), rtol=1e-12)


def test_a_mixture_keeps_the_structure_of_its_covariances():
    full = [F @ F.T + np.diag(D) for F, D in zip(LOADINGS, NOISE, strict=True)]
    assert isinstance(STRUCTURED.components.covariance, et.LowRankPlusDiagonal)
    np.testing.assert_allclose(STRUCTURED.covs, full, rtol=1e-14)
    np.testing.assert_allclose(STRUCTURED.log_prob(X), et.GaussianMixture(WEIGHTS, MEANS, full).log_prob(X), rtol=1e-13)
    mixed = et.GaussianMixture(WEIGHTS[:2] / 0.7, MEANS[:2], [et.Isotropic(2.0, 3), et.Dense(COVS[0])])
    np.testing.assert_allclose(mixed.covs, [2 * np.eye(3), COVS[0]])
    pool = et.linear_pool([et.Gaussian(m, et.LowRankPlusDiagonal(F, D)) for m, F, D in zip(MEANS, LOADINGS, NOISE, strict=True)], WEIGHTS)
    assert isinstance(pool.components.covariance, et.LowRankPlusDiagonal)
    np.testing.assert_allclose(pool.score(X), STRUCTURED.score(X), rtol=1e-12)
    draws = np.asarray(STRUCTURED.sample(jax.random.key(0), 100_000))
    np.testing.assert_allclose(np.cov(draws.T), STRUCTURED.cov, atol=0.1)


MODAL = {
    "one component": et.GaussianMixture([1.0], [[0.3, -1.0]], [[[1.0, 0.3], [0.3, 0.5]]]),
    "merged": et.GaussianMixture([0.5, 0.5], [[-0.9], [0.9]], [[1.0], [1.0]]),
    "split": et.GaussianMixture([0.3, 0.7], [[-2.0], [1.0]], [[0.25], [0.49]]),
    "a mean on a minimum": et.GaussianMixture([0.45, 0.1, 0.45], [[-2.0], [0.0], [2.0]], [[0.5], [4.0], [0.5]]),
    "more modes than components": et.GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [[1.0, 0.02], [0.02, 1.0]]),
    "three": et.GaussianMixture(WEIGHTS, 3 * MEANS, COVS),
}


@pytest.mark.parametrize("name", MODAL)
def test_modes_are_the_maxima_that_a_search_from_everywhere_finds(name):
    law = MODAL[name]
    found = np.asarray(law.modes())
    np.testing.assert_allclose(law.score(found), 0.0, atol=1e-7)
    assert np.all(np.linalg.eigvalsh(law.hessian(found)) < 0)
    assert np.all(np.diff(law.log_prob(found)) <= 1e-12)
    spread = np.random.default_rng(0).normal(size=(25, law.dim)) * 1.5 * np.sqrt(np.diag(law.cov)) + np.asarray(law.mean)
    density = quick_log_density(law)
    reached = [scipy.optimize.minimize(lambda x: -density(x), x, method="BFGS", options={"gtol": 1e-7}).x for x in np.concatenate([spread, found])]
    distances = np.linalg.norm(np.asarray(reached)[:, None] - found[None], axis=-1)
    assert np.all(np.min(distances, axis=0) < 1e-4)
    nearest = np.min(distances, axis=1)
    assert np.mean(nearest < 1e-4) > 0.9  # a search may stop at a saddle
    assert len(found) == {"one component": 1, "merged": 1, "split": 2, "a mean on a minimum": 2, "more modes than components": 3, "three": 3}[name]


def test_modes_that_are_about_to_split_are_refused():
    with pytest.raises(ValueError, match="(?s)`mixture`.*singular.*about to split"):
        et.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [[1.0], [1.0]]).modes()
    with pytest.raises(ValueError, match="(?s)`mixture`.*traced"):
        jax.jit(lambda w: et.GaussianMixture(w, jnp.zeros((2, 1)), jnp.ones((2, 1))).modes())(jnp.asarray([0.5, 0.5]))


def test_convolution_is_the_density_of_the_sum():
    first, second = MODAL["split"], et.GaussianMixture([0.4, 0.6], [[0.5], [3.0]], [[1.0], [0.2]])
    total = et.convolve(first, second)
    grid = np.linspace(-15, 15, 6001)
    for x in (-1.5, 0.7, 4.0):
        density = np.exp(log_density(first, grid[:, None])) @ np.exp(log_density(second, x - grid[:, None])) * (grid[1] - grid[0])
        assert float(total.log_prob([x])) == pytest.approx(np.log(density), rel=1e-10)
    assert total.weights.shape == (4,)


def test_convolution_of_every_kind():
    gaussian, low = et.Gaussian(MEANS[0], COVS[0]), et.Gaussian(MEANS[1], et.LowRankPlusDiagonal(LOADINGS[0], NOISE[0]))
    both = et.convolve(gaussian, low)
    np.testing.assert_allclose(both.mean, MEANS[0] + MEANS[1])
    np.testing.assert_allclose(both.cov, COVS[0] + LOADINGS[0] @ LOADINGS[0].T + np.diag(NOISE[0]))
    assert isinstance(et.convolve(low, et.standard_normal(3)).covariance, et.LowRankPlusDiagonal)
    smeared = et.convolve(MIXTURE, low)
    np.testing.assert_allclose(smeared.mean, MIXTURE.mean + MEANS[1], rtol=1e-13)
    np.testing.assert_allclose(smeared.cov, MIXTURE.cov + low.cov, rtol=1e-12)
    atoms = et.FiniteLaw([[0.0, 1.0, 0.0], [2.0, 0.0, 1.0]], [0.25, 0.75])
    for law in (et.convolve(atoms, gaussian), et.convolve(gaussian, atoms)):
        expected = np.logaddexp(
            *[np.log(w) + scipy.stats.multivariate_normal(MEANS[0] + a, COVS[0]).logpdf(X[0]) for w, a in zip(atoms.weights, np.asarray(atoms.points), strict=True)]
        )
        assert float(law.log_prob(X[0])) == pytest.approx(expected, rel=1e-13)
    coins = et.convolve(et.FiniteLaw([[0.0], [1.0]], [0.4, 0.6]), et.FiniteLaw([[0.0], [1.0]], [0.4, 0.6]))
    np.testing.assert_allclose(coins.log_prob([[0.0], [1.0], [2.0]]), np.log([0.16, 0.48, 0.36]))
    with pytest.raises(TypeError, match="`q`.*GridLaw"):
        et.convolve(MODAL["split"], et.log_pool([MODAL["split"], MODAL["merged"]]))
