r"""Several inputs, one trunk, several heads: M predictors in one network (MIMO and MixMo).

Slot k has its own first layer c_k; what these make of M inputs is mixed unit by unit by masks m_k >= 0 with sum_k m_k = 1 and goes through one trunk to M heads,

    h = M sum_k m_k * c_k(x_k),      prediction i = head_i(trunk(f(h))).

In training every slot has an input and a target of its own, drawn independently, and the loss is

    E sum_i r_i l(prediction i, y_i),      r_i = M lambda_i^{1/q} / sum_j lambda_j^{1/q},

with lambda_k the mean of m_k over the units (`supervised.mixmo_weights`, q = 3 there). When predicting, one x goes to all slots with all m_k = 1/M, and the M heads are an
ensemble at the cost of one network.

Every example of a training step is mixed anew, in one of three ways (`Mixing`):

| way      | m_k                                                                                                             |
|----------|-----------------------------------------------------------------------------------------------------------------|
| plain    | 1/M: MIMO                                                                                                       |
| linear   | lambda_k, with lambda ~ Dirichlet(a, ..., a): Beta(a, a) for M = 2                                              |
| cut      | 0 or 1: the units lie on a circle, turned at random and cut into arcs of lengths lambda_k, one a slot           |

The papers mix feature maps of convolutions and cut rectangles out of pictures. Perceptrons have units without a place, of which arcs are the like. Each example draws its own
inputs for all slots, so that nothing is gained by repeating examples within a batch, and the probability of a cut does not decline towards the end of training.

With f the identity, no hidden layer in the trunk and the squared error this is the linear model of `supervised.linear_mimo`, whose optimum is known exactly.

Source: Havasi et al., "Training independent subnetworks for robust prediction" (ICLR 2021); Rame, Sun & Cord, "MixMo" (ICCV 2021).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count, is_concrete, refuse
from ensembletheory.laws import Law
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.units import Units
from ensembletheory.supervised import mixmo_weights

__all__ = ["Mimo", "MimoLoss", "Mixing"]


class Mixing(eqx.Module):
    """How the first layers of the slots are mixed in training: by a plain sum (MIMO) unless told otherwise; `Mixing(linear=0.5, cut=0.5)` is MixMo's.

    Args:
        linear: the probability that an example is mixed linearly.
        cut: the probability that its units are cut.
        concentration: a of the Dirichlet law of the shares, a whole number.

    Raises:
        ValueError: if a probability is negative, both exceed 1 together, or a is not positive.
    """

    linear: Float[Array, ""] | float = 0.0
    cut: Float[Array, ""] | float = 0.0
    concentration: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        if is_concrete(self.linear, self.cut) and not (float(self.linear) >= 0 and float(self.cut) >= 0 and float(self.linear) + float(self.cut) <= 1):
            refuse("linear and cut", f"{self.linear} and {self.cut}", "probabilities that sum to at most 1", "The rest is the probability of a plain sum.")
        if self.concentration < 1:
            refuse("concentration", f"{self.concentration}", "a whole number, at least 1", "2 is usual.")

    def __call__(self, key: PRNGKeyArray, slots: int, width: int) -> Float[Array, "slots width"]:
        """The masks m_k of one example, which sum to 1 over the slots."""
        key_shares, key_turn = jax.random.split(key)
        sums = jnp.sum(jax.random.exponential(key_shares, (slots, self.concentration)), axis=1)  # of a exponentials: their shares are Dirichlet(a, ..., a)
        shares, (turn, choice) = sums / jnp.sum(sums), jax.random.uniform(key_turn, (2,))
        place = ((jnp.arange(float(width)) + 0.5) / width + turn) % 1.0
        owner = jnp.sum(place[None, :] >= jnp.cumsum(shares)[:-1, None], axis=0)
        cut = (owner[None, :] == jnp.arange(slots)[:, None]).astype(shares.dtype)
        return jnp.where(choice < self.cut, cut, jnp.where(choice < self.cut + self.linear, shares[:, None], 1 / slots))


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

    Raises:
        ValueError: if there is no output, slot, unit or hidden layer.
    """

    encoders: Float[Array, "slots width inputs_and_one"]
    trunk: Perceptron
    inputs: Units
    read: Callable[[Float[Array, " outputs"]], Float[Array, " outputs"]]

    def __init__(self, key: PRNGKeyArray, inputs: Units, outputs: int, slots: int, width: int, depth: int, activation: Callable[[Array], Array], read: Callable):
        for name, number in (("outputs", outputs), ("slots", slots), ("width", width), ("depth", depth)):
            checked_count(name, number, 1)
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

    Raises:
        ValueError: if the batch is no number of tuples, at least 1, or the root is not positive.
    """

    law: Law
    error: Callable[[Float[Array, " outputs"], Float[Array, " p"]], Float[Array, ""]]
    mixing: Mixing
    inputs: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    root: float = eqx.field(static=True)

    def __check_init__(self):
        checked_count("batch", self.batch, 1)
        if not (np.isfinite(self.root) and self.root > 0):
            refuse("root", f"{self.root}", "a positive number", "3 is usual; the larger, the nearer to each other the weights of the heads.")

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
