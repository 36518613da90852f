"""Rows as laws: what resampling does to their weights, against the multinomial and hypergeometric laws."""

import jax
import numpy as np
import pytest

from ensembletheory.laws import FiniteLaw, Gaussian
from ensembletheory.neural import (
    CouplingFlow,
    CouplingFlowLearner,
    FlowMatchingLearner,
    KacLearner,
    ScoreLearner,
    ScoreNetwork,
    Vae,
    VaeLearner,
    VelocityNetwork,
    as_data,
    fit,
    fit_ensemble,
)
from ensembletheory.neural.data import bootstrap_sample, scale_of, subset_sample
from ensembletheory.processes import LinearInterpolant, Telegraph, VariancePreserving
from tests.helpers import assert_mean

ROWS = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.3], [-1.0, 4.0], [0.2, 0.1]])
KEYS = jax.random.split(jax.random.key(0), 2000)


def test_rows_are_the_law_that_gives_each_the_same_weight():
    law = as_data(ROWS)
    np.testing.assert_array_equal(law.points, ROWS)
    np.testing.assert_allclose(law.weights, 0.2, rtol=1e-15)
    assert as_data(law) is law


def test_a_bootstrap_sample_weighs_rows_by_multinomial_counts():
    """Of n draws with probabilities p: means n p, covariances n (diag p - p p^T), also of weights that are not equal."""
    p = np.array([0.1, 0.4, 0.2, 0.05, 0.25])
    drawn = jax.jit(jax.vmap(lambda key: bootstrap_sample(key, FiniteLaw(ROWS, p)).weights))(KEYS)
    counts = 5 * np.asarray(drawn)
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-12)
    np.testing.assert_allclose(counts.sum(axis=1), 5, rtol=1e-12)
    assert_mean(counts, 5 * p)
    centred = counts - 5 * p
    assert_mean(centred[:, :, None] * centred[:, None, :], 5 * (np.diag(p) - np.outer(p, p)))


def test_a_subset_holds_each_row_equally_often_and_never_twice():
    """m of n rows: probability m/n each, m (m - 1) / (n (n - 1)) for two."""
    weights = np.asarray(jax.jit(jax.vmap(lambda key: subset_sample(key, FiniteLaw(ROWS), 0.6).weights))(KEYS))
    held = weights > 0
    np.testing.assert_allclose(weights[held], 1 / 3, rtol=1e-15)
    assert np.all(held.sum(axis=1) == 3)
    assert_mean(held.astype(float), np.full(5, 0.6))
    assert_mean((held[:, 0] & held[:, 1]).astype(float), 0.3)


def test_a_whole_subset_is_the_data():
    np.testing.assert_allclose(subset_sample(KEYS[0], FiniteLaw(ROWS), 1.0).weights, 0.2, rtol=1e-15)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (ROWS[:1], r"`data`: got shape \(1, 2\); expected \(n, d\) with n >= 2"),
        (ROWS[:, 0], r"`data`: got shape \(5,\)"),
        (np.where(ROWS == 4.0, np.nan, ROWS), "`data`: got 1 NaN or infinite of 10 numbers"),
        (np.hstack([ROWS, np.ones((5, 1))]), r"`data`: got constant columns \[2\]"),
        (np.zeros((0, 2)), r"`data`: got shape \(0, 2\)"),
    ],
)
def test_data_from_which_nothing_is_learned_are_refused(rows, told):
    with pytest.raises(ValueError, match=told):
        as_data(rows)


@pytest.mark.parametrize("share", [0.0, 0.2, 1.2, -1.0, float("nan")])
def test_a_share_that_leaves_no_two_rows_is_refused(share):
    with pytest.raises(ValueError, match=r"`share`: got .* of 5 rows; expected a share in \(0, 1\] that leaves two rows or more"):
        subset_sample(KEYS[0], FiniteLaw(ROWS), share)


def test_the_scale_is_the_root_of_the_variance_per_coordinate():
    p = np.array([0.1, 0.4, 0.2, 0.05, 0.25])
    np.testing.assert_allclose(scale_of(FiniteLaw(ROWS, p)), np.sqrt(np.mean(p @ (ROWS - p @ ROWS) ** 2)), rtol=1e-12)


POINT, FLAT = FiniteLaw(ROWS[[0, 0, 1]], [0.5, 0.5, 0.0]), FiniteLaw(ROWS * [1.0, 0.0])


@pytest.mark.parametrize(
    "build",
    [
        lambda key: ScoreNetwork(key, VariancePreserving(), POINT),
        lambda key: VelocityNetwork(key, LinearInterpolant(), POINT),
        lambda key: Vae(key, POINT, 1),
        lambda key: CouplingFlow(key, FLAT),
        lambda key: CouplingFlowLearner().loss(FLAT),
        lambda key: fit_ensemble(key, ScoreLearner(VariancePreserving()), ROWS[:2], 12, resample="bootstrap"),
        lambda key: fit(key, FlowMatchingLearner(LinearInterpolant()), POINT),
        lambda key: fit(key, KacLearner(Telegraph()), POINT),
        lambda key: fit(key, VaeLearner(1), POINT),
    ],
)
def test_laws_without_the_spread_in_whose_units_a_model_sees_them_are_refused(build):
    with pytest.raises(ValueError, match=r"`law`: got rows whose columns \[(0, )?1\] are constant; expected rows that vary"):
        build(KEYS[0])


def test_a_constant_column_is_no_matter_where_another_varies():
    assert as_data(FLAT) is FLAT
    assert float(scale_of(FLAT)) > 0


def test_a_law_is_data_as_it_is():
    law = Gaussian([0.0], 1.0)
    assert as_data(law) is law
