r"""Are ensembles getting better all the time? The expected loss of an average of K members, exactly and by simulation, for a convex loss and for three that are not.

The lines are the closed forms of `ensembletheory.supervised`. The dots share no code with them: each is a mean over simulated ensembles, whose members are drawn
one by one and averaged. The dots of one line share their draws (an ensemble of 10 contains the ensemble of 5), so they are not independent of each other; each error
bar is right by itself.
"""

from collections.abc import Callable
from typing import NamedTuple
from zlib import crc32

import jax
import numpy as np
from jaxtyping import Array
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure, write_beside
from ensembletheory.supervised import exponential_tail, gaussian_vote_error, majority_vote_error, squared_loss, welsch_loss
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

SIZES = np.arange(1, 101)
SIMULATED = np.array([1, 2, 3, 5, 10, 30])
LARGEST = int(SIMULATED[-1])
THRESHOLD = 0.5  # between the two answers of a vote


class Simulation(NamedTuple):
    """How members are drawn, with which parameters, and the loss of their average, with which parameters."""

    draw: Callable[..., np.ndarray]
    law: tuple[float, ...]
    loss: Callable[..., np.ndarray]
    at: tuple[float, ...] = ()


@jax.jit
def _exact(bias, sd, correlation, welsch_biases, welsch_width, vote_means, vote_sd, accuracy, exponential_means, threshold) -> dict[str, Array]:
    """The lines, in one compiled program."""
    return {
        "squared": squared_loss(SIZES, bias, sd, correlation),
        "welsch falls": welsch_loss(SIZES, welsch_biases[0], sd, welsch_width),
        "welsch turns": welsch_loss(SIZES, welsch_biases[1], sd, welsch_width),
        "welsch rises": welsch_loss(SIZES, welsch_biases[2], sd, welsch_width),
        "vote falls": gaussian_vote_error(SIZES, vote_means[0], vote_sd, THRESHOLD),
        "vote rises": gaussian_vote_error(SIZES, vote_means[1], vote_sd, THRESHOLD),
        "vote correlated": gaussian_vote_error(SIZES, vote_means[0], vote_sd, THRESHOLD, correlation),
        "jury": majority_vote_error(SIZES, accuracy),
        "tail falls": exponential_tail(SIZES, exponential_means[0], threshold),
        "tail turns": exponential_tail(SIZES, exponential_means[1], threshold),
    }


def _simulations(bias, sd, correlation, welsch_biases, welsch_width, vote_means, vote_sd, accuracy, exponential_means, threshold) -> dict[str, Simulation]:
    """The dots, by the name of their line."""
    return {
        "squared": Simulation(_gaussian, (bias, sd, correlation), _square),
        "welsch falls": Simulation(_gaussian, (welsch_biases[0], sd, 0.0), _welsch, (welsch_width,)),
        "welsch turns": Simulation(_gaussian, (welsch_biases[1], sd, 0.0), _welsch, (welsch_width,)),
        "welsch rises": Simulation(_gaussian, (welsch_biases[2], sd, 0.0), _welsch, (welsch_width,)),
        "vote falls": Simulation(_gaussian, (vote_means[0], vote_sd, 0.0), _below, (THRESHOLD,)),
        "vote rises": Simulation(_gaussian, (vote_means[1], vote_sd, 0.0), _below, (THRESHOLD,)),
        "vote correlated": Simulation(_gaussian, (vote_means[0], vote_sd, correlation), _below, (THRESHOLD,)),
        "jury": Simulation(_voters, (accuracy,), _below, (THRESHOLD,)),
        "tail falls": Simulation(_exponential, (exponential_means[0],), _below, (threshold,)),
        "tail turns": Simulation(_exponential, (exponential_means[1],), _below, (threshold,)),
    }


def _gaussian(rng: np.random.Generator, ensembles: int, mean: float, sd: float, correlation: float) -> np.ndarray:
    shared, own = np.split(rng.normal(size=(ensembles, 1 + LARGEST)), [1], axis=1)
    return mean + sd * (correlation**0.5 * shared + (1 - correlation) ** 0.5 * own)


def _voters(rng: np.random.Generator, ensembles: int, accuracy: float) -> np.ndarray:
    return (rng.random((ensembles, LARGEST)) < accuracy).astype(float)


