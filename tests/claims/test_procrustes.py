"""The claims on loadings up to rotation: margins by SciPy, theorems under Hypothesis, equality families, mutants violated by hand."""

import numpy as np
import pytest
from scipy import linalg, optimize
from scipy.stats import multivariate_normal

from ensembletheory.claims import get
from tests.claims.margins import evaluator, margin

IDS = ("procrustes-is-bures", "procrustes-modulus", "ppca-rotation-invariance")
MUTANTS = {
    ("procrustes-is-bures", "larger-distance"): {"first": np.eye(2), "second": 9 * np.eye(2), "rotation": np.eye(2)},
    ("procrustes-is-bures", "any-matrix"): {"first": np.eye(2), "second": 9 * np.eye(2), "rotation": np.eye(2), "factor": 0.5},
    ("procrustes-modulus", "larger-constant"): {"first": np.eye(2), "second": np.zeros((2, 2))},
    ("procrustes-modulus", "euclidean-norm"): {"first": np.eye(2), "second": np.zeros((2, 2))},
    ("ppca-rotation-invariance", "shear"): {"loadings": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], "noise_variance": 0.5, "rotation": np.eye(2), "shear": 1.0},
}


def least_over_angles(W, V):
    """min |W - V Q|^2 over both sheets of O(2), by a one-dimensional minimisation."""

    def squared(angle, sign):
        c, s = np.cos(angle), np.sin(angle)
        return np.sum((W - V @ np.array([[c, -s * sign], [s, c * sign]])) ** 2)

    def least(sign):
        start = min(np.linspace(0, 2 * np.pi, 24), key=lambda angle: squared(angle, sign))
        return optimize.minimize_scalar(squared, bounds=(start - 0.3, start + 0.3), args=(sign,), method="bounded", options={"xatol": 1e-10}).fun

    return min(least(1), least(-1))


def procrustes_is_bures(instance):
    A, B, Q = instance["first"], instance["second"], instance["rotation"]
    root = linalg.sqrtm(A).real
    bures = np.trace(A) + np.trace(B) - 2 * np.trace(linalg.sqrtm(root @ B @ root).real)
    return np.sum((np.linalg.cholesky(A) - np.linalg.cholesky(B) @ Q) ** 2) - bures


def procrustes_modulus(instance):
    W, V = instance["first"], instance["second"]
    return np.linalg.norm(W @ W.T - V @ V.T, "nuc") - least_over_angles(W, V)


def ppca_rotation_invariance(instance):
    W, s2, Q = instance["loadings"], float(instance["noise_variance"]), instance["rotation"]
    x = np.random.default_rng(0).normal(size=(5, 3))
    p, q = (multivariate_normal(np.zeros(3), V @ V.T + s2 * np.eye(3)) for V in (W, W @ Q))
    return -np.max(np.abs(p.logpdf(x) - q.logpdf(x)))


@pytest.mark.parametrize("id", IDS)
def test_margins_agree_with_a_second_route_and_are_never_negative(id):
    claim, run = get(id), evaluator(get(id))
    instances = run.instances(run.draws(256, 0))
    values, errors = run(instances)
    assert not np.any(claim.violated(values, errors))
    for i in range(3):
        expected = globals()[id.replace("-", "_")]({name: value[i, ...] for name, value in instances.items()})
        np.testing.assert_allclose(values[i], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_violated(id, name):
    mutant = get(id).mutated(name)
    assert mutant.violated(*margin(mutant, MUTANTS[id, name]))


def test_every_mutant_is_covered():
    assert set(MUTANTS) == {(id, name) for id in IDS for name in get(id).mutants}


def test_off_the_polar_factor_there_is_slack():
    instance = next(iter(get("procrustes-is-bures").equality()))
    turned = {**instance, "rotation": np.asarray(instance["rotation"]) @ np.array([[0.6, -0.8], [0.8, 0.6]])}
    assert margin(get("procrustes-is-bures"), turned)[0] > 0.1
