r"""Neural Hamiltonian flows on two targets in the plane: what they sample, and the energies they learned, with both energies learned and with a fixed kinetic one.

Targets: nine modes on a grid and eight on a ring, of equal weights and deviations. Flows push N(0, I) on phase space by leapfrog steps; they are trained on fresh draws by
the ELBO with a mean-field encoder of the momenta, the two targets at once. Papers do not state their targets in numbers; these are ours.

With M modes of deviation s far apart, the Gaussian of the same moments is log(v / s^2) - log M from the target in KL, where v is the variance of a coordinate; here it
is computed without that approximation.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

import ensembletheory as et
from ensembletheory.neural import FixedKineticLearner, NhfLearner, Recipe, fit_ensemble, stack
from ensembletheory.plotting import LOOKS, WIDTHS, new_figure
from paper_figures.framework import Caption, Data, Figure, Number, checkpoint

__all__ = ["FIGURE"]

FAMILIES = {"nhf": NhfLearner, "fixed": FixedKineticLearner}
TARGETS = ("grid", "ring")
NAMES = {"nhf": "NHF", "fixed": "FK-NHF"}
HALF = 3.2  # of the square that is drawn, outside of which the targets weigh less than 1e-8


def _compute(seed, spacing, deviation, steps, horizons, width, depth, batch, updates, rate, draws, points, bound, families) -> Data:
    laws, parameters = _targets(spacing, deviation), {"steps": steps, "width": width, "depth": depth, "batch": batch}
    axis = jnp.linspace(-HALF, HALF, points)
    square = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1)
    data: Data = {"axis": axis, "bound": bound, "shape": (width, depth), "families": families}
    for target, law in zip(TARGETS, laws, strict=True):
        log_density = law.log_prob(square)
        entropy = -jnp.sum(jnp.exp(log_density) * log_density) * (axis[1] - axis[0]) ** 2
        data |= {f"{target} log density": log_density, f"{target} normal": et.Gaussian(law.mean, law.cov).entropy().value - entropy}
    recipe = Recipe(steps=updates, learning_rate=rate, chunk=min(updates, 200), ema_decay=0.99)
    for family in families:
        learner = FAMILIES[family](**parameters, horizon=horizons[family])
        flows = fit_ensemble(jax.random.key(seed), learner, laws, len(laws), recipe, checkpoint=checkpoint("nhf_2d", family)).average
        found = _found(jax.random.key(seed + 1), flows, stack(laws), square, draws)
        numbers = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter([(H.potential, H.kinetic) for H in flows.hamiltonians], eqx.is_array)))
        data[f"{family} numbers"] = numbers // len(laws)
        data |= {f"{target} {family} {name}": values[i] for i, target in enumerate(TARGETS) for name, values in found.items()}
    return data


def _targets(spacing: float, deviation: float) -> list[et.Law]:
    """Grid and ring of one variance a coordinate, as laws of one structure: the ring has a ninth mode of weight 0."""
    grid = spacing * np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(9, 2)
    angles, radius = np.pi / 4 * np.arange(8), spacing * np.sqrt(4 / 3)
    ring = np.vstack([radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), np.zeros((1, 2))])
    return [et.GaussianMixture(weights, means, np.full((9, 2), deviation**2)) for weights, means in ((np.full(9, 1 / 9), grid), (np.append(np.full(8, 1 / 8), 0.0), ring))]


@eqx.filter_jit
def _found(key: PRNGKeyArray, flows: Any, laws: Any, square: Float[Array, "n n 2"], draws: int) -> dict[str, Array]:
    """Of every flow: draws, energies of positions and momenta on the square, and the terms of its ELBO deficit."""
    key_data, key_momenta, key_flow = jax.random.split(key, 3)
    noise = jax.random.normal(key_momenta, (draws, 2))

    def one(flow, law):
        x = law.sample(key_data, draws)
        (H,) = flow.hamiltonians
        return {
            "draws": flow.sample(key_flow, draws),
            "potential": jax.vmap(jax.vmap(lambda point: H.potential((point - flow.centre) / flow.scale)))(square),
            "kinetic": jax.vmap(jax.vmap(H.kinetic))(square),
            "deficits": jax.vmap(law._log_prob)(x) - jax.vmap(flow.log_weight)(x, noise),
        }

    return eqx.filter_vmap(one)(flows, laws)


def _draw(data: Data) -> Picture:
    rows = [(target, family) for target in TARGETS for family in data["families"].tolist()]
    picture, panels = new_figure(WIDTHS["iclr"], 0.3 + 1.35 * len(rows), rows=len(rows), columns=4)
    for row, (target, family) in enumerate(rows):
        density, drawn, potential, kinetic = panels[4 * row : 4 * row + 4]
        _image(density, data["axis"], np.exp(data[f"{target} log density"]), "Greys")
        levels, color = _levels(data, target), LOOKS["target"].color
        drawn.contour(data["axis"], data["axis"], data[f"{target} log density"].T, levels=levels, colors=color, linewidths=0.5, linestyles="solid")
        look, points = LOOKS["learned_kinetic" if family == "nhf" else "fixed_kinetic"], data[f"{target} {family} draws"][:1500]
        drawn.plot(*points.T, linestyle="none", marker=".", markersize=0.9, color=look.color, rasterized=True)
        _energy(potential, data["axis"], data[f"{target} {family} potential"])
        _energy(kinetic, data["axis"], data[f"{target} {family} kinetic"])
        density.set_ylabel(f"{NAMES[family]}, {target}")
        for ax in (density, drawn, potential, kinetic):
            ax.set(xlim=(-HALF, HALF), ylim=(-HALF, HALF), xticks=[-2, 0, 2], yticks=[-2, 0, 2], aspect="equal")
            ax.tick_params(labelleft=ax is density, labelbottom=row == len(rows) - 1)
    for ax, name, title in zip(panels, "abcd", ("target", "draws", "potential $V(q)$", "kinetic $K(p)$"), strict=False):
        ax.set_title(rf"$\bf{{{name}}}$  {title}")
    return picture


def _levels(data: Data, target: str) -> list[float]:
    """Where a mode has fallen to what it is at one and at two deviations, lowest first."""
    top = float(np.max(data[f"{target} log density"]))
    return [top - 2.0, top - 0.5]


def _image(ax: Axes, axis: np.ndarray, values: np.ndarray, colours: str) -> None:
    ax.imshow(values.T, origin="lower", extent=(axis[0], axis[-1], axis[0], axis[-1]), cmap=colours)


def _energy(ax: Axes, axis: np.ndarray, values: np.ndarray) -> None:
    _image(ax, axis, values, "viridis")
    ax.contour(axis, axis, values.T, levels=10, colors="white", linewidths=0.4, linestyles="solid")


TEXT = r"""Neural Hamiltonian flows on nine modes on a grid and eight on a ring: targets, draws (with the targets' contours at one and two deviations), and the
learned energies of positions and momenta. NHF learns networks for both energies, {nhf} numbers; FK-NHF has $K = a^2|p|^2/2$, $a$ learned, {fixed} numbers. Both have the same
mean-field encoder.

The Gaussian of the same moments is {grid} nats from the grid and {ring} nats from the ring. Of the {flows} flows 0 have an ELBO deficit, which bounds
the divergence from the target, above {bound} nats (five standard errors included): a bound to be read beside what the Gaussian misses."""
PRINTED = {"grid": "1.0319", "ring": "1.1619"}


def _caption(data: Data) -> Caption:
    width, depth = data["shape"]
    energy = 3 * width + (depth - 1) * (width + 1) * width + width + 1  # of a network from the plane to the line
    counts = {"nhf": str(2 * energy), "fixed": str(energy + 1)}
    deficits = [data[f"{target} {family} deficits"] for target in TARGETS for family in data["families"].tolist()]
    above = sum(d.mean() + 5 * d.std(ddof=1) / d.size**0.5 > data["bound"] for d in deficits)
    numbers = (
        *(Number(f"divergence of the Gaussian, {target}", data[f"{target} normal"], PRINTED[target]) for target in TARGETS),
        *(Number(f"numbers learned for energies, {family}", data[f"{family} numbers"], counts[family]) for family in data["families"].tolist()),
        Number("flows whose deficit is above the bound", above, "0"),
    )
    return Caption(TEXT.format(bound=data["bound"], flows=len(deficits), **counts, **PRINTED), numbers)


FIGURE = Figure(
    name="nhf_2d",
    title="Neural Hamiltonian flows on grids and rings of modes",
    inputs={
        "seed": 11,
        "spacing": 1.5,
        "deviation": 0.25,
        "steps": 4,
        "horizons": {"nhf": 3.0, "fixed": 1.0},  # with which each family learns these targets within the updates
        "width": 32,
        "depth": 2,
        "batch": 128,
        "updates": 2400,
        "rate": 0.01,
        "draws": 4096,
        "points": 97,
        "bound": 1.0,
        "families": ["nhf", "fixed"],
    },
    quick_inputs={"steps": 1, "width": 8, "depth": 1, "batch": 64, "updates": 100, "rate": 0.03, "draws": 512, "points": 49, "bound": 3.0, "families": ["fixed"]},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Sixteen panels, a row for each target and family: the target, nine modes on a grid or eight on a ring; draws of the flow; the learned "
    "potential; and the kinetic energy, a network's in rows 1 and 3, a round bowl in rows 2 and 4.",
    source="models of Toth et al. (2020) and Souveton et al. (2024) by ensembletheory.neural.hamiltonian.hamiltonian_flow; targets of our own",
    claims=("mean-field-encoder-bias",),
)
