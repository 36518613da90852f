r"""How far apart must laws be when their parameters are on different orbits? Three models, each with a control that is not identified.

Every dot is a pair: the distance of the orbits, min_g |a - g . b|, against the distance of the laws, along rays that leave the orbit of a point. At a regular point laws part
in proportion (exponent 1), at a singular one with the square of the distance of the orbits (exponent 2): loadings of deficient rank, merged components. The line is the bound
c d^k with the largest c that all pairs allow. In the controls the group is too small for the model: a search finds equal laws, up to rounding, on orbits that are far apart.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from ensembletheory.identifiability import Action, Orthogonal, Permutations, Report, check
from ensembletheory.plotting import LOOKS, WIDTHS, letter, new_figure
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

MODELS = {"ppca": "PPCA, $O(q)$", "mixture": "mixture, $S_K$", "factors": "factor analysis, $O(q)$"}
GRID = np.linspace(-8.0, 8.0, 65)
FLOOR = 1e-17  # what is smaller is drawn here


def _covariance(a: Any) -> Float[Array, "d d"]:
    W = a["loadings"]
    return W @ W.T + jnp.diag(jnp.broadcast_to(jnp.exp(a["log_noise"]), W.shape[:1]))


def _density(a: Any) -> Float[Array, " n"]:
    """The sum of w_k N(x; m_k, 1), so that Euclidean distances are L2 distances of densities."""
    values = jnp.exp(-((GRID[None, :] - a["means"][:, None]) ** 2) / 2) / np.sqrt(2 * np.pi)
    return a["weights"] @ values * np.sqrt(GRID[1] - GRID[0])


def _equal_weights(means: Any) -> Float[Array, " n"]:
    return _density({"weights": jnp.full(2, 0.5), "means": means})


def _loadings(rows: list[list[float]], noises: list[float]) -> Any:
    return {"loadings": np.asarray(rows), "log_noise": np.log(noises[0] if len(noises) == 1 else np.asarray(noises))}


def _reports(lengths: list[float], noise: float, separation: float, factors: list[list[float]], noises: list[float], searches: int) -> dict[str, Report]:
    first, second = lengths
    rotated, single = (Action(Orthogonal(q), {"loadings": 1, "log_noise": None}) for q in (2, 1))
    alone = {"points": 1, "searches": searches}
    return {
        "ppca, regular": check(_covariance, rotated, [_loadings([[first, 0.0], [0.0, second], [0.0, 0.0]], [noise])], **alone),
        "ppca, singular": check(_covariance, rotated, [_loadings([[first, 0.0], [0.0, 0.0], [0.0, 0.0]], [noise])], **alone),
        "ppca, control": check(_covariance, rotated, [_loadings([[first, 0.0], [0.0, second]], [noise])], **alone),
        "mixture, regular": check(_equal_weights, Permutations(2), [np.array([-separation, separation])], **alone),
        "mixture, singular": check(_equal_weights, Permutations(2), [np.zeros(2)], **alone),
        "mixture, control": check(_density, Action(Permutations(2), 0), [{"weights": np.full(2, 0.5), "means": np.zeros(2)}], **alone),
        "factors, regular": check(_covariance, rotated, [_loadings(factors, noises)], **alone),
        "factors, control": check(_covariance, single, [_loadings([factors[0][:1], factors[1][:1]], noises[:2])], **alone),
    }


def _compute(lengths: list[float], noise: float, separation: float, factors: list[list[float]], noises: list[float], searches: int) -> Data:
    data: Data = {}
    for name, report in _reports(lengths, noise, separation, factors, noises, searches).items():
        suspects = np.array([[pair.quotient, pair.law] for pair in report.suspects]).reshape(-1, 2)
        data |= {f"{name}, pairs": report.distances, f"{name}, bound": np.array([report.constant, report.exponent]), f"{name}, suspects": suspects}
    return data


def _draw(data: Data) -> Picture:
    picture, axes = new_figure(WIDTHS["iclr"], 2.7, columns=3)
    for ax, tag, (model, title) in zip(axes, "abc", MODELS.items(), strict=True):
        letter(ax, tag, title)
        for case in ("regular", "singular"):
            if f"{model}, {case}, pairs" in data:
                _draw_pairs(ax, data, model, case)
        _draw_suspects(ax, data[f"{model}, control, suspects"])
        ax.set(xscale="log", yscale="log", xlabel="distance of orbits", xlim=(5e-4, 60), ylim=(FLOOR / 3, 300))
        ax.set_yticks([1e-16, 1e-12, 1e-8, 1e-4, 1])
    axes[0].set_ylabel("distance of laws")
    handles, labels = axes[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=3)
    return picture


def _draw_pairs(ax: Axes, data: Data, model: str, case: str) -> None:
    look, pairs, (constant, exponent) = LOOKS[case], data[f"{model}, {case}, pairs"], data[f"{model}, {case}, bound"]
    seen = pairs[:, 1] > 0
    ax.plot(pairs[seen, 0], pairs[seen, 1], ".", color=look.color, markersize=2.5, alpha=0.6, linestyle="none")
    d = np.array([pairs[:, 0].min(), pairs[:, 0].max()])
    ax.plot(d, constant * d**exponent, color=look.color, linestyle=look.linestyle, label=f"{look.label}: exponent {exponent:g}")


def _draw_suspects(ax: Axes, suspects: np.ndarray) -> None:
    look = LOOKS["not_identified"]
    ax.plot(suspects[:, 0], np.maximum(suspects[:, 1], FLOOR), look.marker, color=look.color, markersize=6, markeredgewidth=1.2, label=look.label, clip_on=False)


# What the caption prints: constant and exponent of each bound.
PRINTED = {
    "ppca, regular": ("0.4329", "1"),
    "ppca, singular": ("0.9063", "2"),
    "mixture, regular": ("0.1223", "1"),
    "mixture, singular": ("0.1039", "2"),
    "factors, regular": ("0.1480", "1"),
}

TEXT = r"""Distance of the laws against distance of the orbits $d$ of their parameters, with the largest $c$ for which $c d^k$ bounds all pairs from below.

