r"""One description of the instances of a claim, from which everything that produces instances follows.

A domain is a product of named parts, each a compact set X of real arrays:

| part         | set                                                | chart R^n -> X                                                                |
|--------------|----------------------------------------------------|-------------------------------------------------------------------------------|
| `real`       | [lo, hi]                                           | lo + (hi - lo) sigmoid(u)                                                     |
| `positive`   | [lo, hi], lo > 0, on a logarithmic scale           | lo (hi / lo)^sigmoid(u)                                                       |
| `simplex`    | weights >= 0 that sum to 1 along the last axis     | softmax(u)                                                                    |
| `spd`        | symmetric matrices with spectrum in [lo, hi]       | Q diag(eigenvalues) Q^T, Q a product of plane rotations by the angles u       |
| `orthogonal` | rotations                                          | the product of plane rotations by the angles u                                |

The charts are smooth, onto the interior, and never leave the set, so a gradient search needs no constraint. Besides its chart a part gives a Hypothesis
strategy (built, never filtered) and a near point of small fractions that is still in the set. A law of finite support is points `real(..., shape=(K, n))` with
probabilities `simplex(K)`.
"""

import abc
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory import errors
from ensembletheory.claims.rationals import apportion, entrywise, floats, identity, nearest, rational_cayley, reciprocal, rounded, simpler_entries

__all__ = ["Part", "orthogonal", "positive", "real", "simplex", "spd"]

ROUNDING = 1e-12  # relative slack of matrices: computed spectra are exact only up to rounding


