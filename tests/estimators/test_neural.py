"""Imputers that train networks: what is observed is kept, draws repeat, and holes are filled by the model that was trained."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from ensembletheory.estimators.density import as_key
from ensembletheory.estimators.neural import MiwaeImputer, NotMiwaeImputer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 1)) * [[2.0, -1.0, 0.5]] + 0.5 * RNG.normal(size=(40, 3))
TABLE = np.where(RNG.random((40, 3)) < 0.2, np.nan, X)
TABLE[0], TABLE[1] = np.nan, X[1]
SMALL = {"n_latent": 1, "width": 8, "depth": 1, "importance": 3, "batch": 16, "steps": 20, "samples": 16, "random_state": 0}


@pytest.fixture(scope="module")
def fitted():
    return NotMiwaeImputer("self-masking above", decoder_depth=0, **SMALL).fit(TABLE)


def test_what_is_observed_is_kept_and_holes_are_those_of_the_model(fitted):
    completed, seen = fitted.transform(TABLE), ~np.isnan(TABLE)
    np.testing.assert_array_equal(completed[seen], TABLE[seen])
    assert np.isfinite(completed).all()
    padded = np.concatenate([TABLE, np.tile(TABLE[:1], (24, 1))])
    np.testing.assert_allclose(completed, np.asarray(fitted.model_.impute(as_key(0), padded, 16))[:40], rtol=1e-9)


def test_draws_repeat_and_differ(fitted):
    copies = fitted.sample(2)
    assert copies.shape == (2, 40, 3)
    np.testing.assert_array_equal(copies, fitted.sample(2))
    assert np.any(copies[0] != copies[1])
    np.testing.assert_array_equal(copies[:, ~np.isnan(TABLE)], np.tile(TABLE[~np.isnan(TABLE)], (2, 1)))


def test_parameters_reach_the_learner():
    learner = NotMiwaeImputer("agnostic", link="probit", hidden=1, **SMALL | {"n_latent": None}, noise=0.5, standardise=False)._learner(3)
    assert (learner.mechanism, learner.link, learner.hidden) == ("agnostic", "probit", 1)
    rows = learner.miwae
    assert (rows.latent, rows.width, rows.depth, rows.noise, rows.batch, rows.importance, rows.standardise) == (2, 8, 1, 0.5, 16, 3, False)
    assert clone(MiwaeImputer(**SMALL)).get_params() == MiwaeImputer(**SMALL).get_params()


@pytest.mark.parametrize(
    ("imputer", "message"),
    [
        (MiwaeImputer(steps=0), "`steps`: got 0"),
        (MiwaeImputer(4), "`latent`: got 4; expected at most 3"),
        (NotMiwaeImputer("by chance"), "`mechanism`: got 'by chance'"),
    ],
)
def test_bad_parameters_are_refused_by_name(imputer, message):
    with pytest.raises(ValueError, match=message):
        imputer.fit(TABLE)


@pytest.mark.verify  # trains anew in every check
@pytest.mark.parametrize("imputer", [MiwaeImputer(**SMALL), NotMiwaeImputer(**SMALL)], ids=["MIWAE", "not-MIWAE"])
def test_the_checks_of_scikit_learn_pass(imputer):
    results = check_estimator(imputer, on_skip=None)
    assert sum(result["status"] == "passed" for result in results) >= 40
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= {"check_array_api_input"}
