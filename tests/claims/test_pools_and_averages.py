"""Claims about log pools, barycenters, averages of PPCA parameters and bootstrap ensembles: margins in NumPy and SciPy, mutants refuted by hand."""

import jax
import numpy as np
import pytest
from scipy import integrate, linalg, special, stats

from ensembletheory.claims import get, stored
from tests.claims.test_the_eight import geometric_mean, grid, kl, log_density, sampled_law

THEOREMS = ("log-pool-monotone", "barycenter-identity", "ppca-rotation-average", "ppca-aligned-average", "ppca-covariance-average")
REFUTED = ("bootstrap-log-pool", "mean-score-beats-log-pool", "log-pool-beats-mean-score")
OPEN = ("bootstrap-linear-pool",)
ALL = (*THEOREMS, *REFUTED, *OPEN)
MUTANTS = [(id, name) for id in THEOREMS for name in get(id).mutants]


def unpacked(instance):
    p = (float(instance["target_mean"]), float(instance["target_variance"]))
    members = list(zip(np.asarray(instance["means"]), np.asarray(instance["variances"]), strict=True))
    return p, members, grid(p, *members)


def log_pool_monotone(instance):
    p, members, x = unpacked(instance)
    smaller = [kl(p, geometric_mean(x, [q for j, q in enumerate(members) if j != k], [0.5, 0.5])[0], x) for k in range(3)]
    return np.mean(smaller) - kl(p, geometric_mean(x, members, [1 / 3] * 3)[0], x)


def bures(S, R):
    root = linalg.sqrtm(S)
    return np.trace(S + R - 2 * linalg.sqrtm(root @ R @ root).real)


def barycenter_identity(instance):
    """The barycenter of two Gaussians lies on the geodesic, (1 - w) I + w T maps the first to it."""
    means, weights = np.asarray(instance["means"]), np.asarray(instance["weights"])
    covs = [np.diag(v) if v.ndim == 1 else v for v in np.asarray(instance["covariances"])]
    target = np.asarray(instance["target_covariance"])
    S = np.diag(target) if target.ndim == 1 else target
    root = linalg.sqrtm(covs[0])
    inverse = np.linalg.inv(root)
    T = weights[0] * np.eye(2) + weights[1] * inverse @ linalg.sqrtm(root @ covs[1] @ root).real @ inverse
    mean, b = weights @ means, T @ covs[0] @ T

    def w2(m, C):
        return [np.sum((m - n) ** 2) + bures(C, R) for n, R in zip(means, covs, strict=True)]

    m = np.asarray(instance["target_mean"])
    return -abs(weights @ w2(m, S) - weights @ w2(mean, b) - np.sum((m - mean) ** 2) - bures(S, b))


def ppca_rotation_average(instance):
    """The averaged loadings, entry by entry, in the complex plane of the two factors."""
    W, (w1, w2), angle = np.asarray(instance["loadings"]), np.asarray(instance["weights"]), float(instance["angle"])
    rows = W @ np.array([1, 1j])
    average = (w1 + w2 * np.exp(-1j * angle)) * rows
    kept = (w1 - w2) ** 2 + 4 * w1 * w2 * np.cos(angle / 2) ** 2
    return -np.max(np.abs(np.real(np.outer(average, average.conj())) - kept * W @ W.T))


def ppca_aligned_average(instance):
    W, (w1, w2), angle = np.asarray(instance["loadings"]), np.asarray(instance["weights"]), float(instance["angle"])
    margins = []
    for flip in (np.eye(2), np.diag([1.0, -1.0])):
        copy = W @ [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]] @ flip
        average = w1 * W + w2 * copy @ linalg.orthogonal_procrustes(copy, W)[0]
        margins.append(-np.max(np.abs(average @ average.T - W @ W.T)))
    return min(margins)


def ppca_covariance_average(instance):
    return 0.0


def expected_fit(n):
    """Of the maximum-likelihood fit, by quadrature over chi^2."""
    integrand = lambda x: stats.chi2.pdf(x, n - 1) * ((1 + 1 / n) * n / x - 1 + np.log(x / n)) / 2  # noqa: E731
    return integrate.quad(integrand, 0, n, epsabs=1e-12, limit=400)[0] + integrate.quad(integrand, n, np.inf, epsabs=1e-12, limit=400)[0]


def bootstrap_log_pool(instance):
    n = float(instance["points"])
    shrink = (n - 3) / n
    return expected_fit(n) - expected_fit_scaled(n, shrink)


def expected_fit_scaled(n, a):
    """Of N(m, a s^2): the terms in 1/a and log a apart."""
    inverse = (1 + 1 / n) * integrate.quad(lambda x: stats.chi2.pdf(x, n - 1) * n / x, 0, np.inf, epsabs=1e-12, limit=400)[0]
    return expected_fit(n) + (inverse * (1 / a - 1) + np.log(a)) / 2


