r"""Palindromic splittings of a separable Hamiltonian flow into kicks and drifts, with `field` a gradient.

From t to s, h = t - s, with coefficients a_0, ..., a_n of the kicks and b_1, ..., b_n of the drifts, alternately

    p <- p - a_i h dH/dq(q, p),     q <- q + b_i h dH/dp(q, p).

Where H = V(q) + K(p) every kick and drift is the exact flow of a part of H: symplectic, whatever the coefficients. A palindrome (a_i = a_{n-i}, b_i = b_{n+1-i}) is
undone by the same steps with -h, so that its order is even. As e^{a_0 h A} e^{b_1 h B} ... is a series in words of the letters A and B, the order is the number of letters
up to which every word has its coefficient in e^{h (A + B)}, 1 / (number of letters)!.

On a mode of frequency w a step is a 2 x 2 matrix of determinant 1 whose half trace is a polynomial in (w h)^2; it is stable up to the first w h at which that leaves
[-1, 1]: the stability limit, 2 for leapfrog. Sources: Yoshida (1990); Suzuki (1990); McLachlan (1995); Blanes & Moan (2002).
"""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from itertools import pairwise, product
from math import factorial
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import eigvalsh

from ensembletheory.errors import is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.processes.hamiltonian import Hamiltonian, QuadraticHamiltonian, halves
from ensembletheory.processes.process import Clock
from ensembletheory.samplers.scheme import Scheme

__all__ = ["KickDrift", "Splitting", "blanes_moan4", "mclachlan2", "suzuki4", "yoshida4", "yoshida6"]

_MATCHED = 1e-11  # coefficients are published with about 14 digits
_MOST_LETTERS = 7


