r"""What a generalised energy distance with Dice's coefficient in place of the Jaccard index can see.

For masks A and B that are not empty, of a and b pixels, Dice's coefficient is 2 <1_A, 1_B> / (a + b), and the matrix 1 / (a + b) over different sizes a, b > 0 is strictly
positive definite (Cauchy). With the difference of two laws in the *marginals by size*

    D_k(i) = P(pixel i in S, |S| = k) - Q(pixel i in Y, |Y| = k),

    Dice-GED^2(P, Q) = 2 sum_kl <D_k, D_l> / (k + l) + (P(empty) - Q(empty))^2,

which is zero exactly where the two laws give the same probability to each size together with each pixel. Of *which* pixels go together nothing is left: the kernel on the
2^n masks of n pixels has the rank n (n - 1) + 2 (n for each size below n, 1 each for the full and the empty mask), which is 2^n up to n = 3 and less from n = 4 on. On four
pixels (or regions of equal size) 1, 2, 3, 4 the laws

    P: {1, 2} or {3, 4},        Q: {1, 3} or {2, 4},        each with probability 1/2,

have no mask in common, and Dice-GED 0; under the Jaccard index GED^2 = 1/3.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, checked_count, refuse
from ensembletheory.segmentation.counts import sizes
from ensembletheory.segmentation.mask_law import MaskLaw, checked_masks

__all__ = ["dice_blind_pair", "dice_rank", "size_marginals"]


def dice_blind_pair(regions: Numbers | None = None) -> tuple[MaskLaw, MaskLaw]:
    """Two laws without a common mask that Dice-GED takes for one, of four disjoint regions (4, H, W) of equally many pixels (default: the pixels of a 2 x 2 image).

    Raises:
        ValueError: if the regions are not four, overlap, are empty or differ in size.
    """
    parts = np.asarray(checked_masks("regions", np.eye(4).reshape(4, 2, 2) if regions is None else regions))
    if parts.ndim != 3 or len(parts) != 4:
        refuse("regions", f"shape {parts.shape}", "(4, H, W)", "The masks are unions of two of four regions.")
    numbers = parts.sum(axis=(1, 2))
    if np.any(parts.sum(axis=0) > 1) or len(set(numbers)) > 1 or not numbers[0]:
        refuse(
            "regions", f"{numbers.tolist()} pixels, {int(np.sum(parts.sum(axis=0) > 1))} of them shared", "disjoint regions of the same number of pixels", "Draw them apart."
        )
    first, second, third, fourth = parts
    return MaskLaw(np.stack([first | second, third | fourth])), MaskLaw(np.stack([first | third, second | fourth]))


def size_marginals(law: MaskLaw) -> Float[Array, "k H W"]:
    """P(pixel in the mask, size of the mask = k) for k = 0 ... H W (zero at k = 0), which with P(empty) is all of a law that Dice-GED depends on."""
    return _size_marginals(law)


def dice_rank(n: int) -> int:
    """The rank of Dice's kernel on the 2^n masks of n pixels.

    Raises:
        ValueError: if n is not a positive whole number.
    """
    return checked_count("n", n, 1) * (n - 1) + 2


@jax.jit
def _size_marginals(law: MaskLaw) -> Float[Array, "k H W"]:
    by_size = sizes(law.masks)[None, :] == jnp.arange(1 + law.shape[0] * law.shape[1], dtype=float)[:, None]
    return jnp.einsum("km,mhw->khw", jnp.where(by_size, law.weights[None, :], 0.0), law.masks.astype(law.weights.dtype))
