"""Counter-examples on disk: one JSON file each, its instance written in fractions, so that a reader can redo the sum on paper.

A refuted claim has its counter-example in the folder `counterexamples` beside the file that makes the claim.
"""

import inspect
import json
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ensembletheory import errors
from ensembletheory.claims.claim import Claim
from ensembletheory.claims.rationals import floats

__all__ = ["as_json", "as_numbers", "as_text", "counterexample_path", "read_instance"]


def counterexample_path(claim: Claim) -> Path:
    """Where the counter-example of a refuted claim is kept."""
    return Path(inspect.getfile(claim.function)).parent / "counterexamples" / f"{claim.id}.json"


def as_text(fractions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """An instance of fractions as nested lists of strings such as "-3/2"."""
    return {name: np.vectorize(str, otypes=[object])(value).tolist() for name, value in fractions.items()}


def as_numbers(text: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The instance that `as_text` wrote, in 64-bit numbers."""
    return {name: floats(np.vectorize(Fraction, otypes=[object])(value)) for name, value in text.items()}


def as_json(record: Any) -> str:
    """A record as JSON that every reader accepts: infinities are the strings "inf" and "-inf"."""
    return json.dumps(_finite(record), indent=2, allow_nan=False) + "\n"


def read_instance(path: Path) -> dict[str, np.ndarray]:
    """The instance of a stored counter-example.

    Raises:
        ValueError: if there is no such file, or it holds no instance made of fractions.
    """
    try:
        return as_numbers(json.loads(path.read_text())["instance"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        got = f"{path} ({type(error).__name__}: {error})"
        errors.refuse("counter-example", got, 'a JSON file with "instance": {name: nested lists of fractions}', "Write one with `ensembletheory falsify`.")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
