r"""Does every member bring averaged scores closer to the target? What searches found, what random ensembles show, and which sampler wins.

(a) The least margin of `mean-score-monotone-in-k` that a search found in its box, from the records that ship with the package (`python -m simulations.records` writes them):
what the last of K + 1 members adds to the gain, relative to nearly equal members, for which it is 1. Below 0 the claim is false.

(b) The same share for random ensembles, from the study `mean-score-monotone`: with D_k the divergence averaged over sub-ensembles of size k,
min_k k (k + 1) (D_k - D_{k+1}) over (D_1 - D_K) K / (K - 1), which is 1 for nearly equal members; the median and the least of an ensemble size.

(c) The part of random ensembles whose law is closer to the target, in KL, with the probability flow than with the reverse SDE, from the study `sde-or-ode`.

Parts of the studies lie in the folder `store`, the one that `python -m simulations` uses by default: those that are there are not computed again.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from ensembletheory.claims.searched import boxes
from ensembletheory.plotting import LOOKS, WIDTHS, Look, curve, letter, new_figure
from paper_figures.framework import Caption, Data, Figure, Number
from simulations import mean_score_monotone, sde_or_ode
from simulations.study import Cell, Row, Study

__all__ = ["FIGURE"]

SAMPLERS = {"sde": 1.0, "ode": 0.0}
LOOK = {"sde": LOOKS["mean_score_sde"], "ode": LOOKS["mean_score_ode"], "any": LOOKS["churn"]._replace(label=r"any churn $\eta \leq 2$")}
KINDS = {"bootstrap": LOOKS["bootstrap_fits"], "common": LOOKS["commuting"], "own": LOOKS["not_commuting"]}


def _compute(store: str, monotone: list[list[Any]], winners: list[list[Any]]) -> Data:
    found = {sampler: [box for box in boxes("mean-score-monotone-in-k") if box["churn"] == SAMPLERS.get(sampler)] for sampler in LOOK}
    searched = {f"searched_{sampler}": np.array([[box["members"], box["least"]] for box in of_sampler]).reshape(-1, 2) for sampler, of_sampler in found.items()}
    evaluations = sum(box["evaluations"] for of_sampler in found.values() for box in of_sampler)
    return searched | {"evaluations": evaluations} | _shares(_rows(mean_score_monotone.study, monotone, store)) | _wins(_rows(sde_or_ode.study, winners, store))


def _rows(study: Study, chosen: list[list[Any]], store: str) -> list[Row]:
    """The rows of the cells of a study whose coordinates, in the order in which it names them, match one of the chosen ones; None matches all."""
    from simulations.engine import run_here  # these need the extra `sweep`, which a list of figures does not
    from simulations.store import load

    cells = [cell for cell in study.cells if any(_matches(cell, pattern) for pattern in chosen)]
    part = replace(study, cells=cells, quick=())
    failures = run_here(part, store).failures
    if failures:
        raise RuntimeError(f"{len(failures)} cells failed, the first {failures[0].cell}: {failures[0].reason}")
    return load(part, store).to_pylist()


def _matches(cell: Cell, pattern: list[Any]) -> bool:
    return all(wanted is None or wanted == value for wanted, value in zip(pattern, cell.values(), strict=True))


def _shares(rows: list[Row]) -> Data:
    """By sampler, ensemble sizes with the median and the least share of the random ensembles."""
    data: Data = {"ensembles_monotone": len(rows) // len(SAMPLERS)}
    for sampler in SAMPLERS:
        of_size = {K: [_share(row) for row in rows if (row["sampler"], row["members"]) == (sampler, K)] for K in sorted({row["members"] for row in rows})}
        data[f"random_{sampler}"] = np.array([[K, np.median(shares), np.min(shares)] for K, shares in of_size.items()])
    return data


def _share(row: Row) -> float:
    k, K = row["k"], row["members"]
    return k * (k + 1) * row["margin"] * (1 - 1 / K) / (row["kl_of_one"] - row["kl_of_all"])


def _wins(rows: list[Row]) -> Data:
    """By kind of ensemble, sizes with the part of ensembles that the flow brings closer in KL and in W2."""
    data: Data = {"ensembles_winner": len(rows)}
    for kind in sorted({row["kind"] for row in rows}):
        of_size = {K: [row for row in rows if (row["kind"], row["members"]) == (kind, K)] for K in sorted({row["members"] for row in rows if row["kind"] == kind})}
        data[f"wins_{kind}"] = np.array([[K, *(np.mean([r[f"{d}_ode"] < r[f"{d}_sde"] for r in of_kind]) for d in ("kl", "w2"))] for K, of_kind in of_size.items()])
    return data


def _draw(data: Data) -> Picture:
    picture, (a, b, c) = new_figure(WIDTHS["iclr"], 2.6, columns=3)
    letter(a, "a", "least share, searched")
    letter(b, "b", "share, random")
    letter(c, "c", "flow closer than SDE")
    for sampler, look in LOOK.items():
        curve(a, data[f"searched_{sampler}"][:, 0], data[f"searched_{sampler}"][:, 1], look, markers=True)
    for sampler in SAMPLERS:
        sizes, median, least = data[f"random_{sampler}"].T
        curve(b, sizes, median, LOOK[sampler]._replace(label="_"), markers=True)
        b.plot(sizes, least, color=LOOK[sampler].color, marker=LOOK[sampler].marker, markerfacecolor="white", linestyle="none")
    for kind, look in KINDS.items():
        if f"wins_{kind}" in data:
            _draw_wins(c, data[f"wins_{kind}"], look)
    for ax in (a, b):
        ax.axhline(0, color="#000000", linewidth=0.6)
    a.set(xlabel="members $K + 1$", ylabel="share of the last member", xlim=(2.5, 16.5))
    b.set(xlabel="members $K$", xlim=(1.5, 8.5), ylim=(-0.05, None), xticks=[2, 4, 6, 8])
    c.set(xlabel="members $K$", ylabel="part of ensembles", xlim=(1.8, 18), ylim=(0, 1), xscale="log")
    c.set_xticks([2, 4, 8, 16], labels=["2", "4", "8", "16"])
    c.minorticks_off()
    picture.legend(handles=[handle for ax in (a, c) for handle in ax.get_legend_handles_labels()[0]], loc="outside lower center", ncols=3)
    return picture


def _draw_wins(ax: Axes, wins: np.ndarray, look: Look) -> None:
    curve(ax, wins[:, 0], wins[:, 1], look, markers=True)


# What the caption prints: least shares found by searches for 3 and 4 members, those of random ensembles, and parts of ensembles that the flow brings closer, by mode.
SEARCHED = {"sde": ("0.607", "0.364"), "ode": ("0.145", "0.057"), "any": ("-0.010", "-0.035")}
RANDOM = {"quick": {"sde": "0.38", "ode": "0.05"}, "full": {"sde": "0.62", "ode": "0.28"}}
WINS = {"quick": {"common": ("0.62", "0.55")}, "full": {"bootstrap": ("0.84", "0.73"), "common": ("0.65", "0.58"), "own": ("0.71", "0.55")}}

TEXT = r"""What another member brings to averaged exact scores of Gaussians, as its share of the gain relative to nearly equal members, for which it is 1.

