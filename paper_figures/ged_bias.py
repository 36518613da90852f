r"""What GED from n samples measures: the distance of the laws, plus the model's own diversity over n.

(a) Graders draw a disc, a larger one, or nothing. Three "models": the law of the graders itself, and the best single mask. Lines are exact; dots are means over simulated
sets of samples, through the code that is used on data.

(b) GED at several numbers of samples as printed for eight methods on LIDC, one of them on two preparations, collected by Zbinden et al. (2023), over 1/n, where the law
GED + c/n is a straight line with 0 <= c <= 1. The lines are those of least maximal residual, by linear programming, whatever their slopes: that of a row may exceed 1, which
the law forbids.
"""

from typing import NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from scipy.optimize import linprog

from ensembletheory.plotting import LOOKS, WIDTHS, curve, dots, letter, new_figure, write_beside
from ensembletheory.segmentation import MaskLaw, deterministic_floor, diversity, expected_v_statistic, ged_u_statistic, ged_v_statistic
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

SIZES = np.array([2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100])
PIXELS = 24

# GED as printed, by the number of samples; v1 and v2 are two preparations of LIDC, v1 where nothing is said.
PRINTED = {
    "ProbUNet": {16: "0.310", 32: "0.303", 100: "0.252"},
    "PHiSeg": {16: "0.262", 32: "0.247", 100: "0.224"},
    "CAR, v2": {16: "0.264", 50: "0.248", 100: "0.243"},
    "SSN": {16: "0.259", 32: "0.243", 100: "0.225"},
    "CCDM, v2": {16: "0.239", 50: "0.216", 100: "0.210"},
    "CIMD": {16: "0.234", 32: "0.218", 50: "0.210"},
    "MoSE": {16: "0.218", 50: "0.195", 100: "0.189"},
    "AnalogBits": {16: "0.213", 32: "0.196", 50: "0.193"},
    "CCDM": {16: "0.212", 32: "0.194", 50: "0.187", 100: "0.183"},
}
LIFTED = {"PHiSeg": 7, "CAR, v2": 0, "SSN": -5, "CCDM, v2": 2, "CIMD": -3, "MoSE": 4, "AnalogBits": 0, "CCDM": -8}  # points by which names are moved apart


class Line(NamedTuple):
    """GED + c/n of least maximal residual."""

    limit: float
    slope: float
    residual: float


def _fitted(row: dict[int, str]) -> Line:
    n, printed = np.array(list(row), float), np.array([float(text) for text in row.values()])
    design = np.stack([np.ones_like(n), 1 / n], axis=1)
    away = -np.ones((len(n), 1))
    table = np.concatenate([np.concatenate([design, away], axis=1), np.concatenate([-design, away], axis=1)])
    found = linprog([0, 0, 1], A_ub=table, b_ub=np.concatenate([printed, -printed]), bounds=[(None, None), (None, None), (0, None)])
    return Line(*map(float, found.x))


def _disc(radius: float) -> np.ndarray:
    centred = np.arange(PIXELS) - (PIXELS - 1) / 2
    return np.add.outer(centred**2, centred**2) <= radius**2


def _graders(radius: float, growth: float, grown: float, missed: float) -> MaskLaw:
    masks = np.stack([_disc(radius), _disc(radius + growth), np.zeros((PIXELS, PIXELS), bool)])
    return MaskLaw(masks, [1 - grown - missed, grown, missed])


def _simulated(key: jax.Array, law: MaskLaw, n: int, repeats: int) -> dict[str, np.ndarray]:
    """V and U of so many sets of n samples of the law itself."""
    samples = np.asarray(law.sample(key, repeats * n)).reshape(repeats, n, *law.shape)
    truths = np.broadcast_to(law.masks, (repeats, *law.masks.shape))
    return {"V": np.asarray(ged_v_statistic(samples, truths, law.weights)), "U": np.asarray(ged_u_statistic(samples, truths, law.weights))}


