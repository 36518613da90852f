r"""Pairings of a batch of data points with a batch of draws from the source: which of the draws each point is joined to by a path.

Any rearrangement of independent draws leaves both marginals as they are, so the flow of the velocity E[X'_t | X_t] that belongs to the pairing takes the source to the data
exactly, whatever the size of the batch. What a pairing changes is the path and, in more than one dimension, the map:

- Independent pairs: the map is no optimal transport in general, and the paths bend.
- Optimal transport within batches of B pairs: E|X_0 - X_1|^2 falls with B, but stays above W_2^2 for every finite B; the map is biased likewise towards that of independent
  pairs, and is the optimal one for B -> infinity only.

On the line a flow keeps the order of points, so that its map is the quantile map, the optimal one, whatever the pairing; sorting both batches is the best assignment, and
between Gaussians the pairs have the correlation `processes.couplings.minibatch_correlation(B)`. In more dimensions the assignment is exact, by SciPy on the host.

Sources: Tong et al. (2024), Pooladian et al. (2023); the correlation is derived in `processes.couplings`.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ensembletheory.errors import refuse

__all__ = ["IndependentPairs", "Pairing", "TransportedPairs"]


class Pairing(eqx.Module):
    """How data points and draws from the source, independent as they come, are made pairs."""

    @abstractmethod
    def __call__(self, data: Float[Array, "n d"], source: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The draws from the source, rearranged: row i goes with data point i."""


class IndependentPairs(Pairing):
    """Pairs as they come."""

    def __call__(self, data: Float[Array, "n d"], source: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The draws as they are."""
        return source


class TransportedPairs(Pairing):
    """Optimal transport, in squared distance, between each `size` data points and as many draws.

    Args:
        size: B, which divides the batch; the whole batch if left out.

    Raises:
        ValueError: if the size is below 1.
    """

    size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.size is not None and self.size < 1:
            refuse("size", f"{self.size}", "a number of pairs, at least 1", "1 is the independent pairing; None takes the whole batch.")

    def __call__(self, data: Float[Array, "n d"], source: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The draws in the order of the best assignment.

        Raises:
            ValueError: if the size does not divide the batch.
        """
        n, d = data.shape
        size = n if self.size is None else self.size
        if n % size:
            refuse("size", f"{size} for a batch of {n}", "a divisor of the batch", "Pairs are matched in groups of this size.")
        matched = _sorted if d == 1 else _assigned
        return jax.vmap(matched)(data.reshape(-1, size, d), source.reshape(-1, size, d)).reshape(n, d)


def _sorted(data: Float[Array, "B 1"], source: Float[Array, "B 1"]) -> Float[Array, "B 1"]:
    ranks = jnp.argsort(jnp.argsort(data[:, 0]))
    return jnp.sort(source, axis=0)[ranks]


def _assigned(data: Float[Array, "B d"], source: Float[Array, "B d"]) -> Float[Array, "B d"]:
    rows = jax.pure_callback(_assignments, jax.ShapeDtypeStruct((len(data),), np.int32), data, source, vmap_method="broadcast_all")
    return source[rows]


def _assignments(data: Any, source: Any) -> np.ndarray:
    """For each group, which draw goes with which data point."""
    groups = [np.asarray(array, float).reshape(-1, *array.shape[-2:]) for array in (data, source)]
    found = [linear_sum_assignment(cdist(points, draws, "sqeuclidean"))[1] for points, draws in zip(*groups, strict=True)]
    return np.asarray(found, np.int32).reshape(data.shape[:-1])
