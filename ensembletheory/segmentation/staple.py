r"""STAPLE (Warfield, Zou & Wells 2004): one truth behind several graders, each with a sensitivity and a specificity of its own, by expectation maximisation.

Pixels are independent: with the prior f that a pixel is in the truth, p_j = P(grader j marks it | it is) and q_j = P(grader j leaves it | it is not),

    W(x) = f prod_j P(d_j(x) | in) / (f prod_j P(d_j(x) | in) + (1 - f) prod_j P(d_j(x) | out)),
    p_j = sum_{x: d_j(x) = 1} W(x) / sum_x W(x),     q_j = sum_{x: d_j(x) = 0} (1 - W(x)) / sum_x (1 - W(x)).

The prior stays at the share of pixels that the graders mark, as in ITK, whose filter (through SimpleITK, extra `images`) does the work. What comes out is one probability a
pixel: it is not a law of masks, and says nothing of how graders' opinions go together.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, checked_count, missing_extra, refuse
from ensembletheory.segmentation.mask_law import checked_masks

__all__ = ["Staple", "staple"]


class Staple(eqx.Module):
    """What STAPLE finds: the probability of each pixel to be in the truth, and each grader's sensitivity and specificity."""

    probabilities: Float[Array, "H W"]
    sensitivity: Float[Array, " m"]
    specificity: Float[Array, " m"]
    iterations: int = eqx.field(static=True)


def staple(masks: Numbers, most_iterations: int = 10_000) -> Staple:
    """The truth behind the masks (m, H, W) of m graders.

    Args:
        masks: of one image; some pixels marked, some not.
        most_iterations: after which the expectation maximisation stops in any case; it converges to seven digits.

    Raises:
        ValueError: if they are not masks of one image, or all graders mark no pixel or all pixels, of which there is nothing to learn.
        ImportError: without the extra `images`.
    """
    graders = np.asarray(checked_masks("masks", masks))
    if graders.ndim != 3 or 0 in graders.shape or graders.all() or not graders.any():
        refuse(
            "masks",
            f"shape {graders.shape}, {graders.mean() if graders.size else 0:.3g} of the pixels marked",
            "(m, H, W), some marked and some not",
            "There is nothing to reconcile.",
        )
    try:
        import SimpleITK as sitk
    except ImportError:
        missing_extra("SimpleITK", "images")
    em = sitk.STAPLEImageFilter()
    em.SetForegroundValue(1.0)
    em.SetMaximumIterations(checked_count("most_iterations", most_iterations, 1))
    truth = sitk.GetArrayFromImage(em.Execute([sitk.GetImageFromArray(grader.astype(np.uint8)) for grader in graders]))
    return Staple(jnp.asarray(truth), jnp.asarray(em.GetSensitivity()), jnp.asarray(em.GetSpecificity()), int(em.GetElapsedIterations()))
