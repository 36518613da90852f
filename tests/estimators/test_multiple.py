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
    units, members = pool.model_
    Z = (X - units.location) / units.scale
    guesses = [float(law.mean[1]) + float(law.cov[0, 1] / law.cov[0, 0]) * (Z[11:, 0] - float(law.mean[0])) for law in members]
    np.testing.assert_allclose(completed[11:, 1], np.mean(guesses, axis=0) * units.scale[1] + units.location[1], rtol=1e-9)
    np.testing.assert_array_equal(completed[:11], X[:11])
    np.testing.assert_array_equal(pool.sample(2), pool.sample(2))


@pytest.mark.parametrize(
    ("imputer", "message"),
    [(PooledImputer(rule="mean"), "`rule`: got 'mean'"), (PooledImputer(fits="mle"), "`fits`: got 'mle'"), (ProperImputer("mle"), "`parameters`: got 'mle'")],
)
def test_bad_parameters_are_refused(imputer, message):
    with pytest.raises(ValueError, match=message):
        imputer.fit(X)
