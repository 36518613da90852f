r"""The converse of the convex-loss theorem, made executable: a loss that is not convex has an ensemble that its second member makes worse.

Let X_1, X_2 be independent, each a with probability p and b otherwise. Enumerating the pairs,
$$ E\, l(X_1) - E\, l\big(\tfrac{X_1 + X_2}{2}\big) = p (1 - p) \big[ l(a) - 2\, l\big(\tfrac{a + b}{2}\big) + l(b) \big]. $$
So two members are no worse than one under every two-point law iff l is midpoint convex (a continuous or measurable l then is convex), and a pair (a, b) with a
negative second difference is a counter-example; p = 1/2 makes it strongest, with one quarter of the second difference.

Source: Mattei & Garreau, "Are ensembles getting better all the time?" (JMLR 26, 2025); this form of the converse is derived here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse

__all__ = ["ConverseSearch", "harmful_two_point_law", "second_member_gain"]

Loss = Callable[..., Float[Array, "..."]]

_ZOOMS, _AROUND = 6, 5  # rounds that narrow the search around the best pair, and points an axis in each
_ROUNDING = 16 * float(np.finfo(float).eps)


@dataclass(frozen=True)
class ConverseSearch:
    """Whether a second member can harm, and what was tried.

    `low` and `high` are the two points, each with probability 1/2; `harm` = E l(mean of two) - E l(one). Without a counter-example they are the pair of largest
    harm that was seen (0 or negative up to `rounding`), which proves nothing beyond the `evaluations` of the loss on this interval.
    """

    found: bool
    low: float
    high: float
    harm: float
    rounding: float
    evaluations: int

    @property
    def verdict(self) -> str:
        """One line that says no more than what was done."""
        if self.found:
            return f"a second member harms: by {self.harm:.6g} for the law on {{{self.low:.6g}, {self.high:.6g}}} with probability 1/2 each ({self.evaluations} evaluations)"
        return f"none found: no two-point law of {self.evaluations} evaluations is harmed by a second member; this is no proof of convexity"


def second_member_gain(loss: Loss, a: Numbers, b: Numbers, probability: Numbers = 0.5) -> Float[Array, "..."]:
    """E l(X_1) - E l((X_1 + X_2)/2) for independent X_k that are a with the given probability, else b; elementwise.

    Args:
        loss: elementwise function of predictions.
        a: first point.
        b: second point.
        probability: p in [0, 1], of a.

    Raises:
        ValueError: if something is not finite.
    """
    a, b, p = as_floats("a", a), as_floats("b", b), as_floats("probability", probability)
    return p * (1 - p) * (loss(a) - 2 * loss((a + b) / 2) + loss(b))


def harmful_two_point_law(loss: Callable[[np.ndarray], object], low: float, high: float, budget: int = 1025) -> ConverseSearch:
    """Search an interval for the two-point law whose members' mean loses most by having two members instead of one.

    Every pair of points of a regular grid whose midpoint is on the grid is compared; the worst pair is then refined. A dent of the loss that lies between the points
    of the grid is not seen.

    Args:
        loss: elementwise function of an array of predictions, real on the interval.
        low: lower end of the interval.
        high: upper end.
        budget: largest number of evaluations of the loss, at least 200.

    Raises:
        ValueError: unless low < high are finite, the budget is at least 200 and the loss is finite and real at every point tried.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        refuse("low, high", f"{low}, {high}", "finite numbers with low < high", "Give the interval of predictions.")
    if budget < 200:
        refuse("budget", str(budget), "at least 200", "A coarser grid says nothing; the default is 1025.")
    grid = np.linspace(low, high, budget - 3 * _ZOOMS * _AROUND**2)
    values = _values(loss, grid)
    best, harm = _worst_pair(grid, values)
    for zoom in range(_ZOOMS):
        best, harm = _refined(loss, best, harm, (grid[1] - grid[0]) / 2**zoom, low, high)
    rounding = _ROUNDING * float(np.max(np.abs(values)))
    return ConverseSearch(harm > rounding, *best, harm, rounding, grid.size + 3 * _ZOOMS * _AROUND**2)


def _values(loss: Callable[[np.ndarray], object], points: np.ndarray) -> np.ndarray:
    values = np.asarray(loss(points), dtype=float)
    if values.shape != points.shape or not np.all(np.isfinite(values)):
        refuse(
            "loss",
            f"shape {values.shape}, {np.sum(~np.isfinite(values))} values not finite",
            f"one finite number for each of {points.shape} points",
            "Choose another interval.",
        )
    return values


def _worst_pair(grid: np.ndarray, values: np.ndarray) -> tuple[tuple[float, float], float]:
    """The pair of points with the least second difference about a grid point, and minus a quarter of that."""
    best, harm = (float(grid[0]), float(grid[-1])), -np.inf
    for lag in range(1, (grid.size + 1) // 2):
        harms = -0.25 * (values[: -2 * lag] - 2 * values[lag:-lag] + values[2 * lag :])
        i = int(np.argmax(harms))
        if harms[i] > harm:
            best, harm = (float(grid[i]), float(grid[i + 2 * lag])), float(harms[i])
    return best, harm


def _refined(loss: Callable[[np.ndarray], object], best: tuple[float, float], harm: float, step: float, low: float, high: float) -> tuple[tuple[float, float], float]:
    offsets = step * np.linspace(-1, 1, _AROUND)
    a, b = (grid.ravel() for grid in np.meshgrid(*(np.clip(end + offsets, low, high) for end in best), indexing="ij"))
    ends_and_middle = _values(loss, np.concatenate([a, (a + b) / 2, b])).reshape(3, -1)
    harms = -0.25 * (ends_and_middle[0] - 2 * ends_and_middle[1] + ends_and_middle[2])
    i = int(np.argmax(harms))
    return ((float(a[i]), float(b[i])), float(harms[i])) if harms[i] > harm else (best, harm)
