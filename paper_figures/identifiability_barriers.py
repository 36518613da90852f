r"""Two networks that are alike as functions may be far apart as weights: what lies between them, before and after their units are matched.

A teacher, one hidden layer of tanh units in the plane, is copied by students of several widths, whose loss is their squared distance from it in L2(N(0, I)), by a
Gauss-Hermite rule. Permutations and signs of hidden units change no function. Averages of weights depend on them, averages of functions do not:

 - a relabelled copy of the teacher has a barrier before matching and none after;
 - losses of averaged functions are convex along the segment, and over all subsets of K students their mean is A + B / K exactly;
 - the distance of averaged weights from averaged functions is below an integral of second derivatives along the segment, which matching makes small.

Students trained on two machines differ in all digits: the caption prints what is exact, and of the students the counts of exceptions to theorems.
"""

from itertools import combinations
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from ensembletheory.neural import (
    OnNormalInputs,
    Perceptron,
    Recipe,
    average_weights,
    averaging_bound,
    averaging_gap,
    losses_along,
    symmetry_of,
    train_ensemble,
)
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure
from ensembletheory.progress import progress
from paper_figures.framework import Caption, Data, Figure, Number, checkpoint

__all__ = ["FIGURE"]

NAME = "identifiability_barriers"
RAW, MATCHED, FUNCTIONS = LOOKS["raw_weights"], LOOKS["matched_weights"], LOOKS["averaged_functions"]
TIMES = np.linspace(0.0, 1.0, 33)
NODES = 12  # of the Gauss-Hermite rule, along each axis
LEAST = 1e-6  # what is smaller is drawn here
DRAWS = 128  # of x, over which the gap and its bound are taken


class Copying(eqx.Module):
    """The squared distance of a network from the teacher in L2(N(0, I)), or of a vector of its values."""

    observe: OnNormalInputs
    target: Float[Array, " values"]

    def __call__(self, network: Any, key: PRNGKeyArray | None = None) -> Float[Array, ""]:
        """Of a network."""
        return self.of_values(self.observe(network))

    def of_values(self, values: Float[Array, " values"]) -> Float[Array, ""]:
        """Of its values at the nodes."""
        return jnp.sum((values - self.target) ** 2)


def _compute(seed, hidden, output, order, signs, widths, students, steps, rate) -> Data:
    teacher = _teacher(hidden, output)
    observe = OnNormalInputs(2, NODES)
    loss = Copying(observe, eqx.filter_jit(observe)(teacher))
    symmetry, relabelling = symmetry_of(teacher), np.eye(len(order))[order] * np.asarray(signs)[:, None]
    copy = symmetry.act(relabelling, teacher)
    data: Data = {"copy_raw": losses_along(loss, teacher, copy, TIMES), "copy_matched": losses_along(loss, teacher, symmetry.aligned(teacher, copy), TIMES)}
    for width in widths:
        trained = _students(jax.random.key(seed + width), loss, width, students, steps, rate)
        data |= {f"{name}_{width}": values for name, values in _pairs(loss, trained).items()}
    return data | {"widths": np.asarray(widths)} | _averages(loss, trained)


def _teacher(hidden: list[list[float]], output: list[float]) -> Perceptron:
    blank = eqx.filter_eval_shape(Perceptron, jax.random.key(0), 2, 1, len(hidden), 1, jnp.tanh)
    return eqx.tree_at(lambda network: network.layers, blank, (np.asarray(hidden), np.asarray([output])))


def _students(key: PRNGKeyArray, loss: Copying, width: int, students: int, steps: int, rate: float) -> list[Perceptron]:
    recipe = Recipe(steps=steps, learning_rate=rate, chunk=steps // 2, ema_decay=0.0)
    initialise = lambda k: Perceptron(k, 2, 1, width, 1, jnp.tanh)  # noqa: E731
    trained = train_ensemble(key, initialise, [loss] * students, recipe, checkpoint(NAME, f"width {width}")).model
    return [jax.tree.map(lambda array: np.asarray(array)[k], trained) for k in range(students)]  # noqa: B023


def _stack(networks: list[Perceptron]) -> Perceptron:
    """Of NumPy arrays, which need no compilation."""
    return jax.tree.map(lambda *arrays: jnp.asarray(np.stack(arrays)), *networks)


def _pairs(loss: Copying, networks: list[Perceptron]) -> Data:
    """Losses along the segments of all pairs of students, and at their middles gaps and bounds, as they stand and matched."""
    pairs, symmetry = list(combinations(networks, 2)), symmetry_of(networks[0])
    first, second, matched = (_stack(part) for part in ([a for a, _ in pairs], [b for _, b in pairs], [symmetry.aligned(a, b) for a, b in pairs]))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(DRAWS, 2)))
    raw, after = _measured(loss, first, second, x), _measured(loss, first, matched, x)
    apart = np.array([[_distance(a, b), symmetry.distance(a, b)] for a, b in pairs])
    return {f"raw_{name}": part for name, part in raw.items()} | {f"matched_{name}": part for name, part in after.items()} | {"distances": apart}


