"""Margins of claims, compiled once a claim."""

from functools import cache

import numpy as np

from ensembletheory.claims.evaluation import Evaluator, stacked


@cache
def evaluator(claim):
    return Evaluator(claim)


def margin(claim, instance):
    """Value and uncertainty at one instance."""
    values, errors = evaluator(claim)(stacked([{name: np.asarray(value, dtype=float) for name, value in instance.items()}]))
    return float(values[0]), float(errors[0])
