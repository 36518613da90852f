r"""The gain of an ensemble: how much closer to the target the pooled law is than its members are on average.

    gain = sum_k w_k D(p, q_k) - D(p, pool(q)).

Where a decomposition is known, `diversity` is its diversity term, computed on its own; it equals the gain:
 - linear pool, KL:       E_p[ log pool - sum_k w_k log q_k ]
 - log pool, KL:          -log Z, which does not depend on the target (Heskes 1998)
 - linear pool, L2^2 or MMD^2: sum_k w_k D(pool, q_k), the squared distances being those of a Hilbert space in which densities are mixed linearly
 - W2 barycenter, W2^2:   sum_k w_k W2^2(pool, q_k), in one dimension or for diagonal covariances (where quantile functions form a Hilbert space; elsewhere it is not the gain)

The decompositions by themselves, with all their terms: `ensembletheory.gains.densities`.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ensembletheory.covariance import AxisAligned
from ensembletheory.divergences import kl, l2_squared, mmd_squared, w2_squared
from ensembletheory.errors import Numbers
from ensembletheory.estimate import Estimate
from ensembletheory.gains.decomposition import terms_of, weighted_sum
from ensembletheory.gains.densities import linear_pool_surplus, spread_about
from ensembletheory.laws import Gaussian, Law
from ensembletheory.pooling import linear_pool, log_pool, w2_barycenter
from ensembletheory.pooling.log import normaliser_of
from ensembletheory.pooling.members import Member, checked_laws
from ensembletheory.precision import require_x64

__all__ = ["Gain", "gain"]


class Gain(eqx.Module):
    """Divergences from a target: of the members on average, of the best member, of the pooled law; the gain, and its diversity term where one is known."""

    average: Estimate
    best: Estimate
    ensemble: Estimate
    gain: Estimate
    diversity: Estimate | None

    def __str__(self) -> str:
        return terms_of(self)


def gain(
    target: Law,
    members: Sequence[Member],
    rule: Callable[..., Law] = linear_pool,
    divergence: Callable[..., Estimate] = kl,
    weights: Numbers | None = None,
    key: PRNGKeyArray | None = None,
    samples: int | None = None,
) -> Gain:
    """The gain of pooling `members` by `rule`, in `divergence` from `target`.

    Args:
        target: the law p.
        members: the laws q_k.
        rule: called as rule(members, weights=weights), returns a law.
        divergence: called as divergence(target, law), returns an Estimate.
        weights: on the simplex; default equal.
        key: passed on to the divergence, for pairs that only Monte Carlo can answer; all of them then see the same draws.
        samples: number of those draws.

    Raises:
        RuntimeError: in 32-bit mode.
        ValueError: if there is no member, dimensions differ, weights are off the simplex, or a key is needed.
    """
    require_x64("gain")
    laws, weights = checked_laws(members, weights)
    options = {name: value for name, value in (("key", key), ("samples", samples)) if value is not None}
    single = [divergence(target, law, **options) for law in laws]
    average = weighted_sum(weights, single)
    pool = rule(laws, weights=weights)
    ensemble = divergence(target, pool, **options)
    return Gain(average, _smallest(single), ensemble, average - ensemble, _diversity(target, laws, weights, pool, rule, divergence, options))


def _smallest(terms: Sequence[Estimate]) -> Estimate:
    index = jnp.argmin(jnp.stack([term.value for term in terms]))
    stacked = weighted_sum(jnp.zeros(len(terms)), terms)  # carries the least certain kind
    return Estimate(jnp.stack([term.value for term in terms])[index], jnp.stack([term.error for term in terms])[index], stacked.kind)


def _diversity(target, laws, weights, pool, rule, divergence, options) -> Estimate | None:
    if rule is linear_pool and divergence is kl:
        return linear_pool_surplus(target, laws, weights, pool, **options)
    if rule is log_pool and divergence is kl:
        return -normaliser_of(pool, laws, weights)
    if rule is w2_barycenter and divergence is w2_squared and _flat([target, *laws]):
        return spread_about(pool, laws, weights, w2_squared)
    if rule is linear_pool and (divergence is l2_squared or divergence is mmd_squared):
        return spread_about(pool, laws, weights, divergence)
    return None


def _flat(laws: Sequence[Law]) -> bool:
    """Whether W2 is a Hilbert distance between these laws."""
    return laws[0].dim == 1 or all(isinstance(law, Gaussian) and isinstance(law.covariance, AxisAligned) for law in laws)
