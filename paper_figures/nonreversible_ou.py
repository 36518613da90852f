r"""Non-reversible Ornstein-Uhlenbeck processes forget faster, at a price in the prefactor and in steps.

For the target N(0, Sigma) in five dimensions the divergence KL(p_t || target) is exact at any time, for the reversible process, a random antisymmetric part J, the fastest one
of Lelievre, Nier and Pavliotis, and noise of the same trace in one direction with the J that is best for it (Guillin and Monmarche). Rates are least real parts of the
eigenvalues of B = (D + J) S; the prefactor is the largest |exp(-t B)| exp(r t) in whitened coordinates, and an Euler-Maruyama step has to be shorter than
min 2 Re(l) / |l|^2; steps are counted at half of it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory import nonreversible
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.processes import SkewOrnsteinUhlenbeck
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

NAMES = ("reversible", "any_skew", "fastest_skew", "one_direction")


def _compute(
    precisions: list[float], start_mean: float, seed: int, tolerance: float, conditions: list[float], sizes: int, times: int, last: float, prefactor_times: int
) -> Data:
    found = _found(jnp.asarray(precisions), start_mean, _random_skew(seed, len(precisions)), tolerance, jnp.linspace(0.0, last, times), jnp.geomspace(0.05, 20.0, sizes))
    prefactors = _prefactors(jnp.asarray(precisions), jnp.asarray(conditions), jnp.linspace(0.0, 2.0, prefactor_times))
    return {"times": np.linspace(0.0, last, times), "sizes": np.geomspace(0.05, 20.0, sizes), "conditions": conditions, "prefactors": prefactors} | found


def _random_skew(seed: int, d: int) -> Float[np.ndarray, "d d"]:
    raw = np.random.default_rng(seed).normal(size=(d, d))
    return raw - raw.T


def _target(precisions: Float[Array, " d"]) -> et.Gaussian:
    return et.Gaussian(jnp.zeros(precisions.size), jnp.diag(1 / precisions))


@jax.jit
def _found(precisions, start_mean, random, tolerance, times, sizes) -> dict[str, Array]:
    """All that is known of the four processes, stacked in the order of NAMES, and rates of multiples of antisymmetric parts."""
    d, target = precisions.size, _target(precisions)
    D = nonreversible.one_direction(target)
    fastest, degenerate = nonreversible.fastest_skew(target).skew, nonreversible.fastest_skew(target, D).skew
    J, noises = jnp.stack([0 * random, random, fastest, degenerate]), jnp.stack([jnp.eye(d)] * 3 + [D])
    start = et.Gaussian(jnp.full(d, start_mean), jnp.eye(d))

    def of(skew, noise):
        process = SkewOrnsteinUhlenbeck(target, skew, noise)
        time = nonreversible.time_to(process, start, tolerance)
        kls = nonreversible.kl_decay(process, start, times).value
        limit = nonreversible.step_limit(process)
        return {"rates": nonreversible.gap(process), "kls": kls, "times_to": time, "limits": limit, "steps": 2 * time / limit}

    def rate(skew):
        return jax.lax.map(lambda size: nonreversible.gap(SkewOrnsteinUhlenbeck(target, size * skew)), sizes)

    return jax.lax.map(lambda pair: of(*pair), (J, noises)) | {"scaled": jax.lax.map(rate, J[1:3])}


@eqx.filter_jit
def _prefactors(precisions: Float[Array, " d"], conditions: Float[Array, " c"], times: Float[Array, " n"]) -> Float[Array, " c"]:
    """The largest prefactor of the fastest part, by condition."""
    target = _target(precisions)

    def largest(condition):
        found = nonreversible.fastest_skew(target, condition=condition)
        return jnp.max(nonreversible.prefactor(SkewOrnsteinUhlenbeck(target, found.skew), found.rate, times))

    return jax.lax.map(largest, conditions)


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["icml_page"], 4.0, rows=2, columns=2)
    for draw, ax in zip((_draw_decay, _draw_prefactors, _draw_sizes, _draw_costs), panels, strict=True):
        draw(ax, data)
    return picture


LABELS = {"reversible": "reversible", "any_skew": "random $J$", "fastest_skew": "fastest $J$", "one_direction": "noise in one direction"}


PLACES = (("reversible", 5.9, 1.0, "right"), ("any_skew", 5.9, 4e-4, "right"), ("fastest_skew", 2.9, 3e-6, "left"), ("one_direction", 1.25, 1e-9, "left"))


def _draw_decay(ax: Axes, data: Data) -> None:
    letter(ax, "a", "divergence from the target")
    for kls, rate, name in zip(data["kls"], data["rates"], NAMES, strict=True):
        curve(ax, data["times"], kls, LOOKS[name])
        if name in RATES:
            anchor = int(np.argmin(np.abs(np.log(kls) - np.log(1e-6)))) if kls[-1] < 1e-6 else kls.size - 1
            ax.plot(data["times"], kls[anchor] * np.exp(-2 * rate * (data["times"] - data["times"][anchor])), color=LOOKS[name].color, linewidth=0.5)
    for name, at, y, align in PLACES:
        write_beside(ax, at, y, LABELS[name], LOOKS[name], (0, 0), align)
    ax.set(yscale="log", xlabel="time $t$", ylabel=r"KL$(p_t \,\|\, \pi)$, nats", ylim=(1e-12, 30), xlim=(0, data["times"][-1]))


def _draw_prefactors(ax: Axes, data: Data) -> None:
    letter(ax, "b", "price in the prefactor")
    curve(ax, data["conditions"], data["prefactors"], LOOKS["fastest_skew"], markers=True)
    ax.plot(data["conditions"], np.sqrt(data["conditions"]), color="black", linewidth=0.6)
    write_beside(ax, 30.0, np.sqrt(30.0), r"bound $\sqrt{\kappa(Q)}$", LOOKS["target"], (-4, 6), "right")
    write_beside(ax, 30.0, data["prefactors"][_at(data["conditions"], 30.0)], LABELS["fastest_skew"], LOOKS["fastest_skew"], (6, -6))
    ax.set(xscale="log", yscale="log", xlabel=r"condition $\kappa(Q)$", ylabel="largest prefactor", ylim=(0.9, 12))
    ax.set_yticks([1, 2, 5, 10], labels=["1", "2", "5", "10"])


def _draw_sizes(ax: Axes, data: Data) -> None:
    letter(ax, "c", "size of the antisymmetric part")
    for values, name in zip(data["scaled"], NAMES[1:3], strict=True):
        curve(ax, data["sizes"], values, LOOKS[name])
        write_beside(ax, 20.0, values[-1], LABELS[name], LOOKS[name], (0, -8), "right")
    for name, level, text in (("target", data["rates"][2], r"$\mathrm{tr}(S)/d$"), ("reversible", data["rates"][0], r"$\lambda_{\min}(S)$, reversible")):
        ax.axhline(float(level), color=LOOKS[name].color, linewidth=0.6)
        write_beside(ax, 20.0 if name == "reversible" else 0.055, float(level), text, LOOKS[name], (0, 6), "right" if name == "reversible" else "left")
    ax.set(xscale="log", yscale="log", xlabel=r"factor $\delta$ of $J$", ylabel="slowest rate", ylim=(0.08, 5), xlim=(0.05, 20))


def _draw_costs(ax: Axes, data: Data) -> None:
    letter(ax, "d", "time and steps to a divergence of $10^{-6}$")
    for time, steps, name in zip(data["times_to"], data["steps"], NAMES, strict=True):
        look = LOOKS[name]
        ax.plot(time, steps, marker=look.marker, color=look.color, linestyle="none")
        write_beside(ax, time, steps, LABELS[name], look, (0, 8), {"reversible": "right", "one_direction": "left"}.get(name, "center"))
    ax.set(xscale="log", yscale="log", xlabel="time", ylabel="Euler-Maruyama steps", xlim=(0.5, 100), ylim=(150, 3000))
    ax.set_yticks([200, 500, 1000, 2000], labels=["200", "500", "1000", "2000"])
    ax.minorticks_off()


def _at(grid: np.ndarray, value: float) -> int:
    """The index of the grid point nearest to `value`."""
    return int(np.argmin(np.abs(grid - value)))


RATES = {"reversible": "0.100", "fastest_skew": "3.120", "one_direction": "10.000"}
OTHER_RATES = {"any_skew": "0.372"}
TIMES = {"reversible": "54.10", "any_skew": "17.85", "fastest_skew": "2.539", "one_direction": "0.777"}
LIMITS = {"reversible": "0.2000", "any_skew": "0.1604", "fastest_skew": "0.01669", "one_direction": "0.001163"}
STEPS = {"reversible": "541.0", "any_skew": "222.5", "fastest_skew": "304.3", "one_direction": "1335.2"}
PREFACTORS = {5.0: "1.95", 100.0: "7.48"}

TEXT = r"""Ornstein-Uhlenbeck processes of the drift $-(D + J) S x$ that keep $\pi = N(0, S^{-1})$ in five dimensions, precisions 0.1, 0.5, 1.0, 4.0 and 10.0, started
at $N(\mathbf{1}, I)$: the reversible one ($D = I$, $J = 0$), a random $J = R - R^T$ with standard normal entries of $R$, the fastest $J$ (Lelievre, Nier and Pavliotis), and
noise of the same trace in one direction with its fastest $J$ (Guillin and Monmarche). All numbers are exact.

