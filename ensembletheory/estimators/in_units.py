"""Models of rows in units of their columns: mean 0 and standard deviation 1 of what is observed of each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ensembletheory.fitting.rows import Table

__all__ = ["InUnits", "in_units"]


class InUnits(NamedTuple):
    """A model of rows in units of their columns: (x - location) / scale."""

    model: Any
    location: np.ndarray
    scale: np.ndarray

    def standardised(self, X: np.ndarray) -> np.ndarray:
        """Rows in units of their columns."""
        return (X - self.location) / self.scale

    def restored(self, Z: Any) -> np.ndarray:
        """Rows in the units of the data."""
        return np.asarray(Z) * self.scale + self.location


def in_units(X: np.ndarray, model: Callable[[np.ndarray], Any]) -> InUnits:
    """What a fit makes of the rows X (n, d), NaN = missing, in units of their columns."""
    table = Table(X, np.ones(len(X), X.dtype))
    location, scale = table.location(), table.scale()
    return InUnits(model((X - location) / scale), location, scale)
