"""EM for mixtures of PPCA against a slow EM in NumPy, iterate by iterate, row by row and with the moments of missing values written out."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ensembletheory.fitting import NotConverged, fit_ppca, fit_ppca_mixture, mixture_em
from ensembletheory.fitting.mixture_em import MixtureParameters
from ensembletheory.fitting.ppca_mixtures import nearest_ppca
from ensembletheory.fitting.rows import blocks
from tests.fitting.rows import as_rows, holes
from tests.helpers import spd

EPS = np.finfo(float).eps
step = eqx.filter_jit(partial(mixture_em.step, nearest=partial(nearest_ppca, q=1)))


def draw(seed, n=60, d=3, gap=4.0):
    """Two lines in different directions, and noise."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(2, d)) * 2
    labels = np.arange(n) % 2
    return rng.normal(size=(n, 1)) * directions[labels] + 0.4 * rng.normal(size=(n, d)) + gap * labels[:, None]


def projected(T, q):
    eigenvalues, U = np.linalg.eigh(T)
    s2 = eigenvalues[:-q].mean()
    return (U[:, -q:] * (eigenvalues[-q:] - s2)) @ U[:, -q:].T + s2 * np.eye(len(T))


def begin(seed, q=1, d=3):
    rng = np.random.default_rng(seed)
    return MixtureParameters(jnp.asarray([0.3, 0.7]), jnp.asarray(rng.normal(size=(2, d)) * 2), jnp.asarray([projected(spd(rng, d, 0.5, 5), q) for _ in range(2)]))


def slow_step(pi, means, covs, X, weights, ridge, q):
    """One EM step, and the penalised observed-data log-likelihood per unit of weight before it."""
    (K, d), objective = means.shape, 0.0
    mass, first, second = np.zeros(K), np.zeros((K, d)), np.zeros((K, d, d))
    for x, w in zip(X, weights, strict=True):
        o, u = ~np.isnan(x), np.isnan(x)
        joint = np.array([np.log(pi[k]) + stats.multivariate_normal.logpdf(x[o], means[k][o], covs[k][np.ix_(o, o)]) for k in range(K)])
        objective += w * np.logaddexp.reduce(joint)
        for k, r in enumerate(w * np.exp(joint - np.logaddexp.reduce(joint))):
            regression = covs[k][np.ix_(u, o)] @ np.linalg.inv(covs[k][np.ix_(o, o)])
            filled, spread = np.where(o, x, 0.0), np.zeros((d, d))
            filled[u] = means[k][u] + regression @ (x[o] - means[k][o])
            spread[np.ix_(u, u)] = covs[k][np.ix_(u, u)] - regression @ covs[k][np.ix_(o, u)]
            mass[k] += r
            first[k] += r * filled
            second[k] += r * (np.outer(filled, filled) + spread)
    new_means = first / mass[:, None]
    T = [second[k] / mass[k] - np.outer(new_means[k], new_means[k]) + ridge * weights.sum() / mass[k] * np.eye(d) for k in range(K)]
    penalty = -ridge / 2 * sum(np.trace(np.linalg.inv(C)) for C in covs)
    return objective / weights.sum() + penalty, mass / weights.sum(), new_means, np.array([projected(t, q) for t in T])


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_steps_are_those_of_the_slow_em(share):
    X, weights, fast = holes(1, draw(0), share), np.random.default_rng(2).integers(0, 4, 60).astype(float), begin(3)
    slow, cut = (np.asarray(fast.weights), np.asarray(fast.means), np.asarray(fast.covs)), blocks(as_rows(X, weights), 60)
    for _ in range(8):
        value, fast = step(fast, cut, jnp.asarray(0.01))
        objective, *slow = slow_step(*slow, X, weights, 0.01, 1)
        assert float(value) == pytest.approx(objective, rel=1e-10)
    for found, expected in zip((fast.weights, fast.means, fast.covs), slow, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)  # eight steps of an EM that expands rounding errors a few times each


