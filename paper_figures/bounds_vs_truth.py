r"""Bounds on samplers against their exact errors, where both are known: Gaussian data and affine models.

- Song's bound 1/2 int g^2 E|s - s*|^2 dt + KL(p_T || N(0, 1)) for a score (1 + c) s*: above the reverse SDE, far below the flow, of which it says nothing.
- Girsanov's bound for the exact score frozen over N steps of the exponential integrator falls as 1/N, the divergence as 1/N^2.
- Benton's e^{int L} (int E|w - v|^2 dt)^{1/2} and Albergo's e^{1/2 + max L} (int E|w - v|^2 dt)^{1/2} for a velocity w off by d x: on the line W2 is s (e^d - 1).
- Song's bound for the average of two scores with weights 1 - w and w is convex in w: at most the average of the members' bounds, and at times above the best.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.pooling.field_rules import WeightedSum
from ensembletheory.processes import LinearInterpolant, OrnsteinUhlenbeck, VariancePreserving
from ensembletheory.samplers import ExponentialIntegrator, Rk4, Sampler, padded, uniform_grid
from ensembletheory.samplers.bounds import Perturbed, albergo_bound, benton_bound, girsanov_bound, song_bound
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

VP, STRAIGHT = VariancePreserving(), LinearInterpolant()


def _compute(variance, excesses, excess_points, frozen_variance, horizon, steps, error, deviations, deviation_points, target, experts, weight_points) -> Data:
    excess = np.union1d(np.linspace(-0.2, 0.2, excess_points), excesses)
    deviation = np.union1d(np.geomspace(0.25, 4.0, deviation_points), deviations)
    weight = np.linspace(0.0, 1.0, weight_points)
    run = OrnsteinUhlenbeck(1.0, horizon=horizon)
    grids = np.stack([padded(uniform_grid(run, n), max(steps) + 1) for n in steps])
    benton = [float(benton_bound(STRAIGHT, _line(0.0, s**2), _off(s, error))) for s in deviation]  # not under jit, where the turn of |slope| would not be resolved
    data = {"excess": excess, "steps": steps, "deviation": deviation, "weight": weight, "benton": benton}
    return data | _scores(variance, excess, target, experts, weight) | _frozen(run, frozen_variance, grids) | _flows(deviation, error)


def _line(mean, variance) -> et.Gaussian:
    return et.Gaussian(jnp.reshape(mean, (1,)), jnp.reshape(variance, (1,)))


def _off(deviation, error) -> Perturbed:
    """The velocity v + error x in the direction of generation, against which time runs here."""
    return Perturbed(STRAIGHT.velocity(_line(0.0, deviation**2)), -error)


@jax.jit
def _summed_scores(targets: Float[Array, "n 2"], experts: Float[Array, "n K 2"], coefficients: Float[Array, "n K"]) -> dict[str, Array]:
    """Song's bound and the exact divergences of both reverse dynamics, for data and sums of scores of Gaussians, each given by mean and variance."""

    def at(target, experts, c):
        p, members = _line(*target), [_line(*expert) for expert in experts]
        laws = {reverse: et.score_sum_law(members, VP, c, reverse) for reverse in ("sde", "ode")}
        bound = song_bound(VP, p, WeightedSum([VP.score(member) for member in members], c))
        return {"bound": bound.value} | {reverse: et.kl(p, law).value for reverse, law in laws.items()}

    return jax.vmap(at)(targets, experts, coefficients)


def _scores(variance, excess, target, experts, weight) -> Data:
    """Panels a and d in one program: (1 + c) times the exact score, and averages."""
    rows = len(excess), len(weight)
    targets = np.repeat([[0.0, variance], target], rows, axis=0)
    members = np.repeat([[[0.0, variance]] * 2, experts], rows, axis=0)
    coefficients = np.concatenate([np.stack([1 + excess, 0 * excess], axis=1), np.stack([1 - weight, weight], axis=1)])
    found = _summed_scores(targets, members, coefficients)
    return {f"{panel}_{name}": values[part] for name, values in found.items() for panel, part in (("song", slice(rows[0])), ("averaged", slice(rows[0], None)))}


@jax.jit
def _frozen(run: OrnsteinUhlenbeck, variance: Array, grids: Float[Array, "n times"]) -> dict[str, Array]:
    p = _line(0.0, variance)

    def at(grid):
        sampler = Sampler(run, run.score(p), ExponentialIntegrator(), grid)
        return {"frozen_bound": girsanov_bound(sampler, p).value, "frozen_kl": et.kl(p, sampler.coordinatewise_kernel(1).push(et.standard_normal(1))).value}

    return jax.lax.map(at, grids)


