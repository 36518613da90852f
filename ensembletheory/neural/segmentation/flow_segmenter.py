r"""Masks by flow matching: the flow that carries noise to masks given the image, one pixel a coordinate.

A mask y is the point X_0 = 2 y - 1 of {-1, 1}^n, and X_t = a_t X_0 + s_t Z a Gaussian path. The velocity of the flow is linear in the denoiser, whose coordinates are
probabilities:

    E[X_0 | X_t = u, x] = 2 P(y = 1 | X_t = u, x) - 1.

So a U-Net of the image and of u gives logits h(t, u, x), and minimised is the cross-entropy of y given X_t, a proper score of these probabilities at every time, in place of
the squared distance of velocities (Lipman et al. 2023), with the same optimum. Times are drawn as t = (1 - r^2) horizon, r uniform, so that times near noise are learned most:
n pixels that stand or fall together are told apart where a_t is about s_t / sqrt(n).

A mask is drawn by DDIM steps from noise with that spacing, and by the sign of what they end at; with the exact denoiser of a law of masks, and many steps, its law is that
law.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, checked_count
from ensembletheory.fields import Field
from ensembletheory.laws import standard_normal
from ensembletheory.neural.segmentation.pixel_segmenter import cross_entropy_of_pixels
from ensembletheory.neural.segmentation.segmenter import Exposure, SegmentationLearner, Segmenter
from ensembletheory.neural.segmentation.unet import PixelHead, UNet
from ensembletheory.processes import GaussianPath, TrigonometricInterpolant
from ensembletheory.samplers import Ddim, Sampler
from ensembletheory.segmentation import MaskDistribution

__all__ = ["FlowMasks", "FlowSegmenter", "FlowSegmenterLearner", "MaskDenoiser"]

_MAPS_OF_TIME = 2


class FlowMasks(MaskDistribution):
    """The law of the pixels that a flow from noise ends above 0.

    Args:
        process: the path.
        field: its denoiser, on R^(H W).
        grid: times from the horizon to 0.
        shape: (H, W).
    """

    process: GaussianPath
    field: Field
    grid: Float[Array, " times"]
    pixels: tuple[int, int] = eqx.field(static=True)

    def __init__(self, process: GaussianPath, field: Field, grid: Numbers, shape: Sequence[int]):
        self.process, self.field, self.grid, self.pixels = process, field, as_floats("grid", grid), (shape[0], shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return self.pixels

    def sample(self, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
        """`n` independent masks."""
        sampler = Sampler(self.process, self.field, Ddim(), self.grid)
        return sampler.sample(key, checked_count("n", n, 1), standard_normal(self.pixels[0] * self.pixels[1])).reshape(n, *self.pixels) > 0

    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """Refused: only draws tell them."""
        raise TypeError("FlowMasks: got a request for its pixel probabilities; expected a law that knows them. Take those of its draws: MaskLaw(law.sample(key, n)).")


class MaskDenoiser(Field):
    """The denoiser that a U-Net gives for one image.

    Args:
        process: the path.
        unet: of the maps: image, noised mask, two of the time.
        head: from features to logits.
        image: (H, W, 1), in its own units.
    """

    process: GaussianPath
    unet: UNet
    head: PixelHead
    image: Float[Array, "H W 1"]

    @property
    def kind(self) -> str:
        """A denoiser."""
        return "denoiser"

    @property
    def origin(self) -> GaussianPath:
        """The path."""
        return self.process

    def logits(self, t: Float[Array, ""], x: Float[Array, " n"]) -> Float[Array, "H W"]:
        """The logits of the pixels of the mask given the noised mask x."""
        process = jax.lax.stop_gradient(self.process)
        level, size = process.a(t), jnp.sqrt(process.a(t) ** 2 + process.noise_variance(t))
        clarity = jnp.clip(level / size, 0, 1)
        noised = (x / size).astype(jnp.float32).reshape(self.image.shape)
        time = jnp.broadcast_to(jnp.stack([clarity, jnp.sqrt(clarity)]).astype(jnp.float32), (*self.image.shape[:2], _MAPS_OF_TIME))
        return self.head(self.unet(jnp.concatenate([self.image, noised, time], axis=-1)))[..., 0]

    def __call__(self, t: Float[Array, ""], x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The mean of X_0 at time t and one noised mask x."""
        return jnp.tanh(self.logits(t, x) / 2).astype(x.dtype).ravel()


class FlowSegmenter(Segmenter):
    """The network; see the module and `FlowSegmenterLearner`.

    Args:
        exposure: the units of images.
        process: the path.
        unet: see `MaskDenoiser`.
        head: see `MaskDenoiser`.
        steps: of the flow.
    """

    exposure: Exposure
    process: GaussianPath
    unet: UNet
    head: PixelHead
    steps: int = eqx.field(static=True)

    def denoiser(self, image: Float[Array, "H W"]) -> MaskDenoiser:
        """The denoiser for one image."""
        return MaskDenoiser(self.process, self.unet, self.head, self.exposure.of(image))

    def law(self, image: Float[Array, "H W"]) -> FlowMasks:
        """The law of what the flow ends at."""
        grid = self.process.horizon * (1 - jnp.asarray((np.arange(self.steps + 1) / self.steps) ** 2, self.process.horizon.dtype))
        return FlowMasks(self.process, self.denoiser(image), grid, self.shape)

    def objective(self, key: PRNGKeyArray, image: Float[Array, "H W"], mask: Bool[Array, "H W"]) -> Float[Array, ""]:
        """The cross-entropy at one time, given one noised mask."""
        for_time, for_noise = jax.random.split(key)
        process = jax.lax.stop_gradient(self.process)
        t = process.horizon * (1 - jax.random.uniform(for_time, (), process.horizon.dtype) ** 2)
        noise = jax.random.normal(for_noise, (mask.size,), t.dtype)
        noised = process.a(t) * (2 * mask.ravel().astype(t.dtype) - 1) + jnp.sqrt(process.noise_variance(t)) * noise
        return cross_entropy_of_pixels(self.denoiser(image).logits(t, noised), mask)


class FlowSegmenterLearner(SegmentationLearner):
    """Flows from noise to masks.

    Args:
        process: the path; `TrigonometricInterpolant` if left out.
        steps: of the flow when masks are drawn.

    Raises:
        ValueError: if there is no step.
    """

    process: GaussianPath | None = None
    steps: int = eqx.field(static=True, default=12)

    def __check_init__(self):
        checked_count("steps", self.steps, 1)

    def model(self, key: PRNGKeyArray, exposure: Exposure) -> FlowSegmenter:
        """A `FlowSegmenter`."""
        for_unet, for_head = jax.random.split(key)
        process = TrigonometricInterpolant() if self.process is None else self.process
        unet = UNet(for_unet, 2 + _MAPS_OF_TIME, self.channels, self.patch)
        return FlowSegmenter(exposure, process, unet, PixelHead(for_head, self.channels[0], 1, self.patch), self.steps)
