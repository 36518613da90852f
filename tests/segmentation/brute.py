"""Masks as sets of pixels and laws as lists of (mask, mass), compared by loops: what the tests of GED and its kin are held against."""

from itertools import product
from types import SimpleNamespace

import numpy as np


def subsets(pixels):
    """All masks of so many pixels (2^n, 1, n), and the same as sets."""
    masks = np.array(list(product((False, True), repeat=pixels)))[:, None, :]
    return masks, [as_set(mask) for mask in masks]


def as_set(mask):
    return frozenset(np.flatnonzero(np.asarray(mask)).tolist())


def jaccard(a, b, empty=1.0):
    return len(a & b) / len(a | b) if a | b else empty


def dice(a, b):
    return 2 * len(a & b) / (len(a) + len(b)) if a | b else 1.0


def support(law):
    return [(as_set(mask), float(mass)) for mask, mass in zip(np.asarray(law.masks), np.asarray(law.weights), strict=True)]


def pooled(laws, weights):
    """The linear pool of laws."""
    return SimpleNamespace(
        masks=np.concatenate([law.masks for law in laws]), weights=np.concatenate([w * np.asarray(law.weights) for w, law in zip(weights, laws, strict=True)])
    )


def mean_distance(p, q, overlap=jaccard):
    """E d(S, Y)."""
    return sum(a * b * (1 - overlap(s, y)) for s, a in support(p) for y, b in support(q))


def ged_squared(p, q, overlap=jaccard):
    return 2 * mean_distance(p, q, overlap) - mean_distance(p, p, overlap) - mean_distance(q, q, overlap)


def v_statistic(samples, graders, overlap=jaccard):
    """Of two lists of sets."""

    def mean(first, second):
        return np.mean([1 - overlap(a, b) for a in first for b in second])

    return 2 * mean(samples, graders) - mean(samples, samples) - mean(graders, graders)
