r"""Likelihood up, quality flat: score-matching loss, KL and Frechet distance of averaged scores, against the number of members and against the size of their errors, exactly.

Gaussian target N(0, 1), members with constant relative score errors, normal of mean b and standard deviation 0.1: `ensembletheory.gains.score_errors` has the closed forms and
the points where the three part. Noise of fixed relative size added to the score: `noise_injection` in closed form, and on a mixture of four modes by the exact flow.
On the same mixture, members that are wrong about the weights of the modes, by +-epsilon times a direction, with equal probabilities: the number of those with the sign + is
binomial, so that expectations are sums over the laws sampled from averages with shares j/K of one kind. In the direction (-1, 3, -3, 1), the third difference, modes at equal
distances keep mean and variance of every member at those of the target; the direction (-1, -1, 1, 1) moves mass to the right, which the mean shows.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy import optimize, stats

import ensembletheory as et
from ensembletheory.fields import MeanField
from ensembletheory.gains import Quality, ScoreErrors, ensemble_quality, flow_quality, noise_injection, parting_bias, parting_size
from ensembletheory.gains.score_errors import clock
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.pooling.field_rules import RelativeNoise
from ensembletheory.samplers import flow_log_prob
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

PROCESS, TARGET = et.processes.VariancePreserving(), et.Gaussian([0.0], [1.0])
MEASURES = {"loss": LOOKS["score_loss"], "kl": LOOKS["kl"], "frechet_squared": LOOKS["frechet"]}
DIRECTIONS = {"unseen": (-1.0, 3.0, -3.0, 1.0), "seen": (-1.0, -1.0, 1.0, 1.0)}
TOLERANCE = 1e-6


def _compute(spread, bias, largest_bias, biases, largest_size, sizes, modes, variance, shifts, members, noises, drawn_noises, points) -> Data:
    errors = ScoreErrors(bias, spread)
    data = {"sizes": np.geomspace(1.0, largest_size, sizes), "biases": np.linspace(0.0, largest_bias, biases), "noises": noises, "drawn_noises": drawn_noises}
    data |= {"members": members, "modes": modes, "x": np.linspace(-4.6, 4.7, points), "spread": spread}
    data |= {"bias": bias, "parting_size": parting_size(TARGET, PROCESS, errors)[0], "clock": clock(TARGET, PROCESS)[0]}
    data |= {f"parting_{reverse}": parting_bias(TARGET, PROCESS, reverse)[0] for reverse in ("ode", "sde")}
    data |= {f"by size {name}": values for name, values in _read(ensemble_quality(TARGET, PROCESS, errors, data["sizes"])).items()}
    for reverse in ("ode", "sde"):
        data |= {f"{reverse} {name}": values for name, values in _read(_kept(data["biases"], jnp.asarray(spread), reverse)).items()}
        even = optimize.brentq(lambda b: float(_kept(jnp.full(biases, b), jnp.asarray(spread), reverse).frechet_squared.value[0]) - 1, 0.1, largest_bias)  # noqa: B023
        data[f"even_{reverse}"] = np.asarray(even)
    data |= {f"noise {name}": values for name, values in _read(noise_injection(TARGET, PROCESS, noises)).items()}
    return data | _mixtures(modes, variance, shifts, members, drawn_noises, data["x"])


def _read(quality: Quality) -> Data:
    return {name: np.asarray(getattr(quality, name).value) for name in MEASURES}


@eqx.filter_jit
def _kept(biases: Float[Array, " n"], spread: Float[Array, ""], reverse: str) -> Quality:
    """What is left by infinitely many members of the expectations for one."""

    def at(bias):
        one, all_ = (ensemble_quality(TARGET, PROCESS, ScoreErrors(bias, spread), K, reverse) for K in (1.0, jnp.inf))
        return jax.tree.map(lambda a, b: a / b, all_, one)

    return jax.vmap(at)(jnp.asarray(biases))


def _mixtures(modes: list[float], variance: float, shifts: list[float], members: list[int], noises: list[float], x: np.ndarray) -> Data:
    target = _mixture(np.zeros(4), modes, variance)
    data = {"target": np.exp(target.log_prob(x[:, None]))}
    for shift, (name, direction) in zip(shifts, DIRECTIONS.items(), strict=True):
        laws = [_mixture(sign * shift * np.asarray(direction), modes, variance) for sign in (1, -1)]
        fields = [_field(laws, j / max(members)) for j in range(max(members) // 2 + 1)]  # reflection exchanges the two kinds of members
        found = [_read(flow_quality(target, PROCESS, field, x, TOLERANCE)) for field in fields]
        data |= {f"{name} {measure}": [row[measure] for row in found] for measure in MEASURES}
        if name == "unseen":
            velocity = et.processes.convert(PROCESS, fields[-1], "velocity")
            data["ensemble"] = np.exp(flow_log_prob(PROCESS, velocity, x[:, None], PROCESS.marginal(target, PROCESS.horizon), tolerance=TOLERANCE))
            data |= {f"member {i}": np.exp(law.log_prob(x[:, None])) for i, law in enumerate(laws)}
    disturbed = [_read(flow_quality(target, PROCESS, _field([target, target], 0.5, size), x, TOLERANCE)) for size in noises]
    return data | {f"mixture noise {measure}": [row[measure] for row in disturbed] for measure in MEASURES}


def _mixture(change: np.ndarray, modes: list[float], variance: float) -> et.GaussianMixture:
    return et.GaussianMixture(0.25 + change, np.asarray(modes)[:, None], np.full((4, 1), variance))


def _field(laws: list[et.GaussianMixture], share: float, noise: float = 0.0) -> RelativeNoise:
    return RelativeNoise(MeanField([PROCESS.score(law) for law in laws], [1 - share, share]), [1.0], noise)


def _by_members(data: Data, name: str) -> np.ndarray:
    """Expectations over ensembles of each size, from the values at the shares 0, 1/K, ..., 1/2."""
    half = np.asarray(data[name])
    values, most = np.concatenate([half, half[-2::-1]]), max(data["members"])
    return np.array([stats.binom.pmf(np.arange(K + 1), K, 0.5) @ values[:: most // K] for K in data["members"]])


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["icml_page"], 4.5, rows=2, columns=3)
    for draw, ax in zip((_draw_sizes, _draw_biases, _draw_noises, _draw_densities, _draw_unseen, _draw_seen), panels, strict=True):
        draw(ax, data)
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return picture


def _draw_sizes(ax: Axes, data: Data) -> None:
    letter(ax, "a", f"share left, bias {data['bias']:g}")
    for name, look in MEASURES.items():
        values = data[f"by size {name}"]
        curve(ax, data["sizes"], values / values[0], look)
    turn = float(data["parting_size"])
    ax.plot(turn, _share_at(data, turn), marker="o", color=MEASURES["frechet_squared"].color, markersize=4)
    write_beside(ax, turn, _share_at(data, turn), "$K^*$", MEASURES["frechet_squared"], (0, 8))
    ax.set(xscale="log", xlabel="members $K$", ylabel="value / that of one member", ylim=(0, 1.15))
    ax.set_xticks([1, 2, 5, 10, 30], labels=["1", "2", "5", "10", "30"])
    ax.minorticks_off()


def _draw_biases(ax: Axes, data: Data) -> None:
    letter(ax, "b", r"share left as $K\to\infty$")
    ax.axhline(1.0, color="black", linewidth=0.5)
    for name, look in MEASURES.items():
        curve(ax, data["biases"], data[f"ode {name}"], look)
        if name != "loss":
            ax.plot(data["biases"], data[f"sde {name}"], color=look.color, linewidth=0.9, linestyle=(0, (2, 2)))
    for reverse, offset in (("ode", (-2, 9)), ("sde", (0, 9))):
        ax.plot(data[f"even_{reverse}"], 1.0, marker="o", color=MEASURES["frechet_squared"].color, markersize=4, zorder=3)
        write_beside(ax, float(data[f"even_{reverse}"]), 1.0, reverse.upper(), MEASURES["frechet_squared"], offset, "center")
    ax.set(xlabel="bias $b$ of the score", ylim=(0, 1.15), xlim=(0, data["biases"][-1]))


def _draw_noises(ax: Axes, data: Data) -> None:
    letter(ax, "c", "noise of relative size $\\eta$")
    for name, look in MEASURES.items():
        curve(ax, data["noises"], data[f"noise {name}"], look)
        ax.plot(data["drawn_noises"], data[f"mixture noise {name}"], marker="o", color=look.color, markerfacecolor="white", linestyle="none")
    ax.set(xscale="log", yscale="log", xlabel=r"$\eta$")
    ax.set_xticks([0.01, 0.03, 0.1, 0.3], labels=["0.01", "0.03", "0.1", "0.3"])
    ax.minorticks_off()


def _draw_densities(ax: Axes, data: Data) -> None:
    letter(ax, "d", "same mean and variance")
    for name, look, width in (("member 0", "member", 1.0), ("member 1", "average", 1.0), ("target", "target", 0.9), ("ensemble", "mean_score_ode", 1.3)):
        ax.plot(data["x"], data[name], color=LOOKS[look].color, linestyle=LOOKS[look].linestyle, linewidth=width)
    top = float(data["member 0"].max())
    write_beside(ax, float(data["modes"][1]), top, "member +", LOOKS["average"], (-6, 6), "right")
    write_beside(ax, float(data["modes"][2]), top, "member −", LOOKS["average"], (6, 6), "left")
    write_beside(ax, 2.95, 0.72 * top, "mean score", LOOKS["mean_score_ode"], (0, 4), "right")
    write_beside(ax, -2.9, 0.72 * top, "target", LOOKS["target"], (0, 4))
    ax.set(xlabel="$x$", xlim=(-3, 3), ylim=(0, 1.3 * top), yticks=[])


def _draw_unseen(ax: Axes, data: Data) -> None:
    _draw_members(ax, data, "unseen", "e", "unseen errors", 4e-4)


def _draw_seen(ax: Axes, data: Data) -> None:
    _draw_members(ax, data, "seen", "f", "seen errors", None)


def _draw_members(ax: Axes, data: Data, name: str, panel: str, title: str, top: float | None) -> None:
    """KL and loss on the left axis, the Frechet distance on the right one."""
    letter(ax, panel, title)
    right = ax.twinx()
    right.spines["right"].set_visible(True)
    for measure, look in MEASURES.items():
        curve(right if measure == "frechet_squared" else ax, data["members"], _by_members(data, f"{name} {measure}"), look, markers=True)
    ax.set(xscale="log", xlabel="members $K$", ylim=(0, None), xlim=(0.85, 1.18 * max(data["members"])))
    ax.set_xticks(data["members"], labels=[str(K) for K in data["members"]])
    ax.minorticks_off()
    right.set_ylim(0, top)
    right.ticklabel_format(axis="y", scilimits=(-2, 2))
    right.tick_params(axis="y", colors=MEASURES["frechet_squared"].color)


# What the caption prints, by key of the data and, for curves, by measure.
LEFT = {"loss": "0.772", "kl": "0.464", "frechet_squared": "1.002"}
INJECTED = {"noise": {"loss": "0.050", "kl": "0.27", "frechet_squared": "0.20"}, "mixture noise": {"loss": "0.053", "kl": "0.30", "frechet_squared": "0.10"}}
ENSEMBLES = {
    "unseen kl": ("0.22088", "0.13574", "0.09391"),
    "unseen frechet_squared": ("0.00000", "0.00015", "0.00020"),
    "seen kl": ("0.22015", "0.12378", "0.07613"),
    "seen frechet_squared": ("0.553", "0.281", "0.151"),
}

TEXT = r"""Averaged scores whose likelihood improves while their Fréchet distance does not.

