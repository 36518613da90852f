"""Errors along the run: green from the knots, red when an input moves, every curve again by recursions, and proposition 4."""

import numpy as np
import pytest

from paper_figures.pierret_galerne_fig1 import FIGURE
from tests.paper_figures.recursions import EVALUATIONS, STEPS, along, continuous, noised, times, w2


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert len(two_percent_off(FIGURE, "betas")) > 10


@pytest.mark.parametrize("name", STEPS)
def test_curves_and_ends_are_those_of_the_recursion(drawn, name):
    data = drawn(FIGURE).data
    values, nodes = data["spectrum"], 1000 // EVALUATIONS.get(name, 1)
    np.testing.assert_allclose(data[f"times, {name}"], times(nodes, 0.0), atol=1e-15)
    for i, truncation in enumerate(data["truncations"]):
        laws = list(along(name, values, nodes, truncation, np.ones_like(values)))
        np.testing.assert_allclose(data[f"ends, {name}"][i], w2(laws[-1], values), rtol=1e-8)
        if truncation == 0:
            expected = [w2(law, noised(values, t)) for law, t in zip(laws, times(nodes, 0.0), strict=True)]
            np.testing.assert_allclose(data[f"along, {name}"], expected, rtol=1e-7)


@pytest.mark.parametrize("name", ["SDE", "ODE"])
def test_continuous_curves_are_those_of_the_propositions(drawn, name):
    data = drawn(FIGURE).data
    values = data["spectrum"]
    expected = [w2(continuous(name, values, t, np.ones_like(values)), noised(values, t)) for t in data[f"times, {name}"]]
    np.testing.assert_allclose(data[f"along, {name}"], expected, rtol=1e-7)
    expected = [w2(continuous(name, values, t, np.ones_like(values)), values) for t in data["truncations"]]
    np.testing.assert_allclose(data[f"ends, {name}"], expected, rtol=1e-7)


def test_the_sde_is_never_farther_from_the_path_than_the_flow(drawn):
    data = drawn(FIGURE).data
    assert (data["along, SDE"][:-1] < data["along, ODE"][:-1]).all()
    np.testing.assert_allclose(data["along, SDE"][-1], data["along, ODE"][-1], rtol=1e-12)
