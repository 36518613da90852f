r"""The gain of pooling trained laws with densities, measured: linear pool and log pool of a stack of K laws, in any dimension.

With x ~ p drawn once and shared, and q_k the members,

    linear pool   gain = E_p [ log sum_k w_k q_k - sum_k w_k log q_k ]     (a mean of differences that are never negative, by Jensen)
    log pool      gain = -log Z,   Z = int prod_k q_k^{w_k}                (whatever the target: Heskes 1998).

Z is the mean under the linear pool of the ratio prod_k q_k^{w_k} / sum_k w_k q_k, which lies between 0 and 1: its standard error is at most 1 / (2 sqrt n), in any dimension.
One draw is taken of each member, and their ratios averaged with the weights. The standard error of log Z is that of Z over Z, which grows without bound as members move
apart (Z = exp(-D^2 / 8) for N(0, 1) and N(D, 1), and what lies between them is hardly ever drawn). A few draws then rule the mean, and their spread says nothing of what was
not drawn: above one tenth the number is refused. Below, the bias of log Z, half the square of that error, is at most a twentieth of it.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.fields import is_stack
from ensembletheory.gains import Gain
from ensembletheory.laws import FiniteLaw, Law
from ensembletheory.laws.gaussian import is_singular
from ensembletheory.laws.weights import checked_weights
from ensembletheory.neural.stacks import count, member
from ensembletheory.precision import require_x64

__all__ = ["sampled_law_gain", "sampled_log_normaliser"]

_LARGEST = 0.1  # relative error of Z at which the error of log Z still means something


def sampled_law_gain(key: PRNGKeyArray, target: Law, laws: Any, samples: int, rule: Literal["linear", "log"] = "linear", weights: Numbers | None = None) -> Gain:
    """The gain in KL from `target` of pooling a stack of K laws with densities, by Monte Carlo; its diversity term is the gain itself.

    The best member is chosen on the draws that measure it: its divergence is a little too low, by about the standard errors of differences between members.

    Args:
        key: of all draws.
        target: the law p, with a density.
        laws: a stack of laws, trained or exact.
        samples: number of draws from the target, and for the log pool of each member; at least 2.
        rule: "linear" or "log".
        weights: (K,) on the simplex; default equal.

    Raises:
        RuntimeError: in 32-bit mode.
        ValueError: if the rule is unknown, weights are off the simplex, the target has no density, the laws are no stack or of another dimension, or samples are too few.
    """
    require_x64("sampled_law_gain")
    if rule not in ("linear", "log"):
        refuse("rule", repr(rule), "'linear' or 'log'", "Other pools have no density to evaluate.")
    if isinstance(target, FiniteLaw) or is_singular(target):
        refuse("target", f"{type(target).__name__} without a density", "a law with a density", "Its divergence from laws with densities is infinite.")
    _require_laws(laws, target.dim)
    weights, (key_target, key_members) = checked_weights(weights, count(laws)), jax.random.split(key)
    average, best, pooled, difference = (monte_carlo(draws) for draws in _excesses(key_target, target, laws, samples, weights))
    if rule == "linear":
        return Gain(average, best, pooled, difference, difference)
    gain = -sampled_log_normaliser(key_members, laws, samples, weights)
    return Gain(average, best, average - gain, gain, gain)


def sampled_log_normaliser(key: PRNGKeyArray, laws: Any, samples: int, weights: Numbers | None = None) -> Estimate:
    """Log Z of the log pool of a stack of laws, by `samples` draws of each.

    Raises:
        ValueError: if the laws are no stack, weights are off the simplex, or the samples are too few for members as far apart as these.
    """
    _require_laws(laws)
    weights = checked_weights(weights, count(laws))
    logs = _log_ratios(key, laws, samples, weights)
    log_Z = jax.nn.logsumexp(logs) - jnp.log(float(samples))
    error = monte_carlo(jnp.exp(logs - log_Z)).error
    if is_concrete(error) and not error <= _LARGEST:
        got = f"{samples}, of which few say all: the relative error of Z is {float(error):.2g}"
        refuse("samples", got, f"so many that it is at most {_LARGEST}", "Draw more, or take a closed form: members far apart share hardly any mass.")
    return Estimate(log_Z, error, "monte_carlo")


def _require_laws(laws: Any, dim: int | None = None) -> None:
    """Refuse what is no stack of laws, on R^dim where that is given."""
    found = _dim(laws)
    if found is None:
        refuse("laws", f"one {type(laws).__name__}", "a stack of laws", "Pass neural.stack([law, ...]).")
    if dim not in (None, found):
        refuse("laws", f"dimension {found}", f"that of the target, {dim}", "Members and target live on the same space.")


def _dim(laws: Any) -> int | None:
    """The dimension of the members of a stack of laws; None of what is no stack."""
    if not (isinstance(laws, Law) and is_stack(laws)):
        return None
    try:
        dim = member(laws, 0).dim
        eqx.filter_eval_shape(_log_probs, laws, jnp.zeros((1, dim)))
    except (IndexError, TypeError, ValueError):  # of one law whose arrays happen to be of equal length
        return None
    return dim


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
def _log_ratios(key: PRNGKeyArray, laws: Any, samples: int, weights: Float[Array, " K"]) -> Float[Array, " n"]:
    """Of the densities of the log pool, not normalised, and the linear pool: logarithms of averages over one draw of each member."""
    x = eqx.filter_vmap(lambda law, k: law.sample(k, samples))(laws, jax.random.split(key, len(weights)))
    members = _log_probs(laws, x.reshape(-1, x.shape[-1]))
    return _linear((_weighted(members, weights) - _linear(members, weights)).reshape(x.shape[:2]), weights)


def _linear(members: Float[Array, "K n"], weights: Float[Array, " K"]) -> Float[Array, " n"]:
    return jax.nn.logsumexp(members, axis=0, b=weights[:, None])


def _weighted(members: Float[Array, "K n"], weights: Float[Array, " K"]) -> Float[Array, " n"]:
    return jnp.sum(jnp.where(weights[:, None] > 0, weights[:, None] * members, 0.0), axis=0)