(a) Divergence, with lines of slope $-2r$ (thin) for the slowest rates $r = 0.100$ (reversible), 3.120 (fastest $J$) and 10.000 (one direction); the random $J$ has 0.372.

(b) The fastest $J$ depends on a matrix $Q$ whose condition $\kappa(Q)$ is free. The largest $|e^{-tB}| e^{rt}$, in whitened coordinates, stays below $\sqrt{\kappa(Q)}$:
1.95 for a condition of 5 and 7.48 for 100. The fastest $J$ of the other panels has a condition of 5.

(c) Slowest rate of $(I + \delta J) S$: that of the random $J$ saturates below the optimum, and more of the fastest $J$ than $\delta = 1$ gains nothing.

(d) Time until the divergence stays below $10^{-6}$, and Euler-Maruyama steps in it of half the largest stable length. In the order reversible, random $J$, fastest $J$, one
direction: times 54.10, 17.85, 2.539 and 0.777; largest stable steps 0.2000, 0.1604, 0.01669 and 0.001163; steps 541.0, 222.5, 304.3 and 1335.2. What is gained in time is
lost in steps, all but a factor of 1.778 for the fastest $J$, and more than lost in one direction."""


def _caption(data: Data) -> Caption:
    by_name = [("slowest rate", "rates", RATES | OTHER_RATES), ("time", "times_to", TIMES), ("largest stable step", "limits", LIMITS), ("steps", "steps", STEPS)]
    processes = [Number(f"{what}, {name}", data[key][NAMES.index(name)], text) for what, key, texts in by_name for name, text in texts.items()]
    prefactors = [Number(f"prefactor, condition {condition:g}", data["prefactors"][_at(data["conditions"], condition)], text) for condition, text in PREFACTORS.items()]
    saved = Number("reversible steps / steps of the fastest", data["steps"][0] / data["steps"][2], "1.778")
    return Caption(TEXT, (*processes, *prefactors, saved))


FIGURE = Figure(
    name="nonreversible_ou",
    title="Non-reversible Ornstein-Uhlenbeck processes: faster in time, dearer in steps",
    inputs={
        "precisions": [0.1, 0.5, 1.0, 4.0, 10.0],
        "start_mean": 1.0,
        "seed": 0,
        "tolerance": 1e-6,
        "conditions": [1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0],
        "sizes": 121,
        "times": 241,
        "last": 6.0,
        "prefactor_times": 1001,
    },
    quick_inputs={"sizes": 31, "times": 61, "prefactor_times": 201},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels. First: divergence from the target against time on a logarithmic axis; the reversible process and one with a random antisymmetric part fall slowly, "
    "the fastest antisymmetric part falls to 1e-12 within five units of time, noise in one direction within two. Second: the largest prefactor of the fastest part grows "
    "with the condition of a free matrix, below its square root. Third: the slowest rate against the size of the antisymmetric part; it saturates. Fourth: time against "
    "Euler-Maruyama steps; the processes that are faster in time need shorter steps, noise in one direction the most of all.",
    source="derived here; the optima of Lelievre, Nier & Pavliotis (2013) and Guillin & Monmarche (2016)",
    claims=("nonreversible-never-slower", "lnp-optimal-gap", "one-direction-optimal-gap", "skew-optimum-attained", "euler-step-limit"),
)
