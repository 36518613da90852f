"""Diffusion against OT paths: green as it stands, red when an input moves, its fields by finite differences, its trajectories by SciPy and as ellipses and lines."""

import numpy as np
from scipy.integrate import quad, solve_ivp

from paper_figures.lipman_paths import FIGURE

POINT, SMALL, SPREAD = np.array(FIGURE.inputs["point"]), FIGURE.inputs["sigma_min"], FIGURE.inputs["spread"]
CORNERS = FIGURE.inputs["corner"] * np.array([[i, j] for i in (-1.0, 1.0) for j in (-1.0, 1.0)])


def diffusion(t):
    return np.exp(-(0.1 * t + 9.95 * t**2) / 2), np.sqrt(-np.expm1(-(0.1 * t + 9.95 * t**2)))


def transport(t):
    return 1 - t, SMALL + (1 - SMALL) * t


def log_density(a, s, x):
    logs = -np.sum((x - a * CORNERS) ** 2, axis=1) / (2 * (a**2 * SPREAD**2 + s**2))
    return logs, np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum()


def velocity(path, t, x, h=1e-6):
    """E[a' X_0 + s' Z | x], the derivatives of a and s by differences."""
    a, s = path(t)
    (before, s_before), (after, s_after) = path(t - h), path(t + h)
    slope, s_slope = (after - before) / (2 * h), (s_after - s_before) / (2 * h)
    gaps, (_, weights) = x - a * CORNERS, log_density(a, s, x)
    return weights @ (slope * CORNERS + (slope * a * SPREAD**2 + s_slope * s) / (a**2 * SPREAD**2 + s**2) * gaps)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    off = two_percent_off(FIGURE, "point")
    assert "length over distance, one point, transport" not in off
    assert "turning of the score, diffusion" in off


def test_fields_are_those_of_lipman(drawn):
    """Score -(x - a x_1) / s^2 and velocity (x_1 - (1 - sigma_min) x) / (1 - (1 - sigma_min) t) in the paper's time."""
    data = drawn(FIGURE).data
    for i, clock in enumerate((0, 1 / 3, 2 / 3, 1)):
        a, s = diffusion(min(1.0, max(1 - clock, 1e-5)))
        np.testing.assert_allclose(data["diffusion field"][i], -(data["grid"] - a * POINT) / s**2, rtol=1e-8)
        np.testing.assert_allclose(data["transport field"][i], (POINT - (1 - SMALL) * data["grid"]) / (1 - (1 - SMALL) * clock), rtol=1e-8)


def test_conditional_trajectories_are_quarter_ellipses_and_lines(drawn):
    """The length of cos(f) x_1 + sin(f) z by adaptive quadrature; 200 chords of a quarter fall short by about (pi / 400)^2 / 6 = 1e-5."""
    data = drawn(FIGURE).data
    curved, straight = data["diffusion conditional"], data["transport conditional"]
    lengths = np.linalg.norm(np.diff(curved, axis=1), axis=2).sum(axis=1)
    low, high = np.arctan2(*diffusion(1e-5)[::-1]), np.arctan2(*diffusion(1.0)[::-1])
    for start, length in list(zip(curved[:, 0], lengths, strict=True))[:8]:
        z = (start - np.cos(high) * POINT) / np.sin(high)
        exact = quad(lambda f: np.linalg.norm(np.cos(f) * z - np.sin(f) * POINT), low, high, epsabs=1e-10)[0]  # noqa: B023
        np.testing.assert_allclose(length, exact, rtol=2e-4)
    chords = np.diff(straight, axis=1)
    np.testing.assert_allclose(chords[:, :-1], chords[:, 1:], atol=1e-12)


def test_marginal_trajectories_solve_the_flow(drawn):
    data = drawn(FIGURE).data
    for name, path, last in (("diffusion", diffusion, 1e-5), ("transport", transport, 2e-6)):
        for trajectory in data[f"{name} marginal"][:4]:
            solved = solve_ivp(lambda t, x: velocity(path, t, x), (1.0, last), trajectory[0], method="DOP853", rtol=1e-9, atol=1e-10)  # noqa: B023
            np.testing.assert_allclose(trajectory[-1], solved.y[:, -1], atol=1e-4, err_msg=name)


def test_starts_are_the_same_draws_and_ends_the_same_law(drawn):
    data = drawn(FIGURE).data
    z = data["transport marginal"][:, 0]
    np.testing.assert_array_equal(z, data["diffusion marginal"][:, 0])
    np.testing.assert_allclose(data["transport conditional"][:, -1], POINT + SMALL * z, atol=1e-12)
    for name in ("diffusion", "transport"):
        ends = data[f"{name} marginal"][:, -1]
        nearest = np.argmin(np.linalg.norm(ends[:, None] - CORNERS[None], axis=2), axis=1)
        residual = (ends - CORNERS[nearest]) / SPREAD
        assert np.abs(residual.var() - 1) < 5 * np.sqrt(2 / residual.size)
