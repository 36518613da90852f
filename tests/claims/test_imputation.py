"""Claims about imputation: margins again by NumPy and SciPy, from joint laws and by enumeration, and each mutant violated at a hand-written instance."""

from itertools import combinations

import numpy as np
import pytest
from scipy import integrate, stats

from ensembletheory.claims import get
from tests.claims.margins import all_mutants, assert_violated_as_said, margin

IDS = ("imputation-two-times-bayes", "imputation-ensemble-law", "rubin-coverage")

ONE_MISSING = {
    "mean": [1.0, -2.0, 0.5],
    "cov": [[2.0, 0.5, 1.0], [0.5, 1.0, -0.3], [1.0, -0.3, 1.5]],
    "intercept": 0.2,
    "slopes": [0.6, -0.5],
    "draws": 3.0,
}


def price_of_separate_draws(instance):
    """From the joint law of (x_1, x_2, x, L draws), each built as it is drawn: a regression on x_1 and x_2 and noise of its own."""
    m, C, L = np.array(instance["mean"]), np.array(instance["cov"]), int(instance["draws"])
    noise = np.linalg.inv(np.linalg.inv(C)[2:, 2:])[0, 0]  # of x given the others: the precision's entry
    slopes = -np.linalg.inv(C)[2, :2] * noise
    A = np.zeros((3 + L, 3 + L))  # rows are x_1, x_2, x, draws; columns independent standard normals
    A[:2, :2] = np.linalg.cholesky(C[:2, :2])
    A[2:, :2] = slopes @ A[:2, :2]
    A[2:, 2:] = np.eye(1 + L) * noise**0.5
    joint, centre = A @ A.T, np.concatenate([m[:2], np.full(1 + L, m[2])])
    np.testing.assert_allclose(joint[:3, :3], C, atol=1e-12)
    drawn, guess = np.concatenate([[0, 0, -1.0], np.full(L, 1 / L)]), np.concatenate([instance["slopes"], [-1.0], np.zeros(L)])
    error, guessed = ((w @ centre + shift) ** 2 + w @ joint @ w for w, shift in ((drawn, 0.0), (guess, instance["intercept"])))
    return (1 + 1 / L) * guessed - error


def price(instance, factor=lambda L: 1 + 1 / L, mean="mean", cov="cov"):
    """From the joint law of (x_o, x, mean of L draws): its covariance by blocks."""
    m, C, L = np.array(instance["mean"]), np.array(instance["cov"]), instance["draws"]
    n, D = np.array(instance[mean]), np.array(instance[cov])
    b = np.linalg.solve(D[:2, :2], D[:2, 2])
    v = D[2, 2] - D[2, :2] @ np.linalg.solve(D[:2, :2], D[:2, 2])
    joint = np.block([[C, (C[:, :2] @ b)[:, None]], [(C[:, :2] @ b)[None], b @ C[:2, :2] @ b + v / L]])
    centre = np.append(m, n[2] + b @ (m[:2] - n[:2]))
    drawn, guess = np.array([0, 0, -1, 1.0]), np.array([*instance["slopes"], -1, 0])
    error = (drawn @ centre) ** 2 + drawn @ joint @ drawn
    guessed = (guess @ centre + instance["intercept"]) ** 2 + guess @ joint @ guess
    return factor(L) * guessed - error


IMPUTERS = {
    "mean": [1.0, 0.5],
    "cov": [[2.0, 0.7], [0.7, 1.0]],
    "intercepts": [0.5, -1.0, 1.5],
    "slopes": [0.2, 1.0, -0.7],
    "variances": [0.5, 1.0, 2.0],
    "seen": 0.7,
    "outcome": -0.4,
}


def square(instance, subset):
    a, b = np.mean(np.array(instance["intercepts"])[subset]), np.mean(np.array(instance["slopes"])[subset])
    m, C = np.array(instance["mean"]), np.array(instance["cov"])
    return (m[1] - a - b * m[0]) ** 2 + C[1, 1] - 2 * b * C[0, 1] + b**2 * C[0, 0]


def score(instance, subset):
    """The CRPS of the pool as an integral."""
    centres = (np.array(instance["intercepts"]) + np.array(instance["slopes"]) * instance["seen"])[subset]
    widths = np.sqrt(np.array(instance["variances"])[subset])
    y = instance["outcome"]
    cdf = lambda x: np.mean(stats.norm.cdf(x, centres, widths))  # noqa: E731
    return integrate.quad(lambda x: cdf(x) ** 2, -25, y, limit=200)[0] + integrate.quad(lambda x: (1 - cdf(x)) ** 2, y, 25, limit=200)[0]


