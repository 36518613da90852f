r"""Graders whose law of masks is known exactly.

Every law here has finite support, so that distances to it, floors under what a predictor can reach, and the laws of a few graders drawn from it are sums.

 - `morphological_graders`: one true mask Y*, of which a grader draws Y* itself, Y* grown or shrunk by a disc of radius r (over- and under-segmentation), Y* moved
   by r pixels along an axis, or nothing at all, each with its probability. Growing and shrinking are dual: the complement of the grown mask is the shrunk complement.
 - `threshold_graders`: a map of probabilities p and graders of levels t_i, of whom the i-th marks {p >= t_i}. Their masks are nested. For levels (i - 1/2) / m,
   equally likely, the share of graders that mark a pixel is p to within 1 / (2 m).
 - `lesion_images`: images of a lesion with a dim rim and a dim neighbour, seen through noise. Whether a grader misses the lesion, draws its core, or the core with
   its rim, and whether the neighbour is drawn too, is chance: (0.1, 0.4, 0.5) and, independently, (0.6, 0.4). Those six readings are the law of graders given the
   image; no image settles them, so that no function of the image predicts a grader.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from scipy import ndimage

from ensembletheory.errors import Numbers, as_floats, checked_count, checked_index, missing_extra, refuse
from ensembletheory.segmentation.mask_law import MaskLaw, checked_masks

__all__ = ["LesionImages", "dilated", "eroded", "grey_matter_map", "lesion_images", "morphological_graders", "shifted", "threshold_graders"]

_EXTENTS, _NEIGHBOUR = np.array([0.1, 0.4, 0.5]), np.array([0.6, 0.4])  # of missing, drawing the core, core and rim; of leaving and drawing the neighbour
_SMALLEST = 16  # pixels a side, from which on no region is empty
_BRIGHTNESS = np.array([1.0, 0.5, 0.5])  # of core, rim and neighbour
_NOISE = 0.15


class LesionImages(eqx.Module):
    """Images, the masks that graders drew of them, and the law the graders have.

    Args:
        images: (n, H, W).
        masks: (n, graders, H, W).
        readings: (n, 6, H, W), the masks a grader may draw of each image.
        probabilities: (6,), of the readings.
    """

    images: Float[Array, "n H W"]
    masks: Bool[Array, "n graders H W"]
    readings: Bool[Array, "n m H W"]
    probabilities: Float[Array, " m"]

    def law(self, i: int) -> MaskLaw:
        """The law of a grader's mask of image i.

        Raises:
            ValueError: if there is no image i.
        """
        return MaskLaw(self.readings[checked_index("i", i, len(self.readings))], self.probabilities)


def lesion_images(key: PRNGKeyArray, n: int, size: int = 64, graders: int = 4) -> LesionImages:
    """`n` images of size x size pixels, each with the masks of independent graders and their law. See the module.

    Args:
        key: PRNG key.
        n: number of images.
        size: pixels a side, at least 16.
        graders: graders an image.

    Raises:
        ValueError: if a count is below 1, or the size below 16.
    """
    n, size, graders = checked_count("n", n, 1), checked_count("size", size, _SMALLEST), checked_count("graders", graders, 1)
    return _drawn(key, n, size, graders)


@eqx.filter_jit
def _drawn(key: PRNGKeyArray, n: int, size: int, graders: int) -> LesionImages:
    probabilities = jnp.asarray(np.outer(_EXTENTS, _NEIGHBOUR).ravel(), jnp.result_type(float))
    images, masks, readings = jax.vmap(lambda key: _one_image(key, size, graders, probabilities))(jax.random.split(key, n))
    return LesionImages(images, masks, readings, probabilities)


def _one_image(key: PRNGKeyArray, size: int, graders: int, probabilities: Float[Array, " m"]) -> tuple[Array, Array, Array]:
    of_regions, of_texture, of_noise, of_graders = jax.random.split(key, 4)
    regions = _regions(of_regions, size)
    readings = _readings(regions)
    noise = _NOISE * jax.random.normal(of_noise, (size, size), regions.dtype)
    image = jnp.einsum("khw,k->hw", regions, jnp.asarray(_BRIGHTNESS, regions.dtype)) + _texture(of_texture, size) + noise
    return image, readings[jax.random.choice(of_graders, len(readings), (graders,), p=probabilities)], readings


def _regions(key: PRNGKeyArray, size: int) -> Float[Array, "3 size size"]:
    """Core, rim and neighbour as 0/1: disjoint, with elongated outlines, the neighbour across the middle of the image from the lesion."""
    turn, core, neighbour, tilt = jax.random.uniform(key, (4,))
    direction = jnp.stack([jnp.cos(2 * jnp.pi * turn), jnp.sin(2 * jnp.pi * turn)])
    inner = 0.10 + 0.04 * core
    within = jnp.stack([_within(0.5 + 0.2 * direction, radius, tilt, size) for radius in (inner, 1.5 * inner)])
    beside = _within(0.5 - 0.28 * direction, 0.06 + 0.03 * neighbour, 1 - tilt, size)
    return jnp.stack([within[0], within[1] & ~within[0], beside]).astype(jnp.result_type(float))


def _within(centre: Float[Array, " 2"], radius: Float[Array, ""], tilt: Float[Array, ""], size: int) -> Bool[Array, "size size"]:
    """Pixels nearer to the centre than radius (1 + 0.15 cos 2 (angle - pi tilt)), in units of the image."""
    places = jnp.asarray((np.arange(size) + 0.5) / size, centre.dtype)
    down, across = jnp.meshgrid(places - centre[0], places - centre[1], indexing="ij")
    return jnp.hypot(down, across) < radius * (1 + 0.15 * jnp.cos(2 * (jnp.arctan2(down, across) - jnp.pi * tilt)))


def _texture(key: PRNGKeyArray, size: int) -> Float[Array, "size size"]:
    """A smooth background: the product of two slow waves."""
    phases = 2 * jnp.pi * jax.random.uniform(key, (2, 1))
    waves = jnp.cos(2 * jnp.pi * jnp.asarray(np.arange(size) / size, phases.dtype)[None, :] + phases)
    return 0.2 * waves[0][:, None] * waves[1][None, :]


def _readings(regions: Float[Array, "3 H W"]) -> Bool[Array, "6 H W"]:
    """The masks of all readings, in the order of the table of their probabilities."""
    extent, beside = np.repeat(np.array([[0, 0], [1, 0], [1, 1]]), 2, axis=0), np.tile([[0], [1]], (3, 1))
    chosen = jnp.asarray(np.concatenate([extent, beside], axis=1), regions.dtype)
    return jnp.einsum("rk,khw->rhw", chosen, regions) > 0.5


def morphological_graders(mask: Numbers, over: float = 0.2, under: float = 0.2, shift: float = 0.2, miss: float = 0.05, radius: int = 1) -> MaskLaw:
    """The law of graders of one true mask, who draw it as it is with the probability that the others leave.

    Args:
        mask: (H, W), 0/1 or boolean.
        over: probability that a grader draws it grown.
        under: that it is drawn shrunk.
        shift: that it is drawn moved, in each of the four directions with a quarter of it.
        miss: that nothing is drawn.
        radius: of growth, shrinkage and movement, in pixels.

    Raises:
        ValueError: if a probability is negative, they sum to more than 1, the radius is no whole number >= 1 or the mask is none.
    """
    truth, radius = np.asarray(checked_masks("mask", mask)), checked_count("radius", radius, 1)
    if truth.ndim != 2:
        refuse("mask", f"shape {truth.shape}", "(H, W)", "One true mask of one image.")
    moves = [(radius, 0), (-radius, 0), (0, radius), (0, -radius)]
    drawn = [truth, dilated(truth, radius), eroded(truth, radius), np.zeros_like(truth), *[shifted(truth, *move) for move in moves]]
    return MaskLaw(np.stack(drawn), _with_rest([over, under, miss, *[shift / 4] * 4]))


def _with_rest(chances: list[float]) -> np.ndarray:
    """The probabilities, after what they leave to 1, whose rounding below 0 is no fault of theirs."""
    rest = 1 - sum(chances)
    if min(chances) < 0 or rest < -1e-12:
        refuse(
            "over, under, shift, miss",
            f"{chances}, sum {sum(chances):.6g}",
            "probabilities >= 0 that sum to at most 1",
            "What they leave is the probability of the true mask.",
        )
    return np.array([max(rest, 0.0), *chances]) / (max(rest, 0.0) + sum(chances))


def threshold_graders(probabilities: Numbers, levels: Numbers, weights: Numbers | None = None) -> MaskLaw:
    """The law of graders of whom the i-th marks where the probability is at least levels[i].

    Args:
        probabilities: (H, W), in [0, 1].
        levels: (m,).
        weights: (m,), the probability of each level, default equal.

    Raises:
        ValueError: if a probability lies outside [0, 1], or shapes are wrong.
    """
    soft, cuts = np.asarray(as_floats("probabilities", probabilities)), np.asarray(as_floats("levels", levels))
    if soft.ndim != 2 or soft.size == 0:
        refuse("probabilities", f"shape {soft.shape}", "(H, W) with H, W >= 1", "One map of one image.")
    if soft.min() < 0 or soft.max() > 1:
        refuse("probabilities", f"shape {soft.shape}, values from {soft.min():.3g} to {soft.max():.3g}", "(H, W) in [0, 1]", "One map of one image.")
    if cuts.ndim != 1 or cuts.size == 0:
        refuse("levels", f"shape {cuts.shape}", "(m,) with m >= 1", "One level a grader.")
    return MaskLaw(soft[None, :, :] >= cuts[:, None, None], weights)


def grey_matter_map(resolution: int = 4, height: float = 0.5) -> Float[Array, "H W"]:
    """An axial slice of the ICBM152 map of grey matter, as probabilities; comes with nilearn, nothing is downloaded.

    Args:
        resolution: millimetres a pixel.
        height: of the slice, as a share of the volume, from the lowest (0) to the highest (1).

    Raises:
        ImportError: without nilearn (extra `images`).
        ValueError: if the height lies outside [0, 1].
    """
    if not 0 <= height <= 1:
        refuse("height", repr(height), "a share from 0 to 1", "The slice in the middle is at 0.5.")
    try:
        from nilearn.datasets import load_mni152_gm_template
    except ImportError:
        missing_extra("nilearn", "images")
    volume = np.asarray(load_mni152_gm_template(resolution=checked_count("resolution", resolution, 1)).get_fdata())
    return jnp.asarray(np.clip(volume[:, :, round(height * (volume.shape[2] - 1))], 0, 1))


def dilated(mask: Numbers, radius: int) -> np.ndarray:
    """The mask (..., H, W) grown: the pixels within `radius` of one of its pixels, in pixels from centre to centre.

    Raises:
        ValueError: if the mask is not 0/1 with two pixel axes last, or the radius is no whole number >= 0.
    """
    grown, reach = np.asarray(checked_masks("mask", mask)), np.arange(2 * checked_count("radius", radius, 0) + 1) - radius
    disc = np.hypot(reach[:, None], reach[None, :]) <= radius
    return ndimage.binary_dilation(grown, disc.reshape((1,) * (grown.ndim - 2) + disc.shape))


def eroded(mask: Numbers, radius: int) -> np.ndarray:
    """The mask (..., H, W) shrunk: the pixels with none within `radius` that the mask leaves out. What lies outside the image leaves nothing out.

    Raises:
        ValueError: if the mask is not 0/1 with two pixel axes last, or the radius is no whole number >= 0.
    """
    return ~dilated(~np.asarray(checked_masks("mask", mask)), radius)


def shifted(mask: Numbers, down: int, across: int) -> np.ndarray:
    """The mask (..., H, W) moved by whole pixels; what leaves the image is lost, and what enters is empty.

    Raises:
        ValueError: if the mask is not 0/1 with two pixel axes last.
    """
    start = np.asarray(checked_masks("mask", mask))
    reach = max(abs(down), abs(across))
    padded = np.pad(start, [(0, 0)] * (start.ndim - 2) + [(reach, reach)] * 2)
    return padded[..., reach - down : reach - down + start.shape[-2], reach - across : reach - across + start.shape[-1]]
