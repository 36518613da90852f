"""The table: green from the knots, red when an input moves, every cell again by recursions, and infinite, never NaN, where the spectrum is singular."""

import collections
import os
from pathlib import Path

import numpy as np
import pytest

from paper_figures import pierret_galerne_fig2
from paper_figures.__main__ import main
from paper_figures.framework.runner import read_record
from paper_figures.pierret_galerne_table import DOUBLED, FIGURE
from tests.paper_figures.recursions import EVALUATIONS, along, continuous, noised, w2

NAMES = {"EM": "EM", "EI": "EI", "DDPM": "DDPM", "Euler": "Euler", DOUBLED: "Heun", "Heun": "Heun", "RK4": "RK4"}


def last(values):
    return collections.deque(values, maxlen=1)[0]


def test_every_robust_cell_of_both_publications_holds(drawn):
    run = drawn(FIGURE)
    labels = collections.Counter(number["name"].split(",")[0] for number in run.record["numbers"])
    # two budgets with two starts: 16 rows of the preprint less 2 of Heun, 24 of the ICML version less 3 of Heun and 3 of RK4; continuous rows but for 1e-5 and 1e-4
    assert labels["Preprint (2024)"] == 14 * 4 + 6 * 2
    assert labels["ICML (2025)"] == 18 * 4 + 4 * 2


def test_a_change_of_two_percent_turns_the_run_red(two_percent_off):
    assert len(two_percent_off(FIGURE, "eigenvalues")) > 10


def test_the_spectrum_runs_through_its_knots(drawn):
    spectrum = drawn(FIGURE).data["spectrum"]
    assert spectrum.shape == (3072,)
    np.testing.assert_allclose(spectrum[[0, 10, 599, 3071]], [221.0, 9.98, 0.0286, 6.34e-6], rtol=1e-12)
    np.testing.assert_allclose(spectrum[12], 9.98 * (6.23 / 9.98) ** (2 / 5), rtol=1e-12)
    np.testing.assert_allclose(spectrum.sum(), 760.6, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_cells_of_a_scheme_are_those_of_its_recursion(drawn, name):
    data = drawn(FIGURE).data
    values, scheme = data["spectrum"], NAMES[name]
    starts = np.stack([noised(values, 1.0), np.ones_like(values)])
    for i, budget in enumerate(data["budgets"]):
        nodes = budget // (1 if name == DOUBLED else EVALUATIONS.get(scheme, 1))
        for j, truncation in enumerate(data["truncations"]):
            expected = [w2(v, values) for v in last(along(scheme, values, nodes, truncation, starts))]
            np.testing.assert_allclose(data[name][i, j], expected, rtol=1e-8, err_msg=f"{budget}, {truncation}")


@pytest.mark.parametrize("name", ["SDE", "ODE"])
def test_continuous_cells_are_those_of_the_propositions(drawn, name):
    data = drawn(FIGURE).data
    values = data["spectrum"]
    for i, truncation in enumerate(data["truncations"]):
        expected = [w2(continuous(name, values, truncation, start), values) for start in (noised(values, 1.0), np.ones_like(values))]
        np.testing.assert_allclose(data[name][0, i], expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(data["SDE"][0, 0, 1], 6.645e-4, atol=5e-8)
    np.testing.assert_allclose(data["ODE"][0, 0, 1], 0.07273, atol=5e-6)


def test_a_file_of_eigenvalues_takes_the_place_of_the_knots_and_zeros_are_met_with_infinity(drawn, tmp_path):
    knots, file = drawn(FIGURE).data, tmp_path / "spectrum.npy"
    values = np.where(np.arange(3072) < 3063, knots["spectrum"], 0.0)
    np.save(file, values.astype(np.float32))
    assert main([FIGURE.name], quick=True, out=tmp_path, figures={FIGURE.name: FIGURE}, spectrum=file) == 1  # it is not the published spectrum
    record, data = read_record(tmp_path / f"{FIGURE.name}.json"), np.load(tmp_path / f"{FIGURE.name}.npz")
    assert record["inputs"]["spectrum"]["file"] == str(file)
    assert {number["tolerance"] for number in record["numbers"] if len(number["printed"]) == 4 and "ICML" in number["name"]} == {0.005}  # half a unit, no more
    by_name = {number["name"]: number for number in record["numbers"]}
    assert by_name["infinite cells among those without a number"]["got"] == 8  # Heun and RK4 at truncation 0, two budgets, two starts
    assert all(not np.isnan(data[name]).any() for name in (*NAMES, "SDE", "ODE"))
    assert [name for name in NAMES if np.isinf(data[name]).any()] == [DOUBLED, "Heun", "RK4"]
    np.testing.assert_allclose(data["EM"][0, 3], knots["EM"][0, 3], rtol=1e-3)


def test_a_spectrum_for_figures_that_take_none_is_wrong_use(tmp_path, capsys):
    assert main([pierret_galerne_fig2.FIGURE.name], out=tmp_path, figures={pierret_galerne_fig2.FIGURE.name: pierret_galerne_fig2.FIGURE}, spectrum=tmp_path / "any.npy") == 2
    assert "--spectrum: pierret_galerne_fig2 take no spectrum" in capsys.readouterr().err


def test_spectra_that_are_none_are_refused(tmp_path):
    for bad in ([[1.0]], [1.0, -1.0], [1.0, np.nan]):
        np.save(tmp_path / "bad.npy", bad)
        with pytest.raises(ValueError, match=r"`spectrum`: got .*eigenvalues >= 0"):
            FIGURE.compute(**FIGURE.with_inputs(spectrum={"file": str(tmp_path / "bad.npy")}).settings(quick=True))


@pytest.mark.verify
@pytest.mark.parametrize(("version", "cells"), [("icml", 22 * 8 + 8 * 2 + 4 * 8 + 2), ("preprint", 16 * 8 + 8 * 2)])
def test_every_published_cell_is_met_to_its_digits_by_the_published_spectra(tmp_path, version, cells):
    """Where ENSEMBLETHEORY_SPECTRA names a folder with the files that stand beside the authors' code, which has no licence."""
    file = Path(os.environ.get("ENSEMBLETHEORY_SPECTRA", "nowhere")) / f"cifar10_eigenvalues_{version}.npy"
    if not file.exists():
        pytest.skip(f"{file.name} is not at hand")
    assert main([FIGURE.name], out=tmp_path, figures={FIGURE.name: FIGURE}, spectrum=file) == 0
    assert len(read_record(tmp_path / f"{FIGURE.name}.json")["numbers"]) == cells
