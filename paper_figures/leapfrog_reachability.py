r"""What leapfrog reaches on a mode from N(0, I), and what L steps of a quadratic flow miss.

With c = h / m and x = 1 - h^2 k / 2m the standard deviation after L steps is sigma(x), sigma^2 = T_L^2 + c^2 U_{L-1}^2, for every real k; its least value bounds what can be
reached from below, and all above it is reached.

A flow whose potential and encoder are trained for its L steps therefore has no ELBO deficit for data wider than the least deviation, and for narrower data that of the edge.
One whose potential was solved for continuous time, and is then discretised, has the divergence pi^4 / (1024 L^4), and a gap of its encoder beside it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from ensembletheory.hamiltonian import discretised_divergence, leapfrog_matrix, leapfrog_variance, least_deviation, trained_deficit
from ensembletheory.hamiltonian.deficit import LEADING_CONSTANT
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.processes import QuadraticHamiltonian
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

CURVES = {1: LOOKS["one_leapfrog_step"], 2: LOOKS["two_leapfrog_steps"], 4: LOOKS["four_leapfrog_steps"]}


def _compute(c: float, deviation: float, most_steps: int, trained: list[int], points: int) -> Data:
    y = np.linspace(-0.12, 1.12, points)  # (w h / 2)^2
    variances = {f"deviations_{L}": np.sqrt(leapfrog_variance(1 / c, 4 * y / c, 1.0, np.full(points, L))) for L in CURVES}  # with h = 1
    counts, sigmas = np.arange(1, most_steps + 1), np.geomspace(c / 4, 4 * c, points)
    least = [least_deviation(c, int(L)) for L in counts]
    deficits = {f"trained_{L}": [float(trained_deficit(float(sigma), c, L).value) for sigma in sigmas] for L in trained}
    divergences, gaps = _of_the_continuous_potential(deviation, jnp.asarray(counts))
    return variances | deficits | {"c": c, "y": y, "steps": counts, "least": least, "sigmas": sigmas, "divergences": divergences, "gaps": gaps}


@jax.jit
def _of_the_continuous_potential(sigma: Float[Array, ""], counts: Array) -> tuple[Float[Array, " L"], Float[Array, " L"]]:
    """Divergences of the discretised quarter turn with unit mass, and the gaps of the encoder N(0, 1 / sigma^2) of the continuous one."""
    turn = QuadraticHamiltonian(1.0, (1 / sigma**2)[None], horizon=jnp.pi * sigma / 2)

    def gap(L):
        N = leapfrog_matrix(turn, turn.horizon / L.astype(sigma.dtype), L)
        P = N @ N.T
        W = P[1, 0] / P[0, 0]
        ratio = P[0, 0] / sigma**2
        return (ratio - 1 - jnp.log(ratio) + W**2 * sigma**2 * P[0, 0]) / 2

    return discretised_divergence(jnp.broadcast_to(sigma, counts.shape), counts).value, jax.vmap(gap)(counts)


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["iclr"], 4.4, rows=2, columns=2)
    for draw, ax in zip((_draw_reach, _draw_least, _draw_trained, _draw_deficits), panels, strict=True):
        draw(ax, data)
    return picture


def _draw_reach(ax: Axes, data: Data) -> None:
    letter(ax, "a", f"deviation reached, $c = {data['c']:g}$")
    for edge in (0, 1):
        ax.axvline(edge, color="#000000", linewidth=0.5, linestyle=":")
    for L, look in CURVES.items():
        curve(ax, data["y"], data[f"deviations_{L}"], look)
    ax.axhline(data["c"], color="#000000", linewidth=0.6)
    ax.text(0.5, 0.82, "stable", transform=ax.get_xaxis_transform(), ha="center", va="top", fontsize=7)
    ax.set(xlabel=r"$h^2 k / 4m = (\omega h / 2)^2$", ylabel=r"standard deviation of $q_L$", xlim=(-0.12, 1.12), ylim=(0, 2.4))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.03), ncols=3, columnspacing=0.8, handlelength=1.4)


def _draw_least(ax: Axes, data: Data) -> None:
    letter(ax, "b", "least deviation reached")
    counts, least, c = data["steps"], data["least"], float(data["c"])
    odd = counts % 2 == 1
    for chosen, look, label in ((odd, LOOKS["odd_steps"], "odd: $c$"), (~odd, LOOKS["two_leapfrog_steps"], "even")):
        ax.plot(counts[chosen], least[chosen], color=look.color, marker=look.marker, linestyle="none", label=label)
    fine = np.linspace(1.6, counts[-1], 200)
    ax.plot(fine, c / np.cos(np.pi / (2 * fine)), color="#888888", linewidth=0.8, label=r"$c / \cos(\pi / 2L)$", zorder=0)
    ax.set(xlabel="steps $L$", ylabel=r"$\min \sigma$", xlim=(0, counts[-1] + 1), ylim=(0.9 * c, 1.5 * c), xticks=[1, 4, 8, 12, 16])
    ax.legend(loc="upper right")


def _draw_trained(ax: Axes, data: Data) -> None:
    letter(ax, "c", "deficit, trained for its steps")
    c = float(data["c"])
    for L, look in ((2, CURVES[2]), (4, CURVES[4]), (1, LOOKS["odd_steps"])):
        if f"trained_{L}" in data:
            curve(ax, data["sigmas"] / c, data[f"trained_{L}"], look)
    ax.set(xlabel=r"deviation of the data, $\sigma / c$", ylabel="ELBO deficit, nats", xscale="log", xlim=(0.25, 4), ylim=(-0.02, 1))
    ax.set_xticks([0.25, 0.5, 1, 2, 4], labels=["¼", "½", "1", "2", "4"])
    ax.minorticks_off()
    ax.legend(loc="upper right")


def _draw_deficits(ax: Axes, data: Data) -> None:
    letter(ax, "d", "deficit, solved first")
    counts, look = data["steps"], LOOKS["quarter_turn"]
    curve(ax, counts, data["divergences"] + data["gaps"], LOOKS["elbo"]._replace(label="ELBO deficit"), markers=True)
    curve(ax, counts, data["divergences"], LOOKS["kl"], markers=True)
    ax.plot(counts, LEADING_CONSTANT / counts**4.0, color=look.color, linewidth=0.8, zorder=0)
    write_beside(ax, 3.0, LEADING_CONSTANT / 81, r"$\pi^4 / 1024 L^4$", look, (-4, -6), "right")
    ax.set(xlabel="steps $L$", ylabel="nats", xscale="log", yscale="log", xlim=(0.9, counts[-1] * 1.1))
    ax.set_xticks([1, 2, 4, 8, 16], labels=["1", "2", "4", "8", "16"])
    ax.minorticks_off()
    ax.legend(loc="upper right")


LEAST = {1: "0.3000", 2: "0.4146", 3: "0.3000", 4: "0.3245", 8: "0.3059"}
DIVERGENCES = {1: "0.155869", 2: "0.00652293", 4: "0.000379878", 8: "0.0000233512"}
TOTALS = {1: "0.530871", 2: "0.0161560", 4: "0.000891600", 8: "0.0000541255"}

TEXT = r"""Leapfrog on one mode from $N(0, I)$, with $c = h/m = 0.3$.

