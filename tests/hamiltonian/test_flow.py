"""Hamiltonian flows against products of kicks and drifts, Bayes' rule and quadrature in NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats
from scipy.special import expit

from ensembletheory.hamiltonian import HamiltonianFlow
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian, GaussianMixture, SoftUniform, standard_normal
from ensembletheory.processes import QuadraticHamiltonian, SeparableHamiltonian
from ensembletheory.samplers import Heun, Splitting, yoshida4
from tests.helpers import assert_mean, spd

RNG = np.random.default_rng(5)
K, M, MEAN, STEPS = spd(RNG, 2), np.array([0.6, 1.8]), np.array([1.0, -0.5]), 4
HAMILTONIAN = QuadraticHamiltonian(M, K, MEAN, horizon=1.2)
Z = RNG.normal(size=(3, 4))


def leapfrog(h=1.2 / STEPS, steps=STEPS):
    kick, drift = np.eye(4), np.eye(4)
    kick[2:, :2], drift[:2, 2:] = -h / 2 * K, h * np.diag(1 / M)
    return np.linalg.matrix_power(kick @ drift @ kick, steps)


N, CENTRE = leapfrog(), np.r_[MEAN, 0.0, 0.0]
SPREAD, START = spd(RNG, 4), RNG.normal(size=4)
FLOW = HamiltonianFlow(HAMILTONIAN, Gaussian(START, SPREAD), STEPS)
JOINT_MEAN, JOINT = CENTRE + N @ (START - CENTRE), N @ SPREAD @ N.T


def test_generate_and_encode():
    moved = CENTRE + (Z - CENTRE) @ N.T
    np.testing.assert_allclose(FLOW.generate(Z), moved, rtol=1e-12)
    np.testing.assert_allclose(FLOW.encode(moved), Z, rtol=1e-12, atol=1e-13)


def test_laws_and_joint_density():
    law = FLOW.law()
    np.testing.assert_allclose(law.mean, JOINT_MEAN[:2], rtol=1e-12)
    np.testing.assert_allclose(law.cov, JOINT[:2, :2], rtol=1e-12)
    np.testing.assert_allclose(FLOW.joint().cov, JOINT, rtol=1e-11)
    np.testing.assert_allclose(FLOW.log_prob(Z), stats.multivariate_normal(JOINT_MEAN, JOINT).logpdf(Z), rtol=1e-11)


def test_posterior_of_any_gaussian_prior_is_bayes_rule():
    kernel, q = FLOW.posterior(), jnp.array([0.3, 0.9])
    gain = JOINT[2:, :2] @ np.linalg.inv(JOINT[:2, :2])
    np.testing.assert_allclose(kernel.at(q).mean, JOINT_MEAN[2:] + gain @ (q - JOINT_MEAN[:2]), rtol=1e-11)
    np.testing.assert_allclose(kernel.C.as_matrix(), JOINT[2:, 2:] - gain @ JOINT[:2, 2:], rtol=1e-10)


def test_posterior_from_the_standard_normal():
    """P(p | q) = N(W (q - mean), S^{-1}) with W symmetric: W here has unequal diagonal entries and does not commute with S."""
    flow = HamiltonianFlow(HAMILTONIAN, standard_normal(4), STEPS)
    posterior, S = flow.posterior(), np.asarray(flow.law().cov)
    W = np.asarray(posterior.A)
    np.testing.assert_allclose(W, W.T, atol=1e-13)
    np.testing.assert_allclose(posterior.C.as_matrix() @ S, np.eye(2), atol=1e-12)
    assert np.max(abs(W @ S - S @ W)) > 0.05


def evidence_by_hand(q, encoder, log_prior, encode):
    """The ELBO at one point of the line, by adaptive quadrature."""
    inside = lambda p: encoder.pdf(p) * (log_prior(*encode(q, p)) - encoder.logpdf(p))  # noqa: E731
    return integrate.quad(inside, encoder.mean() - 9 * encoder.std(), encoder.mean() + 9 * encoder.std(), epsabs=1e-12, limit=200)[0]


LINE = SeparableHamiltonian.fixed_kinetic(lambda q: jnp.sum(q**4) / 4, [0.8], 0.9)  # V' = q^3, m = 0.8


def encode_by_hand(q, p, h=0.3, steps=3):
    for _ in range(steps):
        p = p + h / 2 * q**3
        q = q - h * p / 0.8
        p = p + h / 2 * q**3
    return q, p


def soft(q, p):
    return (expit(4 * q + 6) - expit(4 * q - 6)) * (expit(4 * p + 4) - expit(4 * p - 4)) / 6


def log_soft(q, p):
    return np.log(soft(q, p))


SOFT = HamiltonianFlow(LINE, SoftUniform([3.0, 2.0], 4.0), 3)


def test_evidence_lower_bound_on_a_quartic_potential():
    encoder = AffineKernel([[0.4]], [-0.1], [[0.3]])
    found = SOFT.elbo([0.7], encoder)
    exact = evidence_by_hand(0.7, stats.norm(0.4 * 0.7 - 0.1, np.sqrt(0.3)), log_soft, encode_by_hand)
    assert found.value == pytest.approx(exact, abs=1e-9)
    assert found.kind == "quadrature"
    density = integrate.quad(lambda p: soft(*encode_by_hand(0.7, p)), -8, 8, epsabs=1e-12, limit=400)[0]
    assert found.value < np.log(density) - 0.01  # a bound, and no Gaussian attains it
    drawn = SOFT.elbo([0.7], encoder, key=jax.random.key(1), samples=20_000)
    assert abs(drawn.value - exact) < 5 * drawn.error


def test_joint_density_and_draws_on_a_quartic_potential():
    z = np.array([0.7, -0.4])
    assert SOFT.log_prob(z) == pytest.approx(log_soft(*encode_by_hand(*z)), rel=1e-12)
    starts = np.asarray(SOFT.prior.sample(jax.random.key(2), 4000))
    np.testing.assert_allclose(SOFT.encode(SOFT.generate(starts)), starts, atol=1e-12)
    draws = np.asarray(SOFT.sample(jax.random.key(3), 4000))
    q, p = np.meshgrid(np.linspace(-7.5, 7.5, 601), np.linspace(-7.5, 7.5, 601), indexing="ij")
    density = 0.025**2 * soft(*encode_by_hand(q, p))
    assert np.sum(density) == pytest.approx(1, abs=1e-5)
    assert_mean(draws[:, 0] ** 2, np.sum(density * q**2))


def test_the_bound_is_attained_by_the_posterior():
    line = HamiltonianFlow(QuadraticHamiltonian(0.7, 1.3, [0.2], horizon=0.8), Gaussian([0.5, -0.2], [[1.5, 0.4], [0.4, 0.7]]), 2)
    assert line.elbo([0.9], line.posterior()).value == pytest.approx(float(line.law().log_prob([0.9])), abs=1e-10)
    assert line.elbo([0.9], lambda q: Gaussian(q, [[0.5]])).value < line.law().log_prob([0.9]) - 0.01


def test_mixtures_of_priors_and_other_schemes():
    means, covs = RNG.normal(size=(2, 4)), np.stack([spd(RNG, 4) for _ in range(2)])
    law = HamiltonianFlow(HAMILTONIAN, GaussianMixture([0.3, 0.7], means, covs), STEPS).law()
    for k in range(2):
        np.testing.assert_allclose(law.means[k], (CENTRE + N @ (means[k] - CENTRE))[:2], rtol=1e-11)
        np.testing.assert_allclose(law.covs[k], (N @ covs[k] @ N.T)[:2, :2], rtol=1e-11)
    w = 1 / (2 - 2 ** (1 / 3))
    triple = leapfrog(0.3 * w, 1) @ leapfrog(0.3 * (1 - 2 * w), 1) @ leapfrog(0.3 * w, 1)
    steps = HamiltonianFlow(HAMILTONIAN, standard_normal(4), STEPS, yoshida4())
    np.testing.assert_allclose(steps.kernel().A, np.linalg.matrix_power(triple, STEPS), rtol=1e-10, atol=1e-11)


def test_refusals():
    with pytest.raises(ValueError, match="`prior`: got dimension 3; expected an even dimension"):
        HamiltonianFlow(HAMILTONIAN, standard_normal(3), 2)
    with pytest.raises(ValueError, match="`scheme`: got Heun; expected a palindromic splitting"):
        HamiltonianFlow(HAMILTONIAN, standard_normal(4), 2, Heun())
    with pytest.raises(ValueError, match="stability limit 2"):
        HamiltonianFlow(QuadraticHamiltonian(1.0, 100.0), standard_normal(2), 4)
    with pytest.raises(ValueError, match="`q`: got shape"):
        FLOW.elbo([[0.0, 0.0]], FLOW.posterior())
    with pytest.raises(ValueError, match="`encoder`: got a law in dimension 1"):
        FLOW.elbo([0.0, 0.0], lambda q: standard_normal(1))
    with pytest.raises(TypeError, match="`prior`: got GaussianMixture; expected Gaussian"):
        HamiltonianFlow(HAMILTONIAN, GaussianMixture([1.0], [[0.0] * 4], [np.eye(4)]), STEPS).posterior()
    with pytest.raises(ValueError, match="affine"):
        HamiltonianFlow(LINE, standard_normal(2), 3).law()
    with pytest.raises(ValueError, match="palindrome"):
        HamiltonianFlow(HAMILTONIAN, standard_normal(4), 2, Splitting([0.3, 0.7], [1.0]))
