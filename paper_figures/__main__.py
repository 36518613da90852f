"""`python -m paper_figures`: draw figures, check claims, write the page of results.

Exit status: 0 all holds; 1 a caption's number is off, a figure could not be drawn or a claim does not stand; 2 wrong use.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated

import typer

import paper_figures
from ensembletheory.progress import progress
from paper_figures.framework.contract import Figure, nearest
from paper_figures.framework.jobs import check_claims, draw, prepare, results
from paper_figures.framework.page import write_page
from paper_figures.framework.provenance import digest

__all__ = ["main", "registered"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MOST_PROCESSES = 8  # each holds a gigabyte or two


def registered() -> dict[str, Figure]:
    """The figures of this folder by name."""
    names = [module.name for module in iter_modules(paper_figures.__path__) if not module.ispkg and module.name != "__main__"]
    return {name: import_module(f"paper_figures.{name}").FIGURE for name in names}


def main(
    names: Sequence[str] = (),
    quick: bool = False,
    out: Path = Path("output"),
    figures: Mapping[str, Figure] | None = None,
    spectrum: Path | None = None,
    processes: int = 1,
) -> int:
    """Draw the figures called `names`, or draw all and check all claims; rebuild the page in `out`; return the exit status."""
    prepare()  # before the figures' modules make numbers of their own
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
    jobs = [partial(draw, figures[name], out, quick) for name in names or figures] + ([] if names else [partial(check_claims, out, quick)])
    holds = True
    for done in progress(results(jobs, min(processes, len(jobs))), "figures", len(jobs)):
        typer.echo(done.said)
        holds = holds and done.holds
    typer.echo(f"wrote {write_page(out)}")
    return 0 if holds else 1


@app.command()
def _command(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Figures to draw; without a name, all are drawn and all claims checked.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small simulations: seconds a figure.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for figures, data, provenance and index.html.")] = Path("output"),
    spectrum: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Eigenvalues (.npy) in place of those that come with the figures of spectra.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="In how many processes; as many as there are cores, by default.")] = min(os.cpu_count() or 1, MOST_PROCESSES),
    show: Annotated[bool, typer.Option("--list", help="List the figures and stop.")] = False,
) -> None:
    """Draw the published figures, assert the numbers of their captions, and write one page of figures and claims."""
    if show:
        for name, figure in registered().items():
            typer.echo(f"{name}: {figure.title}")
        raise typer.Exit(0)
    raise typer.Exit(main(names or (), quick, out, spectrum=spectrum, processes=processes))


def _with_spectrum(figure: Figure, file: Path) -> Figure:
    """The figure with the eigenvalues of `file`, known by their digest, if it takes any."""
    return figure.with_inputs(spectrum={"file": str(file), "sha256": digest(file.read_bytes())}) if "spectrum" in figure.inputs else figure


if __name__ == "__main__":
    app()
