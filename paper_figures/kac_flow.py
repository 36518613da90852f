r"""The telegraph process as noise: its law, its bounded velocity, its reversed turns, and the two exact ways from it back to the data.

A particle of speed c that turns round at rate a spreads like a diffusion of c^2/a after many turns, but keeps masses on its light cone and never moves faster than c: the
velocity of the probability flow is bounded, that of the diffusion grows like 1/t. Backwards, the flow is one way to the data; turning round at the rate
a p_t(x, -v) / p_t(x, v) is another, with random paths.
"""

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy import stats

import ensembletheory as et
from ensembletheory.laws import KacLaw
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.processes import Telegraph
from ensembletheory.processes.pdmp import ReverseFlips
from ensembletheory.samplers import Heun, JumpSampler, Sampler, padded
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]


def _compute(
    speed: float,
    rate: float,
    times: list[float],
    point: float,
    weights: list[float],
    means: list[float],
    deviations: list[float],
    steps: list[int],
    jump_steps: list[int],
    draws: int,
    paths: int,
    points: int,
    seed: int,
) -> Data:
    process = Telegraph(speed, rate, 1.0)
    data_law = et.GaussianMixture(weights, np.asarray(means)[:, None], np.asarray(deviations)[:, None] ** 2)
    target = sum(w * stats.norm(m, s).cdf(_AXIS) for w, m, s in zip(weights, means, deviations, strict=True))
    data: Data = {"speed": speed, "rate": rate, "times": times, "point": point, "steps": steps, "jump_steps": jump_steps, "axis": _AXIS, "target_cdf": target}
    data |= _of_the_law(speed, rate, times, point, points)
    data |= _flows(process, data_law, steps) | _jumps(process, data_law, jump_steps, draws, paths, jax.random.key(seed))
    return data


_AXIS, _EVERY = np.linspace(-6.0, 6.0, 2401), 4
_STARTS = np.arange(150, 451, 20)  # of every fourth point of the axis


def _of_the_law(speed: float, rate: float, times: list[float], point: float, points: int) -> Data:
    """Densities, velocities and reverse rates on shares of the light cones of several times, and the numbers at one point and the last time."""
    share = np.sin(np.linspace(-np.pi / 2, np.pi / 2, points + 2))[1:-1]
    laws = [KacLaw(speed, rate, time) for time in times]
    places = [share * speed * time for time in times]
    data: Data = {
        "places": np.stack(places),
        "density": np.stack([np.sum(law.densities(x), axis=1) for law, x in zip(laws, places, strict=True)]),
        "velocity": np.stack([law.velocity(x) for law, x in zip(laws, places, strict=True)]),
        "reverse_rates": np.stack([law.reverse_rates(x) for law, x in zip(laws, places, strict=True)]),
        "atoms": [float(law.atom) for law in laws],
    }
    return data | _at(laws[-1], np.full(points, point))


def _at(law: KacLaw, there: np.ndarray) -> Data:
    """The numbers of a law and of one of its points."""
    plus, minus = np.asarray(law.densities(there))[0]
    data: Data = {"variance": float(law.variance), "density_there": plus + minus, "plus_there": plus / (plus + minus)}
    return data | {"velocity_there": np.asarray(law.velocity(there))[0], "reverse_there": np.asarray(law.reverse_rates(there))[0, 0]}


def _flows(process: Telegraph, law: et.GaussianMixture, steps: list[int]) -> Data:
    """Paths of the flow, and how far their ends are from the quantiles of the data, by steps."""
    noised = np.exp(np.asarray(process.marginal(law, 1.0).log_prob(_AXIS[::_EVERY, None])))
    begun = np.concatenate([[0.0], np.cumsum((noised[1:] + noised[:-1]) / 2) * (_AXIS[_EVERY] - _AXIS[0])])[_STARTS]
    starts, missed = _Points(_AXIS[::_EVERY][_STARTS]), []
    for n in steps:
        sampler = Sampler(process, process.velocity(law), Heun(), padded(_grid(n), max(steps) + 1))
        paths = np.asarray(sampler.paths(jax.random.key(0), len(_STARTS), starts))[:, :, 0]
        missed.append(np.max(np.abs(_cdf(law, paths[:, -1]) - begun)))
    return {"missed": missed, "flow_times": _grid(max(steps)), "flow_paths": paths}


def _grid(steps: int) -> np.ndarray:
    return np.linspace(1.0, 0.0, steps + 1) ** 2


def _cdf(law: et.GaussianMixture, x: np.ndarray) -> np.ndarray:
    """P(X <= x) of a mixture on the line."""
    weights, means, covs = (np.asarray(part) for part in (law.weights, law.means, law.covs))
    return stats.norm.cdf(x[:, None], means[:, 0], np.sqrt(covs[:, 0, 0])) @ weights


