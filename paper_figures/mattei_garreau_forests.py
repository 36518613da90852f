r"""Random forests as ensembles: the expected convex losses and the expected error of the average of K of their trees.

Trees are grown until their leaves are pure, so that each predicts one class with certainty and an average of K trees is the shares of their votes. All curves are
averages over subsets of K of the T trees of a forest, without simulation where a closed form exists:

- cross-entropy -log(floor + (1 - floor) share of the true class), and the error with two classes: sums over the hypergeometric law of the votes (`supervised.subset_*`).
  (The clipped -log max(share, floor) is bounded by cutting it off, hence not convex, and does rise on some splits.)
- Brier score |shares - one-hot|^2: that of the whole forest plus (1 - sum_c s_c^2) (1/K - 1/T) T/(T - 1), s_c its shares;
- error with ten classes (plurality, ties broken evenly): random orders of the trees.

Given one forest, cross-entropy and Brier score never rise with K, exactly. To tell where the vote is right in the limit, each split has T further trees, whose vote
decides; points on which they are tied count on neither side.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.supervised import subset_majority_vote_error, subset_vote_share_loss
from paper_figures.framework import Caption, Data, Figure, Number, mean_number

__all__ = ["FIGURE"]

SETS: dict[str, tuple[str, Callable]] = {"cancer": ("breast cancer, 2 classes", datasets.load_breast_cancer), "digits": ("digits, 10 classes", datasets.load_digits)}
CONVEX, ERRORS = ("cross-entropy", "Brier"), ("error", "error where right", "error where wrong")
BAND = (0.1, 0.9)  # quantiles over splits


def _compute(seed: int, splits: int, trees: int, orders: int, train_part: float, floor: float) -> Data:
    sizes, right = np.arange(1, trees + 1), np.arange(trees + 1.0)
    data: Data = {"sizes": sizes, "splits": splits, "floor": floor}
    entropies = np.asarray(subset_vote_share_loss(sizes[None, :], right[:, None], trees, lambda share: -jnp.log(floor + (1 - floor) * share)))
    errors = np.asarray(subset_majority_vote_error(sizes[None, :], right[:, None], trees))
    for name, (_, load) in SETS.items():
        X, y = load(return_X_y=True)
        curves = [_one_split(X, y, sizes, entropies, errors, np.random.default_rng([seed, split]), orders, train_part) for split in range(splits)]
        data |= {f"{name}, {loss}": np.stack([one[loss] for one in curves]) for loss in curves[0]}
    return data


def _one_split(X, y, sizes, entropies, errors, rng: np.random.Generator, orders: int, train_part: float) -> dict[str, np.ndarray]:
    """Losses at every size, averaged over the test points of one random split."""
    state = int(rng.integers(2**31))
    train, test, train_labels, labels = map(np.asarray, train_test_split(X, y, train_size=train_part, stratify=y, random_state=state))
    forest = RandomForestClassifier(2 * len(sizes), random_state=state).fit(train, train_labels)
    votes = np.stack([tree.predict(test) for tree in forest.estimators_]).astype(int)
    votes, others = votes[: len(sizes)], votes[len(sizes) :]
    counts = _counts(votes)
    right = counts[labels, np.arange(len(labels))]
    error = errors[right] if len(counts) == 2 else _by_orders(votes, labels, rng, orders)
    limit = _lost(_counts(others), labels)
    return {
        "cross-entropy": entropies[right].mean(axis=0),
        "Brier": _brier(counts / len(sizes), labels, sizes),
        "error": error.mean(axis=0),
        "error where right": error[limit == 0].mean(axis=0),
        "error where wrong": error[limit == 1].mean(axis=0),
        "part where wrong": np.mean(limit == 1),
    }


def _counts(votes: np.ndarray) -> np.ndarray:
    """Votes (trees, points) as numbers of votes (classes, points)."""
    return np.stack([np.sum(votes == c, axis=0) for c in range(votes.max() + 1)])


def _lost(counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One minus the probability that the true class wins, ties being broken evenly; counts (classes, ...)."""
    most = counts == counts.max(axis=0)
    return 1 - np.take_along_axis(most, labels[None, ...], axis=0)[0] / most.sum(axis=0)


def _by_orders(votes: np.ndarray, labels: np.ndarray, rng: np.random.Generator, orders: int) -> np.ndarray:
    """The error (points, sizes) of the first K trees, averaged over random orders of the trees."""
    one_hot = votes[None] == np.arange(votes.max() + 1)[:, None, None]
    shuffled = (np.cumsum(one_hot[:, rng.permutation(len(votes))], axis=1, dtype=np.int16) for _ in range(orders))
    return np.mean([_lost(counts, np.broadcast_to(labels, votes.shape)) for counts in shuffled], axis=0).T


