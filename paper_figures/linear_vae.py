r"""The linear VAE: where its objectives are stationary, when its columns collapse, and how far the ELBO and the importance-weighted bound stay below the likelihood.

Data with covariance eigenvalues l_1 > ... > l_d, q columns, noise variance s2. Every set A of at most q eigenvalues above s2 gives a stationary point of the likelihood and
of the ELBO; over the collapsed point W = 0 it gains sum_A 1/2 ( l_j / s2 - 1 - log(l_j / s2) ). One of them is stable. At the optimum of a beta-VAE column j has squared
length (l_j - beta s2)_+. With two latents of posterior correlation rho the best diagonal encoder leaves a gap of -1/2 log(1 - rho^2), and K samples one that falls like
1 / K for rho < 1/2 and like K^{1 - 1/rho} (log K)^{-1/2} beyond (`ensembletheory.latent`, where all of this is derived).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy.optimize import minimize

import ensembletheory as et
from ensembletheory.latent import (
    average_elbo,
    best_diagonal_encoder,
    beta_encoder,
    beta_vae_optimum,
    collapse_thresholds,
    hadamard_gap,
    iwae_bound,
    iwae_gap,
    iwae_rate,
    iwae_second_moment,
    stationary_points,
)
from ensembletheory.plotting import LOOKS, WIDTHS, Look, curve, dots, letter, new_figure, write_beside
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

COLUMNS = 2
POINT = np.ones(2)
SOLID, FAINT, RATE = LOOKS["target"], LOOKS["member"], LOOKS["average"]


def _compute(
    spectrum: list[float],
    angle: float,
    betas: list[float],
    correlations: list[float],
    counts: list[int],
    simulated_counts: list[int],
    rates: list[float],
    seed: int,
    noise_points: int,
    ascents: int,
    correlation_points: int,
    count_powers: int,
    count_step: int,
    samples: int,
) -> Data:
    stationary = _stationary(np.asarray(spectrum), np.geomspace(0.15, 1.2 * spectrum[0], noise_points), angle)
    collapse = _collapse(np.asarray(spectrum), betas, noise_points, ascents, seed)
    simulated = _simulated(correlations, simulated_counts, seed, samples)
    return stationary | collapse | _gaps(correlations, counts, rates, correlation_points, count_powers, count_step) | simulated


def _stationary(spectrum: np.ndarray, noises: np.ndarray, angle: float) -> Data:
    """The gain of every subset over the collapsed point, NaN where it is none, and that of the optimum with its columns turned by `angle`."""
    S = np.diag(spectrum)
    lists = [{point.subset: point for point in stationary_points(S, COLUMNS, s2, "elbo")} for s2 in noises]
    subsets = sorted(max(lists, key=len))
    values = np.array([[at[A].value - at[()].value if A in at else np.nan for A in subsets] for at in lists])
    unstable = np.array([[at[A].unstable if A in at else -1 for A in subsets] for at in lists])
    Q = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    optima = [max(at.values(), key=lambda point: point.value).model for at in lists]
    turned = np.nanmax(values, axis=1) - [float(hadamard_gap(et.Ppca(best.loadings @ Q, best.mean, best.noise_variance))) for best in optima]
    names = np.array([[j in A for j in range(spectrum.size)] for A in subsets])
    return {"noises": noises, "subsets": names, "gains": values, "unstable": unstable, "turned": turned, "spectrum": spectrum}


def _collapse(spectrum: np.ndarray, betas: list[float], noise_points: int, ascents: int, seed: int) -> Data:
    """Squared lengths of the columns of optimal beta-VAEs, exactly, and as an ascent of the average ELBO_beta over decoders from random ones finds them."""
    S, rng = np.diag(spectrum), np.random.default_rng(seed)
    noises, tried = np.linspace(0.02, 1.15 * spectrum[0], noise_points), np.linspace(0.15, 1.1 * spectrum[0], ascents)
    lengths = [[np.sum(np.asarray(beta_vae_optimum(S, COLUMNS, s2, beta).loadings) ** 2, axis=0) for s2 in noises] for beta in betas]
    found = [[_ascended(S, s2, beta, rng.normal(size=(spectrum.size, COLUMNS))) for s2 in tried] for beta in betas]
    thresholds = [collapse_thresholds(S, COLUMNS, beta) for beta in betas]
    return {"betas": betas, "thresholds": thresholds, "collapse_noises": noises, "lengths": lengths, "tried_noises": tried, "found_lengths": found}


@jax.jit
def _loss(loadings: jax.Array, S: jax.Array, s2: jax.Array, beta: jax.Array) -> tuple[jax.Array, jax.Array]:
    def negative(flat):
        model = et.Ppca(flat.reshape(S.shape[0], COLUMNS), jnp.zeros(S.shape[0]), s2)
        return -average_elbo(model, beta_encoder(model, beta), S, beta)

    return jax.value_and_grad(negative)(loadings)


def _ascended(S: np.ndarray, s2: float, beta: float, start: np.ndarray) -> np.ndarray:
    end = minimize(lambda flat: tuple(map(np.asarray, _loss(jnp.asarray(flat), S, s2, beta))), start.ravel(), jac=True, method="BFGS", options={"gtol": 1e-7})
    return np.sort(np.sum(end.x.reshape(start.shape) ** 2, axis=0))[::-1]


def _model(rho: float) -> et.Ppca:
    """A linear VAE whose M / s2 has unequal diagonal entries and correlation rho."""
    s2, off = 0.1, rho * np.sqrt(2.0 * 1.5)
    values, vectors = np.linalg.eigh(np.array([[2.0, off], [off, 1.5]]) - s2 * np.eye(2))
    return et.Ppca((vectors * np.sqrt(values)).T, np.zeros(2), s2)


def _gap(rho: float, K: int) -> float:
    model = _model(rho)
    return float(iwae_gap(model, best_diagonal_encoder(model), POINT, K))


def _gaps(correlations: list[float], counts: list[int], rates: list[float], correlation_points: int, count_powers: int, count_step: int) -> Data:
    rhos, powers = np.union1d(np.linspace(0.05, 0.9, correlation_points), correlations), 4 ** np.arange(0, count_powers // 2 + 1, count_step)
    moments = [float(iwae_second_moment(model, best_diagonal_encoder(model), POINT)) for model in map(_model, correlations)]
    limits = [iwae_rate(model, best_diagonal_encoder(model), POINT, powers[1:]) for model in map(_model, rates)]
    return {
        "correlations": correlations,
        "counts": counts,
        "rhos": rhos,
        "gaps": [[_gap(rho, K) for rho in rhos] for K in [1, *counts]],
        "second_moments": moments,
        "rates": rates,
        "powers": powers,
        "rate_gaps": [[_gap(rho, int(K)) for K in powers] for rho in rates],
        "rate_limits": limits,
    }


def _simulated(correlations: list[float], counts: list[int], seed: int, samples: int) -> Data:
    """The gaps by Monte Carlo, with standard errors."""
    keys = iter(jax.random.split(jax.random.key(seed), len(correlations) * len(counts)))
    models = [_model(rho) for rho in correlations]
    found = [[model.log_prob(POINT) - iwae_bound(model, best_diagonal_encoder(model), POINT, K, key=next(keys), samples=samples) for model in models] for K in counts]
    return {"simulated_counts": counts, "simulated": [[float(e) for e in row] for row in found], "simulated_errors": [[float(e.error) for e in row] for row in found]}


def _draw(data: Data) -> Picture:
    picture, (stationary, collapse, correlation, rate) = new_figure(WIDTHS["iclr"], 4.5, rows=2, columns=2)
    _draw_stationary(stationary, data)
    _draw_collapse(collapse, data)
    _draw_correlation(correlation, data)
    _draw_rate(rate, data)
    return picture


def _draw_stationary(ax: Axes, data: Data) -> None:
    letter(ax, "a", "stationary points at fixed noise")
    x = data["noises"]
    for names, gains in zip(data["subsets"], data["gains"].T, strict=True):
        curve(ax, x, gains, FAINT._replace(linestyle="-", label="unstable"))
        if names.any() and not (names[-1] and names[:-1].any()):
            write_beside(ax, x[0], gains[0], "".join(str(j + 1) for j in np.flatnonzero(names)), RATE, (-3, 0), "right")
    curve(ax, x, np.nanmax(data["gains"], axis=1), SOLID._replace(label="stable"))
    ax.set(xscale="log", xlabel=r"noise variance $\sigma^2$", ylabel=r"gain over $W = 0$, nats", xlim=(0.115, x[-1]))
    ax.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0.0)), np.square))
    ticks = [0, 0.1, 0.5, 1, 2, 4, 8, 12]
    ax.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.set_xticks(data["spectrum"], labels=[rf"$\lambda_{j + 1}$" for j in range(data["spectrum"].size)])
    ax.minorticks_off()
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[-2:], labels[-2:], loc="upper right")


def _draw_collapse(ax: Axes, data: Data) -> None:
    letter(ax, "b", r"collapse of a $\beta$-VAE")
    for beta, lengths, found, look in zip(data["betas"], data["lengths"], data["found_lengths"], (SOLID, LOOKS["elbo"]), strict=False):
        for column in range(COLUMNS):
            curve(ax, data["collapse_noises"], lengths[:, column], look._replace(label=rf"$\beta = {beta:g}$" if column == 0 else "_"))
            dots(ax, data["tried_noises"], found[:, column], np.zeros(len(found)), look._replace(marker="o"))
    ax.set(xlabel=r"noise variance $\sigma^2$", ylabel="squared length of columns", xlim=(0, data["collapse_noises"][-1]), ylim=(-0.1, None))
    ax.legend(loc="upper right")


def _draw_correlation(ax: Axes, data: Data) -> None:
    letter(ax, "c", "what the bounds leave, by correlation")
    for K, gaps, look in zip([1, *data["counts"]], data["gaps"], _shades(len(data["gaps"])), strict=True):
        curve(ax, data["rhos"], gaps, look._replace(label="ELBO" if K == 1 else f"IWAE, $K={K}$"))
    for simulated, errors in zip(data["simulated"], data["simulated_errors"], strict=True):
        dots(ax, data["correlations"], simulated, 2 * errors)
    ax.axvline(0.5, ymin=0.42, color=FAINT.color, linewidth=0.8, zorder=0)
    ax.set(yscale="log", xlabel=r"posterior correlation $\rho$", ylabel=r"$\log p(x) - L_K(x)$, nats", xlim=(0.05, 0.9), ylim=(1e-5, 1.5))
    ax.legend(loc="lower right")


def _draw_rate(ax: Axes, data: Data) -> None:
    letter(ax, "d", "and by number of samples")
    for i, (rho, gaps, limits) in enumerate(zip(data["rates"], data["rate_gaps"], data["rate_limits"], strict=True)):
        curve(ax, data["powers"], gaps, LOOKS["iwae"]._replace(linestyle="-", label="_" if i else "exact"))
        curve(ax, data["powers"][1:], limits, RATE._replace(label="_" if i else "asymptote"))
        write_beside(ax, data["powers"][-1], gaps[-1], rf"$\rho={rho:g}$", LOOKS["iwae"], (0, 18), "right")
    ax.set(xscale="log", yscale="log", xlabel="$K$", ylabel=r"$\log p(x) - L_K(x)$, nats", xlim=(1, data["powers"][-1]), ylim=(2e-8, 1.5))
    ax.legend(loc="lower left")


def _shades(n: int) -> Sequence[Look]:
    """The ELBO's look, and that of IWAE for more and more samples."""
    return [LOOKS["elbo"], *[LOOKS["iwae"]._replace(linestyle=style) for style in ("-", (0, (5, 1)), (0, (2, 1)), (0, (1, 1)))[: n - 1]]]


