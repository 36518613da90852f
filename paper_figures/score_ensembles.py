r"""Score ensembles, networks beside exact scores: what averaging K trained scores gains in score-matching loss and in distances of the sampled law, by five rules.

The target is a mixture on the line, so that everything but training is exact: the loss of the exact score (the floor) by quadrature, the laws that the probability flow
samples by change of variables along the sampler's own steps, their distances from the target by the trapezoid rule and by quantiles. M networks are trained on the
target, which differ in their seeds only; others each on a law of its own, whose exact score goes through the same sampler, alone and combined by the rules whose sampled law
has a density that is so known. The dominant score jumps, so that its flow has none by change of variables; a geometric mean of scores needs an offset above the magnitude of
every score that is met, hundreds for networks at points far from the data, with which it is the mean of scores but for their variance over twice the offset.

Over all subsets of K of the M networks, the mean loss of the averaged score is floor + A + B / K exactly, on any draws. Bars are two standard errors by the jackknife over
networks (of the mean over subsets) and over repeated trainings. Networks trained on two machines differ in their last digits and soon in all: the caption prints what
is exact, and of the networks only what does not depend on that.
"""

from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from scipy.interpolate import CubicSpline
from scipy.special import logsumexp

from ensembletheory.fields import MeanField
from ensembletheory.laws import GaussianMixture
from ensembletheory.neural import Recipe, ScoreMatching, ScoreNetwork, floor, flow_log_prob, member_errors, stack, train_ensemble
from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure, write_beside
from ensembletheory.pooling import AnyRule, MedianField
from ensembletheory.processes import VariancePreserving
from ensembletheory.progress import progress
from paper_figures.framework import Caption, Data, Figure, Number, checkpoint

__all__ = ["FIGURE"]

PROCESS = VariancePreserving()
EXACT, MEAN, ONE, TRANSPORT, FRECHET = (LOOKS[name] for name in ("target", "mean_score_ode", "member", "barycenter", "frechet"))
START = 1e-3  # the earliest time at which a network is trained, and the last of the sampler
TRANSPORTS = ("0.0826", "0.066", "0.1007", "0.0385", "0.0994")  # of RULES, as printed
BOX = 6.0  # the target weighs less than 1e-16 outside [-BOX, BOX]


RULES = ("mean score", "median score", "one member a draw", "log pool", "mean of draws")  # the first two combine scores, the others laws


def _compute(seed, weights, means, variances, members, replicates, steps, batch, draws, grid_steps, points) -> Data:
    target, *laws = (_mixture(*parameters) for parameters in zip(weights, means, variances, strict=True))
    objective, *others = (ScoreMatching(PROCESS, law, batch, START) for law in (target, *laws))
    recipe = Recipe(steps=steps, learning_rate=1e-2, ema_decay=0.99, chunk=min(steps, 100))
    networks = train_ensemble(
        jax.random.key(seed), Partial(_network, target), [objective] * members + others * replicates, recipe, checkpoint("score_ensembles", "networks")
    ).average
    alike, *own = (_part(networks, start, length) for start, length in [(0, members)] + [(members + i * len(laws), len(laws)) for i in range(replicates)])

    sampled, K = _Sampled(target, grid_steps, points), len(laws)
    subsets, choices = _subsets(members), _subsets(K)
    exact = sampled.logs(stack([PROCESS.score(law) for law in laws]), choices, 1, "exact scores")
    trained = [sampled.logs(part, choices, 1, "networks of their own laws") for part in own]
    floors = sampled.distances(sampled.logs(stack([PROCESS.score(target)] * K), choices[:1], 0, "the exact score"))
    exact_kls, own_kls = (np.stack([sampled.distances(logs)["kl"] for logs in group]) for group in ([exact[:-1]], [logs[:-1] for logs in trained]))
    exact_rules, own_rules = (np.stack([sampled.transport(_quantiles_by_rules(logs, K, sampled.x)) for logs in group]) for group in ([exact], trained))
    data = _losses(jax.random.key(seed + 1), alike, objective, subsets, draws) | sampled.distances(sampled.logs(alike, subsets, 0, "networks of the target"))
    return data | {
        "subsets": subsets,
        "choices": choices,
        "grid_steps": grid_steps,
        **{f"{name}_floor": values[0] for name, values in floors.items()},
        "kl_members": exact_kls[0, :K],
        "kl_pooled": exact_kls[0, -1],
        "gain_exact": _gains(exact_kls[0], choices),
        "gain_networks": np.stack([_gains(kls, choices) for kls in own_kls]),
        "rules_exact": exact_rules[0],
        "rules_networks": own_rules,
    }


