"""Claims about what integration costs: closed forms, matrix exponentials and recursions in NumPy and SciPy, and mutants violated by hand."""

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.special import ellipe

from ensembletheory.claims import get
from tests.claims.margins import all_mutants, assert_violated_as_said, margin
from tests.integration_cost.recursions import VARIANCES, kl


def diffusion(instance):
    v = 1 + np.expm1(2 * instance["log_deviation"]) * np.exp(-instance["exposure"])
    return (v - 1 - np.log(v)) / 2, v


def critically_damped(instance):
    E = expm(instance["exposure"] * np.array([[0.0, 1.0], [-1.0, -2.0]]))
    C = np.eye(2) + np.expm1(2 * instance["log_deviation"]) * np.outer(E[:, 0], E[:, 0])
    return (np.trace(C) - 2 - np.log(np.linalg.det(C))) / 2


def misfit(instance):
    """Positions encoded as momenta of variance 1 / 1.05^2."""
    return min(diffusion(instance)[0], critically_damped(instance)) - (1.05**-2 - 1 + 2 * np.log(1.05)) / 2


def larger_constant(instance):
    divergence, v = diffusion(instance)
    return divergence - 0.3 * (v - 1) ** 2 / max(1, v)


def prior_units(instance):
    x = instance["log_deviation"]
    return (abs(x) - np.pi / 2 * np.exp(abs(x))) * np.sign(abs(x) - np.pi / 2)


def independent(instance):
    x = instance["log_deviation"]
    return (np.log1p(np.exp(2 * x)) - x - np.pi / 2) * np.sign(abs(x) - np.pi / 2)


def other_units(instance):
    N, time, units = np.eye(2), 0.0, np.diag([1.0, 10.0])
    for qq, qp, pp in instance["hessians"]:
        A = np.array([[qp, pp], [-qq, -qp]])
        N, time = expm(A) @ N, time + np.linalg.norm(units @ A @ np.linalg.inv(units), 2)
    return time - abs(np.log(np.linalg.norm(N[0])))


def extrapolated(name, s, power):
    numbers = np.array([100, 200, 400, 800])
    values = [n**power * float(kl(s**2, VARIANCES[name](s**2, n))) for n in numbers]
    return np.linalg.solve(np.vander(1 / numbers, 4), values)[-1]


def euler_twice(instance):
    s = np.exp(instance["log_deviation"])
    limit = (1 + np.pi * (1 + s**2) / (4 * s)) ** 2 / 4
    return -limit / (1 + limit)


def heun_twice(instance):
    limit = extrapolated("linear_heun", np.exp(instance["log_deviation"]), 4)
    return -limit / (1 + limit)


MUTANTS = {
    ("nhf-shorter-horizon-than-diffusion", "misfit"): ({"log_deviation": 0.7, "exposure": 10.0}, misfit),
    ("diffusion-horizon-grows", "larger-constant"): ({"log_deviation": 1.0, "exposure": 2.5}, larger_constant),
    ("nhf-lipschitz-time", "units-of-the-prior"): ({"log_deviation": -2.0}, prior_units),
    ("nhf-lipschitz-time", "independent"): ({"log_deviation": 1.54}, independent),
    ("lipschitz-time-at-least-log", "other-units"): ({"hessians": np.array([[0.01, 0.05, 2.0], [-0.02, 0.02, 1.5], [0.01, -0.05, 2.0]])}, other_units),
    ("euler-kl-law", "another-constant"): ({"log_deviation": -0.9}, euler_twice),
    ("heun-kl-law", "another-constant"): ({"log_deviation": 0.8}, heun_twice),
}


def test_every_mutant_is_here():
    assert set(MUTANTS) == all_mutants({id for id, _ in MUTANTS})


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_as_much_as_the_second_route_says(id, name):
    rel = {"independent": 1e-2, "another-constant": 1e-4}.get(name, 1e-9)  # across a kink, and extrapolated
    assert_violated_as_said(id, name, *MUTANTS[id, name], rel=rel)


@pytest.mark.parametrize("x", [-1.5, 0.3, 2.0])
def test_margins_are_what_the_statements_say(x):
    instance = {"log_deviation": x, "exposure": 1.7}
    divergence, v = diffusion(instance)
    assert margin(get("nhf-shorter-horizon-than-diffusion"), instance)[0] == pytest.approx(min(divergence, critically_damped(instance)), rel=1e-9)
    assert margin(get("diffusion-horizon-grows"), instance)[0] == pytest.approx(divergence - (v - 1) ** 2 / (4 * max(1, v)), rel=1e-9, abs=1e-15)
    assert margin(get("nhf-lipschitz-time"), {"log_deviation": x})[0] == pytest.approx(abs(abs(x) - np.pi / 2), rel=1e-9)


@pytest.mark.verify  # the figure compares paths, and every claim its stored counter-example
def test_what_is_refuted_is_refuted_everywhere():
    """Paths of the quarter turn are longer than those of either coupling, and leapfrog on it is never exact."""
    for x in (-2.0, 0.0, 1.0):
        s = np.exp(x)
        longer = max(1, s) * ellipe(1 - min(s, 1 / s) ** 2)
        found, error = margin(get("nhf-shorter-path"), {"log_deviation": x})
        assert abs(found - np.sqrt(2 / np.pi) * (1 + s - 2 * s / np.sqrt(1 + s**2) - longer)) <= error + 1e-9
        worst = max(float(kl(s**2, VARIANCES["quarter_turn"](s**2, n))) for n in (1, 2, 4, 8))
        assert margin(get("nhf-fewer-evaluations-than-ot-flow-matching"), {"log_deviation": x})[0] == pytest.approx(-worst, rel=1e-8)
