r"""The gain of an ensemble: how much closer to the target the pooled law is than its members are on average.

    gain = sum_k w_k D(p, q_k) - D(p, pool(q)).

Where a decomposition is known, `diversity` is its diversity term, computed on its own; it equals the gain:
 - linear pool, KL:       E_p[ log pool - sum_k w_k log q_k ]
 - log pool, KL:          -log Z, which does not depend on the target (Heskes 1998)
 - W2 barycenter, W2^2:   sum_k w_k W2^2(pool, q_k), in one dimension or for diagonal covariances (where quantile functions form a Hilbert space; elsewhere it is not the gain)
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import Diagonal
from ensembletheory.divergences import kl, w2_squared
from ensembletheory.errors import Numbers
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.pooling import linear_pool, log_normaliser, log_pool, w2_barycenter
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
        return "\n".join(f"{name:>9}  {getattr(self, name)}" for name in ("average", "best", "ensemble", "gain", "diversity"))


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
    average = _weighted_sum(weights, single)
    pool = rule(laws, weights=weights)
    ensemble = divergence(target, pool, **options)
    return Gain(average, _smallest(single), ensemble, average - ensemble, _diversity(target, laws, weights, pool, rule, divergence, options))


def _weighted_sum(weights: Float[Array, " K"], terms: Sequence[Estimate]) -> Estimate:
    total = terms[0] * weights[0]
    for weight, term in zip(weights[1:], terms[1:], strict=True):
        total = total + term * weight
    return total


def _smallest(terms: Sequence[Estimate]) -> Estimate:
    index = jnp.argmin(jnp.stack([term.value for term in terms]))
    stacked = _weighted_sum(jnp.zeros(len(terms)), terms)  # carries the least certain kind
    return Estimate(jnp.stack([term.value for term in terms])[index], jnp.stack([term.error for term in terms])[index], stacked.kind)


def _diversity(target, laws, weights, pool, rule, divergence, options) -> Estimate | None:
    if rule is linear_pool and divergence is kl:
        return expectation(target, _pool_surplus, (pool, weights, *laws), **options)
    if rule is log_pool and divergence is kl:
        return -log_normaliser(laws, weights)
    if rule is w2_barycenter and divergence is w2_squared and _flat([target, *laws]):
        return _weighted_sum(weights, [w2_squared(pool, law) for law in laws])
    return None


def _flat(laws: Sequence[Law]) -> bool:
    """Whether W2 is a Hilbert distance between these laws."""
    return laws[0].dim == 1 or all(isinstance(law, Gaussian) and isinstance(law.covariance, Diagonal) for law in laws)


def _pool_surplus(x: Float[Array, " d"], pool: Law, weights: Float[Array, " K"], *members: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    log_pool_x, log_members = pool._log_prob(x), jnp.stack([member._log_prob(x) for member in members])
    return log_pool_x - weights @ log_members, jnp.abs(log_pool_x) + weights @ jnp.abs(log_members)
