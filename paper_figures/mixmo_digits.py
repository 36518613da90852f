r"""Two networks in one: MIMO and MixMo classifiers of the digits of scikit-learn beside one network and two, and the linear case beside its exact optimum.

Every network has a first layer (one a slot) and one further hidden layer of the same width, is trained on a random half of the digits and tested on the other. The ratio of
errors of a pair of predictors is the number of points on which exactly one errs over the number on which both do: high where the pair is diverse. Linear networks learn
y = B x + noise from Gaussian inputs; their exact losses are those of their weights.
"""

import equinox as eqx
import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from sklearn.datasets import load_digits

from ensembletheory.laws import FiniteLaw, Gaussian
from ensembletheory.neural import ClassifierLearner, MimoClassifierLearner, MimoRegressorLearner, Mixing, Recipe, fit_ensemble, predictions, train_ensemble
from ensembletheory.plotting import LOOKS, WIDTHS, dots, letter, new_figure
from ensembletheory.supervised import linear_mimo
from paper_figures.framework import Caption, Data, Figure, Number, checkpoint

__all__ = ["FIGURE"]

NAME = "mixmo_digits"
MIXINGS = {"plain_sum": Mixing(), "linear_mixing": Mixing(linear=1.0), "cut_mixing": Mixing(linear=0.5, cut=0.5)}
METHODS = ("one_network", "two_networks", *MIXINGS)
SLOTS = 2
LINEAR_WIDTHS = range(1, 5)
TICKS = [0.03, 0.05, 0.1, 0.2]
OPTIMA = ("14.017", "12.003", "11.425", "10.848")


