"""Checkpoints of figures: files under the output folder's hidden folder `.work`, from which a figure that was cut short goes on.

They are keyed by what a figure depends on (inputs, sources, libraries), so that a figure that goes on is the one that an uninterrupted run draws, and they are removed
when the figure stands.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from ensembletheory.errors import refuse

__all__ = ["checkpoint", "remove_checkpoints", "working"]

FOLDER = ".work"

_running: ContextVar[tuple[str, Path] | None] = ContextVar("running", default=None)


@contextmanager
def working(name: str, out: Path, key: str) -> Iterator[None]:
    """While the figure `name` is computed: its checkpoints lie under `out`, apart from those of other keys."""
    token = _running.set((name, out / FOLDER / name / key))
    try:
        yield
    finally:
        _running.reset(token)


def checkpoint(figure_name: str, part: str) -> Path | None:
    """Where the figure that is being drawn keeps what it has done of `part`, for the argument `checkpoint` of training; None where `compute` is called by itself.

    Raises:
        ValueError: if another figure is being drawn.
    """
    running = _running.get()
    if running is None:
        return None
    name, folder = running
    if name != figure_name:
        refuse("figure_name", repr(figure_name), f"the figure that is being drawn, {name!r}", "Pass the name of the FIGURE whose `compute` this is.")
    return folder / part


def remove_checkpoints(name: str, out: Path) -> None:
    """Remove all checkpoints of the figure `name`, of other inputs and sources too."""
    shutil.rmtree(out / FOLDER / name, ignore_errors=True)
    with suppress(OSError):  # missing, or another figure's checkpoints lie there
        (out / FOLDER).rmdir()
