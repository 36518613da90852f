r"""Several inputs, one trunk, several heads: M predictors in one network (MIMO and MixMo).

Slot k has its own first layer c_k; what these make of M inputs is mixed unit by unit by masks m_k >= 0 with sum_k m_k = 1 and goes through one trunk to M heads,

    h = M sum_k m_k * c_k(x_k),      prediction i = head_i(trunk(f(h))).

In training every slot has an input and a target of its own, drawn independently, and the loss is

    E sum_i r_i l(prediction i, y_i),      r_i = M lambda_i^{1/q} / sum_j lambda_j^{1/q},

with lambda_k the mean of m_k over the units (`supervised.mixmo_weights`, q = 3 there). When predicting, one x goes to all slots with all m_k = 1/M, and the M heads are an
ensemble at the cost of one network.

| mixing          | m_k                                                                                                                     |
|-----------------|-------------------------------------------------------------------------------------------------------------------------|
| `PlainSum`      | 1/M: MIMO                                                                                                               |
| `LinearMixing`  | lambda_k, with lambda ~ Dirichlet(a, ..., a) anew for every example: Beta(a, a) for M = 2                               |
| `CutMixing`     | 0 or 1: the units lie on a circle, turned at random and cut into arcs of lengths lambda_k, one a slot; with a given probability, else linear |

The papers mix feature maps of convolutions and cut rectangles out of pictures. Perceptrons have units without a place, of which arcs are the like. Each example draws its own
inputs for all slots, so that nothing is gained by repeating examples within a batch, and the probability of a cut does not decline towards the end of training.

With f the identity, no hidden layer in the trunk and the squared error this is the linear model of `supervised.linear_mimo`, whose optimum is known exactly.

Source: Havasi et al., "Training independent subnetworks for robust prediction" (ICLR 2021); Rame, Sun & Cord, "MixMo" (ICCV 2021).
"""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.laws import Law
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.units import Units
from ensembletheory.supervised import mixmo_weights

__all__ = ["CutMixing", "LinearMixing", "Mimo", "MimoLoss", "Mixing", "PlainSum"]


class Mixing(eqx.Module):
    """How the first layers of the slots are mixed in training."""

    @abstractmethod
    def __call__(self, key: PRNGKeyArray, slots: int, width: int) -> Float[Array, "slots width"]:
        """The masks m_k of one example, which sum to 1 over the slots."""


class PlainSum(Mixing):
    """Every slot alike."""

    def __call__(self, key: PRNGKeyArray, slots: int, width: int) -> Float[Array, "slots width"]:
        """1/M everywhere."""
        return jnp.full((slots, width), 1 / slots)


class LinearMixing(Mixing):
    """All units in the same random proportions.

    Args:
        concentration: a of the Dirichlet law, a whole number.
    """

    concentration: int = eqx.field(static=True, default=2)

    def __call__(self, key: PRNGKeyArray, slots: int, width: int) -> Float[Array, "slots width"]:
        """lambda_k everywhere."""
        return jnp.broadcast_to(_shares(key, slots, self.concentration)[:, None], (slots, width))


class CutMixing(Mixing):
    """Every unit from one slot.

    Args:
        concentration: a of the Dirichlet law of the lengths, a whole number.
        probability: of a cut; else the mixing is linear.
    """

    concentration: int = eqx.field(static=True, default=2)
    probability: float = eqx.field(static=True, default=0.5)

    def __call__(self, key: PRNGKeyArray, slots: int, width: int) -> Float[Array, "slots width"]:
        """0 or 1 on arcs of the units, or lambda_k everywhere."""
        key_shares, key_turn = jax.random.split(key)
        turn, choice = jax.random.uniform(key_turn, (2,))
        shares = _shares(key_shares, slots, self.concentration)
        place = ((jnp.arange(float(width)) + 0.5) / width + turn) % 1.0
        owner = jnp.sum(place[None, :] >= jnp.cumsum(shares)[:-1, None], axis=0)
        cut = (owner[None, :] == jnp.arange(slots)[:, None]).astype(shares.dtype)
        return jnp.where(choice < self.probability, cut, shares[:, None])


