r"""The toy problem of deep ensembles, y = x^3 + N(0, 9) learned from twenty points in [-4, 4]: four ways to say how sure a prediction is, and what more members do.

One hidden layer of rectified units. Five networks are trained on the squared error, whose spread is taken for the standard deviation; five on the negative log-likelihood of a
mean and a variance, and one on that of adversarial neighbours too. Every data set has its own networks; bars are two standard errors over data sets. The law of y given x is
known, so that coverages are exact and expected likelihoods a Gauss-Hermite rule. Losses of K members are means over all subsets of K of the five.
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

from ensembletheory.laws import FiniteLaw
from ensembletheory.neural import GaussianRegressor, MeanRegressor, Recipe, SquaredError, SupervisedLoss, gaussian_error, predictions, train_ensemble
from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure, write_beside
from ensembletheory.supervised import gaussian_nll, mixture_nll, moment_matched
from paper_figures.framework import Caption, Data, Figure, Number, checkpoint, mean_number

__all__ = ["FIGURE"]

NAME = "deep_ensembles_toy"
METHODS = ("squared_networks", "gaussian_network", "adversarial_network", "gaussian_networks")
SHOWN = np.linspace(-6, 6, 97)
WITHIN = np.abs(SHOWN) <= 4
LIKELIHOODS = {"mixture": LOOKS["gaussian_networks"]._replace(label="mixture of the networks"), "matched": LOOKS["matched_gaussian"]}
NODES, MASSES = np.polynomial.hermite_e.hermegauss(48)
UNITS = FiniteLaw(np.stack([np.linspace(-4, 4, 101), np.linspace(-4, 4, 101) ** 3], axis=1))  # whose means and deviations are those of all networks


def _compute(seed: int, noise: float, data_sets: int, points: int, members: int, width: int, steps: int, learning_rate: float, share: float) -> Data:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-4, 4, (data_sets, points))
    y = x**3 + noise * rng.normal(size=x.shape)
    laws = [FiniteLaw(np.stack(rows, axis=1)) for rows in zip(x, y, strict=True)]
    recipe = Recipe(steps=steps, learning_rate=learning_rate, chunk=min(steps, 500), ema_decay=0.9)

    squared = SquaredError(jnp.std(UNITS.points[:, 1:], axis=0))
    losses = [SupervisedLoss(law, squared, 1, points) for law in laws for _ in range(members)]
    means = _trained(seed, lambda key: MeanRegressor(key, UNITS, 1, width, 1), losses, recipe, "squared")[:, :, 0].reshape(data_sets, members, -1)
    reaches = [*[0.0] * members, share * 8]
    losses = [SupervisedLoss(law, gaussian_error, 1, points, jnp.full(1, reach)) for law in laws for reach in reaches]
    parts = _trained(seed + 1, lambda key: GaussianRegressor(key, UNITS, 1, width, 1), losses, recipe, "gaussian")
    mean, variance = (part[:, :, 0].reshape(data_sets, members + 1, -1) for part in parts)

    ensembles = [moment_matched(mean[i, :members], variance[i, :members]) for i in range(data_sets)]
    predicted = {
        "squared_networks": (means.mean(axis=1), means.var(axis=1)),
        "gaussian_network": (mean[:, 0], variance[:, 0]),
        "adversarial_network": (mean[:, members], variance[:, members]),
        "gaussian_networks": (np.stack([e.mean for e in ensembles]), np.stack([e.variance for e in ensembles])),
    }
    data: Data = {"x": x[0], "y": y[0], "width": width, "means": mean[0, :members], "variances": variance[0, :members], "exact": 0.5 * np.log(2 * np.pi * np.e * noise**2)}
    for name, (m, v) in predicted.items():
        data |= {f"{name}, mean": m[0], f"{name}, deviation": np.sqrt(v[0]), f"{name}, coverage": _coverage(m, np.sqrt(v), noise)}
    return data | _by_size(mean[:, :members], variance[:, :members], noise)


def _trained(seed: int, initialise, losses, recipe: Recipe, part: str):
    """Predictions, as NumPy arrays (networks, shown, 1)."""
    trained = train_ensemble(jax.random.key(seed), initialise, losses, recipe, checkpoint(NAME, part))
    return jax.tree.map(np.asarray, predictions(trained.average, SHOWN[:, None]))


def _coverage(mean: Float[np.ndarray, "n x"], deviation: Float[np.ndarray, "n x"], noise: float) -> Float[np.ndarray, "n 2"]:
    """Probability of a new y within two predicted deviations of the predicted mean, averaged over x within the data and beyond."""
    ends = [stats.norm(SHOWN**3, noise).cdf(mean + side * deviation) for side in (2, -2)]
    return np.stack([(ends[0] - ends[1])[:, part].mean(axis=1) for part in (WITHIN, ~WITHIN)], axis=1)


def _by_size(mean: Float[np.ndarray, "n K x"], variance: Float[np.ndarray, "n K x"], noise: float) -> Data:
    """Expected negative log-likelihoods (data sets, sizes, within and beyond the data) of the mixture of K networks and of the Gaussian of its moments."""
    members = mean.shape[1]
    targets = jnp.asarray(SHOWN[None, :] ** 3 + noise * NODES[:, None])
    losses: Data = {name: np.zeros((len(mean), members, 2)) for name in LIKELIHOODS}
    for i, K in np.ndindex(len(mean), members):
        subsets = [np.isin(np.arange(members), chosen) / (K + 1) for chosen in combinations(range(members), K + 1)]
        for weights in subsets:
            each = _likelihoods(targets, mean[i], variance[i], weights)
            for name, values in each.items():
                expected = MASSES / MASSES.sum() @ np.asarray(values)
                losses[name][i, K] += np.array([expected[part].mean() for part in (WITHIN, ~WITHIN)]) / len(subsets)
    return losses


def _likelihoods(targets: Float[Array, "nodes x"], mean, variance, weights) -> dict[str, Float[Array, "nodes x"]]:
    shape = (len(mean), *targets.shape)
    matched = moment_matched(mean, variance, weights)
    return {
        "mixture": mixture_nll(targets, np.broadcast_to(mean[:, None], shape), np.broadcast_to(variance[:, None], shape), weights),
        "matched": gaussian_nll(targets, jnp.broadcast_to(matched.mean, targets.shape), jnp.broadcast_to(matched.variance, targets.shape)),
    }


TITLES = ("5 networks, squared error", "1 network, likelihood", "the same, adversarial", "5 networks, likelihood")


def _draw(data: Data) -> Picture:
    picture, axes = new_figure(WIDTHS["icml_page"], 3.9, rows=2, columns=3)
    fits, sizes = axes[:4], axes[4:]
    for ax, name, title, note in zip(fits, METHODS, TITLES, "abcd", strict=True):
        letter(ax, note, title)
        _draw_fit(ax, data, name)
    for ax, region, title, note in zip(sizes, (0, 1), ("within the data", "beyond the data"), "ef", strict=True):
        letter(ax, note, title)
        _draw_sizes(ax, data, region)
    sizes[1].set_yscale("log")
    picture.legend(handles=_handles(), loc="outside lower center", ncols=4)
    return picture


def _draw_sizes(ax: Axes, data: Data, region: int) -> None:
    sizes = range(1, data["mixture"].shape[1] + 1)
    for name, look in LIKELIHOODS.items():
        values = data[name][:, :, region]
        curve(ax, sizes, values.mean(axis=0), look)
        dots(ax, sizes, values.mean(axis=0), 2 * values.std(axis=0, ddof=1) / len(values) ** 0.5, look)
    ax.axhline(float(data["exact"]), color=LOOKS["target"].color, linewidth=0.8)
    ax.set(xlabel="networks $K$", ylabel="expected NLL, nats", xticks=sizes)


def _handles() -> list[Line2D]:
    target = LOOKS["target"].color
    truth = [Line2D([], [], color=target, linewidth=0.8, label="$x^3$, and the exact law"), Line2D([], [], color=target, marker=".", linestyle="none", label="data")]
    methods = [Line2D([], [], color=look.color, linestyle=look.linestyle, marker=look.marker, markerfacecolor="white", label=look.label) for look in LIKELIHOODS.values()]
    return truth + methods


def _draw_fit(ax: Axes, data: Data, name: str) -> None:
    mean, deviation, look = data[f"{name}, mean"], data[f"{name}, deviation"], LOOKS[name]
    ax.plot(SHOWN, SHOWN**3, color=LOOKS["target"].color, linewidth=0.8)
    curve(ax, SHOWN, mean, look._replace(linestyle="-"), mean - 3 * deviation, mean + 3 * deviation)
    ax.plot(data["x"], data["y"], ".", color=LOOKS["target"].color, markersize=3)
    ax.set(xlim=(-6, 6), ylim=(-220, 220), xticks=(-4, 0, 4), xlabel="$x$", ylabel="$y$")
    write_beside(ax, -5.6, 185, r"mean $\pm$ 3 deviations", look, (0, 0))


TEXT = r"""Networks with one hidden layer of {width} rectified units learn $y=x^3+N(0, 9)$ from {points} points; {data_sets} data sets, each with networks of its own. (a-d) Of
the first, in black $x^3$ and the data; bands are three predicted deviations about the predicted mean. (a) Five networks trained on the squared error; the deviation is that
of their means. (b) One network that predicts mean and variance, by the likelihood; (c) the same with adversarial neighbours; (d) five of (b), combined as a mixture.

