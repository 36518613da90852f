r"""The Probabilistic U-Net (Kohl et al. 2018): one latent says which of the readings of an image is drawn, for all pixels together.

    z | x ~ N(m(x), diag s(x)^2),       y | x, z: independent pixels with logits h(u(x), z),

u the features of a U-Net, h a perceptron at every place, which sees z at all of them, (m, log s) an encoder of the image. A second encoder, of image and mask, gives
a posterior e(z | x, y); minimised is

    - E_{z ~ e} log q(y | x, z) + beta KL(e(z | x, y) || N(m(x), diag s(x)^2)) >= - log q(y | x)        (beta = 1).

`bounds` estimates what the model says of images and masks: with z_1 ... z_K from the posterior, as for autoencoders (`ensembletheory.neural.latent.variational`),

    L_K = E log (1/K) sum_k q(y | x, z_k) N(z_k; m(x), diag s(x)^2) / e(z_k | x, y) <= L_{K+1} <= log q(y | x),       L_1 the evidence lower bound.

As in the paper, a mask is drawn as the likelier value of every pixel given z: `LatentMasks`, which `at` gives, is the law of {h(u(x), z) > 0}, z from the prior, and not q,
whose pixels are noisy given z. Its probabilities of pixels are means over a lattice of 512 points z, the quantiles of the fractional parts of multiples of powers of a
generalised golden ratio, and come without a bound on their error: a probability is a multiple of 1/512.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy.special import ndtri

from ensembletheory.errors import Numbers, checked_count, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.latent.averages import checked_beta
from ensembletheory.neural.segmentation.pixel_segmenter import cross_entropy_of_pixels
from ensembletheory.neural.segmentation.segmenter import Exposure, SegmentationLearner, Segmenter, checked_images
from ensembletheory.neural.segmentation.unet import MapEncoder, PixelHead, UNet
from ensembletheory.segmentation import MaskDistribution
from ensembletheory.segmentation.mask_law import checked_masks

__all__ = ["LatentMasks", "ProbabilisticUNet", "ProbabilisticUNetLearner"]

_NODES = 512
_FIXED_POINT_STEPS = 60


class LatentMasks(MaskDistribution):
    """The law of {h(features, z) > 0}, z ~ N(mean, diag scale^2).

    Args:
        features: (h, w, F).
        mean: (q,).
        scale: (q,), positive.
        head: h, of F + q maps.
    """

    features: Float[Array, "h w F"]
    mean: Float[Array, " q"]
    scale: Float[Array, " q"]
    head: PixelHead

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.features.shape[0] * self.head.patch, self.features.shape[1] * self.head.patch

    def logits(self, z: Float[Array, " q"]) -> Float[Array, "H W"]:
        """The logits of pixels given z."""
        places = jnp.broadcast_to(z.astype(self.features.dtype), (*self.features.shape[:2], z.size))
        return self.head(jnp.concatenate([self.features, places], axis=-1))[..., 0]

    def sample(self, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
        """`n` independent masks."""
        return _masks(self, jax.random.normal(key, (n, self.mean.size), self.mean.dtype))

    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """The probability that each pixel is in the mask, by the lattice of the module; without a bound on its error."""
        return jnp.mean(_masks(self, jnp.asarray(_lattice(self.mean.size), self.mean.dtype)), axis=0, dtype=jnp.result_type(float))


class ProbabilisticUNet(Segmenter):
    """The network; see the module and `ProbabilisticUNetLearner`.

    Args:
        exposure: the units of images.
        unet: from an image to features.
        head: from features and z to the logits of pixels.
        prior: from an image to mean and log standard deviation of z.
        posterior: the same from image and mask.
        beta: weight of the divergence, which is not trained.
    """

    exposure: Exposure
    unet: UNet
    head: PixelHead
    prior: MapEncoder
    posterior: MapEncoder
    beta: float = eqx.field(static=True, default=1.0)

    def law(self, image: Float[Array, "H W"]) -> LatentMasks:
        """The law of the likeliest masks given latents of the prior."""
        x = self.exposure.of(image)
        mean, log_scale = jnp.split(self.prior(x), 2)
        return LatentMasks(self.unet(x), mean, jnp.exp(log_scale), self.head)

    def objective(self, key: PRNGKeyArray, image: Float[Array, "H W"], mask: Bool[Array, "H W"]) -> Float[Array, ""]:
        """One draw of minus the bound."""
        law = self.law(image)
        mean, log_scale = self._given(image, mask)
        z = mean + jnp.exp(log_scale) * jax.random.normal(key, mean.shape, mean.dtype)
        ratio = jnp.exp(log_scale) / law.scale
        divergence = jnp.sum(ratio**2 + ((mean - law.mean) / law.scale) ** 2 - 1 - 2 * jnp.log(ratio)) / 2
        return cross_entropy_of_pixels(law.logits(z), mask) + self.beta * divergence

    def bounds(self, key: PRNGKeyArray, images: Numbers, masks: Numbers, K: int = 1, samples: int = 64) -> Estimate:
        """The bound L_K in nats on log q(y | x) of each image (n, H, W) and its mask, by `samples` draws of K latents; whatever `beta` was trained with.

        Raises:
            ValueError: if the images have another shape than those learned from, masks are not as many, of that shape and of zeros and ones, K < 1, or there are fewer than
                two samples.
        """
        seen, marked = checked_images("images", images, self.shape, 3), checked_masks("masks", masks)
        if marked.shape != seen.shape:
            refuse("masks", f"shape {marked.shape}", f"{seen.shape}, a mask for each image", "Repeat an image for each of its graders.")
        return _bounds(self, key, seen, marked, checked_count("K", K, 1), checked_count("samples", samples, 2))

    def _given(self, image: Float[Array, "H W"], mask: Bool[Array, "H W"]) -> list[Float[Array, " q"]]:
        """Mean and log standard deviation of the posterior."""
        seen = jnp.concatenate([self.exposure.of(image), 2 * mask[..., None].astype(jnp.float32) - 1], axis=-1)
        return jnp.split(self.posterior(seen), 2)


class ProbabilisticUNetLearner(SegmentationLearner):
    """Probabilistic U-Nets by the evidence lower bound.

    Args:
        latent: q, the dimension of z.
        beta: weight of the divergence from the prior; 1 gives the bound.

    Raises:
        ValueError: if a number is out of its range.
    """

    latent: int = eqx.field(static=True, default=4)
    beta: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        checked_count("latent", self.latent, 1)
        checked_beta(self.beta)

    def model(self, key: PRNGKeyArray, exposure: Exposure) -> ProbabilisticUNet:
        """A `ProbabilisticUNet`."""
        for_unet, for_head, for_prior, for_posterior = jax.random.split(key, 4)
        width = self.channels[0]
        head = PixelHead(for_head, width + self.latent, 1, self.patch, width, 2)
        prior, posterior = (MapEncoder(k, inputs, 2 * self.latent, self.channels, self.patch) for k, inputs in ((for_prior, 1), (for_posterior, 2)))
        return ProbabilisticUNet(exposure, UNet(for_unet, 1, self.channels, self.patch), head, prior, posterior, self.beta)


def _lattice(q: int) -> Float[np.ndarray, "nodes q"]:
    """Standard normal quantiles of the fractional parts of 1/2 + j (g^-1, ..., g^-q), g^(q+1) = g + 1."""
    golden = 1.5
    for _ in range(_FIXED_POINT_STEPS):
        golden = (1 + golden) ** (1 / (q + 1))
    return ndtri(np.mod(0.5 + np.arange(_NODES)[:, None] / golden ** np.arange(1, q + 1), 1))


@eqx.filter_jit
def _bounds(model: ProbabilisticUNet, key: PRNGKeyArray, images: Float[Array, "n H W"], masks: Bool[Array, "n H W"], K: int, samples: int) -> Estimate:
    def at(row):
        key, image, mask = row
        law, (mean, log_scale) = model.law(image), model._given(image, mask)

        def bound(key):
            noise = jax.random.normal(key, (K, mean.size), mean.dtype)
            z = mean[None] + jnp.exp(log_scale)[None] * noise
            ratios = noise**2 / 2 + log_scale[None] - ((z - law.mean[None]) / law.scale[None]) ** 2 / 2 - jnp.log(law.scale)[None]
            log_weights = jnp.sum(ratios, axis=1) - cross_entropy_of_pixels(jax.vmap(law.logits)(z), mask)
            return jax.nn.logsumexp(log_weights).astype(jnp.result_type(float)) - np.log(K)

        return monte_carlo(jax.lax.map(bound, jax.random.split(key, samples)))

    return jax.lax.map(at, (jax.random.split(key, len(images)), images, masks))


@eqx.filter_jit
def _masks(law: LatentMasks, normal: Float[Array, "n q"]) -> Bool[Array, "n H W"]:
    return jax.vmap(lambda e: law.logits(law.mean + law.scale * e) > 0)(normal)
