r"""Weights and predictions of classifiers of the digits of scikit-learn: snapshots of one training, other initialisations, copies with noise or without some units.

Networks with one hidden layer are trained from several initialisations on a random half of the digits, for equally many steps at a constant rate (Adam begins anew at each
snapshot). Each in turn is the reference, with which are compared on the other half: its snapshots, the other networks, copies of it with Gaussian noise on every weight,
copies with units left out (dropout of one half, the others doubled), and, as a control, a copy whose hidden units are permuted: its weights differ, its predictions do not.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from sklearn.datasets import load_digits
from sklearn.manifold import TSNE

from ensembletheory.laws import FiniteLaw
from ensembletheory.neural import Classifier, ClassifierLearner, Recipe, member, predictions, train, weight_cosines
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure
from ensembletheory.progress import progress
from ensembletheory.supervised import copy_disagreement, independent_disagreement
from paper_figures.framework import Caption, Data, Figure, Number, mean_number

__all__ = ["FIGURE"]

CLASSES = 10
FAMILIES = ("snapshot", "initialisation", "perturbed", "dropout")
SHOWN = np.linspace(0.5, 0.999, 200)  # accuracies


def _compute(
    seed: int, networks: int, width: int, snapshots: int, steps: int, scales: list[float], kept: float, followed: int, perplexity: float, example: list[float]
) -> Data:
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    train_rows, test = np.split(rng.permutation(len(X)), [len(X) // 2])
    law = FiniteLaw(np.column_stack([X, y])[train_rows])
    learner = ClassifierLearner(CLASSES, width, 1, 64)
    paths = _paths(seed, learner, law, networks, Recipe(steps=steps, learning_rate=5e-3, schedule="constant", chunk=steps), snapshots)

    trained = [np.asarray(layer) for layer in paths.network.layers]
    ends = [[layer[r, -1] for layer in trained] for r in range(networks)]
    copies = [[*(_noisy(end, scale, rng) for scale in scales), _thinned(end, kept, rng), _permuted(end, rng)] for end in ends]
    layers = [np.concatenate([_flat(path), *(np.stack([copy[i] for copy in each]) for each in copies)]) for i, path in enumerate(trained)]
    classifier = eqx.tree_at(lambda c: c.network.layers, member(member(paths, 0), 0), tuple(map(jnp.asarray, layers)))
    stacked = eqx.tree_at(lambda c: c.inputs, classifier, jax.tree.map(lambda part: jnp.broadcast_to(part, (len(layers[0]), part.size)), classifier.inputs))
    probs = np.exp(np.asarray(predictions(stacked, X[test])))  # pyright: ignore[reportArgumentType]
    compared = _Compared(np.asarray(weight_cosines(stacked.network)), np.argmax(probs, axis=-1), y[test], networks, snapshots + 1)  # pyright: ignore[reportArgumentType]
    data = compared.families(len(scales))
    shown = probs[: followed * (snapshots + 1)].reshape(followed * (snapshots + 1), -1)
    plane = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(shown).reshape(followed, snapshots + 1, 2)
    reference = data["reference"].mean()
    below = np.minimum(SHOWN, reference)
    return data | {
        "plane": plane,
        "width": width,
        "example": _example(*example),
        "independent curve": independent_disagreement(SHOWN, reference, CLASSES) / (1 - SHOWN),
        "below": below,
        "copy curve": copy_disagreement(below, reference, CLASSES) / (1 - below),
    }


def _example(accuracy: float, reference: float) -> np.ndarray:
    """Both curves, independent errors first, at one accuracy."""
    return np.array([float(disagree(accuracy, reference, CLASSES)) for disagree in (independent_disagreement, copy_disagreement)]) / (1 - accuracy)


def _paths(seed: int, learner: ClassifierLearner, law: FiniteLaw, networks: int, recipe: Recipe, snapshots: int) -> Classifier:
    """A stack of stacks (networks, snapshots + 1): what each network is along its training, its start included."""
    starts = eqx.filter_jit(eqx.filter_vmap(lambda key: learner.initialise(key, law)))(jax.random.split(jax.random.key(seed), networks))
    loss, paths = learner.loss(law), []
    for r in progress(range(networks), "trainings", networks):
        path: list[Any] = [member(starts, r)]
        for s in range(snapshots):
            path.append(train(jax.random.key(seed + 1 + r * snapshots + s), path[-1], loss, recipe).model)
        paths.append(path)
    return jax.tree.map(lambda *leaves: np.stack(leaves).reshape(networks, snapshots + 1, *leaves[0].shape), *[model for path in paths for model in path])


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, *array.shape[2:])


def _noisy(layers: list[np.ndarray], scale: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Independent noise on every weight, of `scale` times the deviation of the weights of its layer."""
    return [layer + scale * layer.std() * rng.normal(size=layer.shape) for layer in layers]


