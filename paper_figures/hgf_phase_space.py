r"""Hamiltonian generative flows in phase space, and what their velocity predictor says about the force (Holderrieth, Xu & Jaakkola 2024), all exact.

Data on the line: a mixture of two Gaussians. Three motions x' = v, v' = F(x) carry the law of (x_0, v_0): free motion with v_0 ~ N(0, 1) (a variance-exploding law), free
motion with v_0 = x_1 - x_0, x_1 ~ N(0, 1) (flow matching), and oscillation F = -x with v_0 ~ N(0, 1) over a quarter of a period. All are linear, so that densities on phase
space are mixtures of Gaussians, which give the velocity predictors u_t(x) = E[v_t | x_t = x].

The discrepancy E|u_t|^2 for forces F = -k (x - c), over t^2, tends to the loss of score matching E|F - score|^2 as t -> 0, and stays below E|S_t (F - score)|^2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.hamiltonian import VelocityPredictor, force_error, hamiltonian_score_discrepancy, smoothed_force_error, with_momenta
from ensembletheory.plotting import LOOKS, WIDTHS, letter, new_figure
from ensembletheory.processes import QuadraticHamiltonian, Reflection
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

MOTIONS = {"diffusion_path": "free motion", "transport_path": "flow matching", "oscillation": "oscillation"}
BOX = 3.2
LEVELS = (0.02, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the largest density


def _joint(motion: str, data: et.GaussianMixture) -> et.Gaussian | et.GaussianMixture:
    """The law of (x_0, p_0); velocities are -p in the time of the process."""
    if motion != "transport_path":
        return with_momenta(data)
    s = data.covs[:, 0, 0]
    covs = jnp.stack([jnp.stack([s, s], axis=1), jnp.stack([s, 1 + s], axis=1)], axis=1)
    return et.GaussianMixture(data.weights, jnp.concatenate([data.means, data.means], axis=1), covs)


def _force(motion: str) -> QuadraticHamiltonian:
    return QuadraticHamiltonian(1.0, 1.0 if motion == "oscillation" else 0.0, horizon=np.pi / 2 if motion == "oscillation" else 1.0)


@jax.jit
def _density(process: QuadraticHamiltonian, joint: et.GaussianMixture, t: Float[Array, ""], grid: Float[Array, "n 2"]) -> Float[Array, " n"]:
    """The density of (x_t, v_t)."""
    law = process.transition(t, 2).push(joint)
    return jnp.exp(jax.vmap(lambda z: law._log_prob(z * jnp.asarray([1.0, -1.0])))(grid))


@jax.jit
def _motions(process: QuadraticHamiltonian, joint: et.GaussianMixture, draws: Float[Array, "n 2"], times: Float[Array, " m"], x: Float[Array, " k"], t: Float[Array, ""]):
    """Paths (m, n, 2) of (x, v) from draws of (x_0, p_0), and the predictor at one time."""
    paths = jax.vmap(lambda s: draws @ process.transition(s, 2).A.T)(times) * jnp.asarray([1.0, -1.0])[None, None, :]
    predictor = VelocityPredictor(process, joint)
    return paths, jax.vmap(lambda y: predictor(t, y[None])[0])(x)


@jax.jit
def _discrepancies(force: QuadraticHamiltonian, data: et.GaussianMixture, times: Float[Array, " m"], x: Float[Array, " k"]):
    """E|u_t|^2 and its bound at the times, the loss of score matching, and u_t / t at points with what it tends to."""
    predictor = VelocityPredictor(force, with_momenta(data))
    found = jax.lax.map(lambda t: hamiltonian_score_discrepancy(predictor, t).value, times)
    loss = force_error(force, data).value
    bound = jax.vmap(lambda t: smoothed_force_error(force, data, t).value)(times)
    slopes = jax.vmap(lambda t: jax.vmap(lambda y: predictor(t, y[None])[0] / t)(x))(times)
    error = jax.vmap(lambda y: -force.stiffness[0, 0] * (y - force.mean[0]) - data._score(y[None])[0])(x)
    return found, bound, loss, slopes, error


@jax.jit
def _reflected(process: Reflection, data: et.GaussianMixture, times: Float[Array, " m"], x: Float[Array, " k"]) -> tuple[Float[Array, "m k"], Float[Array, "m k"]]:
    density = jax.vmap(lambda t: jnp.exp(process.log_prob(data, t, x[:, None])))(times)
    return density, jax.vmap(lambda t: jax.vmap(lambda y: process.velocity(data)(t, y[None])[0])(x))(times)


def _compute(seed, weights, means, variances, late, draws, nodes, path_nodes, stiffness, centre, times, early, wall, walls_at) -> Data:
    data = et.GaussianMixture(weights, np.asarray(means)[:, None], np.asarray(variances)[:, None])
    line = np.linspace(-BOX, BOX, nodes)
    grid = jnp.asarray(np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2))
    found: Data = {"line": line, "late": late, "centre": centre, "early": early}
    for motion in MOTIONS:
        process, joint = _force(motion), _joint(motion, data)
        horizon = float(process.horizon)
        start = joint.sample(jax.random.key(seed), draws)
        paths, predicted = _motions(process, joint, start, jnp.linspace(0.0, horizon, path_nodes), jnp.asarray(line), jnp.asarray(late * horizon))
        density = _density(process, joint, jnp.asarray(late * horizon), grid).reshape(nodes, nodes)
        covariance = (np.asarray(process.flow(-horizon)) @ np.asarray(joint.cov))[0, 0]
        found |= {f"{motion} paths": paths, f"{motion} predictor": predicted, f"{motion} density": density, f"{motion} covariance": covariance}
    clock, x = jnp.asarray(np.geomspace(*times)), jnp.asarray(np.linspace(-1.5, 1.5, 61))
    power, bound, loss, slopes, error = _discrepancies(QuadraticHamiltonian(1.0, stiffness, [centre], horizon=2.0), data, clock, x)
    box = Reflection(wall)
    inside = jnp.linspace(-wall, wall, nodes)
    density, velocity = _reflected(box, data, jnp.asarray(walls_at), inside)
    found |= {"times": clock, "discrepancy": power, "bound": bound, "loss": loss, "slopes": slopes, "error": error, "x": x}
    return found | {"inside": inside, "walls at": walls_at, "reflected density": density, "reflected velocity": velocity}


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["iclr"], 3.9, rows=2, columns=3)
    for ax, panel, motion in zip(panels, "abc", MOTIONS, strict=False):
        _draw_phase_space(ax, data, motion)
        letter(ax, panel, MOTIONS[motion])
    _draw_discrepancy(panels[3], data)
    _draw_error(panels[4], data)
    _draw_walls(panels[5], data)
    return picture


def _draw_phase_space(ax: Axes, data: Data, motion: str) -> None:
    look = LOOKS[motion]
    density = data[f"{motion} density"]
    ax.contourf(data["line"], data["line"], density / density.max(), levels=LEVELS, cmap="Greys", vmin=0.0, vmax=1.6)
    for path in np.swapaxes(data[f"{motion} paths"], 0, 1)[:SHOWN]:
        ax.plot(*path.T, color=look.color, linewidth=0.6)
        ax.plot(*path[0], "o", color=look.color, markersize=2, markerfacecolor="white", markeredgewidth=0.6)
        ax.plot(*path[-1], "o", color=look.color, markersize=2)
    ax.plot(data["line"], data[f"{motion} predictor"], color="black", linewidth=1.2)
    ax.set(xlim=(-BOX, BOX), ylim=(-BOX, BOX), xlabel="$x$", ylabel="$v$", aspect="equal")


def _draw_discrepancy(ax: Axes, data: Data) -> None:
    letter(ax, "d", "discrepancy by time")
    t = data["times"]
    ax.plot(t, data["discrepancy"], color=LOOKS["score_loss"].color, label=r"$E|u_t|^2$")
    ax.plot(t, data["bound"], color="black", linestyle=":", label="bound")
    ax.plot(t, data["loss"] * t**2, color="black", linewidth=0.6, label=r"$t^2 E|F-\nabla\log p|^2$")
    ax.set(xscale="log", yscale="log", xlabel="$t$")
    ax.legend(loc="lower right")


def _draw_error(ax: Axes, data: Data) -> None:
    letter(ax, "e", "predictor over time")
    shades = np.linspace(0.75, 0.25, len(AT))
    for shade, at in zip(shades, AT, strict=True):
        i = _nearest(data["times"], at)
        ax.plot(data["x"], data["slopes"][i], color=str(shade), label=f"$t={data['times'][i]:.2g}$")
    ax.plot(data["x"], data["error"], color=LOOKS["score_loss"].color, linestyle="--", label=r"$F-\nabla\log p$")
    ax.set(xlabel="$x$", ylabel="$u_t(x)/t$")
    ax.legend(loc="upper right", fontsize=6)


def _draw_walls(ax: Axes, data: Data) -> None:
    letter(ax, "f", "between walls")
    for shade, t, density in zip(np.linspace(0.75, 0.0, len(data["walls at"])), data["walls at"], data["reflected density"], strict=True):
        ax.plot(data["inside"], density, color=str(shade), label=f"$t={t:g}$")
    ax.set(xlabel="$x$", ylabel="density", ylim=(0, 0.8))
    ax.legend(loc="upper center", ncols=2, fontsize=6)


SHOWN = 16  # paths
AT = (0.5, 0.2, 0.05)  # times of panel e

TEXT = r"""Hamiltonian generative flows of two Gaussians on the line, exactly.

