"""Claims about the linear pool, transport inequalities and mixture bounds: margins by NumPy and SciPy alone, theorems under Hypothesis, equality, and mutants by hand."""

import jax
import numpy as np
import pytest
import scipy.linalg
from scipy.stats import norm

from ensembletheory.claims import get, stored

PAIRS = ("reverse-kl", "chi2", "tv", "hellinger2", "w1", "w2sq", "mmd2", "f-divergence")
POOLS = (*(f"linear-pool-{name}" for name in PAIRS), *(f"linear-pool-{name}-monotone" for name in ("kl", *PAIRS)))
OTHERS = ("gelbrich-bound", "talagrand", "log-sobolev", "hwi", "data-processing", "durrieu-sandwich", "mw2-bounds")
THEOREMS = (*POOLS, *OTHERS)
REFUTED = ("linear-pool-hellinger", "linear-pool-w2")
X = np.linspace(-70, 70, 200_001)


def plain_line_transport(points, p, q, power):
    """|x - y|^power under the monotone coupling, atom by atom."""
    order = np.argsort(points)
    x, a, b, total, i, j = points[order], p[order].copy(), q[order].copy(), 0.0, 0, 0
    while i < len(x) and j < len(x):
        mass = min(a[i], b[j])
        total += mass * abs(x[i] - x[j]) ** power
        a[i], b[j] = a[i] - mass, b[j] - mass
        i, j = i + (a[i] <= b[j]), j + (a[i] > b[j])
    return total


def on_atoms(function):
    return lambda instance: (np.asarray(instance["target"]), np.asarray(instance["members"]), lambda p, q: function(instance, p, q))


def extended_pdf(m, v):
    """With the exponents of extended precision, so that no density underflows where another one has its mass."""
    return np.exp(-((X.astype(np.longdouble) - float(m)) ** 2) / (2 * float(v))) / np.sqrt(2 * np.pi * float(v))


def on_the_line(function):
    def route(instance):
        p = extended_pdf(instance["target_mean"], instance["target_variance"])
        members = np.stack([extended_pdf(m, v) for m, v in zip(instance["means"], instance["variances"], strict=True)])
        return p, members, lambda p, q: function(instance, p, q)

    return route


def plain_kl(_, p, q):
    massive = p > 1e-15
    return float(np.trapezoid(p[massive] * np.log(p[massive] / q[massive]), X[massive]))


def plain_mmd2(instance, p, q):
    """E k under the difference of densities, its Fourier transform by the coarse grid."""
    step = 80  # 0.056 apart: the trapezoid rule errs by exp(-2 pi^2 (b / 0.056)^2), with bandwidths b >= 0.1
    x, gap = X[::step], (p - q)[::step].astype(float) * (X[1] - X[0]) * step
    keep = np.abs(gap) > 1e-16
    return gap[keep] @ np.exp(-((x[keep][:, None] - x[keep][None]) ** 2) / (2 * instance["bandwidth"] ** 2)) @ gap[keep]


ROUTES = {
    "kl": on_the_line(plain_kl),
    "reverse-kl": on_the_line(lambda i, p, q: plain_kl(i, q, p)),
    "mmd2": on_the_line(plain_mmd2),
    "chi2": on_atoms(lambda _, p, q: np.sum(p**2 / q) - 1),
    "tv": on_atoms(lambda _, p, q: np.sum(np.maximum(p - q, 0))),
    "hellinger2": on_atoms(lambda _, p, q: 1 - np.sum(np.sqrt(p * q))),
    "w1": on_atoms(lambda i, p, q: plain_line_transport(np.asarray(i["points"]), p, q, 1)),
    "w2sq": on_atoms(lambda i, p, q: plain_line_transport(np.asarray(i["points"]), p, q, 2)),
    "f-divergence": on_atoms(lambda i, p, q: sum(c * (np.abs(p - t * q).sum() - abs(1 - t)) for c, t in zip(i["slopes"], i["knots"], strict=True))),
    "hellinger": on_atoms(lambda _, p, q: np.sqrt(1 - np.sum(np.sqrt(p * q)))),
    "w2": on_atoms(lambda _, p, q: np.sqrt(plain_line_transport(np.arange(2.0), p, q, 2))),
}