def _compute(seed: int, repeats: int, simulated: list[int], radius: float, growth: float, grown: float, missed: float) -> Data:
    law = _graders(radius, growth, grown, missed)
    data: Data = {
        "sizes": SIZES,
        "repeats": repeats,
        "simulated": np.array(simulated),
        "floor": float(deterministic_floor(law)),
        "diversity": float(diversity(law)),
        "masses": law.weights,
    }
    data["V"] = np.array([float(expected_v_statistic(law, law, int(n))) for n in SIZES])
    draws = [_simulated(jax.random.fold_in(jax.random.key(seed), n), law, n, repeats) for n in simulated]
    for name in ("V", "U"):
        data[f"{name}, simulated"] = np.array([drawn[name].mean() for drawn in draws])
        data[f"{name}, standard error"] = np.array([drawn[name].std(ddof=1) / repeats**0.5 for drawn in draws])
    lines = [_fitted(row) for row in PRINTED.values()]
    return data | {name: np.array([getattr(line, name) for line in lines]) for name in Line._fields}


def _draw_law(ax: Axes, data: Data) -> None:
    curve(ax, data["sizes"], data["V"], LOOKS["v_statistic"])
    curve(ax, data["sizes"], np.zeros_like(data["V"]), LOOKS["u_statistic"])
    curve(ax, data["sizes"], np.full_like(data["V"], data["floor"]), LOOKS["best_mask"])
    for name, look in (("V", "v_statistic"), ("U", "u_statistic")):
        dots(ax, data["simulated"], data[f"{name}, simulated"], 2 * data[f"{name}, standard error"], LOOKS[look])
    write_beside(ax, 5, data["diversity"] / 5, "the graders' law itself", LOOKS["v_statistic"], (7, 4))
    write_beside(ax, 100, data["floor"], "best single mask", LOOKS["best_mask"], (0, 6), align="right")
    write_beside(ax, 2, 0, "the same, without self-pairs", LOOKS["u_statistic"], (2, -7))
    ax.set(xscale="log", xlabel="samples $n$", ylabel="GED$^2$ from $n$ samples", xlim=(1.9, 110), ylim=(-0.004, 0.043))
    ax.set_xticks([2, 4, 8, 16, 32, 64], labels=["2", "4", "8", "16", "32", "64"])
    ax.minorticks_off()


def _draw_printed(ax: Axes, data: Data) -> None:
    for name, limit, slope in zip(PRINTED, data["limit"], data["slope"], strict=True):
        n, values = np.array(list(PRINTED[name]), float), [float(text) for text in PRINTED[name].values()]
        curve(ax, np.array([0, 1 / 16]), limit + slope * np.array([0, 1 / 16]), LOOKS["published_ged"])
        ax.plot(1 / n, values, linestyle="none", marker="o", markersize=2.5, color=LOOKS["target"].color)
        write_beside(ax, 1 / 16, limit + slope / 16, name, LOOKS["target"], (4, LIFTED.get(name, 0)))
    ax.set(xlabel="samples $n$, on the scale of $1/n$", ylabel="GED as printed", xlim=(0, 0.085))
    ax.set_xticks([0, 1 / 100, 1 / 50, 1 / 32, 1 / 16], labels=[r"$\infty$", "100", "50", "32", "16"])


def _draw(data: Data) -> Picture:
    picture, (law, printed) = new_figure(WIDTHS["iclr"], 2.9, columns=2)
    letter(law, "a", "exactly, and by simulation")
    _draw_law(law, data)
    letter(printed, "b", "LIDC, nine rows")
    _draw_printed(printed, data)
    looks = [LOOKS["v_statistic"], LOOKS["u_statistic"]]
    handles = [Line2D([], [], color=look.color, linestyle=look.linestyle, label=look.label) for look in looks]
    handles.append(Line2D([], [], color=LOOKS["published_ged"].color, linestyle=LOOKS["published_ged"].linestyle, label="GED$^2$ + $c/n$, fitted"))
    picture.legend(handles=handles, loc="outside lower center", ncols=3)
    return picture


