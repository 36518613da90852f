"""Kinetic Langevin diffusions in all three regimes: kernels by SciPy's exponentials and in 60 digits, hybrid scores by differences, variances of samplers by recursions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg

import ensembletheory as et
from ensembletheory.samplers import EulerMaruyama, Sampler, Sscs, padded, uniform_grid

CLD = et.processes.CriticallyDampedLangevin()
REGIMES = {
    "oscillating": (0.3, 0.5),
    "critical": (2.0, 1.0),
    "overdamped": (9.0, 0.7),
    "nearly critical": (2.0, 1.0 + 1e-9),
    "stiff": (300.0, 0.8),
    "nearly free": (1e-6, 1.3),
}
DATA = et.GaussianMixture([0.3, 0.7], [[1.0, -2.0], [0.5, 0.4]], [np.diag([0.5, 2.0]), [[1.0, 0.4], [0.4, 0.3]]])
BLOCKS = jax.jit(lambda process, h: process.blocks(h))
STEPS = (64, 128, 256, 512, 1024)


def drift_matrix(friction, mass, rate=1.0):
    return rate * np.array([[0.0, 1 / mass], [-1.0, -friction / mass]])


def in_many_digits(friction, mass, b):
    """exp(A b) and the Gramian as P - E P E^T, in 60 digits, of which cancellation takes its share."""
    with mpmath.workdps(60):
        A = mpmath.matrix([[0, 1 / mpmath.mpf(mass)], [-1, -mpmath.mpf(friction) / mpmath.mpf(mass)]])
        E = mpmath.expm(A * mpmath.mpf(b))
        P = mpmath.diag([1, mpmath.mpf(mass)])
        W = P - E * P * E.T
        return (np.array(M.tolist(), dtype=float) for M in (E, W))


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("h", [1e-6, 0.01, 0.4, 3.0, 40.0])
def test_kernels_to_the_last_digits_in_every_regime(regime, h):
    """W_xx is of the order h^3 and would cancel: every entry is right relatively."""
    friction, mass = REGIMES[regime]
    E, W = BLOCKS(et.processes.UnderdampedLangevin(friction, mass, 2.0, 50.0), jnp.asarray(h))
    exact_E, exact_W = in_many_digits(friction, mass, 2 * h)
    condition = 1 + 2 * h * np.max(np.abs(drift_matrix(friction, mass)))  # of decays and angles
    np.testing.assert_allclose(E, exact_E, rtol=1e-15, atol=4e-15 * condition * np.max(np.abs(exact_E)))
    np.testing.assert_allclose(np.diagonal(W), np.diagonal(exact_W), rtol=2e-14 * condition)
    np.testing.assert_allclose(W[0, 1], exact_W[0, 1], rtol=2e-14 * condition, atol=4e-15 * condition * np.max(exact_W))


def test_the_process_is_the_linear_sde_of_its_matrices_on_two_positions():
    process = et.processes.UnderdampedLangevin(0.8, 0.6, 1.7, 2.0)
    A, G = np.kron(drift_matrix(0.8, 0.6, 1.7), np.eye(2)), np.kron(np.diag([0.0, np.sqrt(2 * 0.8 * 1.7)]), np.eye(2))
    joint = process.joint(DATA, 0.3)
    other, x, t = et.processes.LinearSde(A, G, 2.0), jnp.asarray([0.3, -0.4, 0.9, 0.1]), jnp.asarray(0.7)
    np.testing.assert_allclose(joint.covs[1], scipy.linalg.block_diag([[1.0, 0.4], [0.4, 0.3]], 0.3 * 0.6 * np.eye(2)), rtol=1e-14)

    @eqx.filter_jit
    def seen(one, z):
        return one.score(joint)(t, x), one.drift(t, x), one.spread(t, x), one.disturbance(t, z), one.transition(t, 4).C.as_matrix()

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), seen(process, x), seen(other, x))


def test_the_critical_kernel_is_the_published_one_and_agrees_with_its_moments_equation():
    """t = 0.37, var x_0 = 2.3, gamma = 0.04: the closed form of the double eigenvalue, SciPy's exponential and an ODE solver."""
    mass, friction, B = 0.25, 1.0, 4 * 0.37
    marginal = CLD.marginal(CLD.joint(et.Gaussian([0.0], 2.3)), 0.37)
    E = np.exp(-2 * B / friction) * np.array([[1 + 2 * B / friction, 4 * B / friction**2], [-B, 1 - 2 * B / friction]])
    P, begun = np.diag([1.0, mass]), np.diag([2.3, 0.04 * mass])
    np.testing.assert_allclose(marginal.cov, E @ (begun - P) @ E.T + P, rtol=1e-14)
    A = drift_matrix(friction, mass, 4.0)
    np.testing.assert_allclose(E, scipy.linalg.expm(0.37 * A), rtol=1e-13)
    moments = scipy.integrate.solve_ivp(
        lambda t, c: (A @ c.reshape(2, 2) + c.reshape(2, 2) @ A.T + np.diag([0.0, 8.0])).ravel(), (0, 0.37), begun.ravel(), rtol=1e-12, atol=1e-13
    )
    np.testing.assert_allclose(marginal.cov.ravel(), moments.y[:, -1], rtol=1e-10)


