"""Documents name claims that exist, and give them the verdict that the registry gives."""

import re
from pathlib import Path

import pytest

from ensembletheory.claims import get, ids

DOCUMENTS = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
NAME = r"`([a-z0-9]+(?:-[a-z0-9]+)+)`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_claim_that_is_named_exists(document):
    assert set(re.findall(NAME, document.read_text())) <= set(ids())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_verdicts(document):
    """Rows of the table: what is said to be true, false or open is a theorem, refuted or a conjecture."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in document.read_text().splitlines() if line.startswith("|")]
    verdicts = {id: row[1] for row in rows if len(row) == 3 for id in re.findall(NAME, row[2])}
    assert len(verdicts) > 15
    kinds = {"theorem": ("true", "exact"), "refuted": ("false", "neither always"), "conjecture": ("open",)}
    assert {id: verdict for id, verdict in verdicts.items() if not any(word in verdict for word in kinds[get(id).kind])} == {}
