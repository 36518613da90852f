"""Small fractions near given numbers, in arrays of objects: exact, readable, and printable on paper.

The height of a fraction is bounded through one number, here called its bound: the denominator of numbers above 1, the numerator of positive numbers below 1
(`reciprocal`), so that 1/3000 counts as small.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil, floor

import numpy as np

__all__ = ["apportion", "entrywise", "exact", "floats", "identity", "nearest", "rational_cayley", "reciprocal", "rounded", "simpler_entries"]


def floats(fractions: np.ndarray) -> np.ndarray:
    """An array of fractions as the nearest 64-bit numbers."""
    return np.asarray(fractions, dtype=float)


def exact(value: np.ndarray) -> np.ndarray:
    """Every 64-bit number as the fraction that it is."""
    return _array([Fraction(float(x)) for x in value.ravel()], value.shape)


def entrywise(to_fraction: Callable[[float], Fraction | None], value: np.ndarray) -> np.ndarray | None:
    """`to_fraction` of every entry, or None if it has no answer for some entry."""
    entries = [to_fraction(float(x)) for x in value.ravel()]
    return None if None in entries else _array(entries, value.shape)


def rounded(value: np.ndarray, bound: int) -> np.ndarray:
    """Every entry as the nearest fraction with denominator at most `bound`, hence within 1 / (2 bound)."""
    return _array([Fraction(float(x)).limit_denominator(bound) for x in value.ravel()], value.shape)


def identity(d: int) -> np.ndarray:
    """The d x d identity."""
    return rounded(np.eye(d), 1)


def nearest(x: float, bound: int, lo: float, hi: float) -> Fraction | None:
    """A fraction in [lo, hi] near `x` with denominator at most `bound`, if there is one among the nearest and the ends' neighbours."""
    candidates = (Fraction(x).limit_denominator(bound), Fraction(ceil(lo * bound), bound), Fraction(floor(hi * bound), bound))
    inside = [q for q in candidates if lo <= float(q) <= hi]
    return min(inside, key=lambda q: abs(q - Fraction(x)), default=None)


def reciprocal(x: float, bound: int, lo: float, hi: float) -> Fraction | None:
    """A fraction in [lo, hi] near `x` > 0 with numerator at most `bound`."""
    inverse = nearest(1 / x, bound, 1 / hi, 1 / lo)
    if inverse is None or not lo <= float(1 / inverse) <= hi:
        return None
    return 1 / inverse


def apportion(weights: np.ndarray, bound: int) -> np.ndarray:
    """Weights that sum to 1 along the last axis as whole shares of 1 / bound, by largest remainders."""
    rows = [_shares(row, bound) for row in weights.reshape(-1, weights.shape[-1])]
    return _array([share for row in rows for share in row], weights.shape)


def simpler_entries(value: np.ndarray) -> Iterator[np.ndarray]:
    """`value` with one entry replaced by a simpler number near it, or by 0, 1 or -1."""
    for place, entry in np.ndenumerate(value):
        for candidate in _simpler_numbers(entry):
            moved = value.copy()
            moved[place] = candidate
            yield moved


def rational_cayley(skew: np.ndarray) -> np.ndarray:
    """(I + A)^-1 (I - A) for a skew A, by Gauss-Jordan elimination; I + A and its leading blocks have determinant at least 1, so no pivoting is needed."""
    d = len(skew)
    rows = np.concatenate([identity(d) + skew, identity(d) - skew], axis=1)
    for i in range(d):
        rows[i] = rows[i] / rows[i, i]
        for j in set(range(d)) - {i}:
            rows[j] = rows[j] - rows[j, i] * rows[i]
    return rows[:, d:]


def _array(entries: list, shape: tuple[int, ...]) -> np.ndarray:
    return np.array(entries, dtype=object).reshape(shape)


def _shares(weights: np.ndarray, bound: int) -> list[Fraction]:
    exact = weights / np.sum(weights) * bound
    counts = np.floor(exact).astype(int)
    most_short = np.argsort(counts - exact, kind="stable")
    counts[most_short[: bound - int(np.sum(counts))]] += 1
    return [Fraction(int(count), bound) for count in counts]


def _simpler_numbers(x: Fraction) -> list[Fraction]:
    """0, 1, -1, and the numbers near x of small denominator or numerator, those that are simpler than x."""
    near = [x.limit_denominator(bound) for bound in range(1, 11)]
    inverse = [1 / (1 / x).limit_denominator(bound) for bound in range(1, 11)] if 0 < abs(x) < 1 else []
    around = [Fraction(floor(x)), Fraction(ceil(x)), *near, *inverse]
    return [q for q in dict.fromkeys([Fraction(0), Fraction(1), Fraction(-1), *around]) if _height(q) < _height(x)]


def _height(q: Fraction) -> tuple[int, int, bool]:
    return max(q.denominator, abs(q.numerator)), q.denominator, q < 0