class KickDrift(Scheme):
    """Kicks and drifts with given coefficients; see `Leapfrog` and `Splitting`."""

    takes: ClassVar[str] = "gradient"
    unstable: eqx.AbstractVar[bool]

    @property
    @abstractmethod
    def kicks(self) -> tuple[float, ...]:
        """The coefficients of the kicks, one more than of the drifts."""

    @property
    @abstractmethod
    def drifts(self) -> tuple[float, ...]:
        """The coefficients of the drifts."""

    @property
    def draws(self) -> int:
        """None."""
        return 0

    @property
    def order(self) -> int:
        """The order: the error of a step is O(h^(order + 1))."""
        return splitting_order(self.kicks, self.drifts)

    @property
    def stability_limit(self) -> float:
        """The w h up to which steps on a mode of frequency w are stable."""
        return splitting_limit(self.kicks, self.drifts)

    @property
    def evaluations(self) -> int:
        """How often a step looks at dH/dq, the last slope of one step being the first of the next where steps begin and end with a kick."""
        return sum(kick != 0 for kick in self.kicks) - (self.kicks[0] != 0)

    def check(self, process: Any, grid: Float[Array, " n"]) -> None:
        """Refuse a process that is not separable, and steps that are unstable unless they were asked for."""
        name = type(process).__name__
        if not isinstance(process, Hamiltonian):
            refuse("process", name, "a Hamiltonian", "Use QuadraticHamiltonian or SeparableHamiltonian, whose gradients make kicks and drifts.")
        if not process.separable:
            expected = f"a separable one, which {type(self).__name__} parts into kicks and drifts"
            refuse("process", f"a {name} whose H is no V(q) + K(p)", expected, "Use Heun with its velocity.")
        if isinstance(process, QuadraticHamiltonian) and not self.unstable and is_concrete(process.mass, process.stiffness, grid):
            fastest = float(np.sqrt(max(eigvalsh(np.asarray(process.stiffness), np.asarray(process.mass))[-1], 0.0)))
            longest = float(np.max(np.abs(np.diff(np.asarray(grid)))))
            if fastest * longest >= self.stability_limit:
                remedy = f"Steps below {self.stability_limit / fastest:.6g} are stable; {type(self).__name__} with unstable=True takes longer ones."
                got = f"a step of {longest:.6g}, where the fastest mode has frequency {fastest:.6g}: their product is {fastest * longest:.6g}"
                refuse("grid", got, f"a product below the stability limit {self.stability_limit:.6g}", remedy)

    def step(self, process: Clock, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s that follows x at time t, in either direction of time."""
        h, d = t - s, len(halves(x)[0])
        q, p = halves(x)

        def kicked(q, p, a):
            return p - a * h * field(t, jnp.concatenate([q, p]))[:d]

        p = kicked(q, p, self.kicks[0])
        for b, a in zip(self.drifts, self.kicks[1:], strict=True):
            q = q + b * h * field(t, jnp.concatenate([q, p]))[d:]
            p = kicked(q, p, a)
        return jnp.concatenate([q, p])


class Splitting(KickDrift):
    """Kicks and drifts, kick first and last.

    Args:
        kicks: a_0 ... a_n, which sum to 1; a_0 = a_n = 0 begins and ends with a drift.
        drifts: b_1 ... b_n, which sum to 1.
        unstable: whether steps beyond the stability limit are allowed.

    Raises:
        ValueError: if there is not one kick more than drifts, they are no palindromes, or a sum is not 1.
    """

    _kicks: tuple[float, ...] = eqx.field(static=True)
    _drifts: tuple[float, ...] = eqx.field(static=True)
    unstable: bool = eqx.field(static=True)

    def __init__(self, kicks: Sequence[float], drifts: Sequence[float], unstable: bool = False):
        self._kicks, self._drifts, self.unstable = tuple(map(float, kicks)), tuple(map(float, drifts)), unstable
        if len(self._kicks) != len(self._drifts) + 1 or len(self._drifts) == 0:
            refuse("kicks, drifts", f"{len(self._kicks)} and {len(self._drifts)}", "one kick more than drifts", "Give a kick of 0 at either end to begin with a drift.")
        for name, coefficients in (("kicks", self._kicks), ("drifts", self._drifts)):
            if not np.allclose(coefficients, coefficients[::-1], rtol=0, atol=_MATCHED):
                refuse(name, str(list(coefficients)), "a palindrome", "Only then are the steps undone by steps backward.")
            if not abs(sum(coefficients) - 1) <= _MATCHED:
                refuse(name, f"coefficients that sum to {sum(coefficients):.12g}", "coefficients that sum to 1", "Divide them by their sum.")

    @property
    def kicks(self) -> tuple[float, ...]:
        """a_0 ... a_n."""
        return self._kicks

    @property
    def drifts(self) -> tuple[float, ...]:
        """b_1 ... b_n."""
        return self._drifts


def composed(weights: Sequence[float], unstable: bool = False) -> Splitting:
    """Leapfrog steps of w_1 h, ..., w_n h one after the other, neighbouring kicks joined."""
    ends = [0.0, *weights, 0.0]
    return Splitting([(one + other) / 2 for one, other in pairwise(ends)], list(weights), unstable)


def yoshida4(unstable: bool = False) -> Splitting:
    """Three leapfrog steps of order 4 together: w = 1 / (2 - 2^(1/3)), 1 - 2 w, w (Yoshida 1990)."""
    w = 1 / (2 - 2 ** (1 / 3))
    return composed([w, 1 - 2 * w, w], unstable)


def suzuki4(unstable: bool = False) -> Splitting:
    """Five leapfrog steps of order 4 together: w = 1 / (4 - 4^(1/3)) and 1 - 4 w in the middle (Suzuki 1990)."""
    w = 1 / (4 - 4 ** (1 / 3))
    return composed([w, w, 1 - 4 * w, w, w], unstable)


def yoshida6(unstable: bool = False) -> Splitting:
    """Seven leapfrog steps of order 6 together (Yoshida 1990, solution A)."""
    outer = [0.784513610477560, 0.235573213359357, -1.17767998417887]
    return composed([*outer, 1 - 2 * sum(outer), *outer[::-1]], unstable)


def mclachlan2(unstable: bool = False) -> Splitting:
    """Two drifts of order 2 whose leading error is the least (McLachlan 1995)."""
    a = 0.1931833275037836
    return Splitting([a, 1 - 2 * a, a], [0.5, 0.5], unstable)


def blanes_moan4(unstable: bool = False) -> Splitting:
    """Six drifts of order 4, with a far smaller error than Yoshida's at the same cost (Blanes & Moan 2002, S6)."""
    a, b = [0.0792036964311957, 0.353172906049774, -0.0420650803577195], [0.209515106613362, -0.143851773179818]
    b = [*b, 0.5 - sum(b)]
    return Splitting([*a, 1 - 2 * sum(a), *a[::-1]], [*b, *b[::-1]], unstable)


@cache
def splitting_order(kicks: tuple[float, ...], drifts: tuple[float, ...]) -> int:
    """The number of letters up to which all words have their coefficients in e^{h (A + B)}."""
    words = {word: 0.0 for n in range(_MOST_LETTERS + 1) for word in map("".join, product("AB", repeat=n))} | {"": 1.0}
    letters = [(a, "A") for a in kicks], [(b, "B") for b in drifts]
    for coefficient, letter in (pair for both in zip(letters[0], [*letters[1], (0.0, "B")], strict=True) for pair in both):
        words = {word: _times_exponential(words, word, coefficient, letter) for word in words}
    return min((len(word) for word, found in words.items() if abs(found - 1 / factorial(len(word))) > _MATCHED), default=_MOST_LETTERS + 1) - 1


def _times_exponential(words: dict[str, float], word: str, coefficient: float, letter: str) -> float:
    """The coefficient of a word in (series) e^{coefficient letter}."""
    run = len(word) - len(word.rstrip(letter))
    return sum(coefficient**k / factorial(k) * words[word[: len(word) - k]] for k in range(run + 1))


@cache
def splitting_limit(kicks: tuple[float, ...], drifts: tuple[float, ...]) -> float:
    """The least w h beyond which the half trace of a step leaves [-1, 1]."""
    half_trace = _half_trace(kicks, drifts)
    roots = np.concatenate([(half_trace - 1).roots(), (half_trace + 1).roots()])
    edges = np.sort(roots.real[(np.abs(roots.imag) < 1e-6) & (roots.real > 1e-6)])
    beyond = [edge for edge in edges if abs(half_trace(edge * (1 + 1e-4))) > 1]
    return float(np.sqrt(beyond[0]))


def _half_trace(kicks: tuple[float, ...], drifts: tuple[float, ...]) -> np.polynomial.Polynomial:
    """Half the trace of the matrix of a step on a mode of frequency w, as a polynomial in (w h)^2."""
    one, zero, y = (np.polynomial.Polynomial(c) for c in ([1.0], [0.0], [0.0, 1.0]))
    (A, B), (C, D) = (one, zero), (zero, one)  # rows of q and of p / (m w), the latter divided by w h
    for a, b in zip(kicks, (*drifts, 0.0), strict=True):
        C, D = C - a * A, D - a * B
        A, B = A + b * y * C, B + b * y * D
    return (A + D) / 2
