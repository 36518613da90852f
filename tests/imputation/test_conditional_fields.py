"""Conditional fields against those of conditioned laws by NumPy, and what they sample against steps composed by hand and the exact conditional."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import ensembletheory as et
from ensembletheory.imputation import ConditionalSampler, ExactConditional
from ensembletheory.processes import LinearInterpolant, VariancePreserving
from ensembletheory.samplers import Ddim
from ensembletheory.samplers.matched_covariance import MatchedCovariance

VP = VariancePreserving()
COV = np.array([[2.0, 0.8, -0.3], [0.8, 1.0, 0.2], [-0.3, 0.2, 0.6]])
MEAN = np.array([1.0, -1.0, 0.5])
LAW = et.Gaussian(MEAN, COV)
MIXTURE = et.GaussianMixture([0.4, 0.6], [MEAN, -MEAN], [COV, np.diag([0.5, 0.3, 1.0])])
GIVEN, POINT = np.array([False, True, False]), np.array([0.4, 0.3, -0.2])


def signal(t):
    return np.exp(-(0.1 * t + 19.9 * t**2 / 2) / 2)


def conditional(value):
    """Mean and covariance of the first and the last coordinate given the second, of LAW."""
    gain = COV[[0, 2], 1] / COV[1, 1]
    return MEAN[[0, 2]] + gain * (value - MEAN[1]), COV[np.ix_([0, 2], [0, 2])] - np.outer(gain, gain) * COV[1, 1]


def noised_components(a, point, given, noised):
    """Shares of the components given x_g and x_t,n, and of each: mean, and covariance with X_t, of X_0,n given x_g, precision times gap."""
    logs, parts = [], []
    for weight, m, C in zip(np.asarray(MIXTURE.weights), np.asarray(MIXTURE.means), np.asarray(MIXTURE.covs), strict=True):
        gain = C[np.ix_(noised, given)] @ np.linalg.inv(C[np.ix_(given, given)])
        mean, cov = m[noised] + gain @ (point[given] - m[given]), C[np.ix_(noised, noised)] - gain @ C[np.ix_(given, noised)]
        spread = a**2 * cov + (1 - a**2) * np.eye(len(noised))
        logs.append(np.log(weight) + stats.multivariate_normal.logpdf(point[given], m[given], C[np.ix_(given, given)]))
        logs[-1] += stats.multivariate_normal.logpdf(point[noised], a * mean, spread)
        parts.append((mean, a * cov, np.linalg.solve(spread, point[noised] - a * mean)))
    return np.exp(logs - np.logaddexp.reduce(logs)), parts


@eqx.filter_jit
def vectors_of(fields, t, x, given, masks):
    return jnp.stack([jax.vmap(lambda noised, field=field: field(jnp.asarray(t), x, given, noised))(masks) for field in fields])


def test_it_is_the_field_of_the_path_that_starts_from_the_conditional():
    """Score, denoiser and velocity of the conditional mixture, by NumPy; the last coordinate noised, or absent."""
    a, half_rate = signal(0.3), (0.1 + 19.9 * 0.3) / 2
    masks = np.array([[True, False, True], [True, False, False]])
    found = np.asarray(vectors_of([ExactConditional(VP, MIXTURE, kind) for kind in ("score", "denoiser", "velocity")], np.array(0.3), POINT, GIVEN, masks))
    for mask, vectors in zip(masks, np.moveaxis(found, 1, 0), strict=True):
        noised = np.flatnonzero(mask)
        shares, parts = noised_components(a, POINT, [1], noised)
        score = -sum(share * y for share, (_, _, y) in zip(shares, parts, strict=True))
        denoiser = sum(share * (m + cross @ y) for share, (m, cross, y) in zip(shares, parts, strict=True))
        np.testing.assert_allclose(vectors[:, mask], [score, denoiser, -half_rate * (POINT[mask] + score)], rtol=1e-9)
        np.testing.assert_array_equal(vectors[:, ~mask], 0)


def test_its_law_is_that_of_ancestral_steps_towards_the_conditional():
    """Composed by NumPy: E[X_s | X_t] with the denoiser of N(m, S), the conditional, and the variance of X_s given X_t and X_0."""
    grid = [1.0, 0.6, 0.2, 0.0]
    law = ConditionalSampler(VP, ExactConditional(VP, LAW, "denoiser"), Ddim(1.0), grid).law([np.nan, 0.3, np.nan])
    m, S = conditional(0.3)
    mean, cov = np.zeros(2), (1 - signal(1.0) ** 2) * np.eye(2)
    for t, s in itertools.pairwise(grid):
        a, b = signal(t), signal(s)
        fresh, noise_t, noise_s = 1 - (a / b) ** 2, 1 - a**2, 1 - b**2
        denoiser = a * S @ np.linalg.inv(a**2 * S + noise_t * np.eye(2))
        gain = b * fresh / noise_t * denoiser + a / b * noise_s / noise_t * np.eye(2)
        mean = gain @ mean + b * fresh / noise_t * (m - a * denoiser @ m)
        cov = gain @ cov @ gain.T + noise_s * fresh / noise_t * np.eye(2)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(law.cov, cov, rtol=1e-9, atol=1e-12)


@pytest.mark.verify  # two derivatives and a root take long to compile; the law of simpler steps stays
def test_with_exact_steps_it_samples_the_conditional_on_any_grid():
    law = ConditionalSampler(VP, ExactConditional(VP, LAW, "denoiser"), MatchedCovariance(), [1.0, 0.6, 0.2, 0.0]).law([np.nan, 0.3, np.nan])
    mean, cov = conditional(0.3)
    a = signal(1.0)  # what is left of the data at the start, from N(0, I)
    np.testing.assert_allclose(law.mean, mean, atol=4 * a)
    np.testing.assert_allclose(law.cov, cov, atol=4 * a**2)


def test_draws_keep_what_is_observed_and_by_row_depend_on_nothing_else():
    table = np.array([[np.nan, 0.3, np.nan], [1.0, 2.0, 3.0]])
    sampler = ConditionalSampler(VP, ExactConditional(VP, LAW, "denoiser"), Ddim(1.0), np.linspace(1.0, 0.0, 5))
    draws, back = (np.asarray(sampler.sample(jax.random.key(0), rows, 2, by_row=True)) for rows in (table, table[::-1]))
    np.testing.assert_array_equal(draws[:, :, 1], [[0.3, 2.0]] * 2)
    np.testing.assert_array_equal(draws[:, 1], [table[1]] * 2)
    np.testing.assert_array_equal(draws, back[:, ::-1])
    assert len(np.unique(draws[:, 0, 0])) == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ExactConditional(VP, LAW, "drift"), ValueError, "`kind`: got 'drift'"),
        (lambda: ConditionalSampler(VP, ExactConditional(VP, LAW), Ddim(), [1.0, 0.0]), ValueError, "`field`: got a score"),
        (lambda: ConditionalSampler(LinearInterpolant(), ExactConditional(VP, LAW, "denoiser"), Ddim(), [1.0, 0.0]), ValueError, "another process"),
        (lambda: ConditionalSampler(VP, ExactConditional(VP, LAW, "denoiser"), Ddim(), [1.0, 0.0]).law([1.0, 2.0, 3.0]), ValueError, "without a missing value"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
