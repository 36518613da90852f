r"""What integration costs: Hamiltonian flows, flow matching and diffusions of Gaussian data N(0, s^2), in four metrics that scaling time does not change.

Every law is the sampler's own (`ensembletheory.integration_cost`): evaluations of the field from which on the divergence stays below a tolerance, all numbers of steps
looked at; the horizon at which what a diffusion leaves of the data is below a tolerance; mean lengths of paths; Lipschitz times. Fields are exact, except those that are
trained through their steps, by likelihood and from random starts.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.integration_cost import METHODS, Kinetic, Model, Path, QuarterTurn, Transport
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure, write_beside
from ensembletheory.processes import CriticallyDampedLangevin, OrnsteinUhlenbeck
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

NAMES = {  # of methods, and of their looks
    "quarter_turn": "quarter_turn",
    "transport_euler": "straight_lines",
    "linear_euler": "independent_flow",
    "linear_heun": "independent_flow_heun",
    "vp_euler_quadratic": "diffusion_flow",
    "vp_heun_quadratic": "diffusion_flow_heun",
    "vp_sde_quadratic": "diffusion_sde",
    "cld_heun": "kinetic_flow",
    "cld_sscs": "sscs",
}
HORIZONS: dict[str, Model] = {"vp": Path(OrnsteinUhlenbeck(0.5, 30.0)), "cld": Kinetic(CriticallyDampedLangevin(1.0, 1.0, 30.0), 1.0)}
TURN, LINE = QuarterTurn(), METHODS["linear_euler"].model


def _compute(seed, deviations, shown, level, tolerances, methods, steps, starts, trained, points) -> Data:
    s = np.union1d(np.geomspace(min(deviations), max(deviations), points), deviations)
    data: Data = {"s": s, "deviations": deviations, "shown": shown, "level": level, "tolerances": tolerances, "trained": trained}
    for name in methods:
        a_step, values = et.integration_cost.evaluations_a_step(METHODS[name]), np.asarray(et.integration_cost.divergences(METHODS[name], s, steps))
        needed = [[a_step * et.integration_cost.steps_needed(row, tolerance) for tolerance in tolerances] for row in values]
        data[f"evaluations {name}"] = np.array(needed)
    data |= _metrics(jnp.asarray(s), jnp.asarray(level))
    data["deficits leapfrog"] = np.array([et.integration_cost.train_leapfrog(jax.random.key(seed), _data(jnp.asarray(x)), 1, starts).deficits for x in trained])
    data["deficits residual"] = np.array([et.integration_cost.train_residual(jax.random.key(seed), _data(jnp.asarray(x)), 1, starts).deficits for x in trained])
    return data


def _data(s: Float[Array, ""]) -> et.Gaussian:
    return et.Gaussian(jnp.zeros(1), s[None] ** 2)


@jax.jit
def _metrics(deviations: Float[Array, " n"], level: Float[Array, ""]) -> dict[str, Array]:
    """Horizons, path lengths in units of E|Z| and Lipschitz times, of one program."""
    cost = et.integration_cost

    def of(s):
        law = _data(s)
        found = {f"horizon {name}": cost.horizon_needed(model, law, level)[0] for name, model in HORIZONS.items()}
        found |= {f"left {name}": cost.initialisation_error(model, law).value for name, model in (("turn", TURN), ("line", LINE))}
        found |= {f"length {name}": cost.path_length(model, law).value / np.sqrt(2 / np.pi) for name, model in (("turn", TURN), ("line", LINE))}
        found |= {"lipschitz turn": cost.lipschitz_time(TURN, law, TURN.balance(law)).value, "lipschitz prior": cost.lipschitz_time(TURN, law).value}
        return found | {"lipschitz line": cost.lipschitz_time(LINE, law).value, "lipschitz transport": cost.lipschitz_time(Transport(), law).value}

    return jax.lax.map(of, deviations)


def _at(data: Data, s: float) -> int:
    return int(np.argmin(np.abs(data["s"] - s)))


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["icml_page"], 4.5, rows=2, columns=3)
    for draw, ax in zip((_draw_tolerances, _draw_horizons, _draw_evaluations, _draw_lengths, _draw_lipschitz), panels, strict=False):
        draw(ax, data)
    for ax in panels[1:5]:
        ax.set(xscale="log", xlabel="standard deviation $s$ of the data", xlim=(data["s"][0], data["s"][-1]))
        ax.set_xticks([0.1, 0.3, 1, 3, 10], labels=["0.1", "0.3", "1", "3", "10"])
        ax.minorticks_off()
    entries = {label: handle for ax in reversed(panels[:5]) for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    panels[-1].axis("off")
    panels[-1].legend(list(entries.values())[::-1], list(entries)[::-1], loc="center", handlelength=3.4, labelspacing=0.35)
    return picture


def _draw_tolerances(ax: Axes, data: Data) -> None:
    letter(ax, "a", f"evaluations, $s = {data['shown']:g}$")
    row = _at(data, data["shown"])
    for name, look in NAMES.items():
        if f"evaluations {name}" in data:
            curve(ax, data["tolerances"], data[f"evaluations {name}"][row], LOOKS[look], markers=True)
    ax.set(xscale="log", yscale="log", xlabel="tolerance of KL(data || draws)", ylabel="evaluations needed", ylim=(0.8, 400))
    ax.invert_xaxis()


def _draw_horizons(ax: Axes, data: Data) -> None:
    letter(ax, "b", r"(i) horizon $\int \beta$")
    for name, look in (("vp", "diffusion_flow"), ("cld", "kinetic_flow")):
        curve(ax, data["s"], data[f"horizon {name}"], LOOKS[look]._replace(label="_"))
    ax.axhline(0.0, color=LOOKS["quarter_turn"].color, linestyle=LOOKS["quarter_turn"].linestyle)
    write_beside(ax, 0.12, 0.0, "Hamiltonian, flow matching", LOOKS["quarter_turn"], (0, -7))
    write_beside(ax, 0.12, float(data["horizon vp"][0]), "VP", LOOKS["diffusion_flow"], (0, -8))
    write_beside(ax, 0.12, float(data["horizon cld"][0]), "critically damped", LOOKS["kinetic_flow"], (0, 6))
    ax.set(ylabel=f"needed for KL {data['level']:g}", ylim=(-0.9, 7.5))


def _draw_evaluations(ax: Axes, data: Data) -> None:
    letter(ax, "c", f"(ii) evaluations, KL {data['level']:g}")
    column = int(np.argmin(np.abs(np.log(data["tolerances"] / data["level"]))))
    for name, look in NAMES.items():
        if f"evaluations {name}" in data:
            curve(ax, data["s"], data[f"evaluations {name}"][:, column], LOOKS[look], markers=True)
    look = LOOKS["trained_leapfrog"]
    for at in data["trained"]:
        ax.plot(at, 1.0, marker=look.marker, color=look.color, linestyle="none", markersize=7, label=look.label, zorder=4, clip_on=False)
    ax.set(yscale="log", ylabel="evaluations needed", ylim=(0.8, 400))


def _draw_lengths(ax: Axes, data: Data) -> None:
    letter(ax, "d", "(iii) mean path length")
    for y, look in ((np.abs(data["s"] - 1), "straight_lines"), (data["length line"], "independent_flow"), (data["length turn"], "quarter_turn")):
        curve(ax, data["s"], y, LOOKS[look])
    ax.set(ylabel=r"$\int E\,|q'|\,dt\; /\; E\,|Z|$", ylim=(0, 6))


def _draw_lipschitz(ax: Axes, data: Data) -> None:
    letter(ax, "e", "(iv) Lipschitz time")
    for name, look in (("transport", "straight_lines"), ("line", "independent_flow"), ("turn", "quarter_turn"), ("prior", "prior_units")):
        curve(ax, data["s"], data[f"lipschitz {name}"], LOOKS[look])
    ax.set(ylabel=r"$\int |Dv_t|\,dt$", ylim=(0, 4.2))


# What the caption prints, by deviation
PRINTED = {
    "horizon vp": {0.5: "2.494", 2.0: "3.838", 5.0: "5.918"},
    "horizon cld": {0.5: "2.799", 2.0: "3.710", 5.0: "5.017"},
    "length turn": {0.5: "1.2111", 2.0: "2.4221", 5.0: "5.2525"},
    "length line": {0.5: "0.606", 2.0: "1.211", 5.0: "4.039"},
    "lipschitz transport": {0.5: "0.6931", 2.0: "0.6931", 5.0: "1.6094"},
    "lipschitz line": {0.5: "0.916", 2.0: "0.916", 5.0: "1.649"},
    "lipschitz turn": {0.5: "1.5708", 2.0: "1.5708", 5.0: "1.5708"},
}
# Evaluations at the deviation shown, for divergences 1e-2 and 1e-3
EVALUATIONS = {
    "quarter_turn": (2, 4),
    "transport_euler": (1, 1),
    "linear_euler": (16, 48),
    "linear_heun": (6, 10),
    "vp_euler_quadratic": (11, 36),
    "vp_heun_quadratic": (4, 10),
    "vp_sde_quadratic": (8, 12),
    "cld_heun": (36, 56),
    "cld_sscs": (14, 39),
}

TEXT = r"""Integration costs of Gaussian data $N(0, s^2)$ from $N(0, 1)$, by metrics that no scaling of time changes. Fields and laws are exact; every number of steps is
looked at, so that no lucky one counts.