def _brier(shares: np.ndarray, labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    one_hot = np.arange(len(shares))[:, None] == labels
    whole, spread = np.sum((shares - one_hot) ** 2, axis=0), 1 - np.sum(shares**2, axis=0)
    trees = len(sizes)
    return whole.mean() + spread.mean() * (1 / sizes - 1 / trees) * trees / (trees - 1)


def _curve(ax: Axes, data: Data, name: str, look: str, note: str, at: int, offset: tuple[float, float]) -> None:
    values = data[name]
    low, high = np.quantile(values, BAND, axis=0)
    curve(ax, data["sizes"], values.mean(axis=0), LOOKS[look], low, high)
    write_beside(ax, at, values.mean(axis=0)[at - 1], note, LOOKS[look], offset)


def _draw(data: Data) -> Picture:
    picture, axes = new_figure(WIDTHS["icml_page"], 4.0, rows=2, columns=3)
    offsets = {"cancer": ((6, 6), (-14, -13), (4, 7), (-4, 9), (0, -18)), "digits": ((6, 6), (-18, -12), (4, 7), (4, 7), (-10, -10))}
    for row, (name, (title, _)) in enumerate(SETS.items()):
        convex, error, sides = axes[3 * row : 3 * row + 3]
        entropy, brier, both, right, wrong = offsets[name]
        letter(convex, "abcdef"[3 * row], title)
        _curve(convex, data, f"{name}, cross-entropy", "falls", "cross-entropy", 3, entropy)
        _curve(convex, data, f"{name}, Brier", "falls", "Brier score", 3, brier)
        letter(error, "abcdef"[3 * row + 1], "all test points")
        _curve(error, data, f"{name}, error", "falls", "error", 3, both)
        letter(sides, "abcdef"[3 * row + 2], "by the vote of other trees")
        _curve(sides, data, f"{name}, error where right", "falls", "where it is right", 4, right)
        _curve(sides, data, f"{name}, error where wrong", "rises" if name == "cancer" else "turns", "where it is wrong", 4, wrong)
        for ax, label in ((convex, "expected loss"), (error, "expected error"), (sides, "expected error")):
            ax.set(xscale="log", xlabel="trees $K$", ylabel=label, ylim=(0, None))
            ax.set_xticks([1, 2, 5, 10, 30, 100], labels=["1", "2", "5", "10", "30", "100"])
            ax.minorticks_off()
        sides.set_ylim(0, 1.02)
    return picture


# What the caption prints, by curve and K; a number without K is of the whole split.
PRINTED = {
    "cancer, cross-entropy": {1: "0.444", 10: "0.150", 100: "0.137"},
    "cancer, Brier": {1: "0.193", 100: "0.079"},
    "cancer, error": {1: "0.096", 100: "0.055"},
    "cancer, error where right": {1: "0.064", 100: "0.008"},
    "cancer, error where wrong": {1: "0.67", 100: "0.90"},
    "cancer, part where wrong": {0: "0.051"},
    "digits, cross-entropy": {1: "1.519", 10: "0.506", 100: "0.460"},
    "digits, Brier": {1: "0.659", 100: "0.188"},
    "digits, error": {1: "0.329", 100: "0.048"},
    "digits, error where right": {1: "0.306", 100: "0.012"},
    "digits, error where wrong": {1: "0.78", 18: "0.74", 100: "0.77"},
    "digits, part where wrong": {0: "0.046"},
}

TEXT = """Random forests of 100 trees: losses of the average of $K$ of their trees, averaged over all subsets of $K$ trees (in e and f: over random orders of the
trees) and over {splits} random splits. Lines: means over splits; bands: the middle 80 % of the splits.

(a, d) Convex losses fall with every tree, on every split. The cross-entropy, of the averaged probabilities mixed with a floor so that it is at most 4.605, falls from 0.444
to 0.150 and 0.137 at $K=1,10,100$ on the breast cancers and from 1.519 to 0.506 and 0.460 on the digits; the Brier score from 0.193 to 0.079 and from 0.659 to 0.188.

(b, e) The error is not convex. It falls from 0.096 to 0.055 and from 0.329 to 0.048, because most points are of the kind that improves.

(c, f) Points are told apart by the vote of 100 other trees. Where that is right, the error falls: from 0.064 to 0.008 on the cancers, from 0.306 to 0.012 on the digits. Where
it is wrong (a part of 0.051 and 0.046 of the points), more trees harm: with two classes from the first pair on, from 0.67 to 0.90. With ten classes the error first falls a
little, from 0.78 to 0.74 at $K=18$, while the small classes drop out, and then rises, to 0.77."""


def _caption(data: Data) -> Caption:
    numbers = [_number(data, name, K, text) for name, row in PRINTED.items() for K, text in row.items()]
    return Caption(TEXT.format(splits=int(data["splits"])), (*numbers, Number("largest cross-entropy", -np.log(data["floor"]), "4.605")))


def _number(data: Data, name: str, K: int, text: str) -> Number:
    return mean_number(f"{name}, $K={K}$", data[name][:, K - 1], text) if K else mean_number(name, data[name], text)


FIGURE = Figure(
    name="mattei_garreau_forests",
    title="Are random forests getting better all the time?",
    inputs={"seed": 20250901, "splits": 25, "trees": 100, "orders": 20, "train_part": 0.25, "floor": 0.01},
    quick_inputs={"splits": 5, "orders": 3},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Two rows of three panels against the number of trees on a logarithmic axis from 1 to 100, for two data sets. Cross-entropy and Brier score fall without a rise. "
    "So does the error over all test points. Where the vote of other trees is right the error falls to nearly 0; where it is wrong it rises towards 1 with two classes, "
    "and falls a little before it rises with ten.",
    source='P.-A. Mattei and D. Garreau, "Are ensembles getting better all the time?", JMLR 26, 2025 (setting); data of scikit-learn; the numbers are computed here',
    claims=("mattei-garreau-convex", "mattei-garreau-votes"),
)
