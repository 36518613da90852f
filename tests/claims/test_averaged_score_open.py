"""Open and refuted claims on averaged scores: their fast laws by the package's general routes, and counter-examples written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ensembletheory as et
from ensembletheory.claims import averaged_score_open as claims
from ensembletheory.claims import get, sub_ensembles
from ensembletheory.claims.sub_ensembles import COVARIANCE_ERROR, LINE_ERROR, LineRule, all_and_without_each, frames
from tests.claims.margins import margin

CHURNS = (0.0, 0.1, 1.0, 2.0)


@jax.jit
def general_moments(means, variances, weights, churn):
    """Mean and variance on the line by `mean_score_law`."""
    members = [et.Gaussian(means[k, None], variances[k, None]) for k in range(len(means))]
    law = et.mean_score_law(members, et.processes.VariancePreserving(), weights=weights, churn=churn, horizon=jnp.inf)
    return law.mean[0], law.cov[0, 0]


@jax.jit
def fast_moments(means, variances, churn):
    return sub_ensembles.line_laws(claims.LINE, all_and_without_each, means, variances, churn)


def boxed(seed):
    """Means and variances of three members in the box of the searches, every second time at its corners."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-3, 3, 3), 20 ** rng.uniform(-1, 1, 3) if seed % 2 else 20 ** rng.choice([-1.0, 1.0], 3)


@pytest.mark.parametrize("churn", CHURNS)
def test_fast_laws_on_the_line_are_those_of_mean_score_law(churn):
    weights = np.vstack([np.ones(3) / 3, (1 - np.eye(3)) / 2])
    for seed in range(10):
        means, variances = boxed(seed)
        fast = np.asarray(fast_moments(means, variances, churn)).T
        general = np.array([general_moments(means, variances, w, churn) for w in weights])
        np.testing.assert_allclose(fast[:, 1], general[:, 1], rtol=LINE_ERROR)
        assert np.max(np.abs(fast[:, 0] - general[:, 0])) < LINE_ERROR * 3 * np.sqrt(20) / np.sqrt(general[:, 1].min())


def test_the_rule_is_finer_for_wider_variances_and_integrates_the_flow():
    assert len(LineRule(100.0).u) > len(LineRule(20.0).u)
    rule = claims.LINE  # int_0^1 u^a (1 - u) dlog u = 1 / a - 1 / (a + 1)
    for power in (0.5, 1.0, 5.0):
        np.testing.assert_allclose(np.sum(rule.weights * rule.u**power * rule.rest), 1 / power - 1 / (power + 1), rtol=1e-10)


@jax.jit
def fast_covariance(spectra, Q, weights, churn):
    return sub_ensembles.sampled_covariances(claims.LARGEST, lambda values: jnp.tensordot(weights, values, 1)[None], spectra, Q, churn)[0]


@pytest.mark.parametrize("churn", CHURNS)
def test_fast_covariances_solve_the_matrix_equation(churn):
    rng = np.random.default_rng(3)
    spectra, Q, w = 20 ** rng.choice([-1.0, 0.3, 1.0], (2, 2)), np.asarray(frames(jnp.asarray(rng.uniform(-1, 1, (2, 1, 2))))), np.array([0.3, 0.7])
    np.testing.assert_allclose(Q @ Q.mT, np.broadcast_to(np.eye(2), (2, 2, 2)), atol=1e-10)
    covs, e, first = np.einsum("kij,kj,klj->kil", Q, spectra, Q), churn**2, 1e-7

    def velocity(log_u, v):
        A = sum(weight * np.linalg.inv(np.eye(2) + np.exp(log_u) * (S - np.eye(2))) for weight, S in zip(w, covs, strict=True))
        half = A @ v.reshape(2, 2)
        return (v.reshape(2, 2) + e * np.eye(2) - (1 + e) / 2 * (half + half.T)).ravel()

    start = np.eye(2) + first * (np.tensordot(w, covs, 1) - np.eye(2))
    end = solve_ivp(velocity, (np.log(first), 0.0), start.ravel(), method="LSODA", rtol=1e-9, atol=1e-11).y[:, -1].reshape(2, 2)
    whitened = np.linalg.solve(np.linalg.cholesky(end), np.asarray(fast_covariance(spectra, Q, w, churn)) - end)
    assert np.max(np.abs(np.linalg.solve(np.linalg.cholesky(end), whitened.T))) < COVARIANCE_ERROR


