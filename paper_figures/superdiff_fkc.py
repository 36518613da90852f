r"""Two corrections of averaged scores, with exact scores: superposition by carried log-densities (SuperDiff), and weights that restore the log pool (Feynman-Kac correctors).

Above, two mixtures in the plane with the modes (+-m, m) and (+-m, -m), mirror images of each other; the variance-preserving process replaces the published noise
(sigma_t = t) and exact scores the networks. Or routes each path to a member by the log-densities carried along: four modes, the linear pool. And keeps log q_1 - log q_2 where
it began, which is 2 m a y / (v a^2 + s^2) at the noise level (a, s), v the variance of a mode: paths end on the line of equal densities. The averaged score samples N(0, v)
in y; as the members differ by a shift only, that is the log pool, which the rule And does not sample.

Below, two mixtures on the line of different widths, whose averaged score does not sample their log pool; weights that fall at the rate of the score diversity correct it, with
or without resampling. Bars are two standard errors, from independent batches for weighted particles.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

import ensembletheory as et
from ensembletheory.estimate import Estimate
from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure
from ensembletheory.pooling.feynman_kac import FeynmanKac
from ensembletheory.pooling.superposition import And, Or, SuperDiff
from ensembletheory.pooling.weighted_sample import WeightedSample
from ensembletheory.samplers import EulerMaruyama, Sampler, quadratic_grid
from paper_figures.framework import Caption, Data, Figure, Number, mean_number

__all__ = ["FIGURE"]

PROCESS = et.processes.VariancePreserving()
RULES = ("or", "and", "average")
TITLES = {"or": "SuperDiff, or", "and": "SuperDiff, and", "average": "averaged score"}
LOOK = {"or": LOOKS["linear"], "and": LOOKS["superdiff_and"], "average": LOOKS["mean_score_sde"]}
UNCORRECTED, WEIGHTED, RESAMPLED = LOOKS["mean_score_sde"], LOOKS["feynman_kac"], LOOKS["resampled"]
DASHED = (0, (2, 1))
LEGEND = (LOOKS["member"], LOOKS["log"]._replace(linestyle=DASHED), UNCORRECTED._replace(linestyle="-"), WEIGHTED, RESAMPLED)
QUARTERS = ((-1, -1), (-1, 1), (1, -1), (1, 1))
LIMIT, BOX = 8.0, (-3.5, 4.5)  # the pool weighs less than 1e-15 outside [-LIMIT, LIMIT]
SHOWN = 500  # points a panel


def _compute(seed, mode, deviation, points, steps, weights, means, variances, particles, particle_steps, resample_below) -> Data:
    superposed = _superposed(jax.random.key(seed), mode, deviation, points, steps)
    members = [et.GaussianMixture(*parts) for parts in zip(np.array(weights), np.array(means)[:, :, None], np.array(variances)[:, :, None], strict=True)]
    return superposed | _pooled(members) | _corrected(jax.random.key(seed + 1), members, particles, particle_steps, resample_below)


def _superposed(key: PRNGKeyArray, mode: float, deviation: float, points: int, steps: int) -> Data:
    """Points by each rule, and log q_1 - log q_2 at them."""
    members = [et.GaussianMixture(np.full(2, 0.5), np.array([[-mode, y], [mode, y]]), np.full((2, 2), deviation**2)) for y in (mode, -mode)]
    scores, grid = [PROCESS.score(member) for member in members], quadratic_grid(PROCESS, steps)
    rules = zip(RULES, (Or(1.0), And(), Or(0.0)), strict=True)
    drawn = {name: SuperDiff(PROCESS, scores, rule, grid).sample(key, points, et.standard_normal(2)).points for name, rule in rules}
    ratios = {f"ratio_{name}": members[0].log_prob(x) - members[1].log_prob(x) for name, x in drawn.items()}
    return drawn | ratios | {"mode": mode}


def _pooled(members: list[et.GaussianMixture]) -> Data:
    """Densities of the members and of their log pool by the trapezoid rule, with the share of its left mode and its log-normaliser."""
    x = np.linspace(-LIMIT, LIMIT, 1601)
    logs = np.stack([member.log_prob(x[:, None]) for member in members])
    geometric = np.exp(logs.mean(axis=0))
    mass = np.trapezoid(geometric, x)
    pool = {"density_pool": geometric / mass, "share_pool": np.trapezoid(geometric[:801], x[:801]) / mass, "normaliser_pool": np.log(mass)}
    return pool | {"line": x, "densities": np.exp(logs)}


def _corrected(key: PRNGKeyArray, members: list[et.GaussianMixture], particles: int, steps: int, resample_below: float) -> Data:
    """Particles of the averaged score with weights, once never resampled and once below a fraction."""
    field, grid = et.MeanField([PROCESS.score(member) for member in members]), quadratic_grid(PROCESS, steps)
    sampler, start = Sampler(PROCESS, field, EulerMaruyama(), grid), et.standard_normal(1)
    weighted, resampled = (FeynmanKac(sampler, below).sample(key, particles, start) for below in (0.0, resample_below))
    estimates, particle = _estimates(weighted, resampled), {"x": weighted.points[:, 0], "log_weights": weighted.log_weights}
    return estimates | particle | {"times": grid, "resample_below": resample_below}


@jax.jit
def _estimates(weighted: WeightedSample, resampled: WeightedSample) -> dict[str, Array]:
    """Shares of the left mode and log-normalisers, each with its standard error, and effective sample sizes as shares of the particles."""
    unweighted = WeightedSample(weighted.points, jnp.zeros_like(weighted.log_weights), weighted.effective_sizes)
    samples = {"weighted": weighted, "resampled": resampled}
    shares = {f"share_{name}": _pair(sample.expectation(_left)) for name, sample in (samples | {"uncorrected": unweighted}).items()}
    normalisers = {f"normaliser_{name}": _pair(sample.log_normaliser) for name, sample in samples.items()}
    sizes = {f"sizes_{name}": sample.effective_sizes / sample.effective_sizes[:1] for name, sample in samples.items()}
    return shares | normalisers | sizes


def _left(x: Float[Array, " 1"]) -> Float[Array, ""]:
    return jnp.where(x[0] < 0, 1.0, 0.0)


def _pair(estimate: Estimate) -> Float[Array, " 2"]:
    return jnp.stack([estimate.value, estimate.error])


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["iclr"], 4.2, rows=2, columns=3)
    for ax, name, rule in zip(panels, "abc", RULES, strict=False):
        letter(ax, name, TITLES[rule])
        _draw_points(ax, data, rule)
    _draw_densities(panels[3], data)
    _draw_sizes(panels[4], data)
    _draw_shares(panels[5], data)
    handles = [Line2D([], [], color=look.color, linestyle=look.linestyle, label=look.label) for look in LEGEND]
    picture.legend(handles=handles, loc="outside lower center", ncols=3)
    return picture


def _draw_points(ax: Axes, data: Data, rule: str) -> None:
    look, points, mode = LOOK[rule], data[rule][:SHOWN], float(data["mode"])
    ax.axhline(0, color=LOOKS["target"].color, linewidth=0.6, linestyle=":")
    ax.plot(points[:, 0], points[:, 1], marker=".", markersize=2, color=look.color, linestyle="none", alpha=0.6)
    for a, b in QUARTERS:
        ax.plot(a * mode, b * mode, marker="+", color=LOOKS["target"].color, markersize=5, linestyle="none")
    ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=(-2, 0, 2), yticks=(-2, 0, 2), aspect="equal")


def _draw_densities(ax: Axes, data: Data) -> None:
    letter(ax, "d", "densities on the line")
    for density in data["densities"]:
        curve(ax, data["line"], density, LOOKS["member"])
    edges = np.linspace(*BOX, 65)
    for look, log_weights in ((UNCORRECTED, np.zeros(data["x"].size)), (WEIGHTED, data["log_weights"])):
        heights, _ = np.histogram(data["x"], edges, weights=np.exp(log_weights), density=True)
        ax.stairs(heights, edges, color=look.color, linewidth=1.0)
    curve(ax, data["line"], data["density_pool"], LOOKS["log"]._replace(linestyle=DASHED))
    ax.set(xlim=BOX, ylim=(0, None), xlabel="$x$", ylabel="density")


def _draw_sizes(ax: Axes, data: Data) -> None:
    letter(ax, "e", "effective sample size")
    curve(ax, data["times"], data["sizes_weighted"].mean(axis=1), WEIGHTED)
    curve(ax, data["times"], data["sizes_resampled"][:, 0], RESAMPLED)
    ax.set(xlim=(1, 0), xlabel="time (data at 0)", ylabel="share of the particles")
    ax.set_xticks([1, 0.5, 0], labels=["1", "½", "0"])


def _draw_shares(ax: Axes, data: Data) -> None:
    letter(ax, "f", "share of the left mode")
    ax.axhline(float(data["share_pool"]), color=LOOKS["log"].color, linewidth=1.0, linestyle=DASHED)
    for at, (name, look) in enumerate((("uncorrected", UNCORRECTED), ("weighted", WEIGHTED), ("resampled", RESAMPLED))):
        value, error = data[f"share_{name}"]
        dots(ax, [at], [value], [2 * error], look)
    ax.set(xlim=(-0.5, 2.5))
    ax.set_xticks([0, 1, 2], labels=["no\nweights", "weights", "and re-\nsampling"])


# What the caption prints: exact values, of which what is simulated must not be further than its standard errors allow.
QUARTER, RATIOS = "0.25", {"and": "0.02", "average": "7.5"}
SHARE, NORMALISER, SIZE = "0.413", "-0.415", "0.90"
SIMULATED = {"share_uncorrected": "0.48"} | dict.fromkeys(["share_weighted", "share_resampled"], SHARE)
SIMULATED |= dict.fromkeys(["normaliser_weighted", "normaliser_resampled"], NORMALISER)

TEXT = r"""Superposed scores (a, b) and averaged scores with weights (d to f), all with exact scores; crosses are the modes of two members in the plane, mirror images of
each other.

