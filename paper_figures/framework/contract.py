r"""What a figure is: a program from inputs to arrays to a picture, and a caption whose numbers are computed from those arrays.

A figure lives in one file `paper_figures/<name>.py`, which exposes

    FIGURE = Figure(name=..., title=..., inputs={...}, quick_inputs={...}, compute=..., draw=..., caption=..., alt=..., source=..., claims=(...))

- `compute(**inputs)` returns every array that is drawn or quoted, by name. It is a pure function; a figure that simulates has an input called `seed`.
- `draw(data)` returns a matplotlib Figure; it is called in the style of `ensembletheory.plotting`.
- `caption(data)` returns a `Caption`: a text, and for the numbers printed in it `Number`s that say what the arrays give. The text is written by hand, so that a
  number that moves is noticed: the figure is then *red*, and stays on the page as red. Formulas stand between dollar signs.

A number holds when |got - printed| is at most half a unit of the last digit printed, plus, for a simulated number, five standard errors (a correct figure is
then red with probability 6e-7 per number), plus, for a number computed from an approximate input, the share of it that the caption allows for this.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Picture
from numpy.typing import ArrayLike
from scipy import stats

from ensembletheory.errors import refuse

__all__ = ["Caption", "Data", "Figure", "Number", "literals", "mean_number", "nearest"]

STANDARD_ERRORS = 5.0
FEWEST = 5  # replications, of whose mean the tolerance is then below 3.9 deviations; of 2 it is 450

Data = dict[str, Any]  # arrays by name; what `compute` returns is made NumPy before it is drawn or quoted


@dataclass(frozen=True)
class Number:
    """A number in a caption: what the arrays give, what is printed (with all its digits, as text), the standard error of a simulated one, the relative error allowed."""

    name: str
    got: float
    printed: str
    standard_error: float = 0.0
    relative_error: float = 0.0

    @property
    def tolerance(self) -> float:
        """Half a unit of the last digit printed, plus five standard errors, plus the relative error of what is printed."""
        exponent = Decimal(self.printed).as_tuple().exponent
        return 0.5 * 10.0 ** float(exponent) + STANDARD_ERRORS * float(self.standard_error) + self.relative_error * abs(float(self.printed))

    @property
    def holds(self) -> bool:
        """Whether what the arrays give rounds to what is printed (rounding errors of a double allowed)."""
        return abs(float(self.got) - float(self.printed)) <= self.tolerance * (1 + 1e-9)  # False for NaN


def mean_number(name: str, values: ArrayLike, printed: str) -> Number:
    """The number of a mean over independent replications.

    With few of them their spread is uncertain too, so that Student's quantile of 1e-3 takes the place of five standard errors where it is larger (up to 9 replications).

    Raises:
        ValueError: if there are fewer than five replications, of which almost any mean would pass.
    """
    replications = np.asarray(values)
    if replications.size < FEWEST:
        refuse(name, f"{replications.size} replications", f"at least {FEWEST}", "Take more, or assert what holds of each of them.")
    standard_error = replications.std(ddof=1) / replications.size**0.5
    return Number(name, float(replications.mean()), printed, standard_error * max(1.0, float(stats.t.ppf(1 - 0.5e-3, replications.size - 1)) / STANDARD_ERRORS))


@dataclass(frozen=True)
class Caption:
    """A caption and the numbers in it; every number asserted must be printed in the text.

    Raises:
        ValueError: if there is no number, or one that the text does not print.
    """

    text: str
    numbers: tuple[Number, ...]

    def __post_init__(self):
        if not self.numbers:
            refuse("numbers", "none", "at least one", "Assert what the caption states.")
        for number in self.numbers:
            if number.printed.lstrip("-") not in literals(self.text):
                refuse(number.name, f"{number.printed}, which the text does not print", "a number of the caption", "Print it or drop it.")


@dataclass(frozen=True)
class Figure:
    """One published figure; see the module's description of its parts.

    Raises:
        ValueError: if an input is not plain JSON, or `quick_inputs` names something that is not an input.
    """

    name: str
    title: str
    inputs: Mapping[str, Any]
    compute: Callable[..., Data]
    draw: Callable[[Data], Picture]
    caption: Callable[[Data], Caption]
    alt: str
    source: str
    quick_inputs: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[str, ...] = ()

    def __post_init__(self):
        for argument in self.quick_inputs:
            self._demand_input(argument)
        json.dumps(dict(self.inputs) | dict(self.quick_inputs), allow_nan=False)

    def settings(self, quick: bool) -> dict[str, Any]:
        """The inputs of a full or of a quick run."""
        return dict(self.inputs) | (dict(self.quick_inputs) if quick else {})

    def with_inputs(self, **changes: Any) -> "Figure":
        """The same figure with other inputs, in full and quick runs alike.

        Raises:
            ValueError: if a name is not an input of the figure.
        """
        for argument in changes:
            self._demand_input(argument)
        return replace(self, inputs=dict(self.inputs) | changes, quick_inputs={k: v for k, v in self.quick_inputs.items() if k not in changes})

    def _demand_input(self, argument: str) -> None:
        if argument not in self.inputs:
            refuse(argument, f"no such input of {self.name}", "one of its inputs", f"Did you mean {nearest(argument, self.inputs)}?")


def literals(text: str) -> set[str]:
    """The numbers that a text prints, without their signs."""
    return set(re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", text))


def nearest(word: str, words: Iterable[str]) -> str:
    """The names most like `word`, or all of them when none is alike."""
    words = list(words)
    return ", ".join(difflib.get_close_matches(word, words, cutoff=0.4) or words)
