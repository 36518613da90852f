r"""Pools of classifiers: K members give the classes of one input the probabilities p_k(c), and one law of the classes is made of them.

| pool    | p(c)                                                    | -log p(y)                                                             |
|---------|---------------------------------------------------------|-----------------------------------------------------------------------|
| linear  | sum_k w_k p_k(c)                                        | the members' average less a gain >= 0 that depends on y (Jensen)      |
| log     | prod_k p_k(c)^{w_k} / Z                                 | the members' average less -log Z >= 0, the same for every y (Hoelder) |
| vote    | weight of the members whose largest probability is at c | may be above the members' average, or infinite                        |

So the log pool gains the same under every law of labels: -log Z = sum_k w_k KL(p || p_k), with p the pool itself. `gains.jensen_gap` and
`gains.bregman_ambiguity(simplex, ...)` give each term of these identities.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.laws.weights import checked_weights

__all__ = ["linear_pool_of_classes", "log_pool_of_classes", "votes_for_classes"]


def linear_pool_of_classes(log_probs: Numbers, weights: Numbers | None = None) -> Float[Array, "... C"]:
    """Log-probabilities of the average of the members' probabilities.

    Args:
        log_probs: (K, ..., C) of the members; -inf is refused, as all that is not finite.
        weights: (K,) on the simplex (default equal).

    Raises:
        ValueError: if there is no member, or the weights are off the simplex.
    """
    return _linear(*_members(log_probs, weights))


def log_pool_of_classes(log_probs: Numbers, weights: Numbers | None = None) -> Float[Array, "... C"]:
    """Log-probabilities of the normalised geometric mean of the members' probabilities; arguments as `linear_pool_of_classes`.

    Raises:
        ValueError: if there is no member, or the weights are off the simplex.
    """
    return _log(*_members(log_probs, weights))


def votes_for_classes(log_probs: Numbers, weights: Numbers | None = None) -> Float[Array, "... C"]:
    """The weight of the members that hold each class for the most likely (the first of several); arguments as `linear_pool_of_classes`.

    Raises:
        ValueError: if there is no member, or the weights are off the simplex.
    """
    return _votes(*_members(log_probs, weights))


def _members(log_probs: Numbers, weights: Numbers | None) -> tuple[Float[Array, "K ... C"], Float[Array, " K"]]:
    array = as_floats("log_probs", log_probs)
    if array.ndim < 2 or 0 in array.shape:
        refuse("log_probs", f"shape {array.shape}", "(K, ..., C) with K, C >= 1", "The first axis counts the members, the last the classes.")
    return array, checked_weights(weights, len(array))


@eqx.filter_jit
def _linear(log_probs: Float[Array, "K ... C"], weights: Float[Array, " K"]) -> Float[Array, "... C"]:
    return logsumexp(log_probs, axis=0, b=jnp.broadcast_to(weights.reshape(-1, *[1] * (log_probs.ndim - 1)), log_probs.shape))


@eqx.filter_jit
def _log(log_probs: Float[Array, "K ... C"], weights: Float[Array, " K"]) -> Float[Array, "... C"]:
    return jax.nn.log_softmax(jnp.tensordot(weights, log_probs, 1))


@eqx.filter_jit
def _votes(log_probs: Float[Array, "K ... C"], weights: Float[Array, " K"]) -> Float[Array, "... C"]:
    return jnp.tensordot(weights, jax.nn.one_hot(jnp.argmax(log_probs, axis=-1), log_probs.shape[-1], dtype=weights.dtype), 1)
