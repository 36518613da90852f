"""Randomised HMC: its moments by an ODE, by the renewal equation, by simulation, and the refreshments that forget fastest, by the roots of the published cubic."""

from functools import cache

import jax
import numpy as np
import pytest
from scipy import integrate, optimize

from ensembletheory.laws import Gaussian
from ensembletheory.processes import RandomisedHmc
from ensembletheory.processes.pdmp import forgetting_rate, remembered
from tests.helpers import assert_mean


@jax.jit
def _laws():
    """Made in one program."""
    return Gaussian([0.0], 1.0), Gaussian([0.0], 4.0), Gaussian([1.0, -2.0], [[1.0, 0.4], [0.4, 0.5]]), Gaussian([3.0, 0.0], [[0.2, -0.3], [-0.3, 2.0]])


STANDARD, WIDE, PLANE, DATA = _laws()


def renewal(rate, t, power, steps=4000):
    """u = f + rate f * u by the trapezoid rule, twice, extrapolated."""

    def solved(n):
        h = t / n
        f = np.exp(-rate * h * np.arange(n + 1)) * np.cos(h * np.arange(n + 1)) ** power
        u = np.empty(n + 1)
        u[0] = 1.0
        for k in range(1, n + 1):
            u[k] = (f[k] + rate * h * (f[k] / 2 + f[k - 1 : 0 : -1] @ u[1:k])) / (1 - rate * h / 2)
        return u[-1]

    coarse, fine = solved(steps // 2), solved(steps)
    return fine + (fine - coarse) / 3


@pytest.mark.parametrize(("rate", "t", "power"), [(1.0, 2.0, 1), (1.0, 2.0, 2), (1.0, 2.0, 4), (2.1, 3.3, 2), (0.4, 5.0, 3)])
def test_what_is_remembered_solves_the_renewal_equation(rate, t, power):
    assert remembered(rate, t, power) == pytest.approx(renewal(rate, t, power), abs=1e-9)


def moments(process, data, t):
    """Mean and second moments of (x, v) by integrating their equations: the flow's, and what refreshments do."""
    S, m, rate = np.linalg.inv(np.asarray(process.target.cov)), np.asarray(process.target.mean), float(process.refreshment)
    d = len(m)
    A = np.block([[np.zeros((d, d)), np.eye(d)], [-S, np.zeros((d, d))]])

    def rates(_, y):
        mean, second = y[: 2 * d], y[2 * d :].reshape(2 * d, 2 * d)
        renewed = np.zeros((2 * d, 2 * d))
        renewed[:d, :d], renewed[d:, d:] = second[:d, :d], np.eye(d)
        return np.concatenate([A @ mean - rate * np.concatenate([np.zeros(d), mean[d:]]), (A @ second + second @ A.T + rate * (renewed - second)).ravel()])

    begun, second = np.concatenate([np.asarray(data.mean) - m, np.zeros(d)]), np.eye(2 * d)
    second[:d, :d] = np.asarray(data.cov)
    end = integrate.solve_ivp(rates, (0, t), np.concatenate([begun, (second + np.outer(begun, begun)).ravel()]), rtol=1e-11, atol=1e-12).y[:, -1]
    mean = end[: 2 * d]
    return mean + np.concatenate([m, np.zeros(d)]), end[2 * d :].reshape(2 * d, 2 * d) - np.outer(mean, mean)


@pytest.mark.parametrize(("target", "data", "rate", "t"), [(STANDARD, WIDE, 1.0, 2.0), (PLANE, DATA, 0.8, 1.7)])
def test_moments_solve_their_equations(target, data, rate, t):
    process = RandomisedHmc(target, rate)
    mean, cov = process.moments(data, t)
    plain_mean, plain_cov = moments(process, data, t)
    np.testing.assert_allclose(mean, plain_mean, atol=1e-8)
    np.testing.assert_allclose(cov, plain_cov, atol=1e-8)


def test_target_numbers():
    """lambda = 1, sigma = 2, t = 2: by the equations of moments, by the renewal equation, and the kurtosis from the fourth power of cosines."""
    cov = np.asarray(RandomisedHmc(STANDARD, 1.0).moments(WIDE, 2.0)[1])
    np.testing.assert_allclose([cov[0, 0], cov[0, 1], cov[1, 1]], [1.3879496, -0.0268553, 1.9182111], atol=6e-8)
    second, fourth = float(remembered(1.0, 2.0, 2)), float(remembered(1.0, 2.0, 4))
    assert 1 + 3 * second == pytest.approx(1.3879495, abs=6e-8)
    assert 3 * (1 + 6 * second + 9 * fourth) / (1 + 3 * second) ** 2 == pytest.approx(3.14274, abs=6e-6)


N = 2048


@cache
def simulated(named):
    target, data, rate, t = {"line": (STANDARD, WIDE, 1.0, 2.0), "plane": (PLANE, DATA, 0.8, 1.7)}[named]
    process = RandomisedHmc(target, rate)
    keys = jax.random.split(jax.random.key(2), 16)
    found = [process.simulate(key, N, data, t) for key in keys]
    return process, data, t, np.concatenate([np.concatenate([np.asarray(one.positions), np.asarray(one.velocities)], axis=1) for one in found])


@pytest.mark.parametrize("named", ["line", "plane"])
def test_simulations_have_these_moments(named):
    process, data, t, points = simulated(named)
    mean, cov = moments(process, data, t)
    z = points - mean
    assert_mean(z, 0.0)
    assert_mean(z[:, :, None] * z[:, None, :], cov)


def test_simulations_have_heavy_tails():
    x = simulated("line")[3][:, 0]
    fourth = 3 * (1 + 6 * renewal(1.0, 2.0, 2, 400) + 9 * renewal(1.0, 2.0, 4, 400))
    assert_mean(x**4, fourth)


def abscissa(rate):
    """Of the second moments, by the roots of w^3 - rate w^2 + 4 w - 2 rate with z = w - rate."""
    return max(np.roots([1, -rate, 4, -2 * rate]).real) - rate


@pytest.mark.parametrize(("power", "best", "fastest"), [(1, 2.0, 1.0), (2, 3 / np.sqrt(2), 1 / np.sqrt(2)), (4, 18 / (5 * np.sqrt(2)), 4 * np.sqrt(2) / 5)])
def test_the_best_refreshments(power, best, fastest):
    """Nearby ones forget more slowly, and at the best the rate is as stated; that of fourth powers is derived here."""
    assert forgetting_rate(best, power) == pytest.approx(fastest, abs=3e-8)  # at power 1 a double eigenvalue, right to the root of rounding
    for factor in (0.5, 0.97, 1.03, 2.0):
        assert forgetting_rate(best * factor, power) < fastest - 1e-5
    if power == 2:
        for rate in (0.3, 1.0, best, 4.0):
            assert forgetting_rate(rate, 2) == pytest.approx(-abscissa(rate), rel=1e-9)
        found = optimize.minimize_scalar(abscissa, bounds=(1.5, 3.0), method="bounded", options={"xatol": 1e-10})
        assert found.x == pytest.approx(best, abs=1e-6)


def test_langevin_forgets_second_moments_faster():
    """The best rate of the second moments is 1 / sqrt 2 against 2 of critically damped Langevin dynamics, whose means it shares."""
    langevin = np.linalg.eigvals(np.array([[0, 1], [-1, -2.0]])).real
    assert -2 * max(langevin) == pytest.approx(2, abs=1e-6)
    assert forgetting_rate(3 / np.sqrt(2), 2) < 2


def test_bad_input_is_refused():
    for call, message in [
        (lambda: remembered(-1.0, 1.0), "`refreshment`: got -1"),
        (lambda: remembered(1.0, -1.0), "`t`: got -1"),
        (lambda: remembered(1.0, 1.0, 0), "`power`: got 0"),
        (lambda: RandomisedHmc(STANDARD).moments(DATA, 1.0), "`start`: got dimension 2"),
        (lambda: RandomisedHmc(STANDARD).moments(WIDE, 11.0), "`t`: got 11"),
    ]:
        with pytest.raises(ValueError, match=r"`") as error:
            call()
        assert message in str(error.value)
