"""The scikit-learn face of imputers: its own checks, tables of constants and of nothing, and agreement with the exact conditionals."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import ensembletheory as et
from ensembletheory.estimators import GaussianImputer, Imputer, MixtureImputer, PpcaImputer
from tests.fitting.rows import holes
from tests.helpers import assert_mean

RNG = np.random.default_rng(0)
COMPLETE = RNG.normal(size=(40, 1)) * [[2.0, -1.0, 0.5]] + 0.5 * RNG.normal(size=(40, 3)) + 3.0 * (np.arange(40) % 2)[:, None]
X = holes(1, COMPLETE)
IMPUTERS = {"gaussian": GaussianImputer(random_state=0), "mixture": MixtureImputer(2, starts=2, random_state=0), "ppca": PpcaImputer(1, random_state=0)}
NEED_PANDAS = {"check_sample_weights_pandas_series", "check_array_api_input"}  # the checks that are skipped
EXPECTED_FAILED_CHECKS: dict[str, str] = {}  # scikit-learn's checks that do not apply, with reasons: none


class ColumnNormal(Imputer):
    """Imputes independent columns, each normal: NumPy alone."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def _fit(self, key, X):
        return np.nanmean(X, axis=0), np.nanstd(X, axis=0)

    def _mean(self, key, X):
        return np.broadcast_to(self.model_[0], X.shape)

    def _draws(self, key, X, n):
        return self.model_[0] + self.model_[1] * np.asarray(jax.random.normal(key, (n, *X.shape)))


def passes(imputer):
    results = check_estimator(clone(imputer), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_skip=None)
    assert sum(result["status"] == "passed" for result in results) >= 45
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= NEED_PANDAS


def test_the_checks_of_scikit_learn_pass_for_the_base():
    passes(ColumnNormal())


@pytest.mark.verify
@pytest.mark.parametrize("name", IMPUTERS)
def test_the_checks_of_scikit_learn_pass(name):
    passes(IMPUTERS[name])


@pytest.mark.parametrize("name", ["ppca", *(pytest.param(name, marks=pytest.mark.verify) for name in ("gaussian", "mixture"))])
def test_imputations_are_the_exact_conditionals_of_the_fitted_law(name):
    imputer = clone(IMPUTERS[name]).fit(X)
    key = jax.random.key(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    law = {"gaussian": lambda: et.fit_mixture(key, X, 1, starts=1), "mixture": lambda: et.fit_mixture(key, X, 2, starts=2), "ppca": lambda: et.fit_ppca(X, 1)}[name]()
    np.testing.assert_allclose(imputer.transform(X), et.imputation.conditional_mean(law, X), rtol=1e-10)
    np.testing.assert_array_equal(imputer.fit_transform(X), imputer.transform(X))
    draws = imputer.sample(400)
    missing = np.isnan(X)
    assert draws.shape == (400, 40, 3)
    np.testing.assert_array_equal(draws[:, ~missing], np.tile(X[~missing], (400, 1)))
    assert_mean(draws[:, missing], imputer.transform(X)[missing])
    variance = np.asarray(et.imputation.conditional_variance(law, X))[missing]
    assert_mean((draws[:, missing] - imputer.transform(X)[missing]) ** 2, variance)
    np.testing.assert_array_equal(imputer.sample(400), draws)
    assert not np.array_equal(draws, imputer.sample(400, random_state=1))
    assert list(imputer.get_feature_names_out()) == ["x0", "x1", "x2"]


@pytest.mark.verify
def test_works_inside_a_pipeline():
    imputed = make_pipeline(StandardScaler(), IMPUTERS["gaussian"]).fit_transform(X)
    assert np.isfinite(imputed).all()
    error = np.mean((imputed - (COMPLETE - np.nanmean(X, axis=0)) / np.nanstd(X, axis=0))[np.isnan(X)] ** 2)
    assert error < np.mean(((COMPLETE - np.nanmean(X, axis=0)) / np.nanstd(X, axis=0))[np.isnan(X)] ** 2)  # better than the column means


def test_where_nothing_is_drawn_randomness_is_left_as_it_is():
    state = np.random.RandomState(3)
    imputer = PpcaImputer(1, random_state=state).fit(X)
    imputer.transform(X)
    assert state.randint(10**6) == np.random.RandomState(3).randint(10**6)


def columns(kind, values, seen):
    """One column of a table: constant, nearly empty or varying."""
    values = np.full(values.shape, 2.5) if kind == "constant" else values
    seen = np.eye(len(seen), dtype=bool)[0] if kind == "one value" else seen | (np.arange(len(seen)) < 2)
    return np.where(seen, values, np.nan)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.lists(st.sampled_from(["constant", "one value", "varying"]), min_size=1, max_size=4))
def test_every_table_with_a_value_in_each_column_is_imputed(seed, kinds):
    rng = np.random.default_rng(seed)
    table = np.stack([columns(kind, rng.normal(size=6), rng.random(6) < 0.4) for kind in kinds], axis=1)
    imputer = ColumnNormal(random_state=0).fit(table)
    completed, draws, missing = imputer.transform(table), imputer.sample(3), np.isnan(table)
    np.testing.assert_array_equal(completed[~missing], table[~missing])
    assert np.isfinite(draws).all()
    constant = [np.unique(column[~np.isnan(column)]).size == 1 for column in table.T]
    np.testing.assert_array_equal(np.isnan(imputer.constants_), ~np.array(constant))
    assert (imputer.model_ is None) == all(constant)
    for j, column in enumerate(table.T):
        expected = np.nanmean(column) if not constant[j] else column[~np.isnan(column)][0]
        np.testing.assert_array_equal(completed[missing[:, j], j], expected)
        assert (draws[:, missing[:, j], j] == expected).all() == (constant[j] or not missing[:, j].any())
    empty = np.full((1, len(kinds)), np.nan)
    np.testing.assert_allclose(imputer.transform(empty)[0], np.where(constant, imputer.constants_, np.nanmean(table, axis=0)))
    np.testing.assert_array_equal(imputer.transform(completed), completed)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ColumnNormal().transform(X), NotFittedError, "not fitted"),
        (lambda: ColumnNormal().sample(), NotFittedError, "not fitted"),
        (lambda: ColumnNormal().fit(X).transform(X[:, :2]), ValueError, "X has 2 features"),
        (lambda: ColumnNormal().fit(X).sample(0), ValueError, "`n`: got 0"),
        (lambda: ColumnNormal().fit(X[:1]), ValueError, "a minimum of 2 is required"),
        (lambda: ColumnNormal().fit(np.where(np.arange(3) == 1, np.nan, X)), ValueError, r"1 columns wholly missing \(index 1\)"),
        (lambda: ColumnNormal().fit(np.where(X > 4, np.inf, X)), ValueError, "infinity"),
        (lambda: PpcaImputer(3).fit(X), ValueError, "a minimum of 4 is required"),
        (lambda: PpcaImputer(2).fit(np.where(np.arange(3) == 1, 1.0, X)), ValueError, r"`X`: got 2 columns that vary \(index 1 constant\); expected at least 3"),
        (lambda: MixtureImputer(0).fit(X), ValueError, "`K`: got 0"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