# What the caption prints, by correlation: second moment of the weights, gap of the ELBO, exact gaps at K = 4, 16 and 64.
TABLE = {
    0.1: ("1.010415", "0.005025", "0.001282", "0.000324", "0.000081"),
    0.3: ("1.137500", "0.047155", "0.013989", "0.003961", "0.001045"),
    0.45: ("1.829590", "0.113137", "0.040104", "0.013790", "0.004293"),
    0.49: ("3.818641", "0.137284", "0.051291", "0.018808", "0.006277"),
    0.5: ("", "0.143841", "0.054464", "0.020305", "0.006904"),
}
GAINS = {(0, 1): "12.5660", (0, 2): "10.1726", (0, 3): "8.3451", (1, 2): "6.7343", (0,): "8.0021"}  # at the smallest noise variance, by subset
THRESHOLDS = (("3.00", "1.90"), ("1.50", "0.95"))
RATIOS = ("1.000", "1.052", "0.888")

TEXT = r"""The linear VAE on data with covariance eigenvalues 3.0, 1.9, 1.1 and 0.4, with two columns.

(a) Every set of at most two eigenvalues above $\sigma^2$ is a stationary point of the log-likelihood and of the ELBO, with the same value; the numbers on the left say which.
One is stable (black), the top ones; a branch joins the one without $\lambda_j$ where $\sigma^2 = \lambda_j$ (root scale; a set with 4 lies just above that without).
At $\sigma^2 = 0.15$ the sets 12, 13, 14, 23 and 1 gain 12.5660, 10.1726, 8.3451, 6.7343 and 8.0021 nats over $W = 0$. Turning the columns of the optimum by 30° keeps the
likelihood and leaves an ELBO of 12.5465.
(b) Squared lengths of the columns at the optimum of a $\beta$-VAE, $(\lambda_j - \beta\sigma^2)_+$ (lines), and where an ascent from a random decoder ends (dots). Columns
collapse at $\sigma^2 = \lambda_j/\beta$: at 3.00 and 1.90 for $\beta = 1$, at 1.50 and 0.95 for $\beta = 2$.

(c) Gap of the ELBO and of the importance-weighted bound with two latents and the best diagonal encoder: exact (lines) and simulated (dots, two standard errors).
Second moment of the weights, gap of the ELBO, gaps for $K = 4, 16, 64$: 1.010415, 0.005025, 0.001282, 0.000324, 0.000081 at $\rho = 0.1$;
1.137500, 0.047155, 0.013989, 0.003961, 0.001045 at 0.3; 1.829590, 0.113137, 0.040104, 0.013790, 0.004293 at 0.45; 3.818641, 0.137284, 0.051291, 0.018808, 0.006277 at 0.49;
infinite, 0.143841, 0.054464, 0.020305, 0.006904 at 0.5.
(d) Exact gaps and their asymptotes (dashed): $(E r^2 - 1)/2K$ below $\rho = 1/2$, of order $K^{1 - 1/\rho}(\log K)^{-1/2}$ beyond. At $K = 2^{20}$ a gap is 1.000, 1.052 and
0.888 times its asymptote for $\rho = 0.3$, 0.6 and 0.8."""


