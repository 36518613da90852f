"""Claims about Hamiltonian models: margins again in NumPy and SciPy, mutants violated by hand."""

import numpy as np
import pytest
from scipy import linalg

from ensembletheory.claims import get, stored
from tests.claims.margins import all_mutants, assert_violated_as_said, margin


def kl(S, V):
    return 0.5 * (np.trace(np.linalg.solve(V, S)) - len(S) - np.linalg.slogdet(S)[1] + np.linalg.slogdet(V)[1])


def root(S):
    return linalg.sqrtm(np.asarray(S)).real


def w2_squared(S, V):
    return np.trace(S) + np.trace(V) - 2 * np.trace(root(root(S) @ V @ root(S)))


def arrays(instance, *names):
    return tuple(np.asarray(instance[name], dtype=float) for name in names)


def optimum(S):
    """The fixed point D <- diag(D # S), and D # S."""
    D = np.diag(S)
    for _ in range(200):
        R = root(S / np.sqrt(np.outer(D, D)))
        D = D * np.diag(R)
    return R * np.sqrt(np.outer(D, D))


def deficit(S, model):
    return kl(S, model) + 0.5 * (np.sum(np.log(np.diag(model))) - np.linalg.slogdet(model)[1])


def bias(instance, best=optimum):
    S, model = arrays(instance, "cov", "model")
    return deficit(S, model) - deficit(S, best(S))


def predictor_gap(instance, free=False, pointwise=False):
    """Minus the relative gap, with a posterior of x_0 on a grid and the predictor from 2 x 2 regressions."""
    w, m, S = arrays(instance, "weights", "means", "variances")
    k, c, t, x = (float(instance[name]) for name in ("stiffness", "centre", "time", "point"))
    E = linalg.expm(t * np.array([[0.0, 1.0], [-k, 0.0]]))
    C, s = E[0]
    grid = np.linspace(-12, 12, 100_001)
    logs = np.log(w)[:, None] - (grid[None, :] - m[:, None]) ** 2 / (2 * S[:, None]) - 0.5 * np.log(S)[:, None]
    density = np.exp(logs - logs.max())
    score = np.sum(density * (m[:, None] - grid[None, :]) / S[:, None], axis=0) / density.sum(axis=0)
    error = -k * (grid - c) - score
    posterior = density.sum(axis=0) * np.exp(-((x - c - C * (grid - c)) ** 2) / (2 * s**2))
    covs = [E @ np.diag([v, 1.0]) @ E.T for v in S]
    centres = [E @ np.array([mean - c, 0.0]) + np.array([c, 0.0]) for mean in m]
    terms = np.array([weight / np.sqrt(P[0, 0]) * np.exp(-((x - b[0]) ** 2) / (2 * P[0, 0])) for weight, P, b in zip(w, covs, centres, strict=True)])
    means = np.array([b[1] + P[1, 0] / P[0, 0] * (x - b[0]) for P, b in zip(covs, centres, strict=True)])
    u = terms @ means / terms.sum()
    smoothed = np.interp(x, grid, error) if pointwise else np.sum(posterior * error) / np.sum(posterior)
    return -abs(u - (t if free else s) * smoothed) / (1 + abs(u))


def discrepancy(instance, constant=1.0, sign=1.0):
    S, m, K = arrays(instance, "cov", "mean", "stiffness")
    t, K = float(instance["time"]), sign * K
    E = linalg.expm(t * np.block([[np.zeros((2, 2)), np.eye(2)], [-K, np.zeros((2, 2))]]))
    P, b, s = E @ linalg.block_diag(S, np.eye(2)) @ E.T, E @ np.append(m, [0, 0]), E[:2, 2:]
    slope = P[2:, :2] @ np.linalg.inv(P[:2, :2])
    found = b[2:] @ b[2:] + np.trace(slope @ P[:2, :2] @ slope.T)
    A = np.linalg.inv(S) - K

    def error(F):
        return np.trace(F @ A @ S @ A @ F.T) + np.sum((F @ K @ m) ** 2)

    middle = error(s) / t**2
    return min(constant * middle - found / t**2, constant * error(np.eye(2)) - middle)


