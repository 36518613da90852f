"""Skew Ornstein-Uhlenbeck processes and their optimum: SciPy's exponentials, Lyapunov solvers and eigenvalues, and 50 digits where divergences are tiny."""

import itertools

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import ensembletheory as et
from ensembletheory import nonreversible
from ensembletheory.samplers import EulerMaruyama, Sampler
from tests.helpers import spd

SPECTRUM = np.array([0.1, 0.5, 1.0, 4.0, 10.0])
RNG = np.random.default_rng(0)
MEAN, COV, NOISE = RNG.normal(size=3), spd(RNG, 3), spd(RNG, 3)
SKEW = (lambda raw: 3 * (raw - raw.T))(RNG.normal(size=(3, 3)))
PROCESS = et.processes.SkewOrnsteinUhlenbeck(et.Gaussian(MEAN, COV), SKEW, NOISE, 1.5)
B = (NOISE + SKEW) @ np.linalg.inv(COV)
START_MEAN, START_COV = RNG.normal(size=3), spd(RNG, 3)
START = et.Gaussian(START_MEAN, START_COV)


def abscissa(matrix):
    return np.linalg.eigvals(matrix).real.min()


@pytest.fixture(scope="module")
def optima():
    """Of the spectrum in turned axes: the target's covariance, S, J, P and D of the two optima."""
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    cov = (Q / SPECTRUM) @ Q.T
    target = et.Gaussian(np.zeros(5), (cov + cov.T) / 2)
    D = nonreversible.one_direction(target)
    plain, degenerate = nonreversible.fastest_skew(target), nonreversible.fastest_skew(target, D)
    return np.asarray(target.cov), (Q * SPECTRUM) @ Q.T, plain, degenerate, np.asarray(D)


def test_the_two_optima_of_five_dimensions(optima):
    """tr S / 5 = 3.12 instead of 0.1, and 10 with noise of the same trace in one direction."""
    _, S, plain, degenerate, D = optima
    assert abscissa(S) == pytest.approx(0.1)
    for found, noise, rate in ((plain, np.eye(5), 3.12), (degenerate, D, 10.0)):
        drift = (noise + np.asarray(found.skew)) @ S
        np.testing.assert_allclose(np.linalg.eigvals(drift).real, rate, rtol=1e-11)
        assert float(found.rate) == pytest.approx(rate, rel=1e-12)
        np.testing.assert_allclose(drift @ found.metric + found.metric @ drift.T, 2 * rate * np.asarray(found.metric), atol=1e-10)
        np.testing.assert_allclose(found.skew, -np.asarray(found.skew).T)
    assert np.linalg.matrix_rank(D, 1e-9) == 1
    assert np.trace(D) == pytest.approx(5)


def test_the_prefactor_stays_below_the_root_of_the_condition(optima):
    cov, S, plain, _, _ = optima
    times, C = np.linspace(0, 2, 101), np.linalg.cholesky(cov)
    drift = (np.eye(5) + np.asarray(plain.skew)) @ S
    plainly = [np.linalg.norm(np.linalg.solve(C, scipy.linalg.expm(-t * drift) @ C), 2) * np.exp(3.12 * t) for t in times]
    process = et.processes.SkewOrnsteinUhlenbeck(et.Gaussian(np.zeros(5), cov), plain.skew)
    found = nonreversible.prefactor(process, 3.12, times)
    np.testing.assert_allclose(found, plainly, rtol=1e-10)
    assert float(plain.prefactor) == pytest.approx(np.sqrt(5))
    assert 1.5 < np.max(found) <= np.sqrt(5)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), condition=st.floats(1.5, 1e4), singular=st.booleans())
def test_the_optimum_of_any_target_and_noise(seed, condition, singular):
    """tr(D S) / d, for S of a condition up to 1e4, and noise that does not commute with it and may lack a direction."""
    rng = np.random.default_rng(seed)
    S, D = spd(rng, 4, 1.0, condition), spd(rng, 4)
    if singular:
        vector = rng.normal(size=4)
        D = D - np.outer(D @ vector, D @ vector) / (vector @ D @ vector)
    found = nonreversible.fastest_skew(et.Gaussian(np.zeros(4), np.linalg.inv(S)), (D + D.T) / 2, 3.0)
    drift, rate = (D + np.asarray(found.skew)) @ S, np.trace(D @ S) / 4
    np.testing.assert_allclose(np.linalg.eigvals(drift).real, rate, rtol=1e-8)
    P = np.asarray(found.metric)
    assert np.max(np.abs(drift @ P + P @ drift.T - 2 * rate * P)) <= 1e-8 * np.max(np.abs(drift)) * np.max(np.abs(P))
    assert float(found.prefactor) == pytest.approx(np.sqrt(3))


