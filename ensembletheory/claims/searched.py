"""How hard a claim was searched: one JSON file a claim, which ships with the package, with one record for each box."""

import json
from pathlib import Path
from typing import Any

__all__ = ["boxes", "effort", "record_path"]


def record_path(id: str) -> Path:
    """Where the searches of a claim are kept."""
    return Path(__file__).parent / "searches" / f"{id}.json"


def boxes(id: str) -> list[dict[str, Any]]:
    """The records of the boxes in which a claim was searched, none if it was not."""
    path = record_path(id)
    return json.loads(path.read_text())["boxes"] if path.is_file() else []


def effort(id: str) -> str:
    """One line on the searches of a claim, empty if there are none."""
    found = boxes(id)
    if not found:
        return ""
    evaluations, worst = sum(box["evaluations"] for box in found), min(found, key=lambda box: box["least"])
    where = f"d <= {max(box['dim'] for box in found)}, {min(box['members'] for box in found)} to {max(box['members'] for box in found)} members"
    return f"searched with {evaluations:,} evaluations ({where}), least {worst['least']:.3g}, re-found by {worst['rehits']:.0%}"
