r"""Stochastic segmentation networks (Monteiro et al. 2020): Gaussian logits whose covariance over pixels is of low rank plus diagonal.

    eta | x ~ N(mu(x), P(x) P(x)^T + diag d(x)),       y | eta: independent pixels with logits eta,

mu, the r columns of P and log d, held between -10 and 10, maps that a U-Net makes of the image. With independent draws eta_1 ... eta_K minimised is

    - E log (1/K) sum_k q(y | eta_k) >= - log q(y | x)       (Jensen; equal in the limit of many draws).

`likelihood(image)` is the law of y, `LowRankLogits`, whose likelihood is exact for r <= 2. As in the paper, a mask is drawn as the likelier value of every pixel given eta:
`ThresholdedLogits`, the law of {eta > 0}, whose pixel probabilities are Phi(mu_i / sqrt(|P_i|^2 + d_i)).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import checked_count
from ensembletheory.neural.segmentation.pixel_segmenter import cross_entropy_of_pixels
from ensembletheory.neural.segmentation.segmenter import Exposure, SegmentationLearner, Segmenter
from ensembletheory.neural.segmentation.unet import PixelHead, UNet
from ensembletheory.segmentation import LowRankLogits

__all__ = ["StochasticSegmenter", "StochasticSegmenterLearner", "ThresholdedLogits"]

_LARGEST_LOG = 10.0  # of a variance: those of pixels that are sure fall without end in training


class ThresholdedLogits(LowRankLogits):
    """The law of the pixels whose logits are positive; arguments as `LowRankLogits`, with positive variances."""

    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """The probability that each pixel is in the mask."""
        return _pixels(self.mean, self.factor, self.diagonal)

    def _log_cdf(self, x: Float[Array, "H W"]) -> Float[Array, "H W"]:
        return log_ndtr(x / jnp.sqrt(self.diagonal))

    def _noise(self, key: PRNGKeyArray, n: int) -> Float[Array, "n H W"]:
        return jnp.sqrt(self.diagonal)[None] * jax.random.normal(key, (n, *self.shape), self.mean.dtype)


class StochasticSegmenter(Segmenter):
    """The network; see the module and `StochasticSegmenterLearner`.

    Args:
        exposure: the units of images.
        unet: from an image to features.
        head: from features to mu, log d and the columns of P.
        samples: K, draws of the logits in training.
    """

    exposure: Exposure
    unet: UNet
    head: PixelHead
    samples: int = eqx.field(static=True)

    def maps(self, image: Float[Array, "H W"]) -> tuple[Float[Array, "H W"], Float[Array, "H W r"], Float[Array, "H W"]]:
        """Mean, columns of P, and the diagonal d."""
        maps = self.head(self.unet(self.exposure.of(image)))
        return maps[..., 0], maps[..., 2:], jnp.exp(jnp.clip(maps[..., 1], -_LARGEST_LOG, _LARGEST_LOG))

    def likelihood(self, image: Float[Array, "H W"]) -> LowRankLogits:
        """The law that is learned."""
        return LowRankLogits(*self.maps(image))

    def law(self, image: Float[Array, "H W"]) -> ThresholdedLogits:
        """The law of masks that are drawn."""
        return ThresholdedLogits(*self.maps(image))

    def objective(self, key: PRNGKeyArray, image: Float[Array, "H W"], mask: Bool[Array, "H W"]) -> Float[Array, ""]:
        """One draw of minus the bound."""
        mean, factor, diagonal = self.maps(image)
        for_factor, for_pixels = jax.random.split(key)
        common = jnp.einsum("hwr,kr->khw", factor, jax.random.normal(for_factor, (self.samples, factor.shape[-1]), mean.dtype))
        own = jnp.sqrt(diagonal)[None] * jax.random.normal(for_pixels, common.shape, mean.dtype)
        return float(np.log(self.samples)) - jax.nn.logsumexp(-cross_entropy_of_pixels(mean[None] + common + own, mask))


class StochasticSegmenterLearner(SegmentationLearner):
    """Stochastic segmentation networks by the Monte-Carlo likelihood.

    Args:
        rank: r, columns of P.
        samples: K, draws of the logits.

    Raises:
        ValueError: if a number is out of its range.
    """

    rank: int = eqx.field(static=True, default=4)
    samples: int = eqx.field(static=True, default=8)

    def __check_init__(self):
        checked_count("rank", self.rank, 1)
        checked_count("samples", self.samples, 1)

    def model(self, key: PRNGKeyArray, exposure: Exposure) -> StochasticSegmenter:
        """A `StochasticSegmenter`."""
        for_unet, for_head = jax.random.split(key)
        head = PixelHead(for_head, self.channels[0], 2 + self.rank, self.patch)
        return StochasticSegmenter(exposure, UNet(for_unet, 1, self.channels, self.patch), head, self.samples)


@jax.jit
def _pixels(mean: Float[Array, "H W"], factor: Float[Array, "H W r"], diagonal: Float[Array, "H W"]) -> Float[Array, "H W"]:
    return ndtr(mean / jnp.sqrt(jnp.sum(factor**2, axis=-1) + diagonal))