(a, c) Evaluations of the field from which on KL(data || draws) stays below a tolerance. At $s = 2$ and KL 1e-2, 1e-3: 2, 4 for leapfrog on the Hamiltonian quarter turn;
1, 1 for Euler on straight lines from the OT coupling; 16, 48 (Euler) and 6, 10 (Heun) for flow matching with the independent coupling; 11, 36 (Euler), 4, 10 (Heun) and
8, 12 (reverse SDE) for a VP diffusion on a quadratic grid of times; 36, 56 (flow, Heun) and 14, 39 (SSCS) for critically damped Langevin. Stars: leapfrog with potential,
mass and encoder trained through one step, with 0 nats left (to 1e-9) from the best of 16 random starts.

(b) Horizons needed for KL 1e-3 between the noised data and the prior: 2.494, 3.838 and 5.918 for $s = 0.5, 2.0, 5.0$ of a VP diffusion, 2.799, 3.710 and 5.017 of
critical damping with mass 1 and stationary momenta, growing in the limit as log(1 / KL) / 2 and log(1 / KL) / 4; the Hamiltonian flow and both flow matchings reach their
prior exactly.

(d) Mean path lengths of the quarter turn are 1.2111, 2.4221 and 5.2525, those of flow matching with the independent coupling 0.606, 1.211 and 4.039, and $|s - 1|$ is the
least: the Hamiltonian paths are longer for every $s$; those of an SDE are infinite.

