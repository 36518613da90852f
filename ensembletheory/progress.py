"""One progress display for everything that takes long: a bar on a terminal, a line per tenth in a log once it has taken 2 seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

__all__ = ["progress"]

T = TypeVar("T")

_SHORT = 2.0  # seconds of which a log is told nothing


def progress(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield `items`, showing on stderr how many of `total` are done."""
    if sys.stderr.isatty():
        yield from track(items, description, total=total, console=Console(stderr=True), transient=True)
    else:
        yield from _logged(items, description, total)


def _logged(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    start, printed = time.monotonic(), 0
    for done, item in enumerate(items, start=1):
        yield item
        elapsed = time.monotonic() - start
        if done * 10 // total > printed and elapsed > _SHORT:
            printed = done * 10 // total
            print(f"{description}: {done}/{total}, {elapsed:.0f} s", file=sys.stderr, flush=True)
