"""Likelihood against Frechet distance: green, red when an input moves, and the arrays again from textbook formulas and by SciPy's solver."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, interpolate, stats

from paper_figures.likelihood_against_frechet import DIRECTIONS, FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

LAMBDA = 10.05  # log(1 + sigma_T^2) at variance 1
MODES, VARIANCE = np.array([-1.8, -0.6, 0.6, 1.8]), 0.04


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "bias")


def test_expectations_by_size_are_those_of_lognormal_variances(drawn):
    """log R ~ N(-b Lambda, 0.01 Lambda^2 / K), by SciPy's moments of log-normal laws."""
    data = drawn(FIGURE).data
    for i in (0, 7, -1):
        R = stats.lognorm(0.1 * LAMBDA / np.sqrt(data["sizes"][i]), scale=np.exp(-0.18 * LAMBDA))
        assert_allclose(data["by size loss"][i], LAMBDA / 2 * (0.18**2 + 0.01 / data["sizes"][i]), rtol=1e-10)
        assert_allclose(data["by size kl"][i], (R.expect(lambda r: 1 / r) - 1 - 0.18 * LAMBDA) / 2, rtol=1e-6)
        assert_allclose(data["by size frechet_squared"][i], R.expect(lambda r: (np.sqrt(r) - 1) ** 2), rtol=1e-6)


def test_the_frechet_distance_stays_where_a_polynomial_says(drawn):
    """For the flow exp(b Lambda/2) = (1 + w + w^2 + w^3)/2 with w = exp(spread^2 Lambda^2/8); beyond, the Frechet distance is the only one that grows."""
    data = drawn(FIGURE).data
    w = np.exp(0.01 * LAMBDA**2 / 8)
    assert_allclose(data["even_ode"], 2 / LAMBDA * np.log((1 + w + w**2 + w**3) / 2), rtol=1e-9)
    for reverse in ("ode", "sde"):
        assert np.all((data[f"{reverse} frechet_squared"] > 1) == (data["biases"] > data[f"even_{reverse}"]))
        assert np.all(data[f"{reverse} kl"] < 1)
        assert data[f"parting_{reverse}"] < data[f"even_{reverse}"]


def test_noise_on_the_normal_law(drawn):
    data = drawn(FIGURE).data
    y = data["noises"] * LAMBDA
    mean, square = (np.exp(y / 2) - np.exp(-y / 2)) / np.sqrt(2 * np.pi), np.cosh(y)
    assert_allclose(data["noise loss"], y**2 / (2 * LAMBDA), rtol=1e-10)
    assert_allclose(data["noise kl"], (np.cosh(y) - 1) / 2, rtol=1e-9)
    assert_allclose(data["noise frechet_squared"], mean**2 + (np.sqrt(square - mean**2) - 1) ** 2, rtol=1e-9)


@pytest.mark.parametrize("name", DIRECTIONS)
def test_laws_of_members_and_of_equal_shares(drawn, name):
    """A member's divergence is that of two mixtures, and its moments are known; the law of equal shares by transporting a grid of the noised law, with SciPy."""
    data, eps = drawn(FIGURE).data, np.asarray(DIRECTIONS[name]) * {"unseen": 0.0625, "seen": 0.15}[name]
    x, kl = np.linspace(-4, 4, 4001), data[f"{name} kl"]
    p, q = _mixture(x, 0 * eps), _mixture(x, eps)
    off = {"unseen": 1e-5, "seen": 2e-2}[name]  # of the noised laws at the horizon, from one of which the flow begins: more where means differ
    assert_allclose(kl[0], np.trapezoid(p * np.log(p / q), x), rtol=off)
    start, ends = _transported(eps)
    density = interpolate.CubicSpline(ends, stats.norm.cdf(start) + 0 * ends)
    sampled = np.maximum(density(x, 1), 1e-300)
    inside = (x > ends[0]) & (x < ends[-1])
    assert_allclose(kl[-1], np.trapezoid((p * np.log(p / sampled))[inside], x[inside]), rtol=1e-3)
    variance = np.trapezoid(ends**2 * stats.norm.pdf(start), start)
    assert_allclose(data[f"{name} frechet_squared"][-1], (np.sqrt(variance) - np.sqrt(MODES @ MODES / 4 + VARIANCE)) ** 2, rtol=2e-2)
    moments = [(0.25 + eps) @ MODES, (0.25 + eps) @ MODES**2 + VARIANCE]
    member = moments[0] ** 2 + (np.sqrt(moments[1] - moments[0] ** 2) - np.sqrt(MODES @ MODES / 4 + VARIANCE)) ** 2
    assert_allclose(data[f"{name} frechet_squared"][0], member, rtol=off, atol=1e-9)


def _mixture(x, eps):
    return np.exp(-((x[:, None] - MODES) ** 2) / (2 * VARIANCE)) @ (0.25 + eps) / np.sqrt(2 * np.pi * VARIANCE)


def _transported(eps):
    """Points of N(0, 1), which the noised target is to 1e-4, and where the flow of the two mixtures' mean score takes them."""

    def score(u, x, weights):
        v = 1 + u * (VARIANCE - 1)
        logs = -((x[:, None] - np.sqrt(u) * MODES) ** 2) / (2 * v) + np.log(weights)
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.sum(shares / shares.sum(axis=1, keepdims=True) * (np.sqrt(u) * MODES - x[:, None]), axis=1) / v

    def velocity(t, x):
        u = np.exp(-0.1 * t - 9.95 * t**2)
        return -(0.1 + 19.9 * t) / 2 * (x + (score(u, x, 0.25 + eps) + score(u, x, 0.25 - eps)) / 2)

    start = np.linspace(-5.5, 5.5, 801)
    return start, integrate.solve_ivp(velocity, (1.0, 0.0), start, method="DOP853", rtol=1e-6, atol=1e-8).y[:, -1]
