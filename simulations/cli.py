"""`python -m simulations list | run STUDY | status STUDY`.

Exit status 0: every cell has its part; 1: some have not (a cell raised, the run was stopped, parts are absent or damaged); 2: wrong use.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ensembletheory.precision import enable_x64
from simulations.catalogue import STUDIES, find
from simulations.study import Study

__all__ = ["app", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

StudyName = Annotated[str, typer.Argument(help="Name in the list, or module:attribute.", metavar="STUDY")]
Quick = Annotated[bool, typer.Option("--quick", help="Only the part of the grid that takes seconds.")]
Store = Annotated[Path, typer.Option(help="Folder of the results.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Local processes; default: one per CPU.")]
Scheduler = Annotated[str | None, typer.Option(help="Address of a Dask scheduler, whose workers share the store.", metavar="ADDRESS")]
Seed = Annotated[int | None, typer.Option(help="Root seed, instead of the study's own.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]

DEFAULT_STORE = Path("output/simulations")


@app.command("list")
def list_studies(as_json: Json = False) -> None:
    """The studies, with the number of their cells."""
    studies = [_summary(name, find(name)) for name in STUDIES]
    _show({"studies": studies}, [f"{study['study']}: {study['about']} ({study['cells']} cells, {study['quick']} quick)" for study in studies], as_json)


@app.command()
def run(
    study: StudyName,
    quick: Quick = False,
    store: Store = DEFAULT_STORE,
    workers: Workers = None,
    scheduler: Scheduler = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Compute the cells that the store lacks; run again to go on after an interruption."""
    with _wrong_use_exits_with_2():
        from simulations import engine

        chosen = _chosen(study, quick, seed)
        try:
            report = engine.run(chosen, store, workers, scheduler)
        except KeyboardInterrupt:
            typer.echo(f"{chosen.name}: stopped; what is finished is kept, run again to go on", err=True)
            raise typer.Exit(1) from None
    failures = [f"failed: {json.dumps(failure.cell)}: {failure.reason}" for failure in report.failures]
    _show(asdict(report), [f"{report.study}: {report.written} written, {report.kept} kept, {len(failures)} failed", *failures], as_json)
    raise typer.Exit(1 if failures else 0)


@app.command()
def status(study: StudyName, quick: Quick = False, store: Store = DEFAULT_STORE, seed: Seed = None, as_json: Json = False) -> None:
    """What the store holds; exit status 1 when something is still to be computed."""
    with _wrong_use_exits_with_2():
        from simulations.store import survey

        chosen = _chosen(study, quick, seed)
        found = survey(chosen, store)
    counts = {"study": chosen.name, "whole": len(found.parts), "absent": len(found.absent), "damaged": len(found.damaged)}
    _show(counts, [f"{chosen.name}: {counts['whole']} whole, {counts['absent']} absent, {counts['damaged']} damaged"], as_json)
    raise typer.Exit(1 if found.todo else 0)


def main() -> None:
    """Run the command line in 64-bit arithmetic."""
    enable_x64()
    app(prog_name="python -m simulations")


def _chosen(name: str, quick: bool, seed: int | None) -> Study:
    study = find(name)
    study = replace(study, cells=study.quick) if quick else study
    return study if seed is None else replace(study, seed=seed)


def _summary(name: str, study: Study) -> dict[str, Any]:
    about = (inspect.getdoc(sys.modules[study.simulate.__module__]) or "").partition("\n")[0]
    return {"study": name, "about": about, "cells": len(study.cells), "quick": len(study.quick), "seed": study.seed}


def _show(value: dict[str, Any], lines: list[str], as_json: bool) -> None:
    typer.echo(json.dumps(value) if as_json else "\n".join(lines))


@contextmanager
def _wrong_use_exits_with_2() -> Iterator[None]:
    try:
        yield
    except (ValueError, ImportError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
