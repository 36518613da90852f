r"""The best that one mask can do: the floor in GED^2 of every deterministic segmenter, given the law of the graders.

A prediction s without spread has GED^2(s, Q) = 2 E d(s, Y) - E d(Y, Y'). Pixels that belong to the same graders' masks are alike: let s hold n_a of the N_a pixels of each
such region a. With the Jaccard index, E d(s, Y) is concave in each n_a alone: for a region inside Y_i the union does not move and d is linear, for one outside d = 1 - I /
(U + n_a) is concave, and that two empty masks agree only lowers the end n = 0. So it is least at an end of every range: **the best mask is a union of regions**, and so
many graders' masks that make r regions leave 2^r masks to try, whatever the size of the image. Pixels outside all masks only lengthen unions and are left out.

Where there are more than 16 regions the floor is enclosed. Above by the best of the graders' masks, the thresholds of their mean and what single changes of regions make of
these. Below by splitting the graders into groups, each with its own best mask: max_s sum_i w_i J(s, Y_i) <= sum over groups of max_s sum_{i in group} w_i J(s, Y_i).
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.segmentation.diversity import diversity
from ensembletheory.segmentation.mask_law import MaskLaw

__all__ = ["BestMask", "best_mask", "deterministic_floor"]

_MOST_REGIONS = 16  # whose unions are all tried


class BestMask(eqx.Module):
    """A mask and its expected distance to the graders; where that is an enclosure, its upper end is the distance of this mask and its lower end a bound for all masks."""

    mask: Bool[Array, "H W"]
    distance: Estimate


def best_mask(graders: MaskLaw) -> BestMask:
    """The mask s of least E d(s, Y) under the Jaccard index: exactly, up to 16 regions, else the best one found, and an enclosure of the least distance."""
    law = graders.merged()
    regions, inside, number = _regions(np.asarray(law.masks))
    weights = np.asarray(law.weights)
    if len(number) <= _MOST_REGIONS:
        score, chosen = _best_union(inside, number, weights)
        distance = closed_form(max(1 - score, 0.0))
    else:
        score, chosen = _climbed(inside, number, weights)
        bound = min(_bound(inside, number, weights), 1.0)
        distance = Estimate(jnp.asarray(1 - (score + bound) / 2), jnp.asarray((bound - score) / 2), "enclosure")
    return BestMask(jnp.asarray(np.append(chosen, False)[regions].reshape(graders.shape)), distance)


def deterministic_floor(graders: MaskLaw) -> Estimate:
    """The least GED^2 of one mask to the law of the graders."""
    return best_mask(graders).distance * 2.0 - diversity(graders)


def _regions(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel its region, the last index for those outside all masks; which masks (m, r) each region lies in; its number of pixels."""
    columns, which, number = np.unique(masks.reshape(len(masks), -1), axis=1, return_inverse=True, return_counts=True)
    used = columns.any(axis=0)
    places = np.where(used, np.cumsum(used) - 1, np.sum(used))
    return places[which.ravel()], columns[:, used], number[used]


def _scores(unions: np.ndarray, inside: np.ndarray, number: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_i w_i J(s, Y_i) for unions s of regions (u, r)."""
    filled = unions * number[None, :]
    shared = filled @ inside.T
    whole = filled.sum(axis=1)[:, None] + (inside @ number)[None, :] - shared
    return np.where(whole > 0, shared / np.maximum(whole, 1), 1.0) @ weights


def _best_union(inside: np.ndarray, number: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest score of all unions, and the union."""
    unions = (np.arange(2 ** len(number))[:, None] >> np.arange(len(number))[None, :] & 1).astype(bool)
    scores = _scores(unions, inside, number, weights)
    return float(scores.max()), unions[scores.argmax()]


def _climbed(inside: np.ndarray, number: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest score that single changes of regions reach from the masks and the thresholds of their mean."""
    mean = weights @ inside
    found = np.concatenate([inside, mean[None, :] >= np.unique(mean)[:, None], np.zeros((1, len(number)), bool)])
    best = found[_scores(found, inside, number, weights).argmax()]
    while True:
        steps = np.concatenate([best[None, :], best[None, :] ^ np.eye(len(number), dtype=bool)])
        scores = _scores(steps, inside, number, weights)
        if scores.argmax() == 0:
            return float(scores[0]), best
        best = steps[scores.argmax()]


def _bound(inside: np.ndarray, number: np.ndarray, weights: np.ndarray) -> float:
    """The sum of the best scores of groups of graders, each with 16 regions at most."""
    return sum(_group_score(inside[group], number, weights[group]) for group in _groups(inside))


def _groups(inside: np.ndarray) -> list[list[int]]:
    """Neighbours in the list, as many together as make 16 regions at most."""
    groups: list[list[int]] = [[]]
    for i in range(len(inside)):
        if _merged(inside[[*groups[-1], i]])[0].shape[1] > _MOST_REGIONS and groups[-1]:
            groups.append([])
        groups[-1].append(i)
    return groups


def _group_score(inside: np.ndarray, number: np.ndarray, weights: np.ndarray) -> float:
    columns, which = _merged(inside)
    together = np.bincount(which, number, minlength=columns.shape[1] + 1)[: columns.shape[1]]
    return _best_union(columns, together, weights)[0]


def _merged(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The regions that a part of the masks makes, and for each of the old ones the new; the last index for those outside."""
    columns, which = np.unique(inside, axis=1, return_inverse=True)
    used = columns.any(axis=0)
    places = np.where(used, np.cumsum(used) - 1, np.sum(used))
    return columns[:, used], places[which.ravel()]
