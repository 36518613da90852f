r"""When two mixtures of Gaussians are the same law, and how far apart their components are.

Gaussian densities are linearly independent, so finite mixtures of them are identifiable (Teicher 1963; Yakowitz & Spragins 1968): two mixtures are equal as laws if and only
if their components agree up to order once zero weights are dropped and equal components merged. That is `canonical_mixture`.

For K components of equal weight the optimal plan of MW2 is a matching (Birkhoff), so MW2^2 = (1/K) min over permutations of sum_k W2^2(N_k, N'_s(k)): `matched_w2_squared`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ensembletheory.divergences import w2_squared
from ensembletheory.errors import refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.identifiability.groups import Permutations
from ensembletheory.laws import GaussianMixture

__all__ = ["canonical_mixture", "matched_w2_squared"]


def canonical_mixture(mixture: GaussianMixture, tolerance: float = 0.0) -> GaussianMixture:
    """The same law with zero weights dropped, equal components merged, and components in lexicographic order of means, then covariances.

    Args:
        mixture: any mixture.
        tolerance: components whose means and covariances differ by no more than this in any entry count as equal.
    """
    weights, means, covs = (np.asarray(part) for part in (mixture.weights, mixture.means, mixture.covs))
    kept: list[int] = []
    total = np.array(weights)
    for k in np.flatnonzero(weights).tolist():
        twin = next((j for j in kept if max(np.max(abs(means[j] - means[k])), np.max(abs(covs[j] - covs[k]))) <= tolerance), None)
        if twin is None:
            kept.append(k)
        else:
            total[twin] += weights[k]
    order = sorted(kept, key=lambda k: (*means[k], *covs[k].ravel()))
    return GaussianMixture(total[order] / np.sum(total[order]), means[order], covs[order])


def matched_w2_squared(p: GaussianMixture, q: GaussianMixture) -> Estimate:
    """The least mean squared W2 between matched components of two mixtures of K components each: a metric (squared) on mixtures up to relabelling, blind to weights.

    Raises:
        ValueError: if the numbers of components or the dimensions differ.
    """
    if p.means.shape != q.means.shape:
        refuse("q", f"{q.means.shape[0]} components in dimension {q.dim}", f"{p.means.shape[0]} in dimension {p.dim}, as `p`", "Use mw2 for different numbers.")
    table = _table(p, q)
    matching = Permutations(len(table)).nearest(-np.asarray(table))
    return closed_form(jnp.sum(table * matching) / len(matching))


@jax.jit
def _table(p: GaussianMixture, q: GaussianMixture) -> jax.Array:
    K = p.means.shape[0]
    pick = lambda mixture, k: jax.tree.map(lambda leaf: leaf[k], mixture.components)  # noqa: E731
    return jnp.stack([w2_squared(pick(p, i), pick(q, j)).value for i, j in itertools.product(range(K), repeat=2)]).reshape(K, K)