Within the data a new $y$ should lie within two predicted deviations with probability 0.954. It does with probability 0.32 in (a), whose spread knows nothing of the noise,
0.82 in (b), 0.89 in (c) and 0.86 in (d); beyond the data with 0.02, 0.05, 0.08 and 0.09: nothing here foresees a cube.

(e, f) Expected negative log-likelihood of $K$ of the networks of (d), averaged over all subsets of $K$ (bars: two standard errors over data sets); line: the exact law,
2.5176. The mixture never rises with $K$, whatever the networks (largest rise in any data set: 0.000000). The Gaussian of its moments has no such guarantee."""

PRINTED = {
    "squared_networks": ("0.32", "0.02"),
    "gaussian_network": ("0.82", "0.05"),
    "adversarial_network": ("0.89", "0.08"),
    "gaussian_networks": ("0.86", "0.09"),
}


def _caption(data: Data) -> Caption:
    data_sets, points = len(data["mixture"]), data["x"].size
    coverages = [
        mean_number(f"coverage of {name}, {('within', 'beyond')[region]}", data[f"{name}, coverage"][:, region], text)
        for name, texts in PRINTED.items()
        for region, text in enumerate(texts)
    ]
    numbers = (
        Number("coverage of the exact law", float(2 * stats.norm.cdf(2) - 1), "0.954"),
        *coverages,
        Number("likelihood of the exact law", float(data["exact"]), "2.5176"),
        Number("largest rise of the mixture", max(0.0, float(np.diff(data["mixture"], axis=1).max())), "0.000000"),
    )
    return Caption(TEXT.format(width=int(data["width"]), points=points, data_sets=data_sets), numbers)


FIGURE = Figure(
    name=NAME,
    title="The toy problem of deep ensembles",
    inputs={"seed": 20171204, "noise": 3.0, "data_sets": 16, "points": 20, "members": 5, "width": 100, "steps": 100, "learning_rate": 0.02, "share": 0.01},
    quick_inputs={"data_sets": 5},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels of a cubic with data and bands. The band of five networks trained on the squared error is too narrow within the data; one network by likelihood, the "
    "same with adversarial training and five by likelihood have wider bands. No band reaches the cubic far beyond the data. Two more panels: the negative log-likelihood "
    "falls with the number of networks.",
    source='toy problem of Lakshminarayanan, Pritzel and Blundell, "Simple and scalable predictive uncertainty estimation using deep ensembles", NeurIPS 2017; '
    "the numbers are computed here",
)
