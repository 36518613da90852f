"""Closed forms differentiate: along one path through parameters of which every one moves, the derivative by JAX is the central difference, also where members are equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory import gains
from ensembletheory.latent import average_elbo, average_log_likelihood, best_diagonal_encoder, hadamard_gap

STEP = 1e-5  # central differences: error STEP^2 / 6 of the third derivative, and rounding of 1e-16 / STEP
MEANS = np.array([[0.0, 0.3], [1.0, -0.5], [-0.7, 0.2]])
COVS = np.array([[[1.0, 0.4], [0.4, 0.8]], [[0.5, -0.3], [-0.3, 1.5]], [[2.0, 0.1], [0.1, 0.3]]])
MOVED = np.array([[[0.3, -0.2], [-0.2, 0.5]], [[-0.1, 0.2], [0.2, 0.4]], [[0.2, 0.3], [0.3, -0.1]]])
SHIFTED = np.array([[0.5, -1.0], [0.2, 0.7], [-0.3, 0.4]])
DATA = np.array([[2.0, 0.3, 0.1], [0.3, 1.0, -0.2], [0.1, -0.2, 0.5]])
POINT = np.array([0.4, -0.3])
VP = et.processes.VariancePreserving()


def members(t, spread):
    means, covs = (array[:1] + spread * (array - array[:1]) for array in (MEANS, COVS))
    return [et.Gaussian(means[k] + t * SHIFTED[k], covs[k] + t * MOVED[k]) for k in range(3)]


def weights(t):
    return jnp.stack([0.5 + t, 0.2 - 2 * t, 0.3 + t])


def mixture(t, spread):
    laws = members(t, spread)
    return et.GaussianMixture(weights(t), jnp.stack([law.mean for law in laws]), jnp.stack([law.cov for law in laws]))


def of_law(law):
    """A number to which every parameter of a Gaussian contributes."""
    return law.mean @ jnp.array([1.0, -2.0]) + jnp.sum(law.cov * jnp.array([[1.0, 0.5], [0.5, -3.0]]))


def ppca(t, k=0):
    loadings = np.array([[1.0, 0.2], [-0.5, 0.9], [0.3, 0.4]]) + 0.3 * k
    return et.Ppca(loadings + t * np.array([[0.1, -0.4], [0.6, 0.2], [-0.3, 0.5]]), np.zeros(3) + 0.2 * t, 0.4 + 0.5 * t + 0.1 * k)


def of_ppca(model):
    return jnp.sum(model.loadings * jnp.arange(6.0).reshape(3, 2)) + jnp.sum(model.mean) + model.noise_variance


CASES = {
    "log-density of a Gaussian": lambda t, spread: members(t, spread)[0].log_prob(POINT + t),
    "log-density of a mixture": lambda t, spread: mixture(t, spread).log_prob(POINT + t),
    "score of a mixture": lambda t, spread: mixture(t, spread).score(POINT + t) @ jnp.array([1.0, 2.0]),
    "entropy": lambda t, spread: members(t, spread)[0].entropy().value,
    "log pool": lambda t, spread: of_law(et.log_pool(members(t, spread), weights(t))),
    "log normaliser": lambda t, spread: et.log_normaliser(members(t, spread), weights(t)).value,
    "barycenter": lambda t, spread: of_law(et.w2_barycenter(members(t, spread), weights(t))),
    "averaged covariances": lambda t, spread: of_law(et.average_covariances(members(t, spread), weights(t))),
    "matched moments": lambda t, spread: of_law(et.match_moments(members(t, spread), weights(t))),
    "averaged score, ODE": lambda t, spread: of_law(et.mean_score_law(members(t, spread), VP, "ode", weights=weights(t), horizon=jnp.inf)),
    "averaged score, SDE": lambda t, spread: of_law(et.mean_score_law(members(t, spread), VP, "sde", weights=weights(t))),
    "averaged loadings": lambda t, spread: of_ppca(et.average_loadings([ppca(t), ppca(t, spread)], weights(t)[:2] / jnp.sum(weights(t)[:2]))),
    "aligned loadings": lambda t, spread: of_ppca(et.average_aligned_loadings([ppca(t), ppca(t, spread)], weights(t)[:2] / jnp.sum(weights(t)[:2]))),
    "gain of the log pool": lambda t, spread: gains.kl_log_decomposition(et.Gaussian(POINT + t, 1.0 + t), members(t, spread), weights(t)).ensemble.value,
    "spread around the barycenter": lambda t, spread: gains.w2_decomposition(et.Gaussian(POINT + t, 1.0 + t), members(t, spread), weights(t)).spread.value,
    "L2 diversity": lambda t, spread: gains.l2_decomposition(et.Gaussian(POINT + t, 1.0 + t), members(t, spread), weights(t)).diversity.value,
    "expected KL of a fit": lambda t, spread: gains.expected_kl_of_fit(20.0 + t, 3).value,
    "WAIC of Gaussian means": lambda t, spread: jnp.sum(jnp.stack(jax.tree.leaves(gains.waic_of_gaussian_means(POINT + t, *members(t, spread)[:2])))),
    "Hadamard gap": lambda t, spread: hadamard_gap(ppca(t)),
    "average ELBO": lambda t, spread: average_elbo(ppca(t), best_diagonal_encoder(ppca(t, 1)), DATA),
    "average log-likelihood": lambda t, spread: average_log_likelihood(ppca(t), DATA),
}


@pytest.mark.parametrize("name", CASES)
def test_the_derivative_is_the_central_difference(name):
    value_and_slope = jax.jit(jax.value_and_grad(CASES[name]))
    for spread in (1.0, 0.0):
        (above, _), (below, _), (_, slope) = (value_and_slope(t, spread) for t in (STEP, -STEP, 0.0))
        difference = (float(above) - float(below)) / (2 * STEP)
        assert abs(difference) > 1e-3 or spread == 0
        np.testing.assert_allclose(float(slope), difference, atol=1e-8 * max(1.0, abs(float(above))), rtol=1e-7)
