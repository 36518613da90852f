"""`python -m tests.mutation`: do the tests notice a mistake in a formula?

Every mutant of laws, divergences, pools and gains is tried on the tests that reach its line, then on all tests of its folder. Results are kept, so that a run can be
stopped and resumed. Exit status 1 if fewer than 95 % are killed, or a survivor is not listed in `survivors.txt` with the reason why it survives.
"""

import hashlib
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ensembletheory.files import write_whole
from ensembletheory.progress import progress
from tests.mutation.operators import Mutant, mutants
from tests.mutation.sandbox import MUTATED, ROOT, copy_checkout, reaching_tests, survives, tests_of

LEAST = 0.95
SURVIVORS = Path(__file__).with_name("survivors.txt")  # name of the mutant, a tab, the reason


def main(
    most: Annotated[int | None, typer.Option(help="Try only so many, chosen by the hash of the mutant.")] = None,
    only: Annotated[str, typer.Option(help="Only files whose path holds this.")] = "",
    workers: Annotated[int, typer.Option(help="Mutants tried at a time.")] = 2,
    store: Annotated[Path, typer.Option(help="Where results are kept.")] = Path("output/mutation"),
) -> None:
    """Try the mutants and judge the tests."""
    chosen = sorted(((file, mutant) for file in _files(only) for mutant in mutants((ROOT / file).read_text())), key=lambda pair: _digest(*pair))[:most]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = _outcomes(Path(folder), chosen, workers, store)
    _report(chosen, outcomes)
    sys.exit(0 if _good_enough(chosen, outcomes) else 1)


def _files(only: str) -> list[str]:
    found = [str(path.relative_to(ROOT)) for folder in MUTATED for path in sorted((ROOT / "ensembletheory" / folder).glob("*.py"))]
    return [file for file in found if only in file]


def _digest(file: str, mutant: Mutant) -> str:
    return hashlib.sha256(f"{file}\n{mutant.source}".encode()).hexdigest()[:20]


def _outcomes(folder: Path, chosen: list[tuple[str, Mutant]], workers: int, store: Path) -> list[bool]:
    """For each mutant whether it was killed: from the store, or tried now."""
    sandboxes: Queue[Path] = Queue()
    reached = {}
    if not all((store / _digest(*pair)).exists() for pair in chosen):
        for i in range(workers):
            sandboxes.put(copy_checkout(folder / str(i)))
        reached = reaching_tests(copy_checkout(folder / "coverage"), {file for file, _ in chosen})

    def outcome(pair: tuple[str, Mutant]) -> bool:
        kept = store / _digest(*pair)
        if not kept.exists():
            sandbox = sandboxes.get()
            try:
                write_whole(kept, json.dumps({"file": pair[0], "mutant": pair[1].name, "killed": _killed(sandbox, *pair, reached)}))
            finally:
                sandboxes.put(sandbox)
        return json.loads(kept.read_text())["killed"]

    with ThreadPoolExecutor(workers) as pool:
        return list(progress(pool.map(outcome, chosen), "mutants", len(chosen)))


def _killed(sandbox: Path, file: str, mutant: Mutant, reached: dict[tuple[str, int], list[str]]) -> bool:
    first = reached.get((file, mutant.line), [])
    return bool(first and not survives(sandbox, file, mutant, first)) or not survives(sandbox, file, mutant, [tests_of(file)])


def _report(chosen: list[tuple[str, Mutant]], outcomes: list[bool]) -> None:
    table = Table("operator", *MUTATED, "all")
    for operator in [*sorted({mutant.operator for _, mutant in chosen}), ""]:
        cells = [_share(chosen, outcomes, operator, folder) for folder in [*MUTATED, ""]]
        table.add_row(operator or "all", *cells)
    Console(width=120).print(table)
    reasons = _reasons()
    for (file, mutant), killed in zip(chosen, outcomes, strict=True):
        if not killed:
            print(f"survived: {file}:{mutant.line}: {mutant.name}\n    {reasons.get(mutant.name, 'NO REASON GIVEN')}")


def _share(chosen: list[tuple[str, Mutant]], outcomes: list[bool], operator: str, folder: str) -> str:
    selected = [killed for (file, mutant), killed in zip(chosen, outcomes, strict=True) if operator in ("", mutant.operator) and (not folder or f"/{folder}/" in file)]
    return f"{sum(selected)} of {len(selected)}"


def _good_enough(chosen: list[tuple[str, Mutant]], outcomes: list[bool]) -> bool:
    reasons = _reasons()
    explained = all(killed or mutant.name in reasons for (_, mutant), killed in zip(chosen, outcomes, strict=True))
    share = sum(outcomes) / len(outcomes)
    print(f"killed {share:.1%} of {len(outcomes)} (at least {LEAST:.0%})")
    return share >= LEAST and explained


def _reasons() -> dict[str, str]:
    return dict(line.split("\t", 1) for line in SURVIVORS.read_text().splitlines() if line.strip())


if __name__ == "__main__":
    typer.run(main)
