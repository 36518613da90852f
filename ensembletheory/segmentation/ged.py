r"""The squared generalised energy distance between two laws of masks, exactly.

    GED^2(P, Q) = 2 E d(S, Y) - E d(S, S') - E d(Y, Y'),   d = 1 - overlap,   S, S' ~ P and Y, Y' ~ Q independent.

With k = 1 - d it is (P - Q)^T k (P - Q): the squared maximum mean discrepancy of the kernel k. Under `jaccard` k is strictly positive definite (`segmentation.overlaps`),
so GED is a metric on laws: zero only for equal laws. Under `dice` it is not (`segmentation.dice_blindness`).

*Two empty masks.* Where they count as different (`jaccard_empty_differs`) the empty mask drops out of k, which is block diagonal, and

    GED^2_differs = GED^2 - (P(empty) - Q(empty))^2:

it still vanishes for equal laws only, since masses sum to 1, but sees less of how often a model finds nothing (half, where one other mask is possible). And 1 - overlap is
no longer a distance: one empty mask has a "diversity" of 1, and a prediction equal to the truth an overlap of 0.

*Ensembles.* GED^2 is the square of a Hilbert distance, in which laws are mixed linearly: for members P_k with weights w_k

    GED^2(sum_k w_k P_k, Q) = sum_k w_k GED^2(P_k, Q) - 1/2 sum_kl w_k w_l GED^2(P_k, P_l),

and M exchangeable members have an expected GED^2 of exactly A + B / M (`ensembletheory.gains.size_law` of the decomposition).

Papers print GED^2, or its root, as "GED"; here the square is in the name.
"""

from collections.abc import Sequence
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, checked_count, refuse
from ensembletheory.estimate import Estimate, closed_form, monte_carlo
from ensembletheory.gains.decomposition import Decomposition, weighted_sum
from ensembletheory.segmentation.counts import sizes
from ensembletheory.segmentation.mask_law import MaskDistribution, MaskLaw, checked_members, mixture_of_masks, require_same_shape
from ensembletheory.segmentation.overlaps import Overlap, jaccard, table_of
from ensembletheory.segmentation.product_modes import ProductModes
from ensembletheory.segmentation.products import is_finite_mixture, product_ged_squared

__all__ = ["expected_overlaps", "ged_decomposition", "ged_squared", "listed", "required_key", "sampled_overlaps"]

_DEFAULT_SAMPLES = 1000


def ged_squared(p: MaskDistribution, q: MaskDistribution, overlap: Overlap = jaccard, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """GED^2(p, q): a finite sum for two laws of finite support, a closed form for mixtures of laws with independent pixels, else the mean over draws of two masks of each law.

    Args:
        p: a law of masks.
        q: a law of masks of the same shape.
        overlap: `jaccard`, or another positive semi-definite one.
        key: needed where a law is no finite mixture of laws with independent pixels, or, other than of finite support, overlaps by another index than Jaccard's are asked for.
        samples: number of pairs drawn from each law, at least 2 (default 1,000); asks for draws.

    Raises:
        ValueError: if the shapes differ, or only Monte Carlo can answer and no key is given.
    """
    require_same_shape(p, q)
    p, q = listed(p), listed(q)
    if isinstance(p, MaskLaw) and isinstance(q, MaskLaw) and samples is None:
        return closed_form(_squared(p, q, overlap))
    if overlap is jaccard and samples is None and is_finite_mixture(p) and is_finite_mixture(q):
        return product_ged_squared(p, q)
    first, second = jax.random.split(required_key(key))
    number = checked_count("samples", _DEFAULT_SAMPLES if samples is None else samples, 2)
    return _simulated(p.sample(first, 2 * number), q.sample(second, 2 * number), overlap)


def ged_decomposition(target: MaskLaw, members: Sequence[MaskLaw], weights: Numbers | None = None, overlap: Overlap = jaccard) -> Decomposition:
    """GED^2 of the linear pool of members to the target, their average and their diversity 1/2 sum_kl w_k w_l GED^2(P_k, P_l), whatever the target is.

    Raises:
        ValueError: if there is no member, shapes differ, or the weights are off the simplex.
    """
    laws, shares = checked_members(members, weights)
    require_same_shape(laws[0], target)
    return _decomposed(target, laws, shares, overlap)


def listed(law: MaskDistribution) -> MaskDistribution:
    """The law, mode by mode where it is a product of modes."""
    return law.law() if isinstance(law, ProductModes) else law


def expected_overlaps(p: MaskLaw, q: MaskLaw, overlap: Overlap) -> Float[Array, ""]:
    """E overlap(S, Y) of independent S ~ p and Y ~ q."""
    return p.weights @ table_of(p.masks, q.masks, overlap) @ q.weights


def sampled_overlaps(masks: Array, others: Array, overlap: Overlap) -> Float[Array, " n"]:
    """overlap(masks[i], others[i])."""
    return overlap(sizes(masks & others), sizes(masks), sizes(others))


def required_key(key: PRNGKeyArray | None) -> PRNGKeyArray:
    """The key.

    Raises:
        ValueError: if there is none.
    """
    if key is None:
        expected = "a PRNG key, since only Monte Carlo can answer where a law is no finite mixture of independent pixels, the overlap not Jaccard's, or `samples` are given"
        refuse("key", "None", expected, "Pass key=jax.random.key(0); laws of at most two factors are compared by product_ged_squared without one.")
    return cast(PRNGKeyArray, key)


@eqx.filter_jit
def _squared(p: MaskLaw, q: MaskLaw, overlap: Overlap) -> Float[Array, ""]:
    masks, masses = jnp.concatenate([p.masks, q.masks]), jnp.concatenate([p.weights, -q.weights])
    return jnp.maximum(masses @ table_of(masks, masks, overlap) @ masses, 0.0)


@eqx.filter_jit
def _decomposed(target: MaskLaw, members: list[MaskLaw], shares: Float[Array, " K"], overlap: Overlap) -> Decomposition:
    pool = mixture_of_masks(members, shares)
    average = weighted_sum(shares, [ged_squared(member, target, overlap) for member in members])
    return Decomposition(average, weighted_sum(shares, [ged_squared(member, pool, overlap) for member in members]), ged_squared(pool, target, overlap))


@eqx.filter_jit
def _simulated(masks: Array, truths: Array, overlap: Overlap) -> Estimate:
    """Of two lists of each law, the mean of independent and unbiased terms: k(S, S') + k(Y, Y') - k(S, Y) - k(S', Y')."""
    (mask, again), (truth, other) = jnp.split(masks, 2), jnp.split(truths, 2)
    pairs = ((mask, again), (truth, other), (mask, truth), (again, other))
    own, of_truths, cross, second = (sampled_overlaps(first, last, overlap) for first, last in pairs)
    return monte_carlo(own + of_truths - cross - second)