(a-c) Paths in phase space from data (open dots) to the end, the exact density of $(x_t, v_t)$ at {late:g} of the horizon (grey), and the velocity predictor
$u_t(x) = E[v_t | x_t = x]$ there (black). Free motion with $v_0 \sim N(0, 1)$ spreads the data; flow matching has a velocity that depends on them; oscillation turns phase
space, so that after a quarter of a period $x$ is the velocity of the start, whatever the data. The covariance of first and last position is 1.2936 for free motion, 0.0000 for
flow matching and 0.0000 for oscillation.

(d) The discrepancy $E|u_t|^2$ for the force $F = -(x - c)$, $c={centre:g}$. Over $t^2$ it tends to the loss of score matching 7.3075: it is 0.9964 of it at
$t={early:g}$, and its slope at the left end is 2.00. (e) $u_t / t$ is the error $F - \nabla \log p$ of the force, smoothed by the motion: on the segment drawn they are apart
by at most 6.521, 3.053 and 0.300 at the times drawn, which fall.

(f) Reflection between walls tends to the uniform law: at $t={end:g}$ the density is within 0.053 of it, relatively."""


def _nearest(grid: np.ndarray, value: float) -> int:
    return int(np.argmin(np.abs(grid - value)))


def _caption(data: Data) -> Caption:
    t, power, early = data["times"], data["discrepancy"], _nearest(data["times"], data["early"])
    covariances = {"diffusion_path": "1.2936", "transport_path": "0.0000", "oscillation": "0.0000"}
    apart = {0.5: "6.521", 0.2: "3.053", 0.05: "0.300"}
    numbers = [
        *(Number(f"covariance of the ends, {motion}", data[f"{motion} covariance"], text) for motion, text in covariances.items()),
        Number("loss of score matching", data["loss"], "7.3075"),
        Number("discrepancy over its limit", power[early] / t[early] ** 2 / data["loss"], "0.9964"),
        Number("slope of the discrepancy", np.log(power[1] / power[0]) / np.log(t[1] / t[0]), "2.00"),
        *(Number(f"predictor and error apart, t = {at:g}", np.max(np.abs(data["slopes"][_nearest(t, at)] - data["error"])), text) for at, text in apart.items()),
        Number("unevenness", np.max(np.abs(data["reflected density"][-1] * 2 * data["inside"][-1] - 1)), "0.053"),
    ]
    return Caption(TEXT.format(late=float(data["late"]), centre=float(data["centre"]), early=float(data["early"]), end=float(data["walls at"][-1])), tuple(numbers))


FIGURE = Figure(
    name="hgf_phase_space",
    title="Hamiltonian generative flows in phase space",
    inputs={
        "seed": 3,
        "weights": [0.4, 0.6],
        "means": [-1.2, 1.0],
        "variances": [0.09, 0.16],
        "late": 0.5,
        "draws": 64,
        "nodes": 161,
        "path_nodes": 81,
        "stiffness": 1.0,
        "centre": 0.3,
        "times": [0.002, 2.0, 31],
        "early": 0.02,
        "wall": 2.0,
        "walls_at": [0.1, 0.5, 1.0, 2.0],
    },
    quick_inputs={"nodes": 61, "path_nodes": 21, "times": [0.002, 2.0, 16]},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Six panels. The first three show paths in phase space for two clusters of data: horizontal lines for free motion, longer ones that swap sides for flow matching, and "
    "arcs of circles for oscillation, with grey contours of the density half-way and an S-shaped curve of the mean velocity at each position. Fourth: the discrepancy grows "
    "as the square of time, below its bound, and falls from 0.4 on. Fifth: the mean velocity over time approaches the error of the force as time falls. Sixth: the density "
    "between walls flattens in time.",
    source="Holderrieth, Xu & Jaakkola, Hamiltonian score matching and generative flows, NeurIPS 2024; exact forms derived in ensembletheory.hamiltonian.velocity_predictor",
    claims=("velocity-predictor-smooths-score-error", "hamiltonian-score-discrepancy-bound"),
)
