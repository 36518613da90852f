"""What integration costs: green as it stands, red when an input moves, and its arrays again by recursions in NumPy and closed forms."""

import numpy as np
import pytest
from scipy.special import ellipe

from paper_figures.nhf_cost import EVALUATIONS, FIGURE
from tests.integration_cost.recursions import EVALUATIONS as A_STEP
from tests.integration_cost.recursions import EVERY, TOLERANCES, VARIANCES, kl


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify  # draws everything again
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    off = two_percent_off(FIGURE, "deviations")
    assert any("length" in name for name in off)
    assert any("lipschitz line" in name for name in off)


def test_evaluations_are_those_of_recursions(drawn):
    """From the number needed on divergences stay at the tolerance or below, and one step fewer does not."""
    data = drawn(FIGURE).data
    for name in ("quarter_turn", "linear_euler"):
        for s, row in zip(data["s"], data[f"evaluations {name}"], strict=True):
            values = [float(kl(s**2, VARIANCES[name](s**2, n))) for n in range(1, 65)]
            for tolerance, needed in zip(data["tolerances"], row, strict=True):
                above = [n for n, value in enumerate(values, 1) if value > tolerance]
                expected = above[-1] + 1 if above else 1
                assert needed == (expected * A_STEP[name] if expected <= 64 else np.inf)


@pytest.mark.parametrize("name", EVALUATIONS)
def test_cells_of_the_caption_are_those_of_the_table(name):
    assert EVALUATIONS[name] == tuple(EVERY[name][2][TOLERANCES.index(tolerance)] for tolerance in (1e-2, 1e-3))


def test_metrics_have_closed_forms(drawn):
    data = drawn(FIGURE).data
    s = data["s"]
    wide, narrow = np.maximum(s, 1), np.minimum(s, 1)
    np.testing.assert_allclose(data["length turn"], wide * ellipe(1 - (narrow / wide) ** 2), rtol=1e-9)
    np.testing.assert_allclose(data["length line"], 1 + s - 2 * s / np.sqrt(1 + s**2), atol=5e-4)  # a kink inside a panel
    np.testing.assert_allclose(data["lipschitz line"], np.log(1 + s**2) - np.log(s), atol=5e-4)
    np.testing.assert_allclose(data["lipschitz transport"], np.abs(np.log(s)), atol=1e-8)
    np.testing.assert_allclose(data["lipschitz turn"], np.pi / 2, rtol=1e-9)
    np.testing.assert_allclose(data["lipschitz prior"], np.pi / 2 * wide / narrow, rtol=1e-9)
    np.testing.assert_allclose(data["left turn"], 0.0, atol=1e-15)
    left = 1 + (s**2 - 1) * np.exp(-data["horizon vp"])
    np.testing.assert_allclose(kl(left, 1.0), data["level"], rtol=1e-9)


def test_verdicts(drawn):
    """Longer paths than flow matching for every deviation; a shorter Lipschitz time than transport only beyond pi / 2, and never in the units of the prior."""
    data = drawn(FIGURE).data
    assert np.all(data["length turn"] > data["length line"])
    np.testing.assert_array_equal(data["lipschitz turn"] < data["lipschitz transport"], np.abs(np.log(data["s"])) > np.pi / 2)
    assert np.all(data["lipschitz prior"] > data["lipschitz transport"])
    assert np.all(data["horizon vp"] > 0)