def _compute(
    seed: int, widths: list[int], networks: int, steps: int, slope, input_cov, noise_variances, linear_widths: list[int], linear_steps: int, linear_networks: int
) -> Data:
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(X))
    train, test = np.split(order, [len(X) // 2])
    law = FiniteLaw(np.column_stack([X, y])[train])
    recipe = Recipe(steps=steps, learning_rate=1e-2, ema_decay=0.98, chunk=min(steps, 200))
    rows = [_at_width(seed, width, networks, recipe, law, X[test], y[test]) for width in widths]  # pyright: ignore[reportArgumentType]
    data: Data = {name: np.stack([row[name] for row in rows]) for name in rows[0]} | {"widths": np.array(widths)}
    return data | _linear(seed, np.array(slope), np.array(input_cov), np.array(noise_variances), linear_widths, linear_steps, linear_networks)


def _at_width(seed: int, width: int, networks: int, recipe: Recipe, law: FiniteLaw, x: np.ndarray, y: np.ndarray) -> Data:
    """Per method: errors of the average of two predictors and of one of them (networks,), their ratio of errors, and the largest failure of Jensen's inequality."""
    alone = fit_ensemble(jax.random.key(seed), ClassifierLearner(10, width, 2, 64), law, SLOTS * networks, recipe, checkpoint=checkpoint(NAME, f"alone {width}"))
    learners = [MimoClassifierLearner(10, SLOTS, mixing, width, 2, 64) for mixing in MIXINGS.values() for _ in range(networks)]
    losses = [learner.loss(law) for learner in learners]
    shared = train_ensemble(jax.random.key(seed + 1), lambda key: learners[0].initialise(key, law), losses, recipe, checkpoint(NAME, f"shared {width}"))
    pairs = np.asarray(predictions(alone.average, x)).reshape(networks, SLOTS, len(x), -1)
    heads = np.moveaxis(np.asarray(predictions(shared.average, x)), 2, 1).reshape(len(MIXINGS), networks, SLOTS, len(x), -1)
    return _judged("two_networks", pairs, y) | {key: value for name, each in zip(MIXINGS, heads, strict=True) for key, value in _judged(name, each, y).items()}


def _judged(name: str, log_probs: np.ndarray, y: np.ndarray) -> Data:
    pooled = np.log(np.exp(log_probs).mean(axis=1))
    wrong = np.argmax(log_probs, axis=-1) != y
    entropies = [-np.take_along_axis(logs, np.broadcast_to(y, logs.shape[:-1])[..., None], axis=-1)[..., 0] for logs in (log_probs, pooled)]
    return {
        f"{name}, average": np.mean(np.argmax(pooled, axis=-1) != y, axis=-1),
        f"{name}, head": wrong.mean(axis=(1, 2)),
        f"{name}, ratio": np.sum(wrong[:, 0] ^ wrong[:, 1]) / np.sum(wrong[:, 0] & wrong[:, 1]),
        f"{name}, loss": np.max(entropies[1] - entropies[0].mean(axis=1)),
    }


def _linear(seed: int, B: np.ndarray, cov: np.ndarray, noise: np.ndarray, widths: list[int], steps: int, networks: int) -> Data:
    """The heads' exact expected errors, summed: the optimum at every width, and those of trained networks (widths, networks)."""
    explained, cross = B @ cov @ B.T, cov @ B.T
    law = Gaussian(np.zeros(4), np.block([[cov, cross], [cross.T, explained + np.diag(noise)]]))
    optimum = [float(np.sum(np.asarray(linear_mimo(B, cov, noise, width, [0.5, 0.5]).training_errors))) for width in LINEAR_WIDTHS]
    recipe = Recipe(steps=steps, learning_rate=3e-2, chunk=steps, ema_decay=0.98)
    trained = np.zeros((len(widths), networks))
    for i, width in enumerate(widths):
        learner = MimoRegressorLearner(2, SLOTS, Mixing(), width, 1, 128, activation=eqx.nn.Identity())
        average = fit_ensemble(jax.random.key(seed), learner, law, networks, recipe, checkpoint=checkpoint(NAME, f"linear {width}")).average
        units = np.sqrt(np.diag(cov)), np.sqrt(np.diag(explained) + noise)
        trained[i] = [_exact_error(_maps(E, D, *units), B, cov, noise) for E, D in zip(np.asarray(average.encoders), np.asarray(average.trunk.layers[0]), strict=True)]
    return {"optimum": np.array(optimum), "trained": trained, "linear_widths": np.array(widths)}


def _maps(encoders: np.ndarray, heads: np.ndarray, input_units: np.ndarray, target_units: np.ndarray) -> np.ndarray:
    """A[i, k], what head i does to the input of slot k."""
    D = heads[:, :-1].reshape(SLOTS, len(target_units), -1) * target_units[:, None]
    return np.einsum("ior,krd->ikod", D, encoders[:, :, :-1] / input_units)


def _exact_error(A: np.ndarray, B: np.ndarray, cov: np.ndarray, noise: np.ndarray) -> float:
    missing = np.eye(SLOTS)[:, :, None, None] * B - A
    return SLOTS * noise.sum() + float(np.einsum("ikod,de,ikoe->", missing, cov, missing))


def _draw(data: Data) -> Picture:
    picture, (error, diversity, linear) = new_figure(WIDTHS["icml_page"], 2.5, columns=3)
    letter(error, "a", "error, predictors averaged")
    letter(diversity, "b", "diversity and error")
    letter(linear, "c", "linear networks")
    for name in METHODS:
        _draw_method(error, diversity, data, name)
    error.set(xscale="log", yscale="log", xlabel="units in a layer", ylabel="error on the test half")
    diversity.set(xscale="log", xlabel="error of one predictor", ylabel="ratio of errors $d_{re}$")
    for axis, ticks in ((error.xaxis, data["widths"].tolist()), (error.yaxis, TICKS), (diversity.xaxis, TICKS)):
        axis.set_ticks(ticks, labels=map(str, ticks))
        axis.set_ticks([], minor=True)
    _draw_linear(linear, data)
    picture.legend(handles=_handles(), loc="outside lower center", ncols=6)
    return picture


def _draw_method(error: Axes, diversity: Axes, data: Data, name: str) -> None:
    values, look = data["two_networks, head"] if name == "one_network" else data[f"{name}, average"], LOOKS[name]
    error.plot(data["widths"], values.mean(axis=1), color=look.color, linewidth=0.8)
    dots(error, data["widths"], values.mean(axis=1), 2 * values.std(axis=1, ddof=1) / values.shape[1] ** 0.5, look)
    if name != "one_network":
        diversity.plot(data[f"{name}, head"].mean(axis=1), data[f"{name}, ratio"], color=look.color, marker=look.marker, markerfacecolor="white", linewidth=0.8)


def _handles() -> list[Line2D]:
    looks = [LOOKS[name] for name in METHODS]
    handles = [Line2D([], [], color=look.color, linewidth=0.8, marker=look.marker, markerfacecolor="white", label=look.label) for look in looks]
    return [*handles, Line2D([], [], color=LOOKS["target"].color, label="exact optimum")]


def _draw_linear(ax: Axes, data: Data) -> None:
    ax.plot(LINEAR_WIDTHS, data["optimum"], color=LOOKS["target"].color)
    for width, values in zip(data["linear_widths"], data["trained"], strict=True):
        dots(ax, np.full(len(values), width), values, np.zeros(len(values)), LOOKS["plain_sum"])
    ax.set(xlabel="units of the trunk", ylabel="training error, both heads", xticks=LINEAR_WIDTHS, ylim=(10, 14.5))


TEXT = r"""Classifiers of the digits of scikit-learn with two hidden layers: one network, two networks averaged, and networks with two inputs and two heads (MIMO; MixMo's
linear mixing, and cuts of the hidden units with probability one half). Means over {networks} pairs of predictors; bars are two standard errors.

(a) Error of the averaged predictors. Two heads that share a narrow network err more, averaged, than one network without company: at {narrowest} units a layer that holds for
3 of 3 ways to mix. Two networks have twice the cost. In cross-entropy the average never loses more than its own two predictors do on average, at any test point (largest
excess: 0.000000).

(b) Ratio of errors, the number of test points on which exactly one of the pair errs over that on which both do, from narrow networks (right) to wide ones. Pairs of
unequal error are to be compared at one error, not at one width.

(c) Linear networks of two slots, with four components to learn. The least training error of both heads is 14.017, 12.003, 11.425 and 10.848 with 1, 2, 3 and 4 units:
slots share the width of the trunk. Trained from random starts, networks (dots) differ from it by 0.0 at most, to one decimal."""


def _caption(data: Data) -> Caption:
    alone = data["two_networks, head"][0].mean()
    worse = sum(data[f"{name}, average"][0].mean() > alone for name in MIXINGS)
    loss = max(0.0, *(float(data[f"{name}, loss"].max()) for name in METHODS[1:]))
    excess = data["trained"] - data["optimum"][data["linear_widths"].astype(int) - 1][:, None]
    optima = [Number(f"optimum at width {width}", float(data["optimum"][width - 1]), text) for width, text in zip(LINEAR_WIDTHS, OPTIMA, strict=True)]
    farthest = float(np.max(np.abs(excess))) if excess.size else 0.0  # quick runs train none
    numbers = (
        Number("mixings whose heads average to more errors than one network makes, at the least width", float(worse), "3"),
        Number("largest loss of an average in cross-entropy", loss, "0.000000"),
        *optima,
        Number("largest difference of a trained linear network from the optimum", farthest, "0.0"),
    )
    return Caption(TEXT.format(networks=data["two_networks, head"].shape[1], narrowest=int(data["widths"][0])), numbers)


FIGURE = Figure(
    name=NAME,
    title="Two networks in one",
    inputs={
        "seed": 20211014,
        "widths": [8, 16, 32],
        "networks": 6,
        "steps": 600,
        "slope": [[1.2, 0.5], [-0.4, 0.9]],
        "input_cov": [[1.0, 0.3], [0.3, 0.8]],
        "noise_variances": [2.0, 3.424],
        "linear_widths": [1, 2, 3, 4],
        "linear_steps": 300,
        "linear_networks": 4,
    },
    quick_inputs={"widths": [8], "networks": 2, "steps": 100, "linear_widths": []},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three panels. Left: errors of averaged predictors against the width, for one network, two, and three kinds of networks with two heads, which err more than one "
    "where they are narrowest. Middle: ratio of errors of a pair against the error of one predictor. Right: trained linear networks lie on the exact line of least errors.",
    source='mixing of Rame, Sun and Cord, "MixMo: mixing multiple inputs for multiple outputs via deep subnetworks", ICCV 2021; the numbers are computed here',
)