def test_derivatives_cross_the_critical_friction():
    """W and E are analytic in the discriminant: slopes in the friction are those of SciPy's exponential on both sides and in the middle."""
    slopes = jax.jit(jax.jacfwd(lambda friction: jnp.stack(et.processes.UnderdampedLangevin(friction, 1.0, 1.0).blocks(jnp.asarray(1.5)))))
    for friction in (1.9, 2.0, 2.1, 7.0):
        dA = np.array([[0.0, 0.0], [0.0, -1.0]])
        E, dE = scipy.linalg.expm_frechet(1.5 * drift_matrix(friction, 1.0), 1.5 * dA)
        np.testing.assert_allclose(slopes(friction), np.stack([dE, -dE @ E.T - E @ dE.T]), atol=1e-13)


@pytest.mark.parametrize("t", [1e-5, 0.05, 0.8])
def test_hybrid_scores(t):
    """Momenta integrated out: the score in v of the conditional law by differences, and the coefficient of the noise; small times need all digits of W."""
    gamma, x_0 = 0.3, 1.7
    kernel = CLD.conditional(t, gamma)
    E, W = in_many_digits(1.0, 0.25, 4 * t)
    with mpmath.workdps(60):
        A = mpmath.expm(mpmath.matrix([[0, 4], [-1, -4]]) * 4 * mpmath.mpf(t))
        P = mpmath.diag([1, mpmath.mpf("0.25")])
        C = A * (mpmath.diag([0, mpmath.mpf(gamma) / 4]) - P) * A.T + P
        schur = C[1, 1] - C[0, 1] ** 2 / C[0, 0]
        expected = float(1 / mpmath.sqrt(schur))
    np.testing.assert_allclose(CLD.noise_coefficient(t, gamma), expected, rtol=1e-11)
    np.testing.assert_allclose(kernel.A[:, 0], E[:, 0], rtol=1e-13)
    covariance = W + gamma * 0.25 * np.outer(E[:, 1], E[:, 1])
    np.testing.assert_allclose(kernel.C.as_matrix(), covariance, rtol=1e-12)
    if t > 1e-3:
        root, draw = np.linalg.cholesky(covariance), np.array([0.4, -1.3])
        z = E[:, 0] * x_0 + root @ draw

        def log_density(v):
            d = np.array([z[0], v]) - E[:, 0] * x_0
            return -0.5 * d @ np.linalg.solve(covariance, d)

        slope = (log_density(z[1] + 1e-5) - log_density(z[1] - 1e-5)) / 2e-5
        np.testing.assert_allclose(-expected * draw[1], slope, rtol=1e-8)


def test_scores_of_atoms():
    """Momenta integrated out, each atom becomes a Gaussian of positions and momenta; at time 0 there is no density."""
    points, weights, x, t = np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([0.3, 0.7]), np.array([0.1, 0.2, 0.3, 0.4]), 0.3
    field = CLD.score(CLD.joint(et.laws.FiniteLaw(points, weights), 0.2))
    E, W = kernel(t, 1.0, 0.25, 4.0)
    precision = np.linalg.inv(np.kron(W + 0.05 * np.outer(E[:, 1], E[:, 1]), np.eye(2)))
    off = x - np.stack([np.kron(E[:, 0], point) for point in points])
    terms = weights * np.exp(-0.5 * np.einsum("ki,ij,kj->k", off, precision, off))
    np.testing.assert_allclose(eqx.filter_jit(field)(jnp.asarray(t), jnp.asarray(x)), -(terms / terms.sum()) @ off @ precision, rtol=1e-11)
    with pytest.raises(ValueError, match="met without noise at time 0"):
        field(jnp.asarray(0.0), jnp.asarray(x))


