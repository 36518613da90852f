"""A copy of the checkout in which mutants are tried, and which tests run which line of it.

The tests that reach a line are recorded once, by coverage with a context a test. A jitted function is traced only by the first test that calls it, so a line's tests are a
sample: a mutant that survives them is tried again on all tests of its folder.
"""

import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from tests.mutation.operators import Mutant

__all__ = ["MUTATED", "ROOT", "copy_checkout", "reaching_tests", "survives", "tests_of"]

ROOT = Path(__file__).resolve().parents[2]
MUTATED = {"laws": "tests/laws", "divergences": "tests/divergences", "pooling": "tests/pooling", "gains": "tests/gains"}  # folder of the package -> its tests
COPIED = ("ensembletheory", "tests", "pyproject.toml", "references.bib")
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", "--timeout=240")
PATIENCE = 900  # seconds for one mutant
FAILED, COLLECTION = 1, 2


def copy_checkout(folder: Path) -> Path:
    """A fresh copy of what the tests need."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def reaching_tests(sandbox: Path, files: Iterable[str]) -> dict[tuple[str, int], list[str]]:
    """For every line (file, number) that a test of the folders of `files` runs, the tests that run it; they must pass."""
    configuration, data = sandbox / "coverage.ini", sandbox / "coverage.data"
    configuration.write_text(f"[run]\nsource = ensembletheory\ndynamic_context = test_function\ndata_file = {data}\n")
    command = [
        sys.executable,
        "-m",
        "coverage",
        "run",
        f"--rcfile={configuration}",
        *PYTEST,
        "--timeout=1200",
        "-o",
        "session_timeout=3600",
        *sorted({tests_of(file) for file in files}),
    ]
    subprocess.run(command, cwd=sandbox, check=True, stdout=sys.stderr)
    return _by_line(sandbox, data)


def tests_of(file: str) -> str:
    """The folder of the tests of a module."""
    return MUTATED[Path(file).parent.name]


def _by_line(sandbox: Path, data: Path) -> dict[tuple[str, int], list[str]]:
    import coverage

    record, found = coverage.CoverageData(str(data)), defaultdict(list)
    record.read()
    for file in record.measured_files():
        for line, contexts in record.contexts_by_lineno(file).items():
            found[str(Path(file).relative_to(sandbox)), line] = sorted({_test(context) for context in contexts if context.startswith("tests.")})
    return dict(found)


def _test(context: str) -> str:
    """The pytest id of `tests.laws.test_laws.test_name`."""
    module, function = context.rsplit(".", 1)
    return f"{module.replace('.', '/')}.py::{function}"


def survives(sandbox: Path, file: str, mutant: Mutant, tests: list[str]) -> bool:
    """Whether all of `tests` pass with `mutant` in the place of `file`; one that hangs is killed."""
    original = (sandbox / file).read_text()
    (sandbox / file).write_text(mutant.source)
    try:
        status = subprocess.run([sys.executable, *PYTEST, *tests], cwd=sandbox, capture_output=True, timeout=PATIENCE, check=False).returncode
    except subprocess.TimeoutExpired:
        return False
    finally:
        (sandbox / file).write_text(original)
    if status not in (0, FAILED, COLLECTION):
        raise RuntimeError(f"pytest ended with status {status} on {' '.join(tests)}")
    return status == 0
