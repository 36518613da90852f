"""Counter-examples on disk: one JSON file each, its instance written in fractions, so that a reader can redo the sum on paper."""

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ensembletheory import errors
from ensembletheory.claims.rationals import floats

__all__ = ["COUNTEREXAMPLES", "as_numbers", "as_text", "read_instance"]

COUNTEREXAMPLES = Path(__file__).parent / "counterexamples"


def as_text(fractions: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """An instance of fractions as nested lists of strings such as "-3/2"."""
    return {name: np.vectorize(str, otypes=[object])(value).tolist() for name, value in fractions.items()}


def as_numbers(text: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The instance that `as_text` wrote, in 64-bit numbers."""
    return {name: floats(np.vectorize(Fraction, otypes=[object])(value)) for name, value in text.items()}


def read_instance(path: Path) -> dict[str, np.ndarray]:
    """The instance of a stored counter-example.

    Raises:
        ValueError: if there is no such file, or it holds no instance made of fractions.
    """
    try:
        return as_numbers(json.loads(path.read_text())["instance"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        errors.refuse(
            "counter-example",
            f"{path} ({type(error).__name__}: {error})",
            'a JSON file with "instance": {name: nested lists of fractions}',
            "Write one with `ensembletheory falsify`.",
        )
