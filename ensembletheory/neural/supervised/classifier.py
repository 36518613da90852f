"""A classifier: log p(c | x) = log softmax of a perceptron of x in its own units (mean 0, variance 1 in every coordinate that varies)."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.laws import Law
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.units import Units

__all__ = ["Classifier"]


class Classifier(eqx.Module):
    """x -> log-probabilities of the classes; trained are the perceptron's parameters only.

    Args:
        key: of the initial parameters.
        law: of the joined rows (x, label).
        classes: how many.
        width: units in a hidden layer.
        depth: number of hidden layers.
    """

    network: Perceptron
    inputs: Units

    def __init__(self, key: PRNGKeyArray, law: Law, classes: int, width: int, depth: int):
        self.inputs = Units(law, slice(law.dim - 1))
        self.network = Perceptron(key, law.dim - 1, classes, width, depth, jax.nn.relu)

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " classes"]:
        """Log-probabilities at one input."""
        return jax.nn.log_softmax(self.network(self.inputs.of(x)))