@jax.jit
def _flows(deviation: Float[Array, " n"], error: Array) -> dict[str, Array]:
    def at(s):
        p, w = _line(0.0, s**2), _off(s, error)
        flowed = Sampler(STRAIGHT, w, Rk4(), uniform_grid(STRAIGHT, 200)).coordinatewise_kernel(1).push(et.standard_normal(1))
        return {"flow_w2": et.w2(p, flowed).value, "albergo": albergo_bound(STRAIGHT, p, w).value}

    return jax.vmap(at)(deviation)


def _draw(data: Data) -> Picture:
    picture, (perturbed, frozen, flow, averaged) = new_figure(WIDTHS["iclr"], 4.4, rows=2, columns=2)
    _draw_perturbed(perturbed, data)
    _draw_frozen(frozen, data)
    _draw_flow(flow, data)
    _draw_averaged(averaged, data)
    return picture


def _draw_perturbed(ax: Axes, data: Data) -> None:
    letter(ax, "a", "a score off by the factor $1+c$")
    for name, look in (("song_ode", "probability_flow"), ("song_bound", "kl_bound"), ("song_sde", "reverse_sde")):
        curve(ax, data["excess"], data[name], LOOKS[look])
    ax.set(yscale="log", xlabel="excess $c$ of the score", ylabel="KL(data || samples), nats", xlim=(-0.2, 0.2), ylim=(1e-4, 20))
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, 1.02), borderaxespad=0, labelspacing=0.3)


def _draw_frozen(ax: Axes, data: Data) -> None:
    letter(ax, "b", "the exact score, frozen over steps")
    for name, look, text in (("frozen_bound", "kl_bound", r"Girsanov's bound, $\sim 1/N$"), ("frozen_kl", "exponential_integrator", r"exact, $\sim 1/N^2$")):
        curve(ax, data["steps"], data[name], LOOKS[look], markers=True)
        write_beside(ax, float(data["steps"][1]), float(data[name][1]), text, LOOKS[look], (6, 6))
    ax.set(xscale="log", yscale="log", xlabel="steps $N$ of the exponential integrator", ylabel="KL(data || samples), nats")


def _draw_flow(ax: Axes, data: Data) -> None:
    letter(ax, "c", "a velocity off by $0.1\\,x$")
    labels = (
        ("albergo", "albergo_bound", "Albergo's bound", (14, 3)),
        ("benton", "benton_bound", "Benton's bound", (6, -18)),
        ("flow_w2", "probability_flow", "exact", (12, 0)),
    )
    for name, look, text, offset in labels:
        curve(ax, data["deviation"], data[name], LOOKS[look])
        write_beside(ax, data["deviation"][0], float(data[name][0]), text, LOOKS[look], offset)
    ax.set(xscale="log", yscale="log", xlabel="standard deviation $s$ of the data", ylabel=r"$W_2$(data, samples)", xlim=(0.25, 4))
    ax.set_xticks([0.25, 0.5, 1, 2, 4], labels=["¼", "½", "1", "2", "4"])
    ax.minorticks_off()


def _draw_averaged(ax: Axes, data: Data) -> None:
    letter(ax, "d", "averaged scores of two experts")
    weight, bound = data["weight"], data["averaged_bound"]
    levels = {"average": (1 - weight) * bound[0] + weight * bound[-1], "best": np.full_like(weight, min(bound[0], bound[-1])), "kl_bound": bound}
    levels |= {"mean_score_sde": data["averaged_sde"], "mean_score_ode": data["averaged_ode"]}
    for look, values in levels.items():
        curve(ax, weight, values, LOOKS[look])
    labels = {
        "average": ("average of the bounds", 0.3, (6, 6), "left"),
        "best": ("best bound", 0.0, (3, -6), "left"),
        "kl_bound": ("Song's bound", 0.45, (6, 5), "left"),
        "mean_score_sde": ("SDE", 0.7, (10, 0), "left"),
        "mean_score_ode": ("ODE", 0.62, (-9, 0), "right"),
    }
    for look, (text, w, offset, align) in labels.items():
        at = _at(weight, w)
        write_beside(ax, weight[at], float(levels[look][at]), text, LOOKS[look], offset, align)
    ax.set(yscale="log", xlabel="weight $w$ of the second expert", ylabel="KL(data || samples), nats", xlim=(0, 1))


def _at(grid: np.ndarray, value: float) -> int:
    """The index of the grid point nearest to `value`."""
    return int(np.argmin(np.abs(grid - value)))