@pytest.mark.verify
def test_derivatives_pass_steps_of_length_zero():
    def variance(mass):
        process = et.processes.CriticallyDampedLangevin(mass)
        field = process.score(process.joint(et.Gaussian([0.0], 4.0)))
        return Sampler(process, field, Sscs(), jnp.asarray([1.0, 1.0, 0.5, 0.25, 0.0, 0.0])).kernel(2).C.as_matrix()[0, 0]

    value, step = jax.jit(variance), 1e-5
    slope = (value(0.25 + step) - value(0.25 - step)) / (2 * step)
    np.testing.assert_allclose(jax.jit(jax.grad(variance))(0.25), slope, rtol=1e-7)


def kernel(h, friction, mass, rate):
    E = scipy.linalg.expm(drift_matrix(friction, mass, rate) * h)
    P = np.diag([1.0, mass])
    return E, P - E @ P @ E.T


def variance_of_sampler(scheme, steps, variance=4.0, gamma=0.04, midpoint=0.0):
    """The covariance of the reverse run of CLD from its stationary law, by its recursion."""
    friction, mass, rate = 1.0, 0.25, 4.0
    A, P, flip, h = drift_matrix(friction, mass, rate), np.diag([1.0, mass]), np.diag([-1.0, 1.0]), 1 / steps
    half, noise = (flip @ M @ flip for M in kernel(h / 2, friction, mass, rate))
    cov = P
    for i in range(steps):
        E, W = kernel(1 - i * h - midpoint * h, friction, mass, rate)
        pull = np.zeros((2, 2))
        pull[1] = -2 * friction * rate * np.linalg.inv(E @ np.diag([variance, gamma * mass]) @ E.T + W)[1]
        if scheme == "em":
            step = np.eye(2) + h * (pull - A)
            cov = step @ cov @ step.T + np.diag([0.0, 2 * friction * rate * h])
        else:
            step = np.eye(2) + h * (pull + np.diag([0.0, 2 * friction * rate / mass]))
            cov = half @ cov @ half.T + noise
            cov = half @ step @ cov @ step.T @ half.T + noise
    return cov


@pytest.fixture(scope="module")
def variances():
    """Of the sampled positions, minus 4, by scheme and number of steps."""
    grids = jnp.asarray(np.stack([padded(uniform_grid(CLD, n), 1025) for n in STEPS]))
    field, start = CLD.score(CLD.joint(et.Gaussian([0.0], 4.0))), CLD.stationary()
    run = eqx.filter_jit(lambda scheme: jax.vmap(lambda grid: Sampler(CLD, field, scheme, grid).kernel(2).push(start).cov)(grids))
    found = {name: np.asarray(run(scheme)) for name, scheme in {"sscs": Sscs(), "em": EulerMaruyama()}.items()}
    return found | {"midpoint": np.asarray(Sampler(CLD, field, Sscs(midpoint=True), uniform_grid(CLD, 256)).kernel(2).push(start).cov)}


def test_published_errors_of_sscs_and_euler_maruyama(variances):
    np.testing.assert_allclose(variances["sscs"][:, 0, 0] - 4, [-0.1425, -0.0703, -0.0350, -0.0174, -0.0087], atol=5e-5)
    np.testing.assert_allclose(variances["em"][:, 0, 0] - 4, [0.1550, 0.0784, 0.0393, 0.0196, 0.0098], atol=5e-5)
    for name, order in (("sscs", 1.0), ("em", 1.0)):
        rates = np.log2(np.abs((variances[name][:-1, 0, 0] - 4) / (variances[name][1:, 0, 0] - 4)))
        np.testing.assert_allclose(rates, order, atol=0.03)


def test_the_score_at_mid_step_does_not_raise_the_order(variances):
    assert variances["midpoint"][0, 0] - 4 == pytest.approx(-0.0339, abs=5e-5)
    np.testing.assert_allclose(variances["midpoint"], variance_of_sampler("sscs", 256, midpoint=0.5), rtol=1e-10)


@pytest.mark.parametrize("scheme", ["sscs", "em"])
def test_laws_of_the_samplers_are_their_recursions(variances, scheme):
    for i in (0, 2):
        np.testing.assert_allclose(variances[scheme][i], variance_of_sampler(scheme, STEPS[i]), rtol=1e-10)
