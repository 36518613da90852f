r"""Groups of matrices that act on parameters, each a subgroup of GL(q): products, inverses, Haar draws, and the element nearest to a matrix.

| group                | elements                                                     | nearest: the g of largest <C, g>                          |
|----------------------|--------------------------------------------------------------|-----------------------------------------------------------|
| `Permutations`       | permutation matrices, q! of them                             | linear assignment                                         |
| `Signs`              | diagonal matrices of +-1, 2^q                                | signs of the diagonal                                     |
| `SignedPermutations` | their products, 2^q q! (the hyperoctahedral group)           | linear assignment on absolute values, then signs          |
| `Orthogonal`         | Q Q^T = I                                                    | the polar factor of C (orthogonal Procrustes)             |
| `Unitary`            | [[X, -Y], [Y, X]], X + i Y unitary (orthogonal symplectic)   | the polar factor of the part of C of this form            |
| `Scalings`           | invertible diagonal matrices                                 | not compact: nearest is that of the signs                 |
| `Monomial`           | permutations times scalings                                  | not compact: nearest is that of the signed permutations   |
| `PositiveMonomial`   | permutations times positive scalings                         | not compact: nearest is that of the permutations          |
| `Product`            | block-diagonal matrices, one block of each of several groups | block by block                                            |

A compact group acts by isometries of the Frobenius norm, so <C, g> is all that a nearest element depends on. A group that is not compact has a `compact_part`, by which
a quotient is still to be taken once columns are scaled to length one (see `actions`).
"""

import abc
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import factorial, prod

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from scipy.linalg import block_diag
from scipy.optimize import linear_sum_assignment

from ensembletheory.errors import refuse

__all__ = ["Group", "Monomial", "Orthogonal", "Permutations", "PositiveMonomial", "Product", "Scalings", "SignedPermutations", "Signs", "Unitary"]

_CLOSE = 1e-9  # how far from its group a matrix may be by rounding


@dataclass(frozen=True)
class Group(abc.ABC):
    """A group of q x q matrices, q = `size`; its elements are NumPy arrays.

    Raises:
        ValueError: unless the size is at least 1.
    """

    size: int

    def __post_init__(self):
        if self.size < 1:
            refuse("size", str(self.size), "at least 1", "The size of a group of matrices is their number of rows.")

    @property
    def order(self) -> int | float:
        """The number of elements."""
        return np.inf

    @property
    def compact_part(self) -> "Group":
        """The group itself if it is compact, else the compact group that remains when columns have length one."""
        return self

    @property
    def monomial(self) -> bool:
        """Whether each element has one entry in each row and column."""
        return True

    @property
    def identity(self) -> np.ndarray:
        """The identity matrix."""
        return np.eye(self.size)

    def compose(self, g: np.ndarray, h: np.ndarray) -> np.ndarray:
        """The product g h, which acts as h followed by g."""
        return g @ h

    def inverse(self, g: np.ndarray) -> np.ndarray:
        """The inverse, which is the transpose in a compact group."""
        return g.T

    @abc.abstractmethod
    def contains(self, g: np.ndarray) -> bool:
        """Whether a matrix belongs to the group, up to rounding."""

    @abc.abstractmethod
    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """A random element, from the Haar measure if the group is compact."""

    @abc.abstractmethod
    def nearest(self, odd: np.ndarray, even: np.ndarray | None = None) -> np.ndarray:
        """An element g of the compact part with the largest sum_ij odd_ij g_ij + even_ij |g_ij|."""

    def elements(self) -> Iterator[np.ndarray]:
        """All elements of a finite group, the identity first.

        Raises:
            ValueError: if the group is infinite.
        """
        refuse("group", f"{type(self).__name__}, which is infinite", "a finite group", "Draw elements with `random` instead.")

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.size})"


