r"""How a group of matrices acts on parameters, and the metric of the quotient.

Parameters are a pytree of arrays. As in `jax.vmap`, `axes` says along which axis of each array g multiplies, None where it does nothing:

    loadings W (d, q), axis 1:  W -> W g^T              mixture components (K, ...), axis 0:  relabelled             (g h) . a = g . (h . a).

`powers` says by which power: 1 is g itself; p multiplies by the entrywise |g_ij|^p, a representation of monomial matrices. Latent variances of W diag(v) W^T have p = -2.

A compact group acts by isometries, so its orbits are at constant distance and

    d_G(a, b) = min_g |a - g . b|

is a metric on the set of orbits (symmetric and with the triangle inequality because g can be moved from one side to the other). The minimiser maximises the linear
function sum <a, g . b>, which `Group.nearest` solves exactly. For loadings under O(q) this is the Procrustes distance,

    d(W, V)^2 = |W|^2 + |V|^2 - 2 |W^T V|_*  =  the squared Bures-Wasserstein distance of W W^T and V V^T

(Bhatia, Jain & Lim 2019). A group with scalings is not compact, and min_g |a - g . b| would be 0 or not symmetric: parameters are first moved along their orbit until the
columns of the first array that g multiplies have length one, and the quotient by the compact part that is left is taken there.
"""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ensembletheory.errors import refuse
from ensembletheory.identifiability.groups import Group

__all__ = ["Action", "Symmetry", "norm", "subtract"]

Parameters = Any  # a pytree of arrays


class Symmetry(abc.ABC):
    """A group with its action on parameters and the metric of the quotient; `Action` is the one by multiplication along one axis of each array."""

    group: Group

    @abc.abstractmethod
    def act(self, g: np.ndarray, parameters: Parameters) -> Parameters:
        """The parameters g . a."""

    @abc.abstractmethod
    def section(self, parameters: Parameters) -> Parameters:
        """The parameters themselves, or a point of their orbit under what is not compact, the same for the whole of that orbit."""

    @abc.abstractmethod
    def _aligned(self, a: Parameters, b: Parameters) -> np.ndarray:
        """The g of the compact part for which g . b is nearest to a, both in the section."""

    def align(self, a: Parameters, b: Parameters) -> np.ndarray:
        """The g of the compact part for which g . b is nearest to a, after both were moved to the section.

        Raises:
            ValueError: if a and b have different shapes.
        """
        return self._aligned(self.section(a), self.section(b))

    def aligned(self, a: Parameters, b: Parameters) -> Parameters:
        """The point of the orbit of b (in the section) that is nearest to the section of a."""
        b = self.section(b)
        return self.act(self._aligned(self.section(a), b), b)

    def distance(self, a: Parameters, b: Parameters) -> float:
        """The quotient metric d_G(a, b)."""
        return norm(subtract(self.section(a), self.aligned(a, b)))

    def orbit(self, parameters: Parameters) -> Iterator[Parameters]:
        """The images of the parameters under all elements.

        Raises:
            ValueError: if the group is infinite.
        """
        yield from (self.act(g, parameters) for g in self.group.elements())


