"""Bounds and truth: green as it stands, red when an input moves, and the arrays again from textbook formulas."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

from paper_figures.bounds_vs_truth import FIGURE


def beta(t):
    return 0.1 + 19.9 * t


def signal2(t):
    return np.exp(-(0.1 * t + 9.95 * t**2))


def kl(m, v, n, w):
    return 0.5 * (v / w - 1 - np.log(v / w) + (m - n) ** 2 / w)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "frozen_variance")


def test_the_perturbed_score_by_its_closed_forms(drawn):
    """J = (c^2 / 2) log((e^I + a - 1) / a), and the variance of the flow (a / v_T) ((e^I + a - 1) / a)^{-c}."""
    data, a, u = drawn(FIGURE).data, 0.25, signal2(1.0)
    c, v = data["excess"], 1 + u * (a - 1)
    np.testing.assert_allclose(data["song_bound"], c**2 / 2 * np.log((1 / u + a - 1) / a) + kl(0, v, 0, 1), rtol=1e-11)
    np.testing.assert_allclose(data["song_ode"], kl(0, a, 0, a / v * ((1 / u + a - 1) / a) ** -c), rtol=1e-7, atol=1e-14)
    off = abs(c) > 0.01
    assert np.all(data["song_sde"][off] < data["song_bound"][off])
    assert np.all(data["song_bound"][off] < data["song_ode"][off])


def test_frozen_scores_by_recursion(drawn):
    data, a = drawn(FIGURE).data, 0.25
    for steps, bound, divergence in zip(data["steps"], data["frozen_bound"], data["frozen_kl"], strict=True):
        grid, cost, generated = np.linspace(2, 0, steps + 1), kl(0, 1 - 0.75 * np.exp(-4), 0, 1), 1.0
        for t, s in pairwise(grid):
            v, e = 1 + np.exp(-2 * t) * (a - 1), np.exp(t - s)
            cost += ((t - s) - 2 * (1 - 1 / e)) / v + _integral(s, t, a)
            generated = (e - 2 * (e - 1) / v) ** 2 * generated + e**2 - 1
        assert bound == pytest.approx(cost, rel=1e-10)
        assert divergence == pytest.approx(kl(0, a, 0, generated), rel=1e-8)


def _integral(s, t, a):
    """The integral of 1 / (1 + (a - 1) e^{-2r}) = e^{2r} / (e^{2r} + a - 1)."""
    return 0.5 * np.log((np.exp(2 * t) + a - 1) / (np.exp(2 * s) + a - 1))


def test_flows_by_scipy(drawn):
    data = drawn(FIGURE).data
    np.testing.assert_allclose(data["flow_w2"], data["deviation"] * np.expm1(0.1), rtol=1e-7)
    for s, benton, albergo in zip(data["deviation"], data["benton"], data["albergo"], strict=True):
        slopes = lambda t: abs((t * s**2 - (1 - t)) / ((1 - t) ** 2 + t**2 * s**2) + 0.1)  # noqa: B023, E731
        stretch = integrate.quad(slopes, 0, 1, limit=500, epsabs=1e-10)[0]
        error = 0.1 * np.sqrt((1 + s**2) / 3)
        assert benton == pytest.approx(error * np.exp(stretch), rel=1e-7)
        assert albergo == pytest.approx(error * np.exp(0.5 + np.max(slopes(np.linspace(0, 1, 200_001)))), rel=1e-8)


def test_averaged_scores_by_scipy(drawn):
    data, experts = drawn(FIGURE).data, [(-1.0, 0.25), (2.0, 4.0)]
    nodes, weights = np.polynomial.legendre.leggauss(200)
    t = (nodes + 1) / 2
    u = signal2(t)
    mean, variance = np.sqrt(u) * 0.3, 1 + u * 0.2
    noised = [(np.sqrt(u) * m, 1 + u * (S - 1)) for m, S in experts]
    for w, bound in zip(data["weight"], data["averaged_bound"], strict=True):
        slope = 1 / variance - (1 - w) / noised[0][1] - w / noised[1][1]
        level = (1 - w) * noised[0][0] / noised[0][1] + w * noised[1][0] / noised[1][1] - mean / variance
        path = weights @ (beta(t) / 4 * ((slope * mean + level) ** 2 + slope**2 * variance))
        assert bound == pytest.approx(path + kl(np.sqrt(signal2(1)) * 0.3, 1 + signal2(1) * 0.2, 0, 1), rel=1e-8)
    assert np.all(np.diff(data["averaged_bound"], 2) > 0)  # a parabola in w
    assert np.all(data["averaged_sde"] <= data["averaged_bound"] + 1e-4)
