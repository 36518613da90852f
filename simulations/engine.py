"""Run a study: every cell without a whole part is computed and its part written; running again goes on where the last run stopped.

A task is JSON: the importable name of `simulate`, the seed, one cell, the digest of the source. The process that computes a cell also writes its
part, at once, so that a finished cell survives the death of either side: a worker that dies loses at most the cell in hand, and so does a client.
On a remote cluster the store must therefore be a folder that the workers share with the client; parts that do not show up here are reported.
A cell that raises is named in the report and holds nobody up; running again tries it again.
"""

import json
import logging
import os
import signal
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import jax

from ensembletheory.errors import missing_extra, refuse
from ensembletheory.precision import enable_x64, require_x64
from ensembletheory.progress import progress
from simulations.store import DamagedPart, read_part, survey, write_part
from simulations.study import Cell, Study, canonical, resolve

__all__ = ["Failure", "Report", "run", "run_here"]

LOCAL_SETTINGS = {
    "distributed.worker.multiprocessing-method": "spawn",  # JAX hangs in forked processes
    "distributed.scheduler.worker-saturation": 1.0,  # a worker that dies takes one suspect with it, not those queued behind
    "distributed.scheduler.allowed-failures": 1,  # a cell that kills two workers is reported, and tried again by the next run
}
PATIENCE = "10s"  # with a scheduler that does not answer


@dataclass(frozen=True)
class Failure:
    """A cell that has no part, and why."""

    cell: Cell
    reason: str


@dataclass(frozen=True)
class Report:
    """What one run did: parts found whole, parts written, cells that failed."""

    study: str
    kept: int
    written: int
    failures: tuple[Failure, ...]


def run_here(study: Study, store: Path | str) -> Report:
    """Compute the missing cells of `study` one after the other in this process.

    Raises:
        RuntimeError: in 32-bit arithmetic.
    """
    require_x64(f"study {study.name}")
    todo = survey(study, store).todo
    return _report(study, store, todo, ((cell, _attempt(study, cell, store)) for cell in todo))


def run(study: Study, store: Path | str, workers: int | None = None, scheduler: str | None = None) -> Report:
    """Compute the missing cells of `study` on Dask: spawned local processes, one thread and one CPU each, or the workers of a remote scheduler.

    Args:
        study: what to run; remote workers must be able to import its module, with the same source.
        store: folder of the parts.
        workers: number of local processes; None: one per CPU that this process may use.
        scheduler: address of a running scheduler, such as tcp://host:8786, instead of local processes.

    Raises:
        ValueError: if `workers` is not positive, or given together with `scheduler`.
        OSError: if the scheduler cannot be reached.
        ImportError: if Dask is not installed.
    """
    if workers is not None and (workers < 1 or scheduler):
        refuse("workers", f"{workers}, scheduler {scheduler}", "a positive number of local workers, or a scheduler", "Drop one of the two.")
    store = Path(store).absolute()
    todo = survey(study, store).todo
    if not todo:
        return _report(study, store, [], [])
    with _client(min(workers or _cpus(), len(todo)), scheduler) as client:
        return _report(study, store, todo, _outcomes(client, study, todo, store))


def _report(study: Study, store: Path | str, todo: list[Cell], outcomes: Iterable[tuple[Cell, str | None]]) -> Report:
    ended = progress(outcomes, study.name, len(todo))
    failures = {canonical(dict(cell)): Failure(dict(cell), reason) for cell, reason in ended if reason}
    for cell in (cell for cell in todo if not _is_whole(study, cell, store)):
        failures.setdefault(canonical(dict(cell)), Failure(dict(cell), f"its part is not in {store}: do the workers share this folder?"))
    ordered = tuple(failures[name] for name in sorted(failures))
    return Report(study.name, len(study.cells) - len(todo), len(todo) - len(ordered), ordered)


def _attempt(study: Study, cell: Cell, store: Path | str) -> str | None:
    """Write the part of `cell` unless it is there; the reason if that fails."""
    try:
        if not _is_whole(study, cell, store):
            with jax.threefry_partitionable(True):
                write_part(store, study, cell, study.simulate(dict(cell), study.key(cell)))
    except Exception as error:
        return _reason(error)
    return None


def _is_whole(study: Study, cell: Cell, store: Path | str) -> bool:
    try:
        read_part(store, study, cell)
    except (FileNotFoundError, DamagedPart):
        return False
    return True


def _reason(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    return f"{type(error).__name__}: {error}{where}"


def _task(study: Study, cell: Cell) -> str:
    simulate = f"{study.simulate.__module__}:{study.simulate.__qualname__}"
    task = {"name": study.name, "simulate": simulate, "seed": study.seed, "uses": study.uses, "source": study.source, "cell": dict(cell)}
    return json.dumps(task)


def _study_of(task: dict[str, Any]) -> Study:
    study = Study(task["name"], [task["cell"]], resolve(task["simulate"]), task["seed"], uses=tuple(task["uses"]))
    if study.source != task["source"]:
        refuse("source", f"{study.source[:12]} at the worker", f"{task['source'][:12]}", "Give the workers the same version of the study.")
    return study


def _perform(task: str, store: str) -> str | None:
    """What a worker runs."""
    enable_x64()
    content = json.loads(task)
    try:
        return _attempt(_study_of(content), content["cell"], store)
    except Exception as error:
        return _reason(error)


def _outcomes(client, study: Study, cells: list[Cell], store: Path) -> Iterator[tuple[Cell, str | None]]:
    from distributed import as_completed

    futures = client.map(_perform, [_task(study, cell) for cell in cells], store=str(store), pure=False)
    cell_of = dict(zip(futures, cells, strict=True))
    for future in as_completed(futures):
        yield cell_of[future], _reason(future.exception()) if future.status == "error" else future.result()


@contextmanager
def _client(workers: int, scheduler: str | None):
    try:
        from distributed import Client
    except ImportError:
        missing_extra("dask and distributed", "sweep")
    with ExitStack() as stack:
        with _interrupts_wait():
            client = stack.enter_context(Client(scheduler or _local_cluster(stack, workers), timeout=PATIENCE))
        yield client


def _local_cluster(stack: ExitStack, workers: int):
    import dask
    from distributed import LocalCluster

    stack.enter_context(dask.config.set(LOCAL_SETTINGS))
    options = {"preload": "simulations.preload", "dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    return stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, **options))


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Deliver Ctrl-C at the end, and only to this thread: threads and processes started inside never see it, they are told to stop by their owner."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started by the first child, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
