r"""The chain of pools: from two centred Gaussian members every rule makes a law of its own variance, ordered between the harmonic and the arithmetic mean.

For members N(0, S_1), N(0, S_2) with equal weights the log pool has the harmonic mean H of the variances, the sampler with averaged scores and churn eta something
between H (eta -> infinity) and the geometric mean G (eta = 0, the probability flow, and averaged velocities of a flow), the reverse SDE (eta = 1) G^2 / L with L the
logarithmic mean, the W2 barycenter ((sqrt(S_1) + sqrt(S_2)) / 2)^2, and the linear pool, a mixture, the arithmetic mean A. Which rule is closest to a target
depends on the target: each Gaussian pool is exact for the target of its own variance.

In finitely many steps a sampler of the averaged score has another law, exact too. In the plane, with covariances that do not commute, both sampled covariances dominate the
log pool's in Loewner order; that of the flow need not dominate that of the SDE, though its determinant is larger.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy import linalg

import ensembletheory as et
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.samplers import EulerMaruyama, Sampler, padded
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

RULES = ("log", "churn", "mean_score_sde", "mean_score_ode", "barycenter", "linear", "average")


PLANE = ("linear", "barycenter", "mean_score_ode", "mean_score_sde", "log")
PROCESS = et.processes.VariancePreserving()


def _compute(
    variances: list[float],
    churns: list[float],
    drawn_churn: float,
    targets: list[float],
    steps: list[int],
    axes: list[list[float]],
    angle: float,
    churn_points: int,
    target_points: int,
) -> Data:
    shares = np.union1d(np.linspace(0.0, 1.0, churn_points), np.asarray(churns) / (1 + np.asarray(churns)))[:-1]  # eta / (1 + eta); 1 is the log pool
    etas, s = shares / (1 - shares), np.union1d(np.geomspace(0.15, 6.0, target_points), targets)
    mixture = et.linear_pool(_members(variances))
    mixture_kls = [float(et.kl(et.Gaussian([0.0], [target]), mixture)) for target in s]
    data = {"etas": etas, "targets": s, "drawn_churn": drawn_churn, "kl_linear": mixture_kls} | _gaussian_results(variances, drawn_churn, etas, s)
    grids = jnp.stack([padded(np.linspace(1.0, 0.0, n + 1), max(steps) + 1) for n in steps])
    levels = {"mean_score_ode": 0.0, "mean_score_sde": 1.0, "churn": drawn_churn}
    stepped = {f"stepped_{name}": _in_steps(jnp.asarray(churn), variances, grids) for name, churn in levels.items()}
    members = np.stack([np.diag(axes[0]), _turned(angle) @ np.diag(axes[1]) @ _turned(angle).T])
    plane = {f"plane_{rule}": cov for rule, cov in _plane(jnp.asarray(members)).items()}
    return data | {"steps": steps, "plane_members": members} | stepped | plane


@jax.jit
def _in_steps(churn: Float[Array, ""], variances: list[float], grids: Float[Array, "g n"]) -> Float[Array, " g"]:
    """The variances of what Euler-Maruyama samples with the mean of the members' scores, by grid."""
    field = et.MeanField([PROCESS.score(member) for member in _members(variances)])
    return jax.lax.map(lambda grid: Sampler(PROCESS, field, EulerMaruyama(churn), grid).law(et.standard_normal(1)).cov[0, 0], grids)


def _turned(degrees: float) -> Float[np.ndarray, "2 2"]:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]])


@jax.jit
def _plane(covs: Float[Array, "2 2 2"]) -> dict[str, Float[Array, "2 2"]]:
    """The covariances of all pools of two centred members in the plane."""
    members = [et.Gaussian(jnp.zeros(2), cov) for cov in covs]
    sampled = {f"mean_score_{reverse}": et.mean_score_law(members, PROCESS, reverse, horizon=jnp.inf).cov for reverse in ("sde", "ode")}
    return sampled | {"log": et.log_pool(members).cov, "barycenter": et.w2_barycenter(members).cov, "linear": jnp.mean(covs, axis=0)}


def _members(variances: list[float]) -> list[et.Gaussian]:
    return [et.Gaussian([0.0], jnp.asarray([variance])) for variance in variances]


