r"""Networks on images that graders read differently: samples, and GED of what they say of unseen images beside the exact floor of every deterministic predictor.

Images show a lesion with a dim rim and a dim neighbour; whether a grader draws core, rim or neighbour is chance of known law (`segmentation.lesion_images`), which the
networks see through four graders an image. On each unseen image GED^2 to the law of the graders is estimated without bias from the masks that a model draws (exactly where it
gives few masks), and the least GED^2 of any single mask is a finite search (`segmentation.deterministic_floor`).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy import stats

from ensembletheory.neural import Recipe, fit_ensemble, members
from ensembletheory.neural.segmentation.flow_segmenter import FlowSegmenterLearner
from ensembletheory.neural.segmentation.pixel_segmenter import PixelSegmenter, PixelSegmenterLearner
from ensembletheory.neural.segmentation.probabilistic_unet import ProbabilisticUNetLearner
from ensembletheory.neural.segmentation.segmenter import SegmentationLearner, joined_rows, sampled_masks
from ensembletheory.neural.segmentation.stochastic_segmenter import StochasticSegmenterLearner
from ensembletheory.plotting import LOOKS, WIDTHS, letter
from ensembletheory.segmentation import LesionImages, deterministic_floor, ged_u_statistic, ged_v_statistic, lesion_images
from paper_figures.framework import Caption, Data, Figure, Number, checkpoint

__all__ = ["FIGURE"]

NAME = "punet_ambiguous"
FAMILIES: dict[str, type[SegmentationLearner]] = {
    "unet": PixelSegmenterLearner,
    "stochastic_segmenter": StochasticSegmenterLearner,
    "independent_flow": FlowSegmenterLearner,
    "probabilistic_unet": ProbabilisticUNetLearner,
}
ROWS = ("unet", "unets_mixed", "pixel_average", "stochastic_segmenter", "independent_flow", "probabilistic_unet", "probabilistic_unets")
CONFIDENCE = 0.99
ROUNDING = 1e-9
SHOWN_DRAWS = 4
HEADINGS = {"unet": "U-Net"}


def _compute(seed, size, training, unseen, graders, draws, channels, batch, learning_rate, networks, chunks, shown, margin) -> Data:
    keys = jax.random.split(jax.random.key(seed))
    drawn = lesion_images(keys[0], training + unseen, size, graders)
    law = joined_rows(np.asarray(drawn.images)[:training], np.asarray(drawn.masks)[:training])
    images, masks, readings = (jnp.asarray(np.asarray(part)[training:]) for part in (drawn.images, drawn.masks, drawn.readings))
    new = LesionImages(images, masks, readings, drawn.probabilities)
    floors = [float(deterministic_floor(new.law(i)).value) for i in range(unseen)]
    data: Data = {
        "margin": margin,
        "families": list(networks),
        "steps": [steps for _, steps in networks.values()],
        "images": new.images[:shown],
        "graders": new.masks[:shown],
        "floors": floors,
    }
    for i, (name, (count, steps)) in enumerate(networks.items()):
        learner = FAMILIES[name]((size, size), tuple(channels), batch=batch)
        recipe = Recipe(steps=steps, learning_rate=learning_rate, ema_decay=0.98, chunk=steps // chunks)
        train_key, draw_key = jax.random.split(jax.random.fold_in(keys[1], i))
        models = members(fit_ensemble(train_key, learner, law, count, recipe, checkpoint=checkpoint(NAME, name)).average)
        data |= _of_unets(models, new, draws, shown) if name == "unet" else _of_samplers(draw_key, name, models, new, draws, shown)
    return data


def _of_unets(models: list[PixelSegmenter], new: LesionImages, draws: int, shown: int) -> Data:
    """The likeliest mask of one, the members' likeliest masks in equal shares, and independent pixels with averaged probabilities."""
    p = np.stack([np.asarray(_probabilities(model, new.images)) for model in models], axis=1)
    masks = p > 0.5
    pixels = np.random.default_rng(0).random((len(p), draws, *p.shape[2:])) < p.mean(axis=1, keepdims=True)
    return {
        "unet": _exact_ged(masks[:, :1], new),
        "unets_mixed": _exact_ged(masks, new),
        "pixel_average": _ged(pixels, new),
        "unet, drawn": masks[:shown, :1],
    }


