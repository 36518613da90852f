r"""Error against the number of evaluations of the field (NFE), by solver and by path: Figure 7 (left) of Lipman et al. (2023) with exact fields.

The data are a checkerboard-like mixture: one narrow Gaussian on every dark cell of a 4 x 4 board. Each solver runs with the exact velocity of a path on uniform grids of its
time; the error is the root mean squared distance from a fine Runge-Kutta solution that begins at the same points. A step of Euler costs one evaluation, of the midpoint method
and of Heun's two, of Runge-Kutta's four. For Gaussian data on the line the law of every solver is exact: no draws are needed.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure
from ensembletheory.samplers import Euler, Heun, Midpoint, Rk4, Sampler, Scheme, padded, uniform_grid
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

SOLVERS: dict[str, tuple[Scheme, int]] = {"euler": (Euler(), 1), "midpoint": (Midpoint(), 2), "heun": (Heun(), 2), "rk4": (Rk4(), 4)}  # and evaluations a step
PATHS = {"diffusion": "diffusion path (VP)", "transport": "OT path"}


def _compute(seed, cell, spread, draws, budgets, fine, level, std, gaussian_steps) -> Data:
    board = _checkerboard(cell, spread)
    paths = {"diffusion": et.processes.VariancePreserving(), "transport": et.processes.LinearInterpolant()}
    grids = {solver: _grids([budget // cost for budget in budgets]) for solver, (_, cost) in SOLVERS.items()}
    data = {"budgets": budgets, "fine": fine, "level": level, "std": std, "gaussian_steps": gaussian_steps}
    for name, path in paths.items():
        data |= _errors(jax.random.key(seed), path, board, grids, draws, fine, name)
    return data | _gaussian_stds(jnp.asarray(std), _grids(gaussian_steps))


def _checkerboard(cell: float, spread: float) -> et.GaussianMixture:
    """Equal weights on the dark cells of a 4 x 4 board around the origin."""
    cells = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    return et.GaussianMixture(np.ones(8) / 8, cell * (np.asarray(cells) - 1.5), np.full((8, 2), spread**2))


def _grids(steps: list[int]) -> Float[np.ndarray, "grids times"]:
    """Uniform grids, lengthened by steps of length zero so that all share one program."""
    return np.stack([padded(np.linspace(1.0, 0.0, n + 1), max(steps) + 1) for n in steps])


@partial(jax.jit, static_argnames=("n", "fine", "name"))
def _errors(key: PRNGKeyArray, path: et.processes.Process, law: et.GaussianMixture, grids: dict[str, Array], n: int, fine: int, name: str) -> dict[str, Array]:
    """Root mean squared distances from the fine solution, by solver and grid, and that solution."""
    start, velocity = et.standard_normal(law.dim), path.velocity(law)

    def ends(scheme: Scheme, grid: Float[Array, " times"]) -> Float[Array, "n 2"]:
        return Sampler(path, velocity, scheme, grid).sample(key, n, start)

    exact = ends(Rk4(), uniform_grid(path, fine))

    def error(scheme: Scheme, grid: Float[Array, " times"]) -> Float[Array, ""]:
        return jnp.sqrt(jnp.mean(jnp.sum((ends(scheme, grid) - exact) ** 2, axis=1)))

    errors = {f"{name} {solver}": jax.lax.map(partial(error, scheme), grids[solver]) for solver, (scheme, _) in SOLVERS.items()}
    return errors | {f"{name} exact": exact}


@jax.jit
def _gaussian_stds(std: Float[Array, ""], grids: Float[Array, "grids times"]) -> dict[str, Array]:
    """Standard deviations of what each solver makes of N(0, 1) along the linear path from N(0, std^2), by grid."""
    path = et.processes.LinearInterpolant()
    velocity = path.velocity(et.Gaussian(jnp.zeros(1), std[None] ** 2))

    def final(scheme: Scheme, grid: Float[Array, " times"]) -> Float[Array, ""]:
        return jnp.sqrt(Sampler(path, velocity, scheme, grid).law(et.standard_normal(1)).cov[0, 0])

    return {f"gaussian {solver}": jax.lax.map(partial(final, scheme), grids) for solver, (scheme, _) in SOLVERS.items()}


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["iclr"], 2.6, columns=3)
    for ax, panel, (name, title) in zip(panels, "ab", PATHS.items(), strict=False):
        letter(ax, panel, title)
        for solver in SOLVERS:
            curve(ax, data["budgets"], data[f"{name} {solver}"], LOOKS[solver], markers=True)
        ax.axhline(data["level"], color=LOOKS["target"].color, linewidth=0.6)
        ax.set(ylabel="RMSE" if panel == "a" else None, xlim=(3.5, 92), ylim=(4e-5, 0.7))
        _log_axes(ax, [4, 10, 20, 40, 80])
    _draw_gaussian(panels[2], data)
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return picture


def _draw_gaussian(ax: Axes, data: Data) -> None:
    letter(ax, "c", "Gaussian, OT path")
    for solver, (_, cost) in SOLVERS.items():
        curve(ax, cost * data["gaussian_steps"], np.abs(data[f"gaussian {solver}"] - data["std"]), LOOKS[solver], markers=True)
    ax.set(ylabel="error of the standard deviation", ylim=(1e-8, 5))
    _log_axes(ax, [1, 4, 16, 64])


def _log_axes(ax: Axes, ticks: list[int]) -> None:
    ax.set(xscale="log", yscale="log", xlabel="NFE")
    ax.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    ax.minorticks_off()


def _needed(data: Data, name: str, solver: str) -> float:
    """The NFE from which on the error stays at the level or below, on straight lines in the logarithms."""
    log_nfe, log_error = np.log(data["budgets"]), np.log(data[f"{name} {solver}"] / data["level"])
    last = int(np.flatnonzero(log_error > 0)[-1])
    if last == len(log_error) - 1:
        return np.inf
    share = log_error[last] / (log_error[last] - log_error[last + 1])
    return float(np.exp(log_nfe[last] + share * (log_nfe[last + 1] - log_nfe[last])))


# What the caption prints: NFE needed by path and solver, and standard deviations after 1, 2, 4 and 8 steps.
NEEDED = {
    "diffusion": {"euler": "29", "midpoint": "20", "heun": "25", "rk4": "20"},
    "transport": {"euler": "61", "midpoint": "8.3", "heun": "12", "rk4": "11"},
}
SHARES = {"midpoint": "0.41", "heun": "0.47", "rk4": "0.54"}
STANDARD_DEVIATIONS = {
    "euler": ("0.00000000", "0.80000000", "1.36216216", "1.65913822"),
    "midpoint": ("1.60000000", "1.97754678", "1.99316486", "1.99910580"),
    "heun": ("0.50000000", "1.53000000", "1.90972327", "1.98085011"),
    "rk4": ("1.98000000", "2.00869504", "1.99917691", "1.99997453"),
}

TEXT = r"""Solvers with exact fields, after Figure 7 (left) of Lipman et al. (2023), whose fields are networks trained on images. Data: eight Gaussians of standard deviation
0.2 on the dark cells, of side 1.0, of a checkerboard.

