"""Records of searches: parts of a box are added up, and the line that `check` prints says what was done."""

import json

import numpy as np

from ensembletheory.claims import searched
from simulations.records import box, publish
from simulations.searches import BUDGETS, study
from simulations.store import write_part


def row(part, least, rehits=0.5, evaluations=90, seconds=2.0):
    found = {"evaluations": evaluations, "seconds": seconds, "searches": 10, "rehits": rehits, "least": least, "found": False, "method": "L-BFGS", "domain": "x"}
    return found | {"margin": least, "error": 0.0, "instance": json.dumps({"x": [part]})}


def test_parts_of_a_box_are_added_up():
    where = {"claim": "toy", "churn": None, "dim": 1, "members": 3}
    found = box([{**where, "part": part, **row(part, least)} for part, least in ((0, 0.5), (1, 0.25), (2, 0.25 + 1e-6))])
    assert (found["evaluations"], found["searches"], found["least"], found["instance"]) == (270, 30, 0.25, {"x": [1]})
    np.testing.assert_allclose(found["rehits"], 10 / 30)
    assert (found["evaluations_per_second"], found["seeds"]) == (45, [0, 1, 2])


def test_what_the_store_holds_is_published_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr("simulations.records.record_path", lambda id: tmp_path / f"{id}.json")
    monkeypatch.setattr(searched, "record_path", lambda id: tmp_path / f"{id}.json")
    cells = [cell for cell in study.cells if cell["claim"] == "churn-monotone" and cell["members"] in (4, 8)]
    for cell in cells:
        write_part(tmp_path, study, cell, [row(cell["part"], 0.1 * cell["members"])])
    assert publish(tmp_path) == [tmp_path / "churn-monotone.json"]
    assert [found["members"] for found in searched.boxes("churn-monotone")] == [4, 8]
    assert searched.effort("churn-monotone") == f"searched with {90 * len(cells)} evaluations (d <= 1, 4 to 8 members), least 0.4, re-found by 50%"
    assert searched.effort("mean-score-monotone-centred") == ""


def test_budgets_are_those_of_the_issue():
    for id in ("mean-score-monotone-in-k", "mean-score-monotone-centred", "churn-monotone"):
        assert sum(budget for claim, *_, budget in BUDGETS if claim == id) >= 10**8
        assert max(members for claim, _, _, members, _ in BUDGETS if claim == id) == 16
