"""Evaluations by dimension and condition number: green as it stands, red when an input moves, and its arrays again by recursions in NumPy."""

import numpy as np
import pytest
from scipy.optimize import brentq

from paper_figures.nhf_scaling import FIGURE
from tests.integration_cost.recursions import VARIANCES, kl

MOST = {"quarter_turn": 16, "linear_euler": 220}


def needed(name, deviations, level):
    """Steps from which on the summed divergence stays at the level or below."""
    sums = [sum(float(kl(s**2, VARIANCES[name](s**2, n))) for s in deviations) for n in range(1, MOST[name] + 1)]
    return max(n for n, value in enumerate(sums, 1) if value > level) + 1


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify  # draws everything again
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert two_percent_off(FIGURE, "deviation")


@pytest.mark.parametrize("name", MOST)
def test_evaluations_are_those_of_recursions(drawn, name):
    data = drawn(FIGURE).data
    for d, found in zip(data["dimensions"], data[f"dimension {name}"], strict=True):
        assert found == needed(name, [2.0] * int(d), data["level"])
    for ratio, found in zip(data["conditions"], data[f"condition {name}"], strict=True):
        assert found == needed(name, np.geomspace(ratio**-0.5, ratio**0.5, 8), data["level"])


def test_one_mass_for_all_modes(drawn):
    """Leapfrog in the textbook's form, with stiffnesses solved for by SciPy."""
    data = drawn(FIGURE).data
    for ratio, found in zip(data["conditions"], data["condition scalar_mass"], strict=True):
        deviations = np.geomspace(ratio**-0.5, ratio**0.5, 8)
        T = np.pi / 2 * deviations[0]

        def reached(k, T=T):
            w = np.sqrt(complex(k))
            return (np.cos(w * T) ** 2 + (np.sin(w * T) / w) ** 2).real

        def total(steps, deviations=deviations, T=T, reached=reached):
            h, divergence = T / steps, 0.0
            for s in deviations:
                top = (np.pi / 2 / T) ** 2
                k = top if s == deviations[0] else brentq(lambda k, s=s: reached(k) - s**2, -((np.arccosh(max(s, 1)) / T) ** 2) - 1e-3, top + 1e-9, xtol=1e-14)
                q, p = np.array([1.0, 0.0]), np.array([0.0, 1.0])
                for _ in range(steps):
                    p = p - h / 2 * k * q
                    q = q + h * p
                    p = p - h / 2 * k * q
                divergence += float(kl(s**2, q @ q))
            return divergence

        assert total(int(found)) <= data["level"] < total(int(found) - 1)


def test_horizons_grow_with_the_logarithm_of_the_dimension(drawn):
    data = drawn(FIGURE).data
    for d, b in zip(data["dimensions"], data["horizon vp"], strict=True):
        assert d * float(kl(1 + 3 * np.exp(-b), 1.0)) == pytest.approx(data["level"], rel=1e-8)