(a, b) Target $N(0, 1)$; members' scores are $(1+c_k)$ times the exact one, with $c_k$ independent, normal of mean $b$ and standard deviation 0.1. (a) Expected
score-matching loss, KL and squared Fréchet distance of the law sampled by the probability flow, divided by those of one member, for $b=0.18$. Of 32 members' averages
0.772 of the loss, 0.464 of the KL and 1.002 of the Fréchet distance are left: it falls up to $K^*=1.792$ members, where 0.987 is left, and rises from there on. (b) What
infinitely many members leave, by bias; solid and dashed: probability flow, dotted: KL and Fréchet distance of the reverse SDE (the loss is the same). Averaging makes the
Fréchet distance larger beyond $b=0.1776$ for the flow and $0.4077$ for the SDE (dots). They part where the Fréchet distance turns concave in the score's error while KL
and loss stay convex: at $2\log(2)/\Lambda=0.1379$ for the flow ($\Lambda=10.05$), where the sampled standard deviation is half the target's, and at $7/18=0.3889$ for the
SDE, where it is three quarters; small spreads part exactly there.

(c) Noise of relative size $\eta$ in one direction, injected into the score of $N(0, 1)$ (lines; closed form) and of a mixture of four equal modes at -1.8, -0.6, 0.6 and
1.8 with variance 0.04 (circles; exact flow): loss, KL and squared Fréchet distance at $\eta=0.1$ are 0.050, 0.27 and 0.20 on the normal law and 0.053, 0.30 and 0.10 on
the mixture. All three are quadratic for small $\eta$; on the normal law KL is then 5.03 times the loss, and 10.19 times at $\eta=0.3$.

