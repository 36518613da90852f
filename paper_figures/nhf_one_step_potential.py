r"""The potential with which one leapfrog step reaches a mixture exactly, and why a Gaussian encoder then misses the momenta.

Targets are two modes of deviation 0.5 with equal weights, 1 to 4 apart. With c = h / m the step adds noise of deviation c to T(q_0), where T is the increasing map of
N(0, 1) to the modes of variance 0.25 - c^2, and h^2 V / 2m = q^2 / 2 - phi, phi' = T. Given the position the momentum p_1 = (T(q_1) - q_0) / c has the density of q_0 given
q_1, which falls off a cliff where T jumps from one mode to the other; the best Gaussian encoder, chosen point by point, leaves a gap that is the flow's whole ELBO deficit.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.hamiltonian import OneStepPotential, best_gaussian_encoder, gaussian_encoder_gap
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure
from paper_figures.framework import Caption, Data, Figure, Number

__all__ = ["FIGURE"]

LOOK = dict(enumerate((LOOKS["distance_one"], LOOKS["distance_two"], LOOKS["distance_three"], LOOKS["distance_four"]), start=1))
POSITION = 1.4  # at which the momenta are looked at


def _compute(deviation: float, c: float, drifts: list[float], distances: list[int], points: int, gap_points: int) -> Data:
    q, jump = np.linspace(-3, 3, points), np.geomspace(1e-6, 0.02, points // 2)
    start = np.sort(np.concatenate([q, np.linspace(-4, 4, 3 * points), jump, -jump]))  # T jumps at 0
    data: Data = {"q": q, "c": c, "drifts": drifts, "distances": distances, "start": start}
    for distance in distances:
        potential = _potential(distance, deviation, c)
        data[f"values_{distance}"] = _values(potential, jnp.asarray(q))
        data[f"transported_{distance}"] = _transported(potential, jnp.asarray(np.append(start, POSITION)))
        gaps = [gaussian_encoder_gap(_potential(distance, deviation, drift), gap_points) for drift in drifts]
        data[f"gaps_{distance}"], data[f"errors_{distance}"] = [float(gap.value) for gap in gaps], [float(gap.error) for gap in gaps]
    widest = _potential(max(distances), deviation, c)
    encoder = best_gaussian_encoder(widest, POSITION)
    *moved, end = np.asarray(data[f"transported_{max(distances)}"])
    log_joint = -(start**2) / 2 - ((POSITION - np.asarray(moved)) / c) ** 2 / 2 - np.log(2 * np.pi)
    data |= {"momenta": (end - start) / c, "posterior": np.exp(log_joint - float(widest.target.log_prob([POSITION])))}
    return data | {"encoder_mean": encoder.mean[0], "encoder_deviation": np.sqrt(encoder.cov[0, 0])}


def _potential(distance: int, deviation: float, c: float) -> OneStepPotential:
    """For unit mass, so that c is the step."""
    means, variances = np.array([[-distance / 2], [distance / 2]]), np.full((2, 1), deviation**2)
    return OneStepPotential(et.GaussianMixture([0.5, 0.5], means, variances), c)


@jax.jit
def _values(potential: OneStepPotential, q: Float[Array, " n"]) -> Float[Array, " n"]:
    """h^2 V / 2m."""
    return potential.step**2 / (2 * potential.mass) * jax.lax.map(lambda x: potential(x[None]), q)


@jax.jit
def _transported(potential: OneStepPotential, q: Float[Array, " n"]) -> Float[Array, " n"]:
    return jax.lax.map(potential.transport, q)


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["iclr"], 4.4, rows=2, columns=2)
    letter(panels[0], "a", "exact potential, $h^2 V / 2m$")
    letter(panels[1], "b", "its slope, $q - T(q)$")
    letter(panels[2], "c", "gap of the best Gaussian encoder")
    for distance in data["distances"].tolist():
        curve(panels[0], data["q"], data[f"values_{distance}"], LOOK[distance])
        curve(panels[1], data["start"], data["start"] - data[f"transported_{distance}"][:-1], LOOK[distance])
        curve(panels[2], data["drifts"], data[f"gaps_{distance}"], LOOK[distance], markers=True)
    panels[0].set(xlabel="$q$", xlim=(-3, 3), ylim=(-4, 2.4))
    panels[1].set(xlabel="$q$", xlim=(-3, 3))
    panels[2].set(xlabel="$c = h / m$", ylabel="ELBO deficit, nats", ylim=(0, None))
    panels[0].legend(loc="lower center", ncols=2, columnspacing=1.0, handlelength=1.6)
    _draw_momenta(panels[3], data)
    return picture


def _draw_momenta(ax: Axes, data: Data) -> None:
    letter(ax, "d", rf"momentum given $q_1 = {POSITION:g}$")
    curve(ax, data["momenta"], data["posterior"], LOOKS["target"]._replace(label="exact posterior"))
    mean, deviation = float(data["encoder_mean"]), float(data["encoder_deviation"])
    density = np.exp(-(((data["momenta"] - mean) / deviation) ** 2) / 2) / (deviation * np.sqrt(2 * np.pi))
    curve(ax, data["momenta"], density, LOOKS["gaussian_encoder"])
    ax.set(xlabel="$p_1$", ylabel="density", xlim=(0, 9), ylim=(0, 1.35 * max(np.max(density), np.max(data["posterior"]))))
    ax.legend(loc="upper right")


# Gaps at c = 0.2 and 0.4, by distance, and the encoder in (d).
GAPS = {1: ("0.0030", "0.0162"), 2: ("0.0447", "0.1584"), 3: ("0.1022", "0.2946"), 4: ("0.1373", "0.3708")}
ENCODER = ("4.658", "0.421")

TEXT = r"""One leapfrog step of unit mass to two modes of deviation 0.5 with equal weights, {said} apart.