def _exponential(rng: np.random.Generator, ensembles: int, mean: float) -> np.ndarray:
    return rng.exponential(mean, (ensembles, LARGEST))


def _square(average: np.ndarray) -> np.ndarray:
    return average**2


def _welsch(average: np.ndarray, width: float) -> np.ndarray:
    return -np.expm1(-(average**2) / (2 * width**2))


def _below(average: np.ndarray, threshold: float) -> np.ndarray:
    return (average < threshold) + 0.5 * (average == threshold)


def _simulated(rng: np.random.Generator, ensembles: int, case: Simulation) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss and its standard error at the simulated sizes."""
    averages = np.cumsum(case.draw(rng, ensembles, *case.law), axis=1)[:, SIMULATED - 1] / SIMULATED
    losses = case.loss(averages, *case.at)
    return losses.mean(axis=0), losses.std(axis=0, ddof=1) / ensembles**0.5


def _compute(seed: int, ensembles: int, **parameters) -> Data:
    data = {"sizes": SIZES, "simulated": SIMULATED, "ensembles": ensembles} | _exact(**parameters)
    for name, simulation in _simulations(**parameters).items():
        rng = np.random.default_rng([seed, crc32(name.encode())])
        data[f"{name}, simulated"], data[f"{name}, standard error"] = _simulated(rng, ensembles, simulation)
    return data


def _line(ax: Axes, data: Data, name: str, look: str, note: str, at: int, offset: tuple[float, float]) -> None:
    curve(ax, data["sizes"], data[name], LOOKS[look])
    dots(ax, data["simulated"], data[f"{name}, simulated"], 2 * data[f"{name}, standard error"], LOOKS[look])
    write_beside(ax, at, data[name][at - 1], note, LOOKS[look], offset)


def _draw(data: Data) -> Picture:
    picture, (convex, welsch, votes, tails) = new_figure(WIDTHS["iclr"], 4.2, rows=2, columns=2)
    letter(convex, "a", "squared error")
    _line(convex, data, "squared", "falls", r"bias 0.5, correlation 0.3", 3, (8, 5))
    letter(welsch, "b", "Welsch loss")
    _line(welsch, data, "welsch rises", "rises", "bias 2.5", 10, (-6, -9))
    _line(welsch, data, "welsch turns", "turns", "bias 1.3 (least at $K=2$)", 5, (-6, 9))
    _line(welsch, data, "welsch falls", "falls", "bias 0.5", 10, (-6, 8))
    letter(votes, "c", "votes")
    _line(votes, data, "vote rises", "rises", "mean 0.4", 6, (8, -5))
    _line(votes, data, "vote correlated", "falls", "correlated", 20, (0, 8))
    _line(votes, data, "jury", "falls", "jury", 40, (2, 7))
    _line(votes, data, "vote falls", "falls", "mean 0.6", 3, (-22, -9))
    letter(tails, "d", "exponential members")
    _line(tails, data, "tail turns", "turns", "mean 0.8 (least at $K=2$)", 4, (0, -10))
    _line(tails, data, "tail falls", "falls", "mean 1.5", 5, (6, 5))
    labels = ("expected squared error", "expected Welsch loss", "probability of an error", "$P$(average < 1)")
    for ax, label in zip((convex, welsch, votes, tails), labels, strict=True):
        ax.set(xscale="log", xlabel="members $K$", ylabel=label, ylim=(0, None))
        ax.set_xticks([1, 2, 5, 10, 30, 100], labels=["1", "2", "5", "10", "30", "100"])
        ax.minorticks_off()
    _legend(picture)
    return picture


def _legend(picture: Picture) -> None:
    looks = [LOOKS[name] for name in ("falls", "turns", "rises")]
    handles = [Line2D([], [], color=look.color, linestyle=look.linestyle, label=look.label) for look in looks]
    simulated = LOOKS["monte_carlo"]
    handles += [Line2D([], [], color=simulated.color, marker=simulated.marker, markerfacecolor="white", linestyle="none", label="simulated, 2 s.e.")]
    picture.legend(handles=handles, loc="outside lower center", ncols=4)


# What the caption prints at which K. The simulated dots must agree with the same numbers at K = 1 and 10.
PRINTED = {
    "squared": {1: "1.25", 2: "0.9", 5: "0.69", 100: "0.557"},
    "welsch falls": {1: "0.335735", 10: "0.148956"},
    "welsch turns": {1: "0.536558", 2: "0.535162", 10: "0.557731"},
    "welsch rises": {1: "0.851782", 10: "0.944344"},
    "vote falls": {1: "0.369441", 10: "0.145920"},
    "vote rises": {1: "0.630559", 10: "0.854080"},
    "vote correlated": {1: "0.369441", 100: "0.273719"},
    "jury": {1: "0.4", 3: "0.352", 9: "0.266568", 10: "0.266568"},
    "tail falls": {1: "0.48658", 10: "0.13737"},
    "tail turns": {1: "0.71350", 2: "0.71270", 10: "0.79857"},
}

TEXT = """Expected loss of an average of $K$ members: closed forms (lines) and {ensembles} simulated ensembles (dots, bars of two standard errors).

