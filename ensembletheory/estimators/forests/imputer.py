"""Imputation and generation by diffusion and flow models that are forests (Jolicoeur-Martineau et al. 2023), with the face of scikit-learn.

Columns are standardised by what is observed of them. The source runs through equally spaced times, with boosted trees that predict Z, one model a coordinate; here levels are
equally spaced in the angle arctan(s / a), what is predicted is the velocity, trees are grown independently, and each predicts all coordinates. All columns are taken as
numbers: whole numbers and labels come back as numbers.

On a path that preserves variance the velocity is a Z - s X_0 times the rate of the angle, and what is denoised is a x - s E[a Z - s X_0 | x]: where leaves are too coarse to
tell anything, as those of few trees are in many dimensions, that is the denoiser of N(0, I). Of a noise prediction it is (x - s E[Z | x]) / a, which is far off where a is
small.
"""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from ensembletheory.errors import checked_count
from ensembletheory.estimators.density import as_key
from ensembletheory.estimators.diffusion import PathImputer
from ensembletheory.estimators.forests.rules import ForestSampler
from ensembletheory.estimators.forests.training import fit_forest
from ensembletheory.estimators.imputers import _constants
from ensembletheory.estimators.in_units import InUnits, in_units
from ensembletheory.fields import MeanField
from ensembletheory.laws import standard_normal
from ensembletheory.processes import LinearInterpolant, VariancePreserving
from ensembletheory.samplers import Euler, Sampler, angle_grid, uniform_grid

__all__ = ["ForestDiffusionImputer", "ForestFlow"]

PROCESS = VariancePreserving(0.1, 8.0)  # the source's
PATH = LinearInterpolant()
_angles = eqx.filter_jit(angle_grid)


class ForestDiffusionImputer(PathImputer):
    """Replacement sampling of a diffusion model whose velocity is a forest, the members combined by a rule.

    `transform` gives the mean of several draws, which tends to the conditional mean of what the model samples.

    Args:
        rule: how members are combined: a name of `ensembletheory.estimators.forests.RULES`, or a function of the stack of their scores.
        trees: number of members.
        levels: number of noise levels, and of steps.
        duplicates: how often each row is taken at a level.
        resamplings: how often a step is done (RePaint); 1 for replacement.
        draws: how many draws `transform` averages.
        tree: a scikit-learn tree regressor that says how trees are grown; default leaves of at least five draws.
        exact_leaves: whether leaves have the values of infinitely many duplicates.
        random_state: chooses noise, trees and draws.
    """

    def __init__(self, rule="mean", *, trees=10, levels=10, duplicates=20, resamplings=5, draws=10, tree=None, exact_leaves=False, random_state=None):
        self.rule = rule
        self.trees = trees
        self.levels = levels
        self.duplicates = duplicates
        self.resamplings = resamplings
        self.draws = draws
        self.tree = tree
        self.exact_leaves = exact_leaves
        self.random_state = random_state

    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> InUnits:
        settings = {"trees": self.trees, "duplicates": self.duplicates, "tree": self.tree, "exact_leaves": self.exact_leaves}
        return in_units(X, lambda rows: fit_forest(key, rows, PROCESS, self._grid()[:-1], "velocity", **settings))

    def _sampler(self) -> ForestSampler:
        return ForestSampler(self.rule, self.model_.model, self._grid(), self.resamplings)

    def _grid(self) -> np.ndarray:
        return np.asarray(_angles(PROCESS, checked_count("levels", self.levels, 1)))


class ForestFlow(BaseEstimator):
    """A generator: flow matching whose velocity is the mean of a forest's trees, from N(0, I) to data along straight lines.

    A column whose observed values are all equal is drawn as that value.

    Args:
        trees: number of members.
        levels: number of times, and of Euler steps.
        duplicates: how often each row is taken at a level.
        tree: a scikit-learn tree regressor that says how trees are grown; default leaves of at least five draws.
        exact_leaves: whether leaves have the values of infinitely many duplicates.
        random_state: chooses noise, trees and draws.

    Attributes:
        model_: the members' velocities, and the units of the columns that vary; None if none does.
        constants_: (d,) the value of each constant column, NaN for one that varies.
        n_features_in_: number of columns.
    """

    model_: InUnits | None
    constants_: np.ndarray
    n_features_in_: int

    def __init__(self, *, trees=10, levels=20, duplicates=20, tree=None, exact_leaves=False, random_state=None):
        self.trees = trees
        self.levels = levels
        self.duplicates = duplicates
        self.tree = tree
        self.exact_leaves = exact_leaves
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "ForestFlow":
        """Fit the forests to the rows X (n, d), NaN = missing; y is not used.

        Raises:
            ValueError: if X is no such table, or a column has no observed value.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", ensure_min_samples=2)
        settings = {"trees": self.trees, "duplicates": self.duplicates, "tree": self.tree, "exact_leaves": self.exact_leaves}
        key = as_key(self.random_state)
        self.constants_ = _constants(X)
        varying = X[:, np.isnan(self.constants_)]
        self.model_ = in_units(varying, lambda rows: fit_forest(key, rows, PATH, self._grid()[:-1], "velocity", **settings)) if varying.size else None
        return self

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draws (n_samples, d); `random_state` is that of the estimator by default."""
        check_is_fitted(self)
        key = as_key(self.random_state if random_state is None else random_state)
        drawn = np.tile(self.constants_, (n_samples, 1))
        if self.model_ is not None:
            model, location, scale = self.model_
            draws = Sampler(PATH, MeanField(model), Euler(), self._grid()).sample(key, n_samples, standard_normal(len(location)))
            drawn[:, np.isnan(self.constants_)] = location + scale * np.asarray(draws)
        return drawn

    def _grid(self) -> np.ndarray:
        return np.asarray(uniform_grid(PATH, checked_count("levels", self.levels, 1)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