def _thinned(layers: list[np.ndarray], kept: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Hidden units kept with a probability and enlarged by its inverse, the others left out."""
    hidden, last = layers
    return [hidden, last * np.append((rng.random(len(hidden)) < kept) / kept, 1.0)]


def _permuted(layers: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    hidden, last = layers
    order = rng.permutation(len(hidden))
    return [hidden[order], last[:, np.append(order, len(hidden))]]


class _Compared:
    """Cosines, disagreements and accuracies of what is compared with each reference, the end of each path."""

    def __init__(self, cosines: np.ndarray, classes: np.ndarray, labels: np.ndarray, networks: int, length: int):
        self.cosines, self.classes, self.labels, self.networks, self.length = cosines, classes, labels, networks, length
        self.ends = length * np.arange(1, networks + 1) - 1

    def families(self, levels: int) -> Data:
        """Arrays (networks, levels, 3) by family."""
        first = self.networks * self.length
        copies = [first + r * (levels + 2) + np.arange(levels + 2) for r in range(self.networks)]
        return {
            "reference": np.mean(self.classes[self.ends] == self.labels, axis=1),
            "snapshot": self._points([r * self.length + np.arange(self.length - 1) for r in range(self.networks)]),
            "initialisation": self._points([np.delete(self.ends, r) for r in range(self.networks)]).mean(axis=1, keepdims=True),
            "perturbed": self._points([each[:levels] for each in copies]),
            "dropout": self._points([each[levels : levels + 1] for each in copies]),
            "permuted": self._points([each[levels + 1 :] for each in copies]),
        }

    def _points(self, rows: list[np.ndarray]) -> np.ndarray:
        """Cosine with the reference, share of the points on which predictions differ, and accuracy, of the networks in each row."""
        return np.stack(
            [
                np.stack(
                    [self.cosines[each, end], np.mean(self.classes[each] != self.classes[end], axis=1), np.mean(self.classes[each] == self.labels, axis=1)],
                    axis=-1,
                )
                for each, end in zip(rows, self.ends, strict=True)
            ]
        )


def _draw(data: Data) -> Picture:
    picture, (weights, plane, paths) = new_figure(WIDTHS["icml_page"], 2.6, columns=3)
    letter(weights, "a", "weights and predictions")
    for family in (*FAMILIES, "permuted"):
        _dots(weights, data[family][:, :, 0].mean(axis=0), data[family][:, :, 1].mean(axis=0), family)
    weights.set(xlabel="cosine of weights", ylabel="disagreement $d$", xlim=(-0.08, 1.05), ylim=(-0.002, 1.2))
    weights.set_yscale("symlog", linthresh=0.01)
    weights.set_yticks([0, 0.01, 0.1, 1], labels=["0", "0.01", "0.1", "1"])
    letter(plane, "b", "diversity and accuracy")
    curve(plane, SHOWN, data["independent curve"], LOOKS["independent_errors"])
    curve(plane, data["below"], data["copy curve"], LOOKS["random_labels"])
    for family in FAMILIES:
        accuracy, ratio = data[family][:, :, 2].mean(axis=0), (data[family][:, :, 1] / (1 - data[family][:, :, 2])).mean(axis=0)
        _dots(plane, accuracy, ratio, family)
    plane.axvline(data["reference"].mean(), color=LOOKS["target"].color, linewidth=0.6)
    plane.set(xlabel="accuracy $a$", ylabel="$d/(1-a)$", xlim=(SHOWN[0], 1), ylim=(0, 2))
    letter(paths, "c", "predictions in training, t-SNE")
    _draw_paths(paths, data["plane"])
    picture.legend(handles=[_handle(name) for name in ("independent_errors", "random_labels", *FAMILIES, "permuted")], loc="outside lower center", ncols=4)
    return picture


def _look(family: str):
    return LOOKS["target"]._replace(label="permuted copy") if family == "permuted" else LOOKS[family]


def _dots(ax: Axes, x: np.ndarray, y: np.ndarray, family: str) -> None:
    look = _look(family)
    ax.plot(x, y, color=look.color, linestyle="none", marker=look.marker, markerfacecolor="white")


def _draw_paths(ax: Axes, plane: np.ndarray) -> None:
    for path, color in zip(plane, ("target", "average", "member"), strict=False):
        ax.plot(*path.T, color=LOOKS[color].color, marker=".", linewidth=0.8)
        ax.plot(*path[-1], color=LOOKS[color].color, marker="o")
    ax.set(xticks=[], yticks=[])


def _handle(name: str) -> Line2D:
    look, line = _look(name), name in ("independent_errors", "random_labels")
    return Line2D([], [], color=look.color, linestyle=look.linestyle if line else "none", marker="none" if line else look.marker, markerfacecolor="white", label=look.label)


TEXT = r"""Classifiers of the digits of scikit-learn with {width} hidden units, trained from {networks} initialisations; each in turn is the reference (accuracy 0.966).

(a) Nearness of weights is not nearness of predictions. A copy of the reference with its hidden units permuted has other weights (cosine 0.0) and the same predictions
(disagreement 0.0000). Networks from other initialisations have weights about as far (cosine 0.08) and disagree with it on a share of 0.035 of the test points. A snapshot
half-way through its own training is near in both (0.97; 0.021), a copy with half its hidden units left out is near in weights only (0.87; 0.29).

(b) Disagreement per error against accuracy, between what independent errors would give and a copy with random labels (at accuracy 0.9, for a reference of 0.96: 1.356 and
0.628). Other initialisations are as accurate as the reference and disagree with it 1.0 times per error; copies with noise pay for diversity with accuracy.

(c) Predicted probabilities on the test points along three trainings, from their starts, which are alike, to their ends (large dots), by t-SNE."""

# What the caption prints: family, level, and whether it is the cosine (0) or the disagreement (1).
PRINTED = [
    ("permuted", 0, 0, "0.0"),
    ("permuted", 0, 1, "0.0000"),
    ("initialisation", 0, 0, "0.08"),
    ("initialisation", 0, 1, "0.035"),
    ("snapshot", 4, 0, "0.97"),
    ("snapshot", 4, 1, "0.021"),
    ("dropout", 0, 0, "0.87"),
    ("dropout", 0, 1, "0.29"),
]


def _caption(data: Data) -> Caption:
    numbers = [mean_number(f"{name} {level}, {('cosine', 'disagreement')[axis]}", data[name][:, level, axis], text) for name, level, axis, text in PRINTED]
    others = data["initialisation"][:, 0]
    numbers += [mean_number("reference", data["reference"], "0.966"), mean_number("disagreement per error", others[:, 1] / (1 - others[:, 2]), "1.0")]
    numbers += [Number(f"{name} at the example", float(value), text) for name, value, text in zip(("independent", "copy"), data["example"], ("1.356", "0.628"), strict=True)]
    return Caption(TEXT.format(width=int(data["width"]), networks=len(data["reference"])), tuple(numbers))


FIGURE = Figure(
    name="fort_diversity",
    title="Weights and predictions",
    inputs={
        "seed": 20191205,
        "networks": 10,
        "width": 32,
        "snapshots": 8,
        "steps": 40,
        "scales": [0.1, 0.3, 0.6, 1.0],
        "kept": 0.5,
        "followed": 3,
        "perplexity": 5.0,
        "example": [0.9, 0.96],
    },
    quick_inputs={"networks": 5},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three panels. Left: disagreement against the cosine of weights; snapshots and perturbed copies lie along a falling curve, other initialisations and a permuted copy "
    "at a cosine near zero with little or no disagreement. Middle: the diversity-accuracy plane. Right: three paths of predictions that begin together and end apart.",
    source='comparisons of S. Fort, H. Hu and B. Lakshminarayanan, "Deep ensembles: a loss landscape perspective", 2019; the numbers are computed here',
)
