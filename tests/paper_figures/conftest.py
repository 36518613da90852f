"""What every figure must pass; the test of a figure calls these with its FIGURE."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from paper_figures.__main__ import main
from paper_figures.framework import runner
from paper_figures.framework.runner import read_record


def _run(figure, out):
    status = main([figure.name], quick=True, out=out, figures={figure.name: figure})
    return SimpleNamespace(status=status, record=read_record(out / f"{figure.name}.json"), data=dict(np.load(out / f"{figure.name}.npz")))


def _lay_out(picture, format, note):
    """What painting would find wrong, without painting: .ci/run paints every figure after the tests."""
    if format == "pdf":
        picture.draw_without_rendering()
    return b""


def _decimals(value):
    if isinstance(value, list | tuple):
        return set().union(*map(_decimals, value))
    return {repr(value)} if isinstance(value, float) else set()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """Draw a figure from small inputs, check that all its numbers hold and that its caption prints no decimal but these and its inputs; give status, record and data."""
    runs = {}

    def draw(figure):
        if figure.name in runs:
            return runs[figure.name]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "render", _lay_out)
            run = runs[figure.name] = _run(figure, tmp_path_factory.mktemp(figure.name))
        off = [number for number in run.record["numbers"] if not number["holds"]]
        assert (run.status, run.record["verdict"], off) == (0, "green", [])
        asserted = {number["printed"].lstrip("-") for number in run.record["numbers"]} | _decimals(list(run.record["inputs"].values()))
        assert set(re.findall(r"\d+\.\d+", run.record["caption"])) <= asserted
        return run

    return draw


@pytest.fixture
def two_percent_off(tmp_path, monkeypatch):
    """The numbers that go red when one input of a figure is changed by 2 %, after checking that the run says so; nothing is painted, for numbers decide."""
    monkeypatch.setattr(runner, "render", lambda picture, format, note: b"")

    def change(figure, argument):
        changed = (np.asarray(figure.inputs[argument]) * 1.02).tolist()
        run = _run(figure.with_inputs(**{argument: changed}), tmp_path)
        assert (run.status, run.record["verdict"]) == (1, "red"), f"a change of {argument} by 2 % went unnoticed"
        return [number["name"] for number in run.record["numbers"] if not number["holds"]]

    return change
