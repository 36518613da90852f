"""Numbers that steer a fit, refused when they make no sense."""

import math
import operator
from typing import Any

from ensembletheory.errors import refuse
from ensembletheory.fitting.em import default_tolerance

__all__ = ["at_least", "checked_ridge", "checked_tolerance"]


def at_least(argument: str, value: Any, least: int) -> int:
    """`value` as a whole number of at least `least`.

    Raises:
        ValueError: otherwise.
    """
    try:
        number = operator.index(value)
    except TypeError:
        refuse(argument, repr(value), f"a whole number >= {least}", "Pass a Python int.")
    if number < least:
        refuse(argument, str(number), f"a whole number >= {least}", f"The smallest meaningful `{argument}` is {least}.")
    return number


def checked_ridge(ridge: float) -> float:
    """`ridge` if it is a finite number >= 0.

    Raises:
        ValueError: otherwise.
    """
    if not 0 <= ridge < math.inf:
        refuse("ridge", f"{ridge}", "a finite number >= 0", "Pass a small fraction of the columns' variances, such as 1e-6.")
    return float(ridge)


def checked_tolerance(tolerance: float | None) -> float:
    """`tolerance`, or the default for None.

    Raises:
        ValueError: if it is not a positive number.
    """
    if tolerance is None:
        return default_tolerance()
    if not 0 < tolerance < math.inf:
        refuse("tolerance", f"{tolerance}", "a positive number", "Leave it out for the root of the machine epsilon.")
    return float(tolerance)
