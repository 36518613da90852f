r"""Masks whose pixels are independent: what a network with one probability a pixel says.

log P(y) = sum_i y_i log p_i + (1 - y_i) log (1 - p_i),  entropy = sum_i h(p_i),  with 0 log 0 = 0: where p_i is 0 or 1 a mask may be impossible.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr, xlog1py, xlogy
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, checked_count, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.segmentation.mask_law import MaskDistribution, checked_masks

__all__ = ["IndependentPixels"]


class IndependentPixels(MaskDistribution):
    """The law under which pixel i is in the mask with probability p_i, independently.

    Args:
        probabilities: (H, W), in [0, 1].

    Raises:
        ValueError: if the shape is wrong or a probability lies outside [0, 1].
    """

    probabilities: Float[Array, "H W"]

    def __init__(self, probabilities: Numbers):
        self.probabilities = as_floats("probabilities", probabilities)
        if self.probabilities.ndim != 2 or self.probabilities.size == 0:
            refuse("probabilities", f"shape {self.probabilities.shape}", "(H, W) with H, W >= 1", "n pixels without places are (1, n).")
        if is_concrete(self.probabilities) and not _on_unit_interval(np.asarray(self.probabilities)):
            least, most = np.min(np.asarray(self.probabilities)), np.max(np.asarray(self.probabilities))
            refuse("probabilities", f"values from {least:.6g} to {most:.6g}", "values in [0, 1]", "Put logits through a sigmoid first.")

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (H, W) of a mask."""
        return self.probabilities.shape[0], self.probabilities.shape[1]

    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """The probability that each pixel is in the mask."""
        return self.probabilities

    def sample(self, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
        """`n` independent masks."""
        return _drawn(self.probabilities, key, checked_count("n", n, 1))

    def log_prob(self, masks: Numbers) -> Float[Array, "..."]:
        """Log-probability of masks (..., H, W), as (...); -inf where a mask is impossible.

        Raises:
            ValueError: if they are not masks of this law's shape.
        """
        return _log_prob(self.probabilities, checked_masks("masks", masks, self.shape))

    def entropy(self) -> Estimate:
        """Shannon's entropy in nats."""
        return closed_form(_entropy(self.probabilities))


def _on_unit_interval(values: np.ndarray) -> bool:
    return bool(np.all((values >= 0) & (values <= 1)))


@eqx.filter_jit
def _drawn(probabilities: Float[Array, "H W"], key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
    return jax.random.bernoulli(key, jnp.broadcast_to(probabilities, (n, *probabilities.shape)))


@jax.jit
def _log_prob(probabilities: Float[Array, "H W"], masks: Bool[Array, "*n H W"]) -> Float[Array, "*n"]:
    p = jnp.broadcast_to(probabilities, masks.shape)
    drawn = masks.astype(p.dtype)
    return jnp.sum(xlogy(drawn, p) + xlog1py(1 - drawn, -p), axis=(-2, -1))


@jax.jit
def _entropy(probabilities: Float[Array, "H W"]) -> Float[Array, ""]:
    return jnp.sum(entr(probabilities) + entr(1 - probabilities))