(a, b) Root mean squared distance from a Runge-Kutta solution of {fine} steps that begins at the same {draws} points, drawn from N(0, I), on uniform grids of time. An error of
0.05 (line) takes 20, 25 and 20 evaluations of the field on the diffusion path and 8.3, 12 and 11 on the OT path with the midpoint method, Heun's and Runge-Kutta's: shares
of 0.41, 0.47 and 0.54 (other points change them by some hundredths). Euler's method does not gain: 29 and 61 (up to 35 and 74 from other points).

(c) Data $N(0, 4)$ on the line, where the law of every solver is exact: standard deviations after 1, 2, 4 and 8 steps are 0.00000000, 0.80000000, 1.36216216 and 1.65913822
(Euler), 1.60000000, 1.97754678, 1.99316486 and 1.99910580 (midpoint), 0.50000000, 1.53000000, 1.90972327 and 1.98085011 (Heun), 1.98000000, 2.00869504, 1.99917691 and
1.99997453 (Runge-Kutta), instead of 2."""


def _caption(data: Data) -> Caption:
    needed = {(name, solver): _needed(data, name, solver) for name in PATHS for solver in SOLVERS}
    numbers = [Number(f"NFE, {name}, {solver}", nfe, NEEDED[name][solver]) for (name, solver), nfe in needed.items()]
    shares = [Number(f"share, {solver}", needed["transport", solver] / needed["diffusion", solver], text) for solver, text in SHARES.items()]
    gaussian = [
        Number(f"standard deviation, {solver}, {steps} steps", std, text)
        for solver, texts in STANDARD_DEVIATIONS.items()
        for steps, std, text in zip(data["gaussian_steps"], data[f"gaussian {solver}"], texts, strict=False)
    ]
    return Caption(TEXT.format(fine=int(data["fine"]), draws=len(data["diffusion exact"])), (*numbers, *shares, *gaussian))


FIGURE = Figure(
    name="lipman_nfe",
    title="Error against the number of evaluations: diffusion and OT paths",
    inputs={
        "seed": 2,
        "cell": 1.0,
        "spread": 0.2,
        "draws": 2048,
        "budgets": [4, 8, 12, 16, 24, 40, 80],
        "fine": 120,
        "level": 0.05,
        "std": 2.0,
        "gaussian_steps": [1, 2, 4, 8, 16, 32],
    },
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three panels on logarithmic axes. Left and middle: root mean squared error of four solvers falls with the number of evaluations of the field, on the OT path much "
    "sooner than on the diffusion path except for Euler's method, which is worse there. Right: errors of the standard deviation for Gaussian data, steepest for Runge-Kutta.",
    source="Lipman et al., Flow matching for generative modeling, ICLR 2023, Figure 7 (left), with exact fields; standard deviations by ensembletheory.samplers",
)
