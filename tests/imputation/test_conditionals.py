"""Conditionals of rows with holes: against the precision matrix and SciPy in NumPy, draws by their moments, and tables with nothing, everything or one thing missing."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import ensembletheory as et
from ensembletheory.imputation import conditional_draws, conditional_law, conditional_mean, conditional_variance, observed_log_prob
from ensembletheory.imputation.tiles import restored, tiled
from tests.helpers import assert_mean, spd

ROWS = 12
SHAPES = {"mixture": (3, 2), "gaussian": (1, 1), "ppca mixture": (3, 2)}  # d, K


def made(name, seed):
    """A law, and its weights, means and covariances."""
    rng = np.random.default_rng(seed)
    d, K = SHAPES[name]
    weights, means, loadings, noise = rng.dirichlet(np.ones(K)), 2 * rng.normal(size=(K, d)), rng.normal(size=(K, d, 1)), rng.uniform(0.3, 1, K)
    covs = np.stack([spd(rng, d) for _ in range(K)]) if "ppca" not in name else loadings @ loadings.swapaxes(1, 2) + noise[:, None, None] * np.eye(d)
    laws = {
        "mixture": lambda: et.GaussianMixture(weights, means, covs),
        "gaussian": lambda: et.Gaussian(means[0], covs[0]),
        "ppca mixture": lambda: et.PpcaMixture(weights, loadings, means, noise),
    }
    return laws[name](), weights, means, covs


def conditioned(weights, means, covs, x):
    """Of one row: log-density of what is observed; shares, means and covariances of the components, by the precision of the missing coordinates."""
    u, o = np.isnan(x), ~np.isnan(x)
    logs = np.log(weights) + [stats.multivariate_normal.logpdf(x[o], m[o], S[np.ix_(o, o)]) if o.any() else 0.0 for m, S in zip(means, covs, strict=True)]
    precisions = np.linalg.inv(covs)
    spreads = np.stack([np.linalg.inv(P[np.ix_(u, u)]) for P in precisions])
    centres = np.stack([m[u] - C @ P[np.ix_(u, o)] @ (x[o] - m[o]) for m, C, P in zip(means, spreads, precisions, strict=True)])
    return np.logaddexp.reduce(logs), np.exp(logs - np.logaddexp.reduce(logs)), centres, spreads


def assert_exact(name, seed, missing):
    law, weights, means, covs = made(name, seed)
    rows = np.random.default_rng(seed + 1).normal(scale=3.0, size=missing.shape)
    X = np.where(missing, np.nan, rows)
    logs, mean, variance = (np.asarray(ask(law, X)) for ask in (observed_log_prob, conditional_mean, conditional_variance))
    np.testing.assert_array_equal(mean[~missing], rows[~missing])
    np.testing.assert_array_equal(variance[~missing], 0.0)
    for i, x in enumerate(X):
        log_prob, shares, centres, spreads = conditioned(weights, means, covs, x)
        expected = shares @ centres
        inner = np.stack([np.diag(C) for C in spreads]) + (centres - expected) ** 2
        np.testing.assert_allclose(logs[i], log_prob, rtol=1e-10, atol=1e-11)
        np.testing.assert_allclose(mean[i][missing[i]], expected, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(variance[i][missing[i]], shares @ inner, rtol=1e-9)


@settings(max_examples=7)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 7), min_size=ROWS, max_size=ROWS))
def test_mixtures_are_conditioned_exactly_whatever_is_missing(seed, patterns):
    assert_exact("mixture", seed, np.array(patterns)[:, None] >> np.arange(3) & 1 > 0)


@pytest.mark.parametrize("name", ["gaussian", "ppca mixture"])
def test_other_laws_are_conditioned_exactly_under_every_mask(name):
    d = SHAPES[name][0]
    assert_exact(name, 5, np.arange(ROWS)[:, None] % 2**d >> np.arange(d) & 1 > 0)


# through factors: tests/estimators/test_imputers.py holds draws of a PPCA to their moments by default
@pytest.mark.parametrize("name", ["mixture", pytest.param("ppca mixture", marks=pytest.mark.verify)])
def test_draws_have_the_conditional_law(name):
    law, weights, means, covs = made(name, 3)
    X = np.tile([[0.5, np.nan, np.nan], [np.nan, np.nan, np.nan], [np.nan, 1.0, -1.0], [0.1, 0.2, 0.3]], (3, 1))
    draws = np.asarray(conditional_draws(jax.random.key(0), law, X, 4000))
    assert draws.shape == (4000, ROWS, 3)
    for i in (0, 1, 2):
        u = np.isnan(X[i])
        _, shares, centres, spreads = conditioned(weights, means, covs, X[i])
        drawn = np.concatenate([draws[:, i + j][:, u] for j in (0, 4, 8)])
        second = np.einsum("k,kij->ij", shares, spreads + np.einsum("ki,kj->kij", centres, centres))
        assert_mean(drawn, shares @ centres)
        assert_mean(np.einsum("ni,nj->nij", drawn, drawn), second)
        first = sum(w * stats.norm(m[0], C[0, 0] ** 0.5).cdf(drawn[:, 0]) for w, m, C in zip(shares, centres, spreads, strict=True))
        assert stats.kstest(first, "uniform").pvalue > 1e-6
    np.testing.assert_array_equal(draws[:, 3], np.tile(X[3], (4000, 1)))
    assert abs(np.corrcoef(draws[:, 0, 1], draws[:, 4, 1])[0, 1]) < 5 / 4000**0.5  # equal rows are drawn apart


def test_rows_of_one_mask_share_tiles_and_come_back_in_their_order():
    rng = np.random.default_rng(0)
    masks = rng.random((5, 70)) < 0.5  # more than 64 columns: a mask is more than one word
    masks[1] = masks[0]
    masks[1, 69] = ~masks[0, 69]
    X = np.where(masks[rng.integers(5, size=200)], np.nan, rng.normal(size=(200, 70)))
    tiles, places = tiled(X)
    assert tiles.fresh.sum() == 5
    assert tiles.values.shape[1] == 16  # the largest size that is not more than rows a mask
    seen = np.repeat(tiles.observed[:, None], 16, axis=1)
    np.testing.assert_array_equal(restored(places, np.where(seen, tiles.values, np.nan)), X)
    assert all((np.unique(block, axis=0).shape[0] == 1) for block in np.split(tiles.observed, np.flatnonzero(tiles.fresh)[1:]))
    np.testing.assert_array_equal(restored(places, np.zeros((len(tiles.fresh), 2, 16)) + np.arange(2)[:, None], axis=2), np.arange(2)[:, None] + np.zeros((2, 200)))


def test_the_order_of_rows_and_their_company_change_nothing():
    law = made("mixture", 7)[0]
    missing = np.random.default_rng(1).random((ROWS, 3)) < 0.5
    X = np.where(missing, np.nan, np.random.default_rng(2).normal(size=(ROWS, 3)))
    order = np.random.default_rng(3).permutation(ROWS)
    np.testing.assert_allclose(conditional_mean(law, X[order]), np.asarray(conditional_mean(law, X))[order], rtol=1e-13)
    np.testing.assert_allclose(conditional_mean(law, X[:5]), np.asarray(conditional_mean(law, X))[:5], rtol=1e-13)


def test_the_law_of_one_row():
    law, weights, means, covs = made("mixture", 9)
    x = np.array([np.nan, 0.4, np.nan])
    found = conditional_law(law, x)
    _, shares, centres, spreads = conditioned(weights, means, covs, x)
    np.testing.assert_allclose(found.weights, shares, rtol=1e-9)
    np.testing.assert_allclose(found.means, centres, rtol=1e-9)
    np.testing.assert_allclose(found.covs, spreads, rtol=1e-9)
    assert conditional_law(law, np.full(3, np.nan)) is law


@pytest.mark.verify
def test_the_likelihood_can_be_differentiated_in_the_law():
    _, weights, means, covs = made("mixture", 4)
    X = np.where(np.random.default_rng(1).random((ROWS, 3)) < 0.5, np.nan, np.random.default_rng(2).normal(size=(ROWS, 3)))
    slope = jax.jit(jax.grad(lambda means: observed_log_prob(et.GaussianMixture(weights, means, covs), X).sum()))(jax.numpy.asarray(means))
    expected = np.zeros_like(means)
    for x in X:  # Fisher's identity: the slope is the mean of the complete one
        u, o = np.isnan(x), ~np.isnan(x)
        _, shares, centres, _ = conditioned(weights, means, covs, x)
        for k in range(2):
            completed = np.where(o, x, 0.0)
            completed[u] = centres[k]
            expected[k] += shares[k] * np.linalg.solve(covs[k], completed - means[k])
    np.testing.assert_allclose(slope, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda law: conditional_mean("law", [[0.0]]), TypeError, "law"),
        (lambda law: conditional_mean(law, [[0.0]]), ValueError, "`X`: got 1 columns; expected 3"),
        (lambda law: conditional_mean(law, [[np.inf, 0.0, np.nan]]), ValueError, "1 infinite"),
        (lambda law: conditional_mean(law, np.zeros((0, 3))), ValueError, r"shape \(0, 3\)"),
        (lambda law: conditional_mean(et.laws.singular_gaussian([0.0], [[0.0]]), [[np.nan]]), ValueError, "a singular Gaussian"),
        (lambda law: conditional_draws(jax.random.key(0), law, [[np.nan, 0.0, 0.0]], 0), ValueError, "`n`: got 0"),
        (lambda law: conditional_law(law, [0.0, 1.0, 2.0]), ValueError, "wholly observed"),
        (lambda law: conditional_law(law, [0.0, np.nan]), ValueError, "2 columns"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(made("mixture", 0)[0])


def test_rows_that_overflow_under_every_component_are_refused():
    far, one = np.array([[1e160, np.nan]]), et.Gaussian(np.zeros(2), [[1.0, 0.5], [0.5, 1.0]])
    np.testing.assert_allclose(et.imputation.conditional_mean(one, far), [[1e160, 5e159]], rtol=1e-12)
    mixture = et.GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], np.stack([np.eye(2)] * 2))
    for call in (lambda: et.imputation.conditional_mean(mixture, far), lambda: et.imputation.conditional_draws(jax.random.key(0), mixture, far, 2)):
        with pytest.raises(ValueError, match=r"`X`: got 1 rows so far .*\(index 0\)"):
            call()
