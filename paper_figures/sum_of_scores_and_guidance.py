r"""Sums of scores and guidance: what samplers make of sum_k c_k s_k, beside the density prod_k q_k^{c_k} that the sum is the score of at time 0.

At positive times the sum is not the score of the noised density, so that the law depends on the sampler. K equal members N(0, 1), c = 1: the product has variance 1/K,
the reverse SDE gives 1/(2K - 1) and the probability flow u_T^{K-1}, which collapses. Guidance from N(0, 2) to N(0, 1) with scale g, c = (g, 1 - g): the density
q_c^g q_u^{1-g} has variance 2/(g + 1), the SDE gives (2 - 2^{2-2g})/(2g - 1), the flow 2^{1-g}: the counter-example of Bradley & Nakkiran, "Classifier-free guidance is a
predictor-corrector" (TMLR 2025). Samplers in finitely many steps have exact laws too. Guidance from a mixture of two modes to one of them: densities by the exact flow,
moments by the trapezoidal rule.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.pooling.field_rules import WeightedSum
from ensembletheory.samplers import Euler, EulerMaruyama, Sampler, Scheme, flow_log_prob, uniform_grid
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

PROCESS = et.processes.VariancePreserving()
LIMITS = {"target": LOOKS["target"]._replace(label="product of powers"), "sde": LOOKS["reverse_sde"], "ode": LOOKS["probability_flow"]}
SCHEMES: dict[str, Scheme] = {"euler_maruyama": EulerMaruyama(), "euler": Euler()}


def _compute(most_members, variances, largest_scale, scales, drawn_scales, steps, modes, variance, guided_scales, points) -> Data:
    members = np.arange(1, most_members + 1)
    g = np.union1d(np.linspace(0.0, largest_scale, scales), drawn_scales)
    cases = {"sum": ([1.0, 1.0], np.stack([members, 0 * members], axis=1)), "guided": (variances, np.stack([g, 1 - g], axis=1))}  # K equal scores are K times one
    pairs = jnp.asarray(np.concatenate([np.tile(pair, (len(c), 1)) for pair, c in cases.values()]))
    coefficients = jnp.asarray(np.concatenate([c for _, c in cases.values()]), pairs.dtype)
    found = {"target": 1 / jnp.sum(coefficients / pairs, axis=1)} | _limits(pairs, coefficients)
    found |= {name: _in_steps(scheme, pairs, coefficients, uniform_grid(PROCESS, steps)) for name, scheme in SCHEMES.items()}
    data = {"members": members, "scales": g, "drawn": np.isin(g, drawn_scales), "steps": steps, "modes": modes}
    for name, part in (("sum", slice(None, len(members))), ("guided", slice(len(members), None))):
        data |= {f"{name} {law}": values[part] for law, values in found.items()}
    return data | _mixtures(modes, variance, guided_scales, np.linspace(-4.0, 6.0, points))


@jax.jit
def _limits(pairs: Float[Array, "n 2"], coefficients: Float[Array, "n 2"]) -> dict[str, Float[Array, " n"]]:
    """Variances that reverse SDE and probability flow give from the process's horizon, for pairs of centred Gaussians."""

    def at(pair, c):
        return {reverse: et.score_sum_law(_laws(pair), PROCESS, c, reverse).cov[0, 0] for reverse in ("sde", "ode")}

    return jax.vmap(at)(pairs, coefficients)


@eqx.filter_jit
def _in_steps(scheme: Scheme, pairs: Float[Array, "n 2"], coefficients: Float[Array, "n 2"], grid: Float[Array, " m"]) -> Float[Array, " n"]:
    """Variances of what a scheme samples along the grid."""

    def at(pair, c):
        summed = WeightedSum([PROCESS.score(law) for law in _laws(pair)], c)
        field = et.processes.convert(PROCESS, summed, scheme.takes)
        return Sampler(PROCESS, field, scheme, grid).law(et.standard_normal(1)).cov[0, 0]

    return jax.vmap(at)(pairs, coefficients)


def _laws(pair: Float[Array, " 2"]) -> list[et.Gaussian]:
    return [et.Gaussian(jnp.zeros(1), variance[None]) for variance in pair]


