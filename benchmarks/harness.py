"""Time the same work done by this package and by its peers, each in a process of its own, and print the ratio.

A row maps names of peers to a function that prepares the data and returns the work to time; `ours` is one of the names. A peer that is not installed is said to be
missing. Several thread pools in one process would fight for the cores, hence the processes. The first call, which compiles, is reported apart from the median of later ones.
Wall time says what one waits, processor time of all threads what is used: under other load only the second can be compared.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

__all__ = ["Rows", "main"]

Rows = dict[str, dict[str, Callable[[], Callable[[], object]]]]  # row -> peer -> prepare() -> work()

REPEATS = 5


def main(rows: Rows, module: str, limits: Mapping[tuple[str, str], tuple[float, float]] | None = None) -> None:
    """Print the table, or, in a child process, time one cell of it.

    Args:
        rows: what to time.
        module: the module that a child process runs.
        limits: for some (row, peer), how many times the peer's wall time and processor time ours may take at most; printed beside both ratios.
    """
    if len(sys.argv) == 3:
        print(json.dumps(_time(rows[sys.argv[1]][sys.argv[2]]())))
        return
    print(f"{'row':<44}{'ours, ms':>10}{'CPU, ms':>10}{'first, ms':>11}   peers: ms (peer / ours), CPU ms (peer / ours)")
    for row, peers in rows.items():
        first, ours, cpu = _measured(module, row, "ours")
        others = {peer: _measured(module, row, peer) for peer in peers if peer != "ours"}
        shown = [_shown(peer, times, ours, cpu) for peer, times in others.items()]
        print(f"{row:<44}{ours:>10.3g}{cpu:>10.3g}{first:>11.3g}   {'; '.join(shown)}", flush=True)
        for (_, peer), (wall, used) in ((cell, most) for cell, most in (limits or {}).items() if cell[0] == row):
            if times := others[peer]:
                print(f"    ours / {peer}: wall {ours / times[1]:.2f}, at most {wall}; CPU {cpu / times[2]:.2f}, at most {used}", flush=True)


def _shown(peer: str, times: tuple[float, float, float] | None, ours: float, cpu: float) -> str:
    return f"{peer} {times[1]:.3g} ({times[1] / ours:.2f}), CPU {times[2]:.3g} ({times[2] / cpu:.2f})" if times else f"{peer} not installed"


def _measured(module: str, row: str, peer: str) -> tuple[float, float, float] | None:
    result = subprocess.run([sys.executable, "-m", module, row, peer], capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return tuple(json.loads(result.stdout.splitlines()[-1]))
    if "ModuleNotFoundError" in result.stderr:
        return None
    raise RuntimeError(f"{row}, {peer}: {result.stderr}")


def _time(work: Callable[[], object]) -> tuple[float, float, float]:
    """Milliseconds: of the first call, and the medians of the later ones by the clock and by the processor."""
    times, used = [], []
    for _ in range(REPEATS + 1):
        start, cpu = time.perf_counter(), time.process_time()
        result = work()
        getattr(result, "block_until_ready", lambda: None)()
        times.append(1e3 * (time.perf_counter() - start))
        used.append(1e3 * (time.process_time() - cpu))
    return times[0], float(np.median(times[1:])), float(np.median(used[1:]))
