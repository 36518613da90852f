"""The rules again by simulation in NumPy of the same steps, the pools by SciPy's integrals."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from paper_figures.aggregation_rules import FIGURE, _grid
from tests.helpers import assert_within_errors

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption

MEMBERS = [(np.array(w), np.array(m)[:, 0], np.array(S)[:, 0]) for w, m, S in FIGURE.inputs["members"]]


def density(law, x):
    w, m, S = law
    return np.sum(w[:, None] * stats.norm.pdf(x, m[:, None], np.sqrt(S)[:, None]), axis=0)


def score(law, t, x):
    w, m, S = law
    a = np.exp(-t)
    v = (1 + a**2 * (S - 1))[:, None]
    terms = w[:, None] / np.sqrt(v) * np.exp(-((x - a * m[:, None]) ** 2) / (2 * v))
    return np.sum(terms * (a * m[:, None] - x) / v, axis=0) / terms.sum(axis=0)


COMBINED = {
    "arithmetic": lambda s, rng: s.mean(0),
    "median": lambda s, rng: np.median(s, 0),
    "dominant": lambda s, rng: np.take_along_axis(s, np.argmax(np.abs(s), 0)[None], 0)[0],
    "alternating": lambda s, rng: s[rng.integers(0, len(s), s.shape[1]), np.arange(s.shape[1])],
}


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert {"left of arithmetic mean", "KL of log pool, exact"} <= set(two_percent_off(FIGURE, "members"))


@pytest.mark.parametrize("rule", COMBINED)
def test_left_masses_are_those_of_simulated_paths(drawn, rule):
    rng, n = np.random.default_rng(3), 4000
    x = rng.normal(size=n)
    for t, s in itertools.pairwise(_grid(**FIGURE.inputs["grid"])):
        combined = COMBINED[rule](np.stack([score(law, t, x) for law in MEMBERS]), rng)
        x = x + (t - s) * (x + 2 * combined) + np.sqrt(2 * (t - s)) * rng.normal(size=n)
    share = np.mean(x < 0)
    assert_within_errors(share, np.sqrt(share * (1 - share) / n), drawn(FIGURE).data[f"result_{rule}"][0, 0])


def test_pools_are_integrals(drawn):
    data = drawn(FIGURE).data
    w, m, S = FIGURE.inputs["target"]
    target = np.array(w), np.array(m)[:, 0], np.array(S)[:, 0]
    x = np.linspace(-8, 8, 8001)
    p, logs = density(target, x), np.log([density(law, x) for law in MEMBERS])
    pools = {"log": np.exp(logs.mean(0)), "linear": np.exp(logs).mean(0)}
    for name, q in pools.items():
        q = q / integrate.simpson(q, x=x)
        left = integrate.simpson(q[x <= 0], x=x[x <= 0])
        kl = integrate.simpson(p * np.log(p / q), x=x)
        np.testing.assert_allclose(data[f"result_{name}"][:2, 0], [left, kl], atol=1e-4)
    averages = [integrate.simpson(p * (np.log(p) - log), x=x) for log in logs]
    assert data["result_average"][1, 0] == pytest.approx(np.mean(averages), abs=1e-6)


def test_draws_carry_their_errors_and_agree_with_what_is_exact(drawn):
    data = drawn(FIGURE).data
    corrected, log = data["result_corrected"], data["result_log"]
    assert 0 < corrected[0, 1] < 0.02
    assert abs(corrected[0, 0] - log[0, 0]) < 5 * corrected[0, 1] + 0.01  # the steps' bias is about that of the averaged score, 0.002 here
    assert np.isnan(corrected[1, 0])
    assert all(np.isfinite(data[f"result_{rule}"]).all() for rule in ("arithmetic", "dominant", "samples", "starts", "routed"))