@jax.jit
def _gaussian_results(variances: list[float], drawn_churn: float, etas: Float[Array, " n"], targets: Float[Array, " m"]) -> dict[str, Array]:
    """Variances of all pools, and divergences from N(0, s) of those that are Gaussian: one compiled program of the public functions."""
    members, vp = _members(variances), PROCESS

    def churned(eta):
        return et.mean_score_law(members, vp, churn=eta, horizon=jnp.inf)

    pools = {
        "log": et.log_pool(members),
        "churn": churned(drawn_churn),
        "mean_score_sde": et.mean_score_law(members, vp, "sde", horizon=jnp.inf),
        "mean_score_ode": et.mean_score_law(members, vp, "ode", horizon=jnp.inf),
        "velocity": et.mean_velocity_law(members, et.processes.LinearInterpolant()),
        "barycenter": et.w2_barycenter(members),
    }
    levels = {f"variance_{rule}": law.cov[0, 0] for rule, law in (pools | {"linear": et.linear_pool(members)}).items()}
    kls = {f"kl_{rule}": _kls(targets, law) for rule, law in pools.items()}
    average = jnp.mean(jnp.stack([_kls(targets, member) for member in members]), axis=0)
    return levels | kls | {"kl_average": average, "churned": jax.vmap(lambda eta: churned(eta).cov[0, 0])(etas)}


def _kls(targets: Float[Array, " m"], law: et.Gaussian) -> Float[Array, " m"]:
    return jax.vmap(lambda s: et.kl(et.Gaussian([0.0], s[None]), law).value)(targets)


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["icml_page"], 4.3, rows=2, columns=3)
    for draw, ax in zip((_draw_chain, _draw_distances, _draw_steps, _draw_plane, _draw_directions), panels, strict=False):
        draw(ax, data)
    panels[-1].axis("off")
    (member, *_), (label, *_) = panels[3].get_legend_handles_labels()
    handles, labels = panels[1].get_legend_handles_labels()
    panels[-1].legend([*handles, member], [*labels, label], loc="center")
    return picture


def _draw_chain(ax: Axes, data: Data) -> None:
    letter(ax, "a", "variance of the pooled law")
    shares = data["etas"] / (1 + data["etas"])
    curve(ax, np.append(shares, 1.0), np.append(data["churned"], data["variance_log"]), LOOKS["churn"])
    for rule, text in (("linear", "linear pool"), ("barycenter", r"$W_2$ barycenter")):
        level = data[f"variance_{rule}"]
        curve(ax, [0.0, 1.0], [level, level], LOOKS[rule])
        write_beside(ax, 1.0, float(level), text, LOOKS[rule], (0, 5), "right")
    for rule, at, text, offset in (("mean_score_ode", 0.0, "ODE", (5, 6)), ("mean_score_sde", 0.5, "SDE", (5, 5)), ("log", 1.0, "log pool", (-4, 8))):
        look, level = LOOKS[rule], float(data[f"variance_{rule}"])
        ax.plot(at, level, marker=look.marker, color=look.color, markersize=6, linestyle="none", clip_on=False, zorder=4)
        write_beside(ax, at, level, text, look, offset, "right" if at == 1 else "left")
    ax.set(xlabel=r"churn $\eta$ of the mean-score sampler", ylabel="variance", xlim=(0, 1), ylim=(0, 2.35))
    ax.set_xticks([0, 1 / 3, 1 / 2, 2 / 3, 4 / 5, 1], labels=["0", "½", "1", "2", "4", "∞"])


def _draw_distances(ax: Axes, data: Data) -> None:
    letter(ax, "b", "divergence from N(0, $s$)")
    for rule in RULES:
        label = rf"mean score, $\eta={data['drawn_churn']:g}$" if rule == "churn" else LOOKS[rule].label
        curve(ax, data["targets"], data[f"kl_{rule}"], LOOKS[rule]._replace(label=label))
    ax.set(xscale="log", xlabel="target variance $s$", ylabel="KL(target || pool), nats", xlim=(0.15, 6), ylim=(0, 0.6))
    ax.set_xticks([0.2, 0.5, 1, 2, 5], labels=["0.2", "0.5", "1", "2", "5"])
    ax.minorticks_off()


