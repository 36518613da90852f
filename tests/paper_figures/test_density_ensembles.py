"""Density ensembles: green as they stand, red when an input moves or a theorem fails, and the plotted gains again from the parts of the study."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ensembletheory.plotting import LOOKS, style
from paper_figures.density_ensembles import FIGURE
from simulations.density_ensembles import MODELS, grid, study
from simulations.store import load


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    """The figure with a store of its own, which the tests of this file share."""
    return FIGURE.with_inputs(store=str(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def rows(figure, drawn):
    """The rows of the study's parts that the quick figure has left."""
    drawn(figure)
    settings = figure.settings(quick=True)
    cells = grid(**{name: value for name, value in settings.items() if name not in ("seed", "store")})
    return load(replace(study, cells=cells, quick=()), settings["store"]).to_pylist()


def test_every_number_of_the_caption_holds(drawn, figure):
    assert len(drawn(figure).record["numbers"]) == 8 + 4


def test_a_change_of_two_percent_turns_the_run_red(drawn, figure, two_percent_off):
    drawn(figure)
    off = two_percent_off(figure, "ridge")
    assert {name.split(",")[0] for name in off} - {"standard error of log Z"} == {"wine mixture"}  # PPCA has no ridge, and the theorems hold all the same


def test_gains_and_their_errors_are_paired_over_splits(drawn, figure, rows):
    data = drawn(figure).data
    for model in MODELS:
        for pool in ("linear", "log"):
            gains = {k: [row["average"] - row[pool] for row in rows if (row["model"], row["members"]) == (model, k)] for k in data["sizes"]}
            np.testing.assert_allclose(data[f"wine {model} {pool} gain"], [np.mean(g) for g in gains.values()], rtol=1e-12, atol=1e-13)
            np.testing.assert_allclose(data[f"wine {model} {pool} standard error"], [stats.sem(g) for g in gains.values()], rtol=1e-9, atol=1e-13)


def test_bands_are_intervals_of_student(drawn, figure):
    data = drawn(figure).data
    with style():
        (ax,) = FIGURE.draw(data).axes
    bands = [band.get_paths()[0].vertices[:, 1] for band in ax.collections]
    for band, (model, pool) in zip(bands, [(model, pool) for model in MODELS for pool in ("linear", "log")], strict=True):
        gains = data[f"wine {model} average"][:, -1] - data[f"wine {model} {pool}"][:, -1]
        assert band.max() >= stats.t.interval(0.95, 5, gains.mean(), stats.sem(gains))[1] * (1 - 1e-12)
        assert np.isclose(band, stats.t.interval(0.95, 5, gains.mean(), stats.sem(gains))[0], rtol=1e-9).any()
    assert {line.get_color() for line in ax.lines} == {LOOKS["linear"].color, LOOKS["log"].color}
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == 4


def test_theorems_hold_in_every_split(drawn, figure):
    data = drawn(figure).data
    for model in MODELS:
        assert (data[f"wine {model} linear gains"][:, 1:] > 0).all()
        assert (data[f"wine {model} log_normaliser"][:, 1:] < 0).all()
        np.testing.assert_allclose(data[f"wine {model} log gains"], -data[f"wine {model} log_normaliser"], atol=1e-10)
    assert (data["wine mixture log_normaliser_error"][:, 1:] > 0).all()
    assert (data["wine ppca log_normaliser_error"] == 0).all()


@pytest.mark.parametrize(
    ("array", "value", "name"),
    [
        ("wine mixture linear gains", -1e-6, "linear pools behind the average"),
        ("wine ppca log_normaliser", -9.0, "log pools apart from log Z"),
        ("wine ppca log gain", 9.0, "doublings that lose"),
    ],
)
def test_one_violation_of_a_theorem_is_counted(drawn, figure, array, value, name):
    data = {key: np.array(entry) for key, entry in drawn(figure).data.items()}
    data[array].reshape(-1)[1] = value
    off = [(number.name, number.got) for number in FIGURE.caption(data).numbers if not number.holds]
    assert off == [(name, 1)]


def test_a_cell_that_fails_is_named(tmp_path):
    settings = FIGURE.settings(quick=True) | {"store": str(tmp_path), "datasets": ["iris"]}
    with pytest.raises(RuntimeError, match=r"12 cells failed, the first .*ValueError: `dataset`: got 'iris'"):
        FIGURE.compute(**settings)


def test_the_full_caption_prints_what_it_asserts_for_every_data_set(drawn, figure):
    quick = drawn(figure).data
    data = {key.replace("wine", name): entry for key, entry in quick.items() for name in ("wine", "breast_cancer", "digits")}
    data |= {"datasets": np.array(["wine", "breast_cancer", "digits"]), "splits": np.array(30)}
    caption = FIGURE.caption(data)
    assert len(caption.numbers) == 3 * 8 + 4
    assert "(c) digits" in caption.text
    assert sum(not number.holds for number in caption.numbers) > 12  # these are other data
