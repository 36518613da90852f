"""The pendulum against SciPy's elliptic functions and its differential equation, pictures against their formula, and angles read off them."""

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import ellipj, ellipk

from ensembletheory.neural.hamiltonian.pendulum import Pendulum, angles, momenta, pictures

PENDULUM = Pendulum(1.3)
TIMES = np.linspace(-5.0, 20.0, 40)
SWINGS, PHASES = np.array([1e-3, 0.4, 1.4, 3.0]), np.array([0.0, 0.2, 0.6, 0.9])
Q = np.linspace(-3.1, 3.1, 41)


@pytest.fixture(scope="module")
def orbits():
    return np.asarray(PENDULUM.orbit(SWINGS, PHASES, TIMES))


def test_orbits_are_jacobi_functions(orbits):
    k = np.sin(SWINGS / 2)[:, None]
    sn, cn, _, _ = ellipj(4 * ellipk(k**2) * PHASES[:, None] + 1.3 * TIMES, k**2)
    np.testing.assert_allclose(orbits, np.stack([2 * np.arcsin(k * sn), 2 * 1.3 * k * cn], axis=-1), atol=1e-12)
    np.testing.assert_allclose(PENDULUM.period(SWINGS), 4 * ellipk(k[:, 0] ** 2) / 1.3, rtol=1e-14)


def test_orbits_solve_the_equation_of_motion(orbits):
    for orbit in orbits[1:3]:
        run = solve_ivp(lambda t, z: [z[1], -(1.3**2) * np.sin(z[0])], TIMES[[0, -1]], orbit[0], t_eval=TIMES, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(orbit, run.y.T, atol=1e-8)


def test_energy_is_that_of_the_swing_at_all_times(orbits):
    np.testing.assert_allclose(PENDULUM.energy(orbits), np.broadcast_to(1.3**2 * (1 - np.cos(SWINGS))[:, None], orbits.shape[:2]), rtol=1e-8, atol=1e-15)


def test_sequences_have_uniform_swings_and_phases():
    """The swing from the energy, the phase from the point at time 0, each in its quarters by a chi-squared statistic of 3 degrees of freedom (16.3 has probability 1e-3)."""
    z = np.asarray(Pendulum().sequences(jax.random.key(3), 400, [0.0], (0.4, 1.4)))[:, 0]
    k = np.sqrt(z[:, 1] ** 2 / 4 + np.sin(z[:, 0] / 2) ** 2)
    shares = (2 * np.arcsin(k) - 0.4) / 1.0
    assert np.all((shares > 0) & (shares < 1))
    quarters = 2 * (z[:, 0] < 0) + (z[:, 0] * z[:, 1] < 0)  # of the period: up and down on either side
    for counts in (np.histogram(shares, 4, (0, 1))[0], np.bincount(quarters, minlength=4)):
        assert np.sum((counts - 100) ** 2) / 100 < 16.3


def test_pictures_are_their_formula():
    picture = np.asarray(pictures(0.7, 16)).reshape(16, 16)
    for row, column in ((0, 0), (11, 10), (9, 4)):
        x, y = (2 * column + 1) / 16 - 1, 1 - (2 * row + 1) / 16  # the first row is the top
        squared = (x - 0.4 * np.sin(0.7)) ** 2 + (y + 0.4 * np.cos(0.7)) ** 2
        assert picture[row, column] == pytest.approx(np.exp(-squared / (2 * 0.12**2)), rel=1e-10)
    assert np.unravel_index(np.argmax(picture), (16, 16)) == (10, 10)  # below and to the right


@pytest.mark.parametrize(("side", "accuracy"), [(12, 2e-4), (16, 1e-7)])
def test_first_moments_read_the_angle_whatever_contrast_and_background(side, accuracy):
    frames = np.asarray(pictures(Q, side))
    np.testing.assert_allclose(angles(np.stack([frames, 3 * frames, frames + 1])), np.tile(Q, (3, 1)), atol=accuracy)


def test_first_moments_of_an_average_are_the_average():
    """Two bobs of equal brightness at angles q and r show (q + r) / 2, one of brightness 0 nothing."""
    one, other = np.asarray(pictures(np.array([0.3, 1.1]), 16))
    assert float(angles((one + other) / 2)) == pytest.approx(0.7, abs=1e-7)


def test_differences_are_exact_for_polynomials_of_degree_six_and_of_order_six():
    t = 0.2 * np.arange(9)
    np.testing.assert_allclose(momenta(0.1 * t**6 - 0.2 * t**3, 0.2), (0.6 * t**5 - 0.6 * t**2)[3:-3], rtol=1e-10, atol=1e-10)
    errors = [abs(float(momenta(np.sin(h * np.arange(-3, 4)), h)[0]) - 1) for h in (0.4, 0.2)]
    assert errors[0] == pytest.approx(0.4**6 / 140, rel=0.05)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(6, abs=0.1)


def test_differences_go_through_the_cut_at_pi():
    np.testing.assert_allclose(momenta(np.angle(np.exp(1j * (3.0 + 0.1 * np.arange(9)))), 0.1), 1.0, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Pendulum(0.0), "`frequency`: got 0.0; expected a positive number"),
        (lambda: PENDULUM.period(3.14), "`swing`: got 3.14; expected angles in"),
        (lambda: PENDULUM.orbit([0.3, 0.0], 0.1, [0.0]), "`swing`"),
        (lambda: pictures(0.0, 4), "`side`: got 4; expected a whole number >= 8"),
        (lambda: angles(0.3), "`frames`: got 0 pixels"),
        (lambda: momenta(np.arange(8.0), 0.0), "`step`: got 0; expected a number above 0"),
        (lambda: momenta(0.3, 0.1), "`q`: got 1 angles"),
        (lambda: Pendulum(np.inf), "`frequency`: got inf"),
        (lambda: PENDULUM.energy([0.3]), r"`z`: got shape \(1,\); expected \(\.\.\., 2\)"),
        (lambda: PENDULUM.orbit(0.3, 0.0, 0.1), r"`times`: got shape \(\); expected \(times,\)"),
        (lambda: PENDULUM.sequences(jax.random.key(0), 2, [0.0, 1.0], (0.4, 1.0, 1.4)), r"`swings`: got shape \(3,\)"),
        (lambda: PENDULUM.sequences(jax.random.key(0), 0, [0.0, 1.0]), "`n`: got 0"),
        (lambda: angles(np.ones(15)), "`frames`: got 15 pixels; expected a square number"),
        (lambda: angles(np.full(16, np.nan)), "`frames`: got 16 NaN or infinite"),
        (lambda: momenta(np.zeros(6), 0.1), "`q`: got 6 angles; expected at least 7"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
