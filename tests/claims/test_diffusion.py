"""Claims about sampled diffusions: recursions, differential equations and quadrature in NumPy and SciPy, mutants violated by hand, exact one-step values."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy.stats import norm

from ensembletheory.claims import get, stored
from ensembletheory.laws import FiniteLaw, GaussianMixture, standard_normal
from ensembletheory.processes import VariancePreserving
from ensembletheory.samplers import EulerMaruyama, ExponentialIntegrator, Sampler
from ensembletheory.samplers.analytic_dpm import mean_posterior_variance
from tests.claims.margins import margin

RATES = (0.1, 20.0)
SCHEMES = ("euler-maruyama", "exponential", "ddpm", "euler", "heun", "rk4")


def beta(t, rates):
    return rates[0] + (rates[1] - rates[0]) * t


def signal2(t, rates):
    """a_t^2."""
    return np.exp(-(rates[0] * t + (rates[1] - rates[0]) * t**2 / 2))


def noised(variance, t, rates):
    return 1 + signal2(t, rates) * (variance - 1)


def nodes(steps):
    """The grid of claims: steps of 0.05 and their share of the rest."""
    return 1 - np.concatenate([[0.0], np.cumsum(0.05 + 0.8 * np.asarray(steps))])


def recursion(scheme, data, start, grid, rates):
    """The variance of Pierret & Galerne's recursions, where b = beta / 2, from `start` along the grid."""
    v = np.asarray(start, dtype=float)
    for t, s in pairwise(grid):
        h, b, L = t - s, beta(t, rates) / 2, noised(data, t, rates)

        def slope(time):
            return beta(time, rates) / 2 * (1 - 1 / noised(data, time, rates))

        c0, c1, cm = slope(t), slope(s), slope((t + s) / 2)
        if scheme == "euler-maruyama":
            v = (1 + h * b * (1 - 2 / L)) ** 2 * v + 2 * h * b
        elif scheme == "exponential":
            g = 0.5 * np.log(signal2(s, rates) / signal2(t, rates))
            v = (1 + np.expm1(g) * (1 - 2 / L)) ** 2 * v + np.expm1(2 * g)
        elif scheme == "ddpm":
            v = (1 - 2 * h * b / L) ** 2 / (1 - 2 * h * b) * v + 2 * h * b
        elif scheme == "euler":
            v = (1 + h * c0) ** 2 * v
        elif scheme == "heun":
            v = (1 + h / 2 * (c0 + c1 * (1 + h * c0))) ** 2 * v
        else:
            k2 = cm * (1 + h * c0 / 2)
            k3 = cm * (1 + h * k2 / 2)
            v = (1 + h / 6 * (c0 + 2 * k2 + 2 * k3 + c1 * (1 + h * k3))) ** 2 * v
    return v


def means_of(scheme, mean, variance, start, grid, rates):
    """The mean that Euler-Maruyama or Euler makes of `start`."""
    m = np.asarray(start, dtype=float)
    for t, s in pairwise(grid):
        share = 2 if scheme == "euler-maruyama" else 1
        pull = (m - np.sqrt(signal2(t, rates)) * mean) / noised(variance, t, rates)
        m = m + (t - s) * beta(t, rates) / 2 * (m - share * pull)
    return m


def squared_w2(m, v, n, w):
    return np.sum((m - n) ** 2 + (np.sqrt(v) - np.sqrt(w)) ** 2)


