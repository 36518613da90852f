r"""Trees as members: every aggregation rule on forest diffusion that imputes two small data sets, and what a tree's leaves cost.

Rows of iris and wine lose a share of their cells at random, once a mask. A forest a noise level is trained on what is left, and completes the rows by replacement with
resampling, its trees combined by each rule. Judged are the mean of the draws (root mean squared error in units of the columns), the completed rows (energy distance from the
complete ones) and the spread: of L exchangeable draws, a value like them lies between the least and the largest with probability (L - 1) / (L + 1).

Below, forests that were trained on the complete rows: the squared error of the noise prediction averaged over M trees, from the exact one of the rows, over all subsets of M
trees. It is A + B / M exactly, on any points: a quadratic form in the mean inner products of the trees' errors, of which A and B are means. That the form is the loss of an
averaged field is checked by running `MeanField` of two trees on the same points. With the values of infinitely many duplicates on the same boxes, every tree is the best
function that is constant in its boxes.
"""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from scipy import stats
from sklearn import datasets

from ensembletheory.estimators.forests import RULES, ForestSampler, TreeField, fit_forest
from ensembletheory.fields import Field, MeanField
from ensembletheory.imputation.scores import energy_distance, rmse
from ensembletheory.laws import FiniteLaw
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure
from ensembletheory.processes import VariancePreserving
from ensembletheory.progress import progress
from ensembletheory.samplers import angle_grid
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

PROCESS = VariancePreserving(0.1, 8.0)
SETS = {"iris": datasets.load_iris, "wine": datasets.load_wine}
JUDGED = 3  # draws whose rows are compared with the complete ones
METRICS = ("error of the mean", "energy distance", "coverage")
ONE, FEW, MANY, EXACT, NOTHING = (LOOKS[name] for name in ("tree", "few_trees", "many_trees", "exact_leaves", "average"))
NAMES = {
    "nothing": "columns' own values",
    "one": "one tree",
    "mean": "mean",
    "median": "median",
    "dominant": "dominant",
    "geometric": "shifted geometric",
    "sum": "sum",
    "disturbed": "mean, 20 % noise",
    "alternating": "alternating",
    "deviation": "deviation",
    "routed": "one tree a run",
    "samples": "mean of runs",
    "coupled": "mean of runs, one noise",
}


def _compute(seed, sets, rules, masks, share, sizes, levels, duplicates, resamplings, draws, points) -> Data:
    grid = np.asarray(angle_grid(PROCESS, levels))
    data: Data = {"rules": list(rules), "sizes": sizes, "draws": draws, "share": share}
    for number, name in enumerate(sets):
        X = _standardised(name)
        every = progress(range(masks), f"masks of {name}", masks)
        results = [_judged(X, np.random.default_rng([seed, number, mask]), grid, rules, share, sizes, duplicates, resamplings, draws) for mask in every]
        data |= {f"{name} {key}": np.stack([result[key] for result in results]) for key in results[0]}
        data |= {f"{name} {key}": value for key, value in _losses(X, jax.random.key(seed + number), grid, max(sizes), duplicates, points).items()}
    return data


def _standardised(name: str) -> Float[np.ndarray, "n d"]:
    X = SETS[name](return_X_y=True)[0]
    return (X - X.mean(axis=0)) / X.std(axis=0)  # pyright: ignore[reportReturnType]


def _judged(X, rng: np.random.Generator, grid, rules, share, sizes, duplicates, resamplings, draws) -> dict[str, np.ndarray]:
    """All metrics of one mask: (3,) without a model and for one tree, (sizes, rules, 3) for the rules; and the errors of single draws."""
    observed = rng.random(X.shape) >= share
    holed = np.where(observed, X, np.nan)
    centre, scale = np.nanmean(holed, axis=0), np.nanstd(holed, axis=0)
    rows, fit_key, key = (holed - centre) / scale, *jax.random.split(jax.random.key(int(rng.integers(2**31))))
    members = fit_forest(fit_key, rows, PROCESS, grid[:-1], "velocity", trees=max(sizes), duplicates=duplicates)

    def metrics(copies: Float[Array, "L n d"]) -> np.ndarray:
        return _metrics(X, centre + scale * np.asarray(copies), observed)

    alone = ForestSampler("routed", _first(members, 1), grid, resamplings).sample(key, rows, draws)
    of_rules = [[metrics(ForestSampler(rule, _first(members, M), grid, resamplings).sample(key, rows, draws)) for rule in rules] for M in sizes]
    return {"nothing": _metrics(X, _own_values(rng, holed, draws), observed), "one": metrics(alone), "rules": np.array(of_rules)}


