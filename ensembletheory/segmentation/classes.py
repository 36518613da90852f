r"""Maps of several classes, compared class by class (Kohl et al. 2018).

Each class is a mask. A class that neither of two maps holds has no overlap: it is **NaN**, and left out of the mean over classes. This is another convention than that of a
single mask, where two empty ones overlap by 1, and the mean over the classes c that are present in A or B,

    k(A, B) = sum_c J(A_c, B_c) / |classes of A or B|      (the first sum over these classes),

is no Jaccard index of anything. It is positive semi-definite, as the product of such kernels, 1 / |C or D| = int_0^inf e^{-t |C|} e^{-t |D|} e^{t |C and D|} dt for sets of
classes, so that the GED^2 with it is never negative. But it does not see how classes go together: from three pixels and three classes on different laws are at distance 0.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws.weights import checked_weights
from ensembletheory.segmentation.overlaps import jaccard, table_of

__all__ = ["class_ged_squared", "class_overlap_table", "class_overlaps"]


def class_overlaps(labels: Numbers, others: Numbers, classes: Sequence[int]) -> Float[Array, "C n m"]:
    """The intersection over union of each class, for all pairs of maps labels (n, H, W) and others (m, H, W): NaN where neither map holds the class.

    Raises:
        ValueError: if they are not lists of maps of whole numbers of one shape, or no class is named.
    """
    return _overlaps(*_checked_pair(labels, others, classes))


def _checked_pair(labels: Numbers, others: Numbers, classes: Sequence[int]) -> tuple[Array, Array, Array]:
    first, second = _checked("labels", labels), _checked("others", others)
    if first.shape[1:] != second.shape[1:]:
        refuse("others", f"maps of shape {second.shape[1:]}", f"{first.shape[1:]}", "Bring the maps to one size first.")
    if not len(classes) or len(set(classes)) < len(classes):
        refuse("classes", f"{list(classes)}", "one or more different classes", "Name those that count; leave out the background if it should not.")
    return first, second, jnp.asarray(np.asarray(classes))


def class_overlap_table(labels: Numbers, others: Numbers, classes: Sequence[int]) -> Float[Array, "n m"]:
    """The mean overlap over the classes that a pair of maps holds, for all pairs; 1 for a pair that holds none.

    Raises:
        ValueError: as `class_overlaps`.
    """
    return _table(*_checked_pair(labels, others, classes))


def class_ged_squared(labels: Numbers, others: Numbers, classes: Sequence[int], weights: Numbers | None = None, other_weights: Numbers | None = None) -> Estimate:
    """GED^2, with the mean over classes as overlap, of the law that gives labels[i] the probability weights[i] (default equal) to that of `others`.

    Raises:
        ValueError: as `class_overlaps`, or if weights are off the simplex.
    """
    first, second, counted = _checked_pair(labels, others, classes)
    return closed_form(_squared(first, second, counted, checked_weights(weights, len(first)), checked_weights(other_weights, len(second))))


def _checked(argument: str, labels: Numbers) -> Array:
    maps = np.asarray(labels)
    if maps.ndim != 3 or 0 in maps.shape or not np.issubdtype(maps.dtype, np.integer):
        refuse(argument, f"shape {maps.shape} of {maps.dtype}", "whole numbers (n, H, W)", "List the maps along the first axis, a class a pixel.")
    return jnp.asarray(maps)


@eqx.filter_jit
def _overlaps(first: Array, second: Array, classes: Array) -> Float[Array, "C n m"]:
    masks, others = ((maps[None] == classes[:, None, None, None]) for maps in (first, second))
    present = jnp.any(masks, axis=(2, 3))[:, :, None] | jnp.any(others, axis=(2, 3))[:, None, :]
    return jnp.where(present, table_of(masks, others, jaccard), jnp.nan)


@eqx.filter_jit
def _squared(first: Array, second: Array, classes: Array, weights: Float[Array, " n"], others: Float[Array, " m"]) -> Float[Array, ""]:
    masses, maps = jnp.concatenate([weights, -others]), jnp.concatenate([first, second])
    return jnp.maximum(masses @ _table(maps, maps, classes) @ masses, 0.0)


@eqx.filter_jit
def _table(first: Array, second: Array, classes: Array) -> Float[Array, "n m"]:
    overlaps = _overlaps(first, second, classes)
    number = jnp.sum(jnp.isfinite(overlaps), axis=0, dtype=overlaps.dtype)
    return jnp.where(number > 0, jnp.nansum(overlaps, axis=0) / jnp.maximum(number, 1.0), 1.0)
