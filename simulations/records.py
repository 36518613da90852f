"""Write what the store holds of the study of searches into the package, one file a claim: python -m simulations.records [STORE]."""

import json
import sys
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ensembletheory.claims.searched import record_path
from ensembletheory.claims.stored import as_json
from ensembletheory.files import write_whole
from simulations.cli import DEFAULT_STORE
from simulations.searches import study
from simulations.store import survey

__all__ = ["box", "publish"]

SAME = 1e-4  # distance within which two parts found the same least margin
WHERE = ("claim", "churn", "dim", "members")


def publish(store: Path) -> list[Path]:
    """Write the records of every claim of which the store holds a part; the paths."""
    parts = defaultdict(lambda: defaultdict(list))
    for row in (row for table in survey(study, store).parts for row in table.to_pylist()):
        parts[row["claim"]][tuple(row[name] for name in WHERE)].append(row)
    return [_written(id, [box(rows) for rows in of_claim.values()]) for id, of_claim in parts.items()]


def box(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One record for the parts of one box: sums, the least margin, and the part of all local searches that ended at it."""
    worst, searches = min(rows, key=lambda row: row["least"]), sum(row["searches"] for row in rows)
    again = sum(row["rehits"] * row["searches"] for row in rows if row["least"] - worst["least"] < SAME)
    total = {name: sum(row[name] for row in rows) for name in ("evaluations", "searches")}
    shared = {name: worst[name] for name in ("dim", "members", "churn", "domain", "least", "found", "method")}
    speed = total["evaluations"] / sum(row["seconds"] for row in rows)
    return {
        **shared,
        **total,
        "evaluations_per_second": round(speed),
        "rehits": again / searches,
        "seeds": sorted(row["part"] for row in rows),
        "instance": json.loads(worst["instance"]),
    }


def _written(id: str, boxes: list[dict[str, Any]]) -> Path:
    ordered = sorted(boxes, key=lambda box: (box["dim"], str(box["churn"]), box["members"]))
    record = {"id": id, "ensembletheory": version("ensembletheory"), "evaluations": sum(box["evaluations"] for box in boxes), "boxes": ordered}
    return write_whole(record_path(id), as_json(record))


if __name__ == "__main__":
    for path in publish(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_STORE):
        print(path)
