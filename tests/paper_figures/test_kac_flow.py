"""The telegraph process drawn: densities by unscaled Bessel functions, and ends of the flow where the quantiles of the data are."""

import numpy as np
import pytest
from scipy import stats

from paper_figures.kac_flow import FIGURE
from tests.laws.kac_by_hand import parts, smoothed_on


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify  # draws everything again
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert {"variance", "density at 0.9", "rate of turning back at 0.9"} <= set(two_percent_off(FIGURE, "rate"))


def test_densities_velocities_and_rates_by_hand(drawn):
    data = drawn(FIGURE).data
    c, a = FIGURE.inputs["speed"], FIGURE.inputs["rate"]
    for i, t in enumerate(FIGURE.inputs["times"]):
        plus, minus = parts(c, a, t, data["places"][i])
        np.testing.assert_allclose(data["density"][i], plus + minus, rtol=1e-10)
        np.testing.assert_allclose(data["velocity"][i], c * (plus - minus) / (plus + minus), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(data["reverse_rates"][i], np.stack([a * minus / plus, a * plus / minus], axis=1), rtol=1e-9)


def test_the_flow_and_the_jumps_reach_the_data(drawn):
    """The flow's ends have, in the data, the shares that its beginnings have in the noised mixture, integrated by hand; turns are as far off as so many draws are."""
    data = drawn(FIGURE).data
    mixture = list(zip(*(FIGURE.inputs[name] for name in ("weights", "means", "deviations")), strict=True))
    x = np.linspace(-7, 7, 5601)
    noised = sum(w * smoothed_on(FIGURE.inputs["speed"], FIGURE.inputs["rate"], 1.0, x - m, s).sum(axis=0) for w, m, s in mixture)
    begun = np.interp(data["flow_paths"][:, 0], x, np.cumsum((noised + np.roll(noised, 1)) / 2) * (x[1] - x[0]))
    ended = sum(w * stats.norm(m, s).cdf(data["flow_paths"][:, -1]) for w, m, s in mixture)
    assert np.max(np.abs(begun - ended)) == pytest.approx(data["missed"][-1], abs=2e-5)
    assert np.all(data["missed"][1:] < data["missed"][:-1] / 3)
    assert data["ks_jumps"][-1] < stats.kstwobign.isf(1e-6) / np.sqrt(data["draws"])
    assert np.max(np.abs(np.diff(data["jump_paths"], axis=1)) + FIGURE.inputs["speed"] * np.diff(data["jump_times"])) < 1e-12