class _Points(et.FiniteLaw):
    """A law of finite support that gives its points in order."""

    def __init__(self, points: np.ndarray):
        super().__init__(points[:, None])

    def sample(self, key, n):
        """The points."""
        return self.points


def _jumps(process: Telegraph, law: et.GaussianMixture, steps: list[int], draws: int, paths: int, key: jax.Array) -> Data:
    """Distances of Kolmogorov and Smirnov of reversed jumps to the data, their draws with the most steps, and some of their paths."""
    key_start, key_run = jax.random.split(key)
    x, v = process.simulate(key_start, draws, law)
    reverse, distances = ReverseFlips(process, process.turned_ratios(law)), []
    for n in steps:
        followed = np.asarray(JumpSampler(reverse, padded(_grid(n), max(steps) + 1), "DJD").paths(key_run, x, v))[:, :, 0]
        distances.append(stats.ks_1samp(followed[:, -1], lambda at: _cdf(law, at))[0])
    return {"ks_jumps": distances, "jump_times": _grid(max(steps)), "jump_paths": followed[:paths], "draws": draws}


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["icml_page"], 4.2, rows=2, columns=3)
    for draw, ax in zip((_draw_density, _draw_velocity, _draw_rates, _draw_flow, _draw_jumps, _draw_errors), panels, strict=True):
        draw(ax, data)
    return picture


SHADES = ("#C9A0C4", "#A44E9B", "#4B0F45")  # early to late


def _draw_density(ax: Axes, data: Data) -> None:
    letter(ax, "a", "density and masses")
    for time, shade, x, p, atom in zip(data["times"], SHADES, data["places"], data["density"], data["atoms"], strict=True):
        ax.plot(x, p, color=shade, label=rf"$t={time:g}$")
        reach = data["speed"] * time
        ax.vlines([-reach, reach], 0, 4 * atom, color=shade, linewidth=2)
        ax.plot([-reach, reach], [4 * atom, 4 * atom], marker="o", markersize=2.5, color=shade, linestyle="none")
    time = data["times"][-1]
    x = np.linspace(-2.6, 2.6, 121)
    ax.plot(x, stats.norm.pdf(x, 0, data["speed"] * np.sqrt(time / data["rate"])), color=LOOKS["average"].color, linestyle=LOOKS["average"].linestyle, label="diffusion")
    ax.set(xlabel="$x$", ylabel="density; bars: 4 × mass", xlim=(-2.6, 2.6), ylim=(0, 1.45))
    ax.legend(loc="upper right", handlelength=1.2, borderaxespad=0.1)


def _draw_velocity(ax: Axes, data: Data) -> None:
    letter(ax, "b", r"mean velocity $E[v\,|\,x]$")
    for time, shade, x, u in zip(data["times"], SHADES, data["places"], data["velocity"], strict=True):
        ax.plot(x, u, color=shade)
        ax.plot(x[[0, -1]], [-data["speed"], data["speed"]], color=shade, marker="o", markersize=3, linestyle="none")
        line = np.array([-2.6, 2.6])
        ax.plot(line, line / (2 * time), color=shade, linestyle="--", linewidth=0.7)
    ax.axhline(data["speed"], color="black", linewidth=0.6)
    ax.axhline(-data["speed"], color="black", linewidth=0.6)
    write_beside(ax, -2.5, data["speed"], "speed $c$", LOOKS["target"], (0, 5))
    ax.set(xlabel="$x$", ylabel="velocity", xlim=(-2.6, 2.6), ylim=(-4.4, 4.4))


def _draw_rates(ax: Axes, data: Data) -> None:
    letter(ax, "c", "rates of turning back")
    for shade, x, both in zip(SHADES, data["places"], data["reverse_rates"], strict=True):
        ax.plot(x, both[:, 0], color=shade)
        ax.plot(x, both[:, 1], color=shade, linestyle=":")
    ax.axhline(data["rate"], color="black", linewidth=0.6)
    write_beside(ax, -2.5, data["rate"], "forward: $a$", LOOKS["target"], (0, -5))
    ax.plot([], [], color="black", label="moving right")
    ax.plot([], [], color="black", linestyle=":", label="moving left")
    ax.set(xlabel="$x$", ylabel="rate", yscale="log", xlim=(-2.6, 2.6), ylim=(0.5, 100))
    ax.minorticks_off()
    ax.legend(loc="lower center", handlelength=1.4)


def _draw_flow(ax: Axes, data: Data) -> None:
    letter(ax, "d", "flow back to the data")
    for path in data["flow_paths"]:
        ax.plot(data["flow_times"], path, color=LOOKS["kac_flow"].color, linewidth=0.8)
    ax.set(xlabel="time (0: data)", ylabel="$x$", xlim=(1, 0), ylim=(-4, 4))


