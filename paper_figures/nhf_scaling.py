r"""How evaluations grow with the dimension and with the condition number of Gaussian data: Hamiltonian flows, flow matching and a diffusion.

Modes move independently, so that divergences add, and a tolerance of the whole is 1 / d of it for each of d equal modes: with divergences C N^{-2p} the steps grow as
d^{1/(2p)}, and the horizon of a VP diffusion as log(d) / 2. In data of several deviations each has its own constant. A Hamiltonian flow with a mass for every mode turns
all of them by a quarter at once; with one mass for all, as in a fixed kinetic energy with a learned scalar, its horizon is that of the narrowest. Laws are those of the
samplers, all numbers of steps looked at.
"""

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.integration_cost import METHODS, Kinetic, Model, Path, divergences, evaluations_a_step, horizon_needed, joint_divergences, steps_needed, train_leapfrog
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.processes import CriticallyDampedLangevin, OrnsteinUhlenbeck
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

NAMES = {  # of methods, and of their looks
    "quarter_turn": "quarter_turn",
    "transport_euler": "straight_lines",
    "linear_euler": "independent_flow",
    "linear_heun": "independent_flow_heun",
    "vp_heun_quadratic": "diffusion_flow_heun",
    "vp_sde_quadratic": "diffusion_sde",
}
HORIZONS: dict[str, Model] = {"vp": Path(OrnsteinUhlenbeck(0.5, 30.0)), "cld": Kinetic(CriticallyDampedLangevin(1.0, 1.0, 30.0), 1.0)}


def _compute(seed, deviation, level, dimensions, conditions, modes, methods, steps, starts, trained) -> Data:
    data: Data = {"dimensions": dimensions, "conditions": conditions, "modes": modes, "level": level, "trained": trained}
    spectra = np.array([np.geomspace(c**-0.5, c**0.5, modes) for c in conditions])  # of standard deviations
    for name in methods:
        values, a_step = np.asarray(divergences(METHODS[name], [deviation, *spectra.ravel()], steps)), evaluations_a_step(METHODS[name])
        data[f"dimension {name}"] = np.array([a_step * steps_needed(d * values[0], level) for d in dimensions])
        sums = values[1:].reshape(len(conditions), modes, steps).sum(axis=1)
        data[f"condition {name}"] = np.array([a_step * steps_needed(row, level) for row in sums])
    data["condition scalar_mass"] = np.array([_one_mass(s, level) for s in spectra])
    law = et.Gaussian([0.0], [deviation**2])
    data |= {f"horizon {name}": horizon_needed(model, law, level / np.asarray(dimensions)) for name, model in HORIZONS.items()}
    widths = [np.geomspace(c**-0.5, c**0.5, 3) for c in trained]
    data["deficits"] = np.array([train_leapfrog(jax.random.key(seed), et.Gaussian(np.zeros(3), s**2), 1, starts).deficits for s in widths])
    return data


def _one_mass(s: np.ndarray, level: float) -> float:
    return steps_needed(joint_divergences(METHODS["scalar_mass"], et.Gaussian(np.zeros(s.size), jnp.asarray(s**2)), 64), level)


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["icml_page"], 2.75, columns=3)
    for draw, ax in zip((_draw_dimensions, _draw_conditions, _draw_horizons), panels, strict=True):
        draw(ax, data)
    entries = {label: handle for ax in panels[:2] for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    picture.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=4, handlelength=3.4)
    return picture


def _draw_dimensions(ax: Axes, data: Data) -> None:
    letter(ax, "a", "evaluations, equal modes")
    for name, look in NAMES.items():
        if f"dimension {name}" in data:
            curve(ax, data["dimensions"], data[f"dimension {name}"], LOOKS[look], markers=True)
    ax.set(xscale="log", yscale="log", xlabel="dimension", ylabel=f"evaluations for KL {data['level']:g}", ylim=(0.8, 1500))


def _draw_conditions(ax: Axes, data: Data) -> None:
    letter(ax, "b", f"evaluations, {int(data['modes'])} modes")
    for name, look in {**NAMES, "scalar_mass": "scalar_mass"}.items():
        if f"condition {name}" in data:
            curve(ax, data["conditions"], data[f"condition {name}"], LOOKS[look], markers=True)
    look = LOOKS["trained_leapfrog"]
    for at in data["trained"]:
        ax.plot(at, 1.0, marker=look.marker, color=look.color, linestyle="none", markersize=7, label=look.label, zorder=4, clip_on=False)
    ax.set(xscale="log", yscale="log", xlabel="ratio of standard deviations", ylim=(0.8, 1500))


