r"""Forward and reverse SDE and the probability flow over the exact density of a mixture on the line under VP diffusion: Figure 2 of Song et al. (2021), solved.

All three dynamics have the density p_t at every time. Forward paths are drawn with the exact kernels of the process, reverse paths by Euler-Maruyama with the exact score,
the flow by Runge-Kutta with the exact velocity. On the line the flow keeps the order of points, so that it is the map between quantiles, x_t = F_t^{-1}(F_T(x_T)): drawn and
computed paths are compared at every time. The paper's figure gives no parameters; these are ours, the process apart.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

import ensembletheory as et
from ensembletheory.laws.univariate import quantile, smaller_tail
from ensembletheory.plotting import LOOKS, WIDTHS, letter, new_figure
from ensembletheory.samplers import EulerMaruyama, Rk4, Sampler, uniform_grid
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

PRIOR = et.standard_normal
FLOW, FORWARD, REVERSE = LOOKS["probability_flow"], LOOKS["forward_sde"], LOOKS["reverse_sde"]
BOX = 3.6


def _compute(seed, weights, means, variances, beta, steps, sde_paths, flow_paths, mapped, columns, rows) -> Data:
    vp = et.processes.VariancePreserving(*beta)
    law = et.GaussianMixture(weights, np.asarray(means)[:, None], np.asarray(variances)[:, None])
    drawn = _drawn(jax.random.key(seed), vp, law, jnp.asarray(mapped), steps, sde_paths, flow_paths)
    density = _density(vp, law, np.linspace(0.0, 1.0, columns), np.linspace(-BOX, BOX, rows))
    return drawn | density | {"kl": float(et.kl(vp.marginal(law, vp.horizon), PRIOR(1)))}


@partial(jax.jit, static_argnames=("steps", "sde_paths", "flow_paths"))
def _drawn(key: PRNGKeyArray, vp: et.processes.Process, law: et.GaussianMixture, mapped: Float[Array, " k"], steps: int, sde_paths: int, flow_paths: int) -> dict[str, Array]:
    """Paths, each with a value at all times of a grid that falls to the data, and the points that the flow sends `mapped` to."""
    grid, keys = uniform_grid(vp, steps), jax.random.split(key, 3)
    reverse = Sampler(vp, vp.score(law), EulerMaruyama(), grid).paths(keys[0], sde_paths, PRIOR(1))[:, :, 0]
    flow = Sampler(vp, vp.velocity(law), Rk4(), grid).paths(keys[1], flow_paths, PRIOR(1))[:, :, 0]
    quantiles = _quantile_paths(vp, law, grid, jnp.concatenate([flow[:, 0], mapped]))
    forward = _noised(keys[2], vp, law, grid, sde_paths)
    return {"times": grid, "forward": forward, "reverse": reverse, "flow": flow, "quantiles": quantiles[:flow_paths], "mapped": quantiles[flow_paths:, -1]}


def _noised(key: PRNGKeyArray, vp: et.processes.Process, law: et.GaussianMixture, grid: Float[Array, " times"], n: int) -> Float[Array, "n times"]:
    """Draws of the forward SDE by its exact kernels."""
    key_start, key_steps = jax.random.split(key)
    start = law.sample(key_start, n)

    def step(x, inputs):
        t, s, z = inputs
        after = jax.vmap(vp.kernel(s, t).at)(x)
        moved = after.mean + jax.vmap(lambda gaussian, own: gaussian.covariance.unwhiten(own))(after, z)
        return moved, moved

    _, later = jax.lax.scan(step, start, (grid[:-1], grid[1:], jax.random.normal(key_steps, (len(grid) - 1, n, 1))), reverse=True)
    return jnp.concatenate([later, start[None]])[:, :, 0].T


def _quantile_paths(vp: et.processes.Process, law: et.GaussianMixture, grid: Float[Array, " times"], start: Float[Array, " n"]) -> Float[Array, "n times"]:
    """F_t^{-1}(F_T(x)) for every point x at the first time T."""
    sides = jax.vmap(lambda x: smaller_tail(vp.marginal(law, grid[0]), x))(start)
    return jax.vmap(lambda t: jax.vmap(lambda side, log_tail: quantile(vp.marginal(law, t), side, log_tail))(*sides))(grid).T


@jax.jit
def _density(vp: et.processes.Process, law: et.GaussianMixture, times: Float[Array, " n"], x: Float[Array, " m"]) -> dict[str, Array]:
    density = jax.vmap(lambda t: jnp.exp(vp.marginal(law, t).log_prob(x[:, None])))(times)
    return {"density_times": times, "density": density}


def _draw(data: Data) -> Picture:
    picture, (forward, reverse) = new_figure(WIDTHS["iclr"], 2.4, columns=2)
    _draw_panel(forward, data, "forward", "a", "from data to noise")
    _draw_panel(reverse, data, "reverse", "b", "from noise to data")
    reverse.invert_xaxis()
    handles = [Line2D([], [], color=look.color, label=look.label) for look in (FORWARD, REVERSE, FLOW)]
    picture.legend(handles=handles, loc="outside lower center", ncols=3)
    return picture


def _draw_panel(ax: Axes, data: Data, name: str, panel: str, title: str) -> None:
    letter(ax, panel, title)
    shade = data["density"].T / data["density"].max(axis=1)
    ax.imshow(shade, extent=(0, data["density_times"][-1], -BOX, BOX), origin="lower", aspect="auto", cmap="Greys", vmax=1.5, interpolation="bilinear")
    ax.plot(data["times"], data[name].T, color=LOOKS[f"{name}_sde"].color, linewidth=0.6)
    ax.plot(data["times"], data["flow"].T, color=FLOW.color, linewidth=1.1)
    ax.set(xlabel="time $t$", ylabel="$x$", ylim=(-BOX, BOX))


# What the caption prints: the points at time 0 that the flow sends points at time 1 to.
MAPPED = {-1.5: "-2.38202029", -0.5: "0.32162894", 0.0: "0.82988464", 0.5: "1.04445115", 1.5: "1.39217016"}

TEXT = r"""Three dynamics with the same densities (shade: $p_t(x)$ over its largest value at $t$), after Figure 2 of Song et al. (2021), which comes without parameters: ours
are the mixture $0.3 N(-2, 0.25) + 0.7 N(1, 0.09)$ and, as theirs for images, VP diffusion with $\beta$ from 0.1 to 20.

