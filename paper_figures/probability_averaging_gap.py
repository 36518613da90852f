r"""What averaging pixel probabilities forgets: how pixels depend on each other.

Two segmenters with independent pixels, of probability a and 1 - a everywhere, are mixed with equal weights (M), or their probabilities are averaged: 1/2 for every pixel,
independently (I). On two pixels, with delta = (2 a - 1)^2,

    KL(M || I) = ((1 + delta) log(1 + delta) + (1 - delta) log(1 - delta)) / 2,    GED^2(M, I) = delta^2 / 8.

Two graders who draw all n pixels or none (a = 1) are (n - 1) log 2 from I in KL; GED^2(M, I) tends to 1/3. For a truth Q = (1 - s) M + s I between the two, GED^2(Q, M) = s^2
GED^2(M, I) and GED^2(Q, I) = (1 - s)^2 GED^2(M, I): mixing is better up to half-way; in KL both ends are 0 too, and the crossing lies elsewhere.

On images of lesions with a known law Q of graders, independent pixels with exactly the right probabilities are compared with the best single mask, exactly.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy.optimize import brentq
from scipy.special import xlogy

from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure
from ensembletheory.segmentation import IndependentPixels, MaskLaw, MixtureOfMasks, average_probabilities, best_mask, deterministic_floor, lesion_images, product_ged_squared
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]


def _compute(seed: int, probabilities: list[float], pixels: list[int], mixed_pixels: int, confidence: float, size: int, images: int, shares: int) -> Data:
    a = np.asarray(probabilities)
    data = {"a": a, "pixels": np.array(pixels)} | _two_pixels(a)
    data |= {"all_ged": np.array([_pair_gap(1.0, n) for n in pixels]), "all_kl": (np.array(pixels) - 1) * np.log(2)}
    return data | _between(mixed_pixels, confidence, np.linspace(0, 1, shares)) | _lesions(seed, size, images)


def _two_pixels(a: np.ndarray) -> Data:
    delta = (2 * a - 1) ** 2
    return {"two_kl": (xlogy(1 + delta, 1 + delta) + xlogy(1 - delta, 1 - delta)) / 2, "two_ged": np.array([_pair_gap(p, 2) for p in a])}


def _pair_gap(a: float, pixels: int) -> float:
    """GED^2 of the mixture of two laws with independent pixels to the average of their probabilities."""
    return float(_compiled_gap(jnp.asarray(np.stack([np.full((1, pixels), a), np.full((1, pixels), 1 - a)]))))


@jax.jit
def _compiled_gap(maps: Float[Array, "2 1 n"]) -> Float[Array, ""]:
    members = [IndependentPixels(p) for p in maps]
    return product_ged_squared(MixtureOfMasks(members), average_probabilities(members)).value


def _between(pixels: int, a: float, shares: np.ndarray) -> Data:
    """Distances of the truth (1 - s) M + s I to M and to I; under both, the number of pixels drawn tells the probability of a mask."""
    counts = np.arange(pixels + 1)
    choices = np.array([float(np.prod(np.arange(pixels, pixels - k, -1)) / np.prod(np.arange(1, k + 1))) for k in counts])
    mixed = (a**counts * (1 - a) ** (pixels - counts) + (1 - a) ** counts * a ** (pixels - counts)) / 2
    averaged = np.full(pixels + 1, 0.5**pixels)

    def kl(s, law):
        truth = (1 - s) * mixed + s * averaged
        return float(choices @ (truth * np.log(truth / law)))

    gap = _pair_gap(a, pixels)
    kls = {f"kl_to_{name}": np.array([kl(s, law) for s in shares]) for name, law in (("mixed", mixed), ("averaged", averaged))}
    crossing = brentq(lambda s: kl(s, mixed) - kl(s, averaged), 0, 1)
    return {"s": shares, "ged_to_mixed": shares**2 * gap, "ged_to_averaged": (1 - shares) ** 2 * gap, "kl_crossing": crossing, "gap": gap} | kls


def _lesions(seed: int, size: int, images: int) -> Data:
    lesions = lesion_images(jax.random.key(seed), images, size)
    readings, chances = np.asarray(lesions.readings), np.asarray(lesions.probabilities)
    laws = [_without_empty(masks, chances, size**2 * 3 // 16) for masks in readings]
    graders = lesions.law(0)
    first = IndependentPixels(graders.pixel_probabilities())
    return {
        "independent": np.array([_independent(law) for law in laws]),
        "single": np.array([float(deterministic_floor(law)) for law in laws]),
        "image": np.asarray(lesions.images)[0],
        "readings": readings[0][[2, 4, 5]],
        "drawn": first.sample(jax.random.key(seed), 3),
        "best": best_mask(graders).mask,
    }


def _without_empty(masks: np.ndarray, chances: np.ndarray, pixels: int) -> MaskLaw:
    """The law on the pixels that somebody draws, filled up to one number of pixels for all images: pixels that nobody draws change nothing."""
    seen = masks[:, masks.any(axis=0)]
    return MaskLaw(np.pad(seen, [(0, 0), (0, pixels - seen.shape[1])])[:, None, :], chances)


def _independent(law: MaskLaw) -> float:
    return float(product_ged_squared(IndependentPixels(law.pixel_probabilities()), law))


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["icml_page"], 4.2, rows=2, columns=3)
    for draw, ax in zip((_draw_two, _draw_all, _draw_between, _draw_lesions, _draw_image, _draw_draws), panels, strict=True):
        draw(ax, data)
    return picture


def _draw_two(ax: Axes, data: Data) -> None:
    letter(ax, "a", "two pixels")
    curve(ax, data["a"], data["two_kl"], LOOKS["kl"]._replace(label="KL, nats"))
    curve(ax, data["a"], data["two_ged"], LOOKS["ged"])
    ax.set(xlabel="probability $a$", ylabel="distance of $M$ and $I$", ylim=(0, None), xlim=(0.5, 1))
    ax.legend(loc="upper left")


def _draw_all(ax: Axes, data: Data) -> None:
    letter(ax, "b", "all or nothing, $n$ pixels")
    curve(ax, data["pixels"], data["all_kl"], LOOKS["kl"])
    curve(ax, data["pixels"], data["all_ged"], LOOKS["ged"], markers=True)
    ax.axhline(1 / 3, color=LOOKS["ged"].color, linewidth=0.6)
    ax.set(xscale="log", yscale="log", xlabel="pixels $n$", ylabel="distance of $M$ and $I$")


def _draw_between(ax: Axes, data: Data) -> None:
    letter(ax, "c", "truth between $M$ and $I$")
    for name, look in (("mixed", LOOKS["linear"]._replace(label="mixing laws")), ("averaged", LOOKS["pixel_average"])):
        curve(ax, data["s"], data[f"ged_to_{name}"] / data["gap"], look._replace(linestyle="-"))
        curve(ax, data["s"], data[f"kl_to_{name}"] / data["kl_to_averaged"][0], look._replace(linestyle=":", label=None))
    ax.set(xlabel="share $s$ of independent pixels", ylabel="distance, relative", xlim=(0, 1), ylim=(0, 1.35))
    ax.legend(loc="upper center")


def _draw_lesions(ax: Axes, data: Data) -> None:
    letter(ax, "d", r"lesions: GED$^2$ to the graders")
    top = 1.1 * max(data["single"].max(), data["independent"].max())
    ax.plot([0, top], [0, top], color=LOOKS["average"].color, linewidth=0.6)
    ax.plot(data["single"], data["independent"], linestyle="none", marker="o", markersize=3, color=LOOKS["pixel_average"].color)
    ax.set(xlabel="best single mask", ylabel="independent pixels", xlim=(0, top), ylim=(0, top), aspect="equal")


def _draw_image(ax: Axes, data: Data) -> None:
    letter(ax, "e", "a lesion and three readings")
    _tiles(ax, [data["image"], *data["readings"]])


def _draw_draws(ax: Axes, data: Data) -> None:
    letter(ax, "f", "draws of $I$; best mask")
    _tiles(ax, [*data["drawn"], data["best"]])


def _tiles(ax: Axes, tiles: list[np.ndarray]) -> None:
    """Four pictures, two by two, each from black to white."""
    scaled = [(tile - np.min(tile)) / max(np.ptp(tile), 1e-9) for tile in (np.asarray(tile, float) for tile in tiles)]
    padded = [np.pad(tile, 1, constant_values=0.5) for tile in scaled]
    ax.imshow(np.block([padded[:2], padded[2:]]), cmap="gray", interpolation="nearest")
    ax.set(xticks=[], yticks=[])


TEXT = r"""What averaging pixel probabilities forgets. $M$: the mixture of segmenters' laws; $I$: independent pixels with its probabilities.

