"""Imputers that sample along paths: what is observed is kept, draws repeat, exact fields give the conditional moments of a Gaussian, and what is refused."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from ensembletheory.estimators import GaussianImputer
from ensembletheory.estimators.diffusion import DiffusionImputer
from ensembletheory.estimators.in_units import InUnits
from ensembletheory.estimators.neural import FlowMatchingImputer, ScoreMatchingImputer
from ensembletheory.laws import standard_normal
from ensembletheory.processes import LinearInterpolant, VariancePreserving
from tests.helpers import assert_mean

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 1)) * [[2.0, -1.0, 0.5]] + 0.5 * RNG.normal(size=(30, 3)) + [3.0, 0.0, -1.0]
TABLE = np.where(RNG.random((30, 3)) < 0.2, np.nan, X)
TABLE[0], TABLE[1] = np.nan, X[1]
SEEN = ~np.isnan(TABLE)
SMALL = {"width": 8, "depth": 1, "batch": 16, "steps": 10, "grid_steps": 4, "draws": 4, "random_state": 0}
IMPUTERS = {
    "conditional": DiffusionImputer(starts=1, steps=16, draws=200, random_state=0),
    "repaint": DiffusionImputer(starts=1, method="repaint", steps=6, resamplings=2, jump=3, draws=200, random_state=0),
    "flow": FlowMatchingImputer(**SMALL),
    "score": ScoreMatchingImputer(**SMALL),
}
EXPECTED_FAILED_CHECKS: dict[str, str] = {}  # scikit-learn's checks that do not apply, with reasons: none
NEED_PANDAS = {"check_sample_weights_pandas_series", "check_array_api_input"}  # the checks that are skipped


@pytest.fixture(scope="module")
def fitted():
    return clone(IMPUTERS["conditional"]).fit(TABLE)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.verify if name != "conditional" else ()) for name in IMPUTERS])  # each compiles a sampler
def test_what_is_observed_is_kept_and_draws_repeat(fitted, name):
    imputer = fitted if name == "conditional" else clone(IMPUTERS[name]).fit(TABLE)
    count = imputer.draws  # as many as `transform` takes: one program
    completed, copies = imputer.transform(TABLE), imputer.sample(count)
    assert completed.shape == (30, 3)
    assert copies.shape == (count, 30, 3)
    np.testing.assert_array_equal(completed[SEEN], TABLE[SEEN])
    np.testing.assert_array_equal(copies[:, SEEN], np.tile(TABLE[SEEN], (count, 1)))
    assert np.isfinite(completed).all()
    assert np.isfinite(copies).all()
    np.testing.assert_array_equal(copies, imputer.sample(count))
    assert (copies[0] != copies[1])[~SEEN].all()
    np.testing.assert_allclose(imputer.transform(TABLE[::-1]), completed[::-1], rtol=1e-9)


def test_along_the_exact_conditional_field_draws_have_the_moments_of_the_gaussian(fitted):
    """Of each row's missing values: means and second moments about them, which NumPy tells from the mean and covariance of `GaussianImputer`."""
    law, copies = GaussianImputer().fit(TABLE).model_, fitted.sample(200)
    mean, cov, found = np.asarray(law.mean), np.asarray(law.cov), fitted.transform(TABLE)
    for i, seen in enumerate(SEEN):
        if not seen.all():
            gain = cov[np.ix_(~seen, seen)] @ np.linalg.inv(cov[np.ix_(seen, seen)])
            expected, left = mean[~seen] + gain @ (TABLE[i, seen] - mean[seen]), cov[np.ix_(~seen, ~seen)] - gain @ cov[np.ix_(seen, ~seen)]
            centred = copies[:, i, ~seen] - expected
            assert_mean(centred, 0.0)
            assert_mean(centred[:, :, None] * centred[:, None, :], left)
            assert (np.abs(found[i, ~seen] - expected) < 5 * np.sqrt(np.diag(left) / 200)).all()


def test_parameters_reach_the_learner_and_the_sampler():
    score, flow = (clone(IMPUTERS[name])._learner() for name in ("score", "flow"))
    found = [(learner.readout, learner.width, learner.depth, learner.batch, learner.start) for learner in (score, flow)]
    assert found == [("score", 8, 1, 16, 1e-3), ("velocity", 8, 1, 16, 0)]
    assert (type(score.process), type(flow.process)) == (VariancePreserving, LinearInterpolant)
    repaint = clone(IMPUTERS["repaint"])
    repaint.model_ = InUnits(standard_normal(3), np.zeros(3), np.ones(3))
    sampler = repaint._sampler()
    assert (sampler.resamplings, sampler.jump, sampler.grid.size) == (2, 3, 7)


@pytest.mark.parametrize(
    ("imputer", "message"),
    [
        (DiffusionImputer(method="inpainting"), "`method`: got 'inpainting'"),
        (DiffusionImputer(starts=1, method="repaint", steps=16, jump=3), "`jump`: got 3 for 16 steps"),
        (DiffusionImputer(draws=0), "`draws`: got 0"),
        (DiffusionImputer(0), "`K`: got 0"),
        (FlowMatchingImputer(steps=0), "`steps`: got 0"),
    ],
)
def test_bad_parameters_are_refused_by_name(imputer, message):
    with pytest.raises(ValueError, match=message):
        imputer.fit(TABLE)


@pytest.mark.verify  # fits, trains and compiles anew in every check
@pytest.mark.parametrize("name", IMPUTERS)
def test_the_checks_of_scikit_learn_pass(name):
    small = {"draws": 4} | ({"steps": 6} if name in ("conditional", "repaint") else {})
    results = check_estimator(clone(IMPUTERS[name]).set_params(**small), expected_failed_checks=EXPECTED_FAILED_CHECKS, on_skip=None)
    assert sum(result["status"] == "passed" for result in results) >= 45
    assert {result["check_name"] for result in results if result["status"] != "passed"} <= NEED_PANDAS