def _draw_steps(ax: Axes, data: Data) -> None:
    letter(ax, "c", "finitely many steps")
    for name in ("mean_score_ode", "mean_score_sde", "churn"):
        ax.axhline(float(data[f"variance_{name}"]), color=LOOKS[name].color, linewidth=0.6)
        curve(ax, data["steps"], data[f"stepped_{name}"], LOOKS[name], markers=True)
    ax.set(xscale="log", xlabel="steps", ylabel="variance", ylim=(0, 1.25))
    ax.set_xticks([10, 100, 1000] if data["steps"][0] < 20 else [20, 50, 100, 200])
    ax.set_xticklabels([f"{tick:g}" for tick in ax.get_xticks()])
    ax.minorticks_off()


def _draw_plane(ax: Axes, data: Data) -> None:
    letter(ax, "d", "covariances in the plane")
    turn = np.linspace(0, 2 * np.pi, 181)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    for cov, look in [*((cov, LOOKS["member"]) for cov in data["plane_members"]), *((data[f"plane_{rule}"], LOOKS[rule]) for rule in PLANE)]:
        x, y = np.linalg.cholesky(cov) @ circle
        curve(ax, x, y, look)
    ax.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$", xlim=(-3.4, 3.4), ylim=(-2.2, 2.2))


def _draw_directions(ax: Axes, data: Data) -> None:
    letter(ax, "e", "variance / SDE's, by direction")
    turn = np.linspace(0, np.pi, 361)
    along = np.stack([np.cos(turn), np.sin(turn)])
    base = _along(data["plane_mean_score_sde"], along)
    ax.axhline(1.0, color=LOOKS["mean_score_sde"].color, linewidth=0.8)
    for rule in PLANE:
        if rule != "mean_score_sde":
            curve(ax, np.rad2deg(turn), _along(data[f"plane_{rule}"], along) / base, LOOKS[rule])
    ax.set(yscale="log", xlabel="angle of the direction, degrees", xlim=(0, 180), xticks=[0, 45, 90, 135, 180])


def _along(cov: np.ndarray, along: np.ndarray) -> np.ndarray:
    return np.einsum("in,ij,jn->n", along, cov, along)


def _lowest(cov: np.ndarray, other: np.ndarray) -> float:
    """The smallest ratio of variances over all directions."""
    return float(linalg.eigh(cov, other, eigvals_only=True)[0])


# What the caption prints: the variance by churn and by rule, and by target variance the divergence of each rule.
CHURNED = {4.0: "0.493873", 2.0: "0.563200", 1.0: "0.739357", 0.5: "0.904690", 0.0: "1.000000"}
VARIANCES = {"log": "0.470588", "mean_score_sde": "0.739357", "mean_score_ode": "1.000000", "velocity": "1.000000", "barycenter": "1.5625", "linear": "2.125"}
DIVERGENCES = {
    8 / 17: {"average": "0.37689", "linear": "0.19576", "barycenter": "0.25062", "mean_score_ode": "0.11218", "mean_score_sde": "0.04414", "log": "0.00000"},
    1.0: {"average": "0.56250", "linear": "0.12557", "barycenter": "0.04314", "mean_score_ode": "0.00000", "mean_score_sde": "0.02528", "log": "0.18561"},
    2.125: {"average": "1.38093", "linear": "0.11838", "barycenter": "0.02626", "mean_score_ode": "0.18561", "mean_score_sde": "0.40919", "log": "1.00404"},
}

STEPPED = {"mean_score_ode": "0.9998", "mean_score_sde": "0.7487", "churn": "0.5803"}  # of 100 steps
LOWEST = {  # ratio of variances over directions
    ("mean_score_sde", "log"): "1.108",
    ("mean_score_ode", "log"): "1.114",
    ("mean_score_ode", "mean_score_sde"): "0.893",
    ("barycenter", "mean_score_ode"): "0.592",
}
DETERMINANTS = {"mean_score_sde": "0.451", "mean_score_ode": "0.775"}

