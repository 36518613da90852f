r"""Ensembles of Gaussians fitted by maximum likelihood, on the line: the expected divergence of each pool against the number of members and the size of their samples.

Independent fits: averaging parameters cures their variance and keeps their bias, the log pool adds to the bias, the linear pool is as wide as the fits are uncertain. Which is
best depends on K and n, and the curves cross. Fits to parametric-bootstrap resamples of one data set: the linear pool improves on the fit itself, the log pool makes it worse.
Exact: fits, averages, log pools and all limits; simulated: linear pools of finitely many members, and bootstrap resamples of the data (`ensembletheory.gains.gaussian_fits`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy.optimize import brentq

import ensembletheory as et
from ensembletheory.gains import expected_kl
from ensembletheory.gains.chi_square import linear_limit
from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

FIT = LOOKS["target"]._replace(label="one fit")


def _compute(
    points: int,
    sizes: list[int],
    simulated_sizes: list[int],
    simulated_log: list[int],
    range_of_points: list[int],
    bootstrap: list[int],
    members: int,
    seed: int,
) -> Data:
    key = jax.random.key(seed)
    numbers = np.arange(range_of_points[0], range_of_points[1] + 1)
    pools = {"log": et.log_pool, "average": et.average_covariances}
    data = {
        "points": points,
        "sizes": np.array(sizes),
        "numbers": numbers,
        "fit": _values(et.log_pool, [points], [1]),
        "fits": _values(et.log_pool, numbers, [1] * len(numbers)),
        "linear_limits": _values(et.linear_pool, numbers, [np.inf] * len(numbers)),
        "linear_limit": _values(et.linear_pool, [points], [np.inf]),
        "crossing": brentq(_lead, 5.0, 12.0, xtol=1e-12),
        "simulated_sizes": np.array(simulated_sizes),
        "simulated_log": np.array(simulated_log),
        "bootstrap": np.array(bootstrap),
    }
    for name, rule in pools.items():
        data[f"{name}_by_size"] = _values(rule, [points] * len(sizes), sizes)
        data[f"{name}_limits"] = _values(rule, numbers, [np.inf] * len(numbers))
        data[f"{name}_limit"] = _values(rule, [points], [np.inf])
    for name, rule in (("log", et.log_pool), ("linear", et.linear_pool)):
        data[f"bootstrap_{name}"] = _values(rule, numbers, [np.inf] * len(numbers), "parametric_bootstrap")
    runs = {"linear": (et.linear_pool, simulated_sizes), "log": (et.log_pool, simulated_log)}
    for name, (rule, drawn) in runs.items():
        data |= _simulated(f"simulated_{name}", [expected_kl(rule, points, 1, K, key=jax.random.fold_in(key, K), samples=20_000) for K in drawn])
    resampled = [expected_kl(et.linear_pool, n, 1, members, "bootstrap", key=jax.random.fold_in(key, n), samples=20_000) for n in bootstrap]
    return data | _simulated("resampled", resampled)


def _values(rule, points, sizes, fits: et.gains.Fits = "independent") -> np.ndarray:
    return np.array([float(expected_kl(rule, int(n), 1, K, fits)) for n, K in zip(points, sizes, strict=True)])


def _simulated(name: str, estimates: list[et.Estimate]) -> Data:
    return {f"{name}_kl": np.array([float(e.value) for e in estimates]), f"{name}_error": np.array([float(e.error) for e in estimates])}


def _lead(n: float) -> float:
    """Linear pool less average of covariances, both of infinitely many fits."""
    return float(linear_limit(jnp.asarray(n))) - (1 / (n - 1) + np.log1p(-1 / n)) / 2


def _draw(data: Data) -> Picture:
    picture, (by_size, by_points, resampled) = new_figure(WIDTHS["icml_page"], 2.5, columns=3)
    _draw_sizes(by_size, data)
    _draw_limits(by_points, data)
    _draw_bootstrap(resampled, data)
    picture.legend(*by_size.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return picture


def _draw_sizes(ax: Axes, data: Data) -> None:
    letter(ax, "a", f"K fits to {int(data['points'])} points each")
    sizes = data["sizes"]
    curve(ax, sizes, np.full(sizes.size, data["fit"][0]), FIT)
    curve(ax, sizes, data["log_by_size"], LOOKS["log"])
    curve(ax, sizes, data["average_by_size"], LOOKS["parameters"])
    ax.plot(data["simulated_sizes"], data["simulated_linear_kl"], color=LOOKS["linear"].color, linewidth=0.8)
    dots(ax, data["simulated_sizes"], data["simulated_linear_kl"], 2 * data["simulated_linear_error"], LOOKS["linear"])
    ax.plot([], [], color=LOOKS["linear"].color, label=LOOKS["linear"].label)
    dots(ax, data["simulated_log"], data["simulated_log_kl"], 2 * data["simulated_log_error"], LOOKS["log"])
    for name, look in (("linear", LOOKS["linear"]), ("log", LOOKS["log"]), ("average", LOOKS["parameters"])):
        ax.plot([sizes[-1], sizes[-1] * 1.6], [data[f"{name}_limit"][0]] * 2, color=look.color, linewidth=2.2, clip_on=False)
    ax.set(xscale="log", yscale="log", xlabel="members $K$ (bars at the right: $K = \\infty$)", ylabel="expected KL(target || pool), nats")
    ax.set_xticks([1, 10, 100], labels=["1", "10", "100"])


def _draw_limits(ax: Axes, data: Data) -> None:
    letter(ax, "b", "infinitely many fits")
    for name, look in (("fits", FIT), ("log_limits", LOOKS["log"]), ("average_limits", LOOKS["parameters"]), ("linear_limits", LOOKS["linear"])):
        curve(ax, data["numbers"], data[name], look)
    n = float(data["crossing"])
    ax.plot(n, np.interp(n, data["numbers"], data["linear_limits"]), marker="o", color="black", markersize=4, markerfacecolor="white", linestyle="none", zorder=4)
    ax.set(xscale="log", yscale="log", xlabel="points a fit, $n$")
    ax.set_xticks([5, 10, 20, 50], labels=["5", "10", "20", "50"])
    ax.minorticks_off()


def _draw_bootstrap(ax: Axes, data: Data) -> None:
    letter(ax, "c", "bootstrap of one data set")
    n, fits = data["numbers"], data["fits"]
    curve(ax, n, np.ones(n.size), FIT)
    for name in ("log", "linear"):
        curve(ax, n, data[f"bootstrap_{name}"] / fits, LOOKS[name])
    at = np.searchsorted(n, data["bootstrap"])
    dots(ax, data["bootstrap"], data["resampled_kl"] / fits[at], 2 * data["resampled_error"] / fits[at])
    ax.set(xscale="log", xlabel="points of the data set, $n$", ylabel="expected KL / that of the fit", ylim=(0, 2.6))
    ax.set_xticks([5, 10, 20, 50], labels=["5", "10", "20", "50"])
    ax.minorticks_off()


TEXT = r"""Expected divergence, in nats, from a Gaussian target on the line to pools of Gaussians fitted by maximum likelihood; it is the same for every target.

