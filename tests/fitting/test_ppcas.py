"""Every likelihood here is written again from the d x d covariance W W^T + s2 I, row by row or mask by mask; the package never forms it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ensembletheory.fitting import NotConverged, fit_ppca, ppca_em
from ensembletheory.fitting.ppca_em import PpcaParameters, closed_form, start
from tests.fitting.rows import as_rows, holes

EPS = np.finfo(float).eps
step, ascend = eqx.filter_jit(ppca_em.step), eqx.filter_jit(ppca_em.ascend)


def draw(seed, n=60, d=4, q=2, noise=0.5):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, q)) @ rng.normal(size=(q, d)) * 2 + noise * rng.normal(size=(n, d)) + rng.normal(size=d)[None, :]


def parameters_of(seed, d=4, q=2):
    rng = np.random.default_rng(seed)
    return PpcaParameters(jnp.asarray(rng.normal(size=(d, q))), jnp.asarray(rng.normal(size=d)), jnp.asarray(0.7))


def cov_of(model):
    return np.asarray(model.loadings @ model.loadings.T) + float(model.noise_variance) * np.eye(model.mean.size)


def loop_log_likelihood(model, X, weights):
    """Row by row with scipy.stats, per unit of weight."""
    C, total = cov_of(model), 0.0
    for x, w in zip(X, weights, strict=True):
        o = ~np.isnan(x)
        total += w * stats.multivariate_normal.logpdf(x[o], model.mean[o], C[np.ix_(o, o)])
    return total / weights.sum()


def test_closed_form_reaches_the_value_of_tipping_and_bishop():
    X, q, d = draw(0), 2, 4
    model = fit_ppca(X.tolist(), q)
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    s2 = eigenvalues[q:].mean()
    value = -0.5 * (d * np.log(2 * np.pi) + np.log(eigenvalues[:q]).sum() + (d - q) * np.log(s2) + d)
    assert float(model.noise_variance) == pytest.approx(s2, rel=1e-12)
    assert loop_log_likelihood(model, X, np.ones(60)) == pytest.approx(value, rel=1e-12)
    assert float(closed_form(jnp.asarray(X), jnp.ones(60), q)[1]) == pytest.approx(value, rel=1e-12)


def test_one_less_than_d_latent_dimensions_give_the_full_gaussian():
    X = draw(1)
    np.testing.assert_allclose(fit_ppca(X, 3).law.cov, np.cov(X.T, bias=True), rtol=1e-11)


def test_nothing_nearby_is_more_likely():
    X, rng = draw(2), np.random.default_rng(3)
    model = fit_ppca(X, 2)
    best = loop_log_likelihood(model, X, np.ones(60))
    for _ in range(20):
        nearby = PpcaParameters(model.loadings + 1e-2 * rng.normal(size=(4, 2)), model.mean + 1e-2 * rng.normal(size=4), model.noise_variance * np.exp(1e-2 * rng.normal()))
        assert loop_log_likelihood(nearby, X, np.ones(60)) < best


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_objective_is_the_observed_data_log_likelihood(share):
    X, weights, parameters = holes(4, draw(5), share), np.random.default_rng(6).integers(0, 4, 60).astype(float), parameters_of(7)
    # Sums of 60 terms of size 10 to 100: rounding below 1e-12.
    assert float(step(parameters, as_rows(X, weights))[0]) == pytest.approx(loop_log_likelihood(parameters, X, weights), rel=1e-12)


def test_em_on_complete_rows_converges_to_the_closed_form():
    X = draw(8)
    exact, value = closed_form(jnp.asarray(X), jnp.ones(60), 2)
    end = ascend(parameters_of(9), as_rows(X), jnp.asarray(1e-15), jnp.asarray(5000))
    # The last step gains less than 1e-15 (1 + |l|), l = -7, and steps shrink by a few per cent: 1e-12 is left, and parameters are off by its root times their spread, 10.
    assert float(end.objective) == pytest.approx(float(value), abs=1e-12)
    np.testing.assert_allclose(end.parameters.mean, exact.mean, atol=1e-5)
    np.testing.assert_allclose(cov_of(end.parameters), cov_of(exact), atol=1e-5)


@given(seed=st.integers(0, 2**16), share=st.floats(0.1, 0.6), noise=st.floats(0.05, 3))
def test_no_step_lowers_the_likelihood(seed, share, noise):
    rows = as_rows(holes(seed, draw(seed, n=30, noise=noise), share), np.random.default_rng(seed).integers(1, 4, 30) + 0.0)
    path = objectives(rows)
    assert np.all(np.diff(path) >= -100 * EPS * (1 + np.abs(path[1:])))
    assert path[-1] > path[0]


@jax.jit
def objectives(rows):
    def body(parameters, _):
        objective, following = ppca_em.step(parameters, rows)
        return following, objective

    return jax.lax.scan(body, start(rows, 2), length=20)[1]


def masked_log_likelihood(free, X):
    """In (loadings, mean, log variance), mask by mask with explicit inverses, per row."""
    W, mean, log_s2 = free
    C = W @ W.T + jnp.exp(log_s2) * jnp.eye(len(mean))
    seen, total = ~np.isnan(X), 0.0
    for mask in np.unique(seen, axis=0):
        block, o = jnp.asarray(X[(seen == mask).all(axis=1)][:, mask]), np.flatnonzero(mask)
        part, gaps = C[o][:, o], block - mean[None, o]
        total -= 0.5 * (jnp.sum(gaps @ jnp.linalg.inv(part) * gaps) + len(block) * jnp.linalg.slogdet(2 * np.pi * part)[1])
    return total / len(X)


def test_converged_fit_is_a_stationary_point():
    X = holes(10, draw(11), 0.25)
    model = fit_ppca(X, 2, tolerance=1e-15)
    gradient = jax.jit(jax.grad(lambda free: masked_log_likelihood(free, X)))((model.loadings, model.mean, jnp.log(model.noise_variance)))
    # A step gains at least half of g^T A g, with A the inverse information of complete data, of order s2 or more: |g| < sqrt(2 * 1e-15 * 8 / 0.1) < 1e-6.
    assert max(float(jnp.max(jnp.abs(g))) for g in gradient) < 1e-6


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_weight_counts_copies(share):
    X, counts = holes(12, draw(13), share), np.random.default_rng(14).permutation(np.repeat([0, 1, 2], 20))
    weighted, repeated = fit_ppca(X, 2, weights=counts, tolerance=1e-12), fit_ppca(np.repeat(X, counts, axis=0), 2, tolerance=1e-12)
    np.testing.assert_allclose(weighted.mean, repeated.mean, rtol=1e-8)
    np.testing.assert_allclose(weighted.law.cov, repeated.law.cov, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_order_shift_rotation_and_scale(share):
    X, shift = holes(15, draw(16), share), np.array([1e3, 0.0, -5.0, 2.0])
    moved = np.random.default_rng(17).permutation(X)[:, ::-1] * 1e-3 + shift[None, :]
    model, image = fit_ppca(X, 2), fit_ppca(moved, 2)
    # The shift by 1e6 spreads of the column costs six digits of the input.
    np.testing.assert_allclose(image.mean, model.mean[::-1] * 1e-3 + shift, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(image.law.cov, model.law.cov[::-1, ::-1] * 1e-6, rtol=1e-6, atol=1e-13)


def test_a_constant_column_is_admitted():
    X = np.hstack([draw(18, d=3), np.full((60, 1), 0.1)])
    np.testing.assert_allclose(fit_ppca(X, 2).law.mean, X.mean(axis=0), rtol=1e-12)


def test_a_fit_that_still_climbs_is_reported():
    with pytest.warns(NotConverged, match="a PPCA of 2 latent dimensions: 1 of 1 fits still climbed after 2 iterations"):
        fit_ppca(holes(19, draw(20)), 2, max_iterations=2)


@pytest.mark.parametrize(
    ("X", "q", "message"),
    [
        (draw(21), 0, "`q`: got 0; expected a whole number >= 1"),
        (draw(21), 4, "`q`: got 4; expected at most 3, one less than the 4 columns"),
        (draw(21)[:, :1], 1, "`q`: got 1; expected at most 0"),
        (np.ones((5, 3)), 1, "`X`: got constant columns only"),
        (draw(21, noise=0.0), 2, "`X`: got rows in an affine space of 2 dimensions .* Fit fewer latent dimensions, or more rows"),
        (draw(21)[:3], 2, "`X`: got rows in an affine space of 2 dimensions"),
        (np.array([[1.0, np.nan], [2.0, np.nan]]), 1, r"`X`: got 1 columns without any \(index 1\)"),
        (np.array([[1.0, -np.inf], [2.0, 1.0]]), 1, "`X`: got 1 infinite values"),
    ],
)
def test_bad_input_is_refused_by_name(X, q, message):
    with pytest.raises(ValueError, match=message):
        fit_ppca(X, q)