def plain_pool(id, instance):
    name = id.removeprefix("linear-pool-").removesuffix("-monotone")
    p, members, divergence = ROUTES[name](instance)
    if id.endswith("-monotone"):
        smaller, whole = [np.delete(members, k, axis=0).mean(0) for k in range(3)], members.mean(0)
        average, pooled = np.mean([divergence(p, q) for q in smaller]), divergence(p, whole)
    else:
        weights = np.asarray(instance["weights"])
        average, pooled = sum(w * divergence(p, q) for w, q in zip(weights, members, strict=True)), divergence(p, weights @ members)
    return (average - pooled) / (1 + average if name == "chi2" else 1)


def plain_gaussian_kl(m, P, n, Q):
    M = np.linalg.solve(Q, P)
    return 0.5 * (np.trace(M) - len(m) - np.linalg.slogdet(M)[1] + (m - n) @ np.linalg.solve(Q, m - n))


def plain_talagrand(i):
    m, S = np.asarray(i["mean"]), np.asarray(i["cov"])
    return 2 * plain_gaussian_kl(m, S, np.zeros(2), np.eye(2)) - plain_w2_squared(m, S)


def plain_w2_squared(m, S):
    return m @ m + np.trace(S + np.eye(2) - 2 * scipy.linalg.sqrtm(S).real)


def plain_hwi(i):
    m, S = np.asarray(i["mean"]), np.asarray(i["cov"])
    B = np.eye(2) - np.linalg.inv(S)
    fisher, squared = np.trace(B @ S @ B) + m @ m, plain_w2_squared(m, S)
    return np.sqrt(squared * fisher) - squared / 2 - plain_gaussian_kl(m, S, np.zeros(2), np.eye(2))


def plain_log_sobolev(i):
    parts = [(w, m, np.sqrt(v)) for w, m, v in zip(i["weights"], i["means"], i["variances"], strict=True)]
    p = sum(w * norm.pdf(X, m, s) for w, m, s in parts)
    slope = sum(-w * norm.pdf(X, m, s) * (X - m) / s**2 for w, m, s in parts)
    inside = p > 1e-250
    p, slope, x = p[inside], slope[inside], X[inside]
    return np.trapezoid(0.5 * p * (slope / p + x) ** 2 - p * (np.log(p) - norm.logpdf(x)), x)


def plain_data_processing(i):
    A = np.asarray(i["rotation"]) @ np.diag(i["gains"])
    laws = [(np.asarray(i[a]), np.asarray(i[b])) for a, b in (("mean", "cov"), ("other_mean", "other_cov"))]
    pushed = [(A @ m, A @ S @ A.T + float(i["noise"]) * np.eye(2)) for m, S in laws]
    return plain_gaussian_kl(*laws[0], *laws[1]) - plain_gaussian_kl(*pushed[0], *pushed[1])


def plain_gelbrich(i):
    x, a, y, b = (np.asarray(i[name]) for name in ("points", "masses", "other_points", "other_masses"))
    both = np.concatenate([x, y])
    squared = plain_line_transport(both, np.concatenate([a, 0 * b]), np.concatenate([0 * a, b]), 2)
    means = a @ x, b @ y
    return squared - (means[0] - means[1]) ** 2 - (np.sqrt(a @ (x - means[0]) ** 2) - np.sqrt(b @ (y - means[1]) ** 2)) ** 2


PLAIN = {
    "talagrand": plain_talagrand,
    "hwi": plain_hwi,
    "log-sobolev": plain_log_sobolev,
    "data-processing": plain_data_processing,
    "gelbrich-bound": plain_gelbrich,
    **{id: (lambda i, id=id: plain_pool(id, i)) for id in (*POOLS, *REFUTED)},
}


@pytest.mark.parametrize("id", PLAIN)
def test_margins_agree_with_a_second_route(id):
    claim = get(id)
    for seed in range(3):
        instance = claim.domain.sample(jax.random.key(seed))
        margin, other = claim.margin(**instance), PLAIN[id](instance)
        assert abs(float(margin) - other) <= float(margin.error) + 1e-8 * (1 + abs(other)), (seed, float(margin), other)


@pytest.mark.parametrize("id", REFUTED)
def test_two_atoms_refute_the_unsquared_distances(id):
    """p and one member at one atom, the other member at the other: half the distance on average, a root of a half (or of 1 - 1/sqrt 2) for the pool."""
    margin = get(id).margin(target=[1.0, 0.0], members=[[1.0, 0.0], [0.0, 1.0]], weights=[0.5, 0.5])
    assert float(margin) == pytest.approx(0.5 - np.sqrt(1 - np.sqrt(0.5) if id.endswith("hellinger") else 0.5), rel=1e-12)
    assert plain_pool(id, stored.read_instance(stored.counterexample_path(get(id)))) < -0.01


