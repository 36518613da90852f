"""A claim of one's own, out of one's own file: `FILE.py:function`."""

import importlib.util
from pathlib import Path
from types import ModuleType

from ensembletheory import errors
from ensembletheory.claims.claim import Claim, ClaimError

__all__ = ["is_file_target", "load_claim"]


def is_file_target(target: str) -> bool:
    """Whether `target` means a function in a file rather than an id."""
    return ".py" in target


def load_claim(target: str) -> Claim:
    """The claim made by a function in a Python file.

    Args:
        target: "FILE.py:function", the function under the `claim` decorator.

    Raises:
        ValueError: if there is no such file or function, or it is not a claim.
        ClaimError: if the file raises while it is imported.
    """
    name, _, function = target.rpartition(":")
    path = Path(name)
    if not name or not function or not path.is_file():
        got = f"{target!r}, and there is no file {name or function}" if not path.is_file() else repr(target)
        errors.refuse("claim file", got, "FILE.py:function, with the path of a file", "Name the function under the @claim decorator, such as notes.py:margin.")
    return _claim_in(_imported(path), path, function)


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"claims_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        errors.refuse("claim file", str(path), "a Python file", "Give it the suffix .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ClaimError(f"claim file {path}: importing it raised {type(error).__name__}: {error}; expected a file that defines a claim. Mend the file.") from error
    return module


def _claim_in(module: ModuleType, path: Path, function: str) -> Claim:
    found = getattr(module, function, None)
    if isinstance(found, Claim):
        return found
    claims = [name for name, value in vars(module).items() if isinstance(value, Claim)]
    got = f"no {function!r} in {path}" if found is None else f"{function!r}, a {type(found).__name__}, in {path}"
    expected = f"a function under the @claim decorator; the file has {', '.join(claims) or 'none'}"
    errors.refuse("claim file", got, expected, "Decorate the margin with ensembletheory.claims.claim(...), or name another one.")