def _network(target: GaussianMixture, key: PRNGKeyArray) -> ScoreNetwork:
    return ScoreNetwork(key, PROCESS, target, width=32, depth=3)


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
    """The laws that the probability flow samples from fields, and their distances from the target, by the trapezoid rule on `points` points."""

    def __init__(self, target: GaussianMixture, grid_steps: int, points: int):
        self.grid = jnp.linspace(1.0, START ** (1 / 3), grid_steps + 1) ** 3  # finer towards the data, where the flow is fast
        self.x = np.linspace(-BOX, BOX, points)
        self.log_p = np.asarray(target.log_prob(self.x[:, None]))

    def logs(self, fields: Any, rows: np.ndarray, others: int, what: str) -> np.ndarray:
        """Log-densities at the points: of the averages with the weights of each row, then of as many other rules of all fields."""
        rows = np.vstack([rows, np.repeat(rows[-1:], others, axis=0)])
        rules = np.append(np.zeros(len(rows) - others, int), np.arange(1, others + 1))
        every = progress(zip(rows, rules, strict=True), f"laws sampled from {what}", len(rows))
        return np.array([self._log(fields, row, rule) for row, rule in every])

    def _log(self, fields: Any, row: np.ndarray, rule: int) -> np.ndarray:
        every = MeanField(fields, row), MedianField(fields)
        return np.asarray(flow_log_prob(AnyRule(every, jnp.asarray(rule)), PROCESS, self.grid, jnp.asarray(self.x[:, None])))

    def distances(self, logs: np.ndarray) -> Data:
        """From the target to the laws: KL, and the squares of W2 and of the distance of means and standard deviations (Frechet's)."""
        p, laws, dx = np.exp(self.log_p), np.exp(logs), self.x[1] - self.x[0]
        kl = (p * (self.log_p - logs)).sum(axis=1) * dx
        w2 = self.transport(np.array([_quantiles(self.x, log) for log in logs]))
        (mean, sd), moments = _moments(self.x, p), np.array([_moments(self.x, law) for law in laws])
        return {"kl": kl, "w2": w2, "frechet": (moments[:, 0] - mean) ** 2 + (moments[:, 1] - sd) ** 2}

    def transport(self, quantiles: np.ndarray) -> np.ndarray:
        """The squares of W2 from the target of the laws with these quantiles."""
        return np.mean((_quantiles(self.x, self.log_p) - quantiles) ** 2, axis=1)


def _quantiles(x: np.ndarray, log: np.ndarray) -> np.ndarray:
    """At 4000 levels, equally spaced, of a density whose logarithm (up to a constant) is interpolated by a cubic spline."""
    fine = np.linspace(x[0], x[-1], 8 * len(x))
    density = np.exp(CubicSpline(x, log)(fine))
    cdf = np.append(0.0, np.cumsum((density[1:] + density[:-1]) / 2))
    return np.interp((np.arange(4000) + 0.5) / 4000, cdf / cdf[-1], fine)


def _moments(x: np.ndarray, density: np.ndarray) -> tuple[float, float]:
    mass = density / density.sum()
    mean = mass @ x
    return mean, np.sqrt(mass @ (x - mean) ** 2)


def _quantiles_by_rules(logs: np.ndarray, K: int, x: np.ndarray) -> np.ndarray:
    """Quantiles of the laws by each of RULES: of combined scores as sampled, of pooled laws from the sampled laws of the K members, which come first.

    On the line flows are monotone: draws begun at one point are quantiles of one level, and so is their mean.
    """
    members = logs[:K]
    densities = [*logs[-2:], logsumexp(members, axis=0), members.mean(axis=0)]
    return np.array([*(_quantiles(x, log) for log in densities), np.mean([_quantiles(x, log) for log in members], axis=0)])


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
    picture, (loss, divergence, distances, gains, rules, key) = new_figure(WIDTHS["iclr"], 4.2, rows=2, columns=3)
    _draw_loss(loss, data)
    _draw_divergence(divergence, data)
    _draw_distances(distances, data)
    _draw_gains(gains, data)
    _draw_rules(rules, data)
    _legend(key)
    return picture


