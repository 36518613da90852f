"""Claims about averaged scores: margins and mutants by SciPy's solvers on the moments and on single paths, and the counter-examples to their digits."""

from functools import cache

import jax
import numpy as np
import pytest
from scipy.integrate import quad, solve_ivp
from scipy.linalg import expm
from scipy.stats import multivariate_normal, norm

from ensembletheory.claims import get, stored

LONG = 60.0  # with b = 1, u_T = 1e-26
TOLERANCES = {"rtol": 1e-10, "atol": 1e-12}


def responses(covs, u):
    """(I + u (S_k - I))^{-1}."""
    return [np.linalg.inv((1 - u) * np.eye(len(S)) + u * np.asarray(S)) for S in covs]


def sampled(means, covs, weights, churn, horizon=LONG):
    """Mean and covariance of dx = 1/2 [x + (1 + churn^2) s] dtau + churn dW from N(0, I), run in time, b = 1."""
    d, e = len(means[0]), churn**2

    def slope(tau, y):
        u, m, S = np.exp(tau - horizon), y[:d], y[d:].reshape(d, d)
        R = responses(covs, u)
        M = 0.5 * (np.eye(d) - (1 + e) * sum(w * r for w, r in zip(weights, R, strict=True)))
        force = 0.5 * (1 + e) * np.sqrt(u) * sum(w * r @ np.asarray(m) for w, r, m in zip(weights, R, means, strict=True))
        return np.concatenate([M @ m + force, (M @ S + S @ M.T + e * np.eye(d)).ravel()])

    y = solve_ivp(slope, (0, horizon), np.concatenate([np.zeros(d), np.eye(d).ravel()]), method="LSODA", **TOLERANCES).y[:, -1]
    return y[:d], y[d:].reshape(d, d)


def kl(m, S, n, R):
    """Of Gaussians."""
    gap = np.asarray(n) - np.asarray(m)
    return 0.5 * (np.trace(np.linalg.solve(R, S)) - len(gap) + gap @ np.linalg.solve(R, gap) + np.log(np.linalg.det(R) / np.linalg.det(S)))


def members_of(instance):
    means = instance.get("means", np.zeros((2, 2)))
    return [np.asarray(m) for m in means], [np.asarray(S) for S in instance["covs"]], np.asarray(instance["weights"])


def gain_in_the_plane(instance, churn, horizon=LONG):
    means, covs, weights = members_of(instance)
    p = np.asarray(instance["target_mean"]), np.asarray(instance["target_cov"])
    average = sum(w * kl(*p, m, S) for w, m, S in zip(weights, means, covs, strict=True))
    return average - kl(*p, *sampled(means, covs, weights, churn, horizon))


def diversity_along_the_flow(instance):
    """E_p of the integrated diversity: the moments of p are carried along the averaged flow in time, E |A x + b|^2 = |A m + b|^2 + tr A S A^T for each score."""
    means, covs, weights = members_of(instance)

    def slope(t, y):
        u, m, S = np.exp(-t), y[:2], y[2:6].reshape(2, 2)
        R = responses(covs, u)
        mean_R = sum(w * r for w, r in zip(weights, R, strict=True))
        shift = sum(w * r @ n for w, r, n in zip(weights, R, means, strict=True))
        M = -0.5 * (np.eye(2) - mean_R)
        diversity = 0.0
        for w, r, n in zip(weights, R, means, strict=True):
            A, b = mean_R - r, np.sqrt(u) * (r @ n - shift)
            diversity += w * (np.sum((A @ m + b) ** 2) + np.trace(A @ S @ A.T))
        return np.concatenate([M @ m - 0.5 * np.sqrt(u) * shift, (M @ S + S @ M.T).ravel(), [0.5 * diversity]])

    start = np.concatenate([instance["target_mean"], np.ravel(instance["target_cov"]), [0.0]])
    return solve_ivp(slope, (0, LONG), start, method="LSODA", **TOLERANCES).y[-1, -1]


def least_excess(instance, bound):
    means, covs, weights = members_of(instance)
    return np.linalg.eigvalsh(sampled(means, covs, weights, float(instance["churn"]))[1] - bound(covs, weights))[0]


def harmonic(covs, weights):
    return np.linalg.inv(sum(w * np.linalg.inv(S) for w, S in zip(weights, covs, strict=True)))


def arithmetic(covs, weights):
    return sum(w * S for w, S in zip(weights, covs, strict=True))


def log_law(instance, churn, horizon=LONG):
    return multivariate_normal(*sampled(*members_of(instance), churn, horizon)).logpdf(instance["point"])


