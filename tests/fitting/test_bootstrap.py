import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ensembletheory.fitting import NotConverged, bootstrap, bootstrap_mixtures, bootstrap_ppcas, fit_ppca, mixture_em
from ensembletheory.fitting.bootstrap import bootstrap_counts
from ensembletheory.fitting.mixtures import as_law
from ensembletheory.fitting.rows import Rows, read_table

N = 40


def clusters(seed):
    """Two clusters, 50 standard deviations apart, of 15 and 25 rows."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, 2)) @ np.array([[1.0, 0.0], [0.6, 0.5]]) + np.where(np.arange(N) < 15, 0.0, 50.0)[:, None]


def holes(seed, X, share=0.2):
    rng = np.random.default_rng(seed)
    mask = rng.random(X.shape) < share
    mask[np.arange(len(X)), rng.integers(X.shape[1], size=len(X))] = False
    return np.where(mask, np.nan, X)


def counts_of(key, members):
    """The resamples of mixtures: the first half of the key draws them."""
    return np.asarray(bootstrap_counts(jax.random.split(key)[0], N, members))


def test_counts_are_multinomial():
    members, n = 4000, 20
    counts = np.asarray(bootstrap_counts(jax.random.key(0), n, members))
    assert np.all(counts.sum(axis=1) == n)
    # Binomial(n, 1/n): mean 1, P(0) = (1 - 1/n)^n; 20 columns and two statistics at 5 standard errors: error level 40 * 6e-7.
    np.testing.assert_array_less(np.abs(counts.mean(axis=0) - 1), 5 * np.sqrt((1 - 1 / n) / members))
    absent = (1 - 1 / n) ** n
    np.testing.assert_array_less(np.abs((counts == 0).mean(axis=0) - absent), 5 * np.sqrt(absent * (1 - absent) / members))


def test_mixtures_of_resampled_clusters():
    key, X, ridge = jax.random.key(1), clusters(0), 1e-4
    members = bootstrap_mixtures(key, X, 2, 3, ridge=ridge)
    for law, counts in zip(members, counts_of(key, 3).astype(int), strict=True):
        resample = np.repeat(X, counts, axis=0)
        parts = resample[resample[:, 0] < 25], resample[resample[:, 0] > 25]
        for k, part in zip(np.argsort(np.asarray(law.means)[:, 0]), parts, strict=True):
            expected = np.cov(part.T, bias=True) + ridge * N / len(part) * np.diag(X.var(axis=0))
            # Responsibilities are 0 or 1 up to exp(-500).
            np.testing.assert_allclose(law.weights[k], len(part) / N, rtol=1e-12)
            np.testing.assert_allclose(law.means[k], part.mean(axis=0), rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(law.covs[k], expected, rtol=1e-8, atol=1e-9)
    assert len({float(law.means[0, 0]) for law in members}) == 3


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_members_fitted_at_once_equal_members_fitted_one_by_one(share):
    key, X = jax.random.key(2), holes(3, clusters(4) + np.random.default_rng(5).normal(size=(N, 2)) * 20, share)
    members = bootstrap_mixtures(key, X, 2, 3, ridge=1e-3, tolerance=1e-9)
    table = read_table(X, None)
    rows = table.rows(table.location(), table.scale())
    alone = jax.jit(lambda key, w: mixture_em.fit(key, Rows(rows.values, rows.observed, w), 2, 4, jnp.asarray(1e-3), jnp.asarray(1e-9), jnp.asarray(5000)))
    for law, key_fit, counts in zip(members, jax.random.split(jax.random.split(key)[1], 3), counts_of(key, 3), strict=True):
        single = as_law(alone(key_fit, jnp.asarray(counts)).parameters, table.location(), table.scale())
        # Two programs for the same arithmetic: rounding, amplified by a hundred iterations.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), law, single)


@pytest.mark.parametrize("share", [0.0, 0.15])
def test_ppcas_of_resamples(share):
    rng = np.random.default_rng(6)
    key, X = jax.random.key(3), holes(7, rng.normal(size=(N, 1)) @ np.ones((1, 3)) * 3 + rng.normal(size=(N, 3)), share)
    members = bootstrap_ppcas(key, X, 1, 3, tolerance=1e-13)
    for model, counts in zip(members, np.asarray(bootstrap_counts(key, N, 3)).astype(int), strict=True):
        alone = fit_ppca(np.repeat(X, counts, axis=0), 1, tolerance=1e-13)
        # Same maximum, other units and other starts: the root of the last gain (1e-13) in units of the spread.
        tolerance = 1e-10 if share == 0 else 2e-5
        np.testing.assert_allclose(model.mean, alone.mean, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(model.law.cov, alone.law.cov, rtol=tolerance, atol=tolerance)


def test_all_members_come_from_one_compiled_call(monkeypatch):
    calls = []
    for name in ("_fit_mixtures", "_fit_ppcas"):
        fit = getattr(bootstrap, name)
        monkeypatch.setattr(bootstrap, name, lambda *arguments, fit=fit: (calls.append(fit), fit(*arguments))[1])
    assert len(bootstrap_mixtures(jax.random.key(4), clusters(8), 2, 3)) == 3
    assert len(bootstrap_ppcas(jax.random.key(5), clusters(8), 1, 3)) == 3
    assert len(calls) == 2


def test_members_that_still_climb_are_counted():
    with pytest.warns(NotConverged, match="mixtures of 2 components: 3 of 3 fits still climbed after 1 iterations"):
        bootstrap_mixtures(jax.random.key(6), clusters(9), 2, 3, max_iterations=1)


def test_bad_input_is_refused_by_name():
    rare = np.column_stack([np.arange(20.0), np.where(np.arange(20) == 0, 1.0, np.nan)])
    key = jax.random.key(7)
    with pytest.raises(ValueError, match="`members`: got 0; expected a whole number >= 1"):
        bootstrap_mixtures(key, clusters(10), 2, 0)
    with pytest.raises(ValueError, match="`members`: got -1"):
        bootstrap_ppcas(key, clusters(10), 1, -1)
    with pytest.raises(ValueError, match=r"`K`: got 5 components for \d distinct rows of a resample"):
        bootstrap_mixtures(key, np.arange(5.0)[:, None], 5, 3)
    with pytest.raises(ValueError, match="`X`: got column 1 without any observed value in resample"):
        bootstrap_ppcas(key, rare, 1, 10)
    with pytest.raises(ValueError, match="`q`: got 2; expected at most 1"):
        bootstrap_ppcas(key, clusters(10), 2, 3)
    with pytest.raises(ValueError, match="`X`: got 1 constant columns"):
        bootstrap_mixtures(key, clusters(10) * np.array([[1.0, 0.0]]), 2, 3)
