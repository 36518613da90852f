"""Networks with several inputs and heads as families that learn from joined rows."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ensembletheory.laws import Law
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.supervised.mimo import Mimo, MimoLoss, Mixing
from ensembletheory.neural.supervised.supervised_learners import require_inputs, require_labels
from ensembletheory.neural.supervised.supervised_loss import SquaredError, cross_entropy
from ensembletheory.neural.training import Loss
from ensembletheory.neural.units import Units

__all__ = ["MimoClassifierLearner", "MimoRegressorLearner"]


class MimoClassifierLearner(Learner):
    """MIMO and MixMo classifiers, whose heads predict log-probabilities, by weighted cross-entropies. Rows as for `ClassifierLearner`.

    Args:
        classes: how many.
        slots: M, inputs and heads of one network.
        mixing: of the slots, in training.
        width: units in a hidden layer.
        depth: number of hidden layers, the slots' own first layers included.
        batch: tuples of M examples a step.
        root: q of the weights of the heads' losses.
    """

    classes: int = eqx.field(static=True)
    slots: int = eqx.field(static=True, default=2)
    mixing: Mixing = Mixing()
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=2)
    batch: int = eqx.field(static=True, default=128)
    root: float = eqx.field(static=True, default=3.0)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `Mimo` in the units of the law."""
        require_labels(law, self.classes)
        return Mimo(key, Units(law, slice(law.dim - 1)), self.classes, self.slots, self.width, self.depth, jax.nn.relu, jax.nn.log_softmax)

    def loss(self, law: Law) -> Loss:
        """The heads' cross-entropies."""
        require_labels(law, self.classes)
        return MimoLoss(law, cross_entropy, jax.tree.map(jnp.asarray, self.mixing), law.dim - 1, self.batch, self.root)


class MimoRegressorLearner(Learner):
    """MIMO and MixMo regressors, whose heads predict means, by weighted squared errors in units of the targets' standard deviations.

    Args:
        inputs: how many of the coordinates are inputs; the others are targets.
        slots: M, inputs and heads of one network.
        mixing: of the slots, in training.
        width: units in a hidden layer.
        depth: number of hidden layers, the slots' own first layers included.
        batch: tuples of M examples a step.
        root: q of the weights of the heads' losses.
        activation: of all hidden layers; with the identity and depth 1 the model is that of `supervised.linear_mimo`.
    """

    inputs: int = eqx.field(static=True)
    slots: int = eqx.field(static=True, default=2)
    mixing: Mixing = Mixing()
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=2)
    batch: int = eqx.field(static=True, default=128)
    root: float = eqx.field(static=True, default=3.0)
    activation: Callable[[Array], Array] = eqx.field(static=True, default=jax.nn.relu)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `Mimo` in the units of the law."""
        require_inputs(law, self.inputs)
        targets = Units(law, slice(self.inputs, None))
        return Mimo(key, Units(law, slice(self.inputs)), law.dim - self.inputs, self.slots, self.width, self.depth, self.activation, targets.back)

    def loss(self, law: Law) -> Loss:
        """The heads' squared errors."""
        require_inputs(law, self.inputs)
        return MimoLoss(law, SquaredError(Units(law, slice(self.inputs, None)).scale), jax.tree.map(jnp.asarray, self.mixing), self.inputs, self.batch, self.root)
