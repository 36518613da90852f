r"""Claims about the loss of an average of predictions as the ensemble grows: convex losses, the converse, and votes.

*Convex losses.* The mean of K + 1 predictions is the average of its K + 1 leave-one-out means, so a convex loss of it is at most the average of their losses. For
exchangeable members expectations then give E l(mean_{K+1}) <= E l(mean_K). The margin is this deterministic form from 2 to 3 members, for the squared error, the
pinball loss and the logarithmic loss of the probability that is given to the truth.

*Converse.* Under the two-point law P(X = a) = p = 1 - P(X = b), a second member gains p (1 - p) times the second difference of the loss, whatever the loss: where
that is negative, it harms. The margin is minus the distance between the two sides.

*Votes.* An error is not convex, but for Gaussian votes and for juries of exchangeable voters of two classes every further member (every further pair, since a split jury
tosses a coin) helps where the expected vote is right, and harms where it is wrong. This holds from the first member on, which other laws of the votes do not share.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.supervised import correlated_majority_vote_error, exponential_tail, gaussian_vote_error, second_member_gain

__all__ = ["mattei_garreau_convex", "mattei_garreau_converse", "mattei_garreau_votes"]

SIZES = (1, 2, 3, 5, 9)
ODD_SIZES = (1, 3, 5, 9)

PREDICTIONS = Domain(
    predictions=real(-3, 3, shape=(3,)),
    target=real(-3, 3),
    level=real(0, 1),
    probabilities=positive(0.01, 1, shape=(3,)),
)
LOSSES = Domain(
    points=real(-3, 3, shape=(2,)),
    probability=real(0, 1),
    square=real(-2, 2),
    cube=real(-1, 1),
    width=positive(0.3, 3),
)
VOTES = Domain(
    mean=real(-2, 2),
    sd=positive(0.2, 5),
    threshold=real(-2, 2),
    accuracy=real(0, 1),
    correlation=real(0, 1),
)


def _leave_one_out(x: Float[Array, " K"]) -> Float[Array, " K"]:
    return (jnp.sum(x) - x) / (x.shape[0] - 1)


def _gain(loss, x: Float[Array, " K"]) -> Float[Array, ""]:
    """Average loss of the leave-one-out means minus the loss of the mean."""
    return jnp.mean(loss(_leave_one_out(x))) - loss(jnp.mean(x))


def _pinball(level):
    return lambda d: jnp.maximum(level * d, (level - 1) * d)


def _equal_predictions() -> Iterator[dict[str, Any]]:
    for prediction, target, level, probability in ((0.0, 1.0, 0.5, 0.2), (-1.5, 0.5, 0.1, 1.0), (2.0, 2.0, 0.9, 0.01)):
        yield {"predictions": [prediction] * 3, "target": target, "level": level, "probabilities": [probability] * 3}


def _welsch(predictions, target, level, probabilities) -> Estimate:
    return closed_form(_gain(lambda d: -jnp.expm1(-(d**2) / 2), target - predictions))


def _fixed_pair(predictions, target, level, probabilities) -> Estimate:
    return closed_form((target - jnp.mean(predictions[:2])) ** 2 - (target - jnp.mean(predictions)) ** 2)


@claim(
    id="mattei-garreau-convex",
    statement=r"\ell(\bar x_{K+1}) \leq \frac{1}{K+1} \sum_k \ell(\bar x_{-k}), \quad \ell \; \mathrm{convex}; \quad "
    r"\mathrm{hence} \; E\, \ell(\bar X_{K+1}) \leq E\, \ell(\bar X_K)",
    source="Mattei & Garreau (2025), convex losses; the deterministic form is derived here",
    domain=PREDICTIONS,
    kind="theorem",
    references=["mattei2025ensembles"],
    equality=_equal_predictions,
    mutants={
        "welsch-loss": Mutant("the convexity of the loss: Welsch's bounded one, instead", _welsch),
        "fixed-pair": Mutant("the average over all pairs: always the first two members, instead", _fixed_pair),
    },
    proof="The mean of all members is the average of the leave-one-out means; Jensen's inequality.",
)
def mattei_garreau_convex(predictions, target, level, probabilities) -> Estimate:
    """The least of the gains of a third member in squared error, pinball loss and logarithmic loss."""
    errors = target - predictions
    gains = [_gain(jnp.square, errors), _gain(_pinball(level), errors), _gain(lambda q: -jnp.log(q), probabilities)]
    return closed_form(jnp.min(jnp.stack(gains)))


def _loss(square, cube, width):
    """A loss that is convex nowhere, somewhere or everywhere, as its parameters say."""
    return lambda d: square * d**2 + cube * d**3 - jnp.expm1(-(d**2) / (2 * width**2))


def _expected(loss, points, probability, members: int) -> Float[Array, ""]:
    """E l(mean of `members` independent draws), by enumeration of all outcomes."""
    masses = (probability, 1 - probability)
    terms = []
    for outcome in product((0, 1), repeat=members):
        mass = jnp.prod(jnp.stack([masses[i] for i in outcome]))
        terms.append(mass * loss(sum(points[i] for i in outcome) / members))
    return jnp.sum(jnp.stack(terms))


def _members_gain(points, probability, square, cube, width, members: int) -> Float[Array, ""]:
    loss = _loss(square, cube, width)
    return _expected(loss, points, probability, 1) - _expected(loss, points, probability, members)


def _second_difference(points, probability, square, cube, width) -> Float[Array, ""]:
    return second_member_gain(_loss(square, cube, width), points[0], points[1], probability)


def _three_members(points, probability, square, cube, width) -> Estimate:
    gain = _members_gain(points, probability, square, cube, width, 3)
    return closed_form(-jnp.abs(gain - _second_difference(points, probability, square, cube, width)))


def _one_quarter(points, probability, square, cube, width) -> Estimate:
    gain = _members_gain(points, probability, square, cube, width, 2)
    return closed_form(-jnp.abs(gain - _second_difference(points, jnp.asarray(0.5), square, cube, width)))


def _two_point_laws() -> Iterator[dict[str, Any]]:
    for points, probability, square in (([-1.0, 2.0], 0.5, 0.0), ([0.5, 3.0], 0.2, -1.0), ([1.0, 1.0], 0.7, 2.0)):
        yield {"points": points, "probability": probability, "square": square, "cube": 0.5, "width": 1.0}


@claim(
    id="mattei-garreau-converse",
    statement=r"E\, \ell(X_1) - E\, \ell(\frac{X_1 + X_2}{2}) = p (1 - p) (\ell(a) - 2 \ell(\frac{a + b}{2}) + \ell(b)), \quad P(X_k = a) = p = 1 - P(X_k = b)",
    source="Mattei & Garreau (2025), the converse; the identity, by which a loss that is not midpoint convex has a harmful second member, is derived here",
    domain=LOSSES,
    kind="theorem",
    references=["mattei2025ensembles"],
    equality=_two_point_laws,
    mutants={
        "three-members": Mutant("the number of members: three, instead of two", _three_members),
        "one-quarter": Mutant("the constant: 1/4 for every p", _one_quarter),
    },
    proof="Enumerate the four pairs: p l(a) + (1 - p) l(b) - p^2 l(a) - 2 p (1 - p) l((a + b)/2) - (1 - p)^2 l(b).",
)
def mattei_garreau_converse(points, probability, square, cube, width) -> Estimate:
    """Minus the distance between the gain of a second member, by enumeration, and p (1 - p) times the second difference of the loss."""
    gain = _members_gain(points, probability, square, cube, width, 2)
    return closed_form(-jnp.abs(gain - _second_difference(points, probability, square, cube, width)))


def _falls(errors: Float[Array, " n"]) -> Float[Array, " m"]:
    return errors[:-1] - errors[1:]


def _on_the_threshold() -> Iterator[dict[str, Any]]:
    for mean, sd, correlation in ((0.0, 1.0, 0.0), (1.5, 0.3, 0.4), (-1.0, 2.0, 1.0)):
        yield {"mean": mean, "sd": sd, "threshold": mean, "accuracy": 0.5, "correlation": correlation}


def _exponential(mean, sd, threshold, accuracy, correlation) -> Estimate:
    return closed_form(jnp.min((mean - threshold) * _falls(exponential_tail(SIZES, mean, threshold))))


def _splits_are_errors(mean, sd, threshold, accuracy, correlation) -> Estimate:
    return closed_form(jnp.min((accuracy - 0.5) * _falls(correlated_majority_vote_error(SIZES, accuracy, correlation, split=1.0))))


@claim(
    id="mattei-garreau-votes",
    statement=r"(E X - t) \, (P(\bar X_K < t) - P(\bar X_{K'} < t)) \geq 0, \; K < K', \quad X_k \; \mathrm{Gaussian, \; or \; votes \; of \; a \; jury, \;} "
    r"t = \frac{1}{2}, \; K, K' \; \mathrm{odd}",
    source="the classification case of Mattei & Garreau (2025), for two laws of the votes where it holds from the first member on; derived here",
    domain=VOTES,
    kind="theorem",
    references=["mattei2025ensembles"],
    equality=_on_the_threshold,
    mutants={
        "exponential-members": Mutant("the law of the votes: exponential ones, instead", _exponential, VOTES.replace(mean=positive(0.1, 5), threshold=positive(0.1, 5))),
        "splits-are-errors": Mutant("odd juries: sizes of both kinds, a split counting as an error", _splits_are_errors),
    },
    proof="Phi((t - mu)/sd_K) with sd_K falling; for juries the increment is a positive multiple of 2p - 1, from which a split pair of voters decides.",
)
def mattei_garreau_votes(mean, sd, threshold, accuracy, correlation) -> Estimate:
    """The least product of a fall of the error with the excess of the expected vote, over sizes up to 9, for Gaussian votes and for a correlated jury."""
    gaussian = (mean - threshold) * _falls(gaussian_vote_error(SIZES, mean, sd, threshold, correlation))
    jury = (accuracy - 0.5) * _falls(correlated_majority_vote_error(ODD_SIZES, accuracy, correlation))
    return closed_form(jnp.minimum(jnp.min(gaussian), jnp.min(jury)))
