"""The figure's shares and wins again from the parts of the studies and the records of the searches."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ensembletheory import claims
from paper_figures.mean_score_monotone import FIGURE
from simulations import mean_score_monotone, sde_or_ode
from simulations.store import load


@pytest.fixture(scope="module")
def figure(tmp_path_factory):
    """The figure with a store of its own."""
    return FIGURE.with_inputs(store=str(tmp_path_factory.mktemp("store")))


def test_every_number_of_the_caption_holds(drawn, figure):
    assert len(drawn(figure).record["numbers"]) == 6 + 2 + 2


def test_shares_of_random_ensembles_are_those_of_the_study(drawn, figure):
    data = drawn(figure).data
    cells = [cell for cell in mean_score_monotone.study.cells if (cell["frames"], cell["dim"], cell["members"], cell["block"]) == ("common", 1, 4, 0)]
    rows = load(replace(mean_score_monotone.study, cells=cells, quick=()), figure.inputs["store"]).to_pylist()
    for sampler in ("sde", "ode"):
        found = [r["margin"] * r["k"] * (r["k"] + 1) * 3 / 4 / (r["kl_of_one"] - r["kl_of_all"]) for r in rows if r["sampler"] == sampler]
        np.testing.assert_allclose(data[f"random_{sampler}"], [[4, np.median(found), np.min(found)]], rtol=1e-12)
        assert len(found) == data["ensembles_monotone"]


def test_wins_are_counted_over_ensembles(drawn, figure):
    data = drawn(figure).data
    cells = [cell for cell in sde_or_ode.study.cells if (cell["kind"], cell["dim"], cell["members"]) == ("common", 2, 4)]
    rows = load(replace(sde_or_ode.study, cells=cells, quick=()), figure.inputs["store"]).to_pylist()
    expected = [sum(row[f"{d}_sde"] > row[f"{d}_ode"] for row in rows) / len(rows) for d in ("kl", "w2")]
    np.testing.assert_allclose(data["wins_common"], [[4, *expected]])


def test_searched_shares_are_those_of_the_package(drawn, figure):
    record = json.loads((Path(claims.__file__).parent / "searches" / "mean-score-monotone-in-k.json").read_text())
    expected = [[box["members"], box["least"]] for box in record["boxes"] if box["churn"] == 1.0]
    np.testing.assert_array_equal(drawn(figure).data["searched_sde"], expected)
