"""Claims about jump processes: every mutant is violated by as much as quadrature, roots of polynomials and closed forms in NumPy and SciPy say."""

import numpy as np
import pytest
from scipy import integrate

from tests.claims.margins import all_mutants, assert_violated_as_said


def total(alpha, beta, constant, s):
    """The hazard, by quadrature."""
    kink = [-alpha / beta] if 0 < -alpha / beta < s else None
    return integrate.quad(lambda u: max(alpha + beta * u, 0) + constant, 0, s, points=kink, epsabs=1e-12)[0]


def rising(instance):
    """What is spent of a falling rate at the time at which the rising one would have rung."""
    alpha, beta, energy, constant = (float(instance[name]) for name in ("alpha", "beta", "energy", "constant"))
    a, b = max(alpha, 0.0), abs(beta)
    refreshed = (-(a + constant) + np.sqrt((a + constant) ** 2 + 2 * b * energy)) / b
    bare = (-a + np.sqrt(a**2 + 2 * b * energy)) / b
    return -max(abs(total(alpha, beta, constant, refreshed) - energy), abs(total(alpha, beta, 0.0, bare) - energy)) / (1 + energy)


def own_variances(instance):
    """Clocks and rotation of independent coordinates against a target that is correlated."""
    C, x, v, t = (np.asarray(instance[name], float) for name in ("cov", "position", "velocity", "time"))
    S, D = np.linalg.inv(C), 1 / np.diag(C)
    pull, own, signs = S @ x, D * x, np.sign(v)
    flips = signs * (pull - own)
    reflected = v - 2 * (v @ own) / (own @ own) * own
    bounce = max(reflected @ own, 0) - max(v @ own, 0) + v @ pull
    w = np.sqrt(D)
    y, u = x * np.cos(w * t) + v / w * np.sin(w * t), v * np.cos(w * t) - w * x * np.sin(w * t)

    def energy(x, v):
        return (x @ S @ x + v @ v) / 2

    return -max(*abs(flips), abs(bounce), abs(energy(y, u) - energy(x, v))) / (1 + abs(pull).sum() + energy(x, v))


def component(instance):
    """The half-normal density at the Rayleigh draw, whose slope in u is -1 / (r u)."""
    u = float(instance["level"])
    r = np.sqrt(-2 * np.log(u))
    return -abs(np.sqrt(2 / np.pi) * u / (r * u) - 1)


def deviation(rate, t):
    """u(t) by the roots z = w - rate of the second moments' cubic."""
    z = np.roots([1, -rate, 4, -2 * rate]) - rate
    # u = 1, u' = 0 and u'' = -2 at 0 determine the three amplitudes
    amplitudes = np.linalg.solve(np.vander(z, 3, increasing=True).T, [1, 0, -2])
    return (amplitudes @ np.exp(z * t)).real


def renewal(instance, power, factor):
    rate, t = float(instance["refreshment"]), float(instance["time"])

    def kernel(s):
        return np.exp(-rate * s) * np.cos(s) ** power

    convolved = integrate.quad(lambda s: kernel(t - s) * deviation(rate, s), 0, t, epsabs=1e-12)[0]
    return -abs(deviation(rate, t) - kernel(t) - factor * rate * convolved)


def of_means(instance):
    """The first moments' rate: that of x'' + rate x' + x = 0."""
    rate = float(instance["refreshment"]) * float(instance["deviation"])
    return np.sqrt(0.5) + max(np.roots([1, rate, 1]).real)


def larger_square(instance):
    rate, t = float(instance["refreshment"]), float(instance["time"])
    grid = np.linspace(0, t, 4001)

    def solved(power):
        f, h = np.exp(-rate * grid) * np.cos(grid) ** power, grid[1]
        u = np.ones(len(grid))
        for k in range(1, len(grid)):
            u[k] = (f[k] + rate * h * (f[k] / 2 + f[k - 1 : 0 : -1] @ u[1:k])) / (1 - rate * h / 2)
        return u[-1]

    return solved(4) - 1.05 * solved(2) ** 2


MUTANTS = {
    ("event-times-of-linear-rates", "rising-rates"): ({"alpha": 1.5, "beta": -0.6, "energy": 1.0, "constant": 0.4}, rising),
    ("pdmps-keep-their-target", "own-variances"): ({"cov": [[2.0, 0.7], [0.7, 0.5]], "position": [1.0, -0.5], "velocity": [0.3, -2.0], "time": 1.2}, own_variances),
    ("event-chain-flux", "law-of-the-component"): ({"level": 0.3}, component),
    ("rhmc-renewal", "of-means"): ({"refreshment": 1.0, "time": 2.0}, lambda instance: renewal(instance, 1, 1.0)),
    ("rhmc-renewal", "larger-rate"): ({"refreshment": 1.3, "time": 2.0}, lambda instance: renewal(instance, 2, 1.05)),
    ("rhmc-best-refreshment", "of-means"): ({"refreshment": 1.1, "deviation": 1.6}, of_means),
    ("rhmc-heavy-tails", "larger-constant"): ({"refreshment": 0.05, "time": 0.5}, larger_square),
}


def test_every_mutant_is_here():
    assert set(MUTANTS) == all_mutants({id for id, _ in MUTANTS})


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_as_much_as_the_second_route_says(id, name):
    """The margin of an identity is 0 by either route; that of its mutants tells whether it computes what it says."""
    assert_violated_as_said(id, name, *MUTANTS[id, name], rel=1e-5)
