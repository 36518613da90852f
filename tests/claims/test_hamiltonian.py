"""Claims about Hamiltonian flows: every mutant violated by hand, by as much as matrices in NumPy say."""

import numpy as np
import pytest
from scipy.linalg import expm

from ensembletheory.claims import get
from tests.claims.margins import all_mutants, assert_violated_as_said, margin

MODE = {"mass": 0.5, "stiffness": 4.0, "step": 0.6, "deviations": np.array([1.0, 2.0])}


def run(mass, stiffness, step, deviations):
    """The variances of the positions of 21 leapfrog steps."""
    x = 1 - step**2 * stiffness / (2 * mass)
    A = np.array([[x, step / mass], [-step * stiffness * (1 + x) / 2, x]])
    powers = [np.linalg.matrix_power(A, n) for n in range(1, 22)]
    return np.array([np.sum((N[0] * deviations) ** 2) for N in powers]), powers


def positions_alone(instance):
    variances, powers = run(**instance)
    stated = np.array([(N[0, 0] * instance["deviations"][0]) ** 2 for N in powers])
    return -np.max(abs(variances - stated) / (variances + stated))


def exact_flow(instance):
    variances, _ = run(**instance)
    A = np.array([[0, 1 / instance["mass"]], [-instance["stiffness"], 0]])
    stated = np.array([np.sum((expm(n * instance["step"] * A)[0] * instance["deviations"]) ** 2) for n in range(1, 22)])
    return -np.max(abs(variances - stated) / (variances + stated))


FLOW = {"mass": np.array([[1.0, 0.2], [0.2, 2.0]]), "stiffness": np.array([[4.0, 1.0], [1.0, 0.5]]), "coupling": np.array([[0.5, -0.2], [0.3, 0.0]]), "time": 0.8}
PRIOR = FLOW | {"prior": np.array([[2.0, 0.5, 0.0, 0.3], [0.5, 1.0, -0.2, 0.0], [0.0, -0.2, 0.7, 0.1], [0.3, 0.0, 0.1, 3.0]])}
J = np.block([[np.zeros((2, 2)), np.eye(2)], [-np.eye(2), np.zeros((2, 2))]])


def generator(instance):
    return np.block([[instance["coupling"], np.linalg.inv(instance["mass"])], [-instance["stiffness"], -instance["coupling"].T]])


def flow(instance):
    return expm(instance["time"] * generator(instance))


def euler(instance):
    return np.eye(4) + instance["time"] * generator(instance)


def power_sums(squares):
    return np.array([np.sum(squares), np.sum(squares**2)])


def symplectic(P):
    return power_sums(np.sort(abs(np.linalg.eigvals(J @ P)))[::2] ** 2)


def ordinary(P):
    return power_sums(np.linalg.eigvalsh(P) ** 2) / 2


def changed(N, invariants=symplectic):
    def route(instance):
        P = N(instance) @ instance["prior"] @ N(instance).T
        return -np.max(abs(invariants(P) - invariants(instance["prior"])) / (1 + np.sum(P**2) ** np.array([1.0, 2.0])))

    return route


def posterior(N):
    def route(instance):
        P = N(instance) @ N(instance).T
        W = P[2:, :2] @ np.linalg.inv(P[:2, :2])
        rest = (P[2:, 2:] - W @ P[:2, 2:]) @ P[:2, :2] - np.eye(2)
        return -np.max(abs(W - W.T)) / (1 + np.max(abs(W))) - np.max(abs(rest)) / (1 + np.sum(P**2))

    return route


def variance(c, y, L):
    """Of L steps where x = 1 - 2 y lies in (-1, 1)."""
    theta = np.arccos(1 - 2 * y)
    return np.cos(L * theta) ** 2 + (c * np.sin(L * theta) / np.sin(theta)) ** 2


def where_positions_vanish(instance):
    c, y = instance["c"], instance["y"]
    least = [c**2 if L % 2 else min(c / np.cos(np.pi / (2 * L)), 1) ** 2 for L in range(1, 10)]
    return min(variance(c, y, L) - bound for L, bound in enumerate(least, 1))


