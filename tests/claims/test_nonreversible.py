"""Claims about kinetic and skew diffusions: eigenvalues, exponentials and Lyapunov equations by NumPy and SciPy, and mutants violated by hand."""

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from ensembletheory.claims import get
from tests.claims.margins import all_mutants, assert_violated_as_said, margin

PRECISION = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 4.0]])
FACTOR = np.array([[1.0, 0.2, 0.0], [0.3, 0.0, -0.5], [0.0, 1.0, 2.0]])
IN_SPACE = {"precision": PRECISION, "skew": np.array([1.0, -2.0, 0.5])}
MOMENTA = {"stiffness": np.array([0.3, 5.0]), "friction": 1.7, "mass": 0.8}
KINETIC = {"friction": 0.3, "mass": 0.5, "time": 2.0}


def skew(entries):
    J = np.zeros((3, 3))
    J[0, 1], J[0, 2], J[1, 2] = entries
    return J - J.T


def noise(instance):
    D = instance["factor"] @ instance["factor"].T
    return 3 * D / np.trace(D)


def drift(instance, D=None):
    return ((np.eye(3) if D is None else D) + skew(instance["skew"])) @ instance["precision"]


def gap(B):
    return np.linalg.eigvals(B).real.min()


def least(instance):
    return np.linalg.eigvalsh(instance["precision"])[0]


def contraction(instance, limit):
    radius = np.abs(np.linalg.eigvals(np.eye(3) - instance["fraction"] * limit * drift(instance))).max()
    return (1 - radius) * np.sign(1 - instance["fraction"])


def limit(instance):
    return np.min(2 * np.real(1 / np.linalg.eigvals(drift(instance))))  # Re(l) / |l|^2 = Re(1 / l)


def momenta_gap(instance):
    K, m = np.diag(instance["stiffness"]), instance["mass"]
    return gap(np.block([[np.zeros((2, 2)), -np.eye(2) / m], [K, instance["friction"] / m * np.eye(2)]]))


def matrices(friction, mass, time):
    A = np.array([[0.0, 1 / mass], [-1.0, -friction / mass]])
    E, P = scipy.linalg.expm(time * A), np.diag([1.0, mass])
    return E, P - E @ P @ E.T


def critical_kernel(instance):
    (E, W), (F, V) = (matrices(friction, instance["mass"], instance["time"]) for friction in (2 * np.sqrt(instance["mass"]), instance["friction"]))
    scale = np.sqrt(np.diagonal(V))
    return -max(np.max(np.abs(E - F)), np.max(np.abs(W - V) / np.outer(scale, scale)))


def log_coefficient(instance, gamma):
    E, W = matrices(instance["friction"], instance["mass"], instance["time"])
    return 0.5 * np.log(np.linalg.inv(W + gamma * instance["mass"] * np.outer(E[:, 1], E[:, 1]))[1, 1])


def shrinking(instance):
    return log_coefficient(instance, instance["gamma"]) - log_coefficient(instance, instance["gamma"] * (1 + instance["more"]))


def half_of_the_skew(instance):
    """The construction again, with rotations found by root finding."""
    precision, D = instance["precision"], instance["noise"]
    C = np.linalg.cholesky(np.linalg.inv(precision))
    N, V, level, free = np.linalg.solve(C, np.linalg.solve(C, D).T), np.eye(3), np.trace(D @ precision) / 3, [0, 1, 2]
    while len(free) > 1:
        i, j = max(free, key=lambda k: N[k, k]), min(free, key=lambda k: N[k, k])
        side = -np.sign(N[i, j]) or -1.0  # the nearer of the two crossings of the mean
        block = N[np.ix_([i, j], [i, j])]
        angle = scipy.optimize.brentq(lambda a, block=block: [np.cos(a), np.sin(a)] @ block @ [np.cos(a), np.sin(a)] - level, 0.0, side * np.pi / 2)
        G = np.eye(3)
        G[np.ix_([i, j], [i, j])] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        N, V = G @ N @ G.T, V @ G.T
        free.remove(i)
    weights = np.linspace(1, 3, 3)
    K = np.array([[0.0 if i == j else (weights[i] + weights[j]) / (weights[i] - weights[j]) * N[i, j] for j in range(3)] for i in range(3)])
    R = C @ V
    B, P = (D + R @ K @ R.T / 2) @ precision, (R * weights) @ R.T
    return -max(np.max(np.abs(B @ P + P @ B.T - 2 * level * P)) / (np.linalg.norm(B) * np.linalg.norm(P)), abs(gap(B) / level - 1))


def obabo(instance):
    """Var x = 1 / (k (1 - h^2 k / 4 M))."""
    return -abs(1 / (1 - instance["angle"] ** 2 / 4) - 1)