ATOMS = {"target": [0.97, 0.01, 0.01, 0.01], "members": [[0.97, 0.01, 0.01, 0.01], [0.01, 0.01, 0.01, 0.97], [0.01, 0.01, 0.97, 0.01]]}
LINE = {"target_mean": 0.0, "target_variance": 1.0, "means": [0.0, 3.0, -3.0], "variances": [1.0, 0.5, 0.5]}
PARTS = {"points": [0.0, 1.0, 2.0, 3.0], "knots": [0.5, 1.0, 2.0], "slopes": [1.0, 1.0, 1.0], "bandwidth": 1.0, "weights": [1.0, 0.0, 0.0]}
PLANE = {"mean": [1.0, 0.5], "cov": [[1.0, 0.0], [0.0, 1.0]]}
CHANNEL = {"mean": [0.0, 0.0], "cov": [[1.0, 0.0], [0.0, 1.0]], "other_mean": [0.0, 0.0], "other_cov": [[1.0, 0.0], [0.0, 1.0]]}
CHANNEL |= {"rotation": [[1.0, 0.0], [0.0, 1.0]], "gains": [1.0, 1.0], "noise": 2.0}
BY_HAND = {
    "gelbrich-bound.larger-constant": {"points": [0.0, 1.0, 2.0], "masses": [0.25, 0.5, 0.25], "other_points": [1.0, 2.0, 3.0], "other_masses": [0.25, 0.5, 0.25]},
    "gelbrich-bound.variances": {"points": [0.0, 1.0, 2.0], "masses": [0.5, 0.0, 0.5], "other_points": [-3.0, 0.0, 3.0], "other_masses": [0.5, 0.0, 0.5]},
    "talagrand.smaller-constant": PLANE,
    "talagrand.wider-target": PLANE | {"cov": [[2.0, 0.0], [0.0, 2.0]]},
    "hwi.more-curvature": PLANE,
    "log-sobolev.smaller-constant": {"weights": [0.5, 0.5], "means": [2.0, 2.0], "variances": [1.0, 1.0]},
    "log-sobolev.wider-target": {"weights": [0.5, 0.5], "means": [2.0, 2.0], "variances": [2.0, 2.0]},
    "data-processing.noise-for-one": CHANNEL,
    "durrieu-sandwich.variational-from-below": {
        "weights": [1.0, 0.0],
        "means": [0.0, 0.0],
        "variances": [1.0, 1.0],
        "other_weights": [0.5, 0.5],
        "other_means": [-1.0, 1.0],
        "other_variances": [1.0, 1.0],
    },
    "durrieu-sandwich.product-from-above": {
        "weights": [0.5, 0.5],
        "means": [0.0, 0.0],
        "variances": [1.0, 1.0],
        "other_weights": [0.5, 0.5],
        "other_means": [2.0, 2.0],
        "other_variances": [1.0, 1.0],
    },
    "mw2-bounds.couplings-cost-nothing": {
        "weights": [0.5, 0.5],
        "means": [0.0, 0.0],
        "variances": [1.0, 1.0],
        "other_weights": [0.5, 0.5],
        "other_means": [-0.8, 0.8],
        "other_variances": [1e-2, 1e-2],
    },
}
BY_HAND["mw2-bounds.smaller-constant"] = BY_HAND["mw2-bounds.couplings-cost-nothing"]


def by_hand(id, name):
    if f"{id}.{name}" in BY_HAND:
        return BY_HAND[f"{id}.{name}"]
    whole = {**ATOMS, **LINE, **PARTS}
    if name == "one-smaller-pool":  # the pool of the first two members, of which one is the target
        whole |= {"members": [ATOMS["target"], ATOMS["target"], ATOMS["members"][1]], "means": [0.0, 0.0, 3.0], "variances": [1.0, 1.0, 0.5]}
    if name == "unsquared":
        whole |= {"members": [ATOMS["target"], ATOMS["members"][1], ATOMS["members"][1]], "weights": [0.5, 0.25, 0.25]}
    return {part: whole[part] for part in get(id).domain.parts}


MUTANTS = [(id, name) for id in THEOREMS for name in get(id).mutants]


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_each_mutant_is_false_at_an_instance_by_hand(id, name):
    mutant = get(id).mutated(name)
    margin = mutant.margin(**by_hand(id, name))
    assert mutant.violated(float(margin), float(margin.error)), float(margin)