def _draw_jumps(ax: Axes, data: Data) -> None:
    letter(ax, "e", "reversed turns")
    for path in data["jump_paths"]:
        ax.plot(data["jump_times"], path, color=LOOKS["telegraph"].color, linewidth=0.8)
    ax.set(xlabel="time (0: data)", ylabel="$x$", xlim=(1, 0), ylim=(-4, 4))


def _draw_errors(ax: Axes, data: Data) -> None:
    letter(ax, "f", "distribution functions")
    curve(ax, 2 * np.asarray(data["steps"]), data["missed"], LOOKS["kac_flow"]._replace(label="flow, Heun"), markers=True)
    look = LOOKS["telegraph"]
    ax.plot(data["jump_steps"], data["ks_jumps"], marker="o", markerfacecolor="white", color=look.color, linestyle="none", label="reversed turns")
    ax.axhline(_NOISE / np.sqrt(data["draws"]), color=look.color, linewidth=0.6)
    ax.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="largest error", ylim=(5e-6, 1))
    ax.legend(loc="upper right", handlelength=1.6)


_NOISE = 0.8687  # mean of Kolmogorov's distribution

PRINTED = {"variance": "0.6444446318", "density_there": "0.2804777861", "velocity_there": "0.6442008096", "plus_there": "0.6073668", "reverse_there": "5.818063773"}
NAMES = {
    "variance": "variance",
    "density_there": "density at 0.9",
    "velocity_there": "mean velocity at 0.9",
    "plus_there": "share moving right at 0.9",
    "reverse_there": "rate of turning back at 0.9",
}
ERROR = "0.00028"

TEXT = r"""The telegraph process, speed 3.0 and turns at the rate 9.0, from the point 0 and from the mixture $0.3\,N(-1.0, 0.4^2) + 0.7\,N(1.0, 0.3^2)$.

(a) The law at three times: a density between two masses on the light cone (bars; 0.0009 each at the last time, 0.7, when the density is nearly that of the diffusion of
$c^2/a = 1$, dashed). The variance at 0.7 is 0.6444446318; at $x=0.9$ the density is 0.2804777861.

(b) The mean velocity, which the flow follows, is below the speed at all times, and equal to it on the light cone (dots), where nobody has turned: 0.6442008096 at $x=0.9$, a
share of 0.6073668 moving right. The velocity of the diffusion's flow, $x / (2t)$ (dashed), grows without bound towards the data.

(c) Rates at which the process run backwards turns round, by the direction before: 5.818063773 for those moving right at $x=0.9$ and time 0.7. The forward rate (line) is the
same everywhere.

(d) The flow from points of the noised mixture back to the data, and (e) paths of the reversed process of place and velocity.

(f) Both end at the data. The largest difference between the distribution functions at the ends and at the beginnings of the paths in (d), 0 but for steps, is 0.00028 after 20
steps of Heun's method. For reversed turns the statistic of Kolmogorov and Smirnov reaches what as many exact draws would have on average (line)."""


def _caption(data: Data) -> Caption:
    exact = [Number(NAMES[name], float(data[name]), printed) for name, printed in PRINTED.items()]
    mass = Number("mass on each side at 0.7", float(data["atoms"][-1]), "0.0009")
    at = int(np.argmin(np.abs(np.asarray(data["steps"]) - 20)))
    return Caption(TEXT, (*exact, mass, Number("error of 20 steps of the flow", float(data["missed"][at]), ERROR)))


FIGURE = Figure(
    name="kac_flow",
    title="The telegraph process as noise, and back",
    inputs={
        "speed": 3.0,
        "rate": 9.0,
        "times": [0.1, 0.3, 0.7],
        "point": 0.9,
        "weights": [0.3, 0.7],
        "means": [-1.0, 1.0],
        "deviations": [0.4, 0.3],
        "steps": [5, 10, 20, 40, 80, 160],
        "jump_steps": [5, 10, 20, 40, 80, 160],
        "draws": 10_000,
        "paths": 12,
        "points": 161,
        "seed": 20250627,
    },
    quick_inputs={"steps": [10, 20, 40], "jump_steps": [5, 10, 20], "draws": 200, "points": 41},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Six panels. First: densities of the telegraph process at three times between bars that stand for masses on the light cone; the latest is close to a Gaussian. "
    "Second: mean velocities rise with x and stay below the speed, while straight dashed lines of the diffusion cross it. Third: rates of turning back on a logarithmic axis, "
    "different for both directions. Fourth: smooth paths of the flow that part into two groups at the data. Fifth: zig-zag paths of the reversed process. Sixth: errors "
    "of the distribution function fall with the number of evaluations; those of reversed turns reach the noise of the draws.",
    source="Kac (1974); Duong et al. (2025); the setting is ours",
    claims=("kac-law", "kac-velocity-bounded", "reverse-flux-balance"),
)
