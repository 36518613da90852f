"""Gains of pooled laws by Monte Carlo, against quadrature and closed forms."""

import jax
import numpy as np
import pytest
from scipy import integrate

from ensembletheory.laws import Gaussian
from ensembletheory.neural import sampled_law_gain, sampled_log_normaliser, stack
from tests.helpers import assert_within_errors

WEIGHTS = np.array([0.3, 0.7])
MEANS = np.array([[0.0, 1.0], [1.0, 0.0]])
COVS = np.array([[[1.0, 0.3], [0.3, 0.5]], [[0.4, -0.1], [-0.1, 1.5]]])  # do not commute
TARGET = (np.array([0.3, 0.2]), np.array([[0.6, 0.2], [0.2, 0.9]]))
SAMPLES = 4096


@pytest.fixture(scope="module")
def laws():
    return stack([Gaussian(m, S) for m, S in zip(MEANS, COVS, strict=True)])


def kl(m, S, n, R):
    return 0.5 * (np.trace(np.linalg.solve(R, S)) - len(m) + (n - m) @ np.linalg.solve(R, n - m) + np.log(np.linalg.det(R) / np.linalg.det(S)))


def log_density(m, S, x):
    return -0.5 * (np.sum((x - m) * np.linalg.solve(S, (x - m).T).T, axis=-1) + np.log(np.linalg.det(2 * np.pi * S)))


@pytest.mark.parametrize("rule", ["linear", "log"])
def test_gains_of_gaussians_are_those_of_quadrature_and_closed_form(laws, rule):
    measured = sampled_law_gain(jax.random.key(3), Gaussian(*TARGET), laws, SAMPLES, rule, WEIGHTS)
    members = [kl(*TARGET, m, S) for m, S in zip(MEANS, COVS, strict=True)]
    axis, step = np.linspace(-8, 9, 301, retstep=True)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    logs = np.array([log_density(m, S, x) for m, S in zip(MEANS, COVS, strict=True)])
    if rule == "linear":
        p, q = log_density(*TARGET, x), np.log(WEIGHTS @ np.exp(logs))
        pooled = _double(np.exp(p) * (p - q), step)
    else:
        pooled = WEIGHTS @ members + np.log(_double(np.exp(WEIGHTS @ logs), step))
    for estimate, truth in ((measured.average, WEIGHTS @ members), (measured.best, min(members)), (measured.ensemble, pooled), (measured.gain, WEIGHTS @ members - pooled)):
        assert_within_errors(estimate.value, estimate.error, truth)
        assert estimate.kind == "monte_carlo"
    assert measured.gain.error < 0.02
    np.testing.assert_allclose(measured.gain.value, measured.average.value - measured.ensemble.value, atol=1e-12)
    assert measured.diversity.value == measured.gain.value


def _double(values, step):
    n = round(len(values) ** 0.5)
    return integrate.trapezoid(integrate.trapezoid(values.reshape(n, n), dx=step), dx=step)


def test_a_weight_of_one_gains_nothing_and_the_normaliser_is_that_of_the_formula(laws):
    for rule in ("linear", "log"):
        assert abs(sampled_law_gain(jax.random.key(3), Gaussian(*TARGET), laws, SAMPLES, rule, [0.0, 1.0]).gain.value) < 1e-12
    log_Z = sampled_log_normaliser(jax.random.key(4), laws, SAMPLES, WEIGHTS)
    precisions = np.linalg.inv(COVS)
    pooled = np.linalg.inv(np.tensordot(WEIGHTS, precisions, 1))
    mean = pooled @ np.einsum("k,kij,kj->i", WEIGHTS, precisions, MEANS)
    truth = -sum(w * kl(mean, pooled, m, S) for w, m, S in zip(WEIGHTS, MEANS, COVS, strict=True))
    assert_within_errors(log_Z.value, log_Z.error, truth)


def test_other_rules_and_wrong_weights_are_refused(laws):
    with pytest.raises(ValueError, match="`rule`: got 'median'"):
        sampled_law_gain(jax.random.key(3), Gaussian(*TARGET), laws, SAMPLES, "median")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="`weights`"):
        sampled_law_gain(jax.random.key(3), Gaussian(*TARGET), laws, SAMPLES, weights=[0.5, 0.6])