def lowered(instance):
    S = np.asarray(instance["precision"])
    J = instance["skew"][0] * np.array([[0.0, 1.0], [-1.0, 0.0]])
    plain, turned = (scipy.linalg.expm(-instance["time"] * (np.eye(2) + part) @ S) @ instance["mean"] for part in (0 * J, J))
    return (plain @ S @ plain - turned @ S @ turned) / 2


STANDING = {
    "nonreversible-never-slower": (IN_SPACE, lambda i: gap(drift(i)) - least(i)),
    "lnp-optimal-gap": (IN_SPACE, lambda i: np.trace(i["precision"]) / 3 - gap(drift(i))),
    "one-direction-optimal-gap": (IN_SPACE | {"factor": FACTOR}, lambda i: np.linalg.eigvalsh(i["precision"])[-1] - gap(drift(i, noise(i)))),
    "euler-step-limit": (IN_SPACE | {"fraction": 1.3}, lambda i: contraction(i, limit(i))),
    "critical-friction-fastest": (MOMENTA, lambda i: np.sqrt(0.3 / 0.8) - momenta_gap(i)),
    "hybrid-score-shrinks": (KINETIC | {"gamma": 0.04, "more": 3.0}, shrinking),
    "nonreversible-lowers-kl": ({"precision": np.diag([4.0, 7.0]), "skew": np.array([1.0]), "mean": np.array([0.0, 1.0]), "time": 1 / 3}, lowered),
}
SHEARED = {"precision": np.diag([1.0, 2.0, 3.0]), "shear": np.array([[-0.5, 0.3, 0.0], [0.0, 1.0, 0.0], [0.2, 0.0, 0.4]])}
QUIET = {"precision": np.diag([1.0, 2.0, 5.0]), "skew": np.array([0.1, 0.0, 0.0]), "factor": np.diag([0.1, 1.0, 1.0])}
LOUD = {"precision": np.diag([4.0, 4.0, 1.0]), "skew": np.array([2.0, 3.0, 5.0]), "factor": np.diag([1.0, 1.0, 0.3])}
BEST = {"precision": np.diag([1.0, 1.0, 1.0]), "skew": np.array([1.0, 0.0, 0.0])}
MUTANTS = {
    ("nonreversible-never-slower", "any-drift"): (SHEARED, lambda i: gap((np.eye(3) + i["shear"]) @ i["precision"]) - least(i)),
    ("nonreversible-never-slower", "any-noise"): (QUIET, lambda i: gap(drift(i, noise(i))) - least(i)),
    ("lnp-optimal-gap", "any-noise"): (LOUD, lambda i: np.trace(i["precision"]) / 3 - gap(drift(i, noise(i)))),
    ("lnp-optimal-gap", "smaller"): (BEST, lambda i: 0.9 * np.trace(i["precision"]) / 3 - gap(drift(i))),
    ("one-direction-optimal-gap", "any-trace"): (
        BEST | {"factor": 1.5 * np.eye(3)},
        lambda i: np.linalg.eigvalsh(i["precision"])[-1] - gap(drift(i, i["factor"] @ i["factor"].T)),
    ),
    ("skew-optimum-attained", "half"): ({"precision": PRECISION, "noise": np.diag([1.0, 0.2, 3.0])}, half_of_the_skew),
    ("euler-step-limit", "real-parts-alone"): (
        IN_SPACE | {"fraction": 0.9},
        lambda i: contraction(i, 2 / np.linalg.eigvals(drift(i)).real.max()),
    ),
    ("critical-friction-fastest", "no-gain"): (MOMENTA | {"friction": 1.0}, lambda i: 0.3 - momenta_gap(i)),
    ("critical-friction-fastest", "smaller"): (
        {"stiffness": np.array([1.0, 4.0]), "friction": 1.96, "mass": 1.0},
        lambda i: 0.9 - momenta_gap(i),
    ),
    ("kinetic-kernel", "critical"): (KINETIC, critical_kernel),
    ("hybrid-score-shrinks", "less"): (KINETIC | {"gamma": 0.04, "more": 3.0}, lambda i: -shrinking(i)),
    ("baoab-positions-unbiased", "obabo"): ({"stiffness": 2.0, "friction": 0.7, "mass": 0.6, "angle": 1.2}, obabo),
}


@pytest.mark.parametrize("id", STANDING)
def test_margins_by_a_second_route(id):
    instance, route = STANDING[id]
    value, error = margin(get(id), instance)
    assert error == 0
    assert value == pytest.approx(route(instance), rel=1e-9)
    assert abs(value) > 1e-3


def test_every_mutant_is_here():
    assert set(MUTANTS) == all_mutants({id for id, _ in MUTANTS})


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_as_much_as_the_second_route_says(id, name):
    assert_violated_as_said(id, name, *MUTANTS[id, name], rel=1e-7)
