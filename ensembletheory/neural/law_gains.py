r"""The gain of pooling trained laws with densities, measured: linear pool and log pool of a stack of K laws, in any dimension.

With x ~ p drawn once and shared, and q_k the members,

    linear pool   gain = E_p [ log sum_k w_k q_k - sum_k w_k log q_k ]     (a mean of differences that are never negative, by Jensen)
    log pool      gain = -log Z,   Z = int prod_k q_k^{w_k}                (whatever the target: Heskes 1998).

Z is the mean under the linear pool of the ratio prod_k q_k^{w_k} / sum_k w_k q_k, which lies between 0 and 1: its standard error is at most 1 / (2 sqrt n), in any dimension.
One draw is taken of each member, and their ratios averaged with the weights. The standard error of log Z is that of Z over Z; its bias, of the order of the square of that
error, is far below it.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.gains import Gain
from ensembletheory.laws import Law
from ensembletheory.laws.weights import checked_weights
from ensembletheory.neural.stacks import count
from ensembletheory.precision import require_x64

__all__ = ["sampled_law_gain", "sampled_log_normaliser"]


def sampled_law_gain(key: PRNGKeyArray, target: Law, laws: Any, samples: int, rule: Literal["linear", "log"] = "linear", weights: Numbers | None = None) -> Gain:
    """The gain in KL from `target` of pooling a stack of K laws with densities, by Monte Carlo; its diversity term is the gain itself.

    Args:
        key: of all draws.
        target: the law p.
        laws: a stack of laws, trained or exact.
        samples: number of draws from the target, and for the log pool of each member.
        rule: "linear" or "log".
        weights: (K,) on the simplex; default equal.

    Raises:
        RuntimeError: in 32-bit mode.
        ValueError: if the rule is unknown, or weights are off the simplex.
    """
    require_x64("sampled_law_gain")
    if rule not in ("linear", "log"):
        refuse("rule", repr(rule), "'linear' or 'log'", "Other pools have no density to evaluate.")
    weights, (key_target, key_members) = checked_weights(weights, count(laws)), jax.random.split(key)
    average, best, pooled, difference = (monte_carlo(draws) for draws in _excesses(key_target, target, laws, samples, weights))
    if rule == "linear":
        return Gain(average, best, pooled, difference, difference)
    gain = -sampled_log_normaliser(key_members, laws, samples, weights)
    return Gain(average, best, average - gain, gain, gain)


def sampled_log_normaliser(key: PRNGKeyArray, laws: Any, samples: int, weights: Numbers | None = None) -> Estimate:
    """Log Z of the log pool of a stack of laws, by `samples` draws of each.

    Raises:
        ValueError: if weights are off the simplex.
    """
    weights = checked_weights(weights, count(laws))
    Z = monte_carlo(_ratios(key, laws, samples, weights))
    return Estimate(jnp.log(Z.value), Z.error / Z.value, "monte_carlo")


@eqx.filter_jit
def _excesses(key: PRNGKeyArray, target: Law, laws: Any, samples: int, weights: Float[Array, " K"]) -> tuple[Float[Array, " n"], ...]:
    """Surprises in excess of the target's, at its draws: of the members on average, of the best, of the linear pool, and the first less the third."""
    x = target.sample(key, samples)
    surprise, members = jax.vmap(target._log_prob)(x), _log_probs(laws, x)
    average, pooled = surprise - _weighted(members, weights), surprise - _linear(members, weights)
    return average, surprise - members[jnp.argmax(jnp.mean(members, axis=1))], pooled, average - pooled


def _log_probs(laws: Any, x: Float[Array, "n d"]) -> Float[Array, "K n"]:
    return eqx.filter_vmap(lambda law: jax.vmap(law._log_prob)(x))(laws)


@eqx.filter_jit
def _ratios(key: PRNGKeyArray, laws: Any, samples: int, weights: Float[Array, " K"]) -> Float[Array, " n"]:
    """Of the densities of the log pool, not normalised, and the linear pool: averages over one draw of each member."""
    x = eqx.filter_vmap(lambda law, k: law.sample(k, samples))(laws, jax.random.split(key, len(weights)))
    members = _log_probs(laws, x.reshape(-1, x.shape[-1]))
    return weights @ jnp.exp(_weighted(members, weights) - _linear(members, weights)).reshape(x.shape[:2])


def _linear(members: Float[Array, "K n"], weights: Float[Array, " K"]) -> Float[Array, " n"]:
    return jax.nn.logsumexp(members, axis=0, b=weights[:, None])


def _weighted(members: Float[Array, "K n"], weights: Float[Array, " K"]) -> Float[Array, " n"]:
    return jnp.sum(jnp.where(weights[:, None] > 0, weights[:, None] * members, 0.0), axis=0)
