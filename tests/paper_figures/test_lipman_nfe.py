"""Error against evaluations: green as it stands, red when an input moves, and its arrays again by SciPy's adaptive solver and by hand-written recursions."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from paper_figures.lipman_nfe import FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

CENTRES = np.array([(i, j) for i in (-1.5, -0.5, 0.5, 1.5) for j in (-1.5, -0.5, 0.5, 1.5) if (i + j) % 2])
VARIANCE = FIGURE.inputs["spread"] ** 2
LEADING = 12  # points solved again

PATHS = {  # a, s^2 and their derivatives
    "diffusion": lambda t: (np.exp(-(I := 0.1 * t + 9.95 * t**2) / 2), -np.expm1(-I), -(b := 0.1 + 19.9 * t) / 2 * np.exp(-I / 2), b * np.exp(-I)),
    "transport": lambda t: (1 - t, t**2, -1.0, 2 * t),
}


def velocity(name, t, x):
    """E[a' X_0 + s' Z | x] by components."""
    a, noise, slope, noise_slope = PATHS[name](t)
    gaps = x[:, None, :] - a * CENTRES[None, :, :]
    variance = a**2 * VARIANCE + noise
    logs = -np.sum(gaps**2, axis=2) / (2 * variance)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.einsum("nk,nkd->nd", weights, slope * CENTRES[None, :, :] + (slope * a * VARIANCE + noise_slope / 2) / variance * gaps)


def starts(solved):
    """The points at time 1 that the flow sends to `solved`, by SciPy backwards."""
    return {name: solve(name, points, 0.0, 1.0) for name, points in solved.items()}


def solve(name, points, t, s):
    flat = solve_ivp(lambda time, y: velocity(name, time, y.reshape(-1, 2)).ravel(), (t, s), points.ravel(), method="DOP853", rtol=1e-11, atol=1e-12)
    return flat.y[:, -1].reshape(-1, 2)


def euler(name, x, steps):
    for k in range(steps):
        x = x - velocity(name, 1 - k / steps, x) / steps
    return x


def midpoint(name, x, steps):
    h = 1 / steps
    for k in range(steps):
        t = 1 - k * h
        x = x - h * velocity(name, t - h / 2, x - h / 2 * velocity(name, t, x))
    return x


def heun(name, x, steps):
    h = 1 / steps
    for k in range(steps):
        t = 1 - k * h
        slope = velocity(name, t, x)
        x = x - h / 2 * (slope + velocity(name, t - h, x - h * slope))
    return x


def rk4(name, x, steps):
    h = 1 / steps
    for k in range(steps):
        t = 1 - k * h
        k1 = velocity(name, t, x)
        k2 = velocity(name, t - h / 2, x - h / 2 * k1)
        k3 = velocity(name, t - h / 2, x - h / 2 * k2)
        x = x - h / 6 * (k1 + 2 * k2 + 2 * k3 + velocity(name, t - h, x - h * k3))
    return x


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    off = two_percent_off(FIGURE, "std")
    assert all("standard deviation" in name for name in off)
    assert len(off) == 14  # all but one step of Euler, which gives 0, and of Heun, which halves


def test_both_fine_solutions_begin_at_the_same_points_and_solve_the_flow(drawn):
    """A start found backwards from the one is carried forwards to the other; both errors are those of Runge-Kutta with 250 steps, below 1e-5."""
    data = drawn(FIGURE).data
    begun = starts({name: data[f"{name} exact"][:LEADING] for name in PATHS})
    np.testing.assert_allclose(begun["diffusion"], begun["transport"], atol=2e-3)  # going back expands what lies between the modes
    for name, other in (("diffusion", "transport"), ("transport", "diffusion")):
        forward = solve(name, begun[other], 1.0, 0.0)
        np.testing.assert_allclose(forward, data[f"{name} exact"][:LEADING], atol=1e-4)


@pytest.mark.parametrize("name", PATHS)
def test_errors_are_those_of_recursions_written_by_hand(drawn, name):
    """From the same points, which come back from the fine solution by SciPy."""
    data = drawn(FIGURE).data
    exact = data[f"{name} exact"]
    begun = solve(name, exact, 0.0, 1.0)
    for solver, scheme, cost in (("euler", euler, 1), ("midpoint", midpoint, 2), ("heun", heun, 2), ("rk4", rk4, 4)):
        for i in (1, 4):
            error = np.sqrt(np.mean(np.sum((scheme(name, begun, data["budgets"][i] // cost) - exact) ** 2, axis=1)))
            assert data[f"{name} {solver}"][i] == pytest.approx(error, rel=1e-3), (solver, i)


def test_laws_of_solvers_are_products_of_their_factors(drawn):
    """v(t, x) = c_t x with c = (5 t - 4) / ((1 - t)^2 4 + t^2), so that a step multiplies; slopes between 16 and 32 steps."""
    data = drawn(FIGURE).data
    rate = lambda t: (5 * t - 4) / (4 * (1 - t) ** 2 + t**2)  # noqa: E731

    def runge_kutta(t, h):
        k1 = rate(t)
        k2 = rate(t - h / 2) * (1 - h / 2 * k1)
        k3 = rate(t - h / 2) * (1 - h / 2 * k2)
        return 1 - h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(t - h) * (1 - h * k3))

    factors = {
        "euler": lambda t, h: 1 - h * rate(t),
        "midpoint": lambda t, h: 1 - h * rate(t - h / 2) * (1 - h / 2 * rate(t)),
        "heun": lambda t, h: 1 - h / 2 * (rate(t) + rate(t - h) * (1 - h * rate(t))),
        "rk4": runge_kutta,
    }
    for solver, factor in factors.items():
        for steps, found in zip(data["gaussian_steps"], data[f"gaussian {solver}"], strict=True):
            assert found == pytest.approx(abs(np.prod([factor(1 - k / steps, 1 / steps) for k in range(steps)])), rel=1e-10, abs=1e-12), (solver, steps)


def test_transport_beats_diffusion_with_every_solver_but_euler(drawn):
    data = drawn(FIGURE).data
    late = data["budgets"] >= 8
    for solver in ("midpoint", "heun", "rk4"):
        assert (data[f"transport {solver}"][late] < data[f"diffusion {solver}"][late]).all()
    assert (data["transport euler"] > data["diffusion euler"]).all()