def _of_samplers(key, name: str, models: list[Any], new: LesionImages, draws: int, shown: int) -> Data:
    """One member, and where there are several the mixture of all, of which each draw is that of a random member."""
    masks = np.stack([np.asarray(sampled_masks(k, model, new.images, draws)) for k, model in zip(jax.random.split(key, len(models)), models, strict=True)], axis=2)
    data = {name: _ged(masks[:, :, 0], new), f"{name}, drawn": masks[:shown, :, 0]}
    if len(models) == 1:
        return data
    chosen = np.random.default_rng(0).integers(len(models), size=masks.shape[:2])
    mixed = np.take_along_axis(masks, chosen[:, :, None, None, None], axis=2)[:, :, 0]
    each = np.mean([_exact_ged(masks[:, :, k], new) for k in range(len(models))], axis=0)
    pooled = _exact_ged(masks.reshape(len(masks), -1, *masks.shape[3:]), new)
    return data | {f"{name}s": _ged(mixed, new), "lost by pooling": pooled - each}


@eqx.filter_jit
def _probabilities(model: PixelSegmenter, images: Float[Array, "n H W"]) -> Float[Array, "n H W"]:
    return jax.lax.map(lambda image: jax.nn.sigmoid(model.logits(image)), images, batch_size=8)


def _ged(masks: np.ndarray, new: LesionImages) -> np.ndarray:
    return np.asarray(ged_u_statistic(jnp.asarray(masks), new.readings, new.probabilities))


def _exact_ged(masks: np.ndarray, new: LesionImages) -> np.ndarray:
    """Of the law that gives all listed masks the same probability."""
    return np.asarray(ged_v_statistic(jnp.asarray(masks), new.readings, new.probabilities))


def _draw(data: Data) -> Picture:
    picture = Picture(figsize=(WIDTHS["icml_page"], 3.7), layout="constrained")
    pictures, table = (picture.add_subfigure(cell) for cell in picture.add_gridspec(2, 1, height_ratios=[1.0, 1.3]))  # pyright: ignore[reportGeneralTypeIssues]
    shown = [name for name in FAMILIES if f"{name}, drawn" in data]
    columns = [(r"$\bf{a}$  image", data["images"][:, None]), ("its graders", data["graders"])]
    columns += [(HEADINGS.get(name, LOOKS[name].label), data[f"{name}, drawn"][:, :SHOWN_DRAWS]) for name in shown]
    cells = np.atleast_1d(pictures.subplots(1, len(columns), width_ratios=[part.shape[1] for _, part in columns]))
    for i, (cell, (title, part)) in enumerate(zip(cells, columns, strict=True)):
        _draw_tiles(cell, part.astype(float), gray=i > 0)
        cell.set_title(title, fontsize=7, loc="center")
    _draw_table(table.subplots(), data)
    return picture


def _draw_tiles(cell: Axes, part: np.ndarray, gray: bool) -> None:
    """Rows of pictures (rows, columns, H, W), masks in black on light grey, with white lines between."""
    values = 0.12 + 0.88 * part if gray else (part - part.min()) / np.ptp(part)
    bordered = np.pad(values, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=np.nan)
    rows, columns, H, W = bordered.shape
    cell.imshow(np.swapaxes(bordered, 1, 2).reshape(rows * H, columns * W), cmap="gray_r" if gray else "gray", vmin=0, vmax=1, interpolation="nearest")
    cell.set_axis_off()


def _draw_table(ax: Axes, data: Data) -> None:
    letter(ax, "b", r"GED$^2$ to the law of the graders, unseen images")
    rows = [name for name in ROWS if name in data]
    for y, name in enumerate(rows[::-1]):
        mean, reach = _interval(data[name])
        ax.errorbar(mean, y, xerr=reach, marker=LOOKS[name].marker, color=LOOKS[name].color, markersize=4.5, elinewidth=0.8, capsize=1.5)
        ax.annotate(f"{mean:.3f}", (mean, y), (0, 4), textcoords="offset points", fontsize=6, ha="center")
    floor = LOOKS["deterministic_floor"]
    ax.axvline(np.mean(data["floors"]), color=floor.color, linestyle=floor.linestyle, linewidth=1)
    ax.annotate(floor.label, (float(np.mean(data["floors"])), -0.45), (3, 0), textcoords="offset points", fontsize=6, color=floor.color)
    ax.set(xlim=(0, None), ylim=(-0.6, len(rows) - 0.3), xlabel=r"GED$^2$")
    ax.set_yticks(range(len(rows)), labels=[LOOKS[name].label for name in rows[::-1]])


