"""Predictors as families that learn from joined rows: (x, y) for regressors, (x, label) for classifiers. Of a law the first coordinates are the inputs."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import PRNGKeyArray

from ensembletheory.errors import is_concrete, refuse
from ensembletheory.laws import FiniteLaw, Law
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.supervised.classifier import Classifier
from ensembletheory.neural.supervised.regressor import GaussianRegressor, MeanRegressor
from ensembletheory.neural.supervised.supervised_loss import SquaredError, SupervisedLoss, cross_entropy, gaussian_error, reach
from ensembletheory.neural.training import Loss
from ensembletheory.neural.units import Units

__all__ = ["ClassifierLearner", "GaussianRegressorLearner", "MeanRegressorLearner", "require_inputs", "require_labels"]


class _RegressorLearner(Learner):
    """Perceptrons from inputs to what they say of the targets.

    Args:
        inputs: how many of the coordinates are inputs; the others are targets.
        width: units in a hidden layer.
        depth: number of hidden layers.
        batch: draws a step.
        adversarial: how far adversarial neighbours are, as a share of the range of each input; 0 for none.
    """

    inputs: int = eqx.field(static=True)
    width: int = eqx.field(static=True, default=100)
    depth: int = eqx.field(static=True, default=1)
    batch: int = eqx.field(static=True, default=128)
    adversarial: float = eqx.field(static=True, default=0.0)


class MeanRegressorLearner(_RegressorLearner):
    """Regressors of the mean, by the squared error in units of the targets' standard deviations: the part of their variance that is left unexplained.

    Args:
        inputs: how many of the coordinates are inputs; the others are targets.
        width: units in a hidden layer.
        depth: number of hidden layers.
        batch: draws a step.
        adversarial: how far adversarial neighbours are, as a share of the range of each input; 0 for none.
    """

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `MeanRegressor` in the units of the law."""
        require_inputs(law, self.inputs)
        return MeanRegressor(key, law, self.inputs, self.width, self.depth)

    def loss(self, law: Law) -> Loss:
        """The squared error."""
        require_inputs(law, self.inputs)
        return SupervisedLoss(law, SquaredError(Units(law, slice(self.inputs, None)).scale), self.inputs, self.batch, reach(law, self.inputs, self.adversarial))


class GaussianRegressorLearner(_RegressorLearner):
    """Regressors of mean and variance, by the negative log-likelihood; arguments as `MeanRegressorLearner`."""

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `GaussianRegressor` in the units of the law."""
        require_inputs(law, self.inputs)
        return GaussianRegressor(key, law, self.inputs, self.width, self.depth)

    def loss(self, law: Law) -> Loss:
        """The negative log-likelihood."""
        require_inputs(law, self.inputs)
        return SupervisedLoss(law, gaussian_error, self.inputs, self.batch, reach(law, self.inputs, self.adversarial))


class ClassifierLearner(Learner):
    """Softmax classifiers, by the cross-entropy. The last column of the rows is the label, 0 ... classes - 1.

    Rows with constant columns, such as the margins of pictures, come as `FiniteLaw(rows)`, of which no density is asked.

    Args:
        classes: how many.
        width: units in a hidden layer.
        depth: number of hidden layers.
        batch: draws a step.
        adversarial: how far adversarial neighbours are, as a share of the range of each input; 0 for none.
    """

    classes: int = eqx.field(static=True)
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=2)
    batch: int = eqx.field(static=True, default=128)
    adversarial: float = eqx.field(static=True, default=0.0)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `Classifier` in the units of the law."""
        require_labels(law, self.classes)
        return Classifier(key, law, self.classes, self.width, self.depth)

    def loss(self, law: Law) -> Loss:
        """The cross-entropy."""
        require_labels(law, self.classes)
        return SupervisedLoss(law, cross_entropy, law.dim - 1, self.batch, reach(law, law.dim - 1, self.adversarial))


def require_inputs(law: Law, inputs: int) -> None:
    """Refuse a number of inputs that leaves no input or no target.

    Raises:
        ValueError: naming both numbers.
    """
    if not 1 <= inputs < law.dim:
        refuse("inputs", f"{inputs} of {law.dim} coordinates", f"1 to {law.dim - 1}", "Join inputs and targets as the columns of one array, inputs first.")


def require_labels(law: Law, classes: int) -> None:
    """Refuse a law whose last coordinate is no label of that many classes.

    Raises:
        ValueError: if there are fewer than two classes, no inputs, no rows, or a label is not one of 0 ... classes - 1.
    """
    if classes < 2:
        refuse("classes", f"{classes}", "at least 2", "With one class there is nothing to tell.")
    require_inputs(law, law.dim - 1)
    if not isinstance(law, FiniteLaw):
        refuse("data", f"a {type(law).__name__}", "rows (n, d) or a FiniteLaw", "Labels are whole numbers, which only laws of finite support hold to.")
    labels = law.points[:, -1]
    if is_concrete(labels) and not np.all(np.isin(np.asarray(labels), np.arange(classes))):
        bad = np.asarray(labels)[~np.isin(np.asarray(labels), np.arange(classes))][0]
        refuse("data", f"a label {bad:g} in the last column", f"one of 0 ... {classes - 1}", "Number the classes from 0.")