(a) PPCA with loadings of lengths 2 and 1 in three dimensions and noise variance 0.5, up to rotation (laws compared by their covariances): $k=1$, $c=0.4329$; with a second
column of zeros $k=2$, $c=0.9063$.

(b) Two components of equal weight and variance 1, up to relabelling (laws compared in $L_2$): means $\pm 1.5$ give $k=1$, $c=0.1223$, merged ones $k=2$, $c=0.1039$.

(c) Two factors of five coordinates, up to rotation: $k=1$, $c=0.1480$.

Controls (bars at the bottom), in which searches found laws that agree to rounding on orbits that are far apart: as many factors as coordinates in (a), merged components of
free weights in (b), one factor of two coordinates in (c)."""


def _caption(data: Data) -> Caption:
    constants = [Number(f"constant, {name}", data[f"{name}, bound"][0], constant) for name, (constant, _) in PRINTED.items()]
    exponents = [Number(f"exponent, {name}", data[f"{name}, bound"][1], exponent) for name, (_, exponent) in PRINTED.items()]
    return Caption(TEXT, (*constants, *exponents))


FIGURE = Figure(
    name="identifiability_moduli",
    title="How far laws are apart when their parameters are",
    inputs={
        "lengths": [2.0, 1.0],
        "noise": 0.5,
        "separation": 1.5,
        "factors": [[1.0, 0.5], [-0.5, 1.5], [2.0, -1.0], [0.5, 1.0], [1.5, 0.5]],
        "noises": [0.5, 1.0, 0.75, 1.25, 0.5],
        "searches": 24,
    },
    quick_inputs={"searches": 8},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three panels, distance of laws against distance of orbits, both logarithmic. Dots of regular points lie on and above a line of slope 1, dots of singular points on "
    "and above a line of slope 2. At the bottom of each panel, sixteen orders of magnitude below, bars mark equal laws on orbits up to distances above 2, the controls.",
    source="derived in ensembletheory.identifiability; the groups are those of Tipping and Bishop (1999), Teicher (1963), and Anderson and Rubin (1956)",
    claims=("ppca-rotation-invariance", "procrustes-is-bures", "procrustes-modulus"),
)
