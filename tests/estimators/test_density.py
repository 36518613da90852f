"""The scikit-learn face: its own checks, log-densities of rows with holes against SciPy, and agreement with the functions it wraps."""

import importlib
import pickle
import sys

import jax
import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import ensembletheory as et
from ensembletheory.estimators import GaussianMixtureDensity, PpcaDensity, PpcaMixtureDensity
from tests.fitting.rows import holes
from tests.helpers import assert_mean

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 1)) * [[2.0, -1.0, 0.5]] + 0.5 * RNG.normal(size=(40, 3)) + 3.0 * (np.arange(40) % 2)[:, None]
ESTIMATORS = {
    "ppca": PpcaDensity(1, random_state=0),
    "mixture": GaussianMixtureDensity(2, starts=2, random_state=0),
    "ppca mixture": PpcaMixtureDensity(2, 1, starts=2, random_state=0),
}
EXPECTED_FAILED_CHECKS: dict[str, str] = {}  # scikit-learn's checks that do not apply, with reasons: none


@pytest.fixture(scope="module", params=ESTIMATORS)
def fitted(request):
    return clone(ESTIMATORS[request.param]).fit(X)


@pytest.mark.parametrize("name", ["ppca", *(pytest.param(name, marks=pytest.mark.verify) for name in ("mixture", "ppca mixture"))])
def test_the_checks_of_scikit_learn_pass(name):
    results = check_estimator(clone(ESTIMATORS[name]), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_skip=None)
    assert sum(result["status"] == "passed" for result in results) >= 45
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {"check_sample_weights_pandas_series", "check_array_api_input"}  # need pandas


def components(model):
    """Weights, means and covariances."""
    if isinstance(model, et.Ppca):
        return [1.0], np.asarray(model.mean)[None], np.asarray(model.loadings @ model.loadings.T + model.noise_variance * np.eye(3))[None]
    law = model.law if isinstance(model, et.PpcaMixture) else model
    return law.weights, np.asarray(law.means), np.asarray(law.covs)


def log_density(model, x):
    o = ~np.isnan(x)
    parts = [np.log(w) + stats.multivariate_normal.logpdf(x[o], m[o], C[np.ix_(o, o)]) for w, m, C in zip(*components(model), strict=True)]
    return np.logaddexp.reduce(parts)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_log_densities_are_those_of_the_observed_coordinates(fitted, share):
    rows = holes(1, X, share)
    expected = [log_density(fitted.model_, x) for x in rows]
    found = fitted.score_samples(rows)
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert fitted.score(rows) == pytest.approx(np.mean(expected))
    np.testing.assert_allclose(fitted.score_samples(rows[:7]), expected[:7], rtol=1e-10)  # whatever rows are filled up with


def test_samples_come_from_the_fitted_law_and_repeat(fitted):
    weights, means, _ = components(fitted.model_)
    draws = fitted.sample(20_000)
    assert_mean(draws, np.asarray(weights) @ means)
    np.testing.assert_array_equal(fitted.sample(5), fitted.sample(5))
    assert not np.array_equal(fitted.sample(5), fitted.sample(5, random_state=1))


def test_the_fit_is_that_of_the_package():
    key = jax.random.key(np.random.RandomState(3).randint(np.iinfo(np.int32).max))
    law = et.fit_mixture(key, X, 2, starts=2)
    density = clone(ESTIMATORS["mixture"]).set_params(random_state=3).fit(X)
    assert density.score(X) == pytest.approx(float(np.mean(law.log_prob(X))), rel=1e-7)  # EM stops when an iteration gains less than 1.5e-8
    with_holes = holes(2, X)
    model = PpcaDensity(1).fit(with_holes).model_
    np.testing.assert_allclose(model.law.cov, et.fit_ppca(with_holes, 1).law.cov, rtol=1e-9)


def test_a_sample_weight_counts_copies():
    counts = np.arange(40) % 3
    weighted, repeated = PpcaDensity(1).fit(X, sample_weight=counts), PpcaDensity(1).fit(np.repeat(X, counts, axis=0))
    np.testing.assert_allclose(weighted.score_samples(X), repeated.score_samples(X), rtol=1e-9)


def test_works_inside_a_pipeline_and_a_grid_search(fitted):
    assert np.isfinite(make_pipeline(StandardScaler(), PpcaDensity(1)).fit(X).score(X))
    search = GridSearchCV(PpcaDensity(), {"n_latent": [1, 2]}, cv=4).fit(X)
    assert search.best_params_["n_latent"] in (1, 2)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.score_samples(X), fitted.score_samples(X))
    assert clone(fitted).get_params() == fitted.get_params()
    assert fitted.n_features_in_ == 3


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: PpcaDensity().score_samples(X), NotFittedError, "not fitted"),
        (lambda: PpcaDensity(1).fit(X).score_samples(X[:, :2]), ValueError, "X has 2 features"),
        (lambda: PpcaDensity(1).fit(X).score_samples(np.full((2, 3), np.nan)), ValueError, "`X`: got 2 rows wholly missing"),
        (lambda: PpcaDensity(3).fit(X), ValueError, "a minimum of 4 is required"),
        (lambda: PpcaDensity(1).fit(X[:1]), ValueError, "a minimum of 2 is required"),
        (lambda: GaussianMixtureDensity(0).fit(X), ValueError, "`K`: got 0"),
        (lambda: PpcaMixtureDensity(2, 1).fit(np.where(X > 4, np.inf, X)), ValueError, "infinity"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "ensembletheory.estimators")
    with pytest.raises(ImportError, match=r"scikit-learn, which comes with an extra: pip install 'ensembletheory\[data\]'"):
        importlib.import_module("ensembletheory.estimators")
