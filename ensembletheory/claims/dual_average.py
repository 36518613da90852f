r"""A claim about classifiers that are averaged in the dual space of the logarithmic loss, where an average moves no bias.

A classifier drawn at random predicts q = softmax(z). For the logarithmic loss its *central prediction* is the dual mean q* = softmax(E z) (the normalised geometric mean),
and for a target y

    E KL(y || q) = KL(y || q*) + E KL(q* || q)          [bias + variance],

because log q - log q* is E log q - log q* = -E KL(q* || q) on average, the same for all classes. The dual average of two independent classifiers, softmax((z_1 + z_2)/2), has
the same E z: its bias is unchanged, and its variance falls, KL(q* || softmax(z)) being convex in z. The average of probabilities, (q_1 + q_2)/2, has another central
prediction, and its bias may fall or rise.

The classifiers of the domain are three vectors of logits, drawn with given probabilities; their pairs are enumerated.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import real, simplex
from ensembletheory.estimate import Estimate, closed_form

__all__ = ["dual_average_keeps_bias"]

CLASSIFIERS = Domain(
    logits=real(-3, 3, shape=(3, 3)),
    masses=simplex(3),
    target=real(-3, 3, shape=(3,)),
)


def _kl(log_p: Float[Array, " C"], log_q: Float[Array, " C"]) -> Float[Array, ""]:
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q))


def _bias_and_variance(target: Float[Array, " C"], masses: Float[Array, " n"], log_q: Float[Array, "n C"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """KL(y || q*) and E KL(q* || q) of a classifier that predicts exp(log_q[i]) with probability masses[i]."""
    central = jax.nn.log_softmax(masses @ log_q)
    return _kl(target, central), masses @ jax.vmap(lambda row: _kl(central, row))(log_q)


def _pairs(masses: Float[Array, " n"], values: Float[Array, "n C"]) -> tuple[Float[Array, " m"], Float[Array, "m C"]]:
    """Probabilities of all ordered pairs, and the averages of their values."""
    both = (values[:, None, :] + values[None, :, :]) / 2
    return jnp.outer(masses, masses).ravel(), both.reshape(-1, values.shape[1])


def _margin(logits, masses, target, averaged) -> Estimate:
    """The fall of the variance, or minus the move of the bias, whichever is less."""
    truth, log_q = jax.nn.log_softmax(target), jax.nn.log_softmax(logits)
    bias, variance = _bias_and_variance(truth, masses, log_q)
    pair_bias, pair_variance = _bias_and_variance(truth, *averaged(masses, log_q))
    return closed_form(jnp.minimum(variance - pair_variance, -jnp.abs(bias - pair_bias)))


def _dual(masses, log_q):
    pair_masses, means = _pairs(masses, log_q)
    return pair_masses, jax.nn.log_softmax(means)


def _primal(masses, log_q):
    pair_masses, means = _pairs(masses, jnp.exp(log_q))
    return pair_masses, jnp.log(means)


def _equal_classifiers() -> Iterator[dict[str, Any]]:
    for logits in ([0.0, 0.0, 0.0], [1.0, -2.0, 0.5]):
        yield {"logits": [logits] * 3, "masses": [0.2, 0.3, 0.5], "target": [2.0, 0.0, -1.0]}


def _primal_average(logits, masses, target) -> Estimate:
    return _margin(logits, masses, target, _primal)


def _arithmetic_centre(logits, masses, target) -> Estimate:
    truth, log_q = jax.nn.log_softmax(target), jax.nn.log_softmax(logits)
    pair_masses, pairs = _dual(masses, log_q)
    one, two = (_kl(truth, jnp.log(mass @ jnp.exp(predictions))) for mass, predictions in ((masses, log_q), (pair_masses, pairs)))
    return closed_form(-jnp.abs(one - two))


@claim(
    id="dual-average-keeps-bias",
    statement=r"\mathrm{KL}(y \,\|\, q_2^*) = \mathrm{KL}(y \,\|\, q_1^*), \; E\, \mathrm{KL}(q_2^* \,\|\, Q_2) \leq E\, \mathrm{KL}(q_1^* \,\|\, Q_1), \; "
    r"Q_2 \propto \sqrt{Q_1 \, Q_1'}, \; q_K^* \propto \exp(E \log Q_K)",
    source="Gupta, Smith, Adlam & Mariet (2022), for the logarithmic loss",
    domain=CLASSIFIERS,
    kind="theorem",
    references=["gupta2022ensembling", "mattei2025ensembles"],
    equality=_equal_classifiers,
    mutants={
        "primal-average": Mutant("the dual average: the arithmetic mean of the probabilities, instead", _primal_average),
        "arithmetic-centre": Mutant("the dual centre: the bias of the arithmetic mean of the predictions, instead", _arithmetic_centre),
    },
    proof="Both averages have the same expected logits up to a constant; KL(q* || softmax(z)) is convex in z.",
)
def dual_average_keeps_bias(logits, masses, target) -> Estimate:
    """The fall of the variance, or minus the move of the bias, of the dual average of two classifiers."""
    return _margin(logits, masses, target, _dual)
