"""One law of each class and dimension, and what NumPy and SciPy know of laws on the line."""

from functools import cache

import jax.numpy as jnp
import numpy as np
import scipy.stats
from jax.tree_util import Partial

import ensembletheory as et
from tests.helpers import spd

COLUMNS = "GG GM MG MM GR RG MR RM RR GF FG MF FM RF FR FF".split()  # Gaussian, Mixture, gRid law, Finite law


def _quartic(x):
    return -(x[0] ** 2) / 2 - jnp.sum(x**4) / 12


@cache
def law(letter: str, d: int, which: int):
    rng = np.random.default_rng(10 * d + which)
    if letter == "G":
        return et.Gaussian(rng.normal(size=d), spd(rng, d))
    if letter == "M":
        return et.GaussianMixture([0.3, 0.7], rng.normal(size=(2, d)), np.stack([spd(rng, d), spd(rng, d)]))
    if letter == "F":
        return et.FiniteLaw(rng.integers(0, 2, size=(3, d)).astype(float), rng.dirichlet(np.ones(3)))
    return et.GridLaw(Partial(_quartic), np.zeros((1, d)), np.full((1, d), 0.6))


def pair(column: str, d: int):
    return law(column[0], d, 0), law(column[1], d, 1)


def parts(given):
    """(weight, mean, standard deviation) of the components of a law on the line."""
    if isinstance(given, et.Gaussian):
        return [(1.0, float(given.mean[0]), float(given.cov[0, 0]) ** 0.5)]
    return [(float(w), float(m[0]), float(S[0, 0]) ** 0.5) for w, m, S in zip(given.weights, given.means, given.covs, strict=True)]


def pdf(given, x):
    return sum(w * scipy.stats.norm.pdf(x, m, s) for w, m, s in parts(given))


def cdf(given, x):
    return sum(w * scipy.stats.norm.cdf(x, m, s) for w, m, s in parts(given))


def line(*laws, n=400_001):
    """Fine points over 13 standard deviations of every component."""
    ends = [(m - 13 * s, m + 13 * s) for given in laws for _, m, s in parts(given)]
    return np.linspace(min(low for low, _ in ends), max(high for _, high in ends), n)