(a) The forward SDE, by its exact kernels. (b) The reverse SDE, by Euler-Maruyama in {steps} steps with the exact score. The probability flow (in both panels the same paths,
by Runge-Kutta with the exact velocity) keeps the order of points, and so is the map between quantiles: -1.5, -0.5, 0, 0.5 and 1.5 at $t=1$ go to -2.38202029, 0.32162894,
0.82988464, 1.04445115 and 1.39217016 at $t=0$. The paths drawn differ from it by 0.00000 at most.

At $t=1$ the data are nearly forgotten: KL($p_1$||N(0,1)) is 0.00000021642 nats."""


def _caption(data: Data) -> Caption:
    images = [Number(f"image of {point:g}", image, text) for (point, text), image in zip(MAPPED.items(), data["mapped"], strict=True)]
    worst = Number("largest distance of a path of the flow from the quantiles", np.max(np.abs(data["flow"] - data["quantiles"])), "0.00000")
    return Caption(TEXT.format(steps=len(data["times"]) - 1), (*images, worst, Number("KL from N(0, 1) at the end", data["kl"], "0.00000021642")))


FIGURE = Figure(
    name="song_fig2",
    title="Forward and reverse SDE and the probability flow over the exact density",
    inputs={
        "seed": 28,
        "weights": [0.3, 0.7],
        "means": [-2.0, 1.0],
        "variances": [0.25, 0.09],
        "beta": [0.1, 20.0],
        "steps": 1000,
        "sde_paths": 5,
        "flow_paths": 6,
        "mapped": [-1.5, -0.5, 0.0, 0.5, 1.5],
        "columns": 241,
        "rows": 241,
    },
    quick_inputs={"steps": 250, "columns": 121, "rows": 121},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Two panels over time and space, shaded by a density with two modes at time 0 that merge into one hump by time 0.5. Left: jagged paths of the forward SDE spread from "
    "the modes. Right, with time reversed: jagged paths of the reverse SDE gather in the modes. In both, smooth paths of the probability flow run through without crossing.",
    source="Song et al., Score-based generative modeling through stochastic differential equations, ICLR 2021, Figure 2 (which publishes no parameters)",
)
