"""Splittings of kinetic Langevin diffusions at rest: SciPy's discrete Lyapunov equations, and the closed forms of their biases."""

import jax
import numpy as np
import pytest
import scipy.linalg

import ensembletheory as et
from ensembletheory.nonreversible import law_at_rest
from ensembletheory.samplers import Baoab, EulerMaruyama, KineticEuler, Sampler, Sscs
from tests.helpers import assert_mean

PRECISION = np.array([[3.0, 1.2], [1.2, 1.0]])
MEAN, FRICTION, MASS, RATE, H = np.array([0.4, -1.0]), 0.7, 0.6, 1.5, 0.4
PROCESS = et.processes.UnderdampedLangevin(FRICTION, MASS, RATE, H)
FIELD = PROCESS.target_score(et.Gaussian(MEAN, np.linalg.inv(PRECISION)))
EYE, ZERO = np.eye(2), np.zeros((2, 2))


def part(letter, h):
    """Matrix and noise of one part on (x - mean, v)."""
    if letter == "A":
        return np.block([[EYE, h / MASS * EYE], [ZERO, EYE]]), np.zeros((4, 4))
    if letter == "B":
        return np.block([[EYE, ZERO], [-h * PRECISION, EYE]]), np.zeros((4, 4))
    decay = np.exp(-FRICTION * h / MASS)
    return scipy.linalg.block_diag(EYE, decay * EYE), scipy.linalg.block_diag(ZERO, MASS * (1 - decay**2) * EYE)


def at_rest(letters):
    step, noise = np.eye(4), np.zeros((4, 4))
    for letter in letters:
        M, Q = part(letter, RATE * H / letters.count(letter))
        step, noise = M @ step, M @ noise @ M.T + Q
    return scipy.linalg.solve_discrete_lyapunov(step, noise)


def rest_of(scheme):
    return law_at_rest(Sampler(PROCESS, FIELD, scheme, [H, 0.0]).kernel(4))


@pytest.mark.parametrize("letters", ["BAOAB", "OBABO", "ABOBA"])
def test_splittings_at_rest(letters):
    """BAOAB leaves positions without bias, OBABO momenta, ABOBA neither of its halves where O acts."""
    law, shrunk = rest_of(Baoab(letters)), EYE - (RATE * H) ** 2 * PRECISION / (4 * MASS)
    np.testing.assert_allclose(law.mean, [*MEAN, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(law.cov, at_rest(letters), rtol=1e-10, atol=1e-12)
    if letters == "BAOAB":
        np.testing.assert_allclose(law.cov, scipy.linalg.block_diag(np.linalg.inv(PRECISION), MASS * shrunk), rtol=1e-10, atol=1e-12)
    if letters == "OBABO":
        np.testing.assert_allclose(law.cov, scipy.linalg.block_diag(np.linalg.inv(PRECISION @ shrunk), MASS * EYE), rtol=1e-10, atol=1e-12)


def test_euler_at_rest_is_off():
    h, drift = RATE * H / 8, np.block([[ZERO, -EYE / MASS], [PRECISION, FRICTION / MASS * EYE]])
    expected = scipy.linalg.solve_discrete_lyapunov(np.eye(4) - h * drift, 2 * h * FRICTION * scipy.linalg.block_diag(ZERO, EYE))
    law = law_at_rest(Sampler(PROCESS, FIELD, KineticEuler(), [H / 8, 0.0]).kernel(4))
    np.testing.assert_allclose(law.cov, expected, rtol=1e-9, atol=1e-12)
    assert np.max(np.abs(np.asarray(law.cov)[:2, :2] - np.linalg.inv(PRECISION))) > 0.1


def test_an_unstable_step_has_no_law_at_rest():
    with pytest.raises(ValueError, match="`kernel`.*modulus"):
        law_at_rest(Sampler(et.processes.UnderdampedLangevin(FRICTION, MASS, RATE, 3.0), FIELD, Baoab(), [3.0, 0.0]).kernel(4))


@pytest.mark.verify
def test_draws_have_the_law():
    """SSCS on data of two positions that are correlated: moments of draws against the exact law."""
    process, data = et.processes.CriticallyDampedLangevin(), et.Gaussian([0.5, -1.0], [[2.0, 0.6], [0.6, 0.5]])
    sampler = Sampler(process, process.score(process.joint(data)), Sscs(), np.linspace(1.0, 0.0, 21))
    law, draws = sampler.law(process.stationary(4)), np.asarray(sampler.sample(jax.random.key(0), 4000, process.stationary(4)))
    assert_mean(draws, law.mean)
    centred = draws - np.asarray(law.mean)
    assert_mean(centred[:, :, None] * centred[:, None, :], law.cov)


def test_other_schemes_refuse_what_they_cannot_move():
    vp = et.processes.VariancePreserving()
    for scheme in (Sscs(), Baoab(), KineticEuler()):
        with pytest.raises(ValueError, match=f"`process`.*VariancePreserving.*kinetic.*{type(scheme).__name__}"):
            Sampler(vp, vp.score(et.standard_normal(2)), scheme, [1.0, 0.0])
    Sampler(PROCESS, PROCESS.score(et.standard_normal(4)), EulerMaruyama(), [H, 0.0])
