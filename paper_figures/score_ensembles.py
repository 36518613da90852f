r"""Score ensembles, networks beside exact scores: what averaging K trained scores gains in score-matching loss and in divergence of the sampled law.

The target is a mixture on the line, so that everything but training is exact: the loss of the exact score (the floor) by quadrature, the laws that the probability flow
samples by change of variables along the sampler's own steps, their divergences from the target by the trapezoid rule. M networks are trained on the target, which
differ in their seeds only; others each on a law of its own, whose exact score goes through the same sampler, alone and averaged.

Over all subsets of K of the M networks, the mean loss of the averaged score is floor + A + B / K exactly, on any draws. Bars are two standard errors by the jackknife over
networks (of the mean over subsets) and over repeated trainings. Networks trained on two machines differ in their last digits and soon in all: the caption prints what
is exact, and of the networks only what does not depend on that.
"""

from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

from ensembletheory.fields import MeanField
from ensembletheory.laws import GaussianMixture
from ensembletheory.neural import Recipe, ScoreMatching, ScoreNetwork, floor, flow_log_prob, member_errors, stack, train_ensemble
from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure, write_beside
from ensembletheory.processes import VariancePreserving
from ensembletheory.progress import progress
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

PROCESS = VariancePreserving()
EXACT, MEAN, ONE = LOOKS["target"], LOOKS["mean_score_ode"], LOOKS["member"]
START = 1e-3  # the earliest time at which a network is trained, and the last of the sampler
BOX = 6.0  # the target weighs less than 1e-16 outside [-BOX, BOX]


def _compute(seed, weights, means, variances, members, replicates, steps, batch, draws, grid_steps, points) -> Data:
    target, *laws = (_mixture(*parameters) for parameters in zip(weights, means, variances, strict=True))
    objective, *others = (ScoreMatching(PROCESS, law, batch, START) for law in (target, *laws))
    recipe = Recipe(steps=steps, learning_rate=1e-2, ema_decay=0.99, chunk=min(steps, 100))
    networks = train_ensemble(
        jax.random.key(seed), lambda key: ScoreNetwork(key, PROCESS, target, width=32, depth=3), [objective] * members + others * replicates, recipe
    ).average
    alike, *own = (_part(networks, start, length) for start, length in [(0, members)] + [(members + i * len(laws), len(laws)) for i in range(replicates)])
    exact = stack([PROCESS.score(law) for law in (*laws, target)])

    sampled = _Sampled(target, grid_steps, points)
    subsets, choices = _subsets(members), _subsets(len(laws))
    exact_kls = sampled.divergences(exact, np.vstack([np.pad(choices, ((0, 0), (0, 1))), np.eye(len(laws) + 1)[-1:]]), "exact scores")
    own_kls = [sampled.divergences(part, choices, "networks of their own laws") for part in own]
    data = _losses(jax.random.key(seed + 1), alike, objective, subsets, draws) | {"kl": sampled.divergences(alike, subsets, "networks of the target")}
    return data | {
        "subsets": subsets,
        "choices": choices,
        "grid_steps": grid_steps,
        "kl_floor": exact_kls[-1],
        "kl_members": exact_kls[: len(laws)],
        "kl_pooled": exact_kls[-2],
        "gain_exact": _gains(exact_kls[:-1], choices),
        "gain_networks": np.stack([_gains(kls, choices) for kls in own_kls]),
    }


def _mixture(weights, means, variances) -> GaussianMixture:
    return GaussianMixture(weights, np.asarray(means)[:, None], np.asarray(variances)[:, None])


def _part(stacked: Any, start: int, length: int) -> Any:
    return jax.tree.map(lambda array: array[start : start + length], stacked)


def _subsets(members: int) -> np.ndarray:
    """Equal weights on every subset that is not empty, one a row, by size."""
    return np.array([np.isin(np.arange(members), chosen) / K for K in range(1, members + 1) for chosen in combinations(range(members), K)])


def _losses(key, networks, objective: ScoreMatching, subsets: np.ndarray, draws: int) -> Data:
    """Excess losses of the averages over subsets, each by itself, and by the members' inner products the constants of their means."""
    errors = np.asarray(member_errors(key, networks, objective, draws))[:, :, 0]
    excess = np.mean((errors @ subsets.T) ** 2, axis=0)
    products = errors.T @ errors / draws
    between = products[~np.eye(len(products), dtype=bool)].mean()
    return {"floor": floor(objective).value, "excess": excess, "A": between, "B": np.trace(products) / len(products) - between}