(a), (b) The potential $V$ with which the step samples the target exactly, for $c = h/m = 0.4$, and its slope: $T$ is the increasing map of $N(0, 1)$ to the target less
the noise of a drift.

(c) ELBO deficit of that flow with the best Gaussian encoder at every point, by quadrature: {gaps} nats for $c = 0.2$ and 0.4. The model being exact, all of it is the gap
between encoder and posterior.

(d) For the farthest modes, the posterior of the momentum at one position, which has a cliff where $T$ jumps, and the encoder there: mean {mean}, deviation {deviation}."""


def _caption(data: Data) -> Caption:
    distances = data["distances"].tolist()
    at = [int(np.argmin(np.abs(data["drifts"] - drift))) for drift in (0.2, 0.4)]
    gaps = [Number(f"gap, modes {n} apart, $c={data['drifts'][i]:g}$", data[f"gaps_{n}"][i], text) for n in distances for i, text in zip(at, GAPS[n], strict=True)]
    encoder = [Number(f"encoder, {name}", data[f"encoder_{name}"], text) for name, text in zip(("mean", "deviation"), ENCODER, strict=True)]
    said = "; ".join(" and ".join(GAPS[n]) for n in distances)
    text = TEXT.format(said=", ".join(map(str, distances)), gaps=said, mean=ENCODER[0], deviation=ENCODER[1])
    return Caption(text, (*gaps, *encoder))


FIGURE = Figure(
    name="nhf_one_step_potential",
    title="One leapfrog step to a mixture, exactly, and what its encoder misses",
    inputs={"deviation": 0.5, "c": 0.4, "drifts": [0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.48], "distances": [1, 2, 3, 4], "points": 121, "gap_points": 321},
    quick_inputs={"drifts": [0.2, 0.4], "distances": [4], "points": 41, "gap_points": 161},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels. First and second: the exact potential and its slope for modes 1 to 4 apart; the farther the modes, the sharper the ridge between them; the slope falls "
    "steeply at 0. Third: the gap of the best Gaussian encoder grows with the noise of a drift and with the distance of the modes. Fourth: the posterior of the momentum "
    "rises and then drops at once, and a bell curve beside it misses the drop.",
    source="derived in ensembletheory.hamiltonian.one_step; flows of fixed kinetic energy, Souveton et al. (2024)",
    claims=("one-step-gaussian",),
)
