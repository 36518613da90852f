"""Density estimators in the conventions of scikit-learn: parameters are stored as given, what is learned ends in `_`, arrays are NumPy's, randomness is `random_state`.

`model_` is the fitted law of this package, exact in everything else. NaN means missing (at random): fits maximise the observed-data likelihood, and the log-density of a
row with missing values is that of its observed coordinates.

Estimators compute in JAX's working precision: 32 bits unless `ensembletheory.enable_x64()` was called, which is advised (the tolerance of EM is the root of the machine
epsilon). Rows are filled up to 16, 32, ..., 1024, 2048, 3072, ... with rows of weight 0, so that folds of nearly equal size share one compiled program.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ensembletheory.errors import refuse
from ensembletheory.fitting import fit_mixture, fit_ppca, fit_ppca_mixture, mixture_em, ppca_em
from ensembletheory.fitting.ppca_em import PpcaParameters
from ensembletheory.latent import Ppca, PpcaMixture
from ensembletheory.laws import GaussianMixture

__all__ = ["Density", "GaussianMixtureDensity", "PpcaDensity", "PpcaMixtureDensity", "as_key"]

_FLOATS = [np.float64, np.float32]
_LEAST_ROWS, _MOST_ROWS = 16, 1024


class Density(DensityMixin, BaseEstimator):
    """What the estimators share; see `GaussianMixtureDensity`, `PpcaDensity` and `PpcaMixtureDensity`.

    Attributes:
        model_: the fitted law: `GaussianMixture`, `Ppca` or `PpcaMixture`.
        n_features_in_: number of columns.
    """

    model_: Any
    random_state: Any

    @abstractmethod
    def _fit(self, key: PRNGKeyArray, X: np.ndarray, weights: np.ndarray) -> Any:
        """The fitted law."""

    @abstractmethod
    def _least_features(self) -> int:
        """The number of columns without which there is nothing to fit."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "Density":
        """Fit the density to the rows X (n, d), NaN = missing; y is not used; sample_weight (n,) says how often a row counts.

        Raises:
            ValueError: as the fitting function of the package.

        Warns:
            NotConverged: if EM reached `max_iterations`.
        """
        X = validate_data(self, X, dtype=_FLOATS, ensure_all_finite="allow-nan", ensure_min_samples=2, ensure_min_features=self._least_features())
        weights = _check_sample_weight(sample_weight, X, dtype=_FLOATS)
        rows = filled(X)
        self.model_ = self._fit(as_key(self.random_state), rows, np.concatenate([weights, np.zeros(len(rows) - len(X), weights.dtype)]))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """The log-density of each row of X (n, d) in nats; where values are missing, that of the observed coordinates."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_FLOATS, ensure_all_finite="allow-nan", reset=False)
        missing = int(np.sum(np.isnan(X).all(axis=1)))
        if missing:
            refuse("X", f"{missing} rows wholly missing", "at least one observed value a row", "Drop them: they carry no information.")
        rows = filled(X)
        seen = ~np.isnan(rows)
        if seen.all():
            return np.asarray(self.model_.log_prob(rows))[: len(X)]
        values = np.asarray(np.where(seen, rows, 0.0), dtype=jnp.result_type(float))
        return np.asarray(_observed_log_prob(self.model_, jnp.asarray(values), jnp.asarray(seen)))[: len(X)]

    def score(self, X: Any, y: Any = None) -> float:
        """The mean log-density of the rows in nats; larger is better."""
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draws (n_samples, d) from the fitted density; `random_state` is that of the estimator by default."""
        check_is_fitted(self)
        return np.asarray(self.model_.sample(as_key(self.random_state if random_state is None else random_state), n_samples))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class GaussianMixtureDensity(Density):
    """A Gaussian mixture with full covariances; see `ensembletheory.fit_mixture`.

    Args:
        n_components: number of components.
        ridge: fraction of the columns' variances that keeps covariances regular.
        starts: how many starts get a short climb.
        tolerance: relative gain at which EM stops; None for the root of the machine epsilon.
        max_iterations: largest number of EM iterations.
        random_state: chooses the starts, and the draws of `sample`.
    """

    def __init__(self, n_components=1, *, ridge=1e-6, starts=4, tolerance=None, max_iterations=5000, random_state=None):
        self.n_components = n_components
        self.ridge = ridge
        self.starts = starts
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.random_state = random_state

    def _least_features(self) -> int:
        return 1

    def _fit(self, key: PRNGKeyArray, X: np.ndarray, weights: np.ndarray) -> GaussianMixture:
        steering = {"ridge": self.ridge, "starts": self.starts, "tolerance": self.tolerance, "max_iterations": self.max_iterations}
        return fit_mixture(key, X, self.n_components, weights=weights, **steering)


