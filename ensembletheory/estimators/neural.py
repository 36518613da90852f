"""Imputers that train networks, in the conventions of scikit-learn (extras `data` and `neural`); import them from here. See `ensembletheory.estimators.imputers`.

Training and imputation are random, and `random_state` decides both. Rows are filled up with rows of weight 0, so that tables of nearly equal size share one compiled program.
"""

import math
from abc import abstractmethod
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from ensembletheory.errors import checked_count
from ensembletheory.estimators.conditional_networks import FlowMatchingImputer, ScoreMatchingImputer
from ensembletheory.estimators.density import filled
from ensembletheory.estimators.imputers import Imputer
from ensembletheory.neural import ImputationModel, Learner, MiwaeLearner, NotMiwaeLearner, Recipe, fit, joined_law

__all__ = ["FlowMatchingImputer", "MiwaeImputer", "NotMiwaeImputer", "ScoreMatchingImputer"]

_MOST_LATENT = 10


class _ImportanceImputer(Imputer):
    """An imputer whose model is an autoencoder of rows with holes."""

    def __init__(
        self,
        n_latent=None,
        *,
        width=64,
        depth=2,
        decoder_depth=None,
        noise="diagonal",
        importance=20,
        batch=64,
        steps=2000,
        learning_rate=3e-3,
        samples=1000,
        standardise=True,
        random_state=None,
    ):
        self.n_latent = n_latent
        self.width = width
        self.depth = depth
        self.decoder_depth = decoder_depth
        self.noise = noise
        self.importance = importance
        self.batch = batch
        self.steps = steps
        self.learning_rate = learning_rate
        self.samples = samples
        self.standardise = standardise
        self.random_state = random_state

    @abstractmethod
    def _learner(self, d: int) -> Learner:
        """What is trained on d columns."""

    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> ImputationModel:
        rows, steps = filled(X), checked_count("steps", self.steps, 1)
        weights = (np.arange(len(rows)) < len(X)) / len(X)
        recipe = Recipe(steps=steps, learning_rate=self.learning_rate, chunk=math.gcd(steps, 100))
        return fit(key, self._learner(X.shape[1]), joined_law(rows, weights), recipe).model

    def _mean(self, key: PRNGKeyArray, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.model_.impute(key, filled(X), self.samples))[: len(X)]

    def _draws(self, key: PRNGKeyArray, X: np.ndarray, n: int) -> np.ndarray:
        return np.asarray(self.model_.complete(key, filled(X), n, self.samples))[:, : len(X)]

    def _rows(self, d: int) -> MiwaeLearner:
        """What is trained of the rows, on d columns."""
        latent = max(1, min(_MOST_LATENT, d - 1)) if self.n_latent is None else self.n_latent
        noise: Any = self.noise
        return MiwaeLearner(latent, self.width, self.depth, self.decoder_depth, noise, self.batch, self.importance, self.standardise)


class MiwaeImputer(_ImportanceImputer):
    """MIWAE (Mattei & Frellsen 2019), for values missing at random; see `ensembletheory.neural.imputation.miwae`.

    Args:
        n_latent: latent dimension; None for one less than the number of columns, at most 10.
        width: units in a hidden layer.
        depth: number of hidden layers.
        decoder_depth: of the decoder, if another; 0 is PPCA or factor analysis, learned by its bound.
        noise: "scalar" or "diagonal", learned, or a variance, fixed; in the units of the columns.
        importance: draws of the bound in training.
        batch: rows a step; None for all.
        steps: of training.
        learning_rate: at the start of training.
        samples: draws a row of an imputation.
        standardise: whether columns are seen in units of their observed mean and deviation; False for columns that have units in common already.
        random_state: of training and of imputations.
    """

    def _learner(self, d: int) -> MiwaeLearner:
        return self._rows(d)


class NotMiwaeImputer(_ImportanceImputer):
    """not-MIWAE (Ipsen, Mattei & Frellsen 2021), for values missing because of what they are; see `ensembletheory.neural.imputation.not_miwae`.

    A row wholly missing is left out of the fit, as by all imputers here. That loses something of its likelihood: where values are missing because of what they are,
    such a row tells of the mechanism and of the values. `ensembletheory.neural.NotMiwaeLearner` learns from all rows of a `joined_law`.

    Args:
        mechanism: "self-masking", "self-masking above" (large values go missing), "self-masking below" or "agnostic".
        link: "logit" or "probit".
        hidden: hidden layers of an agnostic mechanism.
        n_latent, width, ...: as of `MiwaeImputer`.
    """

    def __init__(
        self,
        mechanism="self-masking",
        *,
        link="logit",
        hidden=0,
        n_latent=None,
        width=64,
        depth=2,
        decoder_depth=None,
        noise="diagonal",
        importance=20,
        batch=64,
        steps=2000,
        learning_rate=3e-3,
        samples=1000,
        standardise=True,
        random_state=None,
    ):
        self.mechanism = mechanism
        self.link = link
        self.hidden = hidden
        super().__init__(
            n_latent,
            width=width,
            depth=depth,
            decoder_depth=decoder_depth,
            noise=noise,
            importance=importance,
            batch=batch,
            steps=steps,
            learning_rate=learning_rate,
            samples=samples,
            standardise=standardise,
            random_state=random_state,
        )

    def _learner(self, d: int) -> NotMiwaeLearner:
        mechanism: Any = self.mechanism
        link: Any = self.link
        return NotMiwaeLearner(self._rows(d), mechanism, link, self.hidden)
