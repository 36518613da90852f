"""Networks beside exact scores: green as it stands, red when an input moves, and its arrays again by other routes."""

import numpy as np
import pytest
from scipy import integrate, stats

from paper_figures.score_ensembles import FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption


def log_density(k):
    """Of the target (k = 0) and of the members with laws of their own."""
    parts = [stats.norm(m, v**0.5) for m, v in zip(FIGURE.inputs["means"][k], FIGURE.inputs["variances"][k], strict=True)]
    return lambda x: np.logaddexp(*(np.log(w) + part.logpdf(x) for w, part in zip(FIGURE.inputs["weights"][k], parts, strict=True)))


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    red = two_percent_off(FIGURE, "means")
    assert {"floor of the loss", "exact gain"} <= set(red)
    assert "largest deviation from A + B / K" not in red  # it holds whatever the inputs


def test_exact_members_come_out_of_the_sampler_with_their_divergences(drawn):
    """Up to the horizon: starting from N(0, 1) and not from N(a_T m, ...) shifts log q by about a_T m z, a_T = 0.0066, |m| < 1.2, where |E z| < 1 under the target."""
    p = log_density(0)
    for k, sampled in enumerate(drawn(FIGURE).data["kl_members"], start=1):
        q = log_density(k)
        exact, _ = integrate.quad(lambda x: np.exp(p(x)) * (p(x) - q(x)), -8, 8, points=[-1.5, 1.0], limit=200)  # noqa: B023
        assert sampled == pytest.approx(exact, abs=0.0066 * 1.2 + 1e-3)


def test_the_averaged_exact_scores_gain(drawn):
    """From an infinite horizon the averaged score's law lies pointwise above the geometric mean, so its divergence is at most the member average.

    The finite one shifts every divergence by less than 0.0066 * 1.2 (see above), and every gain is larger than twice that.
    """
    data = drawn(FIGURE).data
    several = (data["choices"] > 0).sum(axis=1) > 1
    assert np.all(data["gain_exact"][several] > 2 * 0.0066 * 1.2)
    assert np.all(data["gain_exact"][~several] == 0)
    assert data["gain_exact"][-1] == pytest.approx(data["kl_members"].mean() - data["kl_pooled"], rel=1e-12)


def test_the_mean_loss_over_subsets_is_a_plus_b_over_k(drawn):
    data = drawn(FIGURE).data
    sizes = (data["subsets"] > 0).sum(axis=1)
    M = data["subsets"].shape[1]
    assert len(sizes) == 2**M - 1
    means = np.array([data["excess"][sizes == K].mean() for K in range(1, M + 1)])
    np.testing.assert_allclose(means, data["A"] + data["B"] / np.arange(1, M + 1), rtol=1e-10)
    assert np.all(np.diff(means) < 0)
    for row, K, loss in zip(data["subsets"], sizes, data["excess"], strict=True):  # Jensen, subset by subset
        assert loss <= row @ data["excess"][:M] * (1 + 1e-12), (row, K)


def test_rules_on_exact_members_stand_where_quantiles_by_another_route_put_them(drawn):
    """One member a draw and the mean of draws begun at one point, from the members' own distribution functions; up to the sampler's horizon, as the members' laws are."""
    levels = (np.arange(1000) + 0.5) / 1000
    x = np.linspace(-8, 8, 20001)

    def cdf(k):
        parts = zip(FIGURE.inputs["weights"][k], FIGURE.inputs["means"][k], FIGURE.inputs["variances"][k], strict=True)
        return sum(w * stats.norm.cdf(x, m, v**0.5) for w, m, v in parts)

    target, *members = (np.interp(levels, cdf(k), x) for k in range(5))
    pooled = np.interp(levels, np.mean([cdf(k) for k in range(1, 5)], axis=0), x)
    by_hand = [np.mean((target - law) ** 2) for law in (pooled, np.mean(members, axis=0))]
    np.testing.assert_allclose(drawn(FIGURE).data["rules_exact"][[2, 4]], by_hand, atol=0.01)


def test_no_law_is_nearer_in_w2_than_in_its_moments(drawn):
    """Gelbrich's bound, and both fall to what the exact score leaves."""
    data = drawn(FIGURE).data
    assert np.all(data["w2"] >= data["frechet"] * (1 - 1e-3) - 1e-6)
    assert data["w2_floor"] < 1e-6 < data["w2"].min()