def test_in_one_dimension_and_for_equal_variances_nothing_can_be_gained():
    for cov in ([[2.0]], 0.5 * np.eye(5)):
        found = nonreversible.fastest_skew(et.Gaussian(np.zeros(len(cov)), cov))
        np.testing.assert_allclose(found.skew, 0.0, atol=1e-14)
        assert float(found.rate) == pytest.approx(1 / cov[0][0])


@pytest.mark.verify
def test_the_optimum_in_500_dimensions():
    rng = np.random.default_rng(2)
    cov = spd(rng, 500, 1.0, 1e4)
    found = nonreversible.fastest_skew(et.Gaussian(np.zeros(500), cov))
    assert np.ptp(np.linalg.eigvals((np.eye(500) + np.asarray(found.skew)) @ np.linalg.inv(cov)).real) < 1e-9


def whitened(t, digits=50):
    """The mean's and the covariance's deviations from the target's at time t, in whitened coordinates, in many digits."""
    with mpmath.workdps(digits):
        cov = mpmath.matrix(COV)
        E = mpmath.expm(-mpmath.mpf(t) * (mpmath.matrix(NOISE) + mpmath.matrix(SKEW)) * cov**-1)
        C = mpmath.cholesky(cov)
        X = C**-1 * E
        return X * (mpmath.matrix(START_MEAN) - mpmath.matrix(MEAN)), X * (mpmath.matrix(START_COV) - cov) * X.T


def plain_kl(t, digits=50):
    with mpmath.workdps(digits):
        u, delta = whitened(t, digits)
        determinant = mpmath.det(mpmath.eye(3) + delta)
        return float(((u.T * u)[0] + sum(delta[i, i] for i in range(3)) - mpmath.log(determinant)) / 2)


def test_divergences_to_their_last_digits_however_small():
    times = np.array([0.0, 0.3, 2.0, 15.0])
    found = nonreversible.kl_decay(PROCESS, START, times)
    assert found.kind == "closed_form"
    np.testing.assert_allclose(found.value, [plain_kl(t) for t in times], rtol=1e-10)
    assert 0 < float(found.value[-1]) < 1e-8
    assert float(found.value[0]) == pytest.approx(float(et.kl(START, PROCESS.target)), rel=1e-12)


def test_the_time_to_a_tolerance():
    tolerance = 1e-3
    expected = scipy.optimize.brentq(lambda t: np.log(plain_kl(t, 20) / tolerance), 0.1, 10, xtol=1e-11)
    np.testing.assert_allclose(nonreversible.time_to(PROCESS, START, tolerance), expected, rtol=1e-9)
    assert float(nonreversible.time_to(PROCESS, START, 1e3)) == 0


def test_transitions_keep_the_target_and_run_backwards_with_the_other_sign():
    kernel, back = PROCESS.kernel(0.1, 0.8), PROCESS.reversed().kernel(0.1, 0.8)
    E = scipy.linalg.expm(-0.7 * B)
    np.testing.assert_allclose(B @ COV + COV @ B.T, 2 * NOISE, atol=1e-12)
    np.testing.assert_allclose(kernel.A, E, rtol=1e-11)
    np.testing.assert_allclose(kernel.b, MEAN - E @ MEAN, rtol=1e-11)
    np.testing.assert_allclose(kernel.C.as_matrix(), COV - E @ COV @ E.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.asarray(back.A) @ COV, (E @ COV).T, rtol=1e-10, atol=1e-12)  # Cov(X_0, X_t) = Cov(X_t, X_0)^T


def test_currents_tell_reversible_from_not():
    points = RNG.normal(size=(4, 3))
    et.structures.require_nonreversible(PROCESS, PROCESS.target, points)
    kinetic = et.processes.UnderdampedLangevin(0.7, 0.4)
    et.structures.require_nonreversible(kinetic, kinetic.stationary(), points[:, :2])
    assert float(et.structures.current_size(et.processes.SkewOrnsteinUhlenbeck(PROCESS.target, np.zeros((3, 3)), NOISE), PROCESS.target, points)) < 1e-12


