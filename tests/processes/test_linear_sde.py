"""Linear SDEs with a non-normal, non-reversible drift: transitions by SciPy, the reverse dynamics by recursions that stand here only."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import ensembletheory as et
from ensembletheory.linalg import transition
from ensembletheory.samplers import EulerMaruyama, Rk4, Sampler, padded
from tests.helpers import spd

A, NOISE = np.array([[-0.6, 2.0], [-0.3, 0.1]]), np.array([[0.5, 0.2, -0.4], [0.0, 0.7, 0.3]])
Q = NOISE @ NOISE.T
SDE = et.processes.LinearSde(A, NOISE, 1.5)
RNG = np.random.default_rng(0)
MEAN, COV = RNG.normal(size=2), spd(RNG, 2)
LAW = et.Gaussian(MEAN, COV)
GRID = np.linspace(1.5, 0.0, 31)


def moved(t):
    """exp(A t) and the Gramian, by Van Loan's block exponential, which the package does not use."""
    block = scipy.linalg.expm(t * np.block([[-A, Q], [np.zeros((2, 2)), A.T]]))
    return block[2:, 2:].T, block[2:, 2:].T @ block[:2, 2:]


def score(t):
    """The matrix and offset of the score, which is affine."""
    E, W = moved(t)
    precision = np.linalg.inv(E @ COV @ E.T + W)
    return -precision, precision @ E @ MEAN


transition_with_rates = jax.jit(lambda h, A: (transition(A, jnp.asarray(Q), h), jax.jacfwd(lambda h: transition(A, jnp.asarray(Q), h))(h)))


@pytest.mark.parametrize("h", [1e-4, 0.3, 1.5, 12.0])
def test_transitions_and_their_rates(h):
    (E, W), (dE, dW) = transition_with_rates(jnp.asarray(h), jnp.asarray(A))
    exact_E, exact_W = moved(h)
    scale = np.linalg.norm(A) * h
    np.testing.assert_allclose(E, exact_E, atol=1e-14 * (1 + scale) * np.max(np.abs(exact_E)))  # errors of doubling grow like the number of steps
    np.testing.assert_allclose(W, exact_W, atol=1e-14 * (1 + scale) * np.max(np.abs(exact_W)))
    np.testing.assert_allclose(dE, A @ exact_E, atol=1e-13 * (1 + scale) * np.max(np.abs(exact_E)))
    np.testing.assert_allclose(dW, exact_E @ Q @ exact_E.T, atol=1e-13 * (1 + scale) * np.max(np.abs(exact_W)))


def test_a_contraction_over_a_long_time_reaches_the_stationary_covariance():
    """exp(-A h) would overflow here."""
    stable = np.array([[-3.0, 40.0], [0.0, -5.0]])
    (E, W), _ = transition_with_rates(jnp.asarray(300.0), jnp.asarray(stable))
    np.testing.assert_allclose(E, 0.0, atol=1e-300)
    np.testing.assert_allclose(W, scipy.linalg.solve_continuous_lyapunov(stable, -Q), rtol=1e-11)


def test_the_drift_of_the_tests_is_neither_normal_nor_reversible():
    assert np.linalg.norm(A @ A.T - A.T @ A) > 1
    assert np.linalg.norm(A @ Q - Q @ A.T) > 0.1


def test_marginals_kernels_and_the_denoiser():
    E, W = moved(0.7)
    marginal, kernel = SDE.marginal(LAW, 0.7), SDE.kernel(0.2, 0.9)
    np.testing.assert_allclose(marginal.mean, E @ MEAN, rtol=1e-13)
    np.testing.assert_allclose(marginal.cov, E @ COV @ E.T + W, rtol=1e-12)
    np.testing.assert_allclose(kernel.A, E, rtol=1e-13)
    np.testing.assert_allclose(kernel.C.as_matrix(), W, rtol=1e-12)
    x, mixture = np.array([0.4, -0.7]), et.GaussianMixture([0.3, 0.7], [MEAN, -MEAN], [COV, COV + np.eye(2)])
    denoised, slope = eqx.filter_jit(lambda field, score, x: (field(jnp.asarray(0.7), x), score(jnp.asarray(0.7), x)))(
        SDE.denoiser(mixture), SDE.score(mixture), jnp.asarray(x)
    )
    np.testing.assert_allclose(E @ denoised, x + W @ slope, rtol=1e-12)  # Tweedie


def test_the_law_of_euler_maruyama_is_its_recursion():
    mean, cov = np.array([0.3, -0.2]), np.array([[1.2, 0.3], [0.3, 0.8]])
    law = Sampler(SDE, SDE.score(LAW), EulerMaruyama(), GRID).law(et.Gaussian(mean, cov))
    for t, s in itertools.pairwise(GRID):
        slope, offset = score(t)
        step = np.eye(2) + (t - s) * (Q @ slope - A)
        mean, cov = step @ mean + (t - s) * Q @ offset, step @ cov @ step.T + (t - s) * Q
    np.testing.assert_allclose(law.mean, mean, rtol=1e-11)
    np.testing.assert_allclose(law.cov, cov, rtol=1e-11)


def test_the_flow_carries_the_noised_law_back_to_the_data():
    """Runge-Kutta's error falls 16-fold when the step is halved."""
    start, grids = SDE.marginal(LAW, 1.5), (padded(np.linspace(1.5, 0.0, 31), 61), np.linspace(1.5, 0.0, 61))
    coarse, fine = (np.max(np.abs(Sampler(SDE, SDE.velocity(LAW), Rk4(), grid).law(start).cov - COV)) for grid in grids)
    assert fine < 1e-5
    assert 3.7 < np.log2(coarse / fine) < 4.3


def test_in_one_dimension_it_is_the_ornstein_uhlenbeck_process():
    sde, path = et.processes.LinearSde([[-0.7]], [[np.sqrt(1.4)]], 3.0), et.processes.OrnsteinUhlenbeck(0.7, 3.0)
    one, other = sde.marginal(et.Gaussian([2.0], 0.3), 1.1), path.marginal(et.Gaussian([2.0], 0.3), 1.1)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-13)
    np.testing.assert_allclose(one.cov, other.cov, rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: et.processes.LinearSde([1.0, 2.0], NOISE), "`A`.*shape \\(2,\\).*square"),
        (lambda: et.processes.LinearSde(A, [1.0, 2.0]), "`G`.*shape \\(2,\\).*\\(2, m\\)"),
        (lambda: et.processes.LinearSde(A, NOISE, -1.0), "`horizon`.*-1"),
        (lambda: SDE.marginal(et.standard_normal(3), 0.2), "`law`.*dimension 3.*dimension 2"),
        (lambda: SDE.marginal(LAW, 1.6), "`t`.*1.6"),
        (lambda: SDE.kernel(0.1, 0.2, 3), "`dim`.*3.*2, that of the process"),
        (lambda: SDE.score(et.laws.singular_gaussian([0.0, 0.0], [1.0, 0.0]))(jnp.asarray(0.0), jnp.zeros(2)), "`law, whose covariance 0 is met without noise at time 0`"),
        (lambda: Sampler(SDE, SDE.denoiser(LAW), et.samplers.Ddim(), GRID).law(LAW), "`process`.*LinearSde.*Gaussian path"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
