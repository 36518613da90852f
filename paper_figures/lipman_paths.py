r"""Diffusion against optimal-transport paths: Figures 2 and 3 of Lipman et al. (2023) with exact fields and trajectories.

Times are those of the paper, from noise (0) to data (1). For one data point x_1 the conditional flows are psi_t(z) = a_t x_1 + s_t z: on the OT path a line, along which the
velocity keeps its direction; on the diffusion path (VP), where a^2 + s^2 = 1, a quarter of the ellipse through z and x_1, which goes beyond x_1 where the two point alike.
Trajectories for a mixture follow the exact marginal velocity by Runge-Kutta, from the same starting points on both paths. A trajectory is straight when its length over the
distance of its ends is 1.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.plotting import LOOKS, WIDTHS, letter, new_figure
from ensembletheory.samplers import Rk4, Sampler, angle_grid, uniform_grid
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

CLOCKS = ("0", "1/3", "2/3", "1")  # the times at which fields are drawn
BOX = 2.6


def _compute(seed, point, sigma_min, last, corner, spread, draws, steps, arrows) -> Data:
    corners = corner * np.asarray([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    mixture = et.GaussianMixture(np.ones(4) / 4, corners, np.full((4, 2), spread**2))
    x = np.linspace(-0.88 * BOX, 0.88 * BOX, arrows)
    grid = np.stack(np.meshgrid(x, x), axis=-1).reshape(-1, 2)
    clocks = np.append(np.arange(3) / 3, 1.0)
    diffusion, transport = et.processes.VariancePreserving(), et.processes.OptimalTransportPath(sigma_min)
    atom = et.FiniteLaw([point], [1.0])
    found = _solved(jax.random.key(seed), diffusion, transport, atom, mixture, jnp.asarray(clocks), jnp.asarray(grid), last, draws, steps)
    return {"point": point, "corners": corners, "grid": grid, "draws": draws} | found


@partial(jax.jit, static_argnames=("last", "draws", "steps"))
def _solved(
    key: PRNGKeyArray,
    diffusion: et.processes.GaussianPath,
    transport: et.processes.GaussianPath,
    atom: et.FiniteLaw,
    mixture: et.GaussianMixture,
    clocks: Float[Array, " 4"],
    grid: Float[Array, "m 2"],
    last: float,
    draws: int,
    steps: int,
) -> dict[str, Array]:
    """Conditional fields at the clocks (4, m, 2), and conditional and marginal trajectories (draws, times, 2) of both paths."""
    times = {"diffusion": angle_grid(diffusion, steps, last), "transport": uniform_grid(transport, steps)}
    fields = {
        "diffusion field": _field(diffusion.score(atom), 1 - jnp.minimum(clocks, 1 - last), grid),
        "transport field": -_field(transport.velocity(atom), 1 - clocks, grid),
    }
    trajectories = {}
    for name, path in (("diffusion", diffusion), ("transport", transport)):
        marginal = Sampler(path, path.velocity(mixture), Rk4(), times[name]).paths(key, draws, et.standard_normal(2))
        conditional = jax.vmap(lambda t, path=path, start=marginal[:, 0]: path.a(t) * atom.points + jnp.sqrt(path.noise_variance(t)) * start)(times[name])
        trajectories |= {f"{name} marginal": marginal, f"{name} conditional": jnp.swapaxes(conditional, 0, 1), f"{name} times": times[name]}
    return fields | trajectories


def _field(field: et.Field, times: Float[Array, " 4"], grid: Float[Array, "m 2"]) -> Float[Array, "4 m 2"]:
    return jax.vmap(lambda t: jax.vmap(lambda x: field(t, x))(grid))(times)


def _excess(trajectories: np.ndarray) -> float:
    """The length of all trajectories over the distances of their ends, in total."""
    lengths = np.linalg.norm(np.diff(trajectories, axis=1), axis=2).sum(axis=1)
    return lengths.sum() / np.linalg.norm(trajectories[:, -1] - trajectories[:, 0], axis=1).sum()


def _overshoots(trajectories: np.ndarray) -> np.ndarray:
    """Whether a trajectory is ever further from its start than at its end."""
    distances = np.linalg.norm(trajectories - trajectories[:, :1], axis=2)
    return distances.max(axis=1) > (1 + 1e-9) * distances[:, -1]


def _turning(fields: np.ndarray) -> float:
    """The mean angle between the field's directions at the first and the last clock, in degrees."""
    directions = fields / np.linalg.norm(fields, axis=2, keepdims=True)
    return float(np.degrees(np.arccos(np.clip(np.sum(directions[0] * directions[-1], axis=1), -1, 1))).mean())


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["iclr"], 4.6, rows=3, columns=4)
    for row, (panel, name, title) in enumerate((("a", "diffusion", "score, diffusion"), ("b", "transport", "velocity, OT"))):
        letter(panels[4 * row], panel, title)
        for ax, clock, field in zip(panels[4 * row : 4 * row + 4], CLOCKS, data[f"{name} field"], strict=True):
            _draw_field(ax, data, field)
            ax.set_xlabel(f"$t={clock}$")
    trajectories = (("c", "conditional", "one point"), ("d", "marginal", "mixture"))
    for (panel, kind, title), pair in zip(trajectories, (panels[8:10], panels[10:12]), strict=True):
        for ax, name in zip(pair, ("diffusion", "transport"), strict=True):
            _draw_trajectories(ax, data, name, kind)
        letter(pair[0], panel, title)
    for ax in panels:
        ax.set(xlim=(-BOX, BOX), ylim=(-BOX, BOX), aspect="equal", xticks=[], yticks=[])
        ax.spines[["top", "right"]].set_visible(True)
    return picture


