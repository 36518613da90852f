"""The diversity-accuracy plane of small classifiers of handwritten digits: where other initialisations, snapshots, perturbed copies and trees lie between two curves.

Every split of the digits of scikit-learn has one reference network (one hidden layer, Adam). Compared with it on the test half are networks from other initialisations,
snapshots of the reference during its own training, copies of it with Gaussian noise on its weights, decision trees, and copies whose predictions are replaced by random
classes: the control, which must lie on its curve. A dot is a mean over splits.
"""

import copy

import numpy as np
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, new_figure
from ensembletheory.supervised import copy_disagreement, disagreement, independent_disagreement
from paper_figures.framework import Caption, Data, Figure, Number, mean_number

__all__ = ["FIGURE"]

CLASSES = 10
FAMILIES = ("initialisation", "snapshot", "perturbed", "tree", "random_labels")
SHOWN = np.linspace(0.4, 0.999, 200)  # accuracies


def _compute(
    seed: int,
    splits: int,
    members: int,
    hidden: int,
    epochs: int,
    snapshots: list[int],
    scales: list[float],
    replaced: list[float],
    tree_features: int,
    example_accuracy: float,
    example_reference: float,
) -> Data:
    X, y = load_digits(return_X_y=True)
    rows = [_one_split(X / 16, y, np.random.default_rng([seed, i]), members, hidden, epochs, snapshots, scales, replaced, tree_features) for i in range(splits)]
    data: Data = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    reference = data["reference"].mean()
    below = np.minimum(SHOWN, reference)
    return data | {
        "shown": SHOWN,
        "below": below,
        "independent curve": independent_disagreement(SHOWN, reference, CLASSES) / (1 - SHOWN),
        "copy curve": copy_disagreement(below, reference, CLASSES) / (1 - below),
        "example": _example(example_accuracy, example_reference),
    }


def _example(accuracy: float, reference: float) -> np.ndarray:
    """Both curves, independent errors first, at one accuracy."""
    return np.array([float(disagree(accuracy, reference, CLASSES)) for disagree in (independent_disagreement, copy_disagreement)]) / (1 - accuracy)


def _one_split(X, y, rng: np.random.Generator, members, hidden, epochs, snapshots, scales, replaced, tree_features) -> Data:
    """Accuracy and disagreement per error (levels, members, 2) of every family, and the accuracy of the reference."""
    train, test, train_labels, labels = map(np.asarray, train_test_split(X, y, test_size=0.5, stratify=y, random_state=int(rng.integers(2**31))))

    def trained(stops: list[int]) -> list[MLPClassifier]:
        net = MLPClassifier((hidden,), learning_rate_init=0.01, batch_size=64, random_state=int(rng.integers(2**31)))  # pyright: ignore
        kept = []
        for epoch in range(1, epochs + 1):
            net.partial_fit(train, train_labels, classes=np.arange(CLASSES))
            kept += [copy.deepcopy(net)] if epoch in [*stops, epochs] else []
        return kept

    def tree() -> DecisionTreeClassifier:
        return DecisionTreeClassifier(max_features=tree_features, random_state=int(rng.integers(2**31))).fit(train, train_labels)

    *early, reference = trained(snapshots)
    predicted = np.asarray(reference.predict(test))
    families = {
        "initialisation": [[trained([])[0].predict(test) for _ in range(members)]],
        "snapshot": [[net.predict(test)] for net in early],
        "perturbed": [[_perturbed(reference, scale, rng).predict(test) for _ in range(members)] for scale in scales],
        "tree": [[tree().predict(test) for _ in range(members)]],
        "random_labels": [[_relabelled(predicted, part, rng) for _ in range(members)] for part in replaced],
    }
    points = {name: _points(np.array(predictions), predicted, labels) for name, predictions in families.items()}
    return points | {"reference": np.mean(predicted == labels)}


def _points(predictions: np.ndarray, reference: np.ndarray, labels: np.ndarray) -> np.ndarray:
    accuracy = np.mean(predictions == labels, axis=-1)
    return np.stack([accuracy, np.asarray(disagreement(predictions, reference)) / (1 - accuracy)], axis=-1)


def _perturbed(net: MLPClassifier, scale: float, rng: np.random.Generator) -> MLPClassifier:
    """A copy with independent noise on every weight, of `scale` times the standard deviation of the weights of its layer."""
    moved = copy.deepcopy(net)
    moved.coefs_ = [weights + scale * weights.std() * rng.normal(size=weights.shape) for weights in net.coefs_]
    return moved