class _Sampled:
    """Divergences of the laws that the probability flow samples from fields, by the trapezoid rule on `points` points."""

    def __init__(self, target: GaussianMixture, grid_steps: int, points: int):
        self.grid = jnp.linspace(1.0, START ** (1 / 3), grid_steps + 1) ** 3  # finer towards the data, where the flow is fast
        self.x = jnp.linspace(-BOX, BOX, points)[:, None]
        self.log_p = target.log_prob(self.x)

    def divergences(self, fields: Any, rows: np.ndarray, what: str) -> np.ndarray:
        """KL(target || law sampled from the average with weights w), for the rows w."""
        return np.array([self._divergence(MeanField(fields, row)) for row in progress(rows, f"laws sampled from {what}", len(rows))])

    def _divergence(self, field: MeanField) -> Float[Array, ""]:
        difference = self.log_p - flow_log_prob(field, PROCESS, self.grid, self.x)
        return jnp.exp(self.log_p) @ difference * (self.x[1, 0] - self.x[0, 0])


def _gains(kls: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Member average less ensemble for each subset; the first rows are the members themselves."""
    return rows @ kls[: rows.shape[1]] - kls


def _by_size(values: np.ndarray, subsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over the subsets of each size, and their standard errors by the jackknife over members (none for all members at once)."""
    sizes, M = (subsets > 0).sum(axis=1), subsets.shape[1]
    means = np.array([values[sizes == K].mean() for K in range(1, M + 1)])
    without = np.array([[values[(sizes == K) & (subsets[:, i] == 0)].mean() for i in range(M)] for K in range(1, M)])
    errors = np.sqrt((M - 1) * without.var(axis=1))
    return means, np.append(errors, np.nan)


def _draw(data: Data) -> Picture:
    picture, (loss, divergence, gains) = new_figure(WIDTHS["iclr"], 2.5, columns=3)
    _draw_loss(loss, data)
    _draw_divergence(divergence, data)
    _draw_gains(gains, data)
    _legend(picture)
    return picture


def _draw_by_size(ax: Axes, data: Data, values: np.ndarray, lowest: float) -> None:
    """Every subset, the mean of each size with its bars, and the value of the exact score."""
    subsets, M = data["subsets"], data["subsets"].shape[1]
    ax.plot((subsets > 0).sum(axis=1), values, marker=ONE.marker, color=ONE.color, linestyle="none", markersize=2)
    means, errors = _by_size(values, subsets)
    dots(ax, np.arange(1, M + 1), means, 2 * np.nan_to_num(errors), MEAN)
    ax.axhline(lowest, color=EXACT.color, linewidth=0.8)
    ax.set(xlabel="networks $K$", xticks=range(1, M + 1))


def _draw_loss(ax: Axes, data: Data) -> None:
    letter(ax, "a", "score-matching loss")
    sizes = np.linspace(1, data["subsets"].shape[1], 100)
    limit = float(data["floor"] + data["A"])
    curve(ax, sizes, limit + data["B"] / sizes, MEAN._replace(linestyle="-"))
    ax.axhline(limit, color=MEAN.color, linestyle=":", linewidth=0.8)
    _draw_by_size(ax, data, data["floor"] + data["excess"], float(data["floor"]))
    write_beside(ax, 1, limit, r"$K\to\infty$", MEAN, (-3, -6))
    write_beside(ax, 1, float(data["floor"]), "floor", EXACT, (-3, 5))
    ax.set(ylabel="denoising loss")


def _draw_divergence(ax: Axes, data: Data) -> None:
    letter(ax, "b", "sampled law")
    _draw_by_size(ax, data, data["kl"], float(data["kl_floor"]))
    write_beside(ax, 1, float(data["kl_floor"]), "floor", EXACT, (-3, 5))
    ax.set(ylabel="KL(target || law), nats", ylim=(-0.05 * data["kl"].max(), None))


def _draw_gains(ax: Axes, data: Data) -> None:
    letter(ax, "c", "gain, $K=2,3,4$")
    several = (data["choices"] > 0).sum(axis=1) > 1
    exact, measured = data["gain_exact"][several], data["gain_networks"][:, several]
    error = measured.std(axis=0, ddof=1) / len(measured) ** 0.5 if len(measured) > 1 else np.zeros_like(exact)
    top = 1.15 * max(exact.max(), measured.mean(axis=0).max())
    ax.plot([0, top], [0, top], color=EXACT.color, linewidth=0.8)
    dots(ax, exact, measured.mean(axis=0), 2 * error, MEAN)
    ax.set(xlabel="exact gain, nats", ylabel="networks' gain, nats", xlim=(0, top), ylim=(0, top))


def _legend(picture: Picture) -> None:
    handles = [
        Line2D([], [], color=EXACT.color, linewidth=0.8, label="exact score"),
        Line2D([], [], color=MEAN.color, marker=MEAN.marker, markerfacecolor="white", linestyle="none", label="networks, mean and 2 s.e."),
        Line2D([], [], color=ONE.color, marker=ONE.marker, linestyle="none", label="one subset"),
        Line2D([], [], color=MEAN.color, label="floor $+A+B/K$"),
    ]
    picture.legend(handles=handles, loc="outside lower center", ncols=4)


TEXT = r"""Averaged scores of networks beside exact scores; the target is a mixture of two Gaussians on the line. Bars are two standard errors, over networks by the jackknife
in (a) and (b), over trainings ({replicates} of them) in (c).

(a) Denoising loss of the average of $K$ of {members} networks trained on the target: every subset, and the mean over subsets. The mean is floor $+A+B/K$ exactly (the
largest deviation here is 0.000000000000), since the excess over the floor is a mean squared error. The floor, the loss of the exact score, is 0.292938.

(b) Divergence from the target of the law that the probability flow samples (Heun, {grid_steps} steps) from these averages. The exact score through the same sampler
leaves 0.0000018.

(c) Four members with laws of their own: gain (member average less ensemble) of every subset, by networks trained each on its law and by the exact scores through the same
sampler. With exact scores the four sampled laws are 0.4202, 0.2232, 0.1507 and 0.1108 from the target, 0.2262 on average, and the law of their averaged score 0.0291: a gain
of 0.1971. The networks' gain differs from it by 0.0 to one decimal. Averaging exact scores cannot lose against the member average; for networks no theorem says so."""


def _caption(data: Data) -> Caption:
    members, grid_steps = data["subsets"].shape[1], int(data["grid_steps"])
    means, _ = _by_size(data["excess"], data["subsets"])
    deviation = np.max(np.abs(means - data["A"] - data["B"] / np.arange(1, members + 1)))
    each = [Number(f"KL of exact member {k + 1}", kl, text) for k, (kl, text) in enumerate(zip(data["kl_members"], ("0.4202", "0.2232", "0.1507", "0.1108"), strict=True))]
    numbers = (
        Number("largest deviation from A + B / K", deviation, "0.000000000000"),
        Number("floor of the loss", data["floor"], "0.292938"),
        Number("KL of the exact score's law", data["kl_floor"], "0.0000018"),
        *each,
        Number("KL of the exact members, average", data["kl_members"].mean(), "0.2262"),
        Number("KL of the exact averaged score's law", data["kl_pooled"], "0.0291"),
        Number("exact gain", data["gain_exact"][-1], "0.1971"),
        Number("gain of networks less exact gain", data["gain_networks"][:, -1].mean() - data["gain_exact"][-1], "0.0"),
    )
    return Caption(TEXT.format(members=members, replicates=len(data["gain_networks"]), grid_steps=grid_steps), numbers)


FIGURE = Figure(
    name="score_ensembles",
    title="Score ensembles: networks beside exact scores",
    inputs={
        "seed": 20260116,
        "weights": [[0.4, 0.6], [0.7, 0.3], [0.3, 0.7], [0.4, 0.6], [0.5, 0.5]],  # the target's, then those of the members with laws of their own
        "means": [[-1.5, 1.0], [-1.9, 0.6], [-1.1, 1.4], [-1.2, 0.9], [-1.7, 0.8]],
        "variances": [[0.2, 0.35], [0.3, 0.4], [0.3, 0.4], [0.15, 0.5], [0.35, 0.3]],
        "members": 8,
        "replicates": 4,
        "steps": 2000,
        "batch": 256,
        "draws": 8192,
        "grid_steps": 24,
        "points": 128,
    },
    quick_inputs={"members": 3, "replicates": 1, "steps": 200, "batch": 128, "draws": 2048, "points": 64},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three panels. Left: the denoising loss of averaged networks falls with their number along a curve A + B/K, towards a limit above the floor of the exact score. "
    "Middle: the divergence of the sampled law falls with the number of networks too; single subsets scatter. Right: for members with laws of their own, the gain measured "
    "with networks against the exact gain; the points lie near the diagonal.",
    source='setting of Razafindralambo et al., "When are two scores better than one?", TMLR 2026; exact values by ensembletheory.neural and ensembletheory.samplers',
    claims=("mean-score-kl-average", "mean-score-beats-best"),
)