(a) Two pixels and two segmenters that say $a$ and $1-a$ of both: with $\delta=(2a-1)^2$, $\mathrm{GED}^2(M,I)=\delta^2/8$, up to 0.1250, and KL$(M\|I)$ up to $\log 2$,
or 0.6931 nats. (b) Two that draw all of $n$ pixels or none: $(n-1)\log 2$ nats, 43.668 for 64 pixels, and a GED$^2$ that tends to 1/3, 0.3294 for 8 pixels.

(c) Eight pixels, segmenters that say 0.9 and what it leaves to 1, and a truth that is $I$ with a share $s$ and $M$ otherwise; solid GED$^2$, of 0.0783 between $M$ and
$I$, dotted KL, both relative to their largest value for $I$. Mixing is nearer to the truth up to $s=1/2$ in GED$^2$, as for every $M$; up to $s=0.5085$ in KL. Which is
better depends on the truth: where members are the truth with their weights, mixing is never worse on average over them, though it may be for one.

(d) {images} images of lesions, each with the exact law of its graders. Independent pixels with exactly the right probabilities stay off the graders, at a GED$^2$ of 0.0462 on
the first; the best single mask is farther, at 0.2664, as it is on 100 % of the {images}. The mixture of all graders is at 0. (e) The first lesion and three of its six
readings. (f) Three draws of independent pixels, and the single mask nearest to the graders."""


def _caption(data: Data) -> Caption:
    at = {name: int(np.argmin(np.abs(data["pixels"] - n))) for name, n in (("eight", 8), ("many", 64))}
    exact = [
        Number("GED^2 of two pixels", data["two_ged"][-1], "0.1250"),
        Number("KL of two pixels", data["two_kl"][-1], "0.6931"),
        Number("KL, 64 pixels", data["all_kl"][at["many"]], "43.668"),
        Number("GED^2, 8 pixels", data["all_ged"][at["eight"]], "0.3294"),
        Number("GED^2 of M and I", float(data["gap"]), "0.0783"),
        Number("crossing of KL", float(data["kl_crossing"]), "0.5085"),
    ]
    return Caption(TEXT.replace("{images}", str(len(data["single"]))), (*exact, *_of_lesions(data)))


def _of_lesions(data: Data) -> list[Number]:
    return [
        Number("GED^2 of independent pixels, first lesion", data["independent"][0], "0.0462"),
        Number("GED^2 of the best mask, first lesion", data["single"][0], "0.2664"),
        Number("share of images on which a single mask is farther, %", 100 * np.mean(data["single"] > data["independent"]), "100"),
    ]


FIGURE = Figure(
    name="probability_averaging_gap",
    title="What averaging pixel probabilities forgets",
    inputs={
        "seed": 1,
        "probabilities": np.linspace(0.5, 1, 26).tolist(),
        "pixels": [2, 4, 8, 16, 64, 256, 1024],
        "mixed_pixels": 8,
        "confidence": 0.9,
        "size": 64,
        "images": 40,
        "shares": 101,
    },
    quick_inputs={"images": 5, "pixels": [2, 8, 64], "shares": 21},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Six panels. First: the distances of the mixture and of the average of probabilities grow from 0, where both members say one half, to 0.69 nats and 0.125. "
    "Second: with more pixels KL grows without bound, GED squared levels off at one third. Third: as the truth moves from the mixture to independent pixels, the"
    " distance to the mixture grows and that to independent pixels falls; they cross half-way. Fourth: dots of lesions, all far below the diagonal: independent "
    "pixels near 0.045, best masks near 0.27. Fifth: a lesion and three readings of it. Sixth: three speckled draws of independent pixels, and the best single "
    "mask, the core of the lesion with its rim.",
    source="the compensation identity for KL and GED^2, derived in ensembletheory.segmentation.mixtures",
    claims=("mixing-beats-pixel-average", "ged-is-mmd"),
)