def _relabelled(predictions: np.ndarray, part: float, rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random(predictions.size) < part, rng.integers(CLASSES, size=predictions.size), predictions)


def _draw(data: Data) -> Picture:
    picture, (ax,) = new_figure(WIDTHS["icml_column"], 3.4)
    curve(ax, data["shown"], data["independent curve"], LOOKS["independent_errors"])
    curve(ax, data["below"], data["copy curve"], LOOKS["random_labels"])
    for family in FAMILIES:
        points = data[family].mean(axis=2)  # over members
        x, y = points.mean(axis=0).T
        dots(ax, x, y, 2 * points[:, :, 1].std(axis=0, ddof=1) / len(points) ** 0.5, LOOKS[family])
    reference = data["reference"].mean()
    ax.axvline(reference, color=LOOKS["target"].color, linewidth=0.6)
    ax.annotate("reference", (reference, 0.02), (-3, 0), textcoords="offset points", ha="right", fontsize=7)
    ax.set(xlabel="accuracy $a$", ylabel="disagreement $d/(1-a)$", xlim=(SHOWN[0], 1), ylim=(0, 2))
    picture.legend(handles=[_handle(name) for name in ("independent_errors", *FAMILIES)], loc="outside lower center", ncols=2)
    return picture


def _handle(name: str) -> Line2D:
    look, line = LOOKS[name], name in ("independent_errors", "random_labels")
    marker = "none" if name == "independent_errors" else look.marker
    return Line2D([], [], color=look.color, linestyle=look.linestyle if line else "none", marker=marker, markerfacecolor="white", label=look.label)


# What the caption prints: family, level, and whether it is the accuracy (0) or the disagreement per error (1).
PRINTED = [
    ("initialisation", 0, 0, "0.950"),
    ("initialisation", 0, 1, "0.74"),
    ("snapshot", 3, 0, "0.917"),
    ("snapshot", 3, 1, "0.60"),
    ("perturbed", 2, 0, "0.915"),
    ("perturbed", 2, 1, "0.74"),
    ("tree", 0, 0, "0.782"),
    ("tree", 0, 1, "1.04"),
]

TEXT = """Disagreement with a reference network per error, $d/(1-a)$, against accuracy $a$, on the digits of scikit-learn (means over splits, bars of two standard errors). The
curves frame what can be expected: independent errors above, a copy of the reference with random labels below; for a reference of accuracy 0.95 they stand at 1.444 and 0.529
where $a=0.9$. Dots on the lower curve are such copies, measured.

Networks from other initialisations are as accurate (0.950) as the reference (0.951) and disagree with it by 0.74 per error: far more than a copy, which would not
differ at all, and less than half of what independent errors would give, for their errors fall on the same points more often. At lower accuracy diversity is cheap:
snapshots after 5 epochs (0.917; 0.60) and copies with noise of 0.2 standard deviations on their weights (0.915; 0.74) lie nearer to the lower curve than to the upper.
Decision trees (0.782; 1.04) lie between the two."""


def _caption(data: Data) -> Caption:
    means = [(f"{name} {level}, {('accuracy', 'disagreement')[axis]}", data[name][:, level, :, axis].mean(axis=1), text) for name, level, axis, text in PRINTED]
    means.append(("reference", data["reference"], "0.951"))
    numbers = [mean_number(name, values, text) for name, values, text in means]
    examples = [Number(f"{name} at the example", value, text) for name, value, text in zip(("independent", "copy"), data["example"], ("1.444", "0.529"), strict=True)]
    return Caption(TEXT, (*numbers, *examples))


FIGURE = Figure(
    name="diversity_accuracy_plane",
    title="Diversity and accuracy of small classifiers",
    inputs={
        "seed": 20191205,
        "splits": 12,
        "members": 4,
        "hidden": 20,
        "epochs": 10,
        "snapshots": [1, 2, 3, 5],
        "scales": [0.05, 0.1, 0.2, 0.3, 0.5, 0.7],
        "replaced": [0.05, 0.2, 0.4, 0.6],
        "tree_features": 8,
        "example_accuracy": 0.9,
        "example_reference": 0.95,
    },
    quick_inputs={"splits": 5, "members": 1},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Disagreement per error against accuracy. Networks from other initialisations are as accurate as the reference and lie far above the curve of copies with "
    "random labels, though well below that of independent errors. Snapshots and perturbed copies of the reference lie nearer to the lower curve, trees between both.",
    source='S. Fort, H. Hu and B. Lakshminarayanan, "Deep ensembles: a loss landscape perspective", 2019 (the plane); the numbers are computed here',
)