(d, e) Members that are wrong about the weights of the four modes by 0.0625 times $\pm(-1, 3, -3, 1)$, the signs equally likely: each has the mean and the variance of the
target. (d) The two kinds of members, and the law sampled from equally many of both. (e) Expectations for $K=1, 2, 4$: KL 0.22088, 0.13574 and 0.09391, squared Fréchet
distance 0.00000, 0.00015 and 0.00020: every member is perfect to it, and no ensemble is. (f) Weights wrong by 0.15 times $\pm(-1, -1, 1, 1)$, which the mean shows: KL
0.22015, 0.12378 and 0.07613, squared Fréchet distance 0.553, 0.281 and 0.151."""


def _caption(data: Data) -> Caption:
    shares = {name: data[f"by size {name}"] / data[f"by size {name}"][0] for name in MEASURES}
    left = [Number(f"share of the {name} left by 32 members", shares[name][-1], text) for name, text in LEFT.items()]
    lowest = Number("lowest share of the Frechet distance", _share_at(data, float(data["parting_size"])), "0.987")
    parting = [
        Number("parting size", data["parting_size"].item(), "1.792"),
        Number("bias at which the flow's Frechet distance stays", data["even_ode"].item(), "0.1776"),
        Number("the SDE's", data["even_sde"].item(), "0.4077"),
        Number("bias at which the flow's Frechet distance turns concave", data["parting_ode"].item(), "0.1379"),
        Number("the SDE's, turning", data["parting_sde"].item(), "0.3889"),
        Number("the clock", data["clock"].item(), "10.05"),
    ]
    at = {"noise": data["noises"], "mixture noise": data["drawn_noises"]}
    injected = [Number(f"{name}, {measure}", data[f"{name} {measure}"][_nearest(at[name], 0.1)], text) for name, row in INJECTED.items() for measure, text in row.items()]
    ratios = [Number("KL / loss, small noise", data["clock"].item() / 2, "5.03"), Number("KL / loss, large noise", data["noise kl"][-1] / data["noise loss"][-1], "10.19")]
    members = [Number(f"{name}, K = {data['members'][i]}", _by_members(data, name)[i], text) for name, row in ENSEMBLES.items() for i, text in enumerate(row)]
    return Caption(TEXT, (*left, lowest, *parting, *injected, *ratios, *members))


def _share_at(data: Data, size: float) -> float:
    values = data["by size frechet_squared"]
    return float(np.interp(np.log(size), np.log(data["sizes"]), values / values[0]))


def _nearest(grid: np.ndarray, value: float) -> int:
    return int(np.argmin(np.abs(grid - value)))


FIGURE = Figure(
    name="likelihood_against_frechet",
    title="Likelihood up, quality flat: where KL and Frechet distance part",
    inputs={
        "spread": 0.1,
        "bias": 0.18,
        "largest_bias": 0.6,
        "biases": 121,
        "largest_size": 32.0,
        "sizes": 61,
        "modes": [-1.8, -0.6, 0.6, 1.8],
        "variance": 0.04,
        "shifts": [0.0625, 0.15],
        "members": [1, 2, 4, 8],
        "noises": [0.01, 0.014, 0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.21, 0.25, 0.3],
        "drawn_noises": [0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2],
        "points": 401,
    },
    quick_inputs={"biases": 41, "sizes": 31, "members": [1, 2, 4], "drawn_noises": [0.02, 0.1]},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Six panels. With more members the loss and the KL divergence of biased scores fall while the Fréchet distance stays within two per cent; what infinitely "
    "many members leave of each, by bias: the Fréchet distance passes one at a bias of 0.18 for the flow and 0.41 for the SDE, loss and KL stay below; loss, KL "
    "and Fréchet distance against injected noise on logarithmic axes, parallel and then apart; densities of a mixture, of members with its mean and variance and "
    "other weights, and of the law sampled from their averaged score; KL falling and the Fréchet distance rising from zero for these members; both falling for "
    "members whose means differ.",
    source="derived in ensembletheory.gains.score_errors and noise_injection; the question is that of Razafindralambo et al., "
    '"When are two scores better than one?", TMLR 2026',
    claims=("mean-score-kl-average",),
)
