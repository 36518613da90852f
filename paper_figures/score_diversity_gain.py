r"""The gain of averaged scores is the diversity of the scores, integrated over time.

Let p_hat be the law of averaged scores of members q_k at infinite horizon, with weights w_k, and V_t = 1/2 g^2 sum_k w_k |s_k - s|^2 the score diversity at noise level t.
Then, for every target p,

    probability flow:   sum_k w_k KL(p || q_k) - KL(p || p_hat) = E int V_t(x_t) dt  along the averaged flow from x_0 ~ p,
    log pool:           -log Z = int E_{g_t} V_t dt,  g_t the log pool of the noised members,
    reverse SDE:        the gain is at least E int V_t(X_t) dt along the noising of p, by Feynman-Kac and Jensen's inequality.

Left sides are divergences between laws, from moments or by change of variables; right sides are integrals over time on the linear interpolant.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

import ensembletheory as et
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.pooling.diversity import averaged_flow, diversity_rate
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

RULES = {"mean_score_ode": "ode", "log": "log", "mean_score_sde": "sde"}
SETTINGS = {"line": ("o", "Gaussians on the line"), "plane": ("s", "Gaussians in the plane"), "mixtures": ("^", "mixtures on the line")}
FLOW = et.processes.LinearInterpolant()
STEPS, NODES = 128, 48
POINTS = np.linspace(-16.0, 16.0, 161)

LIMITS = (5e-3, 30)

Gaussians = tuple[Float[Array, " d"], Float[Array, "d d"], Float[Array, "K d"], Float[Array, "K d d"]]  # mean and covariance of the target, of the members


def _compute(seed: int, draws: int, target: list[float], means: list[float], variances: list[float], weights: list[float]) -> Data:
    rng = np.random.default_rng(seed)
    named = _on_the_line(np.asarray([target[0], *means]), np.asarray([target[1], *variances]))
    gaussians = [named, *(_drawn_on_the_line(rng) for _ in range(draws)), *(_drawn_in_the_plane(rng) for _ in range(draws))]
    found = _of_gaussians(tuple(map(np.stack, zip(*gaussians, strict=True))), jnp.asarray(weights))
    mixtures = _of_mixtures(tuple(map(np.stack, zip(*(_drawn_mixtures(rng) for _ in range(draws)), strict=True))), jnp.asarray(weights))
    settings = np.repeat(list(SETTINGS)[:2], [draws + 1, draws])
    courses = {name: course[0] for name, course in found.items() if name.startswith("course")}
    points = {name: np.append(found[name], mixtures.get(name, [])) for name in found if not name.startswith("course")}
    return points | courses | {"settings": np.append(settings, ["mixtures"] * draws), "times": np.arange(STEPS) / STEPS, "nodes": _nodes()[0]}


def _on_the_line(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of target and members on the line, with one N(0, 1) for all as second coordinate, which changes nothing."""
    means, covs = np.stack([means, 0 * means], axis=1), np.stack([np.diag([v, 1.0]) for v in variances])
    return means[0], covs[0], means[1:], covs[1:]


