"""Mixture log-density and score of 10^7 points read from a memory map: points a second, and peak memory beyond the input: python -m benchmarks.bench_streaming."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.bench_laws import data

N, D, K = 10_000_000, 16, 32
BLOCK = 100_000


def write(path: Path, n: int) -> None:
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(n, D))
    rng = np.random.default_rng(0)
    for start in range(0, n, BLOCK):
        rows[start : start + BLOCK] = rng.normal(size=(min(BLOCK, n - start), D))


def measure(path: str, method: str, mode: str) -> None:
    import ensembletheory as et

    et.enable_x64()
    _, w, m, S = data((1, D, K))
    law = et.GaussianMixture(w, m, S)
    X = np.load(path, mmap_mode="r") if mode == "map" else np.load(path)
    warm = np.array(X[: 2**22 // D + 1])
    getattr(law, method)(warm).block_until_ready()
    start = time.perf_counter()
    values = getattr(law, method)(X).block_until_ready()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    beyond = (peak - X.nbytes - values.nbytes) / 1e9  # the process with its libraries included
    memory = f"peak {peak / 1e9:.2f} GB = input {X.nbytes / 1e9:.2f} + result {values.nbytes / 1e9:.2f} + {beyond:.2f}"
    print(f"{method:<10}{mode:<8}{len(X) / seconds / 1e6:>8.2f} million points a second, {memory}", flush=True)


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else N
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.npy"
        write(path, n)
        for method in ("log_prob", "score"):
            for mode in ("map", "array"):
                subprocess.run([sys.executable, "-m", "benchmarks.bench_streaming", str(path), method, mode], check=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(*sys.argv[1:])
    else:
        main()