def _first(members: TreeField, M: int) -> TreeField:
    return jax.tree.map(lambda array: jnp.asarray(np.asarray(array)[:M]), members)


def _own_values(rng: np.random.Generator, holed: Float[np.ndarray, "n d"], draws: int) -> Float[np.ndarray, "L n d"]:
    """Copies whose holes hold values that are observed in their column."""
    columns = [rng.choice(column[~np.isnan(column)], (draws, len(column))) for column in holed.T]
    return np.where(np.isnan(holed), np.stack(columns, axis=-1), holed)


def _metrics(X, copies: Float[np.ndarray, "L n d"], observed) -> Float[np.ndarray, "4"]:
    """The METRICS, and the mean error of single draws."""
    inside = (copies.min(axis=0) <= X) & (X <= copies.max(axis=0))
    rows = copies[:JUDGED].reshape(-1, X.shape[1])
    single = np.mean([rmse(X, copy, observed) for copy in copies])
    return np.array([rmse(X, copies.mean(axis=0), observed), energy_distance(rows, X), inside[~observed].mean(), single])


def _losses(X, key, grid, trees: int, duplicates: int, points: int) -> dict[str, np.ndarray]:
    """Of sampled and of exact leaves, grown alike: errors of averages over all subsets by the members' inner products, A and B, and how far one is from a field's own."""
    exact, found = PROCESS.noise(FiniteLaw(X)), {"subsets": _subsets(trees)}
    for leaves in ("sampled", "exact"):
        members = fit_forest(key, X, PROCESS, grid[:-1], trees=trees, duplicates=duplicates, exact_leaves=leaves == "exact")
        two, at = _first(members, 2), [(jnp.asarray(t), *_noised(X, t, level, points)) for level, t in enumerate(grid[:-1])]
        products = np.mean([_products(exact, members, *where) for where in at], axis=0)
        run = np.mean([_loss(exact, MeanField(two), *where) for where in at])
        between = products[~np.eye(trees, dtype=bool)].mean()
        excess = np.einsum("si,ij,sj->s", found["subsets"], products, found["subsets"])
        found[f"{leaves} apart"] = abs(products[:2, :2].mean() / run - 1)
        found |= {f"{leaves} leaves": excess, f"{leaves} A": between, f"{leaves} B": np.trace(products) / trees - between}
    return found


def _subsets(members: int) -> np.ndarray:
    """Equal weights on every subset that is not empty, one a row, by size."""
    return np.array([np.isin(np.arange(members), chosen) / K for K in range(1, members + 1) for chosen in combinations(range(members), K)])


def _noised(X, t: float, level: int, points: int) -> tuple[Float[Array, "N d"]]:
    """Fresh draws of noised rows."""
    rng, a = np.random.default_rng(level), float(PROCESS.a(jnp.asarray(t)))
    return (jnp.asarray(a * X[rng.integers(len(X), size=points)] + np.sqrt(1 - a**2) * rng.normal(size=(points, X.shape[1]))),)


@jax.jit
def _products(exact: Field, members: TreeField, t: Float[Array, ""], x: Float[Array, "N d"]) -> Float[Array, "K K"]:
    """Mean inner products of the trees' errors."""
    errors = jax.vmap(lambda field: field.batch(t, x))(members) - exact.batch(t, x)[None]
    return jnp.einsum("knd,lnd->kl", errors, errors) / len(x)


@jax.jit
def _loss(exact: Field, field: Field, t: Float[Array, ""], x: Float[Array, "N d"]) -> Float[Array, ""]:
    """The mean squared error of a field."""
    return jnp.mean(jnp.sum((field.batch(t, x) - exact.batch(t, x)) ** 2, axis=1))


def _draw(data: Data) -> Picture:
    sets = [name for name in SETS if f"{name} rules" in data]
    picture, axes = new_figure(WIDTHS["iclr"], 2.6 * len(sets) + 1.9, rows=len(sets) + 1, columns=3)
    letters = iter("abcdefghi")
    for row, name in enumerate(sets):
        for column, (ax, metric) in enumerate(zip(axes[3 * row :], METRICS, strict=False)):
            letter(ax, next(letters), f"{name}, {metric}" if column == 0 else metric)
            _draw_metric(ax, data, name, column)
    for ax, name in zip(axes[3 * len(sets) :], sets, strict=False):
        letter(ax, next(letters), f"noise prediction, {name}")
        _draw_losses(ax, data, name)
    for ax in axes[4 * len(sets) : -1]:
        ax.axis("off")
    _legend(axes[-1], data)
    return picture