@given(seed=st.integers(0, 2**16), q=st.integers(1, 3))
def test_the_projection_maximises_the_expected_likelihood_over_ppcas(seed, q):
    rng = np.random.default_rng(seed)
    T = spd(rng, 4)
    objective = lambda C: -np.linalg.slogdet(C)[1] - np.trace(np.linalg.solve(C, T))  # noqa: E731
    best = objective(projected(T, q))
    for _ in range(5):
        loadings = np.linalg.cholesky(projected(T, q))[:, :q] * rng.normal() + 0.5 * rng.normal(size=(4, q))
        assert objective(loadings @ loadings.T + np.exp(rng.normal()) * np.eye(4)) <= best + 1e-12


@settings(max_examples=12)
@given(seed=st.integers(0, 2**16), share=st.sampled_from([0.0, 0.4]))
def test_no_step_lowers_the_penalised_likelihood(seed, share):
    cut, parameters, path = blocks(as_rows(holes(seed, draw(seed), share), np.random.default_rng(seed).integers(1, 4, 60) + 0.0), 60), begin(seed), []
    for _ in range(10):
        value, parameters = step(parameters, cut, jnp.asarray(1e-3))
        path.append(float(value))
    assert np.all(np.diff(path) >= -100 * EPS * (1 + np.abs(path[1:])))
    assert path[-1] > path[0]


def test_recovers_two_lines_and_is_stationary():
    X = draw(4)
    model = fit_ppca_mixture(jax.random.key(0), X.tolist(), 2, 1, tolerance=1e-13, ridge=0.0)
    labels = np.argmax(model.responsibilities(X), axis=1)
    assert np.mean(labels == np.arange(60) % 2) in (0.0, 1.0)
    covs = np.asarray(model.law.covs)
    objective, pi, means, again = slow_step(np.asarray(model.weights), np.asarray(model.means), covs, X, np.ones(60), 0.0, 1)
    assert objective == pytest.approx(float(np.mean(model.log_prob(X))), rel=1e-12)
    np.testing.assert_allclose(pi, model.weights, atol=1e-6)
    np.testing.assert_allclose(means, model.means, atol=1e-5)
    np.testing.assert_allclose(again, covs, atol=1e-5)


def test_one_component_without_ridge_is_the_closed_form():
    X = draw(5)
    model, exact = fit_ppca_mixture(jax.random.key(1), X, 1, 1, ridge=0.0), fit_ppca(X, 1)
    np.testing.assert_allclose(model.means[0], exact.mean, atol=1e-12)
    np.testing.assert_allclose(model.law.cov, exact.law.cov, rtol=1e-10)


def test_a_rotated_and_rescaled_table_gives_the_rotated_and_rescaled_mixture():
    X, Q = draw(6), np.linalg.qr(np.random.default_rng(7).normal(size=(3, 3)))[0]
    model, image = fit_ppca_mixture(jax.random.key(2), X, 2, 1), fit_ppca_mixture(jax.random.key(2), 1e3 * X @ Q.T + 5.0, 2, 1)
    np.testing.assert_allclose(image.means, 1e3 * np.asarray(model.means) @ Q.T + 5.0, rtol=1e-6)
    np.testing.assert_allclose(image.law.covs, 1e6 * Q @ np.asarray(model.law.covs) @ Q.T, rtol=1e-5, atol=1e-2)


def test_a_fit_that_still_climbs_is_reported():
    with pytest.warns(NotConverged, match="a mixture of 2 PPCAs: 1 of 1 fits still climbed after 1 iterations"):
        fit_ppca_mixture(jax.random.key(0), draw(8), 2, 1, max_iterations=1)


@pytest.mark.parametrize(
    ("X", "K", "q", "message"),
    [
        (draw(9), 0, 1, "`K`: got 0; expected a whole number >= 1"),
        (draw(9), 2, 3, "`q`: got 3; expected at most 2"),
        (draw(9)[:2], 3, 1, "`K`: got 3 components for 2 distinct rows"),
        (np.ones((5, 3)), 2, 1, "`X`: got constant columns only"),
    ],
)
def test_bad_input_is_refused_by_name(X, K, q, message):
    with pytest.raises(ValueError, match=message):
        fit_ppca_mixture(jax.random.key(0), X, K, q)