@dataclass(frozen=True)
class Action(Symmetry):
    """The action of `group` on parameters, along `axes` and by `powers` (pytree prefixes of the parameters).

    Raises:
        ValueError: for a power other than 1 of a group whose matrices are not monomial.
    """

    group: Group
    axes: Any = -1
    powers: Any = 1

    def __post_init__(self):
        if not self.group.monomial and any(power != 1 for power in jax.tree.leaves(self.powers)):
            refuse("powers", str(self.powers), f"1, for {self.group}", "Entrywise powers multiply only where each row has one entry.")

    def act(self, g: np.ndarray, parameters: Parameters) -> Parameters:
        """The parameters g . a; NumPy arrays stay NumPy, JAX arrays stay JAX."""
        leaves, structure, axes, powers = self._flat(parameters)
        moved = [leaf if axis is None else _multiplied(_power(g, power), leaf, axis) for leaf, axis, power in zip(leaves, axes, powers, strict=True)]
        return jax.tree.unflatten(structure, moved)

    def section(self, parameters: Parameters) -> Parameters:
        """The parameters themselves, or the point of their orbit at which columns have length one if the group has scalings.

        Raises:
            ValueError: if a column is zero, so that no scaling gives it length one.
        """
        if self.group.compact_part is self.group:
            return parameters
        leaves, _, axes, powers = self._flat(parameters)
        scaled = next(np.moveaxis(leaf, axis, 0) for leaf, axis, power in zip(leaves, axes, powers, strict=True) if axis is not None and power == 1)
        lengths = np.linalg.norm(scaled.reshape(len(scaled), -1), axis=1)
        if np.any(lengths == 0):
            refuse("parameters", "a column of zeros", "columns that a scaling can give length one", f"{self.group} has no quotient metric there; drop the column.")
        return self.act(np.diag(1 / lengths), parameters)

    def _aligned(self, a: Parameters, b: Parameters) -> np.ndarray:
        left, structure, axes, powers = self._flat(a)
        right = [np.asarray(leaf) for leaf in jax.tree.leaves(b)]
        if [leaf.shape for leaf in left] != [leaf.shape for leaf in right] or jax.tree.structure(b) != structure:
            refuse("b", f"arrays of shapes {[leaf.shape for leaf in right]}", f"{[leaf.shape for leaf in left]}, those of `a`", "Compare parameters of one model.")
        odd, even = (np.zeros((self.group.size, self.group.size)) for _ in range(2))
        for x, y, axis, power in zip(left, right, axes, powers, strict=True):
            if axis is not None:
                overlap = _rows(x, axis) @ _rows(y, axis).T
                odd, even = (odd + overlap, even) if power == 1 else (odd, even + overlap)
        return self.group.nearest(odd, even)

    def _flat(self, parameters: Parameters) -> tuple[list[Any], Any, list[int | None], list[int]]:
        leaves, structure = jax.tree.flatten(parameters)
        arrays = [leaf if isinstance(leaf, jax.Array) else np.asarray(leaf, dtype=float) for leaf in leaves]
        axes, powers = (_spread(prefix, parameters) for prefix in (self.axes, self.powers))
        for array, axis in zip(arrays, axes, strict=True):
            if axis is not None and (not -array.ndim <= axis < array.ndim or array.shape[axis] != self.group.size):
                got = f"an array of shape {array.shape} with axis {axis}"
                refuse("parameters", got, f"length {self.group.size} along that axis", f"{self.group} multiplies it; `axes` chooses the axis of each array.")
        return arrays, structure, axes, powers


def norm(parameters: Parameters) -> float:
    """The Euclidean norm of all entries."""
    return float(np.sqrt(sum(np.sum(np.asarray(leaf, dtype=float) ** 2) for leaf in jax.tree.leaves(parameters))))


def subtract(a: Parameters, b: Parameters) -> Parameters:
    """Entry by entry."""
    return jax.tree.map(lambda x, y: np.asarray(x, dtype=float) - np.asarray(y, dtype=float), a, b)


def _spread(prefix: Any, parameters: Parameters) -> list[Any]:
    """One entry of `prefix` for each array of the parameters."""
    is_entry = lambda x: x is None or isinstance(x, int)  # noqa: E731
    counted = jax.tree.map(lambda entry, part: [entry] * len(jax.tree.leaves(part)), prefix, parameters, is_leaf=is_entry)
    return jax.tree.leaves(counted, is_leaf=is_entry)


def _power(g: np.ndarray, power: int) -> np.ndarray:
    """The matrix of |g_ij|^power where g_ij is not zero; g itself for power 1."""
    return g if power == 1 else np.power(abs(g), float(power), out=np.zeros_like(g), where=g != 0)


def _multiplied(g: np.ndarray, leaf: Any, axis: int) -> Any:
    xp = leaf.__array_namespace__()
    return xp.moveaxis(xp.tensordot(xp.asarray(g, dtype=leaf.dtype), leaf, axes=((1,), (axis,))), 0, axis)


def _rows(leaf: Any, axis: int) -> np.ndarray:
    array = np.moveaxis(np.asarray(leaf), axis, 0)
    return array.reshape(len(array), -1)