def one_step(instance, forgotten=0.0, mass=1.0):
    S, share = arrays(instance, "cov", "share")
    c2 = 0.999 * share * np.linalg.eigvalsh(S)[0]
    eigenvalues, Q = np.linalg.eigh(S + forgotten * c2 * np.eye(2))
    worst = 0.0
    for signs in ((1, 1), (1, -1)):
        T = np.eye(2) - ((Q * (1 - np.array(signs) * np.sqrt(eigenvalues - c2))) @ Q.T) / mass
        worst = max(worst, np.max(np.abs(T @ T + c2 / mass**2 * np.eye(2) - S)))
    return -worst


def rows(S, rotation, phases):
    return np.concatenate([root(S) @ rotation * np.cos(phases), root(S) @ rotation * np.sin(phases)], axis=1)


def gauge(instance, constant=1.0):
    first, second, rotation, phases = arrays(instance, "first", "second", "rotation", "phases")
    apart = rows(first, np.eye(2), np.zeros(2)) - float(instance.get("factor", 1.0)) * rows(second, rotation, phases)
    return np.sum(apart**2) - constant * w2_squared(first, second)


def shrinkage(instance):
    S, w, rotation, phases = arrays(instance, "cov", "weights", "rotation", "phases")
    mean = w[0] * rows(S, np.eye(2), np.zeros(2)) + w[1] * float(instance.get("factor", 1.0)) * rows(S, rotation, phases)
    return np.linalg.eigvalsh(S - mean @ mean.T)[0]


def averaged_variance(instance):
    share, s, w = arrays(instance, "noise", "variances", "weights")
    c2 = 0.999 * share * s.min()
    return c2 + (w @ np.sqrt(s - c2)) ** 2


def barycenter(instance, constant=1.0):
    s, w = arrays(instance, "variances", "weights")
    return constant * (w @ np.sqrt(s)) ** 2 - averaged_variance(instance)


def transport(instance, of_laws=False):
    target, first, second, w, share = arrays(instance, "target", "first", "second", "weights", "share")
    c2 = 0.999 * share * min(np.linalg.eigvalsh(S)[0] for S in (target, first, second))
    T, *maps = (root(S - c2 * np.eye(2)) for S in (target, first, second))
    M = w[0] * maps[0] + w[1] * maps[1]
    members = [w2_squared(target, S) for S in (first, second)] if of_laws else [np.sum((T - other) ** 2) for other in maps]
    return w @ members - w2_squared(target, M @ M + c2 * np.eye(2))


def averaged_kl(instance):
    s, w, target = arrays(instance, "variances", "weights", "target_variance")
    one = lambda v: kl(target.reshape(1, 1), np.reshape(v, (1, 1)))  # noqa: E731
    return w @ [one(v) for v in s] - one(averaged_variance(instance))


ROTATION = [[0.6, -0.8], [0.8, 0.6]]
MIXTURE = {"weights": [0.3, 0.7], "means": [-1.0, 1.2], "variances": [0.3, 0.8], "stiffness": 2.5, "centre": 0.5, "time": 0.8, "point": 0.4}
COV, OTHER = [[2.0, 0.5], [0.5, 1.0]], [[0.6, -0.3], [-0.3, 3.0]]
FORCED = {"cov": COV, "mean": [0.5, -1.0], "stiffness": OTHER, "time": 0.7}
GAUGED = {"first": COV, "second": OTHER, "rotation": ROTATION, "phases": [0.4, -1.1]}
SAME = {"cov": COV, "weights": [0.3, 0.7], "rotation": ROTATION, "phases": [0.4, -1.1]}
LINE = {"noise": 0.6, "variances": [0.5, 2.0, 6.0], "weights": [0.2, 0.5, 0.3]}
PLANE = {"target": [[1.0, 0.2], [0.2, 2.0]], "first": COV, "second": OTHER, "weights": [0.4, 0.6], "share": 0.7}

