"""Margins of claims, compiled once a claim."""

from functools import cache

import numpy as np
import pytest

from ensembletheory.claims import get
from ensembletheory.claims.evaluation import Evaluator, stacked

TOGETHER = 8  # instances in a call: those of a test are few


@cache
def evaluator(claim):
    evaluates = Evaluator(claim)
    evaluates.block = TOGETHER
    return evaluates


def margin(claim, instance):
    """Value and uncertainty at one instance."""
    values, errors = evaluator(claim)(stacked([{name: np.asarray(value, dtype=float) for name, value in instance.items()}]))
    return float(values[0]), float(errors[0])


def all_mutants(ids):
    """The pairs (id, name) of every mutant of the claims."""
    return {(id, name) for id in ids for name in get(id).mutants}


def assert_violated_as_said(id, name, instance, route, rel):
    """The mutant's margin is below 0 by more than its error, and what the second route says."""
    value, error = margin(get(id).mutated(name), instance)
    assert value + error < -1e-3, (value, error)
    assert value == pytest.approx(route(instance), rel=rel)
