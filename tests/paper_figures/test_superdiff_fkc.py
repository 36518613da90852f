"""Superposed and weighted scores: green as it stands, red when an input moves, and its arrays again by NumPy recursions, quadrature and another simulation."""

import numpy as np
import pytest
from scipy import integrate, stats

from paper_figures.superdiff_fkc import FIGURE
from tests.helpers import assert_mean, assert_within_errors

MODE, VARIANCE = FIGURE.inputs["mode"], FIGURE.inputs["deviation"] ** 2
MEMBERS = [list(zip(*parts, strict=True)) for parts in zip(FIGURE.inputs["weights"], FIGURE.inputs["means"], FIGURE.inputs["variances"], strict=True)]


def signal(t):
    return np.exp(-0.05 * t - 4.975 * t**2)


def beta(t):
    return 0.1 + 19.9 * t


def steps(n):
    times = np.linspace(1.0, 0.0, n + 1) ** 2
    return zip(times[:-1], -np.diff(times), strict=True)


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "means")


def test_or_samples_the_linear_pool(drawn):
    x = drawn(FIGURE).data["or"]
    assert_mean(np.stack([x, x**2], axis=-1), [[0.0, MODE**2 + VARIANCE]] * 2)
    assert_mean((np.abs(x) - MODE) ** 2, [VARIANCE, VARIANCE])


def test_and_shrinks_the_second_coordinate_by_one_factor_and_the_average_by_its_variance(drawn):
    """The members' scores are -(y -+ a m)/v in y: And follows their mean without noise, the average with it."""
    data = drawn(FIGURE).data
    factor, variance = 1.0, 1.0
    for t, h in steps(FIGURE.settings(quick=True)["steps"]):
        shrunk = 1 + h * beta(t) * (0.5 - 1 / (VARIANCE * signal(t) ** 2 + 1 - signal(t) ** 2))
        factor, variance = factor * shrunk, variance * shrunk**2 + h * beta(t)
    assert_mean(data["and"][:, 1] / factor, 0.0)
    assert_mean((data["and"][:, 1] / factor) ** 2, 1.0)
    assert_mean(data["average"][:, 1] ** 2, variance)
    for rule in ("and", "average", "or"):
        np.testing.assert_allclose(data[f"ratio_{rule}"], 2 * MODE * data[rule][:, 1] / VARIANCE, rtol=1e-9, atol=1e-12)


def geometric(x):
    return np.prod([np.sqrt(sum(w * stats.norm.pdf(x, m, v**0.5) for w, m, v in member)) for member in MEMBERS], axis=0)


def test_log_pool_is_the_normalised_geometric_mean(drawn):
    data = drawn(FIGURE).data
    mass, left = (integrate.quad(geometric, -8, end, points=[-2, -1, 0], limit=200, epsabs=1e-12)[0] for end in (8, 0))
    assert float(data["normaliser_pool"]) == pytest.approx(np.log(mass), abs=1e-9)
    assert float(data["share_pool"]) == pytest.approx(left / mass, abs=1e-5)
    np.testing.assert_allclose(data["density_pool"], geometric(data["line"]) / mass, rtol=1e-8, atol=1e-15)


def test_particles_are_those_of_another_simulation_with_weights(drawn):
    """Share of the left mode with and without weights, and the mean weight, from as many particles drawn by NumPy."""
    data = drawn(FIGURE).data
    rng, n = np.random.default_rng(0), 20_000
    x, log_w = rng.normal(size=n), np.zeros(n)
    for t, h in steps(FIGURE.settings(quick=True)["particle_steps"]):
        a = signal(t)
        scores = []
        for member in MEMBERS:
            joint = np.stack([w * stats.norm.pdf(x, a * m, (a**2 * v + 1 - a**2) ** 0.5) for w, m, v in member])
            scores.append(np.sum(joint * [(a * m - x) / (a**2 * v + 1 - a**2) for _, m, v in member], axis=0) / joint.sum(axis=0))
        log_w -= h * beta(t) / 2 * (scores[0] - scores[1]) ** 2 / 4
        x = x + h * beta(t) * (x / 2 + (scores[0] + scores[1]) / 2) + np.sqrt(h * beta(t)) * rng.normal(size=n)
    left, w = (x < 0).astype(float), np.exp(log_w)
    share = w @ left / w.sum()
    theirs = {
        "share_uncorrected": (left.mean(), left.std() / n**0.5),
        "share_weighted": (share, np.std(w * (left - share)) / w.mean() / n**0.5),
        "normaliser_weighted": (np.log(w.mean()), w.std() / w.mean() / n**0.5),
    }
    for name, (value, error) in theirs.items():
        assert_within_errors(data[name][0], np.hypot(data[name][1], error), value)
    assert data["sizes_weighted"][-1].mean() == pytest.approx(w.sum() ** 2 / (w @ w) / n, abs=0.01)
    assert data["sizes_resampled"].min() > 0.94
    assert data["sizes_resampled"][-1].mean() > data["sizes_weighted"][-1].mean() + 0.05
