r"""Two ways to look for what a group does not explain.

*Rays.* How fast must laws part when orbits do? From a point a in directions that point away from its orbit (right-singular vectors of the law's derivative, random ones,
and random mixtures of those the derivative does not see), each made horizontal by aligning a step along it with a. For a compact group the straight line from a to an
aligned point keeps d_G(a, a + h w) = h |w| all the way, so distances along rays are exact.

*Collisions.* Starting elsewhere, solve law(b) = law(a) by Levenberg-Marquardt. A solution off the orbit of a is a symmetry that the group lacks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from ensembletheory.identifiability.actions import Symmetry
from ensembletheory.identifiability.observing import Observer

__all__ = ["Pair", "Rays", "collide", "distance", "rays"]

_SCALES = np.geomspace(1e-3, 1.0, 7)  # of the unit of distance
_LOCAL = 3  # the scales that the exponent is fitted to
_STEP = 1e-2  # of the unit: the step by which a direction is made horizontal
_ALONG_ORBIT = 0.05  # a direction whose step moves the orbit by less than this part runs along it
_RANDOM = 4  # random directions a point
_UNSEEN = 1e-6  # singular values below this part of the largest count as zero
_STEPS = 300  # evaluations of one collision search


@dataclass(frozen=True)
class Pair:
    """Two parameters with the distance of their orbits and of their laws."""

    a: Any
    b: Any
    quotient: float
    law: float

    def __str__(self) -> str:
        return f"d_G = {self.quotient:.3g}, law distance = {self.law:.3g}"


@dataclass(frozen=True)
class Rays:
    """Quotient distances and law distances (rays, scales), and the flat points from which and at which they are taken, (rays, n) and (rays, scales, n)."""

    quotient: np.ndarray
    law: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def exponent(self) -> float:
        """The slope of log(law distance) on log(quotient distance) along the slowest rays at small scales, to one decimal; infinite if one does not part at all."""
        slowest = np.argmin(self.law[:, :_LOCAL] / self.quotient[:, :_LOCAL], axis=0)
        d, law = (table[slowest, np.arange(_LOCAL)] for table in (self.quotient, self.law))
        return np.inf if np.any(law == 0) else round(float(np.polyfit(np.log(d), np.log(law), 1)[0]), 1)


def rays(observer: Observer, action: Symmetry, points: list[np.ndarray], unit: float, rng: np.random.Generator) -> Rays:
    """Distances along rays from each point."""
    starts, ends, quotient, law = [], [], [], []
    for point in points:
        a = observer.pack(action.section(observer.unpack(point)))
        for direction in _horizontal(observer, action, a, unit, rng):
            along = [a + h * unit * direction for h in _SCALES]
            starts.append(a)
            ends.append(along)
            quotient.append([distance(observer, action, a, b) for b in along])
            law.append([observer.distance(a, b) for b in along])
    return Rays(*(np.asarray(table) for table in (quotient, law, starts, ends)))


def collide(observer: Observer, action: Symmetry, target: np.ndarray, start: np.ndarray) -> Pair:
    """The target and where a search for law(b) = law(target) ends that starts at `start`."""
    goal = observer.vector(target)

    def residual(b: np.ndarray) -> np.ndarray:
        gap = _valid(observer.vector, b, 1e3 * observer.scale * np.ones_like(goal)) - goal
        return np.append(gap, np.zeros(max(0, b.size - gap.size)))

    def jacobian(b: np.ndarray) -> np.ndarray:
        slope = _valid(observer.jacobian, b, np.zeros((goal.size, b.size)))
        return np.concatenate([slope, np.zeros((max(0, b.size - goal.size), b.size))])

    end = least_squares(residual, start, jacobian, method="lm", ftol=1e-15, xtol=1e-15, gtol=1e-15, max_nfev=_STEPS).x  # pyright: ignore[reportArgumentType]
    return Pair(target, end, distance(observer, action, target, end), float(np.linalg.norm(residual(end))))


def distance(observer: Observer, action: Symmetry, a: np.ndarray, b: np.ndarray) -> float:
    """The quotient distance of two flat points."""
    return action.distance(observer.unpack(a), observer.unpack(b))


def _horizontal(observer: Observer, action: Symmetry, a: np.ndarray, unit: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Unit directions at a that leave its orbit."""
    _, sizes, vectors = np.linalg.svd(observer.jacobian(a))
    seen = int(np.sum(sizes > _UNSEEN * sizes[0]))
    mixed = rng.normal(size=(2, a.size - seen)) @ vectors[seen:]
    candidates = [*vectors, *mixed, *rng.normal(size=(_RANDOM, a.size))]
    found = []
    for candidate in candidates:
        size = float(np.linalg.norm(candidate))
        if size == 0:
            continue
        step = _STEP * unit * candidate / size
        here: Any = observer.unpack(a)
        across = observer.pack(action.aligned(here, observer.unpack(a + step))) - a
        length = float(np.linalg.norm(across))
        if length > _ALONG_ORBIT * _STEP * unit:
            found.append(across / length)
    return found


def _valid(function: Any, b: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """The values, or `otherwise` where the parameters are outside the family."""
    try:
        values = function(b)
    except ValueError:
        return otherwise
    return values if np.all(np.isfinite(values)) else otherwise