def _drawn_on_the_line(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    return _on_the_line(rng.normal(size=3), np.exp(rng.uniform(np.log(0.2), np.log(5), 3)))


def _drawn_in_the_plane(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    turns = np.linalg.qr(rng.normal(size=(3, 2, 2)))[0]
    covs = (turns * np.exp(rng.uniform(np.log(0.2), np.log(5), (3, 1, 2)))) @ np.swapaxes(turns, 1, 2)
    means, covs = rng.normal(size=(3, 2)), (covs + np.swapaxes(covs, 1, 2)) / 2
    return means[0], covs[0], means[1:], covs[1:]


def _drawn_mixtures(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Shares, means and variances of two components, of the target and of two members."""
    return rng.dirichlet([2.0, 2.0], 3), rng.uniform(-2, 2, (3, 2)), np.exp(rng.uniform(np.log(0.2), np.log(2), (3, 2)))


def _nodes() -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(NODES)
    return (x + 1) / 2, w / 2


@jax.jit
def _of_gaussians(stacks: Gaussians, weights: Float[Array, " K"]) -> dict[str, Array]:
    return jax.vmap(_of_three_gaussians, in_axes=(0, 0, 0, 0, None))(*stacks, weights)


def _of_three_gaussians(mean, cov, means, covs, weights) -> dict[str, Array]:
    p, members = et.Gaussian(mean, cov), [et.Gaussian(m, S) for m, S in zip(means, covs, strict=True)]
    sampled = jax.vmap(lambda eta: _moments(et.mean_score_law(members, et.processes.VariancePreserving(), churn=eta, weights=weights, horizon=jnp.inf)))(jnp.arange(2.0))
    ode, sde = (et.Gaussian(sampled[0][i], sampled[1][i]) for i in range(2))
    average = weights @ jnp.stack([et.kl(p, member).value for member in members])
    followed = averaged_flow(FLOW, members, _sigma_points(p), weights, STEPS)
    nodes, lengths = map(jnp.asarray, _nodes())
    noising, pools = jax.vmap(lambda t: _mean_rates(p, members, weights, t))(nodes).T
    gains = {"gain_ode": average - et.kl(p, ode).value, "gain_sde": average - et.kl(p, sde).value, "gain_log": -et.log_normaliser(members, weights).value}
    diversities = {"diversity_ode": jnp.mean(followed.diversity.value), "diversity_sde": lengths @ noising, "diversity_log": lengths @ pools}
    return gains | diversities | {"course_ode": jnp.mean(followed.rates, axis=0), "course_sde": noising, "course_log": pools}


def _moments(law: et.Gaussian) -> tuple[Array, Array]:
    return law.mean, law.cov


def _noised(law: et.Gaussian, t: Float[Array, ""]) -> Any:
    return FLOW.marginal(law, t)


def _sigma_points(law: et.Gaussian) -> Float[Array, "2d d"]:
    """Points over which the mean of a quadratic function is its expectation."""
    steps = jnp.sqrt(1.0 * law.dim) * law.covariance.factor().T
    return law.mean[None] + jnp.concatenate([steps, -steps])


def _mean_rates(p: et.Gaussian, members: list[et.Gaussian], weights: Float[Array, " K"], t: Float[Array, ""]) -> Float[Array, " 2"]:
    """Of the noised target and of the log pool of the noised members."""
    laws = [_noised(p, t), et.log_pool([_noised(member, t) for member in members], weights)]
    rates = diversity_rate(FLOW, members, t, jnp.concatenate([_sigma_points(law) for law in laws]), weights)
    return jnp.mean(rates.reshape(2, -1), axis=1)


@jax.jit
def _of_mixtures(stacks: tuple[Array, Array, Array], weights: Float[Array, " K"]) -> dict[str, Array]:
    return jax.vmap(_of_three_mixtures, in_axes=(0, 0, 0, None))(*stacks, weights)


def _of_three_mixtures(shares, means, variances, weights) -> dict[str, Array]:
    """Sums over a fine uniform grid, which for mixtures are integrals to rounding."""
    p, *members = (et.GaussianMixture(shares[k], means[k][:, None], variances[k][:, None]) for k in range(3))
    x, nodes = jnp.asarray(POINTS)[:, None], jnp.asarray(_nodes()[0])
    mass = jnp.exp(p.log_prob(x)) * (POINTS[1] - POINTS[0])
    followed = averaged_flow(FLOW, members, x, weights, STEPS)
    average = weights @ jnp.stack([mass @ (p.log_prob(x) - member.log_prob(x)) for member in members])
    of_pools = jax.vmap(lambda t: _rate_under_the_pool(members, weights, t, x))(nodes)
    return {
        "gain_ode": average - mass @ (p.log_prob(x) - followed.log_prob.value),
        "diversity_ode": mass @ followed.diversity.value,
        "gain_log": -jnp.log(jnp.sum(jnp.exp(followed.log_geometric_mean)) * (POINTS[1] - POINTS[0])),
        "diversity_log": jnp.asarray(_nodes()[1]) @ of_pools,
    }


def _rate_under_the_pool(members, weights, t, x) -> Float[Array, ""]:
    logs = weights @ jnp.stack([FLOW.marginal(member, t).log_prob(x) for member in members])
    return jax.nn.softmax(logs) @ diversity_rate(FLOW, members, t, x, weights)


def _draw(data: Data) -> Picture:
    picture, (identity, excess, course) = new_figure(WIDTHS["iclr"], 2.6, columns=3)
    _draw_identity(identity, data)
    _draw_excess(excess, data)
    _draw_courses(course, data)
    handles = [Line2D([], [], color=LOOKS[rule].color, linestyle=LOOKS[rule].linestyle, label=LOOKS[rule].label) for rule in RULES]
    handles += [Line2D([], [], color="#4D4D4D", marker=marker, markerfacecolor="none", linestyle="none", label=label) for marker, label in SETTINGS.values()]
    picture.legend(handles=handles, loc="outside lower center", ncols=3)
    return picture


def _dots(ax: Axes, data: Data, rule: str, y: np.ndarray) -> None:
    diversity = data[f"diversity_{RULES[rule]}"]
    for setting, (marker, _) in SETTINGS.items():
        at = np.flatnonzero(data["settings"][: len(diversity)] == setting)
        ax.plot(diversity[at], y[at], marker, color=LOOKS[rule].color, markerfacecolor="none", markersize=3.5, markeredgewidth=0.8, linestyle="none")


def _draw_identity(ax: Axes, data: Data) -> None:
    letter(ax, "a", "an identity")
    ax.plot(LIMITS, LIMITS, color="#B8B8B8", linewidth=0.8, zorder=0)
    for rule in ("mean_score_ode", "log"):
        _dots(ax, data, rule, data[f"gain_{RULES[rule]}"])
    ax.set(xscale="log", yscale="log", xlabel="integrated diversity, nats", ylabel="gain, nats", xlim=LIMITS, ylim=LIMITS)
    ax.minorticks_off()


def _draw_excess(ax: Axes, data: Data) -> None:
    letter(ax, "b", "an inequality")
    ax.axhline(1, color="#B8B8B8", linewidth=0.8, zorder=0)
    _dots(ax, data, "mean_score_sde", data["gain_sde"] / data["diversity_sde"])
    ax.set(xscale="log", xlabel="integrated diversity, nats", ylabel="gain / integrated diversity", xlim=LIMITS)
    ax.minorticks_off()


def _draw_courses(ax: Axes, data: Data) -> None:
    letter(ax, "c", "diversity in time")
    for rule, name in RULES.items():
        x, y = data["times"] if name == "ode" else data["nodes"], data[f"course_{name}"]
        curve(ax, x, y, LOOKS[rule])
        top = int(np.argmax(y))
        write_beside(ax, x[top], y[top], f"{data[f'diversity_{name}'][0]:.3f}", LOOKS[rule], {"ode": (0, 6), "sde": (4, -17), "log": (0, -9)}[name], "center")
    ax.set(xlabel="time $t$, from data to noise", ylabel="nats per unit of time", xlim=(0, 1), ylim=(0, 5.4))


# What the caption prints of the named members, and the largest distance from the diagonal.
PRINTED = {"gain_ode": "2.44998", "diversity_ode": "2.44998", "gain_log": "0.9062976659", "diversity_log": "0.9062976659", "gain_sde": "2.15373", "diversity_sde": "1.90228"}

TEXT = r"""The gain of averaged scores is the integrated diversity of the scores. Two members and a target each, drawn at random, equal weights; gains are in KL over
the members' average.

(a) Mean score, ODE: the diversity along the averaged flow from the target, integrated over noise levels, is the gain. Log pool: so is the diversity under the log pools of
the noised members. The relative distance is at most 0.00000.

(b) Mean score, SDE: the gain is at least the diversity along the noising of the target, by Feynman-Kac and Jensen's inequality.

(c) The course of the diversity for members $N(-1,1/4)$ and $N(2,4)$ and the target $N(0.3,1.2)$, in the time of the linear interpolant. Areas: 2.44998 for the flow, which is
its gain, 0.9062976659 for the log pool, which is $-\log Z$, and 1.90228 for the SDE, which gains 2.15373."""


def _caption(data: Data) -> Caption:
    named = [Number(name, float(data[name][0]), text) for name, text in PRINTED.items()]
    return Caption(TEXT, (*named, Number("distance from the diagonal", _distance(data), "0.00000")))


def _distance(data: Data) -> float:
    """The largest relative difference of gain and diversity where they are equal."""
    return max(float(np.max(np.abs(data[f"gain_{name}"] / data[f"diversity_{name}"] - 1))) for name in ("ode", "log"))


FIGURE = Figure(
    name="score_diversity_gain",
    title="The gain of averaged scores is the integrated score diversity",
    inputs={"seed": 0, "draws": 16, "target": [0.3, 1.2], "means": [-1.0, 2.0], "variances": [0.25, 4.0], "weights": [0.5, 0.5]},
    quick_inputs={"draws": 4},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Left: gain against integrated diversity on logarithmic axes; circles, squares and triangles for the flow and the log pool lie on the diagonal over three decades. "
    "Middle: for the SDE the ratio of gain and diversity lies between one and 1.14. Right: three humps over time, the highest for the averaged flow, then the noised "
    "target, the lowest and latest for the log pools.",
    source='theorem on averaged scores, derived in ensembletheory.pooling.diversity; setting of Razafindralambo et al., "When are two scores better than one?", TMLR 2026',
    claims=("mean-score-gain-is-diversity", "log-pool-gain-is-diversity", "mean-score-kl-average-in-the-plane", "mean-score-pointwise"),
)
