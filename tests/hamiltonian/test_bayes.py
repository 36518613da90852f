"""Reverse KL: Gaussians written out in NumPy, quadrature against closed forms, and a posterior of two parameters against its sums on a grid."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ensembletheory as et
from ensembletheory.hamiltonian import (
    BayesianFlow,
    HamiltonianFlow,
    RidgeEncoder,
    RidgePotential,
    evidence_bound,
    extended_target,
    fit_reverse_kl,
    position_moments,
    quadratic_fit,
    reverse_kl,
)
from ensembletheory.kernels import AffineKernel
from ensembletheory.processes import QuadraticHamiltonian
from tests.hamiltonian.test_gauge import leapfrog
from tests.helpers import spd

MEAN, COV = np.array([0.5, -1.0]), np.array([[1.0, 0.8], [0.8, 1.0]])
TARGET = et.Gaussian(MEAN, COV)


class Logistic(eqx.Module):
    """Logistic regression with intercept and slope, priors N(0, 4)."""

    x: jax.Array
    y: jax.Array

    def __call__(self, q):
        linear = q[0] + q[1] * self.x
        return jnp.sum(self.y * linear - jnp.logaddexp(0.0, linear)) - q @ q / 8


DATA = np.array([-2.0, -1.0, -0.5, 0.3, 1.0, 1.5, 2.5]), np.array([0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0])
POSTERIOR = Logistic(*map(jnp.asarray, DATA))


def kl(m, S, n, V):
    gap = n - m
    return 0.5 * (np.trace(np.linalg.solve(V, S)) + gap @ np.linalg.solve(V, gap) - len(m) - np.linalg.slogdet(S)[1] + np.linalg.slogdet(V)[1])


def test_reverse_kl_of_an_arbitrary_linear_flow_and_encoder():
    """Nothing is at its optimum, so that every term counts; the quadrature agrees, to rounding."""
    rng = np.random.default_rng(0)
    K, W, C, b = spd(rng, 2), rng.normal(size=(2, 2)), spd(rng, 2), rng.normal(size=2)
    centre = np.array([0.3, -0.2])
    flow = HamiltonianFlow(QuadraticHamiltonian(1.0, K, centre, horizon=0.8), et.standard_normal(4), 2)
    N = leapfrog(K, 1.0, 0.4, 2)
    rest = np.concatenate([centre, [0.0, 0.0]])
    extended = np.block([[COV, COV @ W.T], [W @ COV, W @ COV @ W.T + C]])
    expected = kl(rest - N @ rest, N @ N.T, np.concatenate([MEAN, W @ MEAN + b]), extended)
    encoder = AffineKernel(W, b, C)
    assert float(reverse_kl(flow, TARGET, encoder)) == pytest.approx(expected, rel=1e-10)
    np.testing.assert_allclose(extended_target(TARGET, encoder).cov, extended, rtol=1e-12)
    bound = evidence_bound(flow, jax.tree_util.Partial(lambda q: TARGET._log_prob(q) + 1.7), encoder, order=4)
    assert float(bound) == pytest.approx(1.7 - expected, rel=1e-10)
    mean, cov = position_moments(flow, order=4)
    np.testing.assert_allclose(mean, (rest - N @ rest)[:2], atol=1e-12)
    np.testing.assert_allclose(cov, (N @ N.T)[:2, :2], rtol=1e-10)


def test_quadratic_fits_are_exact_or_biased_as_the_encoder_allows():
    full, mean_field = (quadratic_fit(TARGET, 0.3, mean_field=flag) for flag in (False, True))
    for found, cov, least in ((full, COV, 0.0), (mean_field, [[0.6, 0.3], [0.3, 0.6]], np.log(4 / 3))):
        law = found.flow.law()
        np.testing.assert_allclose(law.mean, MEAN, rtol=1e-12)
        np.testing.assert_allclose(law.cov, cov, rtol=1e-11)
        assert float(found.divergence) == pytest.approx(least, abs=1e-11)
    C = mean_field.encoder.C.as_matrix()
    np.testing.assert_allclose(C, np.diag(np.diag(np.linalg.inv([[0.6, 0.3], [0.3, 0.6]]))), rtol=1e-10)
    with pytest.raises(ValueError, match="`step`: got 0.9"):
        quadratic_fit(TARGET, 0.9)


def test_a_posterior_of_two_parameters_is_fitted_close_to_what_quadrature_says():
    x, y = DATA
    a, b = np.meshgrid(np.linspace(-9, 9, 301), np.linspace(-6, 12, 301), indexing="ij")  # the trapezoid rule: what is left out weighs less than 1e-6
    linear = a[..., None] + b[..., None] * x
    density = np.exp(np.sum(y * linear - np.logaddexp(0, linear), axis=-1) - (a**2 + b**2) / 8)
    Z = density.sum() * (18 / 300) ** 2
    mean = np.array([np.sum(a * density), np.sum(b * density)]) / density.sum()
    found = fit_reverse_kl(POSTERIOR, 2, jax.random.key(1), ridges=1, steps=1, order=5)
    bound = evidence_bound(found.flow, POSTERIOR, found.encoder, order=9)
    assert float(bound) + float(bound.error) < np.log(Z)
    assert np.log(Z) - float(bound) < 0.045  # the best Gaussian leaves 0.050
    assert float(bound.error) < 1e-3
    fitted, cov = position_moments(found.flow)
    np.testing.assert_allclose(fitted, mean, atol=0.05)
    assert 0.7 < float(cov[1, 1]) < 1.05


def test_the_small_family_is_what_it_says():
    potential = RidgePotential(jnp.array([0.3, -0.1]), jnp.array([[1.0, 0.4], [0.2, 2.0]]), jnp.array([0.7]), jnp.array([[1.0, -2.0]]), jnp.array([0.5]))
    heights, directions = jnp.array([[0.5], [-1.0]]), jnp.array([[1.0, 1.0]])
    encoder = RidgeEncoder(jnp.array([0.1, 0.2]), jnp.eye(2), heights, directions, jnp.array([0.1]), jnp.array([0.1, -0.2]), jnp.full((2, 2), 0.3))
    q = np.array([0.4, -0.6])
    u = q @ [1.0, -2.0] + 0.5
    assert float(potential(jnp.asarray(q))) == pytest.approx(q @ [0.3, -0.1] + 0.5 * q @ [[1.0, 0.3], [0.3, 2.0]] @ q + 0.7 * np.log(np.cosh(u)), rel=1e-12)
    mean, cov = jax.jit(lambda q: (encoder(q).mean, encoder(q).cov))(jnp.asarray(q))
    np.testing.assert_allclose(mean, np.array([0.1, 0.2]) + q + np.array([0.5, -1.0]) * np.tanh(q.sum() + 0.1), rtol=1e-12)
    L = np.array([[np.exp(0.1), 0.0], [0.3, np.exp(-0.2)]])
    np.testing.assert_allclose(cov, L @ L.T, rtol=1e-12)
    model = BayesianFlow(potential, jnp.asarray(0.2), encoder, 2)
    assert model.flow.dim == 2


def test_mistakes_are_refused():
    flow = quadratic_fit(TARGET, 0.3).flow
    with pytest.raises(ValueError, match="`order`: got 3; expected at least 4"):
        evidence_bound(flow, TARGET._log_prob, flow.posterior(), order=3)
    with pytest.raises(ValueError, match="`encoder`: got an input of dimension 1; expected dimension 2"):
        extended_target(TARGET, AffineKernel(np.ones((2, 1)), np.zeros(2), 1.0))
    uniform = HamiltonianFlow(QuadraticHamiltonian(1.0, 1.0), et.GaussianMixture([0.5, 0.5], np.zeros((2, 2)), np.ones((2, 2))), 1)
    with pytest.raises(TypeError, match="`prior`: got GaussianMixture; expected Gaussian"):
        position_moments(uniform)
