"""The chain of pools: green as it stands, red when an input moves, and its arrays again from textbook formulas."""

import numpy as np
import pytest
from scipy import integrate, stats

from paper_figures.pool_chain import FIGURE

S1, S2 = 0.25, 4.0
GEOMETRIC, LOGARITHMIC = np.sqrt(S1 * S2), (S2 - S1) / np.log(S2 / S1)
VARIANCES = {
    "log": 2 / (1 / S1 + 1 / S2),
    "mean_score_sde": GEOMETRIC**2 / LOGARITHMIC,
    "mean_score_ode": GEOMETRIC,
    "velocity": GEOMETRIC,
    "barycenter": (S1**0.5 + S2**0.5) ** 2 / 4,
    "linear": (S1 + S2) / 2,
}


def kl(s, v):
    return (s / v - 1 - np.log(s / v)) / 2


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "variances")


def test_variances_are_means_of_the_members_variances(drawn):
    data = drawn(FIGURE).data
    for rule, variance in VARIANCES.items():
        np.testing.assert_allclose(data[f"variance_{rule}"], variance, rtol=1e-9, err_msg=rule)


def test_churned_variance_is_the_integral_over_the_noise_level(drawn):
    data = drawn(FIGURE).data

    def variance(eta):
        e = eta**2
        integrand = lambda u: u ** (e - 1) * ((1 + u * (S1 - 1)) * (1 + u * (S2 - 1))) ** (-(1 + e) / 2)  # noqa: E731
        return GEOMETRIC ** (1 + e) * e * integrate.quad(integrand, 0, 1, epsrel=1e-11)[0]

    at = [i for i, eta in enumerate(data["etas"]) if 0.6 < eta < 6]
    np.testing.assert_allclose(data["churned"][at], [variance(data["etas"][i]) for i in at], rtol=1e-8)
    assert len(at) > 8


def test_the_chain_descends_from_the_geometric_to_the_harmonic_mean(drawn):
    data = drawn(FIGURE).data
    assert (np.diff(data["churned"]) < 0).all()
    assert data["churned"][0] == pytest.approx(GEOMETRIC, rel=1e-12)
    assert VARIANCES["log"] < data["churned"][-1] < VARIANCES["log"] * 1.01


def test_divergences_are_those_of_centred_gaussians(drawn):
    data = drawn(FIGURE).data
    for rule in ("log", "mean_score_sde", "mean_score_ode", "barycenter"):
        np.testing.assert_allclose(data[f"kl_{rule}"], kl(data["targets"], VARIANCES[rule]), rtol=1e-7, atol=1e-15, err_msg=rule)
    np.testing.assert_allclose(data["kl_churn"], kl(data["targets"], 0.5632), rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(data["kl_average"], (kl(data["targets"], S1) + kl(data["targets"], S2)) / 2, rtol=1e-10)


def test_divergence_of_the_mixture_is_its_integral(drawn):
    data = drawn(FIGURE).data
    for s, found in list(zip(data["targets"], data["kl_linear"], strict=True))[::8]:
        p, q = stats.norm(0, s**0.5), [stats.norm(0, S1**0.5), stats.norm(0, S2**0.5)]
        exact, _ = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - np.logaddexp(q[0].logpdf(x), q[1].logpdf(x)) + np.log(2)), -30, 30, points=[0.0], limit=400)  # noqa: B023
        assert found == pytest.approx(exact, rel=1e-7)
