"""The chain of pools: green as it stands, red when an input moves, and its arrays again from textbook formulas, recursions and SciPy's solver."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, linalg, stats

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


@pytest.mark.parametrize(("name", "eta"), [("mean_score_ode", 0.0), ("mean_score_sde", 1.0), ("churn", 2.0)])
def test_variances_of_finitely_many_steps_are_recursions(drawn, name, eta):
    data = drawn(FIGURE).data
    for n, found in zip(data["steps"], data[f"stepped_{name}"], strict=True):
        variance = 1.0
        for t, s in pairwise(np.linspace(1.0, 0.0, n + 1)):
            h, b, u = t - s, 0.1 + 19.9 * t, np.exp(-0.1 * t - 9.95 * t**2)
            pull = (1 / (1 + u * (S1 - 1)) + 1 / (1 + u * (S2 - 1))) / 2
            variance = (1 + h * b / 2 * (1 - (1 + eta**2) * pull)) ** 2 * variance + h * b * eta**2
        assert found == pytest.approx(variance, rel=1e-9)


def test_pools_in_the_plane(drawn):
    """The sampled covariances solve linear equations in u = a^2; the barycenter is a fixed point; the log pool's precision is the mean."""
    data = drawn(FIGURE).data
    S, identity = data["plane_members"], np.eye(2)

    def D(u):
        return sum((C - identity) @ np.linalg.inv(identity + u * (C - identity)) for C in S) / 2

    def solved(rates, start):
        return (
            integrate.solve_ivp(lambda u, y: rates(u, y.reshape(2, 2)).ravel(), (0, 1), np.asarray(start, float).ravel(), method="LSODA", rtol=1e-10, atol=1e-13)
            .y[:, -1]
            .reshape(2, 2)
        )

    flow = solved(lambda r, Y: r * D(r**2) @ Y, identity)
    np.testing.assert_allclose(data["plane_mean_score_ode"], flow @ flow.T, rtol=1e-6)
    np.testing.assert_allclose(data["plane_mean_score_sde"], solved(lambda u, Y: D(u) @ Y + Y @ D(u) + identity, 0 * identity), rtol=1e-6)
    assert np.linalg.det(data["plane_mean_score_ode"]) == pytest.approx(np.sqrt(np.linalg.det(S).prod()), rel=1e-8)
    np.testing.assert_allclose(data["plane_log"], np.linalg.inv(np.linalg.inv(S).mean(axis=0)), rtol=1e-10)
    root = linalg.sqrtm(data["plane_barycenter"])
    np.testing.assert_allclose(data["plane_barycenter"], sum(linalg.sqrtm(root @ C @ root) for C in S) / 2, rtol=1e-6)
    np.testing.assert_allclose(S[1], [[0.03 / 4 + 3.75, (0.03 - 5.0) * np.sqrt(3) / 4], [(0.03 - 5.0) * np.sqrt(3) / 4, 0.09 / 4 + 1.25]], rtol=1e-12)