def _draw_by_size(ax: Axes, data: Data, values: np.ndarray, lowest: float) -> None:
    """Every subset, the mean of each size with its bars, and the value of the exact score."""
    subsets, M = data["subsets"], data["subsets"].shape[1]
    ax.plot((subsets > 0).sum(axis=1), values, marker=ONE.marker, color=ONE.color, linestyle="none", markersize=2)
    means, errors = _by_size(values, subsets)
    dots(ax, np.arange(1, M + 1), means, 2 * errors, MEAN)
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


def _draw_distances(ax: Axes, data: Data) -> None:
    letter(ax, "c", "distances of it")
    for name, look, shift in (("w2", TRANSPORT, -0.08), ("frechet", FRECHET, 0.08)):
        means, errors = _by_size(data[name], data["subsets"])
        dots(ax, np.arange(1, len(means) + 1) + shift, means, 2 * errors, look)
    ax.set(xlabel="networks $K$", ylabel="squared distance", xticks=range(1, data["subsets"].shape[1] + 1), ylim=(0, None))


def _draw_rules(ax: Axes, data: Data) -> None:
    letter(ax, "e", "five rules, $K=4$")
    measured, places = data["rules_networks"], np.arange(len(RULES))[::-1]
    ax.plot(data["rules_exact"], places, marker=EXACT.marker, color=EXACT.color, linestyle="none", markersize=3)
    ax.errorbar(measured.mean(axis=0), places - 0.2, xerr=_bars(measured), fmt=MEAN.marker, color=MEAN.color, markerfacecolor="white", elinewidth=0.8, capsize=1.5)
    for name, place in zip(RULES, places, strict=True):
        ax.text(0.98, place + 0.33, name, transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=6)
    ax.set(xlabel="$W_2^2$ to the target", yticks=[], ylim=(-0.6, len(RULES) - 0.3), xlim=(0, 1.1 * max(data["rules_exact"].max(), measured.max())))


def _bars(measured: np.ndarray) -> np.ndarray:
    """Two standard errors over trainings; NaN, which draws nothing, for one."""
    return 2 * measured.std(axis=0, ddof=1) / len(measured) ** 0.5 if len(measured) > 1 else np.full(measured.shape[1], np.nan)


def _draw_gains(ax: Axes, data: Data) -> None:
    letter(ax, "d", "gain, $K=2,3,4$")
    several = (data["choices"] > 0).sum(axis=1) > 1
    exact, measured = data["gain_exact"][several], data["gain_networks"][:, several]
    top = 1.15 * max(exact.max(), measured.mean(axis=0).max())
    ax.plot([0, top], [0, top], color=EXACT.color, linewidth=0.8)
    dots(ax, exact, measured.mean(axis=0), _bars(measured), MEAN)
    ax.set(xlabel="exact gain, nats", ylabel="networks' gain, nats", xlim=(0, top), ylim=(0, top))


def _legend(ax: Axes) -> None:
    handles = [
        Line2D([], [], color=EXACT.color, marker=EXACT.marker, linewidth=0.8, label="exact scores"),
        Line2D([], [], color=MEAN.color, marker=MEAN.marker, markerfacecolor="white", linestyle="none", label="networks, mean and 2 s.e."),
        Line2D([], [], color=ONE.color, marker=ONE.marker, linestyle="none", label="one subset"),
        Line2D([], [], color=MEAN.color, label="floor $+A+B/K$"),
        Line2D([], [], color=TRANSPORT.color, marker=TRANSPORT.marker, markerfacecolor="white", linestyle="none", label="$W_2^2$"),
        Line2D([], [], color=FRECHET.color, marker=FRECHET.marker, markerfacecolor="white", linestyle="none", label="Fréchet's, squared"),
    ]
    ax.axis("off")
    ax.legend(handles=handles, loc="center", fontsize=6.5)


