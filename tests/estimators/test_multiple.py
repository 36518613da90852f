"""Imputers that pool fits or draw parameters: scikit-learn's checks, units of the data, and the spread that proper copies have."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from ensembletheory.estimators import PooledImputer, ProperImputer

RNG = np.random.default_rng(2)
COMPLETE = RNG.multivariate_normal([0.0, 1.0], [[1.0, 0.7], [0.7, 1.0]], size=20) * [1.0, 50.0] + [0.0, 300.0]
X = np.where((np.arange(20)[:, None] >= 11) & (np.arange(2) == 1), np.nan, COMPLETE)  # monotone: posterior draws need no sweeps
EXPECTED_FAILED_CHECKS: dict[str, str] = {}


@pytest.mark.verify
@pytest.mark.parametrize("imputer", [PooledImputer(2, random_state=0), ProperImputer(random_state=0, burn_in=5, spacing=2)])
def test_the_checks_of_scikit_learn_pass(imputer):
    results = check_estimator(clone(imputer), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {"check_array_api_input", "check_sample_weights_pandas_series"}


def test_copies_with_drawn_parameters_differ_by_more_than_those_of_one_estimate():
    """The variance between means of copies is the B of Rubin's rules."""
    spread = {}
    for parameters in ("posterior", "fixed"):
        copies = ProperImputer(parameters, random_state=1).fit(X).sample(60)
        assert copies.shape == (60, 20, 2)
        np.testing.assert_array_equal(copies[:, ~np.isnan(X)], np.broadcast_to(X[~np.isnan(X)], (60, 31)))
        spread[parameters] = copies[:, :, 1].mean(axis=1).var(ddof=1)
    assert spread["posterior"] > 1.2 * spread["fixed"]


def test_a_pool_of_posterior_draws_imputes_in_the_units_of_the_data():
    pool = PooledImputer(3, fits="posterior", rule="conditionals", random_state=0).fit(X)
    completed = pool.transform(X)
    units, members = pool.model_, pool.model_.model
    Z = (X - units.location) / units.scale
    guesses = [float(law.mean[1]) + float(law.cov[0, 1] / law.cov[0, 0]) * (Z[11:, 0] - float(law.mean[0])) for law in members]
    np.testing.assert_allclose(completed[11:, 1], np.mean(guesses, axis=0) * units.scale[1] + units.location[1], rtol=1e-9)
    np.testing.assert_array_equal(completed[:11], X[:11])
    np.testing.assert_array_equal(pool.sample(2), pool.sample(2))


@pytest.mark.parametrize("imputer", [PooledImputer(2, rule="mean_score", random_state=0), ProperImputer("bootstrap", random_state=0)], ids=["mean_score", "bootstrap"])
def test_every_source_of_models_completes_the_table(imputer):
    fitted = imputer.fit(X)
    copies = fitted.sample(2)
    assert np.isfinite(copies).all()
    assert np.isfinite(fitted.transform(X)).all()
    np.testing.assert_array_equal(copies[:, ~np.isnan(X)], np.broadcast_to(X[~np.isnan(X)], (2, 31)))
    assert np.ptp(copies[:, 11:, 1], axis=0).min() > 0


def test_members_may_have_latents():
    completed = PooledImputer(1, n_latent=1, random_state=0).fit(X)
    law, units = completed.model_.model[0].law, completed.model_
    mean, cov = np.asarray(law.mean), np.asarray(law.cov)
    Z = (X[11:, 0] - units.location[0]) / units.scale[0]
    guess = mean[1] + cov[0, 1] / cov[0, 0] * (Z - mean[0])
    np.testing.assert_allclose(completed.transform(X)[11:, 1], guess * units.scale[1] + units.location[1], rtol=1e-8)


@pytest.mark.verify
def test_members_fitted_to_resamples_of_a_small_table_beat_the_means_of_columns():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(120, 3)) @ rng.normal(size=(3, 13)) + 0.7 * rng.normal(size=(120, 13))
    holed = np.where(rng.random(rows.shape) < 0.3, np.nan, rows)
    holes, means = np.isnan(holed), np.broadcast_to(np.nanmean(holed, axis=0), holed.shape)
    completed = PooledImputer(1, tolerance=1e-4, random_state=0).fit(holed).transform(holed)
    assert np.mean((completed - rows)[holes] ** 2) < np.mean((means - rows)[holes] ** 2)


@pytest.mark.parametrize(
    ("imputer", "message"),
    [(PooledImputer(rule="mean"), "`rule`: got 'mean'"), (PooledImputer(fits="mle"), "`fits`: got 'mle'"), (ProperImputer("mle"), "`parameters`: got 'mle'")],
)
def test_bad_parameters_are_refused(imputer, message):
    with pytest.raises(ValueError, match=message):
        imputer.fit(X)