def _draw_metric(ax: Axes, data: Data, name: str, column: int) -> None:
    """Means over masks with intervals of 95 %, one line a rule, one dot a number of trees."""
    rules, looks = list(data["rules"]), (FEW, MANY)
    places = {rule: place for place, rule in enumerate(reversed(["nothing", "one", *rules]))}
    _interval(ax, data[f"{name} nothing"][:, column], places["nothing"], NOTHING)
    _interval(ax, data[f"{name} one"][:, column], places["one"], ONE)
    for size, look in enumerate(looks[-len(data["sizes"]) :]):
        for index, rule in enumerate(rules):
            _interval(ax, data[f"{name} rules"][:, size, index, column], places[rule] + 0.16 * (1 - 2 * size) * (len(data["sizes"]) > 1), look)
    if METRICS[column] == "coverage":
        ax.axvline(_nominal(data), color=LOOKS["target"].color, linewidth=0.8)
    ax.set(yticks=list(places.values()), ylim=(-0.6, len(places) - 0.4))
    ax.set_yticklabels([NAMES[rule] for rule in places] if column == 0 else [], fontsize=6.5)
    if METRICS[column] != "coverage":
        _cut(ax, data[f"{name} rules"][..., column].mean(axis=0), float(data[f"{name} nothing"][:, column].mean()), places, rules)


def _cut(ax: Axes, means: np.ndarray, nothing: float, places: dict[str, int], rules: list[str]) -> None:
    """End the axis where the sum alone goes on, and write where it is."""
    sums = means[:, rules.index("sum")]
    end = 1.25 * max(nothing, np.delete(means, rules.index("sum"), axis=1).max())
    ax.set_xlim(0, end)
    if sums[-1] > end:
        ax.text(0.97, places["sum"] - 0.16, rf"{sums[-1]:.0f} $\rightarrow$", transform=ax.get_yaxis_transform(), color=MANY.color, fontsize=6.5, ha="right", va="center")


def _interval(ax: Axes, values: np.ndarray, place: float, look) -> None:
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    ax.errorbar(values.mean(), place, xerr=half, fmt=look.marker, color=look.color, markersize=3, elinewidth=0.8, capsize=1.5)


