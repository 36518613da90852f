r"""Claims about averages of the weights of networks, which are not the averages of their functions.

Networks of two tanh units on the line, F(x) = v_1 tanh(w_1 x) + v_2 tanh(w_2 x), say at once what holds and what does not. Along the segment of weights, s in [0, 1],

    d^2 F / ds^2 = sum_j 2 dv_j dw_j x tanh'(w_j x) + v_j (dw_j x)^2 tanh''(w_j x),      |tanh'| <= 1,  |tanh''| <= 4 / (3 sqrt 3),

which bounds how far averaged weights are from averaged functions (`ensembletheory.neural.weights.barriers`). For a convex loss averaged functions lose at most what their
members lose on average; averaged weights may lose more, also when signs and labels of the units are matched first.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import real
from ensembletheory.estimate import Estimate, closed_form

__all__ = ["averaged_weights_gap", "matched_weights_gain"]

BEND = 4 / (3 * np.sqrt(3))  # the largest |tanh''|
WEIGHTS = real(-3, 3, shape=(2,))
ENDS = Domain(incoming=WEIGHTS, outgoing=WEIGHTS, other_incoming=WEIGHTS, other_outgoing=WEIGHTS, t=real(0, 1), x=real(-2, 2))
UNITS = Domain(first=real(-4, 4, shape=(2,)), second=real(-4, 4, shape=(2,)), target=real(-4, 4))


def _slack(incoming, outgoing, other_incoming, other_outgoing, t, x, activation=jnp.tanh, bend=BEND, constant=0.5) -> Estimate:
    w, v = (1 - t) * incoming + t * other_incoming, (1 - t) * outgoing + t * other_outgoing
    members = (1 - t) * outgoing * activation(incoming * x) + t * other_outgoing * activation(other_incoming * x)
    dw, dv = jnp.abs((other_incoming - incoming) * x), jnp.abs(other_outgoing - outgoing)
    bound = 2 * dv * dw + bend * jnp.maximum(jnp.abs(outgoing), jnp.abs(other_outgoing)) * dw**2
    return closed_form(constant * t * (1 - t) * jnp.sum(bound) - jnp.abs(jnp.sum(v * activation(w * x) - members)))


def _smaller_constant(**instance) -> Estimate:
    return _slack(**instance, constant=0.4)


def _kinks(**instance) -> Estimate:
    return _slack(**instance, activation=jax.nn.relu, bend=0.0)


def _equal_incoming_weights() -> Iterator[dict[str, Any]]:
    for t, x in ((0.5, 1.0), (0.2, -1.5), (0.9, 2.0)):
        yield {"incoming": [1.0, -2.0], "outgoing": [2.0, 0.5], "other_incoming": [1.0, -2.0], "other_outgoing": [-1.0, 3.0], "t": t, "x": x}


@claim(
    id="averaged-weights-gap",
    statement=r"|F_{(1-t) a + t b} - (1-t) F_a - t F_b| \leq \frac{t (1-t)}{2} \sum_j 2 |\Delta v_j \Delta w_j x| + \frac{4}{3 \sqrt{3}} \max |v_j| \, (\Delta w_j x)^2, "
    r"\quad F(x) = \sum_j v_j \tanh(w_j x)",
    source="derived here: the error of linear interpolation along the segment of weights of Frankle et al. (2020)",
    domain=ENDS,
    kind="theorem",
    references=["frankle2020linear", "ainsworth2023git"],
    equality=_equal_incoming_weights,
    mutants={
        "smaller-constant": Mutant("the constant: 0.4 instead of 1 / 2", _smaller_constant),
        "kinks": Mutant("an activation that is twice differentiable: ReLU, whose second derivative is 0 wherever it has one, instead", _kinks),
    },
    proof="f(t) - (1-t) f(0) - t f(1) is minus the integral of Green's function, of integral t (1-t) / 2, times f''.",
)
def averaged_weights_gap(incoming, outgoing, other_incoming, other_outgoing, t, x) -> Estimate:
    """The bound by second derivatives, less the distance of averaged weights from averaged functions."""
    return _slack(incoming, outgoing, other_incoming, other_outgoing, t, x)


def _unit(weights: Float[Array, "2"]) -> Float[Array, ""]:
    """The function v tanh(w x) at x = 1."""
    return weights[1] * jnp.tanh(weights[0])


@claim(
    id="matched-weights-gain",
    statement=r"(F_{(a + g b)/2} - y)^2 \leq \frac{1}{2} (F_a - y)^2 + \frac{1}{2} (F_b - y)^2, \quad F_{(w,v)} = v \, \tanh(w), \; g = \pm 1 \ \mathrm{nearest\ to}\ a",
    source="the analogue for averages of matched weights of what Jensen's inequality says of averages of functions; refuted here",
    domain=UNITS,
    kind="refuted",
    references=["ainsworth2023git"],
    proof="A unit without an outgoing weight and one without an incoming weight are both the function 0; the unit of their average weights is not.",
)
def matched_weights_gain(first, second, target) -> Estimate:
    """The members' average squared error, less that of the average of matched weights."""
    matched = jnp.where(first @ second < 0, -second, second)
    losses = [(_unit(weights) - target) ** 2 for weights in (first, second, (first + matched) / 2)]
    return closed_form((losses[0] + losses[1]) / 2 - losses[2])
