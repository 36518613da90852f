r"""How much two masks overlap, in numbers of pixels alone.

With I = |A and B|, U = |A or B| = |A| + |B| - I:

| overlap                 | formula             | two empty masks | as a kernel on all masks of n pixels                                        |
|-------------------------|---------------------|-----------------|-----------------------------------------------------------------------------|
| `jaccard`               | J = I / U           | 1               | strictly positive definite; 1 - J is a metric                               |
| `dice`                  | 2 I / (|A| + |B|)   | 1               | positive semi-definite, of rank n (n - 1) + 2 only (`segmentation.dice_blindness`)    |
| `jaccard_empty_differs` | I / U               | 0               | as `jaccard` without the empty mask, which is orthogonal to all, 0 to itself|

Dice = 2 J / (1 + J), so both order pairs of masks alike; 1 - Dice breaks the triangle inequality.

*J is positive definite.* Put the pixels in a random order, and let h(A) be the first pixel of A, or "none" for the empty mask. Then P(h(A) = h(B)) = J(A, B), so J is the
average of the Gram matrices of the indicators of {h(A) = x} (minwise hashing, Broder 1997; another proof in Bouchard, Jousselme & Dore 2013). *Strictly.* If all the P_A(h
= x) agree for two laws of a mask A, so do the sums of them over the last pixels T of every order, and with them P(A inside T) for every set T, which determine the law.

*Dice is semi-definite.* 2 I / (a + b) = 2 int_0^inf <1_A, 1_B> e^{-t a} e^{-t b} dt, for sizes a, b > 0.

The distance of two masks is 1 - overlap; under `jaccard_empty_differs` an empty mask is at distance 1 from itself.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, refuse
from ensembletheory.segmentation.counts import shared_pixels, sizes
from ensembletheory.segmentation.mask_law import checked_masks

__all__ = ["Overlap", "checked_pair", "dice", "dice_coefficient", "intersection_over_union", "jaccard", "jaccard_empty_differs", "overlap_table", "table_of"]

Overlap = Callable[[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]  # (|A and B|, |A|, |B|) -> the overlap of A and B


def jaccard(shared: Float[Array, "*n"], first: Float[Array, "*n"], second: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Intersection over union; 1 for two empty masks."""
    return _ratio(shared, first + second - shared, 1.0)


def dice(shared: Float[Array, "*n"], first: Float[Array, "*n"], second: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Twice the intersection over the sum of both sizes; 1 for two empty masks."""
    return _ratio(2 * shared, first + second, 1.0)


def jaccard_empty_differs(shared: Float[Array, "*n"], first: Float[Array, "*n"], second: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Intersection over union; 0 for two empty masks, which then differ from each other, and each from itself.

    1 - it is no distance: one empty mask has diversity 1, and biases that hold a diversity change. GED^2 stays >= 0, and 0 for equal laws only (`segmentation.ged`).
    """
    return _ratio(shared, first + second - shared, 0.0)


def _ratio(part: Float[Array, "*n"], whole: Float[Array, "*n"], empty: float) -> Float[Array, "*n"]:
    return jnp.where(whole > 0, part / jnp.where(whole > 0, whole, 1.0), empty)


def intersection_over_union(masks: Numbers, others: Numbers) -> Float[Array, "..."]:
    """J of masks (..., H, W) and others (..., H, W), pair by pair.

    Raises:
        ValueError: if they are not masks of one shape.
    """
    return _by_pairs(*checked_pair(masks, others), jaccard)


def dice_coefficient(masks: Numbers, others: Numbers) -> Float[Array, "..."]:
    """Dice's coefficient of masks (..., H, W) and others (..., H, W), pair by pair.

    Raises:
        ValueError: if they are not masks of one shape.
    """
    return _by_pairs(*checked_pair(masks, others), dice)


def overlap_table(masks: Numbers, others: Numbers, overlap: Overlap = jaccard) -> Float[Array, "... n m"]:
    """The overlaps of masks (..., n, H, W) with others (..., m, H, W), for all pairs of two lists.

    Raises:
        ValueError: if they are not lists of masks of one shape.
    """
    first, second = checked_pair(masks, others)
    if first.ndim < 3 or first.shape[:-3] != second.shape[:-3]:
        refuse("others", f"shapes {first.shape} and {second.shape}", "(..., n, H, W) and (..., m, H, W)", "List the masks on the third axis from the last.")
    return _by_images(first, second, overlap)


def checked_pair(masks: Numbers, others: Numbers) -> tuple[Array, Array]:
    """Both as truth values, with as many axes and the same pixels.

    Raises:
        ValueError: otherwise.
    """
    first = checked_masks("masks", masks)
    second = checked_masks("others", others, (first.shape[-2], first.shape[-1]))
    if first.ndim != second.ndim:
        refuse("others", f"shape {second.shape}", f"{first.ndim} axes, as `masks` has", "Add axes of length 1 where one is compared with many.")
    return first, second


@eqx.filter_jit
def _by_pairs(masks: Array, others: Array, overlap: Overlap) -> Float[Array, "..."]:
    return overlap(sizes(masks & others), *jnp.broadcast_arrays(sizes(masks), sizes(others)))


@eqx.filter_jit
def _by_images(masks: Array, others: Array, overlap: Overlap) -> Float[Array, "... n m"]:
    """One list of masks and others after the other, so that what lies between stays in the cache."""
    flat = tuple(part.reshape(-1, *part.shape[-3:]) for part in (masks, others))
    tables = jax.lax.map(lambda pair: table_of(pair[0], pair[1], overlap), flat)
    return tables.reshape(*masks.shape[:-2], others.shape[-3])


@eqx.filter_jit
def table_of(masks: Array, others: Array, overlap: Overlap) -> Float[Array, "... n m"]:
    """`overlap_table`, of masks that have been checked."""
    shared = shared_pixels(masks, others)
    return overlap(shared, *jnp.broadcast_arrays(sizes(masks)[..., :, None], sizes(others)[..., None, :]))