def _draw_horizons(ax: Axes, data: Data) -> None:
    letter(ax, "c", r"horizon $\int \beta$")
    for name, look, text in (("vp", "diffusion_flow", "VP"), ("cld", "kinetic_flow", "critically damped")):
        curve(ax, data["dimensions"], data[f"horizon {name}"], LOOKS[look])
        above = name == "vp"
        write_beside(ax, 3.0, float(np.interp(np.log(3.0), np.log(data["dimensions"]), data[f"horizon {name}"])), text, LOOKS[look], (0, 9 if above else -12))
    ax.axhline(0.0, color=LOOKS["quarter_turn"].color, linestyle=LOOKS["quarter_turn"].linestyle)
    write_beside(ax, 1.2, 0.0, "Hamiltonian, flow matching", LOOKS["quarter_turn"], (0, 7))
    ax.set(xscale="log", xlabel="dimension", ylabel=f"needed for KL {data['level']:g}", ylim=(-0.4, 9))


# What the caption prints: evaluations by dimension and by the ratio of deviations.
BY_DIMENSION = {"quarter_turn": {1: "4", 16: "7"}, "linear_euler": {1: "48", 16: "188"}}
BY_CONDITION = {"quarter_turn": {1: "6", 10: "6"}, "scalar_mass": {1: "6", 10: "4"}, "linear_euler": {1: "116", 10: "139"}}
HORIZON = {"vp": {1: "3.838", 16: "5.240"}, "cld": {1: "3.710", 16: "4.601"}}

TEXT = r"""Evaluations and horizons by dimension and condition number. Data: Gaussian, samplers and laws as in nhf_cost; all numbers of steps are looked at.

(a) Evaluations for a divergence 1e-3 of the whole, $d$ independent coordinates of deviation 2.0. Schemes of order 1 need $d^{1/2}$ times as many as on the line, of order
2 $d^{1/4}$ times: from 48 to 188 for Euler on flow matching with the independent coupling and from 4 to 7 for leapfrog on the Hamiltonian quarter turn as $d$ goes from 1
to 16. Straight lines of the OT coupling stay at 1.

(b) Eight modes whose deviations lie at equal ratios from $r^{-1/2}$ to $r^{1/2}$. With a mass for each mode the quarter turn does not see $r$: 6 evaluations for $r = 1$
and 6 for 10. With one mass for all, and the horizon of the narrowest mode, 6 and 4. Euler on flow matching needs 116 and 139. Stars: potential, one mass and encoder
trained through one step of leapfrog for three modes, with 0 nats left (to 1e-9) from the best of 16 random starts; for $r = 100$ most starts end in worse minima. A
linear map without momenta can be trained in the same way.

(c) The horizon that a diffusion needs for 1e-3 grows with the logarithm of the dimension, in the limit by half of it for VP and a quarter for critical damping with mass
1: 3.838 and 5.240, 3.710 and 4.601, at 1 and 16; Hamiltonian flows and flow matching reach their prior in any dimension."""


def _caption(data: Data) -> Caption:
    def printed(axis: str, along: str, rows: dict[str, dict[int, str]]) -> list[Number]:
        points = list(data[along])
        return [
            Number(f"{axis} {name}, {at}", data[f"{axis} {name}"][points.index(at)], text)
            for name, row in rows.items()
            if f"{axis} {name}" in data
            for at, text in row.items()
        ]

    left = [Number(f"deficit / 1e-9, ratio {ratio:g}", row[0] / 1e-9, "0") for ratio, row in zip(data["trained"], data["deficits"], strict=True)]
    numbers = printed("dimension", "dimensions", BY_DIMENSION) + printed("condition", "conditions", BY_CONDITION) + printed("horizon", "dimensions", HORIZON)
    return Caption(TEXT, (*numbers, *left))


FIGURE = Figure(
    name="nhf_scaling",
    title="Evaluations and horizons by dimension and condition number",
    inputs={
        "seed": 5,
        "deviation": 2.0,
        "level": 1e-3,
        "dimensions": [1, 2, 4, 8, 16, 32, 64, 128, 256],
        "conditions": [1, 2, 4, 10, 20, 40, 100],
        "modes": 8,
        "methods": list(NAMES),
        "steps": 800,
        "starts": 16,
        "trained": [1, 10, 100],
    },
    quick_inputs={"dimensions": [1, 16], "conditions": [1, 10], "methods": ["quarter_turn", "linear_euler"], "steps": 220, "trained": []},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Three panels. First: evaluations against the dimension, straight lines on logarithmic axes with slope one half for schemes of order 1 and one quarter for order 2; "
    "straight lines of transport stay at one. Second: evaluations against the ratio of standard deviations; almost constant for Hamiltonian flows, growing for flow "
    "matching and the diffusion. Third: horizons of two diffusions grow with the logarithm of the dimension, while Hamiltonian flows and flow matching lie at zero.",
    source="ensembletheory.integration_cost",
    claims=("nhf-shorter-horizon-than-diffusion", "diffusion-horizon-grows", "euler-kl-law", "heun-kl-law"),
)