(a) The squared error is convex and never rises: for members of bias 0.5, variance 1 and correlation 0.3 it is 1.25, 0.9 and 0.69 at $K=1,2,5$, and 0.557 at 100.

(b) The Welsch loss $1-e^{{-d^2/2}}$ is bounded, hence not convex. For uncorrelated Gaussian members of variance 1 it falls from 0.335735 to 0.148956 at $K=10$ when
their bias is 0.5, rises from 0.851782 to 0.944344 when it is 2.5, and does both when it is 1.3: 0.536558, 0.535162 and 0.557731 at $K=1,2,10$.

(c) A mean vote below 0.5 is an error. Votes $N(0.6, 0.3^2)$ err with probability 0.369441 alone and 0.145920 when $K=10$, votes $N(0.4, 0.3^2)$ with 0.630559 and 0.854080.
With correlation 0.3 the former still err with probability 0.273719 when $K=100$. Condorcet's jury, whose voters are right with probability 0.6, errs with 0.4, 0.352 and
0.266568 at $K=1,3,9$, and a tenth voter changes nothing.

(d) The mean of exponential members of mean 1.5 falls below 1 with probability 0.48658 alone and 0.13737 when $K=10$. For members of mean 0.8 this probability rises to 1,
but only eventually: 0.71350, 0.71270 and 0.79857 at $K=1,2,10$."""


def _caption(data: Data) -> Caption:
    printed = [(name, K, text) for name, row in PRINTED.items() for K, text in row.items()]
    exact = [Number(f"{name}, $K={K}$", data[name][K - 1], text) for name, K, text in printed]
    simulated = [_dot(data, name, K, text) for name, K, text in printed if K in (1, 10)]
    return Caption(TEXT.format(ensembles=f"{int(data['ensembles']):,}"), (*exact, *simulated))


def _dot(data: Data, name: str, K: int, text: str) -> Number:
    at = int(np.flatnonzero(data["simulated"] == K)[0])
    return Number(f"{name}, $K={K}$, simulated", data[f"{name}, simulated"][at], text, data[f"{name}, standard error"][at])


FIGURE = Figure(
    name="mattei_garreau_losses",
    title="Are ensembles getting better all the time?",
    inputs={
        "seed": 20231117,
        "ensembles": 50_000,
        "bias": 0.5,
        "sd": 1.0,
        "correlation": 0.3,
        "welsch_biases": [0.5, 1.3, 2.5],
        "welsch_width": 1.0,
        "vote_means": [0.6, 0.4],
        "vote_sd": 0.3,
        "accuracy": 0.6,
        "exponential_means": [1.5, 0.8],
        "threshold": 1.0,
    },
    quick_inputs={"ensembles": 10_000},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels of loss against the number of members, on a logarithmic axis from 1 to 100. The squared error falls and levels off. The Welsch loss falls for a "
    "small bias, rises for a large one and turns in between. Vote errors fall where the mean vote is right and rise where it is wrong. The tail probability of "
    "exponential members falls if their mean is above the threshold and in the end rises if it is below. Simulated dots lie on all lines.",
    source='P.-A. Mattei and D. Garreau, "Are ensembles getting better all the time?", JMLR 26, 2025 (setting); the closed forms of ensembletheory.supervised (values)',
)
