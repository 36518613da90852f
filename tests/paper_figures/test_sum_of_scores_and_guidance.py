"""Sums of scores and guidance: green, red when an input moves, and the arrays again from formulas, recursions of variances and SciPy's solver."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

from paper_figures.sum_of_scores_and_guidance import FIGURE


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "variances")


def test_limits_are_the_closed_forms(drawn):
    """At u_T = exp(-10.05) the flow of summed scores keeps u_T^{K-1} of the start; the others have forgotten it."""
    data = drawn(FIGURE).data
    K, g = data["members"], data["scales"]
    assert_allclose(data["sum target"], 1 / K, rtol=1e-12)
    assert_allclose(data["sum sde"], 1 / (2 * K - 1), rtol=1e-6)
    assert_allclose(data["sum ode"], np.exp(-10.05 * (K - 1)), rtol=1e-9)
    assert_allclose(data["guided target"], 2 / (g + 1), rtol=1e-12)
    sde = [2 * np.log(2) if power == 0 else 2 * -np.expm1(-power * np.log(2)) / power for power in 2 * g - 1]
    assert_allclose(data["guided sde"], sde, rtol=1e-4)
    assert_allclose(data["guided ode"], 2 ** (1 - g), rtol=2e-4)
    assert np.all((data["guided ode"] < data["guided sde"])[g > 1])
    assert np.all((data["guided sde"] < data["guided target"])[g > 1])


def test_laws_of_a_hundred_steps_are_recursions(drawn):
    data = drawn(FIGURE).data
    times = np.linspace(1.0, 0.0, 101)

    def variance(c, pair, stochastic):
        v = 1.0
        for t, s in pairwise(times):
            h, b, u = t - s, 0.1 + 19.9 * t, np.exp(-0.1 * t - 9.95 * t**2)
            pull = np.sum(np.asarray(c) / (1 + u * (np.asarray(pair) - 1)))
            v = (1 + h * b * (0.5 - (1 if stochastic else 0.5) * pull)) ** 2 * v + h * b * stochastic
        return v

    for name, stochastic in (("euler_maruyama", 1), ("euler", 0)):
        assert_allclose(data[f"sum {name}"], [variance([K, 0], [1, 1], stochastic) for K in data["members"]], rtol=1e-9)
        assert_allclose(data[f"guided {name}"], [variance([g, 1 - g], [1, 2], stochastic) for g in data["scales"]], rtol=1e-9)


@pytest.mark.parametrize("g", [2.0, 3.0])
def test_guided_mixtures(drawn, g):
    """The density by SciPy's quadrature, the flow's moments by transporting quantiles of N(0, 1)."""
    data = drawn(FIGURE).data
    at = int(np.argmin(np.abs(data["guided_scales"] - g)))

    def density(x):
        one, other = stats.norm.pdf(x, 1, 0.5), stats.norm.pdf(x, -1, 0.5)
        return one**g * ((one + other) / 2) ** (1 - g)

    mass, first, second = (integrate.quad(lambda x, k=k: x**k * density(x), -4, 6, points=[0, 1], epsabs=1e-12)[0] for k in range(3))
    assert_allclose(data["mean target"][at], first / mass, rtol=1e-8)
    assert_allclose(data["deviation target"][at], np.sqrt(second / mass - (first / mass) ** 2), rtol=1e-8)

    def velocity(t, x):
        u = np.exp(-0.1 * t - 9.95 * t**2)
        a, v = np.sqrt(u), 1 - 0.75 * u
        share = 1 / (1 + np.exp(-2 * a * x / v))  # of the second mode
        score = g * (a - x) / v + (1 - g) * (a * (2 * share - 1) - x) / v
        return -(0.1 + 19.9 * t) / 2 * (x + score)

    start = np.linspace(-7, 7, 401)
    ends = integrate.solve_ivp(velocity, (1.0, 0.0), start, method="DOP853", rtol=1e-8, atol=1e-10).y[:, -1]
    mean, square = (np.trapezoid(ends**k * stats.norm.pdf(start), start) for k in (1, 2))
    assert_allclose(data["mean ode"][at], mean, rtol=1e-4)
    assert_allclose(data["deviation ode"][at], np.sqrt(square - mean**2), rtol=1e-4)
    assert data["divergence"][at] > 1
