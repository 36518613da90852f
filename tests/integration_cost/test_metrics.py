"""Horizons, path lengths, Lipschitz times, leading errors and trained flows, against closed forms, SciPy's quadrature and root finding, and the recursions by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import expm
from scipy.optimize import brentq
from scipy.special import ellipe
from scipy.stats import norm

from ensembletheory.integration_cost import (
    METHODS,
    Kinetic,
    Method,
    Path,
    QuarterTurn,
    ScalarMass,
    Transport,
    horizon_needed,
    initialisation_error,
    leading_error,
    lipschitz_time,
    path_length,
    train_leapfrog,
    train_residual,
)
from ensembletheory.laws import Gaussian
from ensembletheory.processes import CriticallyDampedLangevin, OrnsteinUhlenbeck
from ensembletheory.samplers import Rk4
from tests.integration_cost.recursions import DEVIATIONS, TOLERANCES, VARIANCES, kl, linear

LINEAR, OSCILLATION, VP = (METHODS[name].model for name in ("linear_euler", "oscillation_euler", "vp_euler"))
UNIT = np.sqrt(2 / np.pi)


def line(s, mean=0.0):
    return Gaussian([mean], jnp.asarray([[s**2]]))


def joint_kl(C, R):
    ratio = np.linalg.solve(R, C)
    return (np.trace(ratio) - len(C) - np.linalg.slogdet(ratio)[1]) / 2


# int beta needed for KL = 1e-2 / 1e-3 / 1e-4, by deviation
VP_HORIZONS = {0.1: (1.6672, 2.7719, 3.9087), 0.5: (1.3895, 2.4942, 3.6310), 2.0: (2.6425, 3.8384, 5.0040), 5.0: (4.7219, 5.9178, 7.0834)}
CLD_HORIZONS = {0.1: (2.1848, 2.9936, 3.7561), 0.5: (1.9629, 2.7985, 3.5742), 2.0: (2.9032, 3.7103, 4.4538), 5.0: (4.2768, 5.0175, 5.7191)}


@pytest.mark.parametrize("s", DEVIATIONS)
def test_horizons_of_the_diffusion(s):
    found = horizon_needed(Path(OrnsteinUhlenbeck(0.5, 20.0)), line(s), TOLERANCES)
    solved = [brentq(lambda b, tolerance=tolerance: float(kl(1 + (s**2 - 1) * np.exp(-b), 1.0)) - tolerance, 0, 20, xtol=1e-13) for tolerance in TOLERANCES]
    np.testing.assert_allclose(found, solved, atol=1e-10)
    np.testing.assert_allclose(found, VP_HORIZONS[s], atol=5.1e-5)


@pytest.mark.parametrize("s", DEVIATIONS)
def test_horizons_of_critical_damping(s):
    """Joint divergence, momenta stationary from the beginning, by the matrix exponential; mass 1/4 takes half the time of mass 1."""

    def above(b, tolerance):
        E = expm(b * np.array([[0.0, 1.0], [-1.0, -2.0]]))
        return joint_kl(E @ np.diag([s**2 - 1, 0.0]) @ E.T + np.eye(2), np.eye(2)) - tolerance

    found = {mass: horizon_needed(Kinetic(CriticallyDampedLangevin(mass, 1.0, 20.0), 1.0), line(s), TOLERANCES) for mass in (1.0, 0.25)}
    np.testing.assert_allclose(found[1.0], [brentq(above, 0, 20, args=(tolerance,), xtol=1e-13) for tolerance in TOLERANCES], atol=1e-9)
    np.testing.assert_allclose(found[1.0], CLD_HORIZONS[s], atol=5.1e-5)
    np.testing.assert_allclose(2 * found[0.25], found[1.0], atol=1e-9)


def test_horizons_grow_with_the_logarithm():
    """By log(10) / 2 for each digit of the divergence; beyond the horizon there is none."""
    found = np.asarray(horizon_needed(Path(OrnsteinUhlenbeck(0.5, 20.0)), line(2.0), [1e-6, 1e-7, 1e-20]))
    assert found[1] - found[0] == pytest.approx(np.log(10) / 2, abs=1e-3)
    assert found[2] == np.inf


def test_errors_of_finite_horizons():
    """Exactly none where the prior is reached, and that of the noised variance where it is not."""
    data = line(2.0, 1.0)
    for model in (QuarterTurn(), LINEAR):
        assert abs(float(initialisation_error(model, data))) < 1e-15
    assert float(initialisation_error(VP, line(2.0))) == pytest.approx(float(kl(1 + 3 * np.exp(-10.05), 1.0)), rel=1e-6)
    assert float(initialisation_error(VP, data)) == pytest.approx(float(kl(1 + 3 * np.exp(-10.05), 1.0)) + np.exp(-10.05) / 2, rel=1e-9)


@pytest.mark.parametrize("s", [0.1, 0.5, 1.0, 2.0, 5.0])
def test_path_lengths(s):
    """A quarter of an ellipse's perimeter; the table of section 7.4 (iii) to its digits."""
    perimeter = max(1, s) * ellipe(1 - min(1, s) ** 2 / max(1, s) ** 2)
    independent = 1 + s - 2 * s / np.sqrt(1 + s**2)
    assert float(path_length(QuarterTurn(), line(s))) / UNIT == pytest.approx(perimeter, abs=1e-9)
    table = {0.1: (0.9, 0.9010, 1.0160), 0.5: (0.5, 0.6056, 1.2111), 1.0: (0, 0.5858, 1.5708), 2.0: (1, 1.2111, 2.4221), 5.0: (4, 4.0388, 5.2525)}[s]
    np.testing.assert_allclose([abs(s - 1), independent, perimeter], table, atol=5.1e-5)