@eqx.filter_jit
def _measured(loss: Copying, first: Any, second: Any, x: Float[Array, "n d"]) -> dict[str, Array]:
    def one(a, b):
        values = loss.observe(a), loss.observe(b)
        return {
            "weights": losses_along(loss, a, b, TIMES),
            "functions": jax.vmap(lambda t: loss.of_values((1 - t) * values[0] + t * values[1]))(jnp.asarray(TIMES)),
            "gap": averaging_gap(a, b, x),
            "bound": averaging_bound(a, b, x).value,
        }

    return eqx.filter_vmap(one)(first, second)


def _distance(a: Perceptron, b: Perceptron) -> float:
    return float(np.sqrt(sum(np.sum((np.asarray(x) - np.asarray(y)) ** 2) for x, y in zip(a.layers, b.layers, strict=True))))


def _averages(loss: Copying, networks: list[Perceptron]) -> Data:
    """Losses of the average of every subset of the students, by weights as they stand, by matched weights and by functions; with the constants of the last."""
    K, symmetry = len(networks), symmetry_of(networks[0])
    subsets = [chosen for size in range(1, K + 1) for chosen in combinations(range(K), size)]
    raw = [average_weights([networks[k] for k in chosen]) for chosen in subsets]
    matched = [average_weights([networks[k] for k in chosen], symmetry=symmetry) for chosen in progress(subsets, "matched averages", len(subsets))]
    losses, vectors = _losses(loss, _stack(raw + matched), _stack(networks))
    rows = np.array([np.isin(np.arange(K), chosen) / len(chosen) for chosen in subsets])
    errors = np.asarray(vectors) - np.asarray(loss.target)
    products = errors @ errors.T
    between = products[~np.eye(K, dtype=bool)].mean() if K > 1 else products.mean()
    return {
        "sizes": np.array([len(chosen) for chosen in subsets]),
        "average_raw": losses[: len(subsets)],
        "average_matched": losses[len(subsets) :],
        "average_functions": np.sum((rows @ errors) ** 2, axis=1),
        "A": between,
        "B": np.trace(products) / K - between,
    }


@eqx.filter_jit
def _losses(loss: Copying, averages: Any, networks: Any) -> tuple[Float[Array, " n"], Float[Array, "K values"]]:
    return eqx.filter_vmap(loss)(averages), eqx.filter_vmap(loss.observe)(networks)


def _excess(losses: np.ndarray) -> np.ndarray:
    """Over the chord between both ends."""
    return losses - (1 - TIMES) * losses[..., :1] - TIMES * losses[..., -1:]


def _draw(data: Data) -> Picture:
    picture, (copies, barriers, averages, gaps) = new_figure(WIDTHS["iclr"], 4.2, rows=2, columns=2)
    _draw_segments(copies, data)
    _draw_barriers(barriers, data)
    _draw_averages(averages, data)
    _draw_gaps(gaps, data)
    looks = (RAW, MATCHED, FUNCTIONS)
    handles = [Line2D([], [], color=look.color, marker=look.marker, linestyle=look.linestyle, label=look.label) for look in looks]
    picture.legend(handles=handles, loc="outside lower center", ncols=3)
    return picture


def _draw_segments(ax: Axes, data: Data) -> None:
    letter(ax, "a", "teacher and relabelled copy; students")
    width = data["widths"][0]
    for name, look in (("raw_weights", RAW), ("matched_weights", MATCHED), ("matched_functions", FUNCTIONS)):
        ax.plot(TIMES, np.maximum(data[f"{name}_{width}"].T, LEAST), color=look.color, linewidth=0.5, alpha=0.6)
    curve(ax, TIMES, np.maximum(data["copy_raw"], LEAST), LOOKS["target"])
    ax.set(xlabel="$t$", ylabel=r"loss at $(1-t)\,a + t\,b$", yscale="log", ylim=(LEAST, None))


def _draw_barriers(ax: Axes, data: Data) -> None:
    letter(ax, "b", "barriers between students")
    for shift, name, look in ((0.93, "raw", RAW), (1.07, "matched", MATCHED)):
        for width in data["widths"]:
            heights = _excess(data[f"{name}_weights_{width}"]).max(axis=1)
            ax.plot(np.full(heights.size, width * shift), np.maximum(heights, LEAST), look.marker, color=look.color, markersize=2.5, alpha=0.5, linestyle="none")
            ax.plot(width * shift, max(float(np.median(heights)), LEAST), look.marker, color=look.color, markersize=6, markerfacecolor="white", linestyle="none")
    ax.set(xscale="log", yscale="log", xlabel="hidden units", ylabel="height of the barrier")
    ax.set_xticks(data["widths"], [str(width) for width in data["widths"]])
    ax.minorticks_off()