def _shares(key: PRNGKeyArray, slots: int, concentration: int) -> Float[Array, " slots"]:
    """A draw of Dirichlet(a, ..., a): sums of a exponentials, divided by their total."""
    sums = jnp.sum(jax.random.exponential(key, (slots, concentration)), axis=1)
    return sums / jnp.sum(sums)


class Mimo(eqx.Module):
    """M predictors in one network; called with one input, it gives the predictions of its M heads, each array with a leading axis M.

    Args:
        key: of the initial parameters.
        inputs: units of the inputs.
        outputs: numbers a head.
        slots: M.
        width: units in the first layers and in the hidden layers of the trunk.
        depth: number of hidden layers, the first ones included; at least 1.
        activation: f, and that of the trunk.
        read: from a head's outputs to its prediction.
    """

    encoders: Float[Array, "slots width inputs_and_one"]
    trunk: Perceptron
    inputs: Units
    read: Callable[[Float[Array, " outputs"]], Float[Array, " outputs"]]

    def __init__(self, key: PRNGKeyArray, inputs: Units, outputs: int, slots: int, width: int, depth: int, activation: Callable[[Array], Array], read: Callable):
        key_encoders, key_trunk = jax.random.split(key)
        fan_in = inputs.mean.size + 1
        self.encoders = np.sqrt(2 / (fan_in * slots)) * jax.random.normal(key_encoders, (slots, width, fan_in))
        self.trunk = Perceptron(key_trunk, width, slots * outputs, width, depth - 1, activation)
        self.inputs, self.read = inputs, read

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, "slots outputs"]:
        """The heads' predictions when x fills all slots."""
        slots = len(self.encoders)
        return self.mixed(jnp.broadcast_to(x, (slots, x.size)), jnp.full((slots, 1), 1 / slots))

    def mixed(self, xs: Float[Array, "slots inputs"], masks: Float[Array, "slots width_or_1"]) -> Float[Array, "slots outputs"]:
        """The heads' predictions when slot k holds xs[k], mixed by masks[k]."""
        z = jax.vmap(self.inputs.of)(xs)
        features = jnp.einsum("kwi,ki->kw", self.encoders[:, :, :-1], z) + self.encoders[:, :, -1]
        outputs = self.trunk(self.trunk.activation(len(xs) * jnp.sum(masks * features, axis=0)))
        return jax.vmap(self.read)(outputs.reshape(len(xs), -1))


class MimoLoss(eqx.Module):
    """The loss of the heads, each on an input of its own, over a batch of independent tuples of M draws.

    Args:
        law: of the joined rows.
        error: (prediction, y) -> scalar, as in `SupervisedLoss`.
        mixing: of the slots.
        inputs: how many coordinates are x.
        batch: tuples a call.
        root: q of the weights r_i.
    """

    law: Law
    error: Callable[[Float[Array, " outputs"], Float[Array, " p"]], Float[Array, ""]]
    mixing: Mixing
    inputs: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    root: float = eqx.field(static=True)

    def __call__(self, model: Mimo, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean over the batch of the heads' weighted errors, summed over the heads."""
        (slots, width, _), (key_rows, key_masks) = model.encoders.shape, jax.random.split(key)
        rows = self.law.sample(key_rows, self.batch * slots).reshape(self.batch, slots, -1)
        masks = jax.vmap(lambda k: self.mixing(k, slots, width))(jax.random.split(key_masks, self.batch))
        return jnp.mean(jax.vmap(lambda tuple_, masks: self.at(model, tuple_, masks))(rows, masks))

    def at(self, model: Mimo, rows: Float[Array, "slots columns"], masks: Float[Array, "slots width"]) -> Float[Array, ""]:
        """The loss of one tuple of examples."""
        predicted = model.mixed(rows[:, : self.inputs], masks)
        return mixmo_weights(jnp.mean(masks, axis=1), self.root) @ jax.vmap(self.error)(predicted, rows[:, self.inputs :])