def longer_drifts(instance):
    return min(variance(instance["c"], instance["y"], L) - instance["c"] ** 2 for L in range(1, 10))


def limit(instance, power, turn):
    scaled = []
    for L in (64, 128):
        step, sigma = turn * np.pi * instance["deviation"] / (2 * L), instance["deviation"]
        variances, _ = run_steps(1 / sigma**2, step, L)
        r = sigma**2 / variances
        scaled.append(L**power * (r - 1 - np.log(r)) / 2)
    return -abs((4 * scaled[1] - scaled[0]) / 3 - np.pi**4 / 1024)


def run_steps(stiffness, step, L):
    x = 1 - step**2 * stiffness / 2
    N = np.linalg.matrix_power(np.array([[x, step], [-step * stiffness * (1 + x) / 2, x]]), L)
    return N[0] @ N[0], N


COV = {"cov": np.array([[4.0, 1.0], [1.0, 0.6]]), "step": 0.9, "c": 0.4}


def reached(steps):
    def route(instance):
        S, h, c = instance["cov"], instance["step"], instance["c"]
        values, Q = np.linalg.eigh(S - c**2 * np.eye(2))
        K = 2 / (h * c) * (np.eye(2) - (Q * np.sqrt(np.maximum(values, 0))) @ Q.T)
        kick, drift = np.eye(4), np.eye(4)
        kick[2:, :2], drift[:2, 2:] = -h / 2 * K, c * np.eye(2)
        N = np.linalg.matrix_power(kick @ drift @ kick, steps)[:2]
        return -np.max(abs(N @ N.T - S)) / np.sqrt(np.sum(S**2))

    return route


MUTANTS = {
    ("leapfrog-chebyshev-variance", "positions-alone"): (MODE, positions_alone),
    ("leapfrog-chebyshev-variance", "exact-flow"): (MODE, exact_flow),
    ("symplectic-invariants", "euler"): (PRIOR, changed(euler)),
    ("symplectic-invariants", "volume-alone"): (PRIOR, changed(lambda instance: np.diag([2.0, 0.5, 1.0, 1.0]) @ flow(instance))),
    ("symplectic-invariants", "ordinary-spectrum"): (PRIOR, changed(flow, ordinary)),
    ("momentum-posterior", "other-prior"): (
        FLOW | {"deviations": np.array([1.0, 2.0, 0.5, 1.5])},
        posterior(lambda instance: flow(instance) * instance["deviations"][None, :]),
    ),
    ("momentum-posterior", "euler"): (FLOW, posterior(euler)),
    ("leapfrog-least-deviation", "where-positions-vanish"): ({"c": 0.7, "y": 0.2475}, where_positions_vanish),
    ("leapfrog-least-deviation", "longer-drifts"): ({"c": 1.5, "y": 0.5}, longer_drifts),
    ("leapfrog-kl-law", "second-power"): ({"deviation": 2.0}, lambda instance: limit(instance, 2, 1.0)),
    ("leapfrog-kl-law", "longer-turn"): ({"deviation": 2.0}, lambda instance: limit(instance, 4, 1.1)),
    ("one-step-gaussian", "longer-drift"): (COV | {"c": 4.0}, reached(1)),
    ("one-step-gaussian", "two-steps"): (COV, reached(2)),
}


def test_every_mutant_is_here():
    assert set(MUTANTS) == all_mutants({id for id, _ in MUTANTS})


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_as_much_as_the_second_route_says(id, name):
    assert_violated_as_said(id, name, *MUTANTS[id, name], rel=1e-6)


def test_the_least_excess_by_hand():
    """Away from the equality family, where margins of identities are 0 by either route."""
    instance = {"c": 0.7, "y": 0.31}
    least = [0.49] * 9
    exact = min(min(variance(0.7, 0.31, L) - bound, 1.0) for L, bound in enumerate(least, 1))
    assert margin_of("leapfrog-least-deviation", instance) == pytest.approx(exact, rel=1e-10)
    assert exact > 0.01


def margin_of(id, instance):
    return margin(get(id), instance)[0]
