r"""By how much the axioms of a group, of its action and of the quotient metric fail on given elements and parameters: rounding, if they hold.

Group: closure, associativity, identity, inverse. Action: identity, compatibility (g h) . a = g . (h . a). Metric on orbits: non-negative, symmetric, zero exactly on an
orbit, triangle inequality, and the same for every choice of representatives.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ensembletheory.identifiability.actions import Symmetry, norm, subtract
from ensembletheory.identifiability.groups import Group

__all__ = ["action_defects", "group_defects", "metric_defects"]


def group_defects(group: Group, elements: Sequence[np.ndarray]) -> dict[str, float]:
    """The largest defect of each axiom of a group over all pairs and triples of `elements`, relative to the size of the matrices."""
    e, pairs = group.identity, list(itertools.product(elements, repeat=2))
    triples = itertools.product(elements, repeat=3)
    products = [*elements, e, *(group.compose(g, h) for g, h in pairs), *(group.inverse(g) for g in elements)]
    return {
        "closure": float(not all(group.contains(g) for g in products)),
        "associativity": max(_off(group.compose(group.compose(f, g), h), group.compose(f, group.compose(g, h))) for f, g, h in triples),
        "identity": max(max(_off(group.compose(e, g), g), _off(group.compose(g, e), g)) for g in elements),
        "inverse": max(max(_off(group.compose(group.inverse(g), g), e), _off(group.compose(g, group.inverse(g)), e)) for g in elements),
    }


def action_defects(action: Symmetry, elements: Sequence[np.ndarray], parameters: Sequence[Any]) -> dict[str, float]:
    """The largest defect of each axiom of an action, relative to the size of the parameters."""
    group, act = action.group, action.act
    pairs = list(itertools.product(elements, repeat=2))
    return {
        "identity": max(_apart(act(group.identity, a), a) for a in parameters),
        "compatibility": max(_apart(act(group.compose(g, h), a), act(g, act(h, a))) for g, h in pairs for a in parameters),
    }


def metric_defects(action: Symmetry, elements: Sequence[np.ndarray], parameters: Sequence[Any]) -> dict[str, float]:
    """The largest defect of each axiom of the quotient metric, relative to the largest distance or size; `separation` is the distance within an orbit."""
    d, act = action.distance, action.act
    table = np.array([[d(a, b) for b in parameters] for a in parameters])
    moved = np.array([[d(act(g, a), act(h, b)) for b, h in zip(parameters, elements[::-1], strict=False)] for a, g in zip(parameters, elements, strict=False)])
    detours = table[:, :, None] + table[None, :, :]
    scale = max(float(np.max(table)), *(norm(action.section(a)) for a in parameters), 1e-300)
    return {
        "non-negative": max(0.0, -float(np.min(table)) / scale),
        "symmetry": float(np.max(abs(table - table.T))) / scale,
        "separation": max(d(a, act(g, a)) for a in parameters for g in elements) / scale,
        "triangle": max(0.0, float(np.max(table[:, None, :] - detours)) / scale),
        "invariance": float(np.max(abs(moved - table[: len(moved), : moved.shape[1]]))) / scale,
    }


def _off(g: np.ndarray, h: np.ndarray) -> float:
    return float(np.max(abs(g - h)) / max(1.0, np.max(abs(h))))


def _apart(a: Any, b: Any) -> float:
    return norm(subtract(a, b)) / max(norm(b), 1e-300)