class PpcaDensity(Density):
    """Probabilistic PCA; see `ensembletheory.fit_ppca`.

    Args:
        n_latent: latent dimension, less than the number of columns.
        tolerance: relative gain at which EM stops (values are missing); None for the root of the machine epsilon.
        max_iterations: largest number of EM iterations.
        random_state: chooses the draws of `sample`; the fit is deterministic.
    """

    def __init__(self, n_latent=1, *, tolerance=None, max_iterations=5000, random_state=None):
        self.n_latent = n_latent
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.random_state = random_state

    def _least_features(self) -> int:
        return self.n_latent + 1

    def _fit(self, key: PRNGKeyArray, X: np.ndarray, weights: np.ndarray) -> Ppca:
        return fit_ppca(X, self.n_latent, weights=weights, tolerance=self.tolerance, max_iterations=self.max_iterations)


class PpcaMixtureDensity(Density):
    """A mixture of PPCAs; see `ensembletheory.fit_ppca_mixture`.

    Args:
        n_components: number of components.
        n_latent: latent dimension of each, less than the number of columns.
        ridge: fraction of the columns' mean variance that keeps covariances regular.
        starts: how many starts get a short climb.
        tolerance: relative gain at which EM stops; None for the root of the machine epsilon.
        max_iterations: largest number of EM iterations.
        random_state: chooses the starts, and the draws of `sample`.
    """

    def __init__(self, n_components=1, n_latent=1, *, ridge=1e-6, starts=4, tolerance=None, max_iterations=5000, random_state=None):
        self.n_components = n_components
        self.n_latent = n_latent
        self.ridge = ridge
        self.starts = starts
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.random_state = random_state

    def _least_features(self) -> int:
        return self.n_latent + 1

    def _fit(self, key: PRNGKeyArray, X: np.ndarray, weights: np.ndarray) -> PpcaMixture:
        steering = {"ridge": self.ridge, "starts": self.starts, "tolerance": self.tolerance, "max_iterations": self.max_iterations}
        return fit_ppca_mixture(key, X, self.n_components, self.n_latent, weights=weights, **steering)


def as_key(random_state: Any) -> PRNGKeyArray:
    """A key made from a `random_state` of scikit-learn."""
    return jax.random.key(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def filled(X: np.ndarray) -> np.ndarray:
    """The rows and copies of the first one, up to the next number of rows that is compiled for."""
    n = len(X)
    count = max(_LEAST_ROWS, 2 ** (n - 1).bit_length()) if n <= _MOST_ROWS else -(-n // _MOST_ROWS) * _MOST_ROWS
    return np.concatenate([X, np.repeat(X[:1], count - n, axis=0)])


@eqx.filter_jit
def _observed_log_prob(model: GaussianMixture | Ppca | PpcaMixture, values: Float[Array, "n d"], seen: Bool[Array, "n d"]) -> Float[Array, " n"]:
    """The log-density of the observed coordinates of each row."""
    if isinstance(model, Ppca):
        parameters = PpcaParameters(model.loadings, model.mean, model.noise_variance)
        return jax.vmap(lambda x, o: ppca_em.observed_log_prob(parameters, x, o))(values, seen)
    law = model.law if isinstance(model, PpcaMixture) else model
    parameters = mixture_em.MixtureParameters(law.weights, law.means, law.covs)
    return jax.vmap(lambda x, o: mixture_em.observed_log_prob(parameters, x, o))(values, seen)