def _draw_losses(ax: Axes, data: Data, name: str) -> None:
    trees = data[f"{name} subsets"].shape[1]
    sizes = np.arange(1, trees + 1)
    for leaves, look in (("sampled", ONE), ("exact", EXACT)):
        fine = np.linspace(1, trees, 100)
        curve(ax, fine, data[f"{name} {leaves} A"] + data[f"{name} {leaves} B"] / fine, look._replace(linestyle="-"))
        ax.plot(sizes, _by_size(data, name, leaves), marker=look.marker, color=look.color, linestyle="none", markersize=3)
    ax.set(xlabel="trees $M$", ylabel="excess loss", ylim=(0, None), xticks=sizes[:: max(1, trees // 4)])


def _by_size(data: Data, name: str, leaves: str) -> np.ndarray:
    """Means over the subsets of each size."""
    counts = (data[f"{name} subsets"] > 0).sum(axis=1)
    return np.array([data[f"{name} {leaves} leaves"][counts == M].mean() for M in range(1, counts.max() + 1)])


def _nominal(data: Data) -> float:
    return (float(data["draws"]) - 1) / (float(data["draws"]) + 1)


def _legend(ax: Axes, data: Data) -> None:
    sizes = [int(M) for M in data["sizes"]]
    shown = [(NOTHING, "no model"), (ONE, "one tree"), *((look, f"{M} trees") for look, M in zip((FEW, MANY)[-len(sizes) :], sizes, strict=True)), (EXACT, "exact leaves")]
    ax.axis("off")
    handles = [Line2D([], [], color=look.color, marker=look.marker, linestyle="none", label=label) for look, label in shown]
    ax.legend(handles=[*handles, Line2D([], [], color=ONE.color, label="$A+B/M$")], loc="center", fontsize=7)


TEXT = r"""Forest diffusion as imputer: {rules} aggregation rules of trees, {masks} masks that take {share} of the cells of each data set. Bars: intervals of 95 % over masks
(Student, {freedom} degrees of freedom). Where the sum of scores lies off the scale, its place is written.

(left) Root mean squared error of the mean of {draws} draws, in standard deviations. It is below the mean error of the single draws in all cases, as it must: the exceptions
are 0. (middle) Energy distance from the complete rows of the completed ones, those of the first {judged} draws. (right) Share of missing values between the least and the
largest draw; for exchangeable draws it would be {nominal} (line). The mean of independent runs covers less than one tree a run on every mask: the exceptions are 0.

(bottom) Squared error of the noise prediction averaged over $M$ trees, from the exact one of the rows: a mean over all subsets of $M$ trees, levels and fresh draws. It is
$A+B/M$ exactly, by the mean inner products of their errors (the largest deviation of rounding is 0.000000000000); the loss of two trees run as one averaged field is that of
the products, to a share of 0.000000000. A tree with exact leaves, those of infinitely many duplicates, is the best function constant in its boxes, up to the error of the
draws on which both are compared: the sets in which a tree with sampled leaves has less loss are 0 of {sets}."""


def _caption(data: Data) -> Caption:
    sets = [name for name in SETS if f"{name} rules" in data]
    deviations = [
        np.abs(_by_size(data, name, leaves) - data[f"{name} {leaves} A"] - data[f"{name} {leaves} B"] / np.arange(1, data[f"{name} subsets"].shape[1] + 1)).max()
        for name in sets
        for leaves in ("sampled", "exact")
    ]
    numbers = (
        Number("cases in which the mean of draws has more error than draws", sum(np.sum(_all(data, name, 0) > _all(data, name, 3)) for name in sets), "0"),  # pyright: ignore[reportArgumentType]
        Number("coverage of exchangeable draws", _nominal(data), "0.800"),
        Number("masks on which means of runs cover as much as runs", sum(_uncovered(data, name) for name in sets), "0"),
        Number("largest deviation from A + B / M", max(deviations), "0.000000000000"),
        Number("largest relative distance of the loss of an averaged field from that of products", max(_apart(data, sets)), "0.000000000"),
        Number("sets in which sampled leaves lose less", sum(_by_size(data, name, "sampled")[0] < _by_size(data, name, "exact")[0] for name in sets), "0"),
    )
    masks, draws = len(data[f"{sets[0]} rules"]), int(data["draws"])
    filled = {"freedom": masks - 1, "judged": min(JUDGED, draws), "draws": draws, "nominal": "0.800", "sets": len(sets)}
    text = TEXT.format(rules=len(data["rules"]), masks=masks, share=float(data["share"]), **filled)
    return Caption(text, numbers)


def _all(data: Data, name: str, column: int) -> np.ndarray:
    return np.concatenate([data[f"{name} {part}"][..., column].ravel() for part in ("nothing", "one", "rules")])


def _apart(data: Data, sets: list[str]) -> list[float]:
    return [float(data[f"{name} {leaves} apart"]) for name in sets for leaves in ("sampled", "exact")]


def _uncovered(data: Data, name: str) -> int:
    """Masks on which, with most trees, the mean of runs covers at least what one tree a run covers."""
    rules, coverage = list(data["rules"]), data[f"{name} rules"][:, -1, :, 2]
    return int(np.sum(coverage[:, rules.index("samples")] >= coverage[:, rules.index("routed")]))


FIGURE = Figure(
    name="forest_rules",
    title="Trees as members: every rule on forest diffusion",
    inputs={
        "seed": 20230917,
        "sets": list(SETS),
        "rules": list(RULES),
        "masks": 6,
        "share": 0.3,
        "sizes": [2, 8],
        "levels": 8,
        "duplicates": 10,
        "resamplings": 3,
        "draws": 9,
        "points": 2000,
    },
    quick_inputs={
        "sets": ["iris"],
        "rules": ["mean", "median", "dominant", "sum", "routed", "samples"],
        "masks": 2,
        "sizes": [3],
        "levels": 4,
        "duplicates": 5,
        "resamplings": 1,
        "points": 500,
    },
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="For each data set three panels with one line a rule and dots with intervals: error of the mean of draws, energy distance and coverage. Below, falling curves of the "
    "excess loss of the averaged noise prediction against the number of trees, lower with exact leaves.",
    source='A. Jolicoeur-Martineau, K. Fatras and T. Kachman, "Generating and imputing tabular data via diffusion and flow-based gradient-boosted trees", 2023 (method); '
    "data of scikit-learn; the numbers are computed here",
)
