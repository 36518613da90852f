"""Imputers that train a conditional field, by score or flow matching, in the conventions of scikit-learn (extras `data` and `neural`)."""

import math
from abc import abstractmethod
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from ensembletheory.errors import checked_count
from ensembletheory.estimators.density import filled
from ensembletheory.estimators.diffusion import PathImputer, diffusion_grid
from ensembletheory.estimators.in_units import InUnits, in_units
from ensembletheory.imputation import ConditionalSampler
from ensembletheory.neural import ConditionalLearner, Recipe, fit, joined_law
from ensembletheory.processes import LinearInterpolant, VariancePreserving
from ensembletheory.samplers import ExponentialIntegrator, Heun, uniform_grid

__all__ = ["FlowMatchingImputer", "ScoreMatchingImputer"]

_END = 1e-3  # of a diffusion's grid, and the start of its training


class _NetworkImputer(PathImputer):
    """An imputer whose model is a conditional network of rows in units of their columns."""

    def __init__(self, *, width=64, depth=3, batch=256, steps=3000, learning_rate=3e-3, grid_steps=50, draws=64, random_state=None):
        self.width = width
        self.depth = depth
        self.batch = batch
        self.steps = steps
        self.learning_rate = learning_rate
        self.grid_steps = grid_steps
        self.draws = draws
        self.random_state = random_state

    @abstractmethod
    def _learner(self) -> ConditionalLearner:
        """What is trained."""

    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> InUnits:
        steps = checked_count("steps", self.steps, 1)
        recipe = Recipe(steps=steps, learning_rate=self.learning_rate, chunk=math.gcd(steps, 1000))

        def trained(rows: np.ndarray) -> Any:
            table = filled(rows)
            return fit(key, self._learner(), joined_law(table, (np.arange(len(table)) < len(rows)) / len(rows)), recipe).average

        return in_units(X, trained)


class ScoreMatchingImputer(_NetworkImputer):
    """A diffusion whose conditional score is learned for all masks at once (as CSDI, Tashiro et al. 2021), sampled by the reverse SDE.

    Args:
        width: units in a hidden layer.
        depth: number of hidden layers.
        batch: rows a step.
        steps: of training.
        learning_rate: at the start of training.
        grid_steps: of sampling.
        draws: copies whose mean `transform` gives.
        random_state: of training and of imputations.
    """

    def _learner(self) -> ConditionalLearner:
        return ConditionalLearner(VariancePreserving(), "score", self.width, self.depth, self.batch, _END)

    def _sampler(self) -> ConditionalSampler:
        process = VariancePreserving()
        return ConditionalSampler(process, self.model_.model, ExponentialIntegrator(), diffusion_grid(process, self.grid_steps, _END))


class FlowMatchingImputer(_NetworkImputer):
    """A flow along straight lines whose conditional velocity is learned for all masks at once, sampled by Heun's method.

    Args:
        width, depth, ...: as of `ScoreMatchingImputer`.
    """

    def _learner(self) -> ConditionalLearner:
        return ConditionalLearner(LinearInterpolant(), "velocity", self.width, self.depth, self.batch, 0.0)

    def _sampler(self) -> ConditionalSampler:
        process = LinearInterpolant()
        return ConditionalSampler(process, self.model_.model, Heun(), uniform_grid(process, self.grid_steps))
