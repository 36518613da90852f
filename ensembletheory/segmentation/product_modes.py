r"""Modes of independent flips: regions of an image, each of which its graders label one way or the other, independently of the others.

With C regions, region c labelled with probability s_c, there are 2^C masks, of probabilities prod_c s_c^{b_c} (1 - s_c)^{1 - b_c}: five classes of a street scene that are
flipped at random to classes of their own (Kohl et al. 2018) make 32. Such a law of labels is seen here as that of the union of the labelled regions, which do not overlap,
so that the union tells the labels; of each class alone as a law of two masks. Between pixels of a region the correlation is 1, between regions it is 0: the entropy is
sum_c h(s_c), and a law with independent pixels that has the right probabilities misses (n_c - 1) h(s_c) nats a region of n_c pixels.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, checked_count, checked_index, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.segmentation.mask_law import MaskDistribution, MaskLaw, checked_masks

__all__ = ["ProductModes"]

_MOST_REGIONS = 16


class ProductModes(MaskDistribution):
    """The law of the union of regions that are labelled independently.

    Args:
        regions: (C, H, W), masks of which no two overlap and none is empty; C <= 16.
        probabilities: (C,), that each region is labelled.

    Raises:
        ValueError: if shapes do not agree, regions overlap or are empty, or a probability lies outside [0, 1].
    """

    regions: Bool[Array, "C H W"]
    probabilities: Float[Array, " C"]

    def __init__(self, regions: Numbers, probabilities: Numbers):
        self.regions = _checked_regions(checked_masks("regions", regions))
        self.probabilities = as_floats("probabilities", probabilities)
        if self.probabilities.shape != self.regions.shape[:1]:
            refuse("probabilities", f"shape {self.probabilities.shape}", f"{self.regions.shape[:1]}", "One probability a region.")
        if is_concrete(self.probabilities):
            least, most = np.min(np.asarray(self.probabilities)), np.max(np.asarray(self.probabilities))
            if not (least >= 0 and most <= 1):
                refuse("probabilities", f"values from {least:.6g} to {most:.6g}", "values in [0, 1]", "They are probabilities.")

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (H, W) of a mask."""
        return self.regions.shape[1], self.regions.shape[2]

    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """The probability that each pixel is in the mask."""
        return _pixels(self)

    def sample(self, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
        """`n` independent masks."""
        return _drawn(self, key, checked_count("n", n, 1))

    def log_prob(self, masks: Numbers) -> Float[Array, "..."]:
        """Log-probability of masks (..., H, W), as (...); -inf for what is no union of regions.

        Raises:
            ValueError: if they are not masks of this law's shape.
        """
        return _log_prob(self, checked_masks("masks", masks, self.shape))

    def entropy(self) -> Estimate:
        """Shannon's entropy in nats."""
        return closed_form(_entropy(self.probabilities))

    def labels(self) -> tuple[Bool[Array, "modes C"], Float[Array, " modes"]]:
        """Which regions each of the 2^C modes labels, and the modes' probabilities."""
        return _labels(self.probabilities)

    def law(self) -> MaskLaw:
        """The law of the union, mode by mode."""
        labelled, weights = self.labels()
        return MaskLaw(_unions(self.regions, labelled), weights)

    def layer(self, c: int) -> MaskLaw:
        """The law of class c alone: its region, or nothing.

        Raises:
            ValueError: if there is no class c.
        """
        return MaskLaw(*_layer(self, checked_index("c", c, len(self.regions))))

    @classmethod
    def of_classes(cls, labels: Numbers, classes: Sequence[int], probabilities: Numbers) -> "ProductModes":
        """Of a map of classes, the pixels of some of them that are flipped, each class as a whole and independently: as a street scene with five such classes.

        Args:
            labels: (H, W), the class of each pixel.
            classes: those that may flip, each found in the map.
            probabilities: for each of them that it flips.

        Raises:
            ValueError: if the map is no (H, W), a class is listed twice or not found, or a probability lies outside [0, 1].
        """
        found = np.asarray(labels)
        if found.ndim != 2:
            refuse("labels", f"shape {found.shape}", "(H, W)", "One map of classes of one image.")
        return cls(found[None] == np.asarray(classes)[:, None, None], probabilities)


def _checked_regions(regions: Bool[Array, "C H W"]) -> Bool[Array, "C H W"]:
    if regions.ndim != 3 or not 1 <= len(regions) <= _MOST_REGIONS:
        refuse("regions", f"shape {regions.shape}", f"(C, H, W) with 1 <= C <= {_MOST_REGIONS}", "List the regions along the first axis.")
    if is_concrete(regions):
        layers = np.asarray(regions)
        if not layers.any(axis=(1, 2)).all() or (layers.sum(axis=0) > 1).any():
            refuse(
                "regions",
                f"{(~layers.any(axis=(1, 2))).sum()} empty regions, {(layers.sum(axis=0) > 1).sum()} pixels in two",
                "regions with pixels of their own",
                "Cut them apart.",
            )
    return regions


@jax.jit
def _labels(probabilities: Float[Array, " C"]) -> tuple[Bool[Array, "modes C"], Float[Array, " modes"]]:
    count = len(probabilities)
    labelled = jnp.asarray((np.arange(2**count)[:, None] >> np.arange(count)[None, :] & 1).astype(bool))
    return labelled, jnp.prod(jnp.where(labelled, probabilities[None, :], 1 - probabilities[None, :]), axis=1)


@jax.jit
def _entropy(probabilities: Float[Array, " C"]) -> Float[Array, ""]:
    return jnp.sum(entr(probabilities) + entr(1 - probabilities))


@eqx.filter_jit
def _layer(modes: ProductModes, c: int) -> tuple[Bool[Array, "2 H W"], Float[Array, " 2"]]:
    region, chance = modes.regions[c], modes.probabilities[c]
    return jnp.stack([region, jnp.zeros_like(region)]), jnp.stack([chance, 1 - chance])


@eqx.filter_jit
def _pixels(modes: ProductModes) -> Float[Array, "H W"]:
    return jnp.tensordot(modes.probabilities, modes.regions.astype(modes.probabilities.dtype), axes=1)


@eqx.filter_jit
def _drawn(modes: ProductModes, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
    return _unions(modes.regions, jax.random.bernoulli(key, jnp.broadcast_to(modes.probabilities, (n, len(modes.probabilities)))))


@eqx.filter_jit
def _log_prob(law: ProductModes, masks: Bool[Array, "*n H W"]) -> Float[Array, "*n"]:
    return jax.vmap(lambda mask: _log_prob_of_one(law, mask))(masks.reshape(-1, *law.shape)).reshape(masks.shape[:-2])


def _log_prob_of_one(law: ProductModes, mask: Bool[Array, "H W"]) -> Float[Array, ""]:
    seen, areas = jnp.sum(law.regions & mask[None], axis=(1, 2)), jnp.sum(law.regions, axis=(1, 2))
    chances = jnp.where(seen == areas, law.probabilities, jnp.where(seen == 0, 1 - law.probabilities, 0.0))
    outside = jnp.any(mask & ~jnp.any(law.regions, axis=0))
    return jnp.where(outside, -jnp.inf, jnp.sum(jnp.log(chances)))


@jax.jit
def _unions(regions: Bool[Array, "C H W"], labelled: Bool[Array, "n C"]) -> Bool[Array, "n H W"]:
    return jnp.einsum("nc,chw->nhw", labelled.astype(float), regions.astype(float)) > 0.5
