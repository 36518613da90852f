"""The study against routes of its own: SciPy's densities and quadrature, the data sets as they are shipped, repeated estimates."""

import sys

import jax
import numpy as np
import pytest
from scipy import integrate, special, stats
from sklearn import datasets

from ensembletheory.laws import Gaussian, GaussianMixture
from simulations.density_ensembles import DATASETS, MODELS, continuous_rows, grid, halves, nested_weights, rows_of_gaussians, rows_of_mixtures, simulate, study
from tests.helpers import Z, assert_within_errors

POINTS = np.linspace(-4, 5, 37)
COLUMNS = ("members", "average", "linear", "log", "log_normaliser", "log_normaliser_error")
MIXTURES = [([0.3, 0.7], [-1.0, 1.5], [0.4, 1.1]), ([0.5, 0.5], [-2.0, 1.0], [0.9, 0.5]), ([0.8, 0.2], [0.0, 3.0], [2.0, 0.3]), ([0.1, 0.9], [-3.0, 0.5], [0.2, 1.6])]


def mixture(weights, means, variances):
    return GaussianMixture(weights, np.array(means)[:, None], np.array(variances)[:, None])


def log_density(weights, means, variances):
    return lambda x: special.logsumexp(stats.norm.logpdf(np.asarray(x)[..., None], means, np.sqrt(variances)), b=weights, axis=-1)


def expected_rows(log_densities):
    """(average, linear, log, log Z) for k = 1, 2, 4, with log Z by adaptive quadrature."""
    rows = []
    for k in (1, 2, 4):
        logs = np.array([f(POINTS) for f in log_densities[:k]])
        mass, _ = integrate.quad(lambda x: np.exp(np.mean([f(x) for f in log_densities[:k]])), -30, 30, limit=400, epsabs=1e-12)  # noqa: B023
        average = -logs.mean()
        rows.append((average, -np.log(np.exp(logs).mean(axis=0)).mean(), average + np.log(mass), np.log(mass)))
    return np.array(rows)


def values(rows, *columns):
    return np.array([[row[column] for column in columns] for row in rows])


def test_gaussian_members_agree_with_quadrature():
    moments = [(0.0, 1.0), (1.0, 0.5), (-2.0, 3.0), (0.5, 0.2)]
    rows = rows_of_gaussians([Gaussian([m], [v]) for m, v in moments], POINTS[:, None])
    np.testing.assert_allclose(values(rows, *COLUMNS[1:5]), expected_rows([log_density([1.0], [m], [v]) for m, v in moments]), rtol=1e-9, atol=1e-10)
    assert [row["members"] for row in rows] == [1, 2, 4]
    assert {row["log_normaliser_error"] for row in rows} == {0.0}


def test_mixtures_agree_with_quadrature_within_their_standard_errors():
    expected = expected_rows([log_density(*parameters) for parameters in MIXTURES])
    rows = rows_of_mixtures(jax.random.key(1), [mixture(*parameters) for parameters in MIXTURES], POINTS[:, None], 2000)
    np.testing.assert_allclose(values(rows, "average", "linear"), expected[:, :2], rtol=1e-10)
    log_Z, error = values(rows, "log_normaliser", "log_normaliser_error").T
    assert log_Z[0] == error[0] == 0
    assert (error[1:] < 0.03).all()
    assert_within_errors(log_Z[1:], error[1:], expected[1:, 3])
    np.testing.assert_allclose(values(rows, "log"), values(rows, "average") + log_Z[:, None], rtol=1e-12)


def test_the_standard_error_of_log_z_is_honest():
    truth = expected_rows([log_density(*parameters) for parameters in MIXTURES])[1:, 3]
    members = [mixture(*parameters) for parameters in MIXTURES]
    runs = [rows_of_mixtures(key, members, POINTS[:, None], 2000)[1:] for key in jax.random.split(jax.random.key(2), 120)]
    log_Z, errors = np.moveaxis([values(rows, "log_normaliser", "log_normaliser_error") for rows in runs], 2, 0)
    squares = np.sum(((log_Z - truth[None, :]) / errors) ** 2, axis=0)
    assert (stats.chi2.ppf(1e-5, 120) < squares).all()
    assert (squares < stats.chi2.isf(1e-5, 120)).all()


