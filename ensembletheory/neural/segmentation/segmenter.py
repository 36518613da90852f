r"""Segmenters: networks that give, for an image, the law of the masks that graders draw of it; how they learn from rows, and how they are asked about many images.

A grader's mask y of an image x is random. Data are pairs (x, y), as rows of H W pixels and H W zeros or ones (`joined_rows`): an image that m graders marked makes m rows.
Every model has `at(image)`, a `MaskDistribution`, and `objective(key, image, mask)`, an unbiased estimate of what is minimised on average over the rows.

| model | law q of y given x | minimised | `at(image)` |
|---|---|---|---|
| `PixelSegmenter` | independent pixels | cross-entropy, - log q(y given x) | q |
| `ProbabilisticUNet` | independent pixels given a latent | minus a bound on log q(y given x) | likeliest masks given drawn latents |
| `StochasticSegmenter` | independent pixels given Gaussian logits of low rank plus diagonal | minus a bound on log q(y given x) | likeliest masks given drawn logits |
| `FlowSegmenter` | the end of a flow from noise | cross-entropy of the mask given its noised self | the signs of that end |

Where `at(image)` is not q, it is what the sources draw: masks without the noise of single pixels. What is trained, and what its bounds speak of, is q.

Images are seen in units of their own: the mean and the standard deviation of all pixels of the images learned from are taken off. What is not trained.
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, checked_count, is_concrete, refuse
from ensembletheory.laws import FiniteLaw, Law
from ensembletheory.laws.weights import checked_weights
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.segmentation.unet import require_scales
from ensembletheory.neural.training import Loss
from ensembletheory.segmentation import MaskDistribution
from ensembletheory.segmentation.mask_law import checked_masks

__all__ = ["Exposure", "SegmentationLearner", "SegmentationLoss", "Segmenter", "checked_images", "joined_rows", "sampled_masks"]

_BLOCK = 8  # images whose masks are drawn at once


class Exposure(eqx.Module):
    """The shape of images, and mean and standard deviation of their pixels.

    Args:
        law: of joined rows.
        shape: (H, W).
    """

    mean: Float[Array, ""]
    scale: Float[Array, ""]
    shape: tuple[int, int] = eqx.field(static=True)

    def __init__(self, law: FiniteLaw, shape: tuple[int, int]):
        pixels = law.points[:, : shape[0] * shape[1]]
        self.shape, self.mean = shape, jnp.mean(law.weights @ pixels)
        self.scale = jnp.sqrt(jnp.mean(law.weights @ (pixels - self.mean) ** 2))

    def of(self, image: Float[Array, "H W"]) -> Float[Array, "H W 1"]:
        """The image as one map in its own units, in single precision."""
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        return ((image - mean) / scale).astype(jnp.float32)[..., None]


class Segmenter(eqx.Module):
    """A model of the masks of an image."""

    exposure: eqx.AbstractVar[Exposure]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.exposure.shape

    def at(self, image: Numbers) -> MaskDistribution:
        """The law of the masks of one image (H, W).

        Raises:
            ValueError: if the image has another shape than those learned from, or a value is not finite.
        """
        return _at(self, checked_images("image", image, self.shape, 2))

    @abstractmethod
    def law(self, image: Float[Array, "H W"]) -> MaskDistribution:
        """`at`, for images whose values cannot be looked at."""

    @abstractmethod
    def objective(self, key: PRNGKeyArray, image: Float[Array, "H W"], mask: Bool[Array, "H W"]) -> Float[Array, ""]:
        """What training minimises, of one image and one grader's mask."""


