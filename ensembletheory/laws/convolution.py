r"""Convolution: the law of X + Y for independent X ~ p and Y ~ q.

Gaussians add means and covariances; a mixture of K components with one of J is a mixture of the K J sums, of weights w_k v_j; atoms are components of covariance zero.
"""

from typing import cast

import equinox as eqx
import jax

from ensembletheory.laws.finite import FiniteLaw
from ensembletheory.laws.gaussian import Gaussian
from ensembletheory.laws.law import Law, require_same_dim
from ensembletheory.laws.mixture import GaussianMixture, weighted_components

__all__ = ["convolve"]


def convolve(p: Law, q: Law) -> Law:
    """The law of the sum of independent draws: a Gaussian of two Gaussians, finite of two finite laws, else a mixture of all pairs of components.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: if a law is none of Gaussian, GaussianMixture and FiniteLaw.
    """
    require_same_dim(p, q)
    for name, law in (("p", p), ("q", q)):
        if not isinstance(law, Gaussian | GaussianMixture | FiniteLaw):
            raise TypeError(f"`{name}`: got {type(law).__name__}; expected Gaussian, GaussianMixture or FiniteLaw, whose sums have closed forms. Sample both and add.")
    return _convolved(p, q)


@eqx.filter_jit
def _convolved(p: Law, q: Law) -> Law:
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return _sum(p, q)
    (w, first), (v, second) = _parts(p), _parts(q)
    weights = (w[:, None] * v[None, :]).ravel()
    pairs = jax.vmap(lambda one: jax.vmap(lambda other: _sum(one, other))(second))(first)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), pairs)
    if not isinstance(flat, Gaussian):
        return FiniteLaw(flat, weights)
    return GaussianMixture(weights, flat.mean, flat.covariance)


def _parts(law: Law):
    """Weights and stacked components: Gaussians, or points."""
    return (law.weights, law.points) if isinstance(law, FiniteLaw) else weighted_components(cast(Gaussian | GaussianMixture, law))


def _sum(first, second):
    if not isinstance(first, Gaussian):
        return Gaussian(first + second.mean, second.covariance) if isinstance(second, Gaussian) else first + second
    if not isinstance(second, Gaussian):
        return Gaussian(first.mean + second, first.covariance)
    return Gaussian(first.mean + second.mean, first.covariance + second.covariance)
