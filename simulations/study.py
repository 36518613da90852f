"""A study: a grid of cells, and one function that turns a cell and a key into rows.

A cell is a flat dictionary of JSON scalars, the coordinates of one point of the grid; `simulate(cell, key)` returns the rows found there. Two
rules make every number a function of the study alone, whatever the order of the grid, the number of workers or the interruptions:

- the key of a cell is the root key (threefry, from the seed) folded with a hash of the cell's coordinates, never with its position in a loop;
- the address of a cell is a hash of (name, source, seed, cell), where the source is that of the module which defines `simulate` and of the modules
  listed in `uses`. A change to any of them gives another address, so stale results are never read.

The scalars 1, 1.0 and true are three different coordinates.
"""

import hashlib
import importlib
import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ensembletheory.errors import refuse

__all__ = ["Cell", "Row", "Study", "canonical", "resolve"]

Cell = Mapping[str, Any]
Row = Mapping[str, Any]


def canonical(value: Any) -> str:
    """The one JSON text of `value`: equal values give equal texts, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def resolve(reference: str) -> Any:
    """The object that "module:attribute" names.

    Raises:
        ValueError: if there is no such module or attribute.
    """
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        refuse("reference", f"{reference!r} ({error})", "an importable module:attribute", "Run from the folder that holds the module.")


@dataclass(frozen=True)
class Study:
    """One Monte-Carlo study; it can be run anywhere its `simulate` can be imported.

    Attributes:
        name: lower-case words joined by hyphens.
        cells: the grid; all cells have the same coordinates, each with a finite JSON scalar.
        simulate: a function at the top level of a module: (cell, key) -> rows, all with the same columns, none named like a coordinate.
        seed: the root seed.
        quick: a part of `cells` that takes seconds.
        uses: names of further modules whose source the numbers depend on.
        source: SHA-256 of the sources.
    """

    name: str
    cells: Sequence[Cell]
    simulate: Callable[[Cell, PRNGKeyArray], Sequence[Row]]
    seed: int = 0
    quick: Sequence[Cell] = ()
    uses: tuple[str, ...] = ()
    source: str = field(init=False)

    def __post_init__(self):
        _check_name(self.name)
        _check_cells(self.cells)
        _check_quick(self.quick, self.cells)
        _check_seed(self.seed)
        _check_importable(self.simulate)
        object.__setattr__(self, "source", _digest_of_sources(self.simulate.__module__, *self.uses))

    def address(self, cell: Cell) -> str:
        """The name of the cell's part: 40 hexadecimal digits."""
        identity = {"study": self.name, "source": self.source, "seed": self.seed, "cell": dict(cell)}
        return hashlib.sha256(canonical(identity).encode()).hexdigest()[:40]

    def key(self, cell: Cell) -> PRNGKeyArray:
        """The cell's own key: the root key folded with 64 bits of a hash of the coordinates."""
        key = jax.random.key(self.seed, impl="threefry2x32")
        for word in np.frombuffer(hashlib.sha256(canonical(dict(cell)).encode()).digest()[:8], dtype=">u4"):
            key = jax.random.fold_in(key, np.uint32(word))
        return key

    def sorted_cells(self) -> list[Cell]:
        """The cells in the one order in which results are read."""
        return sorted(self.cells, key=lambda cell: [(type(value).__name__, value) for _, value in sorted(cell.items())])


def _digest_of_sources(*modules: str) -> str:
    sources = [Path(_origin(module)).read_text(encoding="utf-8") for module in modules]
    return hashlib.sha256(canonical(sources).encode()).hexdigest()


def _origin(module: str) -> str:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.has_location or spec.origin is None:
        refuse("uses", repr(module), "names of modules with a source file", "Remove it from the list.")
    return spec.origin


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        refuse("name", repr(name), "lower-case words joined by hyphens", "It names a folder of the store.")


def _check_cells(cells: Sequence[Cell]) -> None:
    if not cells:
        refuse("cells", "none", "at least one cell", "Write the grid as a list of dictionaries.")
    for cell in cells:
        if set(cell) != set(cells[0]):
            refuse("cells", f"coordinates {sorted(cell)}", f"those of the first cell, {sorted(cells[0])}", "Give every cell the same coordinates.")
        for name, value in cell.items():
            _check_scalar(name, value)
    if len({canonical(dict(cell)) for cell in cells}) < len(cells):
        refuse("cells", "the same cell twice", "distinct cells", "Add a coordinate that numbers the repetitions.")


def _check_scalar(name: str, value: Any) -> None:
    if type(value) not in (str, int, float, bool, type(None)) or (isinstance(value, float) and not math.isfinite(value)):
        refuse("cells", f"{name} = {value!r} ({type(value).__name__})", "str, int, bool, None or a finite float", "Convert it to a plain Python scalar.")


def _check_quick(quick: Sequence[Cell], cells: Sequence[Cell]) -> None:
    known = {canonical(dict(cell)) for cell in cells}
    strangers = [cell for cell in quick if canonical(dict(cell)) not in known]
    if strangers:
        refuse("quick", f"{strangers[0]}", "cells of the full grid", "Choose the quick cells among `cells`, so that their results count in the full run.")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        refuse("seed", f"{seed}", "an integer from 0 to 2**32 - 1", "Choose another root seed.")


def _check_importable(simulate: Callable) -> None:
    if simulate.__module__ == "__main__" or not simulate.__qualname__.isidentifier():
        refuse("simulate", f"{simulate.__module__}:{simulate.__qualname__}", "a function at the top level of a module", "Workers import it by name.")