@pytest.mark.verify  # other models, the same integrals
@pytest.mark.parametrize("s", [0.1, 1.0, 5.0])
def test_least_lengths_and_times(s):
    """Monotone deviations: transport, the oscillation, and up to its horizon the diffusion; flow matching turns back on its way."""
    for model in (ScalarMass(), Transport(), OSCILLATION):
        assert abs(float(initialisation_error(model, line(s, 1.0)))) < 1e-15
    assert float(path_length(LINEAR, line(s))) / UNIT == pytest.approx(1 + s - 2 * s / np.sqrt(1 + s**2), abs=1e-9)
    assert float(lipschitz_time(LINEAR, line(s))) == pytest.approx(np.log((1 + s**2) ** 2 / s**2) / 2, abs=1e-9)
    last = np.sqrt(1 + (s**2 - 1) * np.exp(-10.05))
    for model, end in ((Transport(), 1.0), (OSCILLATION, 1.0), (VP, last)):
        assert float(path_length(model, line(s))) / UNIT == pytest.approx(abs(s - end), abs=1e-9)
        assert float(lipschitz_time(model, line(s))) == pytest.approx(abs(np.log(s / end)), abs=1e-9)


@pytest.mark.verify
def test_path_length_of_data_off_the_origin():
    """E|N(mu, v)| by SciPy, for a mean that moves along."""
    m, s = 1.5, 0.5

    def speed(t):
        slope = linear(t, s**2)
        mean, deviation = -m, abs(slope) * np.sqrt((1 - t) ** 2 * s**2 + t**2)
        return quad(lambda x: abs(mean + deviation * x) * norm.pdf(x), -9, 9, points=[max(-9, min(9, -mean / max(deviation, 1e-9)))])[0]

    assert float(path_length(LINEAR, line(s, m))) == pytest.approx(quad(speed, 0, 1, limit=200, epsabs=1e-9)[0], abs=1e-7)


@pytest.mark.parametrize("s", DEVIATIONS)
def test_lipschitz_times(s):
    """Section 7.4 (iv); the quarter turn's depends on the units of momenta."""
    turn = QuarterTurn()
    assert float(lipschitz_time(turn, line(s))) == pytest.approx(np.pi / 2 * max(s, 1 / s), rel=1e-12)
    assert float(lipschitz_time(turn, line(s), turn.balance(line(s)))) == pytest.approx(np.pi / 2, rel=1e-12)


@pytest.mark.verify
def test_lipschitz_time_in_the_plane():
    """The largest of the modes at each time: of transport of deviations 1/3 and 2, the ratio of changes crosses nowhere, and the narrow mode counts."""
    data = Gaussian([0.0, 0.0], [1 / 9, 4.0])
    expected = quad(lambda t: max(abs(s - 1) / ((1 - t) * s + t) for s in (1 / 3, 2.0)), 0, 1, epsabs=1e-12, limit=200)[0]
    found = lipschitz_time(Transport(), data)
    assert abs(float(found) - expected) <= float(found.error) + 1e-10


@pytest.mark.parametrize(
    ("name", "s", "power", "closed"),
    [
        ("linear_euler", 2.0, 1, lambda s: -(1 + np.pi * (1 + s**2) / (4 * s)) / 2),
        pytest.param("oscillation_euler", 0.5, 1, lambda s: -(np.pi**2) * (1 - s) ** 2 / (16 * s), marks=pytest.mark.verify),
        pytest.param("linear_heun", 0.5, 2, None, marks=pytest.mark.verify),
        pytest.param("oscillation_heun", 2.0, 2, None, marks=pytest.mark.verify),
        pytest.param("vp_euler_quadratic", 2.0, 1, None, marks=pytest.mark.verify),
        ("quarter_turn", 5.0, 2, lambda s: np.pi**2 / 32),
    ],
)
def test_leading_errors_are_limits(name, s, power, closed):
    """N^p times the error of the logarithm of the deviation, extrapolated from the recursions; errors of even powers alone where steps are symmetric."""
    numbers = np.array([200, 400, 800])
    exact = np.log(s) if name.split("_")[0] != "vp" else np.log(s / np.sqrt(1 + (s**2 - 1) * np.exp(-10.05)))
    scaled = [n**power * (np.log(VARIANCES[name](s**2, n)) / 2 - exact) for n in numbers]
    limit = np.linalg.solve(np.vander(1 / numbers, 3), scaled)[-1]
    found = leading_error(METHODS[name], line(s))
    assert float(found) == pytest.approx(limit, rel=2e-4)
    if closed is not None:
        assert float(found) == pytest.approx(closed(s), rel=1e-9)


