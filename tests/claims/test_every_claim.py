"""What every claim of the registry must pass, whatever it says: it holds, it is tight where it says so, its source can be cited, and what is false is found by the search.

That margins compute what statements say is tested claim by claim, by second routes, in the other files of this folder.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensembletheory.claims import check, falsify, get, ids
from ensembletheory.claims.bibliography import bibtex
from ensembletheory.claims.evaluation import stacked
from tests.claims.margins import TOGETHER, evaluator

BUDGET = 2_000
STANDING = [id for id in ids() if get(id).kind != "refuted"]
THEOREMS = [id for id in ids() if get(id).kind == "theorem"]
REFUTED = [id for id in ids() if get(id).kind == "refuted"]
MUTANTS = [(id, name) for id in ids() for name in get(id).mutants]


@pytest.mark.parametrize("id", STANDING)
def test_it_holds_on_generated_instances(id):
    claim = get(id)

    @settings(max_examples=3, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(claim.domain.strategy(), min_size=TOGETHER, max_size=TOGETHER))
    def holds(instances):
        values, errors = evaluator(claim)(stacked([claim.domain.check(instance) for instance in instances]))
        worst = int(np.argmin(values + errors))
        assert not claim.violated(values[worst], errors[worst]), (values[worst], instances[worst])

    holds()


@pytest.mark.parametrize("id", THEOREMS)
def test_its_equality_family_is_tight(id):
    claim = get(id)
    values, errors = evaluator(claim)(stacked([claim.domain.check(instance) for instance in claim.equality()]))
    assert np.all(abs(values) <= errors + claim.rounding), values
    assert len(values) > 1


@pytest.mark.parametrize("id", THEOREMS)
def test_it_would_be_false_without_one_of_its_hypotheses(id):
    assert get(id).mutants


@pytest.mark.parametrize("id", ids())
def test_its_source_can_be_cited_and_its_statement_drawn(id):
    claim = get(id)
    assert claim.source
    assert claim.proof or claim.kind == "conjecture"
    assert bibtex(claim.references).count("\n@") == len(claim.references) - 1
    mathtext = pytest.importorskip("matplotlib.mathtext")
    assert mathtext.MathTextParser("path").parse(f"${claim.statement}$").width > 100


@pytest.mark.verify
@pytest.mark.parametrize("id", STANDING)
def test_check_and_search_find_nothing_against_it(id):
    assert check(id, samples=1024).holds
    assert not falsify(id, budget=BUDGET).found


@pytest.mark.verify
@pytest.mark.parametrize("id", REFUTED)
def test_the_search_refutes_it_by_itself(id, hidden_store):
    assert falsify(id, budget=BUDGET).found


@pytest.mark.verify
@pytest.mark.parametrize(("id", "name"), MUTANTS)
def test_the_search_finds_its_mutant(id, name, hidden_store):
    result = falsify(get(id).mutated(name), budget=BUDGET)
    assert result.found, result.verdict
    assert result.margin + result.error < 0