class SegmentationLoss(eqx.Module):
    """The mean objective over a batch of draws; called with (model, key).

    Args:
        law: of joined rows.
        batch: draws a call.

    Raises:
        ValueError: if the batch is less than one.
    """

    law: FiniteLaw
    batch: int = eqx.field(static=True)

    def __check_init__(self):
        checked_count("batch", self.batch, 1)

    def __call__(self, model: Segmenter, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean over the batch."""
        for_rows, for_model = jax.random.split(key)
        pairs = self.law.sample(for_rows, self.batch).reshape(self.batch, 2, *model.shape)
        values = jax.vmap(model.objective)(jax.random.split(for_model, self.batch), pairs[:, 0], pairs[:, 1] > 0.5)
        return jnp.mean(values).astype(self.law.weights.dtype)


class SegmentationLearner(Learner):
    """What all families of segmenters are told.

    Args:
        shape: (H, W).
        channels: of the U-Net at each scale.
        patch: pixels a side of the patches that it begins with.
        batch: draws a step.

    Raises:
        ValueError: if a number is below 1, or patches and scales do not divide the pixels.
    """

    shape: tuple[int, int] = eqx.field(static=True)
    channels: tuple[int, ...] = eqx.field(static=True, default=(16, 32, 32))
    patch: int = eqx.field(static=True, default=2)
    batch: int = eqx.field(static=True, default=16)

    def __check_init__(self):
        for width in (*self.channels, self.patch, self.batch):
            checked_count("channels, patch and batch", width, 1)
        require_scales(self.shape, self.patch, len(self.channels))

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A model, its units those of the images.

        Raises:
            ValueError: if the law is not one of joined rows.
        """
        return self.model(key, Exposure(_require_rows(law, self.shape), self.shape))

    def loss(self, law: Law) -> Loss:
        """The mean objective.

        Raises:
            ValueError: if the law is not one of joined rows.
        """
        return SegmentationLoss(_require_rows(law, self.shape), self.batch)

    @abstractmethod
    def model(self, key: PRNGKeyArray, exposure: Exposure) -> Segmenter:
        """A model of the family."""


def joined_rows(images: Numbers, masks: Numbers, weights: Numbers | None = None) -> FiniteLaw:
    """Rows of an image and a grader's mask, each pair of the same image with its grader's weight.

    Args:
        images: (n, H, W).
        masks: (n, m, H, W), those of m graders of each image, as zeros and ones.
        weights: (m,) of the graders, by default equal.

    Raises:
        ValueError: if shapes do not agree, a mask is not of zeros and ones, all pixels are equal, or weights are off the simplex.
    """
    marked = np.asarray(checked_masks("masks", masks))
    if marked.ndim != 4 or 0 in marked.shape:
        refuse("masks", f"shape {marked.shape}", "(n, m, H, W)", "With one grader write masks[:, None].")
    n, m, H, W = marked.shape
    seen = np.asarray(checked_images("images", images, (H, W), 3))
    if len(seen) != n:
        refuse("images", f"{len(seen)} for masks of {n}", "as many images as there are masks of", "Give all graders' masks of an image in one row.")
    if np.ptp(seen) == 0:
        refuse("images", "equal pixels only", "pixels that differ", "There is nothing to see.")
    rows = np.concatenate([np.repeat(seen.reshape(n, 1, H * W), m, axis=1), marked.reshape(n, m, H * W).astype(seen.dtype)], axis=2)
    return FiniteLaw(rows.reshape(n * m, 2 * H * W), np.tile(np.asarray(checked_weights(weights, m)) / n, n))


def sampled_masks(key: PRNGKeyArray, model: Segmenter, images: Numbers, n: int) -> Bool[Array, "images n H W"]:
    """`n` masks of each of many images (images, H, W), by one program.

    Raises:
        ValueError: if the images have another shape than those learned from, or n < 1.
    """
    return _sampled(key, model, checked_images("images", images, model.shape, 3), checked_count("n", n, 1))


@eqx.filter_jit
def _at(model: Segmenter, image: Float[Array, "H W"]) -> MaskDistribution:
    return model.law(image)


@eqx.filter_jit
def _sampled(key: PRNGKeyArray, model: Segmenter, images: Float[Array, "images H W"], n: int) -> Bool[Array, "images n H W"]:
    def drawn(key_and_image):
        key, image = key_and_image
        return model.law(image).sample(key, n)

    return jax.lax.map(drawn, (jax.random.split(key, len(images)), images), batch_size=min(_BLOCK, len(images)))


def checked_images(argument: str, images: Numbers, shape: tuple[int, int], axes: int) -> Float[Array, "... H W"]:
    """One image (two axes) or several (three), of the shape and finite.

    Raises:
        ValueError: otherwise.
    """
    array = as_floats(argument, images)
    if array.ndim != axes or array.shape[-2:] != shape or 0 in array.shape:
        expected = f"({'' if axes == 2 else 'n, '}{shape[0]}, {shape[1]})"
        refuse(argument, f"shape {array.shape}", expected, "Images have the shape of those that were learned from, and of their masks.")
    return array


def _require_rows(law: Law, shape: tuple[int, int]) -> FiniteLaw:
    if not isinstance(law, FiniteLaw) or law.dim != 2 * shape[0] * shape[1]:
        got, expected = f"a {type(law).__name__} of dimension {law.dim}", f"rows of {shape[0]} x {shape[1]} pixels and as many zeros and ones"
        refuse("data", got, expected, "Make them by joined_rows(images, masks).")
    masks = law.points[:, shape[0] * shape[1] :]
    if is_concrete(masks) and not np.all((np.asarray(masks) == 0) | (np.asarray(masks) == 1)):
        refuse("data", "masks of other values than 0 and 1", "zeros and ones", "Make them by joined_rows(images, masks).")
    return law