(a) Independent fits to 12 points each; one fit: 0.131889. Of infinitely many: 0.001949 for averaged covariances, 0.002621 for the linear pool, 0.022826 for the log pool.
Curves are exact, linear pools are simulated (bars: two standard errors): 0.0259 against 0.028378 for averaged covariances at $K=4$, but 0.00536 against 0.005073 at $K=32$:
the curves cross.

(b) Infinitely many independent fits to $n$ points, exact. The linear pool is best up to $n=7.9934$, where averaged covariances, whose bias falls like $1/n$, overtake it.

(c) Infinitely many fits to parametric-bootstrap resamples of one data set, over the divergence of the fit to the data, exact: the linear pool improves on the fit,
by the factor 0.9183 at $n=16$, the log pool does not: 1.5379. Dots: linear pools of 16 fits to resamples of the data themselves, 1.01 at $n=16$ (bars as in a)."""


def _quoted(data: Data) -> dict[str, tuple[float, float]]:
    """Value and standard error of what the caption prints."""
    numbers, sizes, drawn = data["numbers"], data["sizes"], data["simulated_sizes"]
    fit, K4, K32 = data["fits"][numbers == 16][0], drawn == 4, drawn == 32
    at, error = data["bootstrap"] == 16, 0.0
    return {
        "fit": (data["fit"][0], error),
        "average": (data["average_limit"][0], error),
        "linear": (data["linear_limit"][0], error),
        "log": (data["log_limit"][0], error),
        "linear4": (data["simulated_linear_kl"][K4][0], data["simulated_linear_error"][K4][0]),
        "average4": (data["average_by_size"][sizes == 4][0], error),
        "linear32": (data["simulated_linear_kl"][K32][0], data["simulated_linear_error"][K32][0]),
        "average32": (data["average_by_size"][sizes == 32][0], error),
        "crossing": (float(data["crossing"]), error),
        "ratiolinear": (data["bootstrap_linear"][numbers == 16][0] / fit, error),
        "ratiolog": (data["bootstrap_log"][numbers == 16][0] / fit, error),
        "resampled": (data["resampled_kl"][at][0] / fit, data["resampled_error"][at][0] / fit),
    }


PRINTED = {
    "fit": "0.131889",
    "average": "0.001949",
    "linear": "0.002621",
    "log": "0.022826",
    "linear4": "0.0259",
    "average4": "0.028378",
    "linear32": "0.00536",
    "average32": "0.005073",
    "crossing": "7.9934",
    "ratiolinear": "0.9183",
    "ratiolog": "1.5379",
    "resampled": "1.01",
}


def _caption(data: Data) -> Caption:
    quoted = _quoted(data)
    return Caption(TEXT, tuple(Number(name, quoted[name][0], printed, quoted[name][1]) for name, printed in PRINTED.items()))


FIGURE = Figure(
    name="mle_ensembles",
    title="What ensembles of maximum-likelihood fits are expected to gain",
    inputs={
        "points": 12,
        "sizes": [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 100],
        "simulated_sizes": [2, 4, 8, 16, 32, 64],
        "simulated_log": [2, 8],
        "range_of_points": [4, 64],
        "bootstrap": [10, 16, 32],
        "members": 16,
        "seed": 0,
    },
    quick_inputs={"sizes": [1, 2, 4, 12, 32, 100], "simulated_sizes": [4, 32], "simulated_log": [], "range_of_points": [6, 16], "bootstrap": [16]},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three panels. Left: expected divergence against the number of fits to 12 points each; all pools fall from the single fit, the log pool least, and the linear "
    "pool, lowest for few members, is overtaken by averaged covariances for many. Middle: limits of infinitely many fits against the points a fit; the linear pool's is "
    "lowest for small samples and crosses that of averaged covariances at eight points; the log pool's lies above both. Right: pools of bootstrap fits of one data set "
    "relative to the fit; the linear pool lies below one, the log pool above.",
    source="derived in ensembletheory.gains.gaussian_fits from the moments of Wishart laws",
    claims=("bootstrap-log-pool", "bootstrap-linear-pool", "log-pool-kl", "linear-pool-kl"),
)