def _caption(data: Data) -> Caption:
    subsets = {tuple(np.flatnonzero(names).tolist()): i for i, names in enumerate(data["subsets"])}
    numbers = [Number(f"gain of {A}", data["gains"][0, subsets[A]], text) for A, text in GAINS.items()]
    numbers.append(Number("smallest noise variance", data["noises"][0], "0.15"))
    numbers.append(Number("ELBO of turned columns", data["turned"][0], "12.5465"))
    for beta, thresholds, printed in zip(data["betas"], data["thresholds"], THRESHOLDS, strict=True):
        numbers += [Number(rf"threshold, $\beta={beta:g}$", got, text) for got, text in zip(thresholds, printed, strict=True)]
    for i, (rho, printed) in enumerate(TABLE.items()):
        values = (data["second_moments"][i], *data["gaps"][:, int(np.argmin(np.abs(data["rhos"] - rho)))])
        names = ("second moment", "K=1", "K=4", "K=16", "K=64")
        numbers += [Number(rf"{name}, $\rho={rho:g}$", value, text) for name, value, text in zip(names, values, printed, strict=True) if text]
    numbers += [
        Number(rf"ratio, $\rho={rho:g}$", row[-1] / limits[-1], text)
        for rho, row, limits, text in zip(data["rates"], data["rate_gaps"], data["rate_limits"], RATIOS, strict=True)
    ]
    return Caption(TEXT, tuple(numbers))