(a) SuperDiff (or) routes paths by the log-densities it carries along: each of the four modes holds 0.25 of them, as in the linear pool. (b) SuperDiff (and) holds
$\log q_1-\log q_2$ where it began: its standard deviation is 0.02 nats, on the line of equal densities (dotted), which is not the log pool. (c) The averaged score samples
the log pool, since these members differ by a shift; there the standard deviation is 7.5 nats.

(d) Two members on the line of different widths (dotted): the averaged score gives the left mode the share 0.48, their log pool the share 0.413. Weights that fall at the rate
of the score diversity correct it. (e) The effective sample size falls to 0.90 of the particles; one batch is also shown that is resampled below 0.95. (f) The share of the
left mode with bars of two standard errors; the log of the mean weight agrees with $\log Z=-0.415$ likewise."""


def _caption(data: Data) -> Caption:
    quarters = [mean_number(f"or, share of mode {a, b}", (data["or"][:, 0] * a > 0) & (data["or"][:, 1] * b > 0), QUARTER) for a, b in QUARTERS]
    ratios = [Number(f"{rule}, standard deviation", *_deviation(data[f"ratio_{rule}"], text)) for rule, text in RATIOS.items()]
    exact = [Number("log pool, share", data["share_pool"].item(), SHARE), Number("log Z", data["normaliser_pool"].item(), NORMALISER)]
    simulated = [Number(name, data[name][0], text, data[name][1]) for name, text in SIMULATED.items()]
    return Caption(TEXT, (*quarters, *ratios, *exact, *simulated, mean_number("effective size", data["sizes_weighted"][-1], SIZE)))


def _deviation(values: np.ndarray, printed: str) -> tuple[float, str, float]:
    """The standard deviation of normal draws of mean zero, what is printed of it, and its standard error."""
    deviation = float(np.sqrt(np.mean(values**2)))
    return deviation, printed, deviation / (2 * values.size) ** 0.5


FIGURE = Figure(
    name="superdiff_fkc",
    title="Superposed scores, and averaged scores with weights",
    inputs={
        "seed": 0,
        "mode": 1.5,
        "deviation": 0.4,
        "points": 4096,
        "steps": 400,
        "weights": [[0.7, 0.3], [0.3, 0.7]],
        "means": [[-2.0, 2.0], [-1.0, 2.0]],
        "variances": [[0.1, 0.1], [1.5, 0.6]],
        "particles": 32768,
        "particle_steps": 400,
        "resample_below": 0.95,
    },
    quick_inputs={"points": 1024, "steps": 200, "particles": 4096, "particle_steps": 100},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Six panels. Top: points in the plane. SuperDiff or fills four modes, SuperDiff and lies on the horizontal line between them, the averaged score fills two modes on "
    "that line. Bottom: on the line, the histogram of the averaged score puts too much into its left mode, and with weights follows the density of the log pool; the "
    "effective sample size falls late, from 1 to 0.9, and jumps back where particles are resampled; the share of the left mode is too large without weights, right with them.",
    source='M. Skreta et al., "The superposition of diffusion models using the Ito density estimator", ICLR 2025, figure 2 (exact scores in place of networks, the '
    'variance-preserving process in place of its noise), and "Feynman-Kac correctors in diffusion", ICML 2025; derivations in ensembletheory.pooling',
)
