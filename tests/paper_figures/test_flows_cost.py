"""Costs and what they buy: green as it stands, red when an input moves, and its arrays again by other routes."""

import numpy as np
import pytest
from scipy import integrate, optimize
from scipy.linalg import toeplitz

from paper_figures.flows_cost import FIGURE


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    red = two_percent_off(FIGURE, "rho")
    assert {"standard error at d = 2", "standard error at d = 8", "deficit at d = 2", "deficit at d = 8", "probes at d = 8"} <= set(red)
    assert "growth of the coupling flow" not in red


def covariance(d):
    return toeplitz(FIGURE.inputs["rho"] ** np.arange(d))


def test_one_probe_misses_what_the_integrated_jacobian_says(drawn):
    """J_t = C' C^{-1} / 2 of the linear path, C = (1 - t)^2 S + t^2 I, integrated by SciPy; the variance as the sum over all signs, d = 2 and 8."""
    data = drawn(FIGURE).data
    for d, missed in zip(data["dims"], data["missed probe"], strict=True):
        S, eye = covariance(d), np.eye(d)
        M, _ = integrate.quad_vec(lambda t: (t * eye - (1 - t) * S) @ np.linalg.inv((1 - t) ** 2 * S + t**2 * eye), 0, 1, epsabs=1e-10)  # noqa: B023
        signs = 1 - 2.0 * ((np.arange(2**d)[:, None] >> np.arange(d)) & 1)
        assert missed == pytest.approx(np.std(np.einsum("ni,ij,nj->n", signs, M, signs)), rel=1e-7)


def test_the_deficit_is_the_least_that_any_model_and_mean_field_encoder_reach(drawn):
    """1/2 ( tr S_m^{-1} S - d + sum log diag S_m - log det S ) over S_m = L L^T by SciPy; at d = 2 it is log(4/3), the model's correlation being tan(asin(0.8) / 2) = 1/2."""
    data, S = drawn(FIGURE).data, covariance(2)

    def deficit(parameters):
        model = np.array([[parameters[0], 0.0], parameters[1:]])
        model = model @ model.T
        return 0.5 * (np.trace(np.linalg.solve(model, S)) - 2 + np.sum(np.log(np.diag(model))) - np.log(np.linalg.det(S)))

    assert data["missed hamiltonian"][0] == pytest.approx(optimize.minimize(deficit, [1.0, 0.1, 1.0], tol=1e-12).fun, abs=1e-7)
    assert data["missed hamiltonian"][0] == pytest.approx(np.log(4 / 3), abs=1e-9)


def test_steps_leave_what_runge_kutta_leaves_of_a_matrix_and_its_trace(drawn):
    """The classical method, written out for x' = A_t x and for the trace of A_t, on matrices; E log p by the trace, under data N(0, S)."""
    data = drawn(FIGURE).data
    for d, left in zip(data["dims"], data["missed steps"], strict=True):
        S, eye, h = covariance(d), np.eye(d), 1 / FIGURE.inputs["steps"]

        def velocity(t):
            return (t * eye - (1 - t) * S) @ np.linalg.inv((1 - t) ** 2 * S + t**2 * eye)  # noqa: B023

        X, trace = eye, 0.0
        for t in h * np.arange(FIGURE.inputs["steps"]):
            k1 = velocity(t) @ X
            k2 = velocity(t + h / 2) @ (X + h / 2 * k1)
            k3 = velocity(t + h / 2) @ (X + h / 2 * k2)
            k4 = velocity(t + h) @ (X + h * k3)
            X = X + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            trace += h / 6 * np.trace(velocity(t) + 4 * velocity(t + h / 2) + velocity(t + h))
        expected = trace - np.trace(X @ S @ X.T) / 2 + (np.linalg.slogdet(S)[1] + d) / 2
        assert left == pytest.approx(abs(expected), rel=1e-5, abs=1e-11)


def products(inputs, outputs):
    """Products of matrices in a perceptron of two hidden layers of 64, in operations."""
    return 2 * (inputs * 64 + 64 * 64 + 64 * outputs)


def test_operations_are_mostly_the_products_of_matrices(drawn):
    """Counted by hand: coupling flows 6 perceptrons from d // 2 to 2 (d - d // 2) numbers; fields 40 evaluations and as many more as there are directions."""
    data = drawn(FIGURE).data
    for i, d in enumerate(data["dims"]):
        coupling, field = 6 * products(d // 2, 2 * (d - d // 2)), 40 * products(d + 6, d)
        for name, count in (("coupling", coupling), ("field", field), ("probe", 2 * field), ("divergence", (1 + d) * field)):
            assert count < data[name][i] < 1.15 * count, name
    np.testing.assert_allclose(data["several probes"], data["field"] + data["probes"] * (data["probe"] - data["field"]), rtol=1e-12)
    assert np.all(data["several probes"] > data["divergence"])
