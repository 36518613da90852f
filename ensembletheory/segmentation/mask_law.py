r"""Laws of binary masks: random subsets of the pixels of an image.

A mask is an array of truth values, or of zeros and ones, whose last two axes are the pixels (H, W); n pixels without places are (1, n). A law of masks gives the
probability that each pixel is in the mask (which says nothing of how pixels depend on each other) and draws whole masks; where its likelihood is known exactly it also has
`log_prob(masks)`.

`MaskLaw` is a law of finite support, sum_i w_i delta(mask_i): the graders of one image, the modes of a product of flips, or the empirical law of samples. Masks may repeat:
the mass of a mask is the sum of its weights.
"""

from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, checked_count, is_concrete, refuse
from ensembletheory.laws.weights import checked_weights
from ensembletheory.segmentation.counts import disagreements

__all__ = ["MaskDistribution", "MaskLaw", "checked_masks", "checked_members", "mixture_of_masks", "require_same_shape"]


class MaskDistribution(eqx.Module):
    """A law of masks of one shape."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """The shape (H, W) of a mask."""

    @abstractmethod
    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """The probability that each pixel is in the mask."""

    @abstractmethod
    def sample(self, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
        """`n` independent masks."""


class MaskLaw(MaskDistribution):
    """The law that gives masks[i] the probability weights[i].

    Args:
        masks: (m, H, W), true or 1 in the mask; a mask may repeat.
        weights: (m,), non-negative, summing to 1; default 1/m each.

    Raises:
        ValueError: if shapes do not agree, a mask holds other values than 0 and 1, or weights are off the simplex.
    """

    masks: Bool[Array, "m H W"]
    weights: Float[Array, " m"]

    def __init__(self, masks: Numbers, weights: Numbers | None = None):
        self.masks = checked_masks("masks", masks)
        if self.masks.ndim != 3 or 0 in self.masks.shape:
            refuse("masks", f"shape {self.masks.shape}", "(m, H, W) with m, H, W >= 1", "List the masks along the first axis; n pixels without places are (1, n).")
        self.weights = checked_weights(weights, len(self.masks))

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (H, W) of a mask."""
        return self.masks.shape[1], self.masks.shape[2]

    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """The probability that each pixel is in the mask."""
        return _pixels(self)

    def sample(self, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
        """`n` independent masks."""
        return _drawn(self, key, checked_count("n", n, 1))

    def log_prob(self, masks: Numbers) -> Float[Array, "..."]:
        """Log-probability of masks (..., H, W), as (...); -inf off the support.

        Raises:
            ValueError: if they are not masks of this law's shape.
        """
        return _log_prob(self, checked_masks("masks", masks, self.shape))

    def merged(self) -> "MaskLaw":
        """The same law with every mask of positive weight listed once, in the order of their pixels."""
        weights = np.asarray(self.weights)
        flat = np.asarray(self.masks).reshape(len(weights), -1)[weights > 0]
        different, which = np.unique(flat, axis=0, return_inverse=True)
        masses = np.bincount(which.ravel(), weights[weights > 0])
        return MaskLaw(different.reshape(-1, *self.shape), masses / masses.sum())


def mixture_of_masks(members: Sequence[MaskLaw], weights: Numbers | None = None) -> MaskLaw:
    """The linear pool sum_k w_k P_k of laws of finite support, with `weights` (default equal): draw a member, then a mask from it.

    Raises:
        ValueError: if there is no member, shapes of masks differ, or the weights are off the simplex.
    """
    return _mixed(*checked_members(members, weights))


def checked_members(members: Sequence[MaskLaw], weights: Numbers | None) -> tuple[list[MaskLaw], Float[Array, " K"]]:
    """The members of a pool and their weights.

    Raises:
        ValueError: if there is no member, shapes of masks differ, or the weights are off the simplex.
    """
    laws = list(members)
    if not laws or len({law.shape for law in laws}) > 1:
        refuse("members", f"shapes {[law.shape for law in laws]}", "one or more laws of masks of one shape", "Bring the masks to one size first.")
    return laws, checked_weights(weights, len(laws))


def require_same_shape(p: MaskDistribution, q: MaskDistribution) -> None:
    """Refuse two laws of masks of different shapes.

    Raises:
        ValueError: naming both shapes.
    """
    if p.shape != q.shape:
        refuse("q", f"masks of shape {q.shape}", f"shape {p.shape}, that of `p`", "Bring the masks to one size first.")


def checked_masks(argument: str, masks: Numbers, shape: tuple[int, int] | None = None) -> Bool[Array, "..."]:
    """`masks` (..., H, W) as truth values.

    Raises:
        ValueError: if there are no two pixel axes, they are not `shape`, or (when values can be looked at) one is neither 0 nor 1.
    """
    try:
        array = masks if isinstance(masks, jax.Array) else np.asarray(masks)
    except (TypeError, ValueError) as error:
        refuse(argument, f"{type(masks).__name__} ({error})", "masks in a regular array", "Pass truth values or zeros and ones.")
    if array.ndim < 2 or (shape is not None and array.shape[-2:] != shape):
        expected = "(..., H, W)" if shape is None else f"(..., {shape[0]}, {shape[1]})"
        refuse(argument, f"shape {array.shape}", expected, "The last two axes are the pixels; n pixels without places are (1, n).")
    if array.dtype == bool:
        return jnp.asarray(array)
    if is_concrete(array) and not np.all((np.asarray(array) == 0) | (np.asarray(array) == 1)):
        refuse(argument, "values other than 0 and 1", "truth values, or zeros and ones", "Compare probabilities or logits with a threshold, and classes with one class.")
    return jnp.asarray(array.astype(bool))


@eqx.filter_jit
def _mixed(laws: list[MaskLaw], shares: Float[Array, " K"]) -> MaskLaw:
    return MaskLaw(jnp.concatenate([law.masks for law in laws]), jnp.concatenate([share * law.weights for share, law in zip(shares, laws, strict=True)]))


@eqx.filter_jit
def _pixels(law: MaskLaw) -> Float[Array, "H W"]:
    return jnp.clip(jnp.tensordot(law.weights, law.masks.astype(law.weights.dtype), axes=1), 0, 1)  # weights sum to 1 up to rounding


@eqx.filter_jit
def _drawn(law: MaskLaw, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
    return law.masks[jax.random.choice(key, law.weights.shape[0], (n,), p=law.weights)]


@eqx.filter_jit
def _log_prob(law: MaskLaw, masks: Bool[Array, "*n H W"]) -> Float[Array, "*n"]:
    return jnp.log((disagreements(masks, law.masks) == 0).astype(law.weights.dtype) @ law.weights)