def law(loss):
    one, two, three = (np.mean([loss(list(subset)) for subset in combinations(range(3), size)]) for size in (1, 2, 3))
    off = abs(one - two - 3 * (two - three))
    return min(two - three, -off) if off > 1e-6 else two - three  # quadratures are right to 1e-8


def reweighed(instance):
    w, guesses = np.array(instance["densities"]), np.array(instance["intercepts"]) + np.array(instance["slopes"]) * instance["seen"]
    return law(lambda s: (instance["outcome"] - w[s] @ guesses[s] / w[s].sum()) ** 2)


TABLE = {"rows": 50.0, "share": 0.4, "copies": 5.0, "spread": 1.0, "level": 0.95}


def coverage(instance, variance_of_interval):
    n, observed = instance["rows"], instance["rows"] * (1 - instance["share"])
    return 2 * stats.norm.cdf(stats.norm.ppf((1 + instance["level"]) / 2) * np.sqrt(variance_of_interval(n) * observed)) - 1 - instance["level"]


def moments(instance):
    """Q = (n_1 mean of the observed + sum of the imputed) / n, term by term: within, between and Var Q."""
    n, m = instance["rows"], instance["copies"]
    n0 = instance["share"] * n
    n1 = n - n0
    between = (n0 / n) ** 2 * instance["spread"] / n1 + n0 / n**2
    return 1 / n, between, 1 / n1 + between / m


def rubin(instance):
    within, between, variance = moments(instance)
    return min((within + (1 + 1 / instance["copies"]) * between) / variance - 1, coverage(instance, lambda n: within + between))


MUTANTS = {
    ("imputation-two-times-bayes", "cheaper-draws"): (
        ONE_MISSING | {"intercept": -1.4142857143, "slopes": [0.6571428571, -0.6285714286], "draws": 1.0},
        lambda i: price(i, lambda L: 1 + 0.9 / L),
    ),
    ("imputation-two-times-bayes", "unconditional-draws"): (
        ONE_MISSING | {"slopes": [0.65, -0.6], "intercept": -1.3, "draws": 1.0, "marginal": np.diag([1.0, 1.0, 1.5])},
        lambda i: price(i, cov="marginal"),
    ),
    ("imputation-two-times-bayes", "other-law"): (
        ONE_MISSING | {"other_mean": [0.0, 0.0, 3.0], "other_cov": [[1.0, 0.2, -0.5], [0.2, 2.0, 0.3], [-0.5, 0.3, 2.0]]},
        lambda i: price(i, mean="other_mean", cov="other_cov"),
    ),
    ("imputation-ensemble-law", "root"): (IMPUTERS, lambda i: law(lambda s: square(i, s) ** 0.5)),
    ("imputation-ensemble-law", "one-order"): (IMPUTERS | {"intercepts": [0.5, 0.4, 3.0]}, lambda i: square(i, [0, 1]) - square(i, [0, 1, 2])),
    ("imputation-ensemble-law", "weighed-by-what-is-seen"): (IMPUTERS | {"densities": [0.05, 0.9, 0.3]}, reweighed),
    ("rubin-coverage", "improper-draws"): (TABLE | {"spread": 0.0}, rubin),
    ("rubin-coverage", "without-simulation-error"): (TABLE, lambda i: (moments(i)[0] + moments(i)[1]) / moments(i)[2] - 1),
    ("rubin-coverage", "as-if-complete"): (TABLE, lambda i: coverage(i, lambda n: 1 / n)),
}


def test_every_mutant_has_its_instance():
    assert set(MUTANTS) == all_mutants(IDS)


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated_at_these_instances(id, name):
    instance, route = MUTANTS[id, name]
    given = {part: value for part, value in instance.items() if part in get(id).mutated(name).domain.parts}
    assert_violated_as_said(id, name, given, lambda _: route(instance), rel=1e-7)


def test_margins_agree_with_second_routes():
    value, _ = margin(get(IDS[0]), ONE_MISSING)
    assert value == pytest.approx(price(ONE_MISSING), rel=1e-10)
    for draws in (1.0, 3.0):
        value, _ = margin(get(IDS[0]), ONE_MISSING | {"draws": draws})
        assert value == pytest.approx(price_of_separate_draws(ONE_MISSING | {"draws": draws}), rel=1e-10)
    assert value > 0.01
    value, _ = margin(get(IDS[1]), IMPUTERS)
    both = min(law(lambda s: square(IMPUTERS, s)), law(lambda s: score(IMPUTERS, s)))
    assert value == pytest.approx(both, rel=1e-6)
    assert value > 0.01
    for instance in (TABLE, TABLE | {"spread": 2.0}):
        value, _ = margin(get(IDS[2]), instance)
        assert value == pytest.approx(rubin(instance), abs=1e-12)
    assert value > 0.001
