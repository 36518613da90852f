"""Imputers in the conventions of scikit-learn: `fit`, `transform` and `sample`; NaN means missing.

`transform` gives one completed table, by default the conditional mean of what is missing, which is best for squared errors and is no draw: it has too little spread.
`sample` gives n completed tables whose holes are drawn from the conditional law: multiple imputations.

What a table may hold. A row wholly missing tells nothing: it is left out of the fit, and is imputed from the law itself. A row wholly observed is left as it is. A column
whose observed values are all equal is imputed by that value and left out of the fit, since no density is best for it. A column without any observed value is refused, as
nothing is known of it. Rows to transform may have holes in other places than those fitted to.

Estimators compute in JAX's working precision: 32 bits unless `ensembletheory.enable_x64()` was called.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import PRNGKeyArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ensembletheory.errors import checked_count, refuse
from ensembletheory.estimators.density import as_key
from ensembletheory.fitting import fit_mixture, fit_ppca
from ensembletheory.imputation import conditional_draws, conditional_mean
from ensembletheory.latent import Ppca
from ensembletheory.laws import Gaussian, GaussianMixture

__all__ = ["GaussianImputer", "Imputer", "MixtureImputer", "PpcaImputer"]

_FLOATS = [np.float64, np.float32]


class Imputer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """What the imputers share. A subclass has `random_state` among its parameters and implements `_fit`, `_mean` and `_draws`, which see varying columns only.

    Where it says that `_fit` or `_mean` draws nothing, they leave `random_state` as it is.

    Attributes:
        model_: what `_fit` returned; None if no column varies.
        constants_: (d,) the value of each constant column, NaN for one that varies.
        rows_: (n, d) the rows fitted to.
        n_features_in_: number of columns.
    """

    model_: Any
    constants_: np.ndarray
    rows_: np.ndarray
    random_state: Any
    _fit_draws: ClassVar[bool] = True
    _mean_draws: ClassVar[bool] = True

    @abstractmethod
    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> Any:
        """The model of rows X (n, d), each with at least one observed value; every column varies."""

    @abstractmethod
    def _mean(self, key: PRNGKeyArray, X: np.ndarray) -> Any:
        """The completed rows (n, d) that `transform` gives; only the entries that are NaN in X are used."""

    @abstractmethod
    def _draws(self, key: PRNGKeyArray, X: np.ndarray, n: int) -> Any:
        """`n` completed copies (n, rows, d) of X; only the entries that are NaN in X are used."""

    def _least_features(self) -> int:
        """The number of columns without which there is nothing to fit."""
        return 1

    def fit(self, X: Any, y: Any = None) -> "Imputer":
        """Fit the model to the rows X (n, d), NaN = missing; y is not used.

        Raises:
            ValueError: if X is no such table, a column has no observed value, too few columns vary, or as the fitting function says.
        """
        X = validate_data(self, X, dtype=_FLOATS, ensure_all_finite="allow-nan", ensure_min_samples=2, ensure_min_features=self._least_features())
        self.constants_, self.rows_ = _constants(X), X.copy()
        varying = X[:, np.isnan(self.constants_)]
        if 0 < varying.shape[1] < self._least_features():
            constant = ", ".join(map(str, np.flatnonzero(~np.isnan(self.constants_))))
            got = f"{varying.shape[1]} columns that vary (index {constant} constant)"
            refuse("X", got, f"at least {self._least_features()}", "Drop constant columns, and ask for less of the others.")
        self.model_ = self._fit(self._key(self._fit_draws), varying[~np.isnan(varying).all(axis=1)]) if varying.size else None
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The rows X (n, d) with what is missing in place: its conditional mean, unless the class says otherwise."""
        X = self._read(X)
        return self._completed(X, lambda varying: np.asarray(self._mean(self._key(self._mean_draws), varying)))

    def sample(self, n: int = 1, X: Any = None, random_state: Any = None) -> np.ndarray:
        """`n` completed copies (n, rows, d) of X, by default of the rows fitted to, with what is missing drawn; `random_state` is that of the imputer by default."""
        n = checked_count("n", n, 1)
        key = as_key(self.random_state if random_state is None else random_state)
        copies = np.repeat(self._read(X)[None], n, axis=0)
        return self._completed(copies, lambda varying: np.asarray(self._draws(key, varying[0], n)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _key(self, draws: bool) -> PRNGKeyArray:
        """A key made from `random_state`, or a fixed one where nothing is drawn."""
        return as_key(self.random_state) if draws else jax.random.key(0)

    def _read(self, X: Any) -> Any:
        """The checked rows; those fitted to, for None."""
        check_is_fitted(self)
        return self.rows_ if X is None else validate_data(self, X, dtype=_FLOATS, ensure_all_finite="allow-nan", reset=False)

    def _completed(self, X: np.ndarray, impute: Any) -> np.ndarray:
        """X (..., rows, d) with constants, and with what `impute` says of the varying columns, where it has holes there."""
        filled = np.where(np.isnan(X), self.constants_.astype(X.dtype), X)
        varying = np.isnan(self.constants_)
        holes = np.isnan(filled)
        if holes.any():
            filled[..., varying] = np.where(holes[..., varying], impute(X[..., varying]), X[..., varying])
        return filled


def _constants(X: np.ndarray) -> np.ndarray:
    """The value of each column whose observed values are all equal, NaN for the others.

    Raises:
        ValueError: if a column has no observed value.
    """
    empty = np.flatnonzero(np.isnan(X).all(axis=0))
    if empty.size:
        refuse(
            "X",
            f"{empty.size} columns wholly missing (index {', '.join(map(str, empty[:5]))})",
            "at least one observed value a column",
            "Drop them: nothing is known of them.",
        )
    least, largest = np.nanmin(X, axis=0), np.nanmax(X, axis=0)
    return np.where(least == largest, least, np.nan)


class _LawImputer(Imputer):
    """An imputer whose model is a law with exact conditionals."""

    _mean_draws = False

    def _mean(self, key: PRNGKeyArray, X: np.ndarray) -> jax.Array:
        return conditional_mean(self.model_, X)

    def _draws(self, key: PRNGKeyArray, X: np.ndarray, n: int) -> jax.Array:
        return conditional_draws(key, self.model_, X, n)


class GaussianImputer(_LawImputer):
    """The exact conditionals of one Gaussian, of largest observed-data likelihood (by EM where values are missing).

    Args:
        ridge: fraction of the columns' variances that keeps the covariance regular; 0 for plain maximum likelihood.
        tolerance: relative gain at which EM stops; None for the root of the machine epsilon.
        max_iterations: largest number of EM iterations.
        random_state: chooses the draws of `sample`; the fit is deterministic.
    """

    _fit_draws = False

    def __init__(self, *, ridge=1e-6, tolerance=None, max_iterations=5000, random_state=None):
        self.ridge = ridge
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.random_state = random_state

    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> Gaussian:
        law = fit_mixture(key, X, 1, ridge=self.ridge, starts=1, tolerance=self.tolerance, max_iterations=self.max_iterations)
        return Gaussian(law.means[0], law.covs[0])


class MixtureImputer(_LawImputer):
    """The exact conditionals of a Gaussian mixture fitted by EM; see `ensembletheory.fit_mixture`.

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

    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> GaussianMixture:
        steering = {"ridge": self.ridge, "starts": self.starts, "tolerance": self.tolerance, "max_iterations": self.max_iterations}
        return fit_mixture(key, X, self.n_components, **steering)


class PpcaImputer(_LawImputer):
    """The exact conditionals of a probabilistic PCA; see `ensembletheory.fit_ppca`. Columns share one noise variance, so scale them first.

    Args:
        n_latent: latent dimension, less than the number of columns.
        tolerance: relative gain at which EM stops (values are missing); None for the root of the machine epsilon.
        max_iterations: largest number of EM iterations.
        random_state: chooses the draws of `sample`; the fit is deterministic.
    """

    _fit_draws = False

    def __init__(self, n_latent=1, *, tolerance=None, max_iterations=5000, random_state=None):
        self.n_latent = n_latent
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.random_state = random_state

    def _least_features(self) -> int:
        return self.n_latent + 1

    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> Ppca:
        return fit_ppca(X, self.n_latent, tolerance=self.tolerance, max_iterations=self.max_iterations)
