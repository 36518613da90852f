"""Studies of a few milliseconds a cell, named as tests.simulations.small_studies:attribute."""

import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp

from simulations.study import Study


def draw(cell, key):
    normals = jax.random.normal(key, (3,), dtype=jnp.float64)
    return [{"replicate": i, "value": cell["scale"] * float(normal)} for i, normal in enumerate(normals)]


def draw_slowly(cell, key):
    time.sleep(0.2)
    return draw({"scale": 1.0}, key)


def draw_unless_marked(cell, key):
    """Fails for every second cell as long as the file named in the cell exists."""
    if cell["index"] % 2 and Path(cell["mark"]).exists():
        raise ArithmeticError(f"cell {cell['index']} would not")
    return draw({"scale": 1.0}, key)


def report_process(cell, key):
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return [{"pid": os.getpid(), "parent": os.getppid(), "cpus": cpus, "x64": jax.config.jax_enable_x64, "bits": jnp.asarray(1.0).dtype.itemsize * 8}]


def die_at_two(cell, key):
    if cell["index"] == 2:
        os._exit(3)
    return draw({"scale": 1.0}, key)


grid = [{"scale": scale, "index": index} for scale in (0.5, 2.0) for index in range(4)]
normals = Study("normals", grid, draw, seed=7, quick=grid[:2])
slow_normals = Study("slow-normals", [{"index": index} for index in range(24)], draw_slowly)
processes = Study("processes", [{"index": index} for index in range(6)], report_process)
deadly = Study("deadly", [{"index": index} for index in range(4)], die_at_two)
half_failing = Study("half-failing", [{"index": index, "mark": __file__} for index in range(4)], draw_unless_marked)