def _draw_averages(ax: Axes, data: Data) -> None:
    letter(ax, "c", "averages of $K$ students")
    sizes = np.arange(1, data["sizes"].max() + 1)
    for name, look in (("raw", RAW), ("matched", MATCHED), ("functions", FUNCTIONS)):
        means = [data[f"average_{name}"][data["sizes"] == size].mean() for size in sizes]
        curve(ax, sizes, means, look, markers=True)
    ax.set(xlabel="$K$", ylabel="loss, mean over subsets", xticks=sizes, yscale="log")


def _draw_gaps(ax: Axes, data: Data) -> None:
    letter(ax, "d", "weights against functions")
    ends = []
    for name, look in (("raw", RAW), ("matched", MATCHED)):
        gap, bound = (np.concatenate([data[f"{name}_{part}_{width}"] for width in data["widths"]]) for part in ("gap", "bound"))
        ax.plot(bound, gap, look.marker, color=look.color, markersize=3, linestyle="none")
        ends += [bound.min(), bound.max()]
    ax.plot([min(ends), max(ends)], [min(ends), max(ends)], color=LOOKS["target"].color, linewidth=0.8)
    ax.set(xscale="log", yscale="log", xlabel="bound by second derivatives", ylabel="distance in $L_2$")


TEXT = r"""Averages of weights and averages of functions; students of one hidden layer of tanh units copy a teacher of {teacher} such units in the plane. The loss is the
squared distance from the teacher in $L_2(N(0, I))$.

(a) Black: between the teacher and a copy with its units relabelled and half of their signs turned, which is the same function, the loss rises to 0.666; after matching it is
0.000000000000 everywhere, below the panel. Thin: between all pairs of {students} students with {width} units.

(b) Heights of the barriers between all pairs of students, and their medians (hollow), at least $10^{{-6}}$. Pairs whose weights matching brought farther apart: 0. No
theorem says that it lowers barriers.

(c) Averages of $K$ of the students with {last} units, mean over all subsets. For functions it is $A + B/K$ exactly (the largest deviation here is 0.0000000000).

(d) Middles of all segments: the distance of averaged weights from averaged functions, and what second derivatives along the segment allow. Pairs above the bound: 0; pairs
whose averaged functions lose more than the average of both losses: 0."""


def _caption(data: Data) -> Caption:
    widths = [int(width) for width in data["widths"]]
    means = np.array([data["average_functions"][data["sizes"] == size].mean() for size in range(1, data["sizes"].max() + 1)])
    deviation = np.max(np.abs(means - data["A"] - data["B"] / np.arange(1, means.size + 1)))
    parts = [(name, width) for name in ("raw", "matched") for width in widths]
    above = sum(int(np.sum(data[f"{name}_gap_{width}"] > data[f"{name}_bound_{width}"] * (1 + 1e-6))) for name, width in parts)
    loses = sum(int(np.sum(_excess(data[f"{name}_functions_{width}"]) > 1e-12)) for name, width in parts)
    farther = sum(int(np.sum(data[f"distances_{width}"][:, 1] > data[f"distances_{width}"][:, 0] * (1 + 1e-9))) for width in widths)
    numbers = (
        Number("barrier of the relabelled teacher", _excess(data["copy_raw"]).max(), "0.666"),
        Number("loss between the teacher and its matched copy", np.max(np.abs(data["copy_matched"])), "0.000000000000"),
        Number("pairs that matching brings farther apart", farther, "0"),
        Number("largest deviation from A + B / K", deviation, "0.0000000000"),
        Number("pairs above the bound", above, "0"),
        Number("pairs whose averaged functions lose", loses, "0"),
    )
    text = TEXT.format(teacher=len(FIGURE.inputs["hidden"]), students=round((1 + np.sqrt(1 + 8 * len(data[f"raw_gap_{widths[0]}"]))) / 2), width=widths[0], last=widths[-1])
    return Caption(text, numbers)


FIGURE = Figure(
    name=NAME,
    title="Between two networks: weights and functions",
    inputs={
        "seed": 20230301,
        "hidden": [[1.5, 0.4, 0.3], [-0.6, 1.4, -0.5], [0.9, -1.2, 0.2], [-1.1, -0.9, -0.7]],
        "output": [1.0, -0.8, 0.9, 0.7, 0.2],
        "order": [2, 0, 3, 1],
        "signs": [1.0, -1.0, -1.0, 1.0],
        "widths": [4, 8, 16, 32],
        "students": 6,
        "steps": 3000,
        "rate": 0.02,
    },
    quick_inputs={"widths": [6], "students": 3, "steps": 100},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels. Top left: the loss between a teacher and its relabelled copy rises in the middle; of students, averaged weights rise highest, matched ones less, and "
    "averaged functions not at all. "
    "Top right: barriers between students against width, lower after matching. Bottom left: losses of averages of K students; averaged functions improve, averaged weights do "
    "worse, matched weights lie between. Bottom right: gaps against their bound, all below the diagonal.",
    source="setting of Ainsworth, Hayase and Srinivasa, Git Re-Basin, ICLR 2023; exact statements by ensembletheory.neural",
    claims=("averaged-weights-gap", "matched-weights-gain"),
)
