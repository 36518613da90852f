"""What a run has to do, job by job, and in several processes: figures share nothing, and a process takes the next job when it is done with one."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import jax

import ensembletheory as et
from ensembletheory.files import write_whole
from paper_figures.framework.contract import Figure
from paper_figures.framework.page import CLAIMS_FILE, claims_table
from paper_figures.framework.runner import FAILED, GREEN, Record, draw_figure, intact_record

__all__ = ["Done", "Job", "check_claims", "draw", "prepare", "results"]


class Done(NamedTuple):
    """Whether what was drawn or checked holds, and what is said of it."""

    holds: bool
    said: str


Job = Callable[[], Done]


def prepare() -> None:
    """What a process does before its first job."""
    et.enable_x64()
    jax.config.update("jax_default_prng_impl", "threefry2x32")


def results(jobs: Sequence[Job], processes: int) -> Iterator[Done]:
    """What the jobs give, as they are done; several processes begin with the last job."""
    if processes == 1:
        yield from (job() for job in jobs)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), prepare) as pool:
        yield from (future.result() for future in as_completed([pool.submit(job) for job in reversed(jobs)]))


def draw(figure: Figure, out: Path, quick: bool) -> Done:
    """Draw a figure, unless what stands under `out` is what would be drawn."""
    kept = intact_record(figure, out, quick)
    record = kept or draw_figure(figure, out, quick)
    effort = "kept, nothing has changed" if kept else f"{record['wall_time_s']:.1f} s"
    return Done(record["verdict"] == GREEN, f"{figure.name}: {record['verdict']}, {_findings(record)}, {effort}")


def check_claims(out: Path, quick: bool) -> Done:
    """Check every claim of the package and write their table under `out`."""
    start = time.monotonic()
    table = claims_table(quick)
    write_whole(out / CLAIMS_FILE, json.dumps(table, indent=1) + "\n")
    standing = sum(row["holds"] for row in table)
    fallen = [f"claim {row['id']}: {row['verdict']}" for row in table if not row["holds"]]
    return Done(standing == len(table), "\n".join([f"claims: {standing} of {len(table)} stand, {time.monotonic() - start:.1f} s", *fallen]))


def _findings(record: Record) -> str:
    if record["verdict"] == FAILED:
        return record["error"].strip().splitlines()[-1]
    off = [f"{n['name']} is {n['got']}, printed {n['printed']}" for n in record["numbers"] if not n["holds"]]
    return "; ".join(off) or f"all {len(record['numbers'])} numbers hold"