class Permutations(Group):
    """Permutation matrices: relabellings of mixture components or hidden units."""

    @property
    def order(self) -> int | float:
        """The factorial of q."""
        return factorial(self.size)

    def contains(self, g: np.ndarray) -> bool:
        """Whether every row and column has a single 1 and zeros."""
        return _is_monomial(g, self.size) and _close(g[g != 0], 1.0)

    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """A uniform permutation."""
        return np.eye(self.size)[np.argsort(_normals(key, self.size))]

    def nearest(self, odd: np.ndarray, even: np.ndarray | None = None) -> np.ndarray:
        """The permutation of largest weight, by linear assignment."""
        return _assigned(_sum(odd, even))

    def elements(self) -> Iterator[np.ndarray]:
        """All q! permutations."""
        yield from (np.eye(self.size)[list(order)] for order in itertools.permutations(range(self.size)))


class Signs(Group):
    """Diagonal matrices of signs."""

    @property
    def order(self) -> int | float:
        """Two to the q."""
        return 2**self.size

    def contains(self, g: np.ndarray) -> bool:
        """Whether the matrix is diagonal with entries +-1."""
        return _is_diagonal(g, self.size) and _close(abs(np.diag(g)), 1.0)

    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """Independent fair signs."""
        return np.diag(_sign(_normals(key, self.size)))

    def nearest(self, odd: np.ndarray, even: np.ndarray | None = None) -> np.ndarray:
        """The signs of the diagonal."""
        return np.diag(_sign(np.diag(odd)))

    def elements(self) -> Iterator[np.ndarray]:
        """All 2^q patterns of signs."""
        yield from (np.diag(signs) for signs in itertools.product([1.0, -1.0], repeat=self.size))


class SignedPermutations(Group):
    """The hyperoctahedral group B_q: permutations with signs, the symmetries of the cube."""

    @property
    def order(self) -> int | float:
        """Two to the q, times the factorial of q."""
        return 2**self.size * factorial(self.size)

    def contains(self, g: np.ndarray) -> bool:
        """Whether every row and column has a single entry, +-1."""
        return _is_monomial(g, self.size) and _close(abs(g[g != 0]), 1.0)

    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """A uniform permutation with independent fair signs."""
        first, second = jax.random.split(key)
        return Permutations(self.size).random(first) @ Signs(self.size).random(second)

    def nearest(self, odd: np.ndarray, even: np.ndarray | None = None) -> np.ndarray:
        """Linear assignment on |odd| + even, with the signs of `odd`."""
        return _assigned(_sum(abs(odd), even)) * _sign(odd)

    def elements(self) -> Iterator[np.ndarray]:
        """All 2^q q! signed permutations."""
        yield from (g @ s for g in Permutations(self.size).elements() for s in Signs(self.size).elements())


class Orthogonal(Group):
    """The orthogonal group O(q), both sheets."""

    @property
    def order(self) -> int | float:
        """2 for q = 1, where O(1) is the group of signs, else infinite."""
        return 2 if self.size == 1 else np.inf

    @property
    def monomial(self) -> bool:
        """Only for q = 1."""
        return self.size == 1

    def contains(self, g: np.ndarray) -> bool:
        """Whether g g^T = I."""
        return g.shape == (self.size, self.size) and _close(g @ g.T, np.eye(self.size))

    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """Haar measure: the Q of a Gaussian matrix's QR factorisation with a positive diagonal (Mezzadri 2007)."""
        Q, R = np.linalg.qr(_normals(key, self.size, self.size))
        return Q * _sign(np.diag(R))

    def nearest(self, odd: np.ndarray, even: np.ndarray | None = None) -> np.ndarray:
        """The polar factor U V^T of odd = U diag(s) V^T."""
        U, _, V = np.linalg.svd(odd)
        return U @ V

    def elements(self) -> Iterator[np.ndarray]:
        """The two signs for q = 1; otherwise refused as infinite."""
        yield from (Signs(1) if self.size == 1 else super()).elements()


