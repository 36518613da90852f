"""A Gaussian of singular covariance: it has moments, draws, distances and noised laws; what needs a density refuses, and divergences to densities are infinite."""

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest

import ensembletheory as et
from ensembletheory.laws import singular_gaussian
from tests.helpers import assert_mean

MEAN, PLANE = np.array([1.0, -2.0]), np.array([[1.0, 2.0], [2.0, 4.0]])
FORMS = {"full": PLANE, "diagonal": np.array([2.0, 0.0]), "point": 0.0}
REGULAR = et.Gaussian([0.5, 0.0], [[2.0, 0.5], [0.5, 1.0]])
VP = et.processes.VariancePreserving()


def matrix(cov):
    return cov if np.ndim(cov) == 2 else np.diag(np.broadcast_to(cov, 2))


@pytest.mark.parametrize("form", FORMS)
def test_moments_draws_distances_and_noised_laws(form):
    law, cov = singular_gaussian(MEAN, FORMS[form]), matrix(FORMS[form])
    np.testing.assert_allclose(law.cov, cov)
    draws = np.asarray(law.sample(jax.random.key(0), 20_000))
    if form != "point":
        assert_mean((draws - MEAN)[:, 0] ** 2, cov[0, 0])
    np.testing.assert_allclose((draws - MEAN) @ np.linalg.eigh(cov)[1][:, 0], 0.0, atol=1e-7)  # none leaves the line: the root of a rounding error
    cost = ot.gaussian.bures_wasserstein_distance(MEAN, np.asarray(REGULAR.mean), cov, np.asarray(REGULAR.cov)) ** 2
    assert float(et.w2_squared(law, REGULAR)) == pytest.approx(cost, rel=1e-6)
    assert float(et.w2_squared(law, law)) == pytest.approx(0.0, abs=1e-14)
    u = np.exp(-(0.1 * 0.3 + 19.9 * 0.3**2 / 2))
    noised = VP.marginal(law, 0.3)
    np.testing.assert_allclose(noised.cov, u * cov + (1 - u) * np.eye(2), rtol=1e-12)
    np.testing.assert_allclose(VP.score(law)(jnp.asarray(0.3), jnp.zeros(2)), np.linalg.solve(noised.cov, np.sqrt(u) * MEAN), rtol=1e-10)
    assert VP.marginal(law, 0.0) is law


def test_divergences_to_laws_with_a_density_are_infinite():
    law = singular_gaussian(MEAN, PLANE)
    mixture = et.GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [np.eye(2), np.eye(2)])
    for other in (REGULAR, mixture, et.FiniteLaw([[0.0, 0.0]])):
        assert float(et.kl(law, other)) == np.inf
        assert float(et.kl(other, law)) == np.inf
    with pytest.raises(TypeError, match="at most one Gaussian of singular covariance"):
        et.kl(law, law)


def test_a_law_that_a_program_made_singular_is_infinitely_far():
    """As the law of a sampler that collapses: its covariance was never looked at."""
    collapsed = jax.jit(lambda m: et.Gaussian(m, jnp.zeros(2)))(jnp.asarray(MEAN))
    for p, q in ((collapsed, et.standard_normal(2)), (et.standard_normal(2), collapsed)):
        assert float(et.kl(p, q)) == np.inf


@pytest.mark.parametrize("call", ["log_prob", "score", "hessian", "entropy", "condition"])
def test_what_needs_a_density_refuses_by_name(call):
    law = singular_gaussian(MEAN, PLANE)
    arguments = {"entropy": (), "condition": ([0], [1.0])}.get(call, (np.zeros(2),))
    with pytest.raises(ValueError, match="`cov`.*singular covariance.*noise first"):
        getattr(law, call)(*arguments)


def test_its_pieces_are_singular_only_where_they_are():
    law = singular_gaussian(MEAN, PLANE)
    assert float(law.marginal([0]).entropy()) == pytest.approx(0.5 * np.log(2 * np.pi * np.e))
    regular = singular_gaussian(MEAN, PLANE + np.eye(2))
    np.testing.assert_allclose(regular.log_prob(MEAN), et.Gaussian(MEAN, PLANE + np.eye(2)).log_prob(MEAN))
    with pytest.raises(ValueError, match="`cov`.*eigenvalue -1"):
        singular_gaussian(MEAN, [[1.0, 0.0], [0.0, -1.0]])
    with pytest.raises(ValueError, match="`cov`"):
        et.Gaussian(MEAN, PLANE)
