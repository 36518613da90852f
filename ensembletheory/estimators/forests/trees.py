r"""Regression trees as fields: one tree a noise level, its arrays evaluated in JAX.

A tree parts R^d into boxes by comparisons x_j <= c and has one vector a box, so that its field is constant in pieces: in x, and in time, where the tree of the nearest level
answers. Its derivatives are zero. Trees of scikit-learn compare single-precision numbers with double-precision c, and so do these: at 64 bits the vectors are theirs to the
last bit, at 32 bits c is rounded.

Nodes are numbered level by level, so that the right child follows the left one: a step down is `left[node] + (x[feature[node]] > threshold[node])`, and a leaf, whose
threshold is infinite, leads to itself. All points take the same number of steps, those of the deepest leaf.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ensembletheory.errors import refuse
from ensembletheory.fields import Field
from ensembletheory.processes import GaussianPath

__all__ = ["TreeField", "Nodes", "nodes_of", "stacked", "tree_field"]

_DEPTHS = 4  # depths are rounded up to multiples, numbers of nodes to powers of two, so that forests share compiled programs


class Nodes(NamedTuple):
    """A tree, numbered level by level; see the module. Leaves have the feature 0 and an infinite threshold, as has a split of missing from observed values."""

    left: Int[np.ndarray, " nodes"]
    feature: Int[np.ndarray, " nodes"]
    threshold: Float[np.ndarray, " nodes"]
    missing_left: np.ndarray  # whether a missing value goes to the left child
    value: Float[np.ndarray, "nodes d"]
    number: Int[np.ndarray, " nodes"]  # in the tree of scikit-learn
    depth: int

    @property
    def is_leaf(self) -> np.ndarray:
        """Which nodes are leaves."""
        return self.left == np.arange(len(self.left))

    @property
    def parent(self) -> Int[np.ndarray, " nodes"]:
        """The parents; the root is its own."""
        parent, inner = np.zeros(len(self.left), int), np.flatnonzero(~self.is_leaf)
        parent[self.left[inner]] = parent[self.left[inner] + 1] = inner
        return parent


class TreeField(Field):
    """A tree a level as a field: the vector of the box of x in the tree of the level nearest to t; NaN where x is.

    Args:
        process: the path whose field the trees estimate.
        readout: the kind of field: "noise", "score", "velocity" or "denoiser".
        times: (L,) of the levels.
        left, feature, threshold, value: of the nodes, level by level.
        depth: steps from the root to the deepest leaf.
    """

    process: GaussianPath
    times: Float[Array, " L"]
    left: Int[Array, "L nodes"]
    feature: Int[Array, "L nodes"]
    threshold: Float[Array, "L nodes"]
    value: Float[Array, "L nodes d"]
    readout: str = eqx.field(static=True)
    depth: int = eqx.field(static=True)

    @property
    def kind(self) -> str:
        """Which field the trees estimate."""
        return self.readout

    @property
    def origin(self) -> GaussianPath:
        """The path."""
        return self.process

    @property
    def piecewise(self) -> bool:
        """It is constant in boxes."""
        return True

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector at time t and one point x."""
        return self.batch(t, x[None, :])[0]

    def batch(self, t: Float[Array, ""], points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The vectors at time t and many points."""
        level = jnp.argmin(jnp.abs(self.times - t))
        left, feature, threshold = self.left[level], self.feature[level], self.threshold[level]
        compared, rows = points.astype(jnp.float32).astype(threshold.dtype), jnp.arange(len(points))

        def deeper(_, node: Int[Array, " n"]) -> Int[Array, " n"]:
            return left[node] + (compared[rows, feature[node]] > threshold[node]).astype(left.dtype)

        node = jax.lax.fori_loop(0, self.depth, deeper, jnp.zeros(len(points), left.dtype))
        return jnp.where(jnp.any(jnp.isnan(points), axis=1, keepdims=True), jnp.nan, self.value[level, node])


def nodes_of(tree: Any) -> Nodes:
    """The `tree_` of a fitted scikit-learn regressor, numbered level by level."""
    order, depth, rank = np.zeros(1, int), 0, [np.zeros(1, int)]
    while (order := order[tree.children_left[order] >= 0]).size:
        order = np.stack([tree.children_left[order], tree.children_right[order]], axis=1).ravel()
        rank, depth = [*rank, order], depth + 1
    number = np.concatenate(rank)
    place, leaf = np.argsort(number), tree.children_left[number] < 0
    return Nodes(
        left=np.where(leaf, np.arange(len(number)), place[tree.children_left[number]]),
        feature=np.where(leaf, 0, tree.feature[number]),
        threshold=np.where(leaf, np.inf, tree.threshold[number]),
        missing_left=tree.missing_go_to_left[number].astype(bool),
        value=tree.value[number, :, 0],
        number=number,
        depth=depth,
    )


def tree_field(process: GaussianPath, kind: str, times: Sequence[float] | Float[np.ndarray, " L"], levels: Sequence[Nodes], size: tuple[int, int] | None = None) -> TreeField:
    """The field of one tree a level.

    Args:
        process: the path.
        kind: of field.
        times: of the levels.
        levels: the trees.
        size: numbers of nodes and steps to fill up to, those of `levels` if left out.

    Raises:
        ValueError: if there is not one tree a time.
    """
    _require_levels(levels, times)
    nodes, depth = common_size(levels) if size is None else size

    def filled(name: str, dtype: Any, rest: float) -> Array:
        parts = [getattr(tree, name) for tree in levels]
        padding = [[(0, nodes - len(part))] + [(0, 0)] * (part.ndim - 1) for part in parts]
        return jnp.asarray(np.stack([np.pad(part, width, constant_values=rest) for part, width in zip(parts, padding, strict=True)]), dtype)

    real = jnp.result_type(float)
    arrays = filled("left", jnp.int32, 0), filled("feature", jnp.int32, 0), filled("threshold", real, np.inf), filled("value", real, 0.0)
    return TreeField(process, jnp.asarray(np.asarray(times), real), *arrays, readout=kind, depth=depth)


def _require_levels(levels: Sequence[Nodes], times: Sequence[float] | Float[np.ndarray, " L"]) -> None:
    if not len(levels) == len(times) > 0:
        refuse("levels", f"{len(levels)} trees for {len(times)} times", "one tree a time", "Fit one tree a noise level.")


def common_size(trees: Sequence[Nodes]) -> tuple[int, int]:
    """The number of nodes and of steps that holds all trees."""
    most, deepest = max(len(tree.left) for tree in trees), max(tree.depth for tree in trees)
    return 2 ** (most - 1).bit_length(), -(-deepest // _DEPTHS) * _DEPTHS


def stacked(process: GaussianPath, kind: str, times: Sequence[float] | Float[np.ndarray, " L"], members: Sequence[Sequence[Nodes]]) -> TreeField:
    """The fields of several members, each one tree a level, as one whose arrays have a leading axis.

    Raises:
        ValueError: if there is no member, or one has not one tree a time.
    """
    if not members:
        refuse("members", "an empty list", "at least one member", "A member is one tree a level.")
    for member in members:
        _require_levels(member, times)
    size = common_size([tree for member in members for tree in member])
    fields = [tree_field(process, kind, times, member, size) for member in members]
    return jax.tree.map(lambda *arrays: jnp.asarray(np.stack(arrays)), *fields)