def test_gaussians_written_as_mixtures_give_the_closed_form():
    rng = np.random.default_rng(5)
    means, roots = rng.normal(size=(4, 5)), np.eye(5) + 0.2 * rng.normal(size=(4, 5, 5))
    covs, held = roots @ roots.swapaxes(1, 2), rng.normal(size=(60, 5))
    exact = rows_of_gaussians([Gaussian(m, S) for m, S in zip(means, covs, strict=True)], held)
    estimated = rows_of_mixtures(jax.random.key(0), [GaussianMixture([1.0], m[None], S[None]) for m, S in zip(means, covs, strict=True)], held, 1000)
    np.testing.assert_allclose(values(estimated, "average", "linear"), values(exact, "average", "linear"), rtol=1e-11)
    log_Z, error = values(estimated, "log_normaliser", "log_normaliser_error")[1:].T
    assert_within_errors(log_Z, error, values(exact, "log_normaliser")[1:, 0], Z)
    np.testing.assert_allclose(values(exact, "log"), values(exact, "average") + values(exact, "log_normaliser"), rtol=1e-11)


def test_copies_of_one_member_gain_nothing():
    for rows in (
        rows_of_gaussians([Gaussian([0.5], [2.0])] * 4, POINTS[:, None]),
        rows_of_mixtures(jax.random.key(0), [mixture(*MIXTURES[0])] * 4, POINTS[:, None], 2000),
    ):
        average, linear, log, log_Z = values(rows, *COLUMNS[1:5]).T
        for other in (linear, log, np.full(3, average[0])):
            np.testing.assert_allclose(other, average, rtol=1e-13)
        np.testing.assert_allclose(log_Z, 0, atol=1e-13)


@pytest.mark.parametrize(("members", "sizes"), [(1, [1]), (4, [1, 2, 4]), (6, [1, 2, 4])])
def test_ensembles_are_nested_with_equal_weights(members, sizes):
    expected = [[1 / k] * k + [0] * (members - k) for k in sizes]
    np.testing.assert_array_equal(nested_weights(members), expected)


@pytest.mark.parametrize(("dataset", "shape"), [("wine", (178, 13)), ("breast_cancer", (569, 30)), ("digits", (1797, 64))])
def test_halves_part_the_data_and_are_standardised_by_the_first(dataset, shape):
    key = jax.random.key(3)
    fitted, held = halves(key, dataset, 0.25)
    assert (len(held), len(fitted) + len(held), held.shape[1]) == (round(shape[0] / 4), *shape)
    np.testing.assert_allclose(fitted.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(fitted.std(axis=0), 1, rtol=1e-12)
    together = np.sort(np.concatenate([fitted, held]), axis=0)
    if dataset != "digits":  # up to shift and scale of a column, these are the rows that are shipped
        raw = np.sort(getattr(datasets, f"load_{dataset}")().data, axis=0)
        np.testing.assert_allclose([np.corrcoef(a, b)[0, 1] for a, b in zip(together.T, raw.T, strict=True)], 1, rtol=1e-12)
    np.testing.assert_array_equal(halves(key, dataset, 0.25)[1], held)
    assert not np.array_equal(halves(jax.random.key(4), dataset, 0.25)[1], held)


def test_digits_are_dequantised_uniformly():
    rows, pixels = continuous_rows(np.random.default_rng(0), "digits"), datasets.load_digits().data
    noise = 17 * rows - pixels
    assert noise.min() >= -1e-12
    assert noise.max() < 1 + 1e-12
    assert stats.kstest(noise[:, 0], "uniform").pvalue > 1e-4  # a constant pixel
    assert (rows.std(axis=0) > 0).all()


def test_both_kinds_of_member_end_to_end():
    cells = grid(["wine"], 1, 0.5, 2, 2, 0.1, [2], 100)
    assert [cell["model"] for cell in cells] == list(MODELS)
    for cell in cells:
        rows = simulate(cell, study.key(cell))
        assert tuple(rows[0]) == COLUMNS
        average, linear, log, log_Z, error = values(rows, *COLUMNS[1:]).T
        assert linear[0] == pytest.approx(average[0], rel=1e-12)
        assert linear[1] < average[1]
        np.testing.assert_allclose(average - log, -log_Z, rtol=1e-9, atol=1e-10)
        assert log_Z[1] < -0.01
        assert (error[1] > 0) == (cell["model"] == "mixture")


def test_unknown_data_and_a_missing_package_are_named(monkeypatch):
    with pytest.raises(ValueError, match="`dataset`: got 'iris'; expected one of wine, breast_cancer, digits"):
        halves(jax.random.key(0), "iris", 0.5)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"scikit-learn.*ensembletheory\[data\]"):
        halves(jax.random.key(0), "wine", 0.5)


def test_the_grid_holds_at_least_twenty_splits_of_everything():
    for dataset in DATASETS:
        for model in MODELS:
            cells = [cell for cell in study.cells if (cell["dataset"], cell["model"]) == (dataset, model)]
            assert len({cell["split"] for cell in cells}) == len(cells) >= 20
            assert {cell["ensemble"] for cell in cells} == {16}
