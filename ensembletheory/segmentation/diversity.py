r"""How different the masks of one law are: E d(S, S'), d = 1 - overlap, of two independent draws.

It is 0 for a deterministic prediction and, under `jaccard`, for no other; it is the price per sample in V-statistics (`segmentation.ged_estimators`). Of a linear pool of
members it is the average diversity within members plus the diversity of the members in GED^2,

    E_pool d(S, S') = sum_k w_k E_k d(S, S') + 1/2 sum_kl w_k w_l GED^2(P_k, P_l):

an ensemble is more diverse than its members on average by exactly what it gains in GED^2.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, checked_count, refuse
from ensembletheory.estimate import Estimate, closed_form, monte_carlo
from ensembletheory.gains.decomposition import terms_of, weighted_sum
from ensembletheory.segmentation.ged import expected_overlaps, ged_squared, listed, required_key, sampled_overlaps
from ensembletheory.segmentation.mask_law import MaskDistribution, MaskLaw, checked_masks, checked_members, mixture_of_masks
from ensembletheory.segmentation.overlaps import Overlap, jaccard, table_of
from ensembletheory.segmentation.products import is_finite_mixture, mean_iou

__all__ = ["PooledDiversity", "diversity", "diversity_of_pool", "diversity_of_samples"]

_DEFAULT_SAMPLES = 1000


class PooledDiversity(eqx.Module):
    """`total` = `within` + `between`: the diversity of a linear pool, that of its members on average, and theirs among each other."""

    within: Estimate
    between: Estimate
    total: Estimate

    def __str__(self) -> str:
        return terms_of(self)


def diversity(law: MaskDistribution, overlap: Overlap = jaccard, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """E d(S, S'): a finite sum for a law of finite support, a closed form for a mixture of laws with independent pixels, else the mean over independent pairs of draws.

    Args:
        law: a law of masks.
        overlap: `jaccard`, or another one.
        key: needed as by `ged_squared`.
        samples: number of pairs, at least 2 (default 1,000); asks for draws.

    Raises:
        ValueError: if only Monte Carlo can answer and no key is given.
    """
    law = listed(law)
    if isinstance(law, MaskLaw) and samples is None:
        return closed_form(_exact(law, overlap))
    if overlap is jaccard and samples is None and is_finite_mixture(law):
        return 1 - mean_iou(law, law)
    number = checked_count("samples", _DEFAULT_SAMPLES if samples is None else samples, 2)
    return _simulated(law.sample(required_key(key), 2 * number), overlap)


def diversity_of_samples(samples: Numbers, overlap: Overlap = jaccard) -> Float[Array, "..."]:
    """The mean distance of different samples (..., n, H, W), n >= 2, of each image: unbiased for the diversity of the law they were drawn from.

    Raises:
        ValueError: if there are no lists of two samples or more.
    """
    masks = checked_masks("samples", samples)
    if masks.ndim < 3 or masks.shape[-3] < 2:
        refuse("samples", f"shape {masks.shape}", "(..., n, H, W) with n >= 2", "One sample does not tell how samples differ.")
    return _of_samples(masks, overlap)


def diversity_of_pool(members: Sequence[MaskLaw], weights: Numbers | None = None, overlap: Overlap = jaccard) -> PooledDiversity:
    """The diversity of the linear pool of members, by where it comes from.

    Raises:
        ValueError: if there is no member, shapes differ, or the weights are off the simplex.
    """
    return _of_pool(*checked_members(members, weights), overlap)


@eqx.filter_jit
def _exact(law: MaskLaw, overlap: Overlap) -> Float[Array, ""]:
    return jnp.maximum(1 - expected_overlaps(law, law, overlap), 0.0)


@eqx.filter_jit
def _of_pool(members: list[MaskLaw], shares: Float[Array, " K"], overlap: Overlap) -> PooledDiversity:
    pool = mixture_of_masks(members, shares)
    within = weighted_sum(shares, [diversity(member, overlap) for member in members])
    return PooledDiversity(within, weighted_sum(shares, [ged_squared(member, pool, overlap) for member in members]), diversity(pool, overlap))


@eqx.filter_jit
def _simulated(masks: Array, overlap: Overlap) -> Estimate:
    """The mean distance of the masks of the first half of a list to those of the second."""
    first, second = jnp.split(masks, 2)
    return monte_carlo(1 - sampled_overlaps(first, second, overlap))


@eqx.filter_jit
def _of_samples(masks: Array, overlap: Overlap) -> Float[Array, "..."]:
    n = masks.shape[-3]
    tables = jax.lax.map(lambda image: table_of(image, image, overlap), masks.reshape(-1, *masks.shape[-3:]))
    similar = (jnp.sum(tables, axis=(1, 2)) - jnp.trace(tables, axis1=1, axis2=2)) / (n * (n - 1))
    return (1 - similar).reshape(masks.shape[:-3])
