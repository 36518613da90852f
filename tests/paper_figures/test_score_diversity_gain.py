"""Gain and diversity: green as it stands, red when an input moves, and its points again by SciPy's solvers in the time of a diffusion."""

import numpy as np
import pytest
from scipy.integrate import quad

from paper_figures.score_diversity_gain import FIGURE, _drawn_in_the_plane, _drawn_mixtures, _drawn_on_the_line
from tests.claims.test_averaged_score import diversity_along_the_flow, gain_in_the_plane, log_sampled_by_the_flow, logs_of_members, minus_log_z, responses

WEIGHTS = np.array([0.5, 0.5])


@pytest.fixture(scope="module")
def instances():
    """The quick run's draws: on the line (in the plane, with a coordinate that changes nothing), in the plane, mixtures."""
    rng, draws = np.random.default_rng(FIGURE.inputs["seed"]), FIGURE.quick_inputs["draws"]
    named = np.array([0.3, 0.0]), np.diag([1.2, 1.0]), np.array([[-1.0, 0.0], [2.0, 0.0]]), np.array([np.diag([0.25, 1.0]), np.diag([4.0, 1.0])])
    gaussians = [named, *(_drawn_on_the_line(rng) for _ in range(draws)), *(_drawn_in_the_plane(rng) for _ in range(draws))]
    names = ("target_mean", "target_cov", "means", "covs")
    return [dict(zip(names, parts, strict=True)) | {"weights": WEIGHTS} for parts in gaussians], [_drawn_mixtures(rng) for _ in range(draws)]


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "target")


def diversity_under(instance, moments):
    """1/2 int b E sum_k w_k |s_k - s|^2 dt under laws of the given moments at u, over log u."""

    def rate(log_u):
        u = np.exp(log_u)
        R = responses(instance["covs"], u)
        m, S = moments(u, R)
        mean_R = (R[0] + R[1]) / 2
        shift = (R[0] @ instance["means"][0] + R[1] @ instance["means"][1]) / 2
        parts = [((mean_R - r) @ m + np.sqrt(u) * (r @ n - shift), mean_R - r) for r, n in zip(R, instance["means"], strict=True)]
        return 0.5 * sum(0.5 * (b @ b + np.trace(A @ S @ A.T)) for b, A in parts)

    return quad(rate, -40, 0, epsabs=1e-11, epsrel=1e-11, limit=200)[0]


def test_gaussian_points_lie_where_scipy_puts_them(drawn, instances):
    data = drawn(FIGURE).data
    for i in (0, 2, len(instances[0]) - 1):
        one = instances[0][i]

        def noised_target(u, R, one=one):
            return np.sqrt(u) * one["target_mean"], np.eye(2) + u * (one["target_cov"] - np.eye(2))

        def noised_pool(u, R, one=one):
            H = np.linalg.inv((R[0] + R[1]) / 2)
            return H @ (R[0] @ one["means"][0] + R[1] @ one["means"][1]) / 2 * np.sqrt(u), H

        routes = {
            "gain_ode": gain_in_the_plane(one, 0.0),
            "diversity_ode": diversity_along_the_flow(one),
            "gain_sde": gain_in_the_plane(one, 1.0),
            "diversity_sde": diversity_under(one, noised_target),
            "gain_log": minus_log_z(one["means"], one["covs"], WEIGHTS),
            "diversity_log": diversity_under(one, noised_pool),
        }
        for name, value in routes.items():
            assert data[name][i] == pytest.approx(value, rel=2e-7), (i, name)


def test_the_sde_gains_more_than_its_diversity(drawn):
    data = drawn(FIGURE).data
    assert np.all(data["gain_sde"] > data["diversity_sde"])


def test_areas_of_the_courses(drawn):
    data = drawn(FIGURE).data
    for name, x in (("ode", data["times"]), ("sde", data["nodes"]), ("log", data["nodes"])):
        area = np.trapezoid(np.append(data[f"course_{name}"], 0.0), np.append(x, 1.0))
        assert area == pytest.approx(data[f"diversity_{name}"][0], rel=3e-3)


def test_a_mixture_by_single_paths(drawn, instances):
    """Where the target has its mass, log p_hat - sum_k w_k log q_k by SciPy; E_p of it is the gain."""
    data, (shares, means, variances) = drawn(FIGURE).data, instances[1][0]
    x = np.linspace(-6.5, 6.5, 40)
    p = sum(w * np.exp(-((x - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v) for w, m, v in zip(shares[0], means[0], variances[0], strict=True))
    members = {"shares": shares[1:], "means": means[1:], "variances": variances[1:], "weights": WEIGHTS}
    surplus = [log_sampled_by_the_flow(members | {"point": y}) - WEIGHTS @ logs_of_members(members | {"point": y}) for y in x]
    first = len(instances[0])
    assert p @ surplus * (x[1] - x[0]) == pytest.approx(data["gain_ode"][first], rel=1e-4)
    assert data["diversity_ode"][first] == pytest.approx(data["gain_ode"][first], rel=1e-7)
