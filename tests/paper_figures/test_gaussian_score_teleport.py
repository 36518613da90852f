"""Gaussian scores and jumps: green as it stands, red when an input moves, its arrays again by SciPy on grids, by cumulants and by quantile tables."""

import numpy as np
import pytest
from scipy import integrate, stats

from paper_figures.gaussian_score_teleport import FIGURE

WEIGHTS, MEANS, VARIANCES = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.25, 0.09])
MEAN, VARIANCE, FLOOR, DIM = 0.1, 2.028, 0.01, 8
THIRD_CUMULANT = WEIGHTS @ ((MEANS - MEAN) ** 3 + 3 * (MEANS - MEAN) * VARIANCES)
TOTAL = (VARIANCE + (DIM - 1) * FLOOR) / DIM


def noised(s, x):
    """Density and score of the noised mixture."""
    stds = np.sqrt(VARIANCES + s**2)
    parts = WEIGHTS * stats.norm.pdf(x[:, None], MEANS, stds)
    return parts.sum(axis=1), np.sum(parts * (MEANS - x[:, None]) / stds**2, axis=1) / parts.sum(axis=1)


def mean(s, values):
    """The trapezoid rule, which converges geometrically here."""
    x = np.linspace(-2 - 10 * np.hypot(0.5, s), 1 + 10 * np.hypot(0.3, s), 20001)
    density, score = noised(s, x)
    return integrate.trapezoid(density * values(x, score), x)


def cdf(s, x):
    return stats.norm.cdf(np.asarray(x)[..., None], MEANS, np.sqrt(VARIANCES + s**2)) @ WEIGHTS


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    off = two_percent_off(FIGURE, "means")
    assert "variance on the line" in off
    assert any("unexplained" in name for name in off)


def test_shares_are_expectations_on_a_grid(drawn):
    data = drawn(FIGURE).data
    for i in (0, 6, 12, -3, -2, -1):
        s = data["levels"][i]
        gap = mean(s, lambda x, score: (score + (x - MEAN) / (VARIANCE + s**2)) ** 2)  # noqa: B023
        isotropic = mean(s, lambda x, score: (score + (x - MEAN) / (TOTAL + s**2)) ** 2)  # noqa: B023
        isotropic += (DIM - 1) * (FLOOR + s**2) * (1 / (FLOOR + s**2) - 1 / (TOTAL + s**2)) ** 2
        alone = mean(s, lambda x, score: score**2)
        whole = alone + (DIM - 1) / (FLOOR + s**2)
        found = [data[name][i] for name in ("line", "matched", "isotropic")]
        np.testing.assert_allclose(found, [gap / alone, gap / whole, isotropic / whole], rtol=1e-6, err_msg=f"{s}")


def test_shares_at_high_noise_follow_from_the_first_cumulants_that_differ(drawn):
    """kappa_3^2 / (2 s^6) of what one coordinate's score weighs, and the variance of the spectrum over s^4; corrections are of relative order 1 / s^2."""
    data = drawn(FIGURE).data
    i = -4
    s = data["levels"][i]
    assert s == pytest.approx(80)
    assert data["line"][i] == pytest.approx(THIRD_CUMULANT**2 / (2 * s**6), rel=0.02)
    assert data["matched"][i] * DIM == pytest.approx(data["line"][i], rel=0.01)
    assert data["isotropic"][i] == pytest.approx(np.var(np.append(VARIANCE, np.full(DIM - 1, FLOOR))) / s**4, rel=0.01)


def test_expectations_in_eight_dimensions_are_those_of_draws(drawn):
    """The product of the line and its floors, by its own density: five standard errors of 200,000 draws."""
    data, rng, n = drawn(FIGURE).data, np.random.default_rng(0), 200_000
    s = 1.0
    label = (rng.random(n) > 0.3).astype(int)
    line = MEANS[label] + np.sqrt(VARIANCES[label] + s**2) * rng.normal(size=n)
    across = np.sqrt(FLOOR + s**2) * rng.normal(size=(n, DIM - 1))
    score = np.column_stack([noised(s, line)[1], -across / (FLOOR + s**2)])
    whole = np.sum(score**2, axis=1)
    for name, variances in (("matched", np.append(VARIANCE, np.full(DIM - 1, FLOOR))), ("isotropic", np.full(DIM, TOTAL))):
        gaussian = -np.column_stack([line - MEAN, across]) / (variances + s**2)
        residual = np.sum((score - gaussian) ** 2, axis=1) - data[name][-2] * whole
        assert abs(residual.mean()) < 5 * residual.std() / np.sqrt(n), name


def test_jumps_miss_by_the_distance_of_quantile_functions(drawn):
    """Tables of F_0 and F_s on fine grids, interpolated; the midpoint rule over 200,000 quantiles of the Gaussian."""
    data = drawn(FIGURE).data
    u = (np.arange(200_000) + 0.5) / 200_000
    table = np.linspace(-6, 4, 400_001)
    clean = cdf(0.0, table)
    for i in (5, 7, 8, 11):
        s = data["edm"][i]
        level = cdf(s, stats.norm.ppf(u, MEAN, np.sqrt(VARIANCE + s**2)))
        squared = np.mean((np.interp(level, clean, table) - np.interp(u, clean, table)) ** 2)
        assert data["w2"][i] == pytest.approx(np.sqrt(squared), rel=2e-3), s


def test_the_longest_jump_samples_the_gaussian_itself(drawn):
    """At s = 0.002 nothing of the mixture's flow is left: W2 between the Gaussian and the data, by the covariance of their quantiles."""
    z = np.linspace(-9, 9, 90_001)
    table = np.linspace(-6, 4, 400_001)
    quantiles = np.interp(stats.norm.cdf(z), cdf(0.0, table), table)
    overlap = integrate.trapezoid(stats.norm.pdf(z) * z * quantiles, z)
    squared = 2 * VARIANCE - 2 * np.sqrt(VARIANCE) * overlap
    assert drawn(FIGURE).data["w2"][-1] == pytest.approx(np.sqrt(squared), rel=1e-3)


def test_edm_levels_are_powers_of_a_line(drawn):
    i = np.arange(18)
    expected = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(drawn(FIGURE).data["edm"], expected, rtol=1e-9)


def test_recovered_parts_are_the_logarithmic_slopes_of_psi(drawn):
    data = drawn(FIGURE).data
    s = data["halves"]
    for k, variance in enumerate((VARIANCE, FLOOR)):
        log_psi = lambda t: np.log((t**2 + variance) / (80.0**2 + variance)) / 2  # noqa: B023, E731
        slope = (log_psi(s * np.exp(1e-5)) - log_psi(s * np.exp(-1e-5))) / 2e-5
        np.testing.assert_allclose(data["recovered"][:, k], 1 - slope, atol=1e-8)
