r"""What GED with Dice's coefficient cannot see: which parts of a lesion go together.

(a) Two laws of masks of four equal regions, with no mask in common. (b) The number of independent directions in which laws of masks of n pixels can differ, and how many of
them Dice-GED sees. (c) The distance from the first law to a mixture of both, exactly and from samples, without self-pairs.
"""

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure, write_beside
from ensembletheory.segmentation import MaskLaw, dice, dice_blind_pair, dice_rank, ged_squared, ged_u_statistic, jaccard, mixture_of_masks
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

SIDE = 10  # pixels of a region and of the gaps around it
SHARES = np.linspace(0, 1, 21)
PIXELS = np.arange(1, 13)
OVERLAPS = {"Jaccard": (jaccard, "jaccard_distance"), "Dice": (dice, "dice_distance")}


def _regions(radius: float) -> np.ndarray:
    """Four equal discs."""
    centred = np.arange(SIDE) - (SIDE - 1) / 2
    disc = np.add.outer(centred**2, centred**2) <= radius**2
    regions = np.zeros((4, 2 * SIDE, 2 * SIDE), bool)
    for i, (row, column) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        regions[i, row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = disc
    return regions


def _simulated(key: jax.Array, p: MaskLaw, mixed: MaskLaw, n: int, repeats: int) -> dict[str, np.ndarray]:
    samples = np.asarray(mixed.sample(key, repeats * n)).reshape(repeats, n, *p.shape)
    truths = np.broadcast_to(p.masks, (repeats, *p.masks.shape))
    return {name: np.asarray(ged_u_statistic(samples, truths, overlap=overlap)) for name, (overlap, _) in OVERLAPS.items()}


def _compute(seed: int, repeats: int, samples: int, radius: float, shares: list[float]) -> Data:
    p, q = dice_blind_pair(_regions(radius))
    data: Data = {"first": p.masks, "second": q.masks, "mix": SHARES, "shares": np.array(shares), "pixels": PIXELS, "repeats": repeats}
    data["seen"] = np.array([dice_rank(int(n)) - 1 for n in PIXELS])  # masses sum to 1: one direction less
    data["all"] = 2**PIXELS - 1
    mixtures = [mixture_of_masks([p, q], [1 - share, share]) for share in (*SHARES, *shares)]
    draws = [_simulated(jax.random.fold_in(jax.random.key(seed), i), p, mixtures[len(SHARES) + i], samples, repeats) for i in range(len(shares))]
    for name, (overlap, _) in OVERLAPS.items():
        exact = np.array([float(ged_squared(mixed, p, overlap)) for mixed in mixtures])
        data[name], data[f"{name}, at shares"] = exact[: len(SHARES)], exact[len(SHARES) :]
        data[f"{name}, simulated"] = np.array([drawn[name].mean() for drawn in draws])
        data[f"{name}, standard error"] = np.array([drawn[name].std(ddof=1) / repeats**0.5 for drawn in draws])
    return data


def _draw_masks(ax: Axes, data: Data) -> None:
    """Each law a row of two masks."""
    for row, (name, law) in enumerate((("first", "$P$"), ("second", "$Q$"))):
        for column, mask in enumerate(data[name]):
            cell = ax.inset_axes((0.18 + 0.44 * column, 0.55 - 0.5 * row, 0.34, 0.4))
            cell.imshow(mask, cmap=ListedColormap(["white", LOOKS["target"].color]), interpolation="nearest")
            cell.set(xticks=[], yticks=[])
            cell.spines[["top", "right"]].set_visible(True)
        ax.text(0.08, 0.75 - 0.5 * row, law, ha="center", va="center", fontsize=9)
        ax.text(0.57, 0.75 - 0.5 * row, "or", ha="center", va="center", fontsize=7)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.axis("off")


def _draw_directions(ax: Axes, data: Data) -> None:
    curve(ax, data["pixels"], data["all"], LOOKS["jaccard_distance"])
    curve(ax, data["pixels"], data["seen"], LOOKS["dice_distance"])
    write_beside(ax, 8, 255, "all $2^n - 1$,\nseen by Jaccard", LOOKS["jaccard_distance"], (-5, 12), align="right")
    write_beside(ax, 12, 133, "seen by Dice", LOOKS["dice_distance"], (0, -24), align="right")
    ax.set(yscale="log", xlabel="pixels $n$", ylabel="directions of difference")
    ax.set_xticks([1, 3, 6, 9, 12])


def _draw_distances(ax: Axes, data: Data) -> None:
    for name, (_, look) in OVERLAPS.items():
        curve(ax, data["mix"], data[name], LOOKS[look])
        dots(ax, data["shares"], data[f"{name}, simulated"], 2 * data[f"{name}, standard error"], LOOKS[look])
    ax.set(xlabel="share of $Q$ in the model", ylabel="GED$^2$ to $P$")


def _draw(data: Data) -> Picture:
    picture, (masks, directions, distances) = new_figure(WIDTHS["iclr"], 2.2, columns=3)
    letter(masks, "a", "two laws")
    _draw_masks(masks, data)
    letter(directions, "b", "what is seen")
    _draw_directions(directions, data)
    letter(distances, "c", "from $P$ to $Q$")
    _draw_distances(distances, data)
    handles = [Line2D([], [], color=LOOKS[look].color, linestyle=LOOKS[look].linestyle, label=LOOKS[look].label) for _, look in OVERLAPS.values()]
    simulated = LOOKS["monte_carlo"]
    handles.append(Line2D([], [], color=simulated.color, marker=simulated.marker, markerfacecolor="white", linestyle="none", label="from samples, 2 s.e."))
    picture.legend(handles=handles, loc="outside lower center", ncols=3)
    return picture


TEXT = """GED with Dice's coefficient does not see which pixels go together.

(a) Two laws of graders, $P$ and $Q$, each of two equally likely masks, none in common.

(b) Laws of masks of $n$ pixels differ in $2^n - 1$ independent directions. GED with the Jaccard index sees them all. With Dice's coefficient it depends on the
probability of each pixel together with each size of the mask, and on nothing else: that is $n(n-1) + 1$ directions, all 7 at $n=3$, 13 of 15 at $n=4$, and 133 of 4095 at
$n=12$.

(c) GED$^2$ from $P$ to a model that draws from $Q$ with probability $t$ and else from $P$. With the Jaccard index it is $t^2/3$: {quarter}, {half} and {most} at $t$ =
0.25, 0.5 and 0.75, up to 0.3333 at the law $Q$. With Dice's coefficient it is 0 for every $t$: no number of samples tells the two laws apart. Dots: means over {repeats}
simulated sets of 16 samples, without self-pairs, two standard errors."""

PAPER = {"quarter": "0.0208", "half": "0.0833", "most": "0.1875"}


def _caption(data: Data) -> Caption:
    numbers = [Number("Jaccard, $Q$", data["Jaccard"][-1], "0.3333"), Number("Dice, farthest", np.max(data["Dice"]), "0")]
    for i, text in enumerate(PAPER.values()):
        numbers.append(Number(f"Jaccard, share {i}", data["Jaccard, at shares"][i], text))
        numbers += [
            Number(f"{name}, share {i}, simulated", data[f"{name}, simulated"][i], printed, data[f"{name}, standard error"][i])
            for name, printed in (("Jaccard", text), ("Dice", "0"))
        ]
    for n, seen, total in ((3, "7", "7"), (4, "13", "15"), (12, "133", "4095")):
        at = int(np.flatnonzero(data["pixels"] == n)[0])
        numbers += [Number(f"seen at $n={n}$", data["seen"][at], seen), Number(f"directions at $n={n}$", data["all"][at], total)]
    return Caption(TEXT.format(repeats=int(data["repeats"]), **PAPER), tuple(numbers))


FIGURE = Figure(
    name="dice_blindness",
    title="What GED with Dice's coefficient cannot see",
    inputs={"seed": 4, "repeats": 2000, "samples": 16, "radius": 4.2, "shares": [0.25, 0.5, 0.75]},
    quick_inputs={"repeats": 200},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three panels. Left: four masks of two discs each; the upper law joins discs in rows, the lower in columns. Middle: the number of directions grows as two to "
    "the n, that which Dice sees only as the square of n, from four pixels on. Right: with the Jaccard index the distance grows as the square of the share of the second "
    "law; with Dice it stays zero.",
    source="derived in ensembletheory.segmentation.dice_blindness; GED: S. Kohl et al., NeurIPS 2018",
    claims=("dice-ged-metric", "ged-is-mmd"),
)
