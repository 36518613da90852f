"""Neural Hamiltonian flows on modes: green as it stands, red when an input moves; what the Gaussian misses by an integral along one axis and by modes far apart."""

import numpy as np
import pytest
from scipy import stats

from paper_figures.nhf_2d import FIGURE

SPACING, DEVIATION = FIGURE.inputs["spacing"], FIGURE.inputs["deviation"]
VARIANCE = 2 / 3 * SPACING**2 + DEVIATION**2


def test_every_number_of_the_caption_holds(drawn):
    drawn(FIGURE)


@pytest.mark.verify  # trains again
def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert "divergence of the Gaussian, grid" in two_percent_off(FIGURE.with_inputs(**FIGURE.quick_inputs), "deviation")


def test_the_gaussian_misses_a_grid_twice_what_it_misses_of_an_axis(drawn):
    """The grid is a product of two laws of three modes."""

    x = np.linspace(-4, 4, 4001)
    density = np.mean([stats.norm(m, DEVIATION).pdf(x) for m in (-SPACING, 0.0, SPACING)], axis=0)
    entropy = -np.trapezoid(density * np.log(density), x)
    assert drawn(FIGURE).data["grid normal"] == pytest.approx(np.log(2 * np.pi * np.e * VARIANCE) - 2 * entropy, abs=2e-5)


def test_the_gaussian_misses_the_ring_by_an_integral(drawn):
    axis, angles = np.linspace(-4, 4, 321), np.pi / 4 * np.arange(8)
    x, y = np.meshgrid(axis, axis)
    modes = SPACING * np.sqrt(4 / 3) * np.transpose([np.cos(angles), np.sin(angles)])
    density = np.mean([np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * DEVIATION**2)) for a, b in modes], axis=0) / (2 * np.pi * DEVIATION**2)
    entropy = -np.sum(density * np.log(density + 1e-300)) * (axis[1] - axis[0]) ** 2
    assert drawn(FIGURE).data["ring normal"] == pytest.approx(np.log(2 * np.pi * np.e * VARIANCE) - entropy, abs=2e-5)


def test_the_kinetic_energy_is_fixed_and_round(drawn):
    data = drawn(FIGURE).data
    q, p = np.meshgrid(data["axis"], data["axis"], indexing="ij")
    for target in ("grid", "ring"):
        kinetic = data[f"{target} fixed kinetic"]
        np.testing.assert_allclose(kinetic * 2 * (data["axis"][0] ** 2), (q**2 + p**2) * kinetic[0, 0], rtol=1e-12, atol=1e-12)


def test_a_deficit_is_not_negative(drawn):
    data = drawn(FIGURE).data
    for target in ("grid", "ring"):
        deficits = data[f"{target} fixed deficits"]
        assert deficits.mean() > -5 * deficits.std(ddof=1) / deficits.size**0.5