def _mixtures(modes: list[float], variance: float, scales: list[float], x: np.ndarray) -> Data:
    """Guidance from both modes to the second: densities of the product of powers and of the law that the flow samples, their moments, and KL from the one to the other."""
    two = et.GaussianMixture([0.5, 0.5], np.asarray(modes)[:, None], np.full((2, 1), variance))
    second = et.Gaussian([modes[1]], [variance])
    log_both, log_one = np.asarray(two.log_prob(x[:, None])), np.asarray(second.log_prob(x[:, None]))
    targets = np.array([_normalised(g * log_one + (1 - g) * log_both, x) for g in scales])
    sampled = np.array([_flowed([second, two], g, x) for g in scales])
    data = {"x": x, "both": np.exp(log_both), "guided_scales": scales, "densities target": targets, "densities ode": sampled}
    data |= {f"mean {law}": data[f"densities {law}"] @ x * (x[1] - x[0]) for law in ("target", "ode")}
    data |= {f"deviation {law}": np.sqrt(data[f"densities {law}"] @ x**2 * (x[1] - x[0]) - data[f"mean {law}"] ** 2) for law in ("target", "ode")}
    logs = np.log(targets / np.maximum(sampled, 1e-300), where=targets > 1e-30, out=np.zeros_like(targets))
    return data | {"divergence": np.sum(targets * logs, axis=1) * (x[1] - x[0])}


def _normalised(log_density: np.ndarray, x: np.ndarray) -> np.ndarray:
    density = np.exp(log_density - log_density.max())
    return density / (density.sum() * (x[1] - x[0]))


def _flowed(laws: list[et.Law], g: float, x: np.ndarray) -> np.ndarray:
    velocity = et.processes.convert(PROCESS, WeightedSum([PROCESS.score(law) for law in laws], [g, 1 - g]), "velocity")
    return np.exp(flow_log_prob(PROCESS, velocity, x[:, None], tolerance=1e-6))


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["iclr"], 4.3, rows=2, columns=2)
    for draw, ax in zip((_draw_sums, _draw_guided, _draw_densities, _draw_moments), panels, strict=True):
        draw(ax, data)
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return picture


def _draw_sums(ax: Axes, data: Data) -> None:
    letter(ax, "a", "scores of $K$ equal members, summed")
    for law, look in LIMITS.items():
        curve(ax, data["members"], data[f"sum {law}"], look)
    _draw_steps(ax, data, "sum", data["members"], data["members"] > 0)
    ax.set(yscale="log", xlabel="members $K$", ylabel="variance", ylim=(1e-10, 5), xticks=data["members"])


def _draw_guided(ax: Axes, data: Data) -> None:
    letter(ax, "b", "guidance from N(0, 2) to N(0, 1)")
    for law, look in LIMITS.items():
        curve(ax, data["scales"], data[f"guided {law}"], look)
    _draw_steps(ax, data, "guided", data["scales"], data["drawn"])
    ax.set(xlabel="scale $g$", ylabel="variance", ylim=(0, 2.1), xlim=(0, data["scales"][-1]))


def _draw_steps(ax: Axes, data: Data, name: str, at: np.ndarray, drawn: np.ndarray) -> None:
    for scheme in SCHEMES:
        look = LOOKS[scheme]
        label = f"{look.label}, {data['steps']} steps"
        ax.plot(at[drawn], data[f"{name} {scheme}"][drawn], marker=look.marker, color=look.color, markerfacecolor="white", linestyle="none", label=label)


def _draw_densities(ax: Axes, data: Data) -> None:
    letter(ax, "c", "two modes, guided to one")
    x, one, last = data["x"], _at(data["guided_scales"], 1), _at(data["guided_scales"], 3)
    curve(ax, x, data["both"], LOOKS["average"])
    curve(ax, x, data["densities target"][one], LOOKS["member"])
    curve(ax, x, data["densities target"][last], LIMITS["target"])
    curve(ax, x, data["densities ode"][last], LIMITS["ode"])
    write_beside(ax, float(data["modes"][0]), float(data["both"].max()), "both", LOOKS["average"], (0, 6), "center")
    write_beside(ax, float(data["modes"][1]), float(data["densities target"][one].max()), "$g=1$", LOOKS["average"], (-16, 2), "right")
    write_beside(ax, 2.6, 0.75 * float(data["densities ode"][last].max()), f"$g={data['guided_scales'][last]:g}$", LIMITS["target"])
    ax.set(xlabel="$x$", xlim=(-3, 4), yticks=[], ylim=(0, None))


def _draw_moments(ax: Axes, data: Data) -> None:
    letter(ax, "d", "their means and standard deviations")
    for law in ("target", "ode"):
        curve(ax, data["guided_scales"], data[f"mean {law}"], LIMITS[law], markers=True)
        curve(ax, data["guided_scales"], data[f"deviation {law}"], LIMITS[law], markers=True)
    write_beside(ax, 2.0, float(data["mean ode"][_at(data["guided_scales"], 2)]), "mean", LIMITS["target"], (0, 10), "center")
    write_beside(ax, 2.0, float(data["deviation target"][0]), "standard deviation", LIMITS["target"], (0, 10), "center")
    ax.set(xlabel="scale $g$", ylim=(0, None))


