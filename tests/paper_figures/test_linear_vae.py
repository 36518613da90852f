"""The linear VAE: green as it stands, red when an input moves, and its arrays again from one-line formulas and a Laplace transform on a grid."""

import numpy as np
import pytest
from scipy.stats import norm

from paper_figures.linear_vae import FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

SPECTRUM = np.array([3.0, 1.9, 1.1, 0.4])


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    off = two_percent_off(FIGURE, "spectrum")
    assert sum(name.startswith("gain") for name in off) == 5
    assert sum(name.startswith("threshold") for name in off) == 4


def test_gains_are_sums_over_the_eigenvalues_in_use_and_the_top_ones_are_stable(drawn):
    data = drawn(FIGURE).data
    ratio = SPECTRUM[None, :] / data["noises"][:, None]
    each = 0.5 * (ratio - 1 - np.log(ratio))
    expected = each @ data["subsets"].T
    admitted = ~((ratio <= 1) @ data["subsets"].T.astype(bool))
    np.testing.assert_allclose(np.where(admitted, data["gains"], 0.0), np.where(admitted, expected, 0.0), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(data["gains"]), ~admitted)
    for row, stable, above in zip(data["gains"], data["unstable"] == 0, ratio > 1, strict=True):
        assert stable.sum() == 1
        assert data["subsets"][np.argmax(stable)].nonzero()[0].tolist() == list(range(min(2, above.sum())))
        assert np.nanargmax(row) == np.argmax(stable)


def test_turned_columns_lose_the_deficit_of_hadamard(drawn):
    data, c, s = drawn(FIGURE).data, np.cos(np.pi / 6) ** 2, np.sin(np.pi / 6) ** 2
    m1, m2 = np.maximum(3.0, data["noises"]), np.maximum(1.9, data["noises"])
    deficit = 0.5 * np.log((c * m1 + s * m2) * (s * m1 + c * m2) / (m1 * m2))
    np.testing.assert_allclose(np.nanmax(data["gains"], axis=1) - data["turned"], deficit, atol=1e-12)


def test_columns_shrink_to_zero_at_the_threshold_and_ascents_find_that(drawn):
    data = drawn(FIGURE).data
    for beta, lengths, found in zip(data["betas"], data["lengths"], data["found_lengths"], strict=True):
        np.testing.assert_allclose(lengths, np.maximum(SPECTRUM[:2] - beta * data["collapse_noises"][:, None], 0.0), atol=1e-12)
        # At a threshold the objective is flat to fourth order: gradients of 1e-7 leave lengths squared of (1e-7)^{2/3}.
        np.testing.assert_allclose(found, np.maximum(SPECTRUM[:2] - beta * data["tried_noises"][:, None], 0.0), atol=1e-3)


def exact_gap(rho, K):
    e = np.linspace(0, 11, 261)
    density = 2 * norm.pdf(e) * (e[1] - e[0]) * np.where(e == 0, 0.5, 1)
    grid, r = np.multiply.outer(density, density).ravel(), np.exp(0.5 * np.log(1 - rho**2) + 0.5 * rho * np.subtract.outer(e**2, e**2)).ravel()
    log_t = np.arange(-40 - np.log(K), 36, 0.4)
    log_phi = np.log1p(np.maximum([grid @ np.expm1(-t * r) for t in np.exp(log_t)], -1 + 1e-15))
    return np.trapezoid(np.exp(K * log_phi) - np.exp(-K * np.exp(log_t)), log_t)


def test_gaps_by_the_laplace_transform_and_by_simulation(drawn):
    data = drawn(FIGURE).data
    np.testing.assert_allclose(data["gaps"][0], -0.5 * np.log(1 - data["rhos"] ** 2), rtol=1e-9)
    for row, i in ((1, 3), (3, -1)):
        assert data["gaps"][row, i] == pytest.approx(exact_gap(data["rhos"][i], data["counts"][row - 1]), abs=1e-8)
    moments = (1 - data["correlations"] ** 2) / np.sqrt(np.maximum(1 - 4 * data["correlations"] ** 2, 1e-300))
    np.testing.assert_allclose(data["second_moments"][:4], moments[:4], rtol=1e-9)
    assert np.isinf(data["second_moments"][4])
    at = [int(np.argmin(np.abs(data["rhos"] - rho))) for rho in data["correlations"]]
    exact = data["gaps"][1:][np.isin(data["counts"], data["simulated_counts"])][:, at]
    assert np.all(np.abs(data["simulated"] - exact) <= 5 * data["simulated_errors"])
    assert np.all(np.diff(data["rate_gaps"]) < 0)
