"""Every counter-example on file is kept for ever: it lies in its claim's domain and violates it, in numbers that a reader can type."""

import json
from fractions import Fraction

import numpy as np
import pytest

from ensembletheory.claims import get, ids, stored

PATHS = sorted(stored.counterexample_path(get(ids()[0])).parent.glob("*.json"))


def fractions(value):
    return [Fraction(value)] if isinstance(value, str) else [q for item in value for q in fractions(item)]


def test_the_refuted_claims_have_one_each_and_nobody_else():
    assert [path.stem for path in PATHS] == sorted(id for id in ids() if get(id).kind == "refuted")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_violates_its_claim_as_recorded(path):
    claim, record = get(path.stem), json.loads(path.read_text())
    margin = claim.margin(**stored.read_instance(path))
    assert claim.violated(float(margin), float(margin.error))
    np.testing.assert_allclose(float(margin), record["margin"], rtol=1e-9)
    assert record["statement"] == claim.statement
    assert record["domain"] == str(claim.domain)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_it_fits_on_a_line(path):
    numbers = [q for value in json.loads(path.read_text())["instance"].values() for q in fractions(value)]
    assert max(max(abs(q.numerator), q.denominator) for q in numbers) <= 64
