"""The bias of mean-field encoders: green as it stands, red when an input moves; its curves from formulas for two coordinates, its dots within their spread of them."""

import numpy as np
import pytest

from paper_figures.nhf_mean_field_bias import FIGURE

pytestmark = pytest.mark.verify  # several seconds; the quick reproduction draws this figure and asserts its caption


def optimum(rho):
    """Correlation and variance of the optimum, by the tangent of half an angle."""
    r = np.tan(np.arcsin(rho) / 2)
    return r, (1 - r * rho) / (1 - r**2)


def total_correlation(rho):
    return -0.5 * np.log(1 - rho**2)


def divergence(rho, r, s):
    """KL(N(0, [[1, rho], [rho, 1]]) || N(0, s [[1, r], [r, 1]])), mode by mode."""
    ratios = np.array([(1 + rho) / (s * (1 + r)), (1 - rho) / (s * (1 - r))])
    return np.sum(ratios - 1 - np.log(ratios), axis=0) / 2


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE.with_inputs(**FIGURE.quick_inputs | {"updates": 2, "seeds": 5}), "correlations")


def test_curves_are_closed_forms(drawn):
    data = drawn(FIGURE).data
    rho = data["curve"][1:]
    r, s = optimum(rho)
    np.testing.assert_allclose(data["exact correlation"][1:], r, rtol=1e-10)
    np.testing.assert_allclose(data["exact variance"][1:], s, rtol=1e-10)
    np.testing.assert_allclose(data["exact reverse_variance"][1:], (1 - rho**2) / (s * (1 - r**2)), rtol=1e-9)
    np.testing.assert_allclose(data["exact deficit"][1:], divergence(rho, r, s) + total_correlation(r), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(data["exact kept_deficit"][1:], total_correlation(rho), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("encoder", ["mean_field", "full"])
def test_flows_are_trained_to_the_optimum(drawn, encoder):
    data = drawn(FIGURE).data
    for i, rho in enumerate(data["rho"]):
        r, s = optimum(rho) if encoder == "mean_field" else (rho, 1.0)
        least = divergence(rho, r, s) + total_correlation(r) if encoder == "mean_field" else 0.0
        for quantity, truth in (("correlation", r), ("variance", s)):
            values = data[f"{encoder} {quantity}"][i]
            assert abs(values.mean() - truth) <= 2 * values.std(ddof=1) + 1e-3, (quantity, rho)
        assert np.all(data[f"{encoder} deficit"][i] >= least - 1e-12)
        assert data[f"{encoder} deficit"][i].mean() <= least + 5e-3