class Unitary(Group):
    """The unitary group U(d) on phase space R^{2d}, as matrices [[X, -Y], [Y, X]]: all orthogonal matrices that are symplectic, the gauges of flows of N(0, I).

    Raises:
        ValueError: unless the size is even.
    """

    def __post_init__(self):
        super().__post_init__()
        if self.size % 2:
            refuse("size", str(self.size), "an even number", "Phase space has as many momenta as positions.")

    @property
    def monomial(self) -> bool:
        """They are not."""
        return False

    def contains(self, g: np.ndarray) -> bool:
        """Whether g g^T = I and g is of the form [[X, -Y], [Y, X]]."""
        return g.shape == (self.size, self.size) and _close(g @ g.T, np.eye(self.size)) and _close(_real(_complex(g)), g)

    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """Haar measure: the Q of a complex Gaussian matrix's QR factorisation with a positive diagonal (Mezzadri 2007)."""
        normals = _normals(key, 2, self.size // 2, self.size // 2)
        Q, R = np.linalg.qr(normals[0] + 1j * normals[1])
        return _real(Q * (np.diag(R) / abs(np.diag(R))))

    def nearest(self, odd: np.ndarray, even: np.ndarray | None = None) -> np.ndarray:
        """The polar factor of the complex matrix whose real part and imaginary part `odd` weighs."""
        U, _, V = np.linalg.svd(_complex(odd))
        return _real(U @ V)


class Scalings(Group):
    """Invertible diagonal matrices."""

    @property
    def compact_part(self) -> Group:
        """The signs."""
        return Signs(self.size)

    def inverse(self, g: np.ndarray) -> np.ndarray:
        """One over each entry."""
        return np.diag(1 / np.diag(g))

    def contains(self, g: np.ndarray) -> bool:
        """Whether the matrix is diagonal without a zero."""
        return _is_diagonal(g, self.size) and bool(np.all(np.diag(g) != 0))

    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """Fair signs times log-normal factors; there is no invariant probability."""
        first, second = jax.random.split(key)
        return Signs(self.size).random(first) * np.exp(_normals(second, self.size))

    def nearest(self, odd: np.ndarray, even: np.ndarray | None = None) -> np.ndarray:
        """As for the signs."""
        return self.compact_part.nearest(odd, even)


class Monomial(Group):
    """Permutations times scalings: what independent components leave undetermined."""

    @property
    def compact_part(self) -> Group:
        """The signed permutations."""
        return SignedPermutations(self.size)

    def inverse(self, g: np.ndarray) -> np.ndarray:
        """The transpose of one over each entry that is not zero."""
        return np.divide(1.0, g, out=np.zeros_like(g), where=g != 0).T

    def contains(self, g: np.ndarray) -> bool:
        """Whether every row and column has a single entry that is not zero."""
        return _is_monomial(g, self.size)

    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """A uniform permutation times a random scaling; there is no invariant probability."""
        first, second = jax.random.split(key)
        return Permutations(self.size).random(first) @ Scalings(self.size).random(second)

    def nearest(self, odd: np.ndarray, even: np.ndarray | None = None) -> np.ndarray:
        """As for the signed permutations."""
        return self.compact_part.nearest(odd, even)


class PositiveMonomial(Monomial):
    """Permutations times positive scalings: what hidden units of a positively homogeneous activation leave undetermined."""

    @property
    def compact_part(self) -> Group:
        """The permutations."""
        return Permutations(self.size)

    def contains(self, g: np.ndarray) -> bool:
        """Whether every row and column has a single entry that is not zero, a positive one."""
        return super().contains(g) and bool(np.all(g >= 0))

    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """A uniform permutation times log-normal factors; there is no invariant probability."""
        return abs(super().random(key))


@dataclass(frozen=True)
class Product(Group):
    """The direct product of groups, as block-diagonal matrices.

    Raises:
        ValueError: if there is no part.
    """

    size: int = field(init=False)
    parts: tuple[Group, ...]

    def __post_init__(self):
        object.__setattr__(self, "size", sum(part.size for part in self.parts))
        super().__post_init__()

    @property
    def order(self) -> int | float:
        """The product of the orders."""
        return prod(part.order for part in self.parts)

    @property
    def compact_part(self) -> Group:
        """The product of the compact parts."""
        compact = tuple(part.compact_part for part in self.parts)
        return self if compact == self.parts else Product(compact)

    @property
    def monomial(self) -> bool:
        """Whether all parts are."""
        return all(part.monomial for part in self.parts)

    def split(self, g: np.ndarray) -> list[np.ndarray]:
        """The blocks of a matrix of this size."""
        ends = np.cumsum([part.size for part in self.parts])
        return [g[end - part.size : end, end - part.size : end] for part, end in zip(self.parts, ends, strict=True)]

    def join(self, blocks: Sequence[np.ndarray]) -> np.ndarray:
        """The matrix of these blocks."""
        return np.asarray(block_diag(*blocks))

    def inverse(self, g: np.ndarray) -> np.ndarray:
        """Block by block."""
        return self.join([part.inverse(block) for part, block in zip(self.parts, self.split(g), strict=True)])

    def contains(self, g: np.ndarray) -> bool:
        """Whether each block belongs to its part and there is nothing beside the blocks."""
        if g.shape != (self.size, self.size):
            return False
        blocks = self.split(g)
        return all(part.contains(block) for part, block in zip(self.parts, blocks, strict=True)) and _close(g, self.join(blocks))

    def random(self, key: PRNGKeyArray) -> np.ndarray:
        """Independent elements of the parts."""
        return self.join([part.random(jax.random.fold_in(key, i)) for i, part in enumerate(self.parts)])

    def nearest(self, odd: np.ndarray, even: np.ndarray | None = None) -> np.ndarray:
        """The nearest elements of the parts to the blocks."""
        evens = [None] * len(self.parts) if even is None else self.split(even)
        return self.join([part.nearest(block, other) for part, block, other in zip(self.parts, self.split(odd), evens, strict=True)])

    def elements(self) -> Iterator[np.ndarray]:
        """All combinations of elements of the parts."""
        yield from (self.join(blocks) for blocks in itertools.product(*(part.elements() for part in self.parts)))

    def __str__(self) -> str:
        return " x ".join(map(str, self.parts))


def _complex(g: np.ndarray) -> np.ndarray:
    """X + i Y of the part of g that is of the form [[X, -Y], [Y, X]]."""
    d = len(g) // 2
    return (g[:d, :d] + g[d:, d:]) / 2 + 1j * (g[d:, :d] - g[:d, d:]) / 2


def _real(u: np.ndarray) -> np.ndarray:
    X, Y = np.real(u), np.imag(u)
    return np.block([[X, -Y], [Y, X]])


def _normals(key: PRNGKeyArray, *shape: int) -> np.ndarray:
    return np.asarray(jax.random.normal(key, shape), dtype=float)


def _sign(values: np.ndarray) -> np.ndarray:
    """Signs, +1 for zero."""
    return np.where(values < 0, -1.0, 1.0)


def _sum(first: np.ndarray, second: np.ndarray | None) -> np.ndarray:
    return first if second is None else first + second


def _assigned(weights: np.ndarray) -> np.ndarray:
    """The permutation matrix of largest total weight."""
    rows, columns = linear_sum_assignment(weights, maximize=True)
    chosen = np.zeros_like(weights)
    chosen[rows, columns] = 1.0
    return chosen


def _close(a: np.ndarray, b: np.ndarray | float) -> bool:
    return bool(np.all(abs(a - b) <= _CLOSE))


def _is_diagonal(g: np.ndarray, size: int) -> bool:
    return g.shape == (size, size) and not np.any(g[~np.eye(size, dtype=bool)])


def _is_monomial(g: np.ndarray, size: int) -> bool:
    return g.shape == (size, size) and bool(np.all(np.sum(g != 0, axis=0) == 1) and np.all(np.sum(g != 0, axis=1) == 1))