# What the caption prints.
PERTURBED = {"song_bound": "0.05718", "song_sde": "0.00884", "song_ode": "0.49722"}
FROZEN = {20: ("0.377488", "0.0385785"), 200: ("0.0414045", "0.000401675")}
FLOWS = {0.5: ("0.052585", "0.152220", "0.336109"), 2.0: ("0.210342", "0.343255", "0.821049"), 3.0: ("0.315513", "0.659861", "1.761328")}
AVERAGED = {"averaged_bound": "0.65218", "averaged_sde": "0.40076", "averaged_ode": "0.10594"}

TEXT = r"""Bounds on the error of samplers, and the error itself.

(a) Data $N(0, 1/4)$, Song's VP diffusion from $N(0, 1)$, scores $(1+c)\,\nabla\log p_t$. At $c=0.1$ the bound of Song et al. is 0.05718; the divergence of what the
reverse SDE samples, 0.00884, is below it, and that of the probability flow, 0.49722, above: the bound is about the SDE.

(b) Data $N(0, 1/4)$, the exact score of $dX=-X\,dt+\sqrt{2}\,dW$ from $T=2$ and $N(0, 1)$, frozen over $N$ equal steps. Girsanov's bound and the divergence: 0.377488 and
0.0385785 for $N=20$, 0.0414045 and 0.000401675 for $N=200$.

(c) Data $N(0, s^2)$, straight path, a velocity too large by $0.1\,x$. Exact $W_2$, Benton's and Albergo's bounds: 0.052585, 0.152220 and 0.336109 for $s=1/2$;
0.210342, 0.343255 and 0.821049 for $s=2$; 0.315513, 0.659861 and 1.761328 for $s=3$.

(d) Data $N(0.3, 1.2)$, scores of $N(-1, 1/4)$ and $N(2, 4)$ averaged with weights $1-w$ and $w$, as in (a). At $w=1/2$ the bound is 0.65218, below the average 2.55442 of the
members' bounds and above the best of them, 0.61318; the divergences are 0.40076 (SDE) and 0.10594 (probability flow)."""


def _caption(data: Data) -> Caption:
    perturbed = [Number(f"{name}, $c=0.1$", data[name][_at(data["excess"], 0.1)], text) for name, text in PERTURBED.items()]
    frozen = [
        Number(f"{name}, $N={n}$", data[name][_at(data["steps"], n)], text) for n, row in FROZEN.items() for name, text in zip(("frozen_bound", "frozen_kl"), row, strict=True)
    ]
    flows = [
        Number(f"{name}, $s={s:g}$", data[name][_at(data["deviation"], s)], text)
        for s, row in FLOWS.items()
        for name, text in zip(("flow_w2", "benton", "albergo"), row, strict=True)
    ]
    averaged = [Number(f"{name}, $w=1/2$", data[name][_at(data["weight"], 0.5)], text) for name, text in AVERAGED.items()]
    ends = data["averaged_bound"][[0, -1]]
    members = [Number("average of the bounds", float(np.mean(ends)), "2.55442"), Number("best bound", float(np.min(ends)), "0.61318")]
    return Caption(TEXT, (*perturbed, *frozen, *flows, *averaged, *members))


FIGURE = Figure(
    name="bounds_vs_truth",
    title="Bounds on the error of samplers, and the error itself",
    inputs={
        "variance": 0.25,
        "excesses": [0.1],
        "excess_points": 81,
        "frozen_variance": 0.25,
        "horizon": 2.0,
        "steps": [10, 20, 40, 60, 100, 200, 400],
        "error": 0.1,
        "deviations": [0.5, 2.0, 3.0],
        "deviation_points": 41,
        "target": [0.3, 1.2],
        "experts": [[-1.0, 0.25], [2.0, 4.0]],
        "weight_points": 101,
    },
    quick_inputs={"excess_points": 20, "steps": [10, 20, 60, 200], "deviation_points": 9, "weight_points": 21},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels. Top left: where the score is off by a factor 1 + c, the exact divergence of the reverse SDE lies below Song's bound, and that of the flow far above it. "
    "Top right: as steps increase, Girsanov's bound falls half as steeply, on logarithmic axes, as the exact divergence. Bottom left: Albergo's bound lies above Benton's, "
    "and both above the exact Wasserstein distance. Bottom right: as weight moves from one expert to the other, Song's bound of the averaged score stays below the average of "
    "their bounds, and is below the best expert's only past equal weights; the exact divergence of the SDE is lower still, that of the flow not everywhere.",
    source="bounds of Song et al. (NeurIPS 2021), Chen et al. (ICLR 2023), Benton, Deligiannidis & Doucet (TMLR 2024) and Albergo & Vanden-Eijnden (ICLR 2023); "
    "exact laws derived in ensembletheory.pooling",
    claims=("song-bound-sde", "song-bound-ode", "girsanov-frozen-score", "benton-w2-bound", "albergo-w2-bound", "ensemble-bound-below-average", "ensemble-bound-below-best"),
)
