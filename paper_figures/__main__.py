"""`python -m paper_figures`: draw figures, check claims, write the page of results.

Exit status: 0 all holds; 1 a caption's number is off, a figure could not be drawn or a claim does not stand; 2 wrong use.
"""

import json
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated

import jax
import typer

import ensembletheory as et
import paper_figures
from ensembletheory.files import write_whole
from ensembletheory.progress import progress
from paper_figures.framework.contract import Figure, nearest
from paper_figures.framework.page import CLAIMS_FILE, claims_table, write_page
from paper_figures.framework.provenance import digest
from paper_figures.framework.runner import FAILED, GREEN, Record, draw_figure, intact_record

__all__ = ["main", "registered"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def registered() -> dict[str, Figure]:
    """The figures of this folder by name."""
    names = [module.name for module in iter_modules(paper_figures.__path__) if not module.ispkg and module.name != "__main__"]
    return {name: import_module(f"paper_figures.{name}").FIGURE for name in names}


def main(names: Sequence[str] = (), quick: bool = False, out: Path = Path("output"), figures: Mapping[str, Figure] | None = None, spectrum: Path | None = None) -> int:
    """Draw the figures called `names`, or draw all and check all claims; rebuild the page in `out`; return the exit status."""
    et.enable_x64()  # before the figures' modules make numbers of their own
    jax.config.update("jax_default_prng_impl", "threefry2x32")
    figures = registered() if figures is None else figures
    unknown = [name for name in names if name not in figures]
    for name in unknown:
        typer.echo(f"unknown figure {name!r}; the nearest: {nearest(name, figures)}. --list shows all.", err=True)
    if unknown:
        return 2
    if spectrum and not any("spectrum" in figures[name].inputs for name in names or figures):
        typer.echo(f"--spectrum: {', '.join(names or figures)} take no spectrum.", err=True)
        return 2
    if spectrum:
        figures = {name: _with_spectrum(figure, spectrum) for name, figure in figures.items()}
    chosen = [figures[name] for name in names or figures]
    verdicts = [_draw(figure, out, quick)["verdict"] == GREEN for figure in progress(chosen, "figures", len(chosen))]
    verdicts += [] if names else [row["holds"] for row in _check_claims(out, quick)]
    typer.echo(f"wrote {write_page(out)}")
    return 0 if all(verdicts) else 1


@app.command()
def _command(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Figures to draw; without a name, all are drawn and all claims checked.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small simulations: seconds a figure.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for figures, data, provenance and index.html.")] = Path("output"),
    spectrum: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Eigenvalues (.npy) in place of those that come with the figures of spectra.")] = None,
    show: Annotated[bool, typer.Option("--list", help="List the figures and stop.")] = False,
) -> None:
    """Draw the published figures, assert the numbers of their captions, and write one page of figures and claims."""
    if show:
        for name, figure in registered().items():
            typer.echo(f"{name}: {figure.title}")
        raise typer.Exit(0)
    raise typer.Exit(main(names or (), quick, out, spectrum=spectrum))


def _with_spectrum(figure: Figure, file: Path) -> Figure:
    """The figure with the eigenvalues of `file`, known by their digest, if it takes any."""
    return figure.with_inputs(spectrum={"file": str(file), "sha256": digest(file.read_bytes())}) if "spectrum" in figure.inputs else figure


def _draw(figure: Figure, out: Path, quick: bool) -> Record:
    kept = intact_record(figure, out, quick)
    record = kept or draw_figure(figure, out, quick)
    effort = "kept, nothing has changed" if kept else f"{record['wall_time_s']:.1f} s"
    typer.echo(f"{figure.name}: {record['verdict']}, {_findings(record)}, {effort}")
    return record


def _findings(record: Record) -> str:
    if record["verdict"] == FAILED:
        return record["error"].strip().splitlines()[-1]
    off = [f"{n['name']} is {n['got']}, printed {n['printed']}" for n in record["numbers"] if not n["holds"]]
    return "; ".join(off) or f"all {len(record['numbers'])} numbers hold"


def _check_claims(out: Path, quick: bool) -> list[Record]:
    start = time.monotonic()
    table = claims_table(quick)
    write_whole(out / CLAIMS_FILE, json.dumps(table, indent=1) + "\n")
    typer.echo(f"claims: {sum(row['holds'] for row in table)} of {len(table)} stand, {time.monotonic() - start:.1f} s")
    for row in table:
        if not row["holds"]:
            typer.echo(f"claim {row['id']}: {row['verdict']}")
    return table


if __name__ == "__main__":
    app()
