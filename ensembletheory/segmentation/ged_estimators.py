r"""GED^2 from n samples of a model, one image or a batch of images at a time, and what such numbers are on average.

With the overlap k, samples S_1 ... S_n and graders Y_1 ... Y_m,

    V_n = (1/n^2) sum_ij k(S_i, S_j) + (1/m^2) sum_ij k(Y_i, Y_j) - (2/nm) sum_ij k(S_i, Y_j),     the GED^2 of the two empirical laws (pairs of a mask with itself included),
    U_n   the same with the first sum over i != j, divided by n (n - 1).

Where the graders are the whole law Q, and the samples independent draws from P,

    E U_n = GED^2(P, Q),      E V_n = GED^2(P, Q) + (E d(S, S') - E d(S, S)) / n,

so V_n charges a model for its own diversity: the exact law itself has V_n = E d(S, S') / n > 0, and numbers of different n cannot be compared. Where the m graders are
draws too, V_n gains (E d(Y, Y') - E d(Y, Y)) / m, and U_n leaves out their self-pairs as well. U_n may be negative.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, checked_count, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.segmentation.counts import sizes
from ensembletheory.segmentation.ged import expected_overlaps, ged_squared
from ensembletheory.segmentation.mask_law import MaskLaw, checked_masks, require_same_shape
from ensembletheory.segmentation.overlaps import Overlap, jaccard, table_of

__all__ = ["expected_v_statistic", "ged_u_statistic", "ged_v_statistic"]


def ged_v_statistic(samples: Numbers, graders: Numbers, weights: Numbers | None = None, overlap: Overlap = jaccard) -> Float[Array, "..."]:
    """V_n, the GED^2 of the law of the samples to that of the graders, of each image.

    Args:
        samples: (..., n, H, W), of each image.
        graders: (..., m, H, W), of the same images.
        weights: (m,) or (..., m), the probabilities of the graders' masks; default equal.
        overlap: `jaccard`, or another one.

    Raises:
        ValueError: if shapes do not agree or weights are off the simplex.
    """
    return _by_images(*_checked(samples, graders, weights, 1), overlap, False, False)


def ged_u_statistic(samples: Numbers, graders: Numbers, weights: Numbers | None = None, overlap: Overlap = jaccard, graders_drawn: bool = False) -> Float[Array, "..."]:
    """U_n, unbiased for the GED^2 of the law that the samples were drawn from, of each image.

    Args:
        samples: (..., n, H, W) with n >= 2, independent draws.
        graders: (..., m, H, W), of the same images.
        weights: (m,) or (..., m), the probabilities of the graders' masks; default equal.
        overlap: `jaccard`, or another one.
        graders_drawn: whether the graders are draws, m >= 2 and equally likely, from the law that is meant, rather than that law itself.

    Raises:
        ValueError: if shapes do not agree, there are too few masks, weights are off the simplex, or drawn graders have weights.
    """
    if graders_drawn and weights is not None:
        refuse("weights", "weights of drawn graders", "None", "Independent draws count alike.")
    masks, truths, masses = _checked(samples, graders, weights, 2)
    if graders_drawn:
        checked_count("graders", truths.shape[-3], 2)
    return _by_images(masks, truths, masses, overlap, True, graders_drawn)


def expected_v_statistic(p: MaskLaw, q: MaskLaw, n: int, m: int | None = None, overlap: Overlap = jaccard) -> Estimate:
    """E V_n for n draws from `p`, beside the law `q` itself or, where `m` is given, m draws from it.

    Raises:
        ValueError: if the shapes differ, or a count is not a positive whole number.
    """
    per_draw = [1 / checked_count("n", n, 1), 0.0 if m is None else 1 / checked_count("m", m, 1)]
    require_same_shape(p, q)
    return closed_form(_expected(p, q, jnp.asarray(per_draw), overlap))


@eqx.filter_jit
def _expected(p: MaskLaw, q: MaskLaw, per_draw: Float[Array, " 2"], overlap: Overlap) -> Float[Array, ""]:
    return ged_squared(p, q, overlap).value + per_draw @ jnp.stack([_self_distance(p, overlap), _self_distance(q, overlap)])


def _self_distance(law: MaskLaw, overlap: Overlap) -> Float[Array, ""]:
    """E d(S, S') - E d(S, S)."""
    number = sizes(law.masks)
    return law.weights @ overlap(number, number, number) - expected_overlaps(law, law, overlap)


def _checked(samples: Numbers, graders: Numbers, weights: Numbers | None, least: int) -> tuple[Array, Array, Array]:
    masks = checked_masks("samples", samples)
    truths = checked_masks("graders", graders, (masks.shape[-2], masks.shape[-1]))
    if masks.ndim < 3 or truths.ndim < 3 or masks.shape[:-3] != truths.shape[:-3]:
        refuse(
            "graders", f"shapes {masks.shape} and {truths.shape}", "(..., n, H, W) and (..., m, H, W) of the same images", "One list of samples and one of graders an image."
        )
    checked_count("samples", masks.shape[-3], least)
    checked_count("graders", truths.shape[-3], 1)
    return masks, truths, _checked_masses(weights, truths.shape[:-2])


def _checked_masses(weights: Numbers | None, shape: tuple[int, ...]) -> Float[Array, "... m"]:
    if weights is None:
        return jnp.asarray(np.full(shape[-1], 1 / shape[-1], jnp.result_type(float)))
    masses = as_floats("weights", weights)
    if masses.shape not in (shape, shape[-1:]):
        refuse("weights", f"shape {masses.shape}", f"{shape} or {shape[-1:]}", "One weight a grader.")
    if is_concrete(masses):
        values = np.asarray(masses)
        least, excess = float(values.min()), float(abs(values.sum(axis=-1) - 1).max())
        if least < 0 or excess > 8 * shape[-1] * np.finfo(masses.dtype).eps:
            refuse("weights", f"smallest {least:.6g}, a sum {excess:.2g} from 1", "weights >= 0 that sum to 1", "Divide them by their sum.")
    return masses


@eqx.filter_jit
def _by_images(masks: Array, truths: Array, masses: Array, overlap: Overlap, drawn: bool, graders_drawn: bool) -> Float[Array, "..."]:
    """Image by image, so that what lies between stays in the cache."""
    parts = masks, truths, jnp.broadcast_to(masses, truths.shape[:-2])
    images = tuple(part.reshape(-1, *part.shape[masks.ndim - 3 :]) for part in parts)
    return jax.lax.map(lambda image: _of_image(image[0], image[1], image[2], overlap, drawn, graders_drawn), images).reshape(masks.shape[:-3])


def _of_image(masks: Array, truths: Array, masses: Array, overlap: Overlap, drawn: bool, graders_drawn: bool) -> Float[Array, ""]:
    n = len(masks)
    table = table_of(jnp.concatenate([masks, truths]), jnp.concatenate([masks, truths]), overlap)
    own, others = table[:n, :n], table[n:, n:]
    within = _mean_of_pairs(own) if drawn else jnp.mean(own)
    beyond = _mean_of_pairs(others) if graders_drawn else masses @ others @ masses
    return within + beyond - 2 * jnp.mean(table[:n, n:] @ masses)


def _mean_of_pairs(table: Float[Array, "n n"]) -> Float[Array, ""]:
    """Of different indices."""
    return (jnp.sum(table) - jnp.trace(table)) / (len(table) * (len(table) - 1))