(a) Standard deviation of the position after 1, 2 and 4 steps against the stiffness, which may be negative or beyond the stability limit; it is never below $c$ (line).

(b) The least deviation over all stiffnesses: 0.3000, 0.4146, 0.3000 and 0.3245 for $L = 1, 2, 3, 4$ and 0.3059 for $L = 8$. All deviations above it are reached.

(c) ELBO deficit of a flow whose potential and linear encoder are optimal for its steps: none from the least deviation on.

(d) The potential and the encoder of the continuous quarter turn to $N(0, 4)$ with unit mass, in $L$ steps. Divergence 0.155869, 0.00652293, 0.000379878 and 0.0000233512
nats for $L = 1, 2, 4, 8$, which tends to $\pi^4 / (1024 L^4)$; total deficit with the encoder $N(0, 1/4)$ 0.530871, 0.0161560, 0.000891600 and 0.0000541255."""


def _caption(data: Data) -> Caption:
    at = {int(L): i for i, L in enumerate(data["steps"])}
    least = [Number(f"least deviation, $L={L}$", data["least"][at[L]], text) for L, text in LEAST.items()]
    divergences = [Number(f"KL, $L={L}$", data["divergences"][at[L]], text) for L, text in DIVERGENCES.items()]
    totals = [Number(f"deficit, $L={L}$", data["divergences"][at[L]] + data["gaps"][at[L]], text) for L, text in TOTALS.items()]
    return Caption(TEXT, (*least, *divergences, *totals))


FIGURE = Figure(
    name="leapfrog_reachability",
    title="What leapfrog reaches on a mode, and what its steps miss",
    inputs={"c": 0.3, "deviation": 2.0, "most_steps": 16, "trained": [1, 2, 4], "points": 401},
    quick_inputs={"points": 101},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels. First: the standard deviation of the position after one, two and four leapfrog steps against the stiffness; it oscillates below 1 in "
    "the stable interval and grows outside; one step touches 0.3, two steps only 0.41. Second: the least deviation is 0.3 for every odd number of steps and falls towards "
    "it for even ones. Third: the deficit of flows trained for their steps falls to zero where the data are as wide as the least deviation. Fourth: on logarithmic "
    "axes the divergence and the deficit of the discretised continuous potential fall by a factor of 16 when the steps double.",
    source="derived in ensembletheory.hamiltonian; flows of Toth et al. (2020) and of fixed kinetic energy, Souveton et al. (2024)",
    claims=("leapfrog-chebyshev-variance", "leapfrog-least-deviation", "leapfrog-kl-law"),
)
