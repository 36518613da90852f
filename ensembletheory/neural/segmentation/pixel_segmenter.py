"""A U-Net that gives every pixel its probability, and masks of independent pixels; asked for its likeliest mask, the usual deterministic segmenter."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.neural.segmentation.segmenter import Exposure, SegmentationLearner, Segmenter
from ensembletheory.neural.segmentation.unet import PixelHead, UNet
from ensembletheory.segmentation import IndependentPixels

__all__ = ["PixelSegmenter", "PixelSegmenterLearner", "cross_entropy_of_pixels"]


class PixelSegmenter(Segmenter):
    """Probabilities of pixels; see `PixelSegmenterLearner`.

    Args:
        exposure: the units of images.
        unet: from an image to features.
        head: from features to the logits of pixels.
    """

    exposure: Exposure
    unet: UNet
    head: PixelHead

    def logits(self, image: Float[Array, "H W"]) -> Float[Array, "H W"]:
        """The logits of the pixels of one image."""
        return self.head(self.unet(self.exposure.of(image)))[..., 0]

    def law(self, image: Float[Array, "H W"]) -> IndependentPixels:
        """Independent pixels."""
        return IndependentPixels(jax.nn.sigmoid(self.logits(image)))

    def objective(self, key: PRNGKeyArray, image: Float[Array, "H W"], mask: Bool[Array, "H W"]) -> Float[Array, ""]:
        """The cross-entropy."""
        return cross_entropy_of_pixels(self.logits(image), mask)


class PixelSegmenterLearner(SegmentationLearner):
    """U-Nets by cross-entropy, whose optimum gives every pixel the share of graders that mark it."""

    def model(self, key: PRNGKeyArray, exposure: Exposure) -> PixelSegmenter:
        """A `PixelSegmenter`."""
        for_unet, for_head = jax.random.split(key)
        return PixelSegmenter(exposure, UNet(for_unet, 1, self.channels, self.patch), PixelHead(for_head, self.channels[0], 1, self.patch))


def cross_entropy_of_pixels(logits: Float[Array, "*n H W"], mask: Bool[Array, "H W"]) -> Float[Array, "*n"]:
    """Minus the log-probability of a mask of independent pixels with the given logits."""
    return -jnp.sum(jax.nn.log_sigmoid(jnp.where(mask, logits, -logits)), axis=(-2, -1))
