"""Kinetic samplers: recursions of covariances by SciPy's exponentials, and eigenvalues."""

import numpy as np
import pytest
import scipy.linalg

from paper_figures.cld_samplers import FIGURE

A, P, FLIP = 4 * np.array([[0.0, 4.0], [-1.0, -4.0]]), np.diag([1.0, 0.25]), np.diag([-1.0, 1.0])
PULL = np.diag([0.0, 8.0])  # 2 Gamma beta, Gamma = 1


def noised(t, variance):
    E = scipy.linalg.expm(t * A)
    return E @ (np.diag([variance, 0.01]) - P) @ E.T + P


def step_of(scheme, t, h, variance):
    """Matrix and noise of a step on (x, v)."""
    precision = np.linalg.inv(noised(t, variance))
    if scheme == "euler_maruyama":
        return np.eye(2) - h * (A + PULL @ precision), h * PULL
    if scheme == "heun":
        slope, next_slope = (A + PULL @ np.linalg.inv(noised(s, variance)) / 2 for s in (t, t - h))
        return np.eye(2) - h / 2 * (slope + next_slope @ (np.eye(2) - h * slope)), 0 * P
    E = FLIP @ scipy.linalg.expm(h / 2 * A) @ FLIP
    S, W = np.eye(2) + h * (PULL @ np.diag([0.0, 4.0]) - PULL @ precision), P - E @ P @ E.T
    return E @ S @ E, E @ S @ W @ S.T @ E.T + W


@pytest.mark.parametrize("scheme", ["sscs", "euler_maruyama", "heun"])
def test_sampled_variances_and_divergences(drawn, scheme):
    data = drawn(FIGURE).data
    for row, deviation in enumerate(data["deviations"]):
        n, cov = int(data["steps"][0]), P
        for i in range(n):
            M, Q = step_of(scheme, 1 - i / n, 1 / n, deviation**2)
            cov = M @ cov @ M.T + Q
        assert data[f"error_{scheme}"][row][0] == pytest.approx(cov[0, 0] - deviation**2, rel=1e-7)
        ratio = deviation**2 / cov[0, 0]
        assert data[f"kl_{scheme}"][row][0] == pytest.approx((ratio - 1 - np.log(ratio)) / 2, rel=1e-7)


def test_rates_and_memories(drawn):
    data = drawn(FIGURE).data
    for friction, gap in zip(data["frictions"][::7], data["gaps"][::7], strict=True):
        assert gap == pytest.approx(min(np.roots([1, -friction, k]).real.min() for k in data["stiffness"]), rel=1e-6)
    for ratio, values in zip(data["ratios"], data["memories"], strict=True):
        for t, value in zip(data["times"][::5], values[::5], strict=True):
            assert value == pytest.approx(scipy.linalg.expm(t * 4 * np.array([[0.0, 4.0], [-1.0, -4.0 * ratio]]))[0, 0], abs=1e-12)


def test_biases(drawn):
    """0, h^2 / (4 - h^2), and from the discrete Lyapunov equation."""
    data = drawn(FIGURE).data
    h = data["angles"]
    np.testing.assert_allclose(data["bias_baoab"], 0.0, atol=1e-12)
    np.testing.assert_allclose(data["bias_obabo"], h**2 / (4 - h**2), rtol=1e-10)
    for step, bias in zip(h, data["bias_euler_maruyama"], strict=True):
        M = np.array([[1.0, step], [-step, 1 - step]])
        if step < 1:
            assert bias == pytest.approx(scipy.linalg.solve_discrete_lyapunov(M, np.diag([0.0, 2 * step]))[0, 0] - 1, rel=1e-9)
        else:
            assert np.isnan(bias)


def test_the_mass_decides_the_numbers(two_percent_off):
    assert "error of the variance, sscs, 64 steps" in two_percent_off(FIGURE, "mass")