# What the caption prints: variances of sums by number of members, of guidance by scale, and for the mixtures moments by scale.
SUMMED = {
    "target": {2: "0.5000", 3: "0.3333", 5: "0.2000"},
    "sde": {2: "0.3333", 3: "0.2000", 5: "0.1111"},
    "euler_maruyama": {2: "0.3416", 3: "0.2065", 5: "0.1160"},
    "ode": {2: "0.000043186"},
}
GUIDED = {
    "target": {1.5: "0.8000", 2.0: "0.6667", 3.0: "0.5000"},
    "sde": {1.5: "0.7500", 2.0: "0.5833", 3.0: "0.3875"},
    "euler_maruyama": {1.5: "0.7611", 2.0: "0.5925", 3.0: "0.3946"},
    "ode": {1.5: "0.7071", 2.0: "0.5000", 3.0: "0.2500"},
    "euler": {1.5: "0.7068", 2.0: "0.4991", 3.0: "0.2479"},
}
MOMENTS = {
    "mean target": {2.0: "1.036", 3.0: "1.051"},
    "mean ode": {2.0: "1.320", 3.0: "1.519"},
    "deviation target": {2.0: "0.468", 3.0: "0.457"},
    "deviation ode": {2.0: "0.359", 3.0: "0.314"},
    "divergence": {2.0: "1.05", 3.0: "5.30"},
}

TEXT = r"""What samplers make of sums of scores $\sum_k c_k s_k$, on a VP diffusion, beside the normalised density $\prod_k q_k^{c_k}$. Dots: exact laws of 100 uniform
steps.

(a) Scores of $K$ members $N(0, 1)$, summed: the product has variance $1/K$ (0.5000, 0.3333 and 0.2000 for $K=2, 3, 5$), the reverse SDE gives $1/(2K-1)$ (0.3333, 0.2000
and 0.1111; Euler-Maruyama 0.3416, 0.2065 and 0.1160), and the probability flow collapses: 0.000043186 for $K=2$.

(b) Guidance $g s_c+(1-g) s_u$ with $q_c=N(0,1)$, $q_u=N(0,2)$, for $g=1.5, 2, 3$: the density $q_c^g q_u^{1-g}$ has variance $2/(g+1)$, that is 0.8000, 0.6667 and
0.5000; the SDE gives $(2-2^{2-2g})/(2g-1)$, that is 0.7500, 0.5833 and 0.3875 (Euler-Maruyama 0.7611, 0.5925 and 0.3946); the flow $2^{1-g}$, that is 0.7071, 0.5000 and
0.2500 (Euler 0.7068, 0.4991 and 0.2479).

(c, d) $q_u$ has two equal modes at -1.0 and 1.0 with variance 0.25, $q_c$ is the second mode alone. (c) Both at $g=1$; at $g=3$ the density $q_c^g q_u^{1-g}$ and what
the flow samples. (d) For $g=2$ and 3 that density has means 1.036 and 1.051 and standard deviations 0.468 and 0.457; the flow, begun at $N(0, 1)$, overshoots the mode:
means 1.320 and 1.519, standard deviations 0.359 and 0.314, and KL of the one from the other 1.05 and 5.30 nats."""


def _caption(data: Data) -> Caption:
    sums = [Number(f"variance of the sum, {law}, K = {K}", data[f"sum {law}"][K - 1], text) for law, row in SUMMED.items() for K, text in row.items()]
    guided = [Number(f"guided variance, {law}, g = {g:g}", data[f"guided {law}"][_at(data["scales"], g)], text) for law, row in GUIDED.items() for g, text in row.items()]
    moments = [Number(f"{name}, g = {g:g}", data[name][_at(data["guided_scales"], g)], text) for name, row in MOMENTS.items() for g, text in row.items()]
    return Caption(TEXT, (*sums, *guided, *moments))


def _at(grid: np.ndarray, value: float) -> int:
    return int(np.argmin(np.abs(np.asarray(grid) - value)))


FIGURE = Figure(
    name="sum_of_scores_and_guidance",
    title="Sums of scores and guidance: the law depends on the sampler",
    inputs={
        "most_members": 6,
        "variances": [1.0, 2.0],
        "largest_scale": 4.0,
        "scales": 81,
        "drawn_scales": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5],
        "steps": 100,
        "modes": [-1.0, 1.0],
        "variance": 0.25,
        "guided_scales": [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
        "points": 401,
    },
    quick_inputs={"scales": 33, "guided_scales": [1.0, 2.0, 3.0]},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels. Variance of the law sampled from K summed scores on a logarithmic axis: the reverse SDE lies below the product of densities, the probability "
    "flow collapses. Variance against guidance scale: density, SDE and flow descend in this order and part. A two-mode mixture, its right mode, the guided "
    "density and the narrower law further right that the flow samples. Their means and standard deviations against the scale: the density's stay, the flow's "
    "mean rises and its deviation falls.",
    source='Bradley & Nakkiran, "Classifier-free guidance is a predictor-corrector", TMLR 2025; laws derived in ensembletheory.pooling.mean_score',
    claims=("mean-score-kl-average",),
)
