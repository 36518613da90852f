"""Gains of pooled laws by Monte Carlo, against quadrature and closed forms."""

import jax
import numpy as np
import pytest
from scipy import integrate

from ensembletheory.laws import FiniteLaw, Gaussian, GaussianMixture
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


def apart(distance):
    return stack([Gaussian([x, 1.0], COVS[0]) for x in (0.0, distance)])


@pytest.mark.parametrize("distance", [14.0, 1000.0])
def test_members_too_far_apart_for_the_draws_are_refused(distance):
    """What lies between them is not drawn: at 14 the number was off by 6 of its own standard errors."""
    with pytest.raises(ValueError, match=r"`samples`: got 4096, of which few say all: the relative error of Z is [01]"):
        sampled_log_normaliser(jax.random.key(5), apart(distance), SAMPLES, [0.5, 0.5])


def test_at_a_distance_that_the_draws_bridge_the_normaliser_is_that_of_the_formula():
    """-m' S^-1 m / 8 for equal covariances S and means m apart."""
    log_Z = sampled_log_normaliser(jax.random.key(5), apart(3.0), SAMPLES, [0.5, 0.5])
    assert_within_errors(log_Z.value, log_Z.error, -9 * np.linalg.inv(COVS[0])[0, 0] / 8)


@pytest.mark.parametrize(
    ("target", "law", "message"),
    [
        (Gaussian([0.0], 1.0), None, "`laws`: got dimension 2; expected that of the target, 1"),
        (FiniteLaw([[0.0, 1.0], [1.0, 0.0]], [0.5, 0.5]), None, "`target`: got FiniteLaw without a density"),
        (Gaussian(*TARGET), Gaussian(*TARGET), "`laws`: got one Gaussian; expected a stack of laws"),
        (Gaussian(*TARGET), GaussianMixture([0.3, 0.7], MEANS, COVS), "`laws`: got one GaussianMixture; expected a stack of laws"),
        (Gaussian(*TARGET), [Gaussian(*TARGET)], "`laws`: got one list; expected a stack of laws"),
    ],
)
def test_targets_without_densities_and_laws_that_are_no_stack_are_refused(laws, target, law, message):
    with pytest.raises(ValueError, match=message):
        sampled_law_gain(jax.random.key(3), target, laws if law is None else law, SAMPLES)


def test_one_draw_is_refused(laws):
    with pytest.raises(ValueError, match="`samples`: got 1; expected at least 2"):
        sampled_law_gain(jax.random.key(3), Gaussian(*TARGET), laws, 1)
