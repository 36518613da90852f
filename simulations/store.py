"""The store: one Parquet part per cell, under the cell's address, written whole.

`<store>/<study>/<address>.parquet` holds the rows of one cell, coordinates first, and in its metadata the study, source, seed, cell, versions and a
hash of the rows. A part is renamed into place when it is complete, so a killed run leaves no half part; a part damaged later is told by its hash
and counts as absent. Nobody lists the folder: the parts of a study are exactly those at the addresses of its cells.
"""

import hashlib
import importlib.metadata
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensembletheory.errors import missing_extra, refuse
from ensembletheory.files import write_whole
from simulations.study import Cell, Row, Study, canonical

try:
    import pyarrow as pa
    import pyarrow.parquet as pq
except ImportError:
    missing_extra("pyarrow", "sweep")

__all__ = ["DamagedPart", "Survey", "load", "part_path", "read_part", "survey", "write_part"]

PACKAGES = ("ensembletheory", "jax", "jaxlib", "numpy", "pyarrow")


class DamagedPart(Exception):
    """A part that is not what was written under its name."""


def part_path(store: Path | str, study: Study, cell: Cell) -> Path:
    """Where the rows of `cell` are kept."""
    return Path(store) / study.name / f"{study.address(cell)}.parquet"


def write_part(store: Path | str, study: Study, cell: Cell, rows: Sequence[Row]) -> Path:
    """Write the rows of `cell` whole.

    Raises:
        ValueError: if the rows have different columns, a column named like a coordinate, or a value that is no scalar.
    """
    table = pa.Table.from_pylist([{**cell, **row} for row in _tidy(cell, rows)])
    record = {**_identity(study, cell, table), "versions": _versions()}
    content = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"simulation": canonical(record)}), content)
    return write_whole(part_path(store, study, cell), content.getvalue())


def read_part(store: Path | str, study: Study, cell: Cell) -> pa.Table:
    """The rows of `cell`, checked against the hash they were written with.

    Raises:
        FileNotFoundError: if there is no such part.
        DamagedPart: if it is truncated, altered, or another cell's.
    """
    path = part_path(store, study, cell)
    content = path.read_bytes()
    try:
        table = pq.read_table(io.BytesIO(content), use_threads=False, pre_buffer=False)  # threads of Arrow may outlive the interpreter, which aborts
        whole = json.loads(table.schema.metadata[b"simulation"]).items() >= _identity(study, cell, table).items()
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedPart(f"{path.name}: {error}") from error
    if not whole:
        raise DamagedPart(f"{path.name}: these are not the rows that were written under this name")
    return table.replace_schema_metadata(None)


@dataclass(frozen=True)
class Survey:
    """What the store holds of a study: the whole parts in the order of the sorted cells, and the cells still to be computed."""

    parts: list[pa.Table]
    absent: list[Cell]
    damaged: list[Cell]

    @property
    def todo(self) -> list[Cell]:
        """The cells without a whole part."""
        return self.absent + self.damaged


def survey(study: Study, store: Path | str) -> Survey:
    """Read every part of `study` that is there."""
    found = Survey([], [], [])
    for cell in study.sorted_cells():
        try:
            found.parts.append(read_part(store, study, cell))
        except FileNotFoundError:
            found.absent.append(cell)
        except DamagedPart:
            found.damaged.append(cell)
    return found


def load(study: Study, store: Path | str) -> pa.Table:
    """The rows of exactly the cells of `study`: cells sorted by their coordinates, the rows of a cell as they were returned.

    Raises:
        ValueError: if a part is absent or damaged.
    """
    found = survey(study, store)
    if found.todo:
        count = f"{len(found.absent)} absent and {len(found.damaged)} damaged parts, the first for {dict(found.todo[0])}"
        refuse("store", f"{count}, in {store}", f"all {len(study.cells)} parts of {study.name}", "Run the study again: it goes on where it stopped.")
    return pa.concat_tables(found.parts, promote_options="permissive").combine_chunks()


def _tidy(cell: Cell, rows: Sequence[Row]) -> list[dict[str, Any]]:
    for row in rows:
        if set(row) != set(rows[0]) or set(row) & set(cell):
            refuse("rows", f"columns {sorted(row)}", f"the columns of the first row, {sorted(rows[0])}, none of them in {sorted(cell)}", "Rename it.")
    return [{name: _scalar(name, value) for name, value in row.items()} for row in rows]


def _scalar(name: str, value: Any) -> str | int | float | bool | None:
    value = value.item() if hasattr(value, "item") and value.ndim == 0 else value
    if type(value) not in (str, int, float, bool, type(None)):
        refuse("rows", f"{name} = {value!r}", "str, int, float, bool or None", "Give every number its own row or column.")
    return value


def _identity(study: Study, cell: Cell, table: pa.Table) -> dict[str, Any]:
    rows = hashlib.sha256(canonical(table.to_pylist()).encode()).hexdigest()
    return {"study": study.name, "source": study.source, "seed": study.seed, "cell": dict(cell), "rows": rows}


def _versions() -> dict[str, str]:
    installed = {distribution.metadata["Name"]: distribution.version for distribution in map(_distribution, PACKAGES) if distribution}
    return {"python": platform.python_version(), **installed}


def _distribution(package: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:  # a checkout on the path, not installed
        return None