TEXT = r"""Pools of two members $N(0, 1/4)$ and $N(0, 4)$ with equal weights.

(a) Variances, from the harmonic to the arithmetic mean: 0.470588 for the log pool; 0.493873, 0.563200, 0.739357, 0.904690 and 1.000000 for the averaged score sampled
with churn $\eta=4, 2, 1, 1/2$ and 0 ($\eta=1$ is the reverse SDE, $\eta=0$ the probability flow, whose law averaged velocities sample too, and $\eta\to\infty$ gives the
log pool); 1.5625 for the $W_2$ barycenter; 2.125 for the linear pool.

(b) Divergence from targets $N(0,s)$; there is no universal order. In the order member average, linear pool, $W_2$ barycenter, ODE, SDE, log pool: 0.37689, 0.19576,
0.25062, 0.11218, 0.04414 and 0.00000 for $s=8/17$; 0.56250, 0.12557, 0.04314, 0.00000, 0.02528 and 0.18561 for $s=1$; 1.38093, 0.11838, 0.02626, 0.18561, 0.40919 and
1.00404 for $s=17/8$.

(c) Variances sampled by Euler-Maruyama in finitely many uniform steps on a VP diffusion, exactly, and their limits (lines): of 100 steps 0.9998 for $\eta=0$, 0.7487 for
$\eta=1$ and 0.5803 for $\eta=2$.

(d) Two centred members in the plane whose covariances do not commute: variances 10.0 and 0.4 along the axes, and 0.03 and 5.0 along the axes turned by 60.0 degrees. (e)
Variances in all directions, relative to that of the SDE. Both sampled covariances dominate the log pool's in Loewner order, the smallest ratios being 1.108 for the SDE
and 1.114 for the ODE. That of the ODE, which has the larger determinant, 0.775 against 0.451, does not dominate that of the SDE: the smallest ratio is 0.893. Nor does
that of the $W_2$ barycenter dominate that of the ODE: 0.592."""


def _caption(data: Data) -> Caption:
    churned = [Number(rf"variance, $\eta={eta:g}$", data["churned"][_at(data["etas"], eta)], text) for eta, text in CHURNED.items()]
    variances = [Number(f"variance, {rule}", data[f"variance_{rule}"].item(), text) for rule, text in VARIANCES.items()]
    divergences = [Number(f"KL, {rule}, $s={s:.5g}$", data[f"kl_{rule}"][_at(data["targets"], s)], text) for s, row in DIVERGENCES.items() for rule, text in row.items()]
    stepped = [Number(f"variance of 100 steps, {name}", data[f"stepped_{name}"][_at(data["steps"], 100)], text) for name, text in STEPPED.items()]
    lowest = [Number(f"smallest ratio, {one} / {other}", _lowest(data[f"plane_{one}"], data[f"plane_{other}"]), text) for (one, other), text in LOWEST.items()]
    determinants = [Number(f"determinant, {rule}", np.linalg.det(data[f"plane_{rule}"]), text) for rule, text in DETERMINANTS.items()]
    return Caption(TEXT, (*churned, *variances, *divergences, *stepped, *lowest, *determinants))


def _at(grid: np.ndarray, value: float) -> int:
    """The index of the grid point nearest to `value`."""
    return int(np.argmin(np.abs(grid - value)))


FIGURE = Figure(
    name="pool_chain",
    title="The chain of pools, from the harmonic to the arithmetic mean",
    inputs={
        "variances": [0.25, 4.0],
        "churns": [0.0, 0.5, 1.0, 2.0, 4.0],
        "drawn_churn": 2.0,
        "targets": [8 / 17, 1.0, 2.125],
        "steps": [10, 20, 50, 100, 200, 500, 1000],
        "axes": [[10.0, 0.4], [0.03, 5.0]],
        "angle": 60.0,
        "churn_points": 61,
        "target_points": 121,
    },
    quick_inputs={"steps": [20, 50, 100, 200], "churn_points": 31, "target_points": 41},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Five panels. First: the variance of the law sampled from averaged scores falls with the churn from 1, the geometric mean, through 0.74 for the reverse SDE "
    "to 0.47, the log pool; the W2 barycenter and the linear pool lie above at 1.56 and 2.1. Second: divergence of each pool from a centred Gaussian target "
    "against its variance; each Gaussian pool touches zero at its own variance, and the curves cross, so that no pool is best for all targets. Third: variances "
    "of discretised samplers tend to their limits as the steps grow in number. Fourth: ellipses of two members and of their pools in the plane. Fifth: their "
    "variances by direction relative to that of the SDE; the log pool's is below everywhere, that of the ODE falls below between 74 and 105 degrees.",
    source="theorem on averaged scores and the chain of means, derived in ensembletheory.pooling; setting of Razafindralambo et al., "
    '"When are two scores better than one?", TMLR 2026',
    claims=(
        "log-pool-kl",
        "linear-pool-kl",
        "mean-score-kl-average",
        "mean-score-beats-best",
        "barycenter-kl",
        "mean-score-dominates-log-pool-covariance",
        "ode-dominates-sde-covariance",
    ),
)
