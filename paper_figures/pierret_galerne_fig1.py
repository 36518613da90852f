r"""Figure 1 of Pierret & Galerne: W2 from the path along the time of sampling, and from the data against the truncation, for six schemes and in continuous time.

All runs begin at N(0, I), not at p_T, with 1000 evaluations of the score: 1000 nodes, 500 for Heun, 250 for RK4. Each scheme's step is an exact kernel; pushing the law along
the grid gives all of (a), its end (b), for all truncations in one program. In continuous time the reverse SDE forgets its start and the flow does not (proposition 4: the SDE
is never farther from the path than the flow).

The spectrum is that of `pierret_galerne_table`: 24 knots, with which the published curves are met within 6 in a thousand; `--spectrum FILE` takes real eigenvalues, and those
of the ICML version, which has zeros, meet every number to its digits.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.processes import VariancePreserving
from paper_figures.framework import Caption, Data, Figure, Number
from paper_figures.shared.pierret_galerne import CIFAR_KNOTS, CONTINUOUS, METHODS, continuous_variances, errors_along_runs, node_times, noised, read_spectrum, w2

__all__ = ["FIGURE"]

LIMITS = {"SDE": "reverse_sde", "ODE": "probability_flow"}
NO_TRUNCATION = 1e-6  # where a truncation of 0 is drawn


def _compute(spectrum, ranks: list[int], eigenvalues: list[float], betas: list[float], budget: int, truncations: list[float], points: int) -> Data:
    process, values = VariancePreserving(*jnp.asarray(betas)), jnp.asarray(read_spectrum(spectrum, ranks, eigenvalues))
    times = np.linspace(0.0, 1.0, points)
    along, ends = _continuous(process, values, jnp.asarray(np.concatenate([times, truncations])))
    data: Data = {"spectrum": values, "truncations": truncations}
    for i, name in enumerate(CONTINUOUS):
        data |= {f"times, {name}": times, f"along, {name}": along[i, :points], f"ends, {name}": ends[i, points:]}
    for name, method in METHODS.items():
        nodes = budget // method.evaluations
        grids = np.stack([node_times(nodes, truncation, nodes) for truncation in truncations])
        along, ends = errors_along_runs(process, method.scheme, values, jnp.asarray(grids))
        data |= {f"times, {name}": grids[0], f"along, {name}": along[0], f"ends, {name}": ends}
    return data


@eqx.filter_jit
def _continuous(process: VariancePreserving, values: Float[Array, " d"], times: Float[Array, " n"]) -> tuple[Float[Array, "c n"], Float[Array, "c n"]]:
    """W2 from p_t and from the data."""
    laws = continuous_variances(process, values, times, jnp.asarray([*CONTINUOUS.values()]), jnp.ones((1, values.size)))[:, :, 0]
    path = jax.vmap(lambda t: noised(process, values, t))(times)
    return jax.vmap(lambda law: w2(law, path))(laws), jax.vmap(jax.vmap(lambda law: w2(law, values)))(laws)


def _draw(data: Data) -> Picture:
    picture, (along, ends) = new_figure(WIDTHS["icml_page"], 3.0, columns=2)
    looks = {name: LOOKS[look] for name, look in LIMITS.items()} | {name: LOOKS[method.look] for name, method in METHODS.items()}
    truncations = np.maximum(data["truncations"], NO_TRUNCATION)
    for name, look in looks.items():
        curve(along, data[f"times, {name}"], data[f"along, {name}"], look)
        curve(ends, truncations, data[f"ends, {name}"], look, markers=True)
    for name in ("Heun", "RK4"):
        along.plot(0.0, data[f"along, {name}"][-1], marker=looks[name].marker, color=looks[name].color, linestyle="none", clip_on=False)
    write_beside(along, 0.48, _at(data, "ODE", 0.48), "Heun and RK4 on the flow", LOOKS["rk4"], (0, -14))
    letter(along, "a", "along the run, without truncation")
    along.set(yscale="log", xlabel="time $t$, from noise (1) to data (0)", ylabel="$W_2$ from $p_t$", xlim=(1, 0), ylim=(1e-4, 2))
    letter(ends, "b", "at the end")
    ends.set(xscale="log", yscale="log", xlabel="truncation", ylabel="$W_2$ from the data", ylim=(4e-4, 3))
    _label_zero(ends)
    picture.legend(*along.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return picture


def _label_zero(ax: Axes) -> None:
    ticks = [NO_TRUNCATION, 1e-5, 1e-4, 1e-3, 1e-2]
    ax.set_xticks(ticks, labels=["0", *(f"$10^{{{np.log10(tick):.0f}}}$" for tick in ticks[1:])])
    ax.minorticks_off()


# What the caption prints: by curve and time in units of 1e-3; at truncation 1e-2; published curves, read off the spectrum of the ICML version.
ALONG = {
    "SDE": {0.0: "0.6679", 0.2: "0.544", 0.4: "0.304", 0.6: "0.1371", 0.8: "0.2161", 1.0: "5.467"},
    "ODE": {0.0: "72.96", 0.2: "59.29", 0.4: "32.63", 0.6: "12.98", 0.8: "6.168", 1.0: "5.467"},
    "EM": {0.01: "90.6", 0.2: "111.3", 0.6: "97.9", 0.8: "116.0", 1.0: "5.467"},
    "EI": {0.01: "103.0", 0.2: "124.4", 0.6: "189.6", 0.8: "232.2", 1.0: "5.467"},
    "DDPM": {0.01: "191.8", 0.2: "132.1", 0.6: "4.955", 0.8: "0.765", 1.0: "5.467"},
    "Euler": {0.01: "160.1", 0.2: "149.8", 0.6: "26.6", 0.8: "7.62", 1.0: "5.467"},
    "Heun": {0.01: "73.4", 0.2: "59.7", 0.6: "13.05", 0.8: "6.16", 1.0: "5.467"},
}
ENDS = {"SDE": "1.355", "ODE": "1.358", "EM": "1.425", "EI": "1.449", "DDPM": "1.431", "Euler": "1.369", "Heun": "1.358", "RK4": "1.358"}
SMALLEST = "0.1180", "0.68"
KNOTS_ERROR = 0.006

TEXT = r"""Gaussian data with a spectrum like that of CIFAR-10, sampled with the exact score from $N(0,I)$ with 1000 evaluations: EM, EI, DDPM and Euler with 1000 nodes, Heun
with 500, RK4 with 250. Exact laws.