MARGINS = {
    "mean-field-encoder-bias": ({"cov": COV, "model": OTHER}, bias),
    "velocity-predictor-smooths-score-error": (MIXTURE, predictor_gap),
    "hamiltonian-score-discrepancy-bound": (FORCED, discrepancy),
    "one-step-potential-gauges": ({"cov": COV, "share": 0.7}, one_step),
    "gauge-distance-is-w2": (GAUGED, gauge),
    "unaligned-flows-shrink": (SAME, shrinkage),
    "averaged-potential-below-barycenter": (LINE, barycenter),
    "averaged-potential-transport": (PLANE, transport),
    "averaged-potential-kl": (LINE | {"target_variance": 3.0}, averaged_kl),
}
NEAREST = {"first": COV, "second": COV, "rotation": np.eye(2), "phases": [0.0, 0.0]}
MUTANTS = {
    ("mean-field-encoder-bias", "no-bias"): ({"cov": [[1.0, 0.8], [0.8, 1.0]], "model": [[0.8, 0.4], [0.4, 0.8]]}, lambda i: bias(i, lambda S: S)),
    ("mean-field-encoder-bias", "reverse"): (
        {"cov": [[1.0, 0.8], [0.8, 1.0]], "model": [[0.8, 0.4], [0.4, 0.8]]},
        lambda i: bias(i, lambda S: np.linalg.inv(optimum(np.linalg.inv(S)))),
    ),
    ("velocity-predictor-smooths-score-error", "free-motion"): (MIXTURE, lambda i: predictor_gap(i, free=True)),
    ("velocity-predictor-smooths-score-error", "pointwise"): (MIXTURE, lambda i: predictor_gap(i, pointwise=True)),
    ("hamiltonian-score-discrepancy-bound", "smaller-constant"): (FORCED | {"time": 0.05}, lambda i: discrepancy(i, constant=0.9)),
    ("hamiltonian-score-discrepancy-bound", "repelled"): (FORCED | {"cov": [[4.0, 0.0], [0.0, 4.0]], "time": 1.0}, lambda i: discrepancy(i, sign=-1.0)),
    ("one-step-potential-gauges", "no-noise"): ({"cov": COV, "share": 0.7}, lambda i: one_step(i, forgotten=1.0)),
    ("one-step-potential-gauges", "other-mass"): ({"cov": COV, "share": 0.7}, lambda i: one_step(i, mass=1.1)),
    ("gauge-distance-is-w2", "larger-distance"): (
        {"first": [[4.0, 0.0], [0.0, 1.0]], "second": [[1.0, 0.0], [0.0, 1.0]], "rotation": np.eye(2), "phases": [0.0, 0.0]},
        lambda i: gauge(i, constant=1.1),
    ),
    ("gauge-distance-is-w2", "any-factor"): (NEAREST | {"first": [[1.0, 0.0], [0.0, 1.0]], "second": [[4.0, 0.0], [0.0, 4.0]], "factor": 0.6}, gauge),
    ("unaligned-flows-shrink", "other-law"): (SAME | {"rotation": np.eye(2), "phases": [0.1, 0.0], "factor": 1.4}, shrinkage),
    ("averaged-potential-below-barycenter", "smaller-constant"): (LINE | {"variances": [2.0, 2.0, 2.5]}, lambda i: barycenter(i, constant=0.98)),
    ("averaged-potential-transport", "of-the-laws"): (
        {"target": [[4.0, 0.0], [0.0, 4.0]], "first": [[0.5, 0.0], [0.0, 0.5]], "second": [[1.0, 0.0], [0.0, 1.0]], "weights": [0.5, 0.5], "share": 1.0},
        lambda i: transport(i, of_laws=True),
    ),
}


@pytest.mark.parametrize("id", MARGINS)
def test_margins_are_what_a_second_route_says(id):
    instance, route = MARGINS[id]
    value, error = margin(get(id), instance)
    assert abs(value - route(instance)) <= error + 1e-9 * (1 + abs(value))


def test_every_mutant_is_violated_by_hand():
    assert set(MUTANTS) == all_mutants(MARGINS)


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_as_a_second_route_says(id, name):
    instance, route = MUTANTS[id, name]
    assert_violated_as_said(id, name, instance, route, rel=1e-6)


def test_the_stored_counter_example_refutes_averaged_potentials():
    claim = get("averaged-potential-kl")
    instance = stored.read_instance(stored.counterexample_path(claim))
    assert averaged_kl(instance) == pytest.approx(margin(claim, instance)[0], rel=1e-9)
    assert averaged_kl(instance) < -0.1
