"""Claims about flow matching: integrals derived by SymPy, flows by SciPy's solver, order statistics by quadrature, mutants violated by hand."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sympy as sp
from scipy import integrate, linalg, optimize, stats

from ensembletheory.claims import get, stored
from ensembletheory.laws import GaussianMixture
from ensembletheory.processes import LinearInterpolant
from ensembletheory.processes.couplings import minibatch_correlation
from tests.claims.margins import all_mutants, assert_violated_as_said, margin


def root(S):
    return linalg.sqrtm(S).real


def bent(bends, t):
    """A, s and their slopes."""
    alpha, beta = bends
    return (1 - t) * (1 + alpha * t), t * (1 + beta * (1 - t)), alpha - 1 - 2 * alpha * t, 1 + beta - 2 * beta * t


def begun_early(instance):
    mean, z = instance["mean"], instance["point"]
    a, s, _, _ = bent(instance["bends"], instance["begun"])
    return -np.max(abs(a * mean + root(a**2 * instance["cov"] + s**2 * np.eye(2)) @ z - z))


def any_source(instance):
    """The slope of C^{1/2} z by Sylvester's equation, the velocity by regression of a' X_0 + s' X_1 on X_t."""
    S, R, z, (a, s, da, ds) = instance["cov"], instance["source_cov"], instance["point"], bent(instance["bends"], instance["time"])
    C, slope = a**2 * S + s**2 * R, 2 * a * da * S + 2 * s * ds * R
    half = root(C)
    return -np.max(abs(linalg.solve_sylvester(half, half, slope) @ z - (a * da * S + s * ds * R) @ np.linalg.solve(C, half @ z)))


def moments_alone(instance):
    w, m, S = (np.asarray(instance[name]) for name in ("weights", "means", "variances"))
    x, (a, s, da, ds) = instance["point"], bent(instance["bends"], instance["time"])
    deviations = np.sqrt(a**2 * S + s**2)
    z, slopes = (x - a * m) / deviations, (a * da * S + s * ds) / deviations
    density = w @ (stats.norm.pdf(z) / deviations)
    of_quantiles = w @ (stats.norm.pdf(z) / deviations * (da * m + z * slopes)) / density
    mean, variance = w @ m, w @ (S + m**2) - (w @ m) ** 2
    of_gaussian = da * mean + (a * da * variance + s * ds) / (a**2 * variance + s**2) * (x - a * mean)
    return -abs(of_quantiles - of_gaussian) / (1 + abs(of_quantiles))


def energy(variance, slope, mean_slope=lambda t: 0.0):
    return integrate.quad(lambda t: slope(t) ** 2 / (4 * variance(t)) + mean_slope(t) ** 2, 0, 1, epsabs=1e-12, limit=200)[0]


def straight(s):
    return energy(lambda t: (1 - t) ** 2 * s**2 + t**2, lambda t: 2 * t - 2 * (1 - t) * s**2)


def trigonometric(s):
    return energy(lambda t: 1 + (s**2 - 1) * np.cos(np.pi * t / 2) ** 2, lambda t: -np.pi / 2 * (s**2 - 1) * np.sin(np.pi * t))


def larger_constant(instance):
    m, s, k = instance["mean"], instance["deviation"], instance["noise"]
    found = energy(lambda t: (1 - t) ** 2 * s**2 + t**2 + 2 * k * t * (1 - t), lambda t: 2 * t - 2 * (1 - t) * s**2 + 2 * k * (1 - 2 * t), lambda t: m)
    return found - 1.05 * (m**2 + (s - 1) ** 2)