def pointwise_margin(means, variances, churn):
    """Margin and gain in nats at the point 0 of the log-densities, by `mean_score_law` and SciPy-free arithmetic."""
    n = len(means)
    means, variances = np.asarray(means, float), np.asarray(variances, float)

    def log_density(mean, variance):
        return -(np.log(variance) + mean**2 / variance) / 2

    rows = np.vstack([np.ones(n) / n, (1 - np.eye(n)) / (n - 1)])
    values = np.array([log_density(*map(float, general_moments(means, variances, w, churn))) for w in rows])
    return values[0] - values[1:].mean(), values[0] - np.mean(log_density(means, variances))


@pytest.mark.parametrize("churn", CHURNS)
def test_the_margin_is_the_members_share_of_the_gain(churn):
    for seed in range(3):
        means, variances = boxed(seed)
        value, error = margin(get("mean-score-monotone-in-k"), {"means": means, "variances": variances, "churn": churn})
        nats, gain = pointwise_margin(means, variances, churn)
        np.testing.assert_allclose(value, 4 * nats / gain, rtol=1e-6)
        assert error < 1e-5


@pytest.mark.parametrize(
    ("means", "variances", "churn"),
    [
        ((-3, -3, 10), (1 / 20, 1 / 20, 12), 2.0),
        ((0, -70, 70), (1 / 1000, 0.9, 1000), 1.0),
        ((0.4, -22, -22), (1 / 100, 100, 100), 0.0),
    ],
)
def test_a_third_member_can_take_the_law_away_from_the_target(means, variances, churn):
    """Counter-examples for churn 2, the reverse SDE and the probability flow."""
    assert pointwise_margin(means, variances, churn)[0] < -1e-4


def test_nearly_equal_members_give_one():
    near = {"means": [1.0, 1.001, 0.999], "variances": [0.5, 0.5005, 0.5], "churn": 1.0}
    np.testing.assert_allclose(margin(get("mean-score-monotone-in-k"), near)[0], 1.0, atol=0.02)
    equal = {"variances": [2.0, 2.0, 2.0], "churn": 1.0}
    np.testing.assert_allclose(margin(get("mean-score-monotone-centred"), equal)[0], 1.0, atol=1e-3)


def test_the_centred_margin_is_that_of_precisions():
    _, variances = boxed(1)
    v = np.asarray(fast_moments(np.zeros(3), variances, 1.0)[1])
    share = 4 * (np.mean(1 / v[1:]) - 1 / v[0]) / (np.mean(1 / variances) - 1 / v[0])
    np.testing.assert_allclose(margin(get("mean-score-monotone-centred"), {"variances": variances, "churn": 1.0})[0], share, rtol=1e-6)
    assert np.log(v[0]) < np.mean(np.log(v[1:]))  # log v is convex in the weights


def test_variance_falls_from_the_geometric_mean_with_the_churn():
    _, variances = boxed(1)
    w = np.array([0.2, 0.3, 0.5])
    more, less = (float(general_moments(np.zeros(3), variances, w, churn)[1]) for churn in (0.5, 1.0))
    value, error = margin(get("churn-monotone"), {"variances": variances, "weights": w, "churn": 0.5, "added": 0.5})
    np.testing.assert_allclose(value, np.log(more / less) / (w @ np.log(variances) - np.log(less)), rtol=1e-7)
    assert error < 1e-7


def test_a_log_det_on_common_axes_is_a_sum_of_lines():
    spectra, w = np.array([[0.3, 4.0], [2.0, 0.1]]), np.array([0.4, 0.6])
    falls = {churn: sum(np.log(float(general_moments(np.zeros(2), spectra[:, i], w, churn)[1])) for i in range(2)) for churn in (0.5, 1.0)}
    instance = {"spectra": spectra, "reflections": [[[1.0, 0.0]], [[0.0, 1.0]]], "weights": w, "churn": 0.5, "added": 0.5}
    value, error = margin(get("churn-monotone-log-det"), instance)
    way = w @ np.log(spectra).sum(axis=1) - falls[1.0]
    assert abs(value - (falls[0.5] - falls[1.0]) / way) < error
    assert value > error


def test_the_mutant_is_violated():
    instance = {"variances": [0.05, 0.1, 0.1], "weights": [0.2, 0.3, 0.5], "churn": 1.5, "added": 0.05}
    value, error = margin(get("churn-monotone").mutated("faster"), instance)
    assert value + error < -0.01


@pytest.mark.parametrize("make", [claims.mean_score_monotone, claims.monotone_centred, claims.variance_falls])
def test_claims_are_made_for_any_number_of_members(make):
    assert make(5).domain.parts["variances"].shape == (5,)
