r"""Regressors: perceptrons that predict the mean of y given x, or its mean and variance.

Inputs and targets are in their own units (mean 0 and variance 1 under the law that is learned), so that networks of outputs of order one suffice. With F the network,
z = (x - m_x) / s_x and all operations coordinatewise,

    mean(x) = m_y + s_y F_1(z),      variance(x) = s_y^2 (softplus(F_2(z)) + 1e-6),

so that no prediction is surer than a thousandth of the spread of the targets. (Nix & Weigend 1994; Lakshminarayanan, Pritzel & Blundell 2017.)
"""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.laws import Law
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.units import Units

__all__ = ["GaussianRegressor", "MeanRegressor"]

_LEAST = 1e-6  # of the variance of the targets


class MeanRegressor(eqx.Module):
    """x -> mean of y; trained are the perceptron's parameters only.

    Args:
        key: of the initial parameters.
        law: of the joined rows (x, y).
        inputs: how many coordinates are x.
        width: units in a hidden layer.
        depth: number of hidden layers.
    """

    network: Perceptron
    inputs: Units
    targets: Units

    def __init__(self, key: PRNGKeyArray, law: Law, inputs: int, width: int, depth: int):
        self.inputs, self.targets = Units(law, slice(inputs)), Units(law, slice(inputs, None))
        self.network = Perceptron(key, inputs, law.dim - inputs, width, depth, jax.nn.relu)

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " p"]:
        """The mean at one input."""
        return self.targets.back(self.network(self.inputs.of(x)))


class GaussianRegressor(eqx.Module):
    """x -> mean and variance of y, each coordinate by itself; arguments as `MeanRegressor`."""

    network: Perceptron
    inputs: Units
    targets: Units

    def __init__(self, key: PRNGKeyArray, law: Law, inputs: int, width: int, depth: int):
        self.inputs, self.targets = Units(law, slice(inputs)), Units(law, slice(inputs, None))
        self.network = Perceptron(key, inputs, 2 * (law.dim - inputs), width, depth, jax.nn.relu)

    def __call__(self, x: Float[Array, " d"]) -> tuple[Float[Array, " p"], Float[Array, " p"]]:
        """Mean and variance at one input."""
        outputs = self.network(self.inputs.of(x)).reshape(2, -1)
        mean, spread = outputs[0], outputs[1]
        return self.targets.back(mean), jax.lax.stop_gradient(self.targets.scale) ** 2 * (jax.nn.softplus(spread) + _LEAST)