@cache
def correlation(batch):
    """The mean square of E Z_{i:B}, by adaptive quadrature over the density of each order statistic."""

    def mean(i):
        density = lambda x: x * stats.norm.pdf(x) * stats.binom.pmf(i, batch - 1, stats.norm.cdf(x)) * batch  # noqa: E731
        return integrate.quad(density, -9, 9, epsabs=1e-12, limit=200)[0]

    return 2 * sum(mean(i) ** 2 for i in range(batch // 2)) / batch  # the middle one, if any, is 0


def worst_matching(instance):
    s, rho = instance["deviation"], [-correlation(batch) for batch in (1, 2, 4, 8, 16)]
    return np.min(2 * s * np.diff([*rho, 1.0]))


PLANE = {"mean": np.array([1.0, -2.0]), "cov": np.array([[4.0, 1.0], [1.0, 0.5]]), "bends": np.array([0.5, -0.5]), "time": 0.4, "point": np.array([1.0, 0.5])}
MODES = {"weights": [0.3, 0.7], "means": [-2.0, 1.0], "variances": [0.25, 0.5], "bends": [1.0, -0.5], "time": 0.4, "point": 0.3}
MUTANTS = {
    ("flow-matching-map-schedule-free", "begun-early"): (PLANE | {"begun": 0.7}, begun_early),
    ("flow-matching-map-schedule-free", "any-source"): (PLANE | {"source_cov": np.array([[1.0, -0.5], [-0.5, 2.0]])}, any_source),
    ("flow-is-the-quantile-map", "moments-alone"): (MODES, moments_alone),
    ("flow-matching-energy", "least-energy"): ({"deviations": [2.0, 0.5]}, lambda _: -abs(straight(2.0) + straight(0.5) - 1.25)),
    ("flow-matching-energy", "trigonometric"): ({"deviations": [2.0, 0.5]}, lambda _: -abs(trigonometric(2.0) + trigonometric(0.5) - straight(2.0) - straight(0.5))),
    ("flow-matching-least-energy", "larger-constant"): ({"mean": 1.0, "deviation": 2.0, "noise": 1.9}, larger_constant),
    ("minibatch-coupling-correlation", "worst-matching"): ({"shift": 1.0, "deviation": 2.0}, worst_matching),
}


def test_every_mutant_is_here():
    assert set(MUTANTS) == all_mutants({id for id, _ in MUTANTS})


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_as_much_as_the_second_route_says(id, name):
    assert_violated_as_said(id, name, *MUTANTS[id, name], rel=1e-7)


def test_the_energy_of_the_straight_path_by_sympy():
    """E v^2 = c'^2 / (4 c) with c = (1-t)^2 s^2 + t^2 is 1 + s^2 - s^2 / c, and s^2 / c integrates to pi s / 2."""
    t, s = sp.symbols("t s", positive=True)
    c = (1 - t) ** 2 * s**2 + t**2
    power, floor = sp.diff(c, t) ** 2 / (4 * c), s**2 / c
    assert sp.simplify(power + floor - (1 + s**2)) == 0
    antiderivative = s * sp.atan((t * (1 + s**2) - s**2) / s)
    assert sp.simplify(sp.diff(antiderivative, t) - floor) == 0
    integral = antiderivative.subs(t, 1) - antiderivative.subs(t, 0)
    assert sp.simplify(sp.diff(integral / s, s)) == 0  # arctan s + arctan 1/s is a constant, pi / 2 at s = 1
    assert sp.simplify((integral / s).subs(s, 1)) == sp.pi / 2


def test_the_floor_of_conditional_flow_matching_by_sympy():
    """Var(Z - X_0 | X_t) of X_t = (1 - t) X_0 + t Z, by the determinant of their covariance."""
    t, s = sp.symbols("t s", positive=True)
    hidden, seen, given = sp.Matrix([-1, 1]), sp.Matrix([1 - t, t]), sp.diag(s**2, 1)
    var_seen = (seen.T * given * seen)[0]
    conditional = (hidden.T * given * hidden)[0] - (hidden.T * given * seen)[0] ** 2 / var_seen
    assert sp.simplify(conditional - s**2 / var_seen) == 0


@pytest.mark.parametrize(("s", "value", "least", "floor"), [(2.0, 1.858407, 1.0, 3.141593), (0.5, 0.464602, 0.25, 0.785398)])
def test_energies_of_the_straight_path(s, value, least, floor):
    assert straight(s) == pytest.approx(value, abs=5e-7)
    assert 1 + s**2 - straight(s) == pytest.approx(floor, abs=5e-7)
    assert (s - 1) ** 2 == least < straight(s)


def test_the_least_energy_is_attained_by_sympy():
    """With k = s the variance is a perfect square, ((1 - t) s + t)^2."""
    t, s = sp.symbols("t s", positive=True)
    variance = (1 - t) ** 2 * s**2 + t**2 + 2 * s * t * (1 - t)
    assert sp.factor(variance - ((1 - t) * s + t) ** 2) == 0
    assert sp.simplify(sp.diff(variance, t) ** 2 / (4 * variance) - (1 - s) ** 2) == 0


MIXTURE = ([0.3, 0.7], [-2.0, 1.0], [0.25, 0.09])


@pytest.fixture(scope="module")
def velocity():
    """The exact velocity of the straight path, on a block of 256 points."""
    weights, means, variances = map(jnp.asarray, MIXTURE)
    field = LinearInterpolant().velocity(GaussianMixture(weights, means[:, None], variances[:, None]))
    compiled = jax.jit(jax.vmap(lambda t, x: field(t, x[None])[0]))
    return lambda t, x: np.asarray(compiled(jnp.asarray(np.resize(t, 256)), jnp.asarray(np.resize(x, 256))))


def test_the_flow_of_a_mixture_is_its_quantile_map(velocity):
    """Both from SciPy: the flow by its solver, the quantiles by its root finder; numbers to ten digits."""
    w, m, S = map(np.asarray, MIXTURE)
    starts, ends = np.array([-1.5, 0.0, 1.0]), [-2.3815687970, 0.8302153563, 1.2249770772]
    flow = integrate.solve_ivp(lambda t, x: velocity(t, x)[:3], (1.0, 0.0), starts, method="DOP853", rtol=1e-11, atol=1e-12)
    quantiles = [optimize.brentq(lambda x, u=u: w @ stats.norm.cdf(x, m, np.sqrt(S)) - u, -6, 6, xtol=1e-13) for u in stats.norm.cdf(starts)]
    np.testing.assert_allclose(flow.y[:, -1], quantiles, rtol=1e-8)
    np.testing.assert_allclose(quantiles, ends, atol=5e-11)


def test_the_energy_and_the_floor_of_a_mixture(velocity):
    """The same end points as optimal transport, at a larger energy."""
    w, m, S = map(np.asarray, MIXTURE)
    nodes, weights = np.polynomial.legendre.leggauss(48)
    x, total = np.linspace(-6.5, 6.5, 2048), 0.0
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        density = w @ stats.norm.pdf(x[None, :], (1 - t) * m[:, None], np.sqrt((1 - t) ** 2 * S + t**2)[:, None])
        speeds = np.concatenate([velocity(t, block) for block in np.split(x, 8)])
        total += weight * np.trapezoid(density * speeds**2, x)
    assert total == pytest.approx(1.18790537, abs=1e-8)
    assert 1 + w @ (S + m**2) - total == pytest.approx(1.85009463, abs=1e-8)
    u = np.linspace(1e-6, 1 - 1e-6, 4001)
    table = np.linspace(-6, 6, 20_001)
    quantiles = np.interp(u, w @ stats.norm.cdf(table[None, :], m[:, None], np.sqrt(S)[:, None]), table)
    assert np.trapezoid((quantiles - stats.norm.ppf(u)) ** 2, u) == pytest.approx(0.5176844168, rel=2e-3)


@pytest.mark.parametrize(("batch", "value"), [(1, 0.0), (2, 0.318310), (3, 0.477465), (4, 0.573915), (8, 0.749937), (16, 0.859359)])
def test_correlations_of_minibatches_by_their_order_statistics(batch, value):
    assert correlation(batch) == pytest.approx(value, abs=5e-7)
    assert float(minibatch_correlation(batch)) == pytest.approx(correlation(batch), abs=1e-10)


def test_the_stored_coupling_is_not_optimal_by_its_flow():
    """The linear flow of the independent coupling by SciPy's solver: neither symmetric nor of least cost, though it has the right image."""
    instance = stored.read_instance(stored.counterexample_path(get("independent-coupling-is-optimal")))
    R, S = instance["source_cov"], instance["cov"]

    def right(t, T):
        return ((t * R - (1 - t) * S) @ np.linalg.solve((1 - t) ** 2 * S + t**2 * R, T.reshape(2, 2))).ravel()

    T = integrate.solve_ivp(right, (1.0, 0.0), np.eye(2).ravel(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1].reshape(2, 2)
    np.testing.assert_allclose(T @ R @ T.T, S, atol=1e-8)
    least, cost = np.trace(R + S - 2 * root(root(R) @ S @ root(R))), np.trace(R + S - 2 * T @ R)
    value, _ = margin(get("independent-coupling-is-optimal"), instance)
    assert value == pytest.approx(least - cost, rel=1e-8)
    assert value < -0.1
    assert abs(T[0, 1] - T[1, 0]) > 0.1
