"""Time the same work done by this package and by its peers, each in a process of its own, and print the ratio.

A row maps names of peers to a function that prepares the data and returns the work to time; `ours` is one of the names. A peer that is not installed is said to be
missing. Several thread pools in one process would fight for the cores, hence the processes. The first call, which compiles, is reported apart from the median of later ones.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

__all__ = ["Rows", "main"]

Rows = dict[str, dict[str, Callable[[], Callable[[], object]]]]  # row -> peer -> prepare() -> work()

REPEATS = 5


def main(rows: Rows, module: str) -> None:
    """Print the table, or, in a child process, time one cell of it."""
    if len(sys.argv) == 3:
        print(json.dumps(_time(rows[sys.argv[1]][sys.argv[2]]())))
        return
    print(f"{'row':<44}{'ours, ms':>10}{'first, ms':>11}   peers: ms (peer / ours)")
    for row, peers in rows.items():
        first, ours = _measured(module, row, "ours")
        others = {peer: _measured(module, row, peer) for peer in peers if peer != "ours"}
        shown = [f"{peer} {times[1]:.3g} ({times[1] / ours:.2f})" if times else f"{peer} not installed" for peer, times in others.items()]
        print(f"{row:<44}{ours:>10.3g}{first:>11.3g}   {', '.join(shown)}", flush=True)


def _measured(module: str, row: str, peer: str) -> tuple[float, float] | None:
    result = subprocess.run([sys.executable, "-m", module, row, peer], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return tuple(json.loads(result.stdout.splitlines()[-1]))
    if "ModuleNotFoundError" in result.stderr:
        return None
    raise RuntimeError(f"{row}, {peer}: {result.stderr}")


def _time(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of the first call and the median of the later ones."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        result = work()
        getattr(result, "block_until_ready", lambda: None)()
        times.append(1e3 * (time.perf_counter() - start))
    return times[0], float(np.median(times[1:]))
