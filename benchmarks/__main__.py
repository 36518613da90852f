"""Run every benchmark in turn."""

import subprocess
import sys

for name in (
    "bench_laws",
    "bench_streaming",
    "bench_gaussians",
    "bench_em",
    "bench_diffusion",
    "bench_search",
    "bench_nonreversible",
    "bench_pdmp",
    "bench_neural",
    "bench_imputation",
    "bench_segmentation",
):
    print(f"\n{name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