class Part(abc.ABC):
    """A compact set of arrays of one shape, with a chart from R^size."""

    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of coordinates of the chart."""
        return prod(self.shape)

    @abc.abstractmethod
    def point(self, u: Float[Array, " n"]) -> Float[Array, "..."]:
        """The point of the set with coordinates `u`; smooth in `u`."""

    @abc.abstractmethod
    def complaint(self, value: np.ndarray) -> str | None:
        """What keeps `value`, finite and of the right shape, out of the set; None if it is in."""

    @abc.abstractmethod
    def snap(self, value: np.ndarray, bound: int) -> np.ndarray | None:
        """A point of the set near `value` made of fractions no higher than `bound` (see `rationals`); None if there is none."""

    @abc.abstractmethod
    def strategy(self) -> Any:
        """Hypothesis strategy of points, as NumPy arrays."""

    def simpler(self, value: np.ndarray) -> Iterator[np.ndarray]:
        """Points made of fractions that read more simply than `value`, simplest first; they may lie outside the set."""
        yield from ()


@dataclass(frozen=True)
class Real(Part):
    """Arrays with entries in [lo, hi]."""

    lo: float
    hi: float
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"[{self.lo:g}, {self.hi:g}]{_exponent(self.shape)}"

    def point(self, u: Float[Array, " n"]) -> Float[Array, "..."]:
        return jnp.clip(self.lo + (self.hi - self.lo) * jax.nn.sigmoid(u), self.lo, self.hi).reshape(self.shape)

    def complaint(self, value: np.ndarray) -> str | None:
        return None if np.all((self.lo <= value) & (value <= self.hi)) else f"numbers between {np.min(value):g} and {np.max(value):g}"

    def snap(self, value: np.ndarray, bound: int) -> np.ndarray | None:
        return entrywise(lambda x: nearest(x, bound, self.lo, self.hi), value)

    def strategy(self) -> Any:
        return _arrays(self.shape, self.lo, self.hi)

    def simpler(self, value: np.ndarray) -> Iterator[np.ndarray]:
        yield from simpler_entries(value)


@dataclass(frozen=True)
class Positive(Real):
    """Arrays with entries in [lo, hi], lo > 0, searched on a logarithmic scale."""

    def point(self, u: Float[Array, " n"]) -> Float[Array, "..."]:
        return jnp.clip(self.lo * jnp.exp(np.log(self.hi / self.lo) * jax.nn.sigmoid(u)), self.lo, self.hi).reshape(self.shape)

    def snap(self, value: np.ndarray, bound: int) -> np.ndarray | None:
        return entrywise(lambda x: nearest(x, bound, self.lo, self.hi) if x >= 1 else reciprocal(x, bound, self.lo, self.hi), value)


@dataclass(frozen=True)
class Simplex(Part):
    """Non-negative arrays that sum to 1 along the last axis."""

    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"simplex of {self.shape[-1]}{_exponent(self.shape[:-1])}"

    def point(self, u: Float[Array, " n"]) -> Float[Array, "..."]:
        return jax.nn.softmax(u.reshape(self.shape), axis=-1)

    def complaint(self, value: np.ndarray) -> str | None:
        if np.any(value < 0):
            return f"a weight of {np.min(value):g}"
        sums = np.sum(value, axis=-1).ravel()
        off = np.argmax(abs(sums - 1))
        return None if abs(sums[off] - 1) <= 8 * self.shape[-1] * np.finfo(float).eps else f"weights that sum to {sums[off]:.17g}"

    def snap(self, value: np.ndarray, bound: int) -> np.ndarray | None:
        return apportion(value, bound)

    def strategy(self) -> Any:
        cuts = _arrays((*self.shape[:-1], self.shape[-1] - 1), 0.0, 1.0)
        return cuts.map(lambda cut: np.diff(np.sort(cut, axis=-1), axis=-1, prepend=0.0, append=1.0))

    def simpler(self, value: np.ndarray) -> Iterator[np.ndarray]:
        equal = np.full(self.shape, Fraction(1, self.shape[-1]), dtype=object)
        if np.all(value == equal):
            return
        yield equal
        highest = max(weight.denominator for weight in value.ravel())
        yield from (apportion(floats(value), bound) for bound in range(1, min(highest, 11)))


@dataclass(frozen=True)
class Spd(Part):
    """Symmetric matrices, in the last two axes of `shape`, with spectrum in [lo, hi], lo > 0."""

    lo: float
    hi: float
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"symmetric {self.shape[-1]} x {self.shape[-1]}, spectrum in [{self.lo:g}, {self.hi:g}]{_exponent(self.shape[:-2])}"

    @property
    def size(self) -> int:
        return prod(self.shape[:-1]) * (self.shape[-1] + 1) // 2

    def point(self, u: Float[Array, " n"]) -> Float[Array, "..."]:
        d = self.shape[-1]

        def matrix(v: Float[Array, " m"]) -> Float[Array, "d d"]:
            return _with_spectrum(Positive(self.lo, self.hi, (d,)).point(v[:d]), _rotation(v[d:], d))

        return jax.vmap(matrix)(u.reshape(prod(self.shape[:-2]), -1)).reshape(self.shape)

    def complaint(self, value: np.ndarray) -> str | None:
        slack = ROUNDING * self.shape[-1] * self.hi
        asymmetry = np.max(abs(value - np.swapaxes(value, -1, -2)))
        if asymmetry > slack:
            return f"a matrix that differs from its transpose by {asymmetry:g}"
        spectrum = np.linalg.eigvalsh(value)
        inside = np.all((self.lo - slack <= spectrum) & (spectrum <= self.hi + slack))
        return None if inside else f"eigenvalues between {np.min(spectrum):g} and {np.max(spectrum):g}"

    def snap(self, value: np.ndarray, bound: int) -> np.ndarray | None:
        plain = rounded(value, bound)
        if self.complaint(floats(plain)) is None:
            return plain
        margin = self.shape[-1] / (2 * bound)  # rounding every entry by 1/(2 bound) moves no eigenvalue by more
        if self.hi - self.lo < 2 * margin:
            return None
        spectrum, vectors = np.linalg.eigh(value)
        return rounded(_with_spectrum(np.clip(spectrum, self.lo + margin, self.hi - margin), vectors), bound)

    def strategy(self) -> Any:
        import hypothesis.strategies as st

        d = self.shape[-1]
        return st.builds(_spd_of, _arrays(self.shape[:-1], self.lo, self.hi), _arrays((*self.shape[:-2], d * (d - 1) // 2), -np.pi, np.pi))

    def simpler(self, value: np.ndarray) -> Iterator[np.ndarray]:
        one = identity(self.shape[-1])
        for candidate in (np.broadcast_to(one, self.shape), value * one):
            if np.any(candidate != value):
                yield candidate


@dataclass(frozen=True)
class Orthogonal(Part):
    """Rotations; compose with a fixed reflection where the other sheet of O(d) matters."""

    shape: tuple[int, int]

    def __str__(self) -> str:
        return f"rotations of dimension {self.shape[0]}"

    @property
    def size(self) -> int:
        return prod(self.shape) // 2 - self.shape[0] // 2

    def point(self, u: Float[Array, " n"]) -> Float[Array, "..."]:
        return jnp.asarray(_rotation(u, self.shape[0]))

    def complaint(self, value: np.ndarray) -> str | None:
        defect = np.max(abs(value @ value.T - np.eye(len(value))))
        if defect > ROUNDING * len(value):
            return f"a matrix with Q Q^T off the identity by {defect:g}"
        return None if np.linalg.det(value) > 0 else "a reflection (determinant -1)"

    def snap(self, value: np.ndarray, bound: int) -> np.ndarray | None:
        signs = _signs_without_eigenvalue_minus_one(value)
        skew = (np.eye(len(value)) - signs * value) @ np.linalg.inv(np.eye(len(value)) + signs * value)
        half = rounded(np.triu((skew - skew.T) / 2), bound)
        return signs.astype(int) * rational_cayley(half - half.T)

    def strategy(self) -> Any:
        return _arrays((self.size,), -np.pi, np.pi).map(lambda angles: _rotation(angles, self.shape[0]))

    def simpler(self, value: np.ndarray) -> Iterator[np.ndarray]:
        if np.any(value != identity(len(value))):
            yield identity(len(value))


def real(lo: float | int, hi: float | int, shape: Sequence[int] = ()) -> Part:
    """Real numbers in [lo, hi].

    Raises:
        ValueError: unless lo < hi are finite.
    """
    _check_box(lo, hi)
    return Real(float(lo), float(hi), tuple(shape))


def positive(lo: float | int, hi: float | int, shape: Sequence[int] = ()) -> Part:
    """Positive numbers in [lo, hi], searched on a logarithmic scale.

    Raises:
        ValueError: unless 0 < lo < hi are finite.
    """
    _check_box(lo, hi, above=0.0)
    return Positive(float(lo), float(hi), tuple(shape))


def simplex(K: int | None = None, shape: Sequence[int] | None = None) -> Part:
    """Weights of `K` members, or of `shape` = (..., K): non-negative, sum 1 along the last axis.

    Raises:
        ValueError: unless exactly one of `K` and `shape` is given and there is at least one member.
    """
    if (K is None) == (shape is None):
        errors.refuse("K, shape", f"K={K}, shape={shape}", "one of the two", "Write simplex(3) or simplex(shape=(2, 3)).")
    whole = (K,) if shape is None else tuple(shape)
    if not whole or whole[-1] is None or whole[-1] < 1:
        errors.refuse("K", str(whole), "at least one member", "Write simplex(3) or simplex(shape=(2, 3)).")
    return Simplex(whole)  # pyright: ignore[reportArgumentType]


def spd(d: int, lo: float | int, hi: float | int, shape: Sequence[int] = ()) -> Part:
    """Symmetric positive-definite d x d matrices with spectrum in [lo, hi]; `shape` is that of a leading batch.

    Raises:
        ValueError: unless d >= 1 and 0 < lo < hi are finite.
    """
    _check_box(lo, hi, above=0.0)
    _check_dimension(d)
    return Spd(float(lo), float(hi), (*shape, d, d))


def orthogonal(d: int) -> Part:
    """Rotations of R^d; compose with a fixed reflection where the other sheet of O(d) matters.

    Raises:
        ValueError: unless d >= 1.
    """
    _check_dimension(d)
    return Orthogonal((d, d))


def _check_box(lo: float | int, hi: float | int, above: float = -np.inf) -> None:
    if not (above < lo < hi < np.inf):
        errors.refuse("lo, hi", f"{lo}, {hi}", f"{above:g} < lo < hi, finite", "Give the box a positive width.")


def _check_dimension(d: int) -> None:
    if d < 1:
        errors.refuse("d", str(d), "at least 1", "Give the dimension of the space.")


def _exponent(shape: tuple[int, ...]) -> str:
    return "^" + "x".join(map(str, shape)) if shape else ""


def _arrays(shape: tuple[int, ...], lo: float, hi: float) -> Any:
    from hypothesis.extra import numpy as hnp

    return hnp.arrays(np.float64, shape, elements={"min_value": lo, "max_value": hi, "allow_subnormal": False})


def _rotation(angles: Any, d: int) -> Any:
    """The product of plane rotations by `angles`, one per pair of axes; NumPy in, NumPy out."""
    rotation = np.eye(d)
    for k, (i, j) in enumerate(zip(*np.triu_indices(d, 1), strict=True)):
        plane, turn = np.zeros((d, d)), np.zeros((d, d))
        plane[i, i] = plane[j, j] = turn[j, i] = 1.0
        turn[i, j] = -1.0
        cosine, sine = (np.cos, np.sin) if isinstance(angles, np.ndarray) else (jnp.cos, jnp.sin)
        rotation = rotation @ (np.eye(d) + (cosine(angles[k]) - 1) * plane + sine(angles[k]) * turn)
    return rotation


def _signs_without_eigenvalue_minus_one(rotation: np.ndarray) -> np.ndarray:
    """Signs (d, 1) of rows that make -1 no eigenvalue, so that Cayley's formula has an answer; such signs exist for every rotation."""
    patterns = [np.reshape(signs, (-1, 1)) for signs in itertools.product([1.0, -1.0], repeat=len(rotation))]
    return max(patterns, key=lambda signs: abs(np.linalg.det(np.eye(len(rotation)) + signs * rotation)))


def _with_spectrum(spectrum: Any, vectors: Any) -> Any:
    half = vectors * spectrum[..., None, :]
    matrix = half @ vectors.mT
    return (matrix + matrix.mT) / 2


def _spd_of(spectra: np.ndarray, angles: np.ndarray) -> np.ndarray:
    d = spectra.shape[-1]
    rotations = [_rotation(angles[place], d) for place in np.ndindex(angles.shape[:-1])]
    return _with_spectrum(spectra, np.reshape(rotations, (*spectra.shape, d)))