def minus_log_z(means, covs, weights):
    """By completing the square."""
    precisions = [np.linalg.inv(S) for S in covs]
    P = sum(w * L for w, L in zip(weights, precisions, strict=True))
    h = sum(w * L @ m for w, L, m in zip(weights, precisions, means, strict=True))
    squares = sum(w * (m @ L @ m + np.log(np.linalg.det(S))) for w, L, m, S in zip(weights, precisions, means, covs, strict=True))
    return 0.5 * (squares + np.log(np.linalg.det(P)) - h @ np.linalg.solve(P, h))


def normalisers(instance):
    """-log Z at both ends of time."""
    means, covs, weights = members_of(instance)
    low, high = instance["rates"]
    u = np.exp(-(low + high) / 2)
    return minus_log_z(means, covs, weights), minus_log_z([np.sqrt(u) * m for m in means], [np.eye(2) + u * (S - np.eye(2)) for S in covs], weights)


def mixture_log_score_slope(x, share, mean, variance, u):
    """Log-density, score and its derivative of a noised mixture on the line."""
    m, v = np.sqrt(u) * np.asarray(mean), 1 + u * (np.asarray(variance) - 1)
    joint = share * norm.pdf(x, m, np.sqrt(v))
    r, s = joint / joint.sum(), (m - x) / v
    return np.log(joint.sum()), r @ s, r @ (s**2 - 1 / v) - (r @ s) ** 2


def log_sampled_by_the_flow(instance):
    """Of averaged scores, by the probability flow with b = 1 and its divergence."""
    laws = list(zip(*(np.asarray(instance[name]) for name in ("shares", "means", "variances")), strict=True))

    def slope(t, y):
        scores = np.array([mixture_log_score_slope(y[0], *law, np.exp(-t))[1:] for law in laws])
        s, ds = instance["weights"] @ scores
        return [-0.5 * (y[0] + s), -0.5 * (1 + ds)]

    z, log_slope = solve_ivp(slope, (0, LONG), [float(instance["point"]), 0.0], method="LSODA", **TOLERANCES).y[:, -1]
    return norm.logpdf(z) + log_slope


def logs_of_members(instance):
    laws = zip(*(np.asarray(instance[name]) for name in ("shares", "means", "variances")), strict=True)
    return np.array([mixture_log_score_slope(float(instance["point"]), *law, 1.0)[0] for law in laws])


@cache
def compiled(claim):
    return jax.jit(claim.traced)


def margin(claim, instance):
    """Value and uncertainty, by one program that is not batched."""
    value, error = compiled(claim)({name: np.asarray(part, dtype=float) for name, part in instance.items()})
    return float(value), float(error)


PLANE = {"means": [[1.0, 0.0], [-0.5, 2.0]], "covs": [[[2.0, 0.5], [0.5, 1.0]], [[0.5, -0.3], [-0.3, 4.0]]], "weights": [0.3, 0.7]}
TARGET = {"target_mean": [0.5, 0.0], "target_cov": [[1.0, -0.5], [-0.5, 2.0]]}
PERFECT = {"target_mean": [1.0, 0.0], "target_cov": [[0.5, 0.1], [0.1, 1.5]], "means": [[1.0, 0.0]] * 2, "covs": [[[0.5, 0.1], [0.1, 1.5]]] * 2, "weights": [0.3, 0.7]}
WIDE = {"covs": [[[4.0, 1.0], [1.0, 3.0]], [[8.0, 0.0], [0.0, 2.0]]], "weights": [0.4, 0.6], "churn": 0.7}
MODES = {"shares": [[0.9, 0.1], [0.2, 0.8]], "means": [[-1.5, 1.0], [-1.0, 2.0]], "variances": [[0.3, 1.0], [0.5, 0.25]], "weights": [0.4, 0.6], "point": -1.4}
BENT = PLANE | {"bends": [1.5, -0.4], "point": [0.5, -1.0]}
RATES = PLANE | {"rates": [0.5, 2.0]}
MUTANTS = {
    ("mean-score-kl-average-in-the-plane", "finite-horizon"): (PERFECT | {"churn": 0.5}, lambda i: gain_in_the_plane(i, 0.5, 1.0)),
    ("mean-score-gain-is-diversity", "reverse-sde"): (TARGET | PLANE, lambda i: -abs(gain_in_the_plane(i, 1.0) - diversity_along_the_flow(i))),
    ("mean-velocity-equals-mean-score", "finite-horizon"): (BENT, lambda i: -abs(log_law(i, 0.0) - log_law(i, 0.0, 1.0))),
    ("mean-score-dominates-log-pool-covariance", "arithmetic-mean"): (WIDE, lambda i: least_excess(i, arithmetic)),
    ("log-pool-gain-is-diversity", "without-the-end"): (RATES, lambda i: -normalisers(i)[1]),
    ("mean-score-pointwise", "arithmetic-mean"): (MODES, lambda i: log_sampled_by_the_flow(i) - np.log(np.asarray(i["weights"]) @ np.exp(logs_of_members(i)))),
}