(a) Least shares that searches found on the line (variances in [1/20, 20], means within 3 of the point). For 3 and 4 members: {sde[0]} and {sde[1]} for the reverse SDE,
{ode[0]} and {ode[1]} for the probability flow, {any[0]} and {any[1]} where the churn is free. Below zero the law moves away from the target with another member.

(b) Random ensembles: medians (lines) and least shares (hollow). The least of {ensembles} ensembles is {random[sde]} for the SDE and {random[ode]} for the flow: chance
does not meet the counter-examples.

(c) Part of random ensembles that the flow brings closer to the target in KL (in $W_2$), over all sizes: {wins}."""


def _caption(data: Data) -> Caption:
    mode = "full" if "wins_own" in data else "quick"
    ends = [
        Number(f"least share, {sampler}, {n} members", _at(data[f"searched_{sampler}"], n), text)
        for sampler, row in SEARCHED.items()
        for n, text in zip((3, 4), row, strict=True)
    ]
    random = [Number(f"least random share, {sampler}", data[f"random_{sampler}"][:, 2].min(), text) for sampler, text in RANDOM[mode].items()]
    wins = [
        Number(f"flow closer, {kind}, {d}", data[f"wins_{kind}"][:, i].mean(), text)
        for kind, row in WINS[mode].items()
        for i, (d, text) in enumerate(zip(("KL", "W2"), row, strict=True), 1)
    ]
    said = "; ".join(f"{KINDS[kind].label} {row[0]} ({row[1]})" for kind, row in WINS[mode].items())
    return Caption(TEXT.format(**SEARCHED, random=RANDOM[mode], ensembles=data["ensembles_monotone"], wins=said), (*ends, *random, *wins))


def _at(rows: np.ndarray, members: int) -> float:
    """The value of the row for this number of members; NaN, which holds for no number, without one."""
    return float(rows[rows[:, 0] == members, 1][0]) if np.any(rows[:, 0] == members) else np.nan


FIGURE = Figure(
    name="mean_score_monotone",
    title="Does every member bring averaged scores closer to the target?",
    inputs={
        "store": "output/simulations",
        "monotone": [["common", d, None, c, 0] for d in (1, 2) for c in (4, 100)] + [["own", 2, K, 4, 0] for K in (2, 3, 4)],
        "winners": [[None, None, None, None, None]],
    },
    quick_inputs={"monotone": [["common", 1, 4, None, 0]], "winners": [["common", 2, 4, None, 0]]},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three panels. Left: the least share that searches found falls with the number of members, stays above zero for the reverse SDE, and falls below zero for the "
    "probability flow and for free churn. Middle: random ensembles keep well above zero. Right: the part of random ensembles that the flow brings closer than the SDE, by "
    "number of members.",
    source="claims of ensembletheory.claims.averaged_score_open; studies mean-score-monotone, sde-or-ode and searches of simulations",
    claims=("mean-score-monotone-in-k", "mean-score-monotone-centred", "churn-monotone", "mean-score-kl-average"),
)
