"""What several tests of claims ask for."""

import pytest

from ensembletheory.claims import stored


@pytest.fixture
def hidden_store(tmp_path, monkeypatch):
    """No stored counter-example can be looked up."""
    monkeypatch.setattr(stored, "counterexample_path", lambda claim: tmp_path / f"{claim.id}.json")
    return tmp_path
