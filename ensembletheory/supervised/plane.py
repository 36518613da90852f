r"""The diversity-accuracy plane: how often a second classifier disagrees with a reference, per error it makes.

For predictions of two classifiers on the same points, d is the part of the points on which they differ. A classifier of accuracy a is drawn at (a, d / (1 - a)),
against a reference of accuracy a*. With C classes two curves frame what is measured:

- *independent errors*: both are right with probability a a*, and errors are independent and uniform over the C - 1 wrong classes, so that
$$ d = 1 - a a^* - \frac{(1 - a)(1 - a^*)}{C - 1}; $$
- *a copy with random labels*: each prediction of the reference is replaced, with probability q, by a uniform class. Then a = (1 - q) a* + q/C and d = q (C - 1)/C, hence
$$ d = \frac{C - 1}{C} \, \frac{a^* - a}{a^* - 1/C}, \qquad 1/C \le a \le a^*, $$
which is the least disagreement that costs that much accuracy by chance alone.

No pair of accuracies (a, a*) can differ less often than |a - a*|.

Source: Fort, Hu & Lakshminarayanan, "Deep ensembles: a loss landscape perspective" (2019), where the plane is defined; the curves are derived here.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.supervised.arguments import fraction

__all__ = ["copy_disagreement", "disagreement", "independent_disagreement"]


def disagreement(predictions: Numbers, reference: Numbers) -> Float[Array, "..."]:
    """The part of n points on which two classifiers predict different classes.

    Args:
        predictions: (..., n) class labels, whole numbers; leading axes are classifiers.
        reference: (n,) class labels of the reference.

    Raises:
        ValueError: if the last axes differ or there is no point.
    """
    predictions, reference = jnp.asarray(predictions), jnp.asarray(reference)
    if reference.ndim != 1 or reference.size == 0 or predictions.shape[-1:] != reference.shape:
        refuse("predictions", f"shape {predictions.shape} beside {reference.shape}", "(..., n) beside (n,), n >= 1", "Predict the same points with both.")
    return _differing(predictions, reference)


def independent_disagreement(accuracy: Numbers, reference_accuracy: Numbers, classes: int) -> Float[Array, "..."]:
    """Disagreement of two classifiers whose errors are independent and uniform over the wrong classes.

    Args:
        accuracy: a in [0, 1]; numbers go elementwise, scalars with every shape.
        reference_accuracy: a* in [0, 1].
        classes: C >= 2.

    Raises:
        ValueError: if an accuracy lies outside [0, 1] or C is below 2.
    """
    return _independent(*_accuracies(accuracy, reference_accuracy, classes), classes)


def copy_disagreement(accuracy: Numbers, reference_accuracy: Numbers, classes: int) -> Float[Array, "..."]:
    """Disagreement of a reference with its copy whose predictions are replaced by random classes until the accuracy is a.

    Args:
        accuracy: a from 1/C to a*; numbers go elementwise, scalars with every shape.
        reference_accuracy: a* in (1/C, 1].
        classes: C >= 2.

    Raises:
        ValueError: if a lies outside [1/C, a*], a* is not above 1/C, or C is below 2.
    """
    a, reference = _accuracies(accuracy, reference_accuracy, classes)
    if is_concrete(reference) and np.any(np.asarray(reference) <= 1 / classes):
        refuse("reference_accuracy", f"{np.min(reference):g}", f"above 1/{classes}, that of a random class", "Random labels lower no such accuracy.")
    if is_concrete(a, reference) and np.any((np.asarray(a) < 1 / classes - 1e-12) | (np.asarray(a) > np.asarray(reference) + 1e-12)):
        refuse("accuracy", f"{np.min(a):g} to {np.max(a):g}", f"from 1/{classes} to the accuracy of the reference", "Random labels lower the accuracy, to 1/C at most.")
    return _copy(a, reference, classes)


def _accuracies(accuracy: Numbers, reference_accuracy: Numbers, classes: int) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    if classes < 2:
        refuse("classes", str(classes), "at least 2", "With one class nobody errs.")
    a, reference = jnp.broadcast_arrays(fraction("accuracy", accuracy), fraction("reference_accuracy", reference_accuracy))
    return a, reference


@eqx.filter_jit
def _differing(predictions: Array, reference: Array) -> Float[Array, "..."]:
    differ = predictions != jnp.broadcast_to(reference, predictions.shape)
    return jnp.mean(differ.astype(jnp.result_type(float)), axis=-1)


@eqx.filter_jit
def _independent(a: Float[Array, "..."], reference: Float[Array, "..."], classes: int) -> Float[Array, "..."]:
    return 1 - a * reference - (1 - a) * (1 - reference) / (classes - 1)


@eqx.filter_jit
def _copy(a: Float[Array, "..."], reference: Float[Array, "..."], classes: int) -> Float[Array, "..."]:
    return (1 - 1 / classes) * (reference - a) / (reference - 1 / classes)