(e) Lipschitz times: 0.6931, 0.6931 and 1.6094 of transport, 0.916, 0.916 and 1.649 of flow matching, 1.5708 of the quarter turn in the units of momentum that make it a
rotation, hence shorter than transport only where $|\log s| > \pi / 2$; in the units of the prior nothing is shorter than transport.

To be fair: one step of leapfrog is exact because it is trained through its discretisation, end to end, by likelihood. A residual map of one Euler step trained the same
way is exact too, without momenta, and so are straight lines. The price is to differentiate through the steps, momenta that are latent, and an ELBO whose encoder may
leave a gap; fields of diffusions and of flow matching are regressions that need no simulation. Hamiltonian flows are shorter than diffusions in (b), and in (c) against
generic solvers, not shorter than flow matching."""


def _caption(data: Data) -> Caption:
    numbers = [Number(f"{name}, $s={s:g}$", data[name][_at(data, s)], text) for name, row in PRINTED.items() for s, text in row.items()]
    columns = [int(np.argmin(np.abs(np.log(data["tolerances"] / tolerance)))) for tolerance in (1e-2, 1e-3)]
    row = _at(data, data["shown"])
    cells = [
        Number(f"evaluations, {name}, KL {data['tolerances'][column]:g}", data[f"evaluations {name}"][row, column], str(cell))
        for name, pair in EVALUATIONS.items()
        if f"evaluations {name}" in data
        for column, cell in zip(columns, pair, strict=True)
    ]

    return Caption(TEXT, (*numbers, *cells, *_trained(data)))


def _trained(data: Data) -> list[Number]:
    """Deficits of training, in units of 1e-9: none."""
    return [
        Number(f"deficit / 1e-9, {name}, $s={s:g}$", row[0] / 1e-9, "0")
        for name in ("leapfrog", "residual")
        for s, row in zip(data["trained"], data[f"deficits {name}"], strict=True)
    ]


FIGURE = Figure(
    name="nhf_cost",
    title="What integration costs: Hamiltonian flows, flow matching and diffusions",
    inputs={
        "seed": 3,
        "deviations": [0.1, 0.5, 2.0, 5.0, 10.0],
        "shown": 2.0,
        "level": 1e-3,
        "tolerances": [1e-1, 5e-2, 2e-2, 1e-2, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4],
        "methods": list(NAMES),
        "steps": 500,
        "starts": 16,
        "trained": [0.1, 0.5, 2.0, 5.0],
        "points": 17,
    },
    quick_inputs={"methods": ["quarter_turn", "linear_euler"], "steps": 64, "tolerances": [1e-2, 1e-3], "trained": [], "points": 2},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Five panels. First: evaluations needed against the tolerance; straight lines stay at one, leapfrog on the Hamiltonian quarter turn rises to six, Heun's method to "
    "tens, Euler's and stochastic samplers to hundreds. Second: horizons that diffusions need, against the deviation of the data; Hamiltonian flows and flow matching lie at "
    "zero. Third: evaluations against the deviation. Fourth: path lengths, longest for the Hamiltonian quarter turn. Fifth: Lipschitz times; the quarter turn's is constant "
    "and falls below transport's at the ends only; in the units of the prior it is always above.",
    source="ensembletheory.integration_cost",
    claims=("nhf-shorter-horizon-than-diffusion", "nhf-shorter-path", "nhf-fewer-evaluations-than-ot-flow-matching", "nhf-lipschitz-time"),
)
