"""A counter-example that fits on a line: small fractions first, then zeros and ones, while enough of the violation persists."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from ensembletheory.claims.domain import NoRational
from ensembletheory.claims.evaluation import Evaluator, stacked
from ensembletheory.claims.rationals import exact, floats

__all__ = ["shrink"]

BOUNDS = (*range(1, 13), *(2**k for k in range(4, 31)))
KEEP, ENOUGH = 1e-3, 0.1  # what must persist: this part of the violation, or this much of it, whichever is less
PASSES = 100

Fractions = dict[str, np.ndarray]


def shrink(evaluator: Evaluator, instance: Mapping[str, np.ndarray], margin: float) -> Fractions:
    """The simplest instance of fractions found near `instance`, whose margin (its uncertainty added) violates the claim."""
    most = min(max(KEEP * margin, -ENOUGH), -evaluator.claim.rounding)
    current = _first(evaluator, list(_snapped(evaluator, instance)), most) or {name: exact(value) for name, value in instance.items()}
    for _ in range(PASSES):
        simpler = _first(evaluator, list(_simpler(evaluator, current)), most)
        if simpler is None:
            break
        current = simpler
    return current


def _snapped(evaluator: Evaluator, instance: Mapping[str, np.ndarray]) -> Iterator[Fractions]:
    for bound in BOUNDS:
        try:
            yield evaluator.claim.domain.snap(instance, bound)
        except NoRational:
            continue


def _simpler(evaluator: Evaluator, current: Fractions) -> Iterator[Fractions]:
    """`current` with one part replaced by a simpler point of its set."""
    for name, part in evaluator.claim.domain.parts.items():
        for value in part.simpler(current[name]):
            if part.complaint(floats(value)) is None:
                yield {**current, name: value}


def _first(evaluator: Evaluator, candidates: list[Fractions], most: float) -> Fractions | None:
    """The first candidate whose margin is at most `most`."""
    if not candidates:
        return None
    values, errors = evaluator(stacked([{name: floats(value) for name, value in candidate.items()} for candidate in candidates]))
    return next(itertools.compress(candidates, values + errors <= most), None)
