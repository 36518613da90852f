r"""Dropout: ensembles whose members are one network with units thinned out (Srivastava et al. 2014; Gal & Ghahramani 2016).

A mask keeps each hidden unit of a perceptron with probability 1 - r, independently, and what is kept is divided by 1 - r. This is an action on the weights: the columns
of the layer after the units are multiplied by 0 or 1 / (1 - r). So a thinned network is a network, a set of masks makes a stack of members, and training with dropout is
training by the loss of the thinned model, with new masks at every step (the same ones for all draws of the batch). Over the masks, the mean of what a layer hands on is what
it hands on unthinned: with one hidden layer the mean of the members is the network itself; with several it is not, as activations bend.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import refuse
from ensembletheory.laws import Law
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.training import Loss

__all__ = ["DropoutLearner", "ThinnedLoss", "dropout_members", "thinned"]


def thinned(key: PRNGKeyArray, model: Any, rate: float) -> Any:
    """The model with a share `rate` of the hidden units of each of its perceptrons left out.

    Raises:
        ValueError: if the rate is not in [0, 1), or the model is a stack or holds no perceptron with hidden units.
    """
    if not 0 <= rate < 1:
        refuse("rate", f"{rate}", "a share in [0, 1)", "A tenth, 0.1, is usual.")
    leaves, structure = jax.tree.flatten(model, is_leaf=_is_perceptron)
    if not any(_is_perceptron(leaf) and len(leaf.layers) > 1 for leaf in leaves):
        refuse("model", type(model).__name__, "a model with a Perceptron that has hidden units", "There is nothing to leave out.")
    if any(layer.ndim != 2 for leaf in leaves if _is_perceptron(leaf) for layer in leaf.layers):
        refuse("model", f"a stack of {type(model).__name__}", "one model", "Pass member(model, k); of a stack, vmap over its members.")
    keys = jax.random.split(key, len(leaves))
    return jax.tree.unflatten(structure, [_thinned(k, leaf, rate) if _is_perceptron(leaf) else leaf for k, leaf in zip(keys, leaves, strict=True)])


@eqx.filter_jit
def dropout_members(key: PRNGKeyArray, model: Any, rate: float, members: int) -> Any:
    """The stack of `members` models that masks of their own make of one.

    Raises:
        ValueError: as `thinned`; if there is no member.
    """
    if members < 1:
        refuse("members", f"{members}", "at least 1", "An ensemble of none predicts nothing.")
    return eqx.filter_vmap(lambda k: thinned(k, model, rate), out_axes=eqx.if_array(0))(jax.random.split(key, members))


class ThinnedLoss(eqx.Module):
    """The loss of the thinned model, with masks drawn anew at each call.

    Args:
        loss: (model, key) -> scalar.
        rate: the share of hidden units left out.
    """

    loss: Loss
    rate: float = eqx.field(static=True)

    def __call__(self, model: Any, key: PRNGKeyArray) -> Float[Array, ""]:
        """The loss with one draw of the masks."""
        key_masks, key_loss = jax.random.split(key)
        return self.loss(thinned(key_masks, model, self.rate), key_loss)


class DropoutLearner(Learner):
    """A family that is trained with dropout; see `dropout_members` for what to do with what it learned.

    Args:
        learner: the family.
        rate: the share of hidden units left out at each step.
    """

    learner: Learner
    rate: float = eqx.field(static=True, default=0.1)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A model of the family."""
        return self.learner.initialise(key, law)

    def loss(self, law: Law) -> Loss:
        """The family's loss of the thinned model."""
        return ThinnedLoss(self.learner.loss(law), self.rate)


def _is_perceptron(node: Any) -> bool:
    return isinstance(node, Perceptron)


def _thinned(key: PRNGKeyArray, network: Perceptron, rate: float) -> Perceptron:
    first, *later = network.layers
    keys = jax.random.split(key, len(network.layers))
    return eqx.tree_at(lambda n: n.layers, network, (first, *(_without(k, layer, rate) for k, layer in zip(keys, later, strict=False))))


def _without(key: PRNGKeyArray, layer: Float[Array, "outputs inputs_and_one"], rate: float) -> Float[Array, "outputs inputs_and_one"]:
    """The layer (W b), with columns of W left out and the others enlarged."""
    kept = jax.random.bernoulli(key, 1 - rate, (layer.shape[1] - 1,)).astype(layer.dtype) / (1 - rate)
    return layer * jnp.append(kept, 1.0)[None]