def bootstrap_linear_pool(instance):
    """Gain E log(pool / fit) at y = (x - m) / s, Student t; the pool's density by Gauss-Laguerre over the variance of a resample."""
    n = float(instance["points"])
    nodes, mass = special.roots_genlaguerre(150, (n - 1) / 2 - 1)
    variances = (2 * nodes + 1) / n

    scale = np.sqrt((n + 1) / (n - 1))
    y = np.linspace(-60, 60, 24_001)
    log_ratio = special.logsumexp(-0.5 * y[:, None] ** 2 * (1 / variances - 1), b=mass / mass.sum() / np.sqrt(variances), axis=1)
    return np.trapezoid(stats.t.pdf(y / scale, n - 1) / scale * log_ratio, y)


def mean_score_beats_log_pool(instance):
    p, members, x = unpacked(instance)
    weights = np.asarray(instance["weights"])
    law = sampled_law(members, weights, float(instance["churn"]))
    return kl(p, geometric_mean(x, members, weights)[0], x) - kl(p, log_density(x, law), x)


def log_pool_beats_mean_score(instance):
    return -mean_score_beats_log_pool(instance)


def second_route(id):
    return globals()[id.replace("-", "_")]


@pytest.mark.parametrize("id", [id for id in ALL if id != "bootstrap-linear-pool"])
def test_margins_agree_with_a_second_route(id):
    claim = get(id)
    for seed in range(3):
        instance = claim.domain.sample(jax.random.key(seed))
        margin, other = claim.margin(**instance), second_route(id)(instance)
        assert abs(float(margin) - other) <= float(margin.error) + 1e-7 * (1 + abs(other)), (seed, float(margin), other)


@pytest.mark.parametrize("points", [12.0, 20.0])
def test_the_gain_of_the_linear_pool_by_gauss_laguerre(points):
    margin = get("bootstrap-linear-pool").margin(points=points)
    assert float(margin) == pytest.approx(bootstrap_linear_pool({"points": points}), abs=2e-7)


def test_the_open_gain_is_positive_wherever_it_was_computed():
    claim = get("bootstrap-linear-pool")
    gains = [claim.margin(points=n) for n in (4.0, 4.5, 6.0, 10.0, 23.7, 64.0)]
    assert all(float(gain) > 1e6 * float(gain.error) for gain in gains)
    assert np.all(np.diff([float(gain) for gain in gains]) < 0)
    assert claim.kind == "conjecture"


def test_off_the_equality_family_the_larger_log_pool_gains():
    claim = get("log-pool-monotone")
    instance = next(iter(claim.equality()))
    assert float(claim.margin(**{**instance, "means": [0.0, 0.5, 1.0]})) > 1e-2


LINE = {"target_mean": 0.0, "target_variance": 1.0, "means": [0.0, 1.0, -2.0], "variances": [1.0, 0.5, 4.0]}
PLANE = {"target_mean": [0.0, 1.0], "means": [[1.0, 0.0], [0.0, -1.0]], "weights": [0.5, 0.5]}
DIAGONAL = {"target_covariance": [1.0, 2.0], "covariances": [[1.0, 4.0], [3.0, 0.2]]}
TURNED = {"target_covariance": [[1.0, 0.0], [0.0, 4.0]], "covariances": [[[4.0, 1.0], [1.0, 0.5]], [[2.0, -1.0], [-1.0, 1.0]]]}
COPIES = {"loadings": [[1.0, 0.5], [-0.5, 2.0], [0.0, 1.0]], "noise_variance": 0.5, "angle": 2.0, "weights": [0.5, 0.5]}
OTHER = {"other": [[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]]}
FALSE = {
    ("log-pool-monotone", "product-of-experts"): LINE,
    ("log-pool-monotone", "best-of-the-smaller"): LINE,
    ("barycenter-identity", "any-covariances"): PLANE | TURNED,
    ("barycenter-identity", "half-the-spread"): PLANE | DIAGONAL,
} | {(id, name): COPIES | (OTHER if name == "other-loadings" else {}) for id, name in MUTANTS if id.startswith("ppca")}


@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_mutants_are_false(id, name):
    mutant = get(id).mutated(name)
    assert float(mutant.margin(**FALSE[id, name])) < -1e-3


def test_the_curvature_of_the_mutant_by_the_second_route():
    instance = PLANE | TURNED
    assert float(get("barycenter-identity").mutated("any-covariances").margin(**instance)) == pytest.approx(barycenter_identity(instance), rel=1e-8)


@pytest.mark.parametrize("id", REFUTED)
def test_stored_counterexamples_violate_by_the_second_route_too(id):
    assert second_route(id)(stored.read_instance(stored.counterexample_path(get(id)))) < -0.01


def test_neither_of_two_rules_always_wins():
    """Members N(0, 1/2), N(0, 2): the log pool N(0, 4/5) and the flow's N(0, 1) are each exact for one target."""
    instance = {"target_mean": 0.0, "means": [0.0, 0.0], "variances": [0.5, 2.0], "weights": [0.5, 0.5], "churn": 0.0}
    claim = get("mean-score-beats-log-pool")
    assert float(claim.margin(target_variance=1.0, **instance)) == pytest.approx(0.01342822434289512, abs=1e-15)
    assert float(claim.margin(target_variance=0.8, **instance)) == pytest.approx(-(0.8 - 1 - np.log(0.8)) / 2, abs=1e-15)