def test_run_backwards_it_generates_the_data():
    """The law of Euler-Maruyama by its recursion."""
    grid = np.linspace(1.5, 0.0, 41)
    field, prior = PROCESS.score(START), PROCESS.marginal(START, 1.5)
    law = Sampler(PROCESS, field, EulerMaruyama(), grid).law(prior)
    mean, cov = np.asarray(prior.mean), np.asarray(prior.cov)
    for t, s in itertools.pairwise(grid):
        E = scipy.linalg.expm(-t * B)
        precision, h = np.linalg.inv(COV + E @ (START_COV - COV) @ E.T), t - s
        step = np.eye(3) + h * (B - 2 * NOISE @ precision)
        offset = h * (2 * NOISE @ precision @ (MEAN + E @ (START_MEAN - MEAN)) - B @ MEAN)
        mean, cov = step @ mean + offset, step @ cov @ step.T + 2 * h * NOISE
    np.testing.assert_allclose(law.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(law.cov, cov, rtol=1e-9)


def test_steps_are_stable_up_to_the_limit_and_biased():
    limit = float(nonreversible.step_limit(PROCESS))
    values = np.linalg.eigvals(B)
    assert np.ptp(values.imag) > 0.1
    for factor, stable in ((0.999, True), (1.001, False)):
        kernel = nonreversible.euler_kernel(PROCESS, factor * limit, unstable=True)
        np.testing.assert_allclose(kernel.A, np.eye(3) - factor * limit * B, rtol=1e-11, atol=1e-12)
        assert (np.max(np.abs(np.linalg.eigvals(kernel.A))) < 1) == stable
    with pytest.raises(ValueError, match=f"`h`.*below {limit:.6g}.*unstable=True"):
        nonreversible.euler_kernel(PROCESS, 1.001 * limit)
    with pytest.raises(ValueError, match="`kernel`.*modulus 1.00.*shorter"):
        nonreversible.law_at_rest(kernel)
    rest = nonreversible.law_at_rest(nonreversible.euler_kernel(PROCESS, 0.5 * limit))
    step = np.eye(3) - 0.5 * limit * B
    np.testing.assert_allclose(rest.cov, scipy.linalg.solve_discrete_lyapunov(step, limit * NOISE), rtol=1e-10)
    np.testing.assert_allclose(rest.mean, MEAN, rtol=1e-10)
    assert np.max(np.abs(np.asarray(rest.cov) - COV)) > 0.05


@pytest.mark.parametrize(("friction", "mass"), [(0.5, 1.3), (2.0, 1.0), (7.0, 0.4), (2 * np.sqrt(0.8 * 0.3), 0.8)])
def test_rates_with_momenta(friction, mass):
    stiffness = np.array([0.3, 1.0, 5.0])
    drift = np.block([[np.zeros((3, 3)), -np.eye(3) / mass], [np.diag(stiffness), friction / mass * np.eye(3)]])
    best = 2 * np.sqrt(mass * 0.3)
    found = nonreversible.kinetic_gap(stiffness, friction, mass)
    np.testing.assert_allclose(found, abscissa(drift), rtol=1e-7)  # a double eigenvalue is known to half the digits
    assert float(found) <= np.sqrt(0.3 / mass) * (1 + 1e-12)
    np.testing.assert_allclose(nonreversible.kinetic_gap(stiffness, best, mass), np.sqrt(0.3 / mass), rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: et.processes.SkewOrnsteinUhlenbeck(PROCESS.target, np.eye(3)), "`skew`.*differs from -J\\^T by 2.*antisymmetric"),
        (lambda: et.processes.SkewOrnsteinUhlenbeck(PROCESS.target, np.zeros((2, 2))), "`skew`.*\\(2, 2\\).*\\(3, 3\\)"),
        (lambda: et.processes.SkewOrnsteinUhlenbeck(PROCESS.target, SKEW, -NOISE), "`noise`.*positive semi-definite"),
        (lambda: et.processes.SkewOrnsteinUhlenbeck(PROCESS.target, SKEW, NOISE, 0.0), "`horizon`.*above 0"),
        (lambda: PROCESS.marginal(et.standard_normal(2), 0.2), "`law`.*dimension 2.*dimension 3"),
        (lambda: nonreversible.fastest_skew(PROCESS.target, condition=1.0), "`condition`.*above 1"),
        (lambda: nonreversible.fastest_skew(PROCESS.target, noise=[[1.0]]), "`noise`"),
        (lambda: nonreversible.kl_decay(PROCESS, START, [-1.0]), "`times`.*-1"),
        (lambda: nonreversible.kl_decay(PROCESS, et.standard_normal(2), [1.0]), "dimension 2"),
        (lambda: nonreversible.time_to(PROCESS, START, 0.0), "`tolerance`"),
        (lambda: nonreversible.kinetic_gap([1.0, -1.0], 1.0, 1.0), "`stiffness`"),
        (lambda: nonreversible.euler_kernel(PROCESS, -0.1), "`h`.*above 0"),
        (lambda: et.processes.UnderdampedLangevin(-1.0), "`friction`.*-1"),
        (lambda: et.processes.UnderdampedLangevin(1.0, 0.0), "`mass`.*0"),
        (lambda: et.processes.CriticallyDampedLangevin(rate=-2.0), "`rate`.*-2"),
        (lambda: et.processes.CriticallyDampedLangevin().marginal(et.standard_normal(3), 0.5), "`law`.*dimension 3.*even dimension"),
        (lambda: et.processes.CriticallyDampedLangevin().joint(START, -1.0), "`gamma`"),
        (lambda: et.processes.CriticallyDampedLangevin().noise_coefficient(0.0), "`t`.*above 0"),
        (lambda: Sampler(PROCESS, PROCESS.score(START), et.samplers.Sscs(), np.linspace(1.5, 0.0, 3)), "`process`.*SkewOrnsteinUhlenbeck.*kinetic"),
        (lambda: et.samplers.Baoab("BAO"), "`letters`.*palindrome"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call()