TEXT = """What GED from $n$ samples measures. With the pairs of a sample with itself counted (as the distance of two empirical laws is), its mean is the squared distance
of the laws plus $E d(S, S')/n$, the model's own diversity over $n$.

(a) Graders draw a disc (92 %), one a pixel larger (5 %) or nothing (3 %). Their law itself, at distance 0, has diversity {diversity}, so that 4 and 16 of its samples
give {V4} and {V16} on average (line; dots: {repeats} simulated sets of samples, two standard errors). The disc alone, the best of all masks, is at {floor} from any
number of samples. So up to $n$ = {last} samples the exact law looks worse than one mask that no grader's doubt has touched. Without self-pairs the mean is the distance
itself.

(b) GED on LIDC as printed in 9 rows for 8 methods (points; CCDM on two preparations; collected by Zbinden et al. 2023; some rows join numbers of different papers),
over $1/n$, and the lines GED$^2$ + $c/n$ that come closest. The largest residuals are {residuals}, in the order of the names from above; what is printed is rounded by
0.0005, which five of these exceed, so that the law needs further noise in the printed numbers. The slopes of these 8 rows are {slopes}, possible diversities, which
cannot exceed 1. The first row is none that this law allows: slope {first_slope}, residual {first_residual}. So the law is within {worst} of 8 of the 9 rows, is met to
rounding by three, and is not proved by them: the table does not give the diversity of the samples, which would have to be $c$. If it holds, numbers of different $n$
cannot be compared."""

RESIDUALS = ("0.0038", "0.0005", "0.0021", "0.0002", "0.0008", "0.0002", "0.0011", "0.0008")
SLOPES = ("0.72", "0.40", "0.65", "0.55", "0.56", "0.55", "0.47", "0.55")
PAPER = {"diversity": "0.0812", "V4": "0.0203", "V16": "0.0051", "floor": "0.0038", "last": "21"}


def _caption(data: Data) -> Caption:
    text = TEXT.format(
        repeats=f"{int(data['repeats']):,}",
        residuals=", ".join(RESIDUALS),
        slopes=", ".join(SLOPES),
        first_slope="1.10",
        first_residual="0.0138",
        worst="0.0038",
        **PAPER,
    )
    last = np.floor(data["diversity"] / data["floor"])
    exact = [Number("diversity of the law", data["diversity"], PAPER["diversity"]), Number("best single mask", data["floor"], PAPER["floor"])]
    exact += [Number(f"mask {i}, %", 100 * data["masses"][i], text) for i, text in enumerate(("92", "5", "3"))]
    exact += [Number("last $n$ at which the law looks worse", float(last), PAPER["last"])]
    exact += [Number(f"mean of $V$ at $n={n}$", data["V"][SIZES == n][0], PAPER[f"V{n}"]) for n in (4, 16)]
    drawn = [_dot(data, n) for n in (4, 16)]
    fits = [Number(f"residual, {name}", got, text) for name, got, text in zip(list(PRINTED)[1:], data["residual"][1:], RESIDUALS, strict=True)]
    fits += [Number(f"slope, {name}", got, text) for name, got, text in zip(list(PRINTED)[1:], data["slope"][1:], SLOPES, strict=True)]
    fits += [Number("slope, ProbUNet", data["slope"][0], "1.10"), Number("residual, ProbUNet", data["residual"][0], "0.0138")]
    return Caption(text, (*exact, *drawn, *fits, Number("largest residual of eight", data["residual"][1:].max(), "0.0038")))


def _dot(data: Data, n: int) -> Number:
    at = int(np.flatnonzero(data["simulated"] == n)[0])
    return Number(f"mean of $V$ at $n={n}$, simulated", data["V, simulated"][at], PAPER[f"V{n}"], data["V, standard error"][at])


FIGURE = Figure(
    name="ged_bias",
    title="What GED from n samples measures",
    inputs={"seed": 20180613, "repeats": 4000, "simulated": [4, 16], "radius": 7.0, "growth": 1.0, "grown": 0.05, "missed": 0.03},
    quick_inputs={"repeats": 400},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Two panels. Left: the mean of GED squared from n samples of the graders' own law falls as one over n to zero, and crosses the constant of the best single "
    "mask near 21; without self-pairs it is zero throughout; simulated dots lie on both lines. Right: printed GED in nine rows against one over n, close to straight "
    "lines but for the uppermost.",
    source="S. Kohl et al., NeurIPS 2018 (GED); L. Zbinden et al., ICCV 2023, Table 1 (printed values); the bias: ensembletheory.segmentation",
    claims=("ged-estimator-bias",),
)
