"""Bootstrap of a worker process: one CPU each, chosen before JAX builds its thread pools, which no environment variable bounds.

A local cluster loads it by itself; elsewhere: `dask worker ADDRESS --nthreads 1 --nworkers N --name NAME --preload simulations.preload`.
"""

import os
import re

__all__ = ["cpu_of", "dask_setup"]


def cpu_of(name: str, cpus: list[int]) -> int | None:
    """The CPU of a worker called 3 or host-3, counted round the list; None for a name without a number."""
    number = re.fullmatch(r"(?:.*-)?(\d+)", name)
    return cpus[int(number[1]) % len(cpus)] if number else None


def dask_setup(worker) -> None:
    """Pin this process (Dask calls it before the first task)."""
    if not hasattr(os, "sched_setaffinity"):  # macOS and Windows leave the choice to the system
        return
    cpu = cpu_of(str(worker.name), sorted(os.sched_getaffinity(0)))
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
