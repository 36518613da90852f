"""Errors by eigenvalue: green as they stand, red when an input moves, again by recursions, and the fixed point at the eigenvalue 1."""

import collections

import mpmath
import numpy as np
import pytest

from paper_figures.pierret_galerne_fig2 import FIGURE
from tests.paper_figures.recursions import EVALUATIONS, STEPS, along, continuous, em, integral


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert len(two_percent_off(FIGURE, "betas")) > 5


@pytest.mark.parametrize("name", STEPS)
def test_curves_are_those_of_the_recursion(drawn, name):
    data = drawn(FIGURE).data
    values = data["eigenvalues"]
    v = collections.deque(along(name, values, 1000 // EVALUATIONS.get(name, 1), 0.0, np.ones_like(values)), maxlen=1)[0]
    np.testing.assert_allclose(data[name], np.abs(np.sqrt(v) - np.sqrt(values)), rtol=1e-7, atol=1e-12)


def test_the_flow_is_that_of_proposition_3(drawn):
    data = drawn(FIGURE).data
    values = data["eigenvalues"]
    np.testing.assert_allclose(data["ODE"], np.abs(np.sqrt(continuous("ODE", values, 0.0, 1.0)) - np.sqrt(values)), rtol=1e-7, atol=1e-14)


def test_the_sde_forgets_its_start_to_thirty_digits(drawn):
    """Its variance exceeds lambda by u^2 lambda^2 (1 - lambda) / lambda_T^2, with u = exp(-2 B_T): 2.9e-14 at lambda = 1e-3, where a double still has three digits of it."""
    data = drawn(FIGURE).data
    with mpmath.workdps(40):
        u = mpmath.exp(-2 * mpmath.mpf("5.025"))
        for i, value in enumerate(data["eigenvalues"]):
            lam = mpmath.mpf(value)
            exact = abs(mpmath.sqrt(lam + u**2 * lam**2 * (1 - lam) / (1 + u * (lam - 1)) ** 2) - mpmath.sqrt(lam))
            np.testing.assert_allclose(data["SDE"][i], float(exact), rtol=1e-6, atol=4 * np.finfo(float).eps * np.sqrt(value))


def test_the_eigenvalue_of_the_noise_is_a_fixed_point_of_all_but_two(drawn):
    data = drawn(FIGURE).data
    at = data["eigenvalues"].tolist().index(1.0)
    for name in ("DDPM", "Euler", "Heun", "RK4", "SDE", "ODE"):
        assert data[name][at] < 1e-13, name
    assert data["EM"][at] > 1e-4
    assert data["EI"][at] > 1e-4
    h = 0.01
    np.testing.assert_allclose(em(1.0, 1.0, 1 - h, 1.0), 1 + (h * 10.0) ** 2, rtol=1e-14)  # with the paper's beta_1 = 10: half of Song's
    np.testing.assert_allclose(STEPS["EI"](1.0, 1.0, 1 - h, 1.0), 1 + 2 * np.expm1(integral(1.0) - integral(1 - h)) ** 2, rtol=1e-12)