def test_every_mutant_is_here():
    assert set(MUTANTS) == {(id, name) for id in {id for id, _ in MUTANTS} for name in get(id).mutants}


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_by_as_much_as_the_second_route_says(id, name):
    """The margin of an identity is 0 by either route; that of its mutants tells whether it computes what it says."""
    instance, route = MUTANTS[id, name]
    value, error = margin(get(id).mutated(name), instance)
    assert value + error < -1e-3
    assert value == pytest.approx(route(instance), rel=1e-6)


def test_identities_hold_by_the_second_route():
    assert gain_in_the_plane(TARGET | PLANE, 0.0) == pytest.approx(diversity_along_the_flow(TARGET | PLANE), rel=1e-8)
    assert gain_in_the_plane(TARGET | PLANE, 0.0) > 0.1


@pytest.mark.verify
@pytest.mark.parametrize("churn", [0.0, 1.0, 1.7])
def test_margins_in_the_plane_agree_with_the_second_route(churn):
    instance = TARGET | PLANE | {"churn": churn}
    assert margin(get("mean-score-kl-average-in-the-plane"), instance)[0] == pytest.approx(gain_in_the_plane(instance, churn), rel=1e-7)
    instance = WIDE | {"churn": churn}
    assert margin(get("mean-score-dominates-log-pool-covariance"), instance)[0] == pytest.approx(least_excess(instance, harmonic), rel=1e-6)


@pytest.mark.verify
@pytest.mark.parametrize("point", [-1.4, 0.2, 3.0])
def test_the_excess_over_the_geometric_mean_by_the_second_route(point):
    instance = MODES | {"point": point}
    value, error = margin(get("mean-score-pointwise"), instance)
    assert error < 1e-6
    assert value == pytest.approx(log_sampled_by_the_flow(instance) - instance["weights"] @ logs_of_members(instance), abs=1e-7)
    assert value > 1e-3


# ---- what is false


def on_the_line(instance):
    m, v, w = (np.asarray(instance[name]) for name in ("means", "variances", "weights"))
    return (float(instance["target_mean"]), float(instance["target_variance"])), list(zip(m, v, strict=True)), w


def sampled_on_the_line(members, weights, churn, horizon=LONG):
    mean, cov = sampled([[m] for m, _ in members], [[[v]] for _, v in members], weights, float(churn), horizon)
    return mean[0], cov[0, 0]


def kl_on_the_line(p, q):
    return kl([p[0]], [[p[1]]], [q[0]], [[q[1]]])


def w2sq_on_the_line(p, q):
    """The quantile functions differ by an affine function of those of N(0, 1)."""
    return quad(lambda y: ((p[0] - q[0]) + (np.sqrt(p[1]) - np.sqrt(q[1])) * y) ** 2 * norm.pdf(y), -12, 12)[0]


def gain_on_the_line(instance, divergence, horizon=LONG):
    p, members, w = on_the_line(instance)
    return sum(wk * divergence(p, q) for wk, q in zip(w, members, strict=True)) - divergence(p, sampled_on_the_line(members, w, instance["churn"], horizon))


def inexact_score(instance):
    """V' = (1 - 2 lambda) V + 1, solved numerically; the second member undoes itself at the root of V = 1."""
    strength, duration, (first, second) = float(instance["strength"]), float(instance["duration"]), np.asarray(instance["weights"])

    def run(V, strength, duration):
        return solve_ivp(lambda t, y: (1 - 2 * strength) * y + 1, (0, duration), [V], rtol=1e-12, atol=1e-14).y[0, -1]

    rest = 1 - run(1.0, strength, duration)
    assert run(run(1.0, strength, duration), 0.5, rest) == pytest.approx(1.0, abs=1e-11)
    V = run(run(1.0, first + second * strength, duration), first + second / 2, rest)
    return -0.5 * (1 / V - 1 + np.log(V)), V


