"""Rows with missing values, as both kinds of fit are tested on."""

import jax.numpy as jnp
import numpy as np

from ensembletheory.fitting.rows import Rows


def holes(seed, X, share=0.3):
    """X with missing values, at least one value observed in each row."""
    rng = np.random.default_rng(seed)
    mask = rng.random(X.shape) < share
    mask[np.arange(len(X)), rng.integers(X.shape[1], size=len(X))] = False
    return np.where(mask, np.nan, X)


def as_rows(X, weights=None):
    seen = ~np.isnan(X)
    weights = np.ones(len(X)) if weights is None else weights
    return Rows(jnp.asarray(np.where(seen, X, 0.0)), None if seen.all() else jnp.asarray(seen), jnp.asarray(weights))