TEXT = r"""Averaged scores of networks beside exact scores; the target is a mixture of two Gaussians on the line. Bars are two standard errors, over networks by the jackknife
in (a) to (c), over trainings ({replicates} of them) in (d) and (e); none is drawn where there is nothing to vary.

(a) Denoising loss of the average of $K$ of {members} networks trained on the target: every subset, and the mean over subsets. The mean is floor $+A+B/K$ exactly (the
largest deviation here is 0.000000000000), since the excess over the floor is a mean squared error. The floor, the loss of the exact score, is 0.292938.

(b) Divergence from the target of the law that the probability flow samples (Heun, {grid_steps} steps) from these averages. The exact score through the same sampler
leaves 0.0000018.

(c) Squared distances of the same laws from the target: $W_2^2$, and Fréchet's, of means and standard deviations only, which is never larger (in these
laws, by 0.0000 at most).

(d) Four members with laws of their own: gain (member average less ensemble) of every subset, by networks trained each on its law and by the exact scores through the same
sampler. With exact scores the four sampled laws are 0.4202, 0.2232, 0.1507 and 0.111 from the target, 0.2262 on average, and the law of their averaged score 0.0291: a gain
of 0.1971. The networks' gain differs from it by 0.0 to one decimal. From an infinite horizon, averaged exact scores cannot lose against the member average;
begun from $N(0, 1)$ at a finite one they can, by what the horizon leaves, and gain here in every subset. For networks no theorem says so.

(e) Five rules on these four members. The squared $W_2$ of the exact ones from the target is 0.0826, 0.066, 0.1007, 0.0385 and 0.0994: of the mean score, the median
score, one member a draw, the log pool of the sampled laws, and the mean of draws begun at one point. The networks' differ from these by
0.0 on average. Left out are the score of largest magnitude, which jumps, so that its flow has no density that could be followed, and the
shifted geometric mean: its offset must exceed the networks' scores far from the data, hundreds, and the rule is then the mean score to a share of a per cent."""


def _caption(data: Data) -> Caption:
    members, grid_steps = data["subsets"].shape[1], int(data["grid_steps"])
    means, _ = _by_size(data["excess"], data["subsets"])
    deviation = np.max(np.abs(means - data["A"] - data["B"] / np.arange(1, members + 1)))
    each = [Number(f"KL of exact member {k + 1}", kl, text) for k, (kl, text) in enumerate(zip(data["kl_members"], ("0.4202", "0.2232", "0.1507", "0.111"), strict=True))]
    numbers = (
        Number("largest deviation from A + B / K", deviation, "0.000000000000"),
        Number("floor of the loss", data["floor"], "0.292938"),
        Number("KL of the exact score's law", data["kl_floor"], "0.0000018"),
        *each,
        Number("KL of the exact members, average", data["kl_members"].mean(), "0.2262"),
        Number("KL of the exact averaged score's law", data["kl_pooled"], "0.0291"),
        Number("exact gain", data["gain_exact"][-1], "0.1971"),
        Number("gain of networks less exact gain", data["gain_networks"][:, -1].mean() - data["gain_exact"][-1], "0.0"),
        Number("how much Frechet's exceeds W2 squared", max(0.0, (data["frechet"] - data["w2"]).max()), "0.0000"),
        *_transports(data),
        Number("rules of networks less those of exact scores", (data["rules_networks"] - data["rules_exact"]).mean(), "0.0"),
    )
    return Caption(TEXT.format(members=members, replicates=len(data["gain_networks"]), grid_steps=grid_steps), numbers)


def _transports(data: Data) -> list[Number]:
    """The density of the median of scores has kinks, which few points resolve to some per cent."""
    every = zip(RULES, data["rules_exact"], TRANSPORTS, strict=True)
    return [Number(f"W2 squared by the rule: {rule}", value, text, relative_error=0.04 if rule == "median score" else 0.0) for rule, value, text in every]


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
    quick_inputs={"members": 4, "replicates": 1, "steps": 200, "batch": 128, "draws": 2048, "points": 64},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Five panels. The denoising loss of averaged networks falls with their number along a curve A + B/K, towards a limit above the floor of the exact score. "
    "The divergence of the sampled law, and its squared distances, fall with the number of networks too; single subsets scatter. For members with laws of their own, the gain "
    "measured with networks against the exact gain; the points lie near the diagonal. For five rules, the distance of the law from the target, networks beside exact scores.",
    source='setting of Razafindralambo et al., "When are two scores better than one?", TMLR 2026; exact values by ensembletheory.neural and ensembletheory.samplers',
    claims=("mean-score-kl-average", "mean-score-finite-horizon"),
)