FIGURE = Figure(
    name="linear_vae",
    title="Stationary points, collapse and bounds of the linear VAE",
    inputs={
        "spectrum": [3.0, 1.9, 1.1, 0.4],
        "angle": np.pi / 6,
        "betas": [1.0, 2.0],
        "correlations": [0.1, 0.3, 0.45, 0.49, 0.5],
        "counts": [4, 16, 64],
        "simulated_counts": [4, 64],
        "rates": [0.3, 0.6, 0.8],
        "seed": 5,
        "noise_points": 241,
        "ascents": 25,
        "correlation_points": 89,
        "count_powers": 20,
        "count_step": 1,
        "samples": 100_000,
    },
    quick_inputs={"noise_points": 41, "ascents": 7, "correlation_points": 18, "count_step": 2, "samples": 10_000},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels. Stationary points: branches rise from zero where the noise variance passes each eigenvalue, and only the highest is stable. Collapse: squared lengths "
    "of two columns fall linearly to zero, twice as fast for beta = 2, and numerical ascents agree. By correlation: the gaps of the ELBO and of bounds with 4, 16 and 64 "
    "samples rise, with simulated dots on them. By samples: the gap falls like 1/K at correlation 0.3, and more slowly at 0.6 and 0.8, towards dashed asymptotes.",
    source="derived in ensembletheory.latent, in the settings of Tipping & Bishop (1999), Lucas et al. (2019), Higgins et al. (2017) and Burda et al. (2016)",
    claims=("linear-vae-elbo-gap", "ppca-stationary-stability", "beta-vae-threshold", "iwae-rate"),
)