def reverse_moments(instance, e):
    """Mean and variance at the given time of the reverse dynamics of churn e, by a differential equation in time."""
    mean, S, rates, t = (np.asarray(instance[name], dtype=float) for name in ("mean", "spectrum", "rates", "time"))

    def right(time, y):
        m, v = y[:2], y[2:]
        b, L, a = beta(time, rates), noised(S, time, rates), np.sqrt(signal2(time, rates))
        return -np.concatenate([b / 2 * (m - (1 + e) * (m - a * mean) / L), b * v - (1 + e) * b * v / L + e * b])

    first = np.concatenate([instance["start_mean"], instance["start_spectrum"]])
    end = integrate.solve_ivp(right, (1.0, t), first, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    return end[:2], end[2:]


ANY_START = {
    "mean": np.array([1.0, -2.0]),
    "spectrum": np.array([4.0, 0.1]),
    "start_mean": np.array([0.5, 0.0]),
    "start_spectrum": np.array([1.0, 3.0]),
    "rates": np.array([0.1, 2.0]),
}


def ode_before_sde(instance):
    t, rates = instance["time"], instance["rates"]
    target = np.sqrt(signal2(t, rates)) * instance["mean"], noised(instance["spectrum"], t, rates)
    churned, flow = (squared_w2(*reverse_moments(instance, e), *target) for e in (instance["churn"] ** 2, 0.0))
    return churned - flow


def four_steps(instance):
    grid, rates, S = nodes(instance["steps"]), instance["rates"], instance["spectrum"]
    mean, start = instance["mean"], (instance["start_mean"], instance["start_spectrum"])

    def error(scheme):
        return squared_w2(means_of(scheme, mean, S, start[0], grid, rates), recursion(scheme, S, start[1], grid, rates), mean, S)

    return error("euler") - error("euler-maruyama")


def changed(instance, schemes):
    v = instance.get("variance", 1.0)
    return -max(abs(recursion(scheme, v, v, nodes(instance["steps"]), instance["rates"]) - v) for scheme in schemes)


def ddim_moments(instance, variances, eta, share):
    """Moments from p_T along DDIM with `share` of the optimal extra variance, coordinate by coordinate."""
    rates, mu = instance["rates"], instance["mean"]
    grid = nodes(instance["steps"])
    grid[-1] = 0.0
    m, v = np.sqrt(signal2(1.0, rates)) * mu, noised(variances, 1.0, rates)
    for t, s in pairwise(grid):
        u, w = signal2(t, rates), signal2(s, rates)
        L, own = noised(variances, t, rates), eta**2 * (1 - w) / (1 - u) * ((1 - u) - u / w * (1 - w))
        c = np.sqrt(w) - np.sqrt((1 - w - own) * u / (1 - u))
        gain = c * np.sqrt(u) * variances / L + np.sqrt((1 - w - own) / (1 - u))
        m = c * (mu + np.sqrt(u) * variances / L * (m - np.sqrt(u) * mu)) + np.sqrt((1 - w - own) / (1 - u)) * m
        v = gain**2 * v + own + share * c**2 * np.mean(variances * (1 - u) / L)
    return m, v


def off_the_data(instance, eta, share):
    variances = instance["variance"] * np.ones(2)
    m, v = ddim_moments(instance, variances, eta, share)
    return -max(np.max(abs(m - instance["mean"])), np.max(abs(v - variances)))


def posterior_variance(instance, t):
    """E Var(X_0 | X_t) by quadrature: within and between the components."""
    w, m, S = (np.asarray(instance[name]) for name in ("weights", "means", "variances"))
    u = signal2(t, instance["rates"])
    C = 1 + u * (S - 1)

    def integrand(x):
        joint = w * norm.pdf(x, np.sqrt(u) * m, np.sqrt(C))
        centres = m + np.sqrt(u) * S / C * (x - np.sqrt(u) * m)
        return joint @ (S * (1 - u) / C + centres**2) - (joint @ centres) ** 2 / joint.sum()

    return integrate.quad(integrand, -15, 15, epsabs=1e-13, limit=300, points=[-1.0, 0.0, 1.0])[0]


def smaller_bound(instance):
    t, s = instance["time"], instance["time"] * instance["share"]
    u, w = signal2(t, instance["rates"]), signal2(s, instance["rates"])
    own = (1 - w) / (1 - u) * (1 - u / w)
    c2 = (np.sqrt(w) - np.sqrt((1 - w - own) * u / (1 - u))) ** 2
    weights, means, variances = (np.asarray(instance[name]) for name in ("weights", "means", "variances"))
    spread = weights @ (variances + means**2) - (weights @ means) ** 2
    V = posterior_variance(instance, t)
    return min(c2 * V, 0.95 * c2 * spread * (1 - u) / (u * spread + 1 - u) - c2 * V)


def residual(instance, mean, variance):
    """The largest F over both coordinates, from the regression of X_0 on y = X_0 + sigma Z."""
    u, s2 = signal2(instance["time"], instance["rates"]), instance["deviation"] ** 2
    sigma2, y = (1 - u) / u, np.asarray(instance["point"]) / np.sqrt(u)
    denoised = mean + variance / (variance + sigma2) * (y - mean)
    return -np.max(abs(denoised - s2 / (s2 + sigma2) * y)) * np.sqrt(1 / s2 + 1 / sigma2)


GRID = {"rates": np.array([0.2, 0.9]), "steps": np.array([0.1, 0.2, 0.3, 0.4])}
DATA = {"mean": np.array([1.0, -2.0]), "rates": np.array([0.1, 8.0]), "steps": np.array([0.1, 0.2, 0.3, 0.4])}
MODES = {"weights": [0.3, 0.7], "means": [-1.0, 0.2], "variances": [1.0, 2.0], "rates": RATES, "time": 0.2, "share": 0.5}
LEVEL = {"deviation": 0.5, "rates": RATES, "time": 0.4, "point": [1.0, -2.0]}
MUTANTS = {
    ("diffusion-sde-before-ode", "ode-before-sde"): (ANY_START | {"time": 0.3, "churn": 1.5}, ode_before_sde),
    ("diffusion-sde-before-ode", "four-steps"): (ANY_START | {"rates": np.array(RATES), "steps": np.array([0.1, 0.2, 0.3, 0.4])}, four_steps),
    ("unit-eigenvalue-fixed-point", "euler-maruyama"): (GRID, lambda instance: changed(instance, ["euler-maruyama"])),
    ("unit-eigenvalue-fixed-point", "exponential-integrator"): (GRID, lambda instance: changed(instance, ["exponential"])),
    ("unit-eigenvalue-fixed-point", "another-eigenvalue"): (GRID | {"variance": 4.0}, lambda instance: changed(instance, ["heun"])),
    ("analytic-dpm-isotropic", "any-covariance"): (DATA | {"variance": np.array([4.0, 0.25])}, lambda instance: off_the_data(instance, 0.5, 1.0)),
    ("analytic-dpm-isotropic", "posterior-variance"): (DATA | {"variance": 4.0}, lambda instance: off_the_data(instance, 1.0, 0.0)),
    ("analytic-dpm-variance-bounds", "smaller-bound"): (MODES, smaller_bound),
    ("edm-preconditioner-zero", "another-variance"): (LEVEL | {"variance": 1.0}, lambda instance: residual(instance, 0.0, 1.0)),
    ("edm-preconditioner-zero", "off-centre"): (LEVEL, lambda instance: residual(instance, 1.0, 0.25)),
}


def test_every_mutant_is_here():
    ids = ("diffusion-sde-before-ode", "unit-eigenvalue-fixed-point", "analytic-dpm-isotropic", "analytic-dpm-variance-bounds", "edm-preconditioner-zero")
    assert set(MUTANTS) == {(id, name) for id in ids for name in get(id).mutants}


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_as_much_as_the_second_route_says(id, name):
    """The margin of an identity is 0 by either route; that of its mutants tells whether it computes what it says."""
    instance, route = MUTANTS[id, name]
    value, _ = margin(get(id).mutated(name), instance)
    assert value < -1e-3
    assert value == pytest.approx(route(instance), rel=1e-8)


def test_the_equation_of_the_reverse_moments_has_pierret_and_galernes_solution():
    """Proposition 4: Cov = S_t + e^{-2 (B_T - B_t)} S_t^2 / S_T (1 / S_T - 1) from N(0, I), by the SDE, and S_t / S_T by the flow."""
    S, t, rates = np.array([4.0, 0.1]), 0.3, (0.1, 2.0)
    instance = ANY_START | {"mean": np.zeros(2), "start_mean": np.zeros(2), "start_spectrum": np.ones(2), "spectrum": S, "time": t}
    now, first, kept = noised(S, t, rates), noised(S, 1.0, rates), signal2(1.0, rates) / signal2(t, rates)
    np.testing.assert_allclose(reverse_moments(instance, 1.0)[1], now + kept * now**2 / first * (1 / first - 1), rtol=1e-9)
    np.testing.assert_allclose(reverse_moments(instance, 0.0)[1], now / first, rtol=1e-9)


def test_one_step_of_what_moves_the_unit_eigenvalue():
    """1 + (h b)^2 for Euler-Maruyama and 1 + 2 (e^g - 1)^2 for the exponential integrator, with b = beta_t / 2 and g = log(a_s / a_t)."""
    path, t, s = VariancePreserving(*RATES), 0.5, 0.4

    def after(scheme, law):
        return Sampler(path, path.score(law), scheme, jnp.asarray([t, s])).coordinatewise_kernel(1).push(law).cov[0, 0]

    euler, exponential = jax.jit(lambda law: (after(EulerMaruyama(), law), after(ExponentialIntegrator(), law)))(standard_normal(1))
    assert float(euler) == pytest.approx(1 + ((t - s) * beta(t, RATES) / 2) ** 2, abs=1e-14)
    assert float(exponential) == pytest.approx(1 + 2 * (np.sqrt(signal2(s, RATES) / signal2(t, RATES)) - 1) ** 2, abs=1e-14)


@pytest.mark.parametrize("scheme", SCHEMES[2:])
def test_recursions_keep_the_unit_eigenvalue(scheme):
    assert recursion(scheme, 1.0, 1.0, nodes(GRID["steps"]), GRID["rates"]) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_recursion_with_the_optimal_variance_is_exact_for_isotropic_data(eta):
    m, v = ddim_moments(DATA, np.full(2, 4.0), eta, 1.0)
    np.testing.assert_allclose(m, DATA["mean"], rtol=1e-13)
    np.testing.assert_allclose(v, 4.0, rtol=1e-13)


def test_the_posterior_variance_keeps_its_digits_where_no_signal_is_left():
    """Where a^2 = exp(-20), 1 + s^2 E (log p)'' is 0 but for rounding."""
    instance = {"weights": [0.3, 0.7], "means": [-2.0, 1.0], "variances": [0.25, 0.5], "rates": (20.0, 20.0)}
    law = GaussianMixture(jnp.asarray(instance["weights"]), jnp.asarray([[-2.0], [1.0]]), jnp.asarray([[0.25], [0.5]]))
    found = jax.jit(lambda law, t: mean_posterior_variance(VariancePreserving(20.0, 20.0), law, t))(law, jnp.asarray(1.0))
    assert float(found) == pytest.approx(posterior_variance(instance, 1.0), rel=1e-11)


def test_nothing_is_unknown_of_atoms_without_noise():
    atoms = FiniteLaw([[0.0], [1.0], [3.0]], [0.2, 0.5, 0.3])
    found = jax.jit(jax.vmap(lambda t: mean_posterior_variance(VariancePreserving(), atoms, t)))(jnp.asarray([0.0, 1.0]))
    assert float(found[0]) == 0.0
    assert 0.99 * 1.24 < float(found[1]) < 1.24


def test_the_stored_counterexample_to_early_stopping_by_recursion():
    instance = stored.read_instance(stored.counterexample_path(get("early-stopping-monotone")))
    v, end, share = (float(instance[name]) for name in ("variance", "end", "share"))

    def error(time):
        return (np.sqrt(recursion("heun", v, 1.0, np.linspace(1.0, time, 9), instance["rates"])) - np.sqrt(v)) ** 2

    value, _ = margin(get("early-stopping-monotone"), instance)
    assert value == pytest.approx(error(end) - error(share * end), rel=1e-9)
    assert value < -1


def test_early_stopping_is_monotone_for_euler_there():
    instance = stored.read_instance(stored.counterexample_path(get("early-stopping-monotone")))
    v, end, rates = float(instance["variance"]), float(instance["end"]), instance["rates"]
    errors = [abs(np.sqrt(recursion("euler", v, 1.0, np.linspace(1.0, time, 9), rates)) - np.sqrt(v)) for time in (end, end / 2, end / 4)]
    assert np.all(np.diff(errors) < 0)