def _interval(values: np.ndarray) -> tuple[float, float]:
    """The mean over images and the half-width of its Student interval."""
    n = len(values)
    return float(np.mean(values)), float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / n**0.5)


TEXT = r"""Networks that learn from {graders} graders an image, whose masks of a lesion, its rim and its neighbour differ by chance of known law.

(a) Images that no network has seen, what graders drew of them, the likeliest mask of a U-Net, and masks drawn from networks that give a law of whole masks.

(b) Mean GED$^2$ to the law of the graders over {images} unseen images, with 99 % intervals over images, for networks as one training left them: what another training would
give is not in them. Steps were not tuned and differ by family ({steps}), so that families are not ranked. No mask, and so no deterministic predictor, is below the floor of
its image, which is the exact least value of all masks: images on which a U-Net's likeliest mask is, 0. The Probabilistic U-Net lies below that floor on average, by {margin}
at least with 99 % confidence over images: 1 of 1 networks. Pools of Probabilistic U-Nets mix their laws, and never lose against their members' average in GED$^2$ (largest
loss of what was drawn: 0.000000). A small GED$^2$ does not make a likely mask: independent pixels are below the floor as well where their probabilities are right, though
they have no outlines."""


def _caption(data: Data) -> Caption:
    floors, margin = np.asarray(data["floors"]), float(data["margin"])
    mean, reach = _interval(floors - data["probabilistic_unet"])
    below = np.sum(data["unet"] < floors - ROUNDING) if "unet" in data else 0
    numbers = (
        Number("images on which a U-Net's likeliest mask is below the floor", float(below), "0"),
        Number("the margin, or the lower end of the interval of floor less GED where that is less", min(mean - reach, margin), f"{margin:.2f}"),
        Number("Probabilistic U-Nets below the floor by the margin with confidence", float(mean - reach >= margin), "1"),
        Number("largest loss of a pool against its members' average", max(0.0, float(np.max(data["lost by pooling"]))), "0.000000"),
    )
    steps = ", ".join(f"{HEADINGS.get(name, LOOKS[name].label)} {int(count)}" for name, count in zip(data["families"], data["steps"], strict=True))
    return Caption(TEXT.format(graders=data["graders"].shape[1], images=len(floors), margin=f"{margin:.2f}", steps=steps), numbers)


FIGURE = Figure(
    name=NAME,
    title="Networks on images that graders read differently",
    inputs={
        "seed": 20180613,
        "size": 64,
        "training": 400,
        "unseen": 120,
        "graders": 4,
        "draws": 16,
        "channels": [8, 16, 32],
        "batch": 16,
        "learning_rate": 5e-3,
        "networks": {"unet": [3, 240], "stochastic_segmenter": [1, 300], "independent_flow": [1, 400], "probabilistic_unet": [2, 500]},
        "chunks": 4,
        "shown": 3,
        "margin": 0.15,
    },
    quick_inputs={"size": 16, "unseen": 100, "channels": [16], "learning_rate": 1e-2, "networks": {"probabilistic_unet": [2, 500]}, "chunks": 1, "margin": 0.02},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Above: three images, each with four graders' masks that differ in rim and neighbour, one mask of a U-Net, and four masks from each of three networks that draw "
    "different masks. Below: GED by method, with a vertical line at the floor of single masks; the likeliest mask of a U-Net is on its right, all methods that draw masks are "
    "on its left, independent pixels with averaged probabilities among them.",
    source="after Kohl et al. (2018) and Monteiro et al. (2020); images and numbers are computed here",
    claims=("ged-ensemble-law",),
)
