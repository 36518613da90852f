"""The command line. Exit status: 0 all holds, 1 something does not hold (or a counter-example was found), 2 wrong use.

Everything heavy is imported inside the commands, so that help is immediate.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ensembletheory.claims import CheckResult, Claim

__all__ = ["app", "main"]

HOLDS, FAILS, WRONG_USE = 0, 1, 2

HELP = "Claims about ensembles of generative models, checked by the computer. Exit status: 0 all holds, 1 something does not, 2 wrong use."

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=HELP)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Seed = Annotated[int, typer.Option(help="Root seed of everything random (a command that draws nothing ignores it).")]
Target = Annotated[str, typer.Argument(metavar="ID|FILE.py:FUNCTION", help="A claim's id, or a function under @claim in a file.")]


def main() -> None:
    """Run the command line."""
    app()


@app.command()
def claims(json: Json = False, seed: Seed = 0) -> None:
    """List the claims: what they say, and of which kind they are."""
    from ensembletheory.claims import get, ids

    everything = [get(id) for id in ids()]
    if json:
        _print_json([_described(claim) for claim in everything])
    else:
        _print_table(("id", "kind", "statement"), [(claim.id, claim.kind, claim.statement) for claim in everything])


@app.command()
def check(targets: Annotated[list[str] | None, typer.Argument(metavar="[ID|FILE.py:FUNCTION ...]")] = None, json: Json = False, seed: Seed = 0) -> None:
    """Check that theorems hold on random instances, and that refuted claims stay refuted (default: all claims)."""
    from ensembletheory import enable_x64
    from ensembletheory.claims import check, ids

    enable_x64()
    with _wrong_use():
        results = [check(_claim(target), seed=seed) for target in targets or ids()]
    holds = all(result.holds for result in results)
    if json:
        _print_json({"holds": holds, "results": [vars(result) for result in results]})
    else:
        _print_table(("", "id", "kind", "verdict"), [(_mark(result), result.id, result.kind, result.verdict) for result in results])
    raise typer.Exit(HOLDS if holds else FAILS)


@app.command()
def falsify(
    target: Target,
    budget: Annotated[int, typer.Option(help="Evaluations of the margin.")] = 20_000,
    out: Annotated[Path | None, typer.Option(help="Where a counter-example is written [default: output/counterexamples/ID.json].")] = None,
    json: Json = False,
    seed: Seed = 0,
) -> None:
    """Search for a counter-example, shrink it to small fractions and write it down. A search that was stopped goes on when it is asked for again."""
    from ensembletheory import enable_x64
    from ensembletheory.claims import falsify

    enable_x64()
    with _wrong_use():
        claim = _claim(target)
        place = out or Path("output", "counterexamples", f"{claim.id}.json")
        kept = place.with_suffix(".partial")
        try:
            result = falsify(claim, budget=budget, seed=seed, checkpoint=kept)
        except KeyboardInterrupt:
            typer.echo(f"{claim.id}: stopped; what was searched is in {kept}, run the same command to go on", err=True)
            raise typer.Exit(FAILS) from None
    path = place if result.found else None
    if path is not None:
        result.save(path)
    if json:
        _print_json({**vars(result), "verdict": result.verdict, "path": None if path is None else str(path)})
    else:
        typer.echo(f"{result.id}: {result.verdict}" + (f"\nwritten to {path}" if path else ""))
    raise typer.Exit(FAILS if result.found else HOLDS)


@app.command()
def cite(id: Annotated[str, typer.Argument(metavar="ID")], json: Json = False, seed: Seed = 0) -> None:
    """Print the BibTeX entries of a claim."""
    from ensembletheory.claims import get
    from ensembletheory.claims.bibliography import bibtex

    with _wrong_use():
        claim = get(id)
        entries = bibtex(claim.references)
    if json:
        _print_json({"id": claim.id, "source": claim.source, "references": list(claim.references), "bibtex": entries})
    else:
        typer.echo(f"% {claim.id}: {claim.source}\n{entries}")


@app.command()
def doctor(json: Json = False, seed: Seed = 0) -> None:
    """Say what is installed, what is missing, and whether this JAX can be trusted here."""
    from ensembletheory.diagnosis import diagnose

    diagnosis = diagnose()
    if json:
        _print_json(vars(diagnosis))
    else:
        _print_table(("what", "state"), [*diagnosis.versions.items(), *diagnosis.state.items()])
        _print_table(("extra", "missing", "remedy"), [(name, ", ".join(gap) or "-", _pip(name) if gap else "") for name, gap in diagnosis.missing.items()])
        for problem in diagnosis.problems:
            typer.echo(f"problem: {problem}")
    raise typer.Exit(FAILS if diagnosis.problems else HOLDS)


@contextlib.contextmanager
def _wrong_use() -> Iterator[None]:
    """Turn a refusal into its message and exit status 2."""
    try:
        yield
    except (ValueError, ImportError) as refusal:
        typer.echo(f"error: {refusal}", err=True)
        raise typer.Exit(WRONG_USE) from refusal


def _claim(target: str) -> "Claim":
    from ensembletheory.claims import get
    from ensembletheory.claims.from_file import is_file_target, load_claim

    return load_claim(target) if is_file_target(target) else get(target)


def _described(claim: "Claim") -> dict[str, Any]:
    fields = ("id", "kind", "statement", "source", "references", "proof")
    return {**{name: getattr(claim, name) for name in fields}, "domain": str(claim.domain), "mutants": {k: m.dropped for k, m in claim.mutants.items()}}


def _mark(result: "CheckResult") -> str:
    return "ok" if result.holds else "FAILS"


def _pip(extra: str) -> str:
    return f"pip install 'ensembletheory[{extra}]'"


def _print_json(record: Any) -> None:
    from ensembletheory.claims.stored import as_json

    sys.stdout.write(as_json(record))


def _print_table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