def _draw_field(ax: Axes, data: Data, field: np.ndarray) -> None:
    """Unit arrows, darker where the field is stronger within the panel."""
    strength = np.linalg.norm(field, axis=1)
    directions = field / strength[:, None]
    ax.quiver(*data["grid"].T, *directions.T, strength / strength.max(), cmap="cividis_r", clim=(-0.4, 1), pivot="mid", scale=14, width=0.011, headwidth=4.5)
    ax.plot(*data["point"], "o", color=LOOKS["target"].color, markersize=3)


def _draw_trajectories(ax: Axes, data: Data, name: str, kind: str) -> None:
    look = LOOKS[f"{name}_path"]
    for trajectory in data[f"{name} {kind}"][:SHOWN]:
        ax.plot(*trajectory.T, color=look.color, linewidth=0.8)
        ax.plot(*trajectory[0], "o", color=look.color, markersize=2, markerfacecolor="white", markeredgewidth=0.6)
    ends = data["point"][None] if kind == "conditional" else data["corners"]
    ax.plot(*ends.T, "o", color=LOOKS["target"].color, markersize=3, zorder=3)
    ax.set_xlabel("diffusion" if name == "diffusion" else "OT")


SHOWN = 14  # trajectories

TEXT = r"""Diffusion (VP) against optimal-transport paths in the plane, after Figures 2 and 3 of Lipman et al. (2023), with exact fields; times are the paper's, from noise
(0) to data (1; for the diffusion $10^{{-5}}$ less), and dots mark the data.

(a, b) Fields for one data point: arrows of unit length, darker where the field is stronger in its panel. Between the first and the last panel the score of the diffusion
turns by 33.5 degrees on average over the arrows, the velocity of the OT path by 0.0.

(c) Trajectories for one data point from {draws} starts ({shown} drawn). On the diffusion path their length is 1.125 times the distance of their ends (totals), and a share of
0.23 is at some time further from the start than at the end; on the OT path 1.000 times and 0.00.

(d) Trajectories for four Gaussians of standard deviation 0.25 from the same starts: 1.146 times on the diffusion path, 1.392 times on the OT path. What is straight for each
data point is not for all together: the OT path's law first contracts, the diffusion's keeps its variance near that of these data."""


def _caption(data: Data) -> Caption:
    numbers = [
        Number("turning of the score, diffusion", _turning(data["diffusion field"]), "33.5"),
        Number("turning of the velocity, OT", _turning(data["transport field"]), "0.0"),
    ]
    for name, printed in (("diffusion", ("1.125", "0.23", "1.146")), ("transport", ("1.000", "0.00", "1.392"))):
        alone, mixed = data[f"{name} conditional"], data[f"{name} marginal"]
        numbers += [
            Number(f"length over distance, one point, {name}", _excess(alone), printed[0]),
            Number(f"share that overshoots, one point, {name}", _overshoots(alone).mean(), printed[1]),
            Number(f"length over distance, mixture, {name}", _excess(mixed), printed[2]),
        ]
    return Caption(TEXT.format(draws=int(data["draws"]), shown=SHOWN), tuple(numbers))


FIGURE = Figure(
    name="lipman_paths",
    title="Diffusion and optimal-transport paths: fields and trajectories",
    inputs={
        "seed": 1,
        "point": [1.2, 0.8],
        "sigma_min": 0.01,
        "last": 1e-5,
        "corner": 1.4,
        "spread": 0.25,
        "draws": 256,
        "steps": 200,
        "arrows": 9,
    },
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three rows of four square panels. First: arrows of the conditional score of a diffusion, which point to the origin at time 0 and to the data point at time 1. "
    "Second: arrows of the velocity of the OT path, which point to the data point at all times. Third: trajectories to one data point, curved and overshooting for diffusion, "
    "straight for the OT path, then trajectories to four Gaussians, curved for both.",
    source="Lipman et al., Flow matching for generative modeling, ICLR 2023, Figures 2 and 3, with exact fields",
)
