"""Imputers that know more than one model: of a pool of fits, and of the uncertainty of the parameters, without which multiple imputation is not proper.

Both see the rows standardised column by column and complete them in the units of the data.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ensembletheory.errors import refuse
from ensembletheory.estimators.imputers import Imputer
from ensembletheory.fitting import bootstrap_mixtures, bootstrap_ppcas, fit_mixture
from ensembletheory.imputation.conditionals import Model, conditional_draws, conditional_mean
from ensembletheory.imputation.pooled import checked_rule, pooled_draws, pooled_mean
from ensembletheory.imputation.posterior import posterior_gaussians
from ensembletheory.laws import Gaussian

__all__ = ["PooledImputer", "ProperImputer"]

_FITS = ("bootstrap", "posterior")
_PARAMETERS = ("posterior", "bootstrap", "fixed")


class _Units(NamedTuple):
    """The mean and the standard deviation of the observed values of each column."""

    location: np.ndarray
    scale: np.ndarray

    @staticmethod
    def of(X: np.ndarray) -> "_Units":
        return _Units(np.nanmean(X, axis=0), np.nanstd(X, axis=0))

    def standardised(self, X: np.ndarray) -> np.ndarray:
        return (X - self.location) / self.scale

    def restored(self, Z: Any) -> np.ndarray:
        return np.asarray(Z) * self.scale + self.location


class _Pool(NamedTuple):
    units: _Units
    members: list[Model]


class _Fitted(NamedTuple):
    units: _Units
    law: Model
    rows: np.ndarray  # standardised


class PooledImputer(Imputer):
    """The pool of several fits: `transform` gives the mean, `sample` draws of its conditional; see `ensembletheory.imputation.pooled`.

    Args:
        n_members: number of fits.
        rule: "linear", "conditionals", "log" or "mean_score".
        fits: "bootstrap" for fits to resampled rows, "posterior" for Gaussians drawn from their posterior.
        n_latent: None for Gaussians with full covariances, else the latent dimension of PPCAs (bootstrap only).
        ridge: fraction of the columns' variances that keeps full covariances regular (bootstrap only).
        tolerance: relative gain at which EM stops; None for the root of the machine epsilon.
        max_iterations: largest number of EM iterations.
        random_state: chooses the fits, and the draws of `sample`.
    """

    def __init__(self, n_members=10, *, rule="linear", fits="bootstrap", n_latent=None, ridge=1e-6, tolerance=None, max_iterations=5000, random_state=None):
        self.n_members = n_members
        self.rule = rule
        self.fits = fits
        self.n_latent = n_latent
        self.ridge = ridge
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.random_state = random_state

    def _least_features(self) -> int:
        return 1 if self.n_latent is None else self.n_latent + 1

    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> _Pool:
        checked_rule(self.rule)
        units = _Units.of(X)
        return _Pool(units, self._members(key, units.standardised(X)))

    def _members(self, key: PRNGKeyArray, Z: np.ndarray) -> list[Any]:
        if self.fits not in _FITS:
            refuse("fits", repr(self.fits), f"one of {', '.join(_FITS)}", "Where the members come from.")
        if self.fits == "posterior":
            return posterior_gaussians(key, Z, self.n_members)
        steering = {"tolerance": self.tolerance, "max_iterations": self.max_iterations}
        if self.n_latent is None:
            fits = bootstrap_mixtures(key, Z, 1, self.n_members, ridge=self.ridge, starts=1, **steering)
            return [Gaussian(fit.means[0], fit.covs[0]) for fit in fits]
        return bootstrap_ppcas(key, Z, self.n_latent, self.n_members, **steering)

    def _mean(self, key: PRNGKeyArray, X: np.ndarray) -> np.ndarray:
        units, members = self.model_
        return units.restored(pooled_mean(members, units.standardised(X), self.rule))

    def _draws(self, key: PRNGKeyArray, X: np.ndarray, n: int) -> np.ndarray:
        units, members = self.model_
        return units.restored(pooled_draws(key, members, units.standardised(X), n, self.rule))


class ProperImputer(Imputer):
    """Multiple imputation by a Gaussian: each completed copy of `sample` is drawn with parameters of its own; `transform` gives the conditional mean at their estimate.

    Args:
        parameters: "posterior" draws them from their posterior, "bootstrap" fits resampled rows; "fixed" keeps the estimate, which is not proper: for comparison.
        burn_in: sweeps of data augmentation before the first posterior draw, where holes are not monotone.
        spacing: sweeps from one posterior draw to the next.
        ridge: fraction of the columns' variances that keeps estimated covariances regular.
        tolerance: relative gain at which EM stops; None for the root of the machine epsilon.
        max_iterations: largest number of EM iterations.
        random_state: chooses the parameters and draws of `sample`.
    """

    def __init__(self, parameters="posterior", *, burn_in=100, spacing=20, ridge=1e-6, tolerance=None, max_iterations=5000, random_state=None):
        self.parameters = parameters
        self.burn_in = burn_in
        self.spacing = spacing
        self.ridge = ridge
        self.tolerance = tolerance
        self.max_iterations = max_iterations
        self.random_state = random_state

    def _fit(self, key: PRNGKeyArray, X: np.ndarray) -> _Fitted:
        if self.parameters not in _PARAMETERS:
            refuse("parameters", repr(self.parameters), f"one of {', '.join(_PARAMETERS)}", "Where each copy's parameters come from.")
        units = _Units.of(X)
        rows = units.standardised(X)
        law = fit_mixture(key, rows, 1, ridge=self.ridge, starts=1, tolerance=self.tolerance, max_iterations=self.max_iterations)
        return _Fitted(units, law, rows)

    def _mean(self, key: PRNGKeyArray, X: np.ndarray) -> np.ndarray:
        units, law, _ = self.model_
        return units.restored(conditional_mean(law, units.standardised(X)))

    def _draws(self, key: PRNGKeyArray, X: np.ndarray, n: int) -> np.ndarray:
        units, law, rows = self.model_
        Z, (key_parameters, key_draws) = units.standardised(X), jax.random.split(key)
        if self.parameters == "fixed":
            return units.restored(conditional_draws(key_draws, law, Z, n))
        laws = self._laws(key_parameters, rows, n)
        return units.restored(np.concatenate([conditional_draws(own, one, Z, 1) for own, one in zip(jax.random.split(key_draws, n), laws, strict=True)]))

    def _laws(self, key: PRNGKeyArray, rows: np.ndarray, n: int) -> list[Any]:
        if self.parameters == "posterior":
            return posterior_gaussians(key, rows, n, burn_in=self.burn_in, spacing=self.spacing)
        return bootstrap_mixtures(key, rows, 1, n, ridge=self.ridge, starts=1, tolerance=self.tolerance, max_iterations=self.max_iterations)
