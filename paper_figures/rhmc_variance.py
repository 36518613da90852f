r"""What randomised Hamiltonian Monte Carlo remembers of its data: variance and kurtosis by time and refreshment, and how fast moments are forgotten.

A point x of data N(0, sigma^2) turns with its velocity, (x, v) -> (x cos s + v sin s, -x sin s + v cos s), and v is drawn anew from N(0, 1) at rate lambda. Given the
refreshments x_t is Gaussian, of the variance 1 + (sigma^2 - 1) prod cos^2 g_i over the gaps between them, so that its law is a scale mixture: its variance is 1 + (sigma^2
- 1) u_2 and its kurtosis is 3 (1 + 2 (sigma^2 - 1) u_2 + (sigma^2 - 1)^2 u_4) / (1 + (sigma^2 - 1) u_2)^2 with u_p = E prod cos^p g_i. Langevin dynamics with the friction
lambda has the same means, but forgets second moments twice as fast as means: x keeps (1 + t) e^{-t} of its deviation at the critical friction 2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure, write_beside
from ensembletheory.processes import RandomisedHmc
from ensembletheory.processes.pdmp import forgetting_rate, remembered
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

REFRESHED = ("rarely_refreshed", "refreshed", "best_refreshed", "often_refreshed")
POWERS = {1: "first_moments", 2: "second_moments", 4: "fourth_powers"}
BEST = {1: 2.0, 2: 3 / 2**0.5, 4: 18 / (5 * 2**0.5)}


def _compute(
    deviation: float,
    refreshments: list[float],
    last: float,
    simulated: list[float],
    simulated_refreshment: float,
    asked: float,
    slowest: float,
    fastest: float,
    draws: int,
    points: int,
    seed: int,
) -> Data:
    times, rates = np.linspace(0, last, points), np.sort(np.concatenate([np.linspace(slowest, fastest, points), list(BEST.values())]))
    variances, kurtoses = _shapes(jnp.asarray(refreshments), jnp.asarray(times), jnp.asarray(deviation))
    shown, at = _at(np.asarray(refreshments), simulated_refreshment), _at(times, asked)
    process, data = RandomisedHmc(et.standard_normal(1), simulated_refreshment), et.Gaussian([0.0], [deviation**2])
    ends = [process.simulate(key, draws, data, t) for key, t in zip(jax.random.split(jax.random.key(seed), len(simulated)), simulated, strict=True)]
    x = np.stack([np.asarray(end.positions)[:, 0] for end in ends])
    return {
        "times": times,
        "rates": rates,
        "variances": variances,
        "kurtoses": kurtoses,
        "langevin": 1 + (deviation**2 - 1) * ((1 + times) * np.exp(-times)) ** 2,
        "forgotten": _rates(jnp.asarray(rates)),
        "asked_shape": jnp.stack([variances[shown, at], kurtoses[shown, at]]),
        "asked_moments": process.moments(data, asked)[1],
        "simulated": simulated,
        "simulated_variances": _with_error(x**2),
        "simulated_kurtoses": _kurtosis(x),
    }


@jax.jit
def _shapes(rates: Float[Array, " r"], times: Float[Array, " t"], deviation: Float[Array, ""]) -> tuple[Float[Array, "r t"], Float[Array, "r t"]]:
    """Variance and kurtosis by refreshment and time."""
    excess = deviation**2 - 1

    def shape(rate, t):
        second, fourth = excess * remembered(rate, t, 2), excess**2 * remembered(rate, t, 4)
        return 1 + second, 3 * (1 + 2 * second + fourth) / (1 + second) ** 2

    return jax.vmap(lambda rate: jax.vmap(lambda t: shape(rate, t))(times))(rates)


@jax.jit
def _rates(refreshments: Float[Array, " r"]) -> Float[Array, "3 r"]:
    """The rates of forgetting by power."""
    return jnp.stack([jax.vmap(lambda rate, power=power: forgetting_rate(rate, power))(refreshments) for power in POWERS])


def _with_error(values: np.ndarray) -> np.ndarray:
    """Means over the last axis and their standard errors."""
    return np.stack([values.mean(axis=1), values.std(axis=1, ddof=1) / values.shape[1] ** 0.5])


def _kurtosis(x: np.ndarray) -> np.ndarray:
    """E x^4 / (E x^2)^2 with its standard error by linearisation."""
    second, fourth = np.mean(x**2, axis=1, keepdims=True), np.mean(x**4, axis=1, keepdims=True)
    return np.stack([(fourth / second**2)[:, 0], _with_error(x**4 / second**2 - 2 * fourth / second**3 * x**2)[1]])


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["icml_page"], 3.9, rows=2, columns=2)
    for draw, ax in zip((_draw_variances, _draw_distances, _draw_kurtoses, _draw_rates), panels, strict=True):
        draw(ax, data)
    return picture


def _labels() -> list[str]:
    return [rf"$\lambda={text}$" for text in ("0.5", "1", r"3/\sqrt{2}", "6")]


def _draw_variances(ax: Axes, data: Data) -> None:
    letter(ax, "a", "variance of $x_t$")
    for name, values, label in zip(REFRESHED, data["variances"], _labels(), strict=True):
        curve(ax, data["times"], values, LOOKS[name]._replace(label=label))
    curve(ax, data["times"], data["langevin"], LOOKS["critical_langevin"])
    dots(ax, data["simulated"], *data["simulated_variances"])
    ax.set(xlabel="time $t$", xlim=(0, data["times"][-1]), ylim=(0.9, None))
    ax.legend(loc="upper right")


def _draw_distances(ax: Axes, data: Data) -> None:
    letter(ax, "b", "|variance - 1|")
    for name, values in zip((*REFRESHED, "critical_langevin"), (*data["variances"], data["langevin"]), strict=True):
        curve(ax, data["times"], abs(values - 1), LOOKS[name])
    ax.set(xlabel="time $t$", yscale="log", xlim=(0, data["times"][-1]), ylim=(1e-4, 5))


def _draw_kurtoses(ax: Axes, data: Data) -> None:
    letter(ax, "c", "kurtosis of $x_t$")
    ax.axhline(3.0, color=LOOKS["critical_langevin"].color, linewidth=0.6)
    for name, values in zip(REFRESHED, data["kurtoses"], strict=True):
        curve(ax, data["times"], values, LOOKS[name])
    dots(ax, data["simulated"], *data["simulated_kurtoses"])
    ax.set(xlabel="time $t$", xlim=(0, data["times"][-1]))


def _draw_rates(ax: Axes, data: Data) -> None:
    letter(ax, "d", r"rate of forgetting, $E \prod \cos^p g_i$")
    for (power, name), values in zip(POWERS.items(), data["forgotten"], strict=True):
        curve(ax, data["rates"], values, LOOKS[name])
        top = float(values[_at(data["rates"], BEST[power])])
        ax.plot(BEST[power], top, marker="o", color=LOOKS[name].color, markersize=4, linestyle="none", zorder=4)
        write_beside(ax, BEST[power], top, LOOKS[name].label, LOOKS[name], (10, 6) if power == 2 else (5, 5))
    ax.set(xlabel=r"refreshment $\lambda$", xlim=(data["rates"][0], data["rates"][-1]), ylim=(0, 1.25))


def _at(grid: np.ndarray, value: float) -> int:
    """The index of the grid point nearest to `value`."""
    return int(np.argmin(np.abs(grid - value)))


TEXT = r"""Randomised HMC on $N(0, 1)$ from data $N(0, \sigma^2)$, $\sigma = 2.0$, with refreshments at the rate $\lambda$; lines are exact, and dots are simulated at
$\lambda = 1.0$.

