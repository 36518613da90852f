"""The policy: theorems must hold, conjectures are never true, refuted claims must stay refuted."""

import json
import re
from pathlib import Path

import jax.numpy as jnp
import pytest

from ensembletheory.claims import Domain, check, real, stored
from tests.claims.toys import toy


def test_a_theorem_that_holds():
    result = check(toy(lambda x: 1.0 + x**2, kind="theorem"), samples=300)
    assert result.holds
    assert result.verdict.startswith("holds: no violation among 300 random instances")
    assert 1.0 <= result.margin < 1.1
    assert result.evaluations == 300


def test_a_theorem_with_a_wrong_sign_fails():
    result = check(toy(lambda x: -1.0 - x**2, kind="theorem"))
    assert not result.holds
    assert result.verdict.startswith("violated")
    assert result.margin < -8
    assert abs(result.instance["x"]) > 2.5


def test_a_theorem_that_is_not_tight_where_it_says_so_fails():
    family = lambda: [{"x": 0.0}, {"x": 1.0}]  # noqa: E731
    assert check(toy(lambda x: x**2 * (x - 1) ** 2, kind="theorem", equality=family)).holds
    loose = check(toy(lambda x: x**2, kind="theorem", equality=family))
    assert not loose.holds
    assert loose.tightness == 1.0
    assert "not tight" in loose.verdict


def test_a_conjecture_is_never_reported_as_true():
    result = check(toy(lambda x: 1.0 + x**2, kind="conjecture"))
    assert result.holds
    assert result.verdict.startswith("open: no violation among 4,096 random instances, least margin 1")
    assert not any(word in result.verdict for word in ("true", "holds", "proved"))


def test_a_conjecture_with_a_counterexample_fails():
    assert not check(toy(lambda x: x, kind="conjecture")).holds


@pytest.fixture
def refuted(tmp_path, monkeypatch):
    """A false claim, and a function that stores a counter-example for it."""
    path = tmp_path / "toy.json"
    monkeypatch.setattr(stored, "counterexample_path", lambda claim: path)
    return toy(lambda x: x + 1.0, kind="refuted"), path.write_text


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ({"instance": {"x": "-3/2"}}, "refuted: margin -0.5"),
        ({"instance": {"x": "1/2"}}, "no longer refutes it: margin 1.5"),
        ({"instance": {"x": "-1"}}, "no longer refutes it"),
        ({"instance": {"x": "-4"}}, r"`x`: got numbers between -4 and -4; expected \[-3, 3\]"),
        ({"instance": {"x": ["-2"]}}, r"shape \(1,\)"),
        ({"instance": {"y": "-2"}}, r"exactly \['x'\]"),
        ({"instance": {"x": "minus two"}}, "no valid stored counter-example"),
        ({"instance": {"x": "1/0"}}, "no valid stored counter-example"),
        ({"margin": -1}, "no valid stored counter-example"),
        ([], "no valid stored counter-example"),
    ],
)
def test_a_refuted_claim_must_stay_refuted(refuted, text, verdict):
    claim, store = refuted
    store(json.dumps(text))
    result = check(claim)
    assert result.holds is verdict.startswith("refuted")
    assert re.search(verdict, result.verdict)


def test_a_refuted_claim_without_a_file_fails(refuted):
    result = check(refuted[0])
    assert not result.holds
    assert "FileNotFoundError" in result.verdict


def test_counterexamples_lie_beside_the_file_that_makes_the_claim():
    assert stored.counterexample_path(toy(lambda x: x)) == Path(__file__).parent / "counterexamples" / "toy.json"


def test_margins_that_cannot_be_traced_are_checked_one_by_one():
    result = check(toy(lambda x: float(x) ** 2 + 1, kind="theorem"), samples=20)
    assert result.holds
    assert result.margin >= 1


def test_another_seed_draws_other_instances():
    claim = toy(lambda x: x + 3.0, kind="theorem", domain=Domain(x=real(-3, 3)))
    assert check(claim, seed=0).margin == check(claim, seed=0).margin != check(claim, seed=1).margin


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="`samples`: got 0"):
        check(toy(lambda x: jnp.abs(x)), samples=0)