(a) $W_2$ from $p_t$, in units of $10^{-3}$. At $t=1$ it is 5.467 for all. At $t=0, 1/5, 2/5, 3/5, 4/5$ the reverse SDE gives 0.6679, 0.544, 0.304, 0.1371, 0.2161 (the
smallest is 0.1180, at $t=0.68$: the start is forgotten, then small scales are resolved), the probability flow 72.96, 59.29, 32.63, 12.98, 6.168, which keeps the error of the
start. At $t=0.01, 1/5, 3/5, 4/5$: EM 90.6, 111.3, 97.9, 116.0; EI 103.0, 124.4, 189.6, 232.2; DDPM 191.8, 132.1, 4.955, 0.765; Euler 160.1, 149.8, 26.6, 7.62; Heun 73.4,
59.7, 13.05, 6.16, near the flow itself. Dots: at $t=0$ Heun and RK4 look at the score where the smallest eigenvalues decide (with an eigenvalue 0 they are infinite).

(b) $W_2$ from the data. At truncation 0.01: SDE 1.355, ODE 1.358, EM 1.425, EI 1.449, DDPM 1.431, Euler 1.369, Heun 1.358, RK4 1.358. Stopping early never helps the SDE, the
flow and the first-order schemes here; Heun and RK4 it may help.

The numbers are those of the published spectrum; with the 24 eigenvalues that stand for it they hold within 6 in a thousand."""


def _caption(data: Data) -> Caption:
    allowed = 0.0 if np.any(data["spectrum"] == 0) else KNOTS_ERROR
    along = [Number(f"{name}, $t={t}$", 1e3 * _at(data, name, t), text, relative_error=allowed) for name, row in ALONG.items() for t, text in row.items()]
    ends = [Number(f"{name}, truncated", data[f"ends, {name}"][data["truncations"].tolist().index(1e-2)], text, relative_error=allowed) for name, text in ENDS.items()]
    sde = data["along, SDE"]
    smallest = Number("SDE, smallest", 1e3 * sde.min(), SMALLEST[0], relative_error=allowed), Number("SDE, smallest at $t$", data["times, SDE"][sde.argmin()], SMALLEST[1])
    return Caption(TEXT, (*along, *ends, *smallest))


def _at(data: Data, name: str, t: float) -> float:
    """The value at the node nearest to t."""
    return data[f"along, {name}"][np.argmin(np.abs(data[f"times, {name}"] - t))]


FIGURE = Figure(
    name="pierret_galerne_fig1",
    title="Errors of six schemes along the run and against the truncation: figure 1 of Pierret and Galerne",
    inputs={"spectrum": None, **CIFAR_KNOTS, "betas": [0.1, 20.0], "budget": 1000, "truncations": [0.0, 1e-5, 1e-4, 1e-3, 1e-2], "points": 1001},
    quick_inputs={"truncations": [0.0, 1e-3, 1e-2], "points": 201},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Two panels on logarithmic axes. Left: against time from noise to data all errors begin at 0.005; the reverse SDE falls to 0.0001 and ends at 0.0007, the probability "
    "flow rises to 0.07 with Heun and RK4 beside it until the very end, Euler and DDPM rise to about 0.2, EM and EI stay at 0.1 to 0.2. Right: errors at the end are flat up "
    "to a truncation of 0.0001, where Heun and RK4 first fall, and meet at 1.4 for a truncation of 0.01.",
    source='E. Pierret and B. Galerne, "Diffusion models for Gaussian distributions: exact solutions and Wasserstein errors", ICML 2025 (figure 1)',
)
