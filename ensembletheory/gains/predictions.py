r"""Decompositions of the error of combined predictions: one target y, members' predictions q_k, weights w_k on the simplex. All are exact for each target.

- Jensen: for a convex loss l of the prediction and q = sum_k w_k q_k,
      l(q) = sum_k w_k l(q_k) - sum_k w_k [ l(q_k) - l(q) - <grad l(q), q_k - q> ],
  every term of the gap being >= 0: how far the members lie above the tangent at their mean.
- Krogh & Vedelsby (1995), the ambiguity decomposition of the squared error: |y - q|^2 = sum_k w_k |y - q_k|^2 - sum_k w_k |q_k - q|^2.
- Bregman (Wood et al. 2023): for the centroid combiner q (see `bregman`), B(y, q) = sum_k w_k B(y, q_k) - sum_k w_k B(q, q_k).
- Bias, variance, diversity (Wood et al. 2023): over a random outcome Y and, independent of it, random members q_1 .. q_K (trained on random data),
      E B(Y, q) = E B(Y, EY)  +  sum_k w_k B(EY, q_k*)  +  sum_k w_k E B(q_k*, q_k)  -  E sum_k w_k B(q, q_k),
                    noise          bias                       variance                    diversity
  with q_k* = inverse(E grad phi(q_k)), the centroid of member k over its randomness. Exact for every finite law of outcomes and of trials.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.gains.bregman import Bregman
from ensembletheory.gains.decomposition import Decomposition, checked_predictions, terms_of
from ensembletheory.laws.weights import checked_weights

__all__ = ["BiasVarianceDiversity", "bias_variance_diversity", "bregman_ambiguity", "jensen_gap", "krogh_vedelsby"]

_PREDICTIONS = "(K, c) with K, c >= 1"


class BiasVarianceDiversity(eqx.Module):
    """`ensemble` = `noise` + `bias` + `variance` - `diversity`; see the module."""

    noise: Estimate
    bias: Estimate
    variance: Estimate
    diversity: Estimate
    ensemble: Estimate

    @property
    def residual(self) -> Estimate:
        """`noise` + `bias` + `variance` - `diversity` - `ensemble`: zero up to rounding."""
        return self.noise + self.bias + self.variance - self.diversity - self.ensemble

    def __str__(self) -> str:
        return terms_of(self)


def jensen_gap(loss: Callable[[Float[Array, " c"]], Float[Array, ""]], predictions: Numbers, weights: Numbers | None = None) -> Decomposition:
    """The loss of the averaged prediction, the members' average loss, and the Jensen gap between them.

    Args:
        loss: of one prediction (c,), differentiable at the average; convex if the gap is to be >= 0.
        predictions: (K, c), one row a member.
        weights: on the simplex; default equal.

    Raises:
        ValueError: if the predictions are not (K, c), or the weights are off the simplex.
    """
    array, weights = checked_predictions(predictions, weights, 2, _PREDICTIONS)
    return Decomposition(*map(closed_form, _jensen(loss, array, weights)))


@eqx.filter_jit
def _jensen(loss, predictions: Float[Array, "K c"], weights: Float[Array, " K"]):
    mean = weights @ predictions
    at_mean, slope = jax.value_and_grad(loss)(mean)
    losses = jax.vmap(loss)(predictions)
    return weights @ losses, weights @ (losses - at_mean - (predictions - mean[None, :]) @ slope), at_mean


def krogh_vedelsby(target: Numbers, predictions: Numbers, weights: Numbers | None = None) -> Decomposition:
    """The squared error of the averaged prediction: the members' average less their ambiguity, which does not depend on the target.

    Args:
        target: (c,).
        predictions: (K, c), one row a member.
        weights: on the simplex; default equal.

    Raises:
        ValueError: if the shapes do not agree, or the weights are off the simplex.
    """
    array, weights = checked_predictions(predictions, weights, 2, _PREDICTIONS)
    return Decomposition(*map(closed_form, _ambiguity(_checked_target(target, array), array, weights)))


@eqx.filter_jit
def _ambiguity(y: Float[Array, " c"], predictions: Float[Array, "K c"], weights: Float[Array, " K"]):
    mean = weights @ predictions

    def spread(centre):
        return weights @ jnp.sum((predictions - centre[None, :]) ** 2, axis=1)

    return spread(y), spread(mean), jnp.sum((y - mean) ** 2)


def bregman_ambiguity(generator: Bregman, target: Numbers, predictions: Numbers, weights: Numbers | None = None) -> Decomposition:
    """The Bregman divergence from the target to the centroid: the members' average less their ambiguity, which does not depend on the target.

    Args:
        generator: one of `ensembletheory.gains.bregman`, or one's own.
        target: (c,).
        predictions: (K, c), one row a member, inside the domain of the generator.
        weights: on the simplex; default equal.

    Raises:
        ValueError: if the shapes do not agree, or the weights are off the simplex.
    """
    array, weights = checked_predictions(predictions, weights, 2, _PREDICTIONS)
    return Decomposition(*map(closed_form, _bregman(generator, _checked_target(target, array), array, weights)))


@eqx.filter_jit
def _bregman(generator: Bregman, y: Float[Array, " c"], predictions: Float[Array, "K c"], weights: Float[Array, " K"]):
    centroid = generator.centroid(weights, predictions)

    def spread(centre):
        return weights @ jax.vmap(lambda q: generator.divergence(centre, q))(predictions)

    return spread(y), spread(centroid), generator.divergence(y, centroid)


def bias_variance_diversity(
    generator: Bregman,
    outcomes: Numbers,
    predictions: Numbers,
    weights: Numbers | None = None,
    outcome_weights: Numbers | None = None,
    trial_weights: Numbers | None = None,
) -> BiasVarianceDiversity:
    """The expected divergence of the centroid combiner in noise, bias, variance and diversity, exact for the given finite laws.

    Args:
        generator: one of `ensembletheory.gains.bregman`, or one's own.
        outcomes: (M, c), the values of Y.
        predictions: (T, K, c): in each of T trials the members' predictions, inside the domain of the generator; independent of Y.
        weights: of the members, on the simplex; default equal.
        outcome_weights: probabilities (M,) of the outcomes; default equal.
        trial_weights: probabilities (T,) of the trials; default equal.

    Raises:
        ValueError: if the shapes do not agree, or weights are off the simplex.
    """
    array, weights = checked_predictions(predictions, weights, 3, "(T, K, c) with T, K, c >= 1")
    values = as_floats("outcomes", outcomes)
    if values.ndim != 2 or values.shape[1] != array.shape[2] or not len(values):
        refuse("outcomes", f"shape {values.shape}", f"(M, {array.shape[2]})", "One row an outcome, with as many coordinates as a prediction.")
    chances, trials = checked_weights(outcome_weights, len(values)), checked_weights(trial_weights, len(array))
    return BiasVarianceDiversity(*map(closed_form, _terms(generator, values, array, weights, chances, trials)))


@eqx.filter_jit
def _terms(
    generator: Bregman,
    outcomes: Float[Array, "M c"],
    predictions: Float[Array, "T K c"],
    weights: Float[Array, " K"],
    chances: Float[Array, " M"],
    trials: Float[Array, " T"],
):
    divergence = generator.divergence
    mean = chances @ outcomes
    combined = jax.vmap(lambda members: generator.centroid(weights, members))(predictions)
    centres = jax.vmap(lambda member: generator.centroid(trials, member), in_axes=1)(predictions)
    noise = chances @ jax.vmap(lambda y: divergence(y, mean))(outcomes)
    bias = weights @ jax.vmap(lambda centre: divergence(mean, centre))(centres)
    variance = trials @ jax.vmap(jax.vmap(divergence))(jnp.broadcast_to(centres[None], predictions.shape), predictions) @ weights
    diversity = trials @ jax.vmap(lambda centre, members: weights @ jax.vmap(lambda q: divergence(centre, q))(members))(combined, predictions)
    ensemble = chances @ jax.vmap(lambda y: trials @ jax.vmap(lambda q: divergence(y, q))(combined))(outcomes)
    return noise, bias, variance, diversity, ensemble


def _checked_target(target: Numbers, predictions: Float[Array, "K c"]) -> Float[Array, " c"]:
    y = as_floats("target", target)
    if y.shape != predictions.shape[1:]:
        refuse("target", f"shape {y.shape}", f"{predictions.shape[1:]}", "The target has the coordinates of one prediction.")
    return y