def inexact_velocity(instance):
    """By matrix exponentials of the generators; both members' maps are orthogonal."""
    r, (first, second) = float(instance["stretch"]), np.asarray(instance["weights"])
    A, J = np.diag([r, -r]), np.array([[0.0, -1.0], [1.0, 0.0]]) * np.pi / 2
    phases = [(A, 0 * J, -A), (A, J, -expm(J) @ A @ expm(-J))]
    for one, two, three in phases:
        M = expm(three) @ expm(two) @ expm(one)
        np.testing.assert_allclose(M @ M.T, np.eye(2), atol=1e-12)
    one, two, three = (first * a + second * b for a, b in zip(*phases, strict=True))
    M = expm(three) @ expm(two) @ expm(one)
    return -kl(np.zeros(2), np.eye(2), np.zeros(2), M @ M.T)


def ode_over_sde(instance):
    parts = members_of(instance)
    return np.linalg.eigvalsh(sampled(*parts, 0.0)[1] - sampled(*parts, 1.0)[1])[0]


REFUTED = {
    "mean-score-w2sq-average": lambda i: gain_on_the_line(i, w2sq_on_the_line),
    "mean-score-reverse-kl-average": lambda i: gain_on_the_line(i, lambda p, q: kl_on_the_line(q, p)),
    "mean-score-finite-horizon": lambda i: gain_on_the_line(i, kl_on_the_line, float(i["horizon"])),
    "ode-dominates-sde-covariance": ode_over_sde,
    "inexact-mean-score": lambda i: inexact_score(i)[0],
    "inexact-mean-velocity": inexact_velocity,
}


@pytest.mark.parametrize("id", REFUTED)
def test_stored_counterexamples_violate_by_both_routes(id):
    claim = get(id)
    instance = stored.read_instance(stored.counterexample_path(claim))
    found = margin(claim, instance)[0]
    assert found < -0.005
    assert found == pytest.approx(REFUTED[id](instance), rel=1e-6)


@pytest.mark.parametrize(("churn", "loss"), [(1.0, 0.0489526040), (0.0, 0.1936033878)])
def test_a_finite_horizon_loses_a_perfect_member(churn, loss):
    instance = {"target_mean": 1.0, "target_variance": 0.5, "means": [1.0, 1.0], "variances": [0.5, 0.5], "weights": [0.5, 0.5], "churn": churn, "horizon": 1.0}
    assert margin(get("mean-score-finite-horizon"), instance)[0] == pytest.approx(-loss, abs=5e-11)
    assert REFUTED["mean-score-finite-horizon"](instance) == pytest.approx(-loss, abs=1e-9)


def test_inexact_scores_to_their_digits():
    """Strength 2 for the time log(2) / 3, then 1/2 for 1/3."""
    instance = {"strength": 2.0, "duration": np.log(2) / 3, "weights": [0.5, 0.5]}
    minus_kl, variance = inexact_score(instance)
    assert variance == pytest.approx(0.9969024485493303, abs=1e-12)
    assert margin(get("inexact-mean-score"), instance)[0] == pytest.approx(minus_kl, abs=1e-13)
    assert minus_kl == pytest.approx(-(1 / 0.9969024485493303 - 1 + np.log(0.9969024485493303)) / 2, abs=1e-14)


@pytest.mark.parametrize("stretch", [0.3, 1.0])
def test_inexact_velocities_to_their_digits(stretch):
    """Of the whole law; a coordinate's share is sinh^2 r."""
    instance = {"stretch": stretch, "weights": [0.5, 0.5]}
    assert margin(get("inexact-mean-velocity"), instance)[0] == pytest.approx(-2 * np.sinh(stretch) ** 2, rel=1e-13)
    assert inexact_velocity(instance) == pytest.approx(-2 * np.sinh(stretch) ** 2, rel=1e-11)


def test_where_covariances_commute_the_flow_is_above_the_sde():
    for seed in range(3):
        turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(2, 2)))[0]
        covs = [turn @ np.diag(v) @ turn.T for v in np.random.default_rng(seed).uniform(0.2, 5, (2, 2))]
        covs = [(S + S.T) / 2 for S in covs]
        assert margin(get("ode-dominates-sde-covariance"), {"covs": covs, "weights": [0.4, 0.6]})[0] > 0


@pytest.mark.verify
def test_second_routes_on_drawn_instances():
    plane, pointwise = get("mean-score-gain-is-diversity"), get("mean-score-pointwise")
    for seed in range(5):
        instance = {name: np.asarray(value) for name, value in plane.domain.sample(jax.random.key(seed)).items()}
        assert gain_in_the_plane(instance, 0.0) == pytest.approx(diversity_along_the_flow(instance), rel=1e-6)
        instance = {name: np.asarray(value) for name, value in pointwise.domain.sample(jax.random.key(seed)).items()}
        surplus = log_sampled_by_the_flow(instance) - instance["weights"] @ logs_of_members(instance)
        assert margin(pointwise, instance)[0] == pytest.approx(surplus, abs=1e-5)
