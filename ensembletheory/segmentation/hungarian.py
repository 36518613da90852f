r"""Hungarian-matched intersection over union: the best pairing of n samples with m graders.

Both lists are repeated until they are equally long (their least common multiple), paired one to one so that the mean overlap is largest, and that mean is the score (Kohl
et al. 2019, where 16 samples meet 4 graders, each four times). By Birkhoff's theorem it is

    HM(S, Y) = 1 - W(P_n, Q_m),    W the least expected d = 1 - J over all couplings of the two empirical laws,

an optimal transport cost, as which it is computed (by the extra `transport`) where the lists would be longer than 1,000. So HM is concave in the law of the samples: E HM of n
draws never falls with n, and stays below HM of the law itself, the number for "perfect" sampling.
"""

from itertools import combinations
from math import comb, lcm

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import linear_sum_assignment
from scipy.special import gammaln

from ensembletheory.divergences.transport import transport_cost
from ensembletheory.errors import Numbers, as_floats, checked_count, refuse
from ensembletheory.estimate import Estimate, closed_form, monte_carlo
from ensembletheory.segmentation.ged import required_key
from ensembletheory.segmentation.mask_law import MaskDistribution, MaskLaw, checked_masks, require_same_shape
from ensembletheory.segmentation.overlaps import jaccard, overlap_table, table_of

__all__ = ["expected_hungarian_iou", "hungarian_iou", "hungarian_iou_of_laws", "matched_mean"]

_MOST_COUNTS = 20_000  # ways to distribute the draws over the masks of a law that are enumerated
_LONGEST = 1000  # list that is paired one by one
_DEFAULT_SAMPLES = 1000


def hungarian_iou(samples: Numbers, graders: Numbers) -> Float[Array, "..."]:
    """HM of samples (..., n, H, W) and graders (..., m, H, W), of each image.

    Raises:
        ValueError: if shapes do not agree.
        ImportError: without the extra `transport`, where the least common multiple of n and m is above 1,000.
    """
    return matched_mean(overlap_table(samples, graders))


def matched_mean(overlaps: Numbers) -> Float[Array, "..."]:
    """The largest mean overlap of a pairing, from tables of overlaps (..., n, m): of masks, or of maps of classes.

    Raises:
        ValueError: if a table is empty or not finite.
        ImportError: as of `hungarian_iou`.
    """
    tables = np.asarray(as_floats("overlaps", overlaps))
    if tables.ndim < 2 or 0 in tables.shape[-2:]:
        refuse("overlaps", f"shape {tables.shape}", "(..., n, m) with n, m >= 1", "One row a sample, one column a grader.")
    flat = tables.reshape(-1, *tables.shape[-2:])
    return jnp.asarray(np.array([_matched(table) for table in flat]).reshape(tables.shape[:-2]))


def hungarian_iou_of_laws(p: MaskLaw, q: MaskLaw) -> Estimate:
    """1 - W(p, q), HM of infinitely many samples and graders: exact up to the transport plan.

    Raises:
        ValueError: if the shapes differ.
        ImportError: without the extra `transport`.
    """
    require_same_shape(p, q)
    return closed_form(1 - transport_cost(p.weights, q.weights, _distances(p.masks, q.masks)))


def expected_hungarian_iou(law: MaskDistribution, graders: Numbers, n: int, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """E HM of n independent draws from a law to a fixed list of graders: exactly, over all counts of the law's masks, where these are few, else by simulation.

    Args:
        law: of the samples.
        graders: (m, H, W).
        n: draws a score is computed from.
        key: needed where the law is not of finite support, or the ways are more than 20,000.
        samples: asks for simulation with so many scores, at least 2 (default 1,000).

    Raises:
        ValueError: if shapes do not agree, or only simulation can answer and no key is given.
        ImportError: as of `hungarian_iou`.
    """
    truths, draws = checked_masks("graders", graders, law.shape), checked_count("n", n, 1)
    if truths.ndim != 3 or 0 in truths.shape:
        refuse("graders", f"shape {truths.shape}", "(m, H, W) with m >= 1", "List the masks along the first axis.")
    if isinstance(law, MaskLaw) and samples is None:
        merged = law.merged()
        if comb(draws + len(merged.masks) - 1, draws) <= _MOST_COUNTS:
            return closed_form(_enumerated(np.asarray(table_of(merged.masks, truths, jaccard)), np.asarray(merged.weights), draws))
    repeats = checked_count("samples", _DEFAULT_SAMPLES if samples is None else samples, 2)
    drawn = law.sample(required_key(key), repeats * draws)
    tables = np.asarray(table_of(drawn, truths, jaccard)).reshape(repeats, draws, -1)
    return monte_carlo(jnp.asarray(np.array([_matched(table) for table in tables])))


@jax.jit
def _distances(masks: Array, others: Array) -> Float[Array, "n m"]:
    return 1 - table_of(masks, others, jaccard)


def _enumerated(table: np.ndarray, masses: np.ndarray, n: int) -> float:
    """The sum over counts of their multinomial probability times HM of so many copies of each mask."""
    total = 0.0
    for bars in combinations(range(n + len(masses) - 1), len(masses) - 1):
        counts = np.diff(np.array([-1, *bars, n + len(masses) - 1])) - 1
        log_ways = gammaln(n + 1) - np.sum(gammaln(counts + 1)) + np.sum(counts * np.log(masses))
        total += float(np.exp(log_ways)) * _matched(np.repeat(table, counts, axis=0))
    return total


def _matched(table: np.ndarray) -> float:
    n, m = table.shape
    long = lcm(n, m)
    if long > _LONGEST:
        return float(1 - transport_cost(jnp.asarray(np.full(n, 1 / n)), jnp.asarray(np.full(m, 1 / m)), jnp.asarray(1 - table)))
    repeated = np.repeat(np.repeat(table, long // n, axis=0), long // m, axis=1)
    return float(repeated[linear_sum_assignment(repeated, maximize=True)].mean())