REACHED = ("quarter_turn", "linear_euler", "linear_heun", "oscillation_euler", "oscillation_heun")
ORDERS = {name: 2 if "heun" in name or name == "quarter_turn" else 1 for name in VARIANCES if name != "transport_euler"}


@pytest.mark.parametrize("name", REACHED)
def test_divergences_fall_by_the_laws_of_orders(name):
    """Slopes of log KL in log N: -2 for schemes of order 1 and -4 of order 2, within 0.1, where the prior is reached."""
    for s in DEVIATIONS[1:]:
        numbers = np.array([100, 141, 200])
        values = [float(kl(s**2, VARIANCES[name](s**2, n))) for n in numbers]
        assert np.polyfit(np.log(numbers), np.log(values), 1)[0] == pytest.approx(-2 * ORDERS[name], abs=0.1)


@pytest.mark.parametrize("name", ORDERS)
def test_what_steps_add_has_the_order_of_the_scheme(name):
    """Differences of the logarithm of the variance between N, 2 N and 4 N steps; divergences of diffusions end on the error of their horizon, so their slopes do not tell."""
    first = 512 if name in ("cld_euler", "cld_heun") else 256 if name.startswith("cld") else 128
    logs = [np.log(VARIANCES[name](4.0, n)) for n in (first, 2 * first, 4 * first)]
    assert np.log2((logs[0] - logs[1]) / (logs[1] - logs[2])) == pytest.approx(ORDERS[name], abs=0.1)


KEY = jax.random.key(7)


@pytest.mark.parametrize(("s", "steps"), [(0.1, 1), (2.0, 2)])
def test_leapfrog_trained_through_its_steps_is_exact(s, steps):
    """From random starts, most of which arrive; the parameters make the variance of the textbook's recursion right, and the posterior's precision is that of the data."""
    trained = train_leapfrog(KEY, line(s, 1.0), steps, most=2)
    deficits = np.asarray(trained.deficits)
    assert deficits[0] < 1e-12
    assert np.median(deficits) < 1e-12
    assert np.all(np.diff(deficits) >= 0)
    q, p, h = np.array([1.0, 0.0]), np.array([0.0, 1.0]), 1 / steps
    k, inverse_mass = float(trained.parameters["stiffness"][0, 0]), float(np.exp(trained.parameters["log_inverse_mass"]))
    for _ in range(steps):
        p = p - h / 2 * k * q
        q = q + h * inverse_mass * p
        p = p - h / 2 * k * q
    assert q @ q == pytest.approx(s**2, rel=1e-6)
    assert np.exp(trained.parameters["log_variances"][0]) == pytest.approx(1 / s**2, rel=1e-5)
    assert trained.parameters["weights"][0, 0] == pytest.approx(q @ p / (q @ q), abs=1e-4 / s**2)


@pytest.mark.verify
def test_a_mass_that_is_too_light_cannot_be_mended():
    """With c = a^2 h = 1 above s = 1/2, no stiffness does better than the edge of what one step reaches."""
    trained = train_leapfrog(KEY, line(0.5), 1, starts=4, inverse_mass=1.0)
    assert float(trained.deficits[0]) == pytest.approx(np.log(2) + (0.25 - 1) / 2, abs=1e-9)


@pytest.mark.verify
def test_a_residual_map_trained_the_same_way_is_exact_too():
    trained = train_residual(KEY, Gaussian([1.0, -1.0], [[1.0, 0.8], [0.8, 2.0]]), 1, starts=4)
    assert float(trained.deficits[0]) < 1e-12
    A = np.eye(2) + np.asarray(trained.parameters["slope"])
    np.testing.assert_allclose(A @ A.T, [[1.0, 0.8], [0.8, 2.0]], atol=1e-5)
    np.testing.assert_allclose(trained.parameters["shift"], [1.0, -1.0], atol=1e-5)


def test_bad_input_is_refused():
    plane = Gaussian([0.0, 0.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="tolerances"):
        horizon_needed(VP, line(2.0), [0.0])
    with pytest.raises(ValueError, match="data"):
        path_length(LINEAR, plane)
    with pytest.raises(ValueError, match="units"):
        lipschitz_time(QuarterTurn(), line(2.0), [[1.0]])
    with pytest.raises(ValueError, match="method"):
        leading_error(Method(LINEAR, Rk4()), line(2.0))
    with pytest.raises(ValueError, match="data"):
        leading_error(METHODS["linear_euler"], plane)
    with pytest.raises(ValueError, match="steps, starts"):
        train_leapfrog(KEY, line(2.0), 0)