(a) The variance of $x_t$. At $\lambda = 1$ and $t = 2$: $E x^2 = 1.3879495$, $E x v = -0.0268553$ and $E v^2 = 1.9182111$.

(b) Its distance from 1 and that of Langevin dynamics at the friction 2, whose means are those of $\lambda = 2$.

(c) The kurtosis, which is at least 3 as $x_t$ is a Gaussian scale mixture: 3.14274 at $\lambda = 1$ and $t = 2$, and at most 4.05, 3.97, 3.21 and 3.07 on these
lines.

(d) The rate at which $E \prod \cos^p g_i$ falls in the long run, and its best refreshment: 1.00000 at $\lambda = 2$ for $p = 1$ (means), 0.70711 at
$\lambda = 3/\sqrt{2}$ for $p = 2$ (variances), where Langevin dynamics has 2, and 1.13137 at $\lambda = 18/(5\sqrt{2})$ for $p = 4$."""


def _caption(data: Data) -> Caption:
    moments, shape = data["asked_moments"], data["asked_shape"]
    exact = [
        Number("E x^2", moments[0, 0], "1.3879495"),
        Number("E x^2, from the cosines", shape[0], "1.3879495"),
        Number("E x v", moments[0, 1], "-0.0268553"),
        Number("E v^2", moments[1, 1], "1.9182111"),
        Number("kurtosis", shape[1], "3.14274"),
    ]
    printed = ("4.05", "3.97", "3.21", "3.07")
    largest = [Number(f"largest kurtosis, {name}", values.max(), text) for name, values, text in zip(REFRESHED, data["kurtoses"], printed, strict=True)]
    rates = [
        Number(f"best rate, {POWERS[power]}", values[_at(data["rates"], BEST[power])], text)
        for power, values, text in zip(POWERS, data["forgotten"], ("1.00000", "0.70711", "1.13137"), strict=True)
    ]
    at = _at(data["simulated"], 2.0)
    drawn = [
        Number("simulated E x^2", data["simulated_variances"][0, at], "1.3879495", data["simulated_variances"][1, at]),
        Number("simulated kurtosis", data["simulated_kurtoses"][0, at], "3.14274", data["simulated_kurtoses"][1, at]),
    ]
    return Caption(TEXT, (*exact, *largest, *rates, *drawn))


FIGURE = Figure(
    name="rhmc_variance",
    title="What randomised Hamiltonian Monte Carlo remembers",
    inputs={
        "deviation": 2.0,
        "refreshments": [0.5, 1.0, 3 / 2**0.5, 6.0],
        "last": 8.0,
        "simulated": [0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
        "simulated_refreshment": 1.0,
        "asked": 2.0,
        "slowest": 0.2,
        "fastest": 6.0,
        "draws": 200_000,
        "points": 241,
        "seed": 0,
    },
    quick_inputs={"simulated": [1.0, 2.0, 4.0], "draws": 10_000, "points": 121},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels. First: the variance falls from 4 towards 1, with oscillations where refreshments are rare, slowly where they are frequent. Second: its distance from 1 "
    "on a logarithmic scale, lowest at the refreshment 3 over the root of 2 in the end, and lower still for Langevin dynamics. Third: the kurtosis rises above 3 and "
    "returns. Fourth: rates of forgetting of means, variances and fourth powers of cosines, each with one peak in the refreshment.",
    source="derived here, for the randomised HMC of Bou-Rabee and Sanz-Serna (2017)",
    claims=("rhmc-renewal", "rhmc-best-refreshment", "rhmc-heavy-tails"),
)
