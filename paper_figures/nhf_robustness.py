r"""How robust neural Hamiltonian flows are to their settings: the ELBO deficit, with both energies learned and with a fixed kinetic one.

Souveton et al. (2024) claim of the fixed kinetic energy that it makes flows robust to these settings. One setting is changed at a time; each flow is trained by Adam from a
random start on fresh draws, several seeds and both targets as one stack. Targets in the plane: a Gaussian of correlation rho, of which the least deficit of linear flows with
mean-field encoders is exact (`hamiltonian.mean_field_deficit`), and four modes on a circle. Both have variance 1 a coordinate, or nearly.

The deficit E log p - ELBO is estimated from draws of the target with one momentum each. A family is held against the best cell of a panel, that of either family with the
least mean deficit over seeds. (Within a margin of its own best would pass a family that fails alike everywhere.) It passes for a setting if at all its values and on both
targets the 95 % interval (Welch) of the difference of mean deficits from the best cell ends below a given margin, and fails if for one of them it begins above; else it is
undecided, as it often must be with few seeds. Intervals are of single comparisons, and the best cell is chosen by the seeds it is judged by, so that differences are somewhat
too large: a verdict is one by this test, at these sizes, of the arrays at hand, since networks trained on two machines differ.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from scipy import stats

import ensembletheory as et
from ensembletheory.hamiltonian import mean_field_deficit
from ensembletheory.laws.soft_uniform import SoftUniform
from ensembletheory.neural import FixedKineticLearner, NhfLearner, Recipe, fit_ensemble, stack
from ensembletheory.neural.hamiltonian.hamiltonian_learner import HamiltonianLearner
from ensembletheory.plotting import LOOKS, WIDTHS, new_figure
from paper_figures.framework import Caption, Data, Figure, Number, checkpoint

__all__ = ["FIGURE"]

FAMILIES = {"nhf": NhfLearner, "fixed": FixedKineticLearner}
SETTINGS = ("steps", "horizon", "width", "prior")
NAMES = {"nhf": "NHF", "fixed": "FK-NHF"}
TARGETS = ("Gaussian", "four modes")
PRIORS = ("Gaussian", "soft-uniform")
PLATEAU, SHARPNESS = 3.0, np.pi * np.sqrt(4 / 3)  # of the soft-uniform prior, which give it variance 1


def _compute(seed, correlation, radius, deviation, seeds, base, values, depth, batch, updates, rate, draws, margin, families) -> Data:
    laws = [law for law in _targets(correlation, radius, deviation) for _ in range(seeds)]
    settings = [base | {name: value} for name in SETTINGS for value in values[name]]
    jobs = {(family, _label(setting)): setting for family in families for setting in settings}
    paths = {job: checkpoint("nhf_robustness", "-".join(job)) for job in jobs}

    def deficits(job):
        family, setting = job[0], jobs[job]
        learner = _learner(FAMILIES[family], setting, depth, batch)
        recipe = Recipe(steps=updates, learning_rate=rate, chunk=min(updates, 200), ema_decay=0.98)
        flows = fit_ensemble(jax.random.key(seed), learner, laws, len(laws), recipe, checkpoint=paths[job]).average
        numbers = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter([(H.potential, H.kinetic) for H in flows.hamiltonians], eqx.is_array)))
        return np.asarray(_deficits(jax.random.key(seed + 1), flows, stack(laws), draws)).reshape(2, seeds), numbers // len(laws)

    with ThreadPoolExecutor(2) as pool:  # compiled code leaves the interpreter free
        found = dict(zip(jobs, pool.map(deficits, jobs), strict=True))
    exact = mean_field_deficit(et.Gaussian(laws[0].mean, laws[0].cov)).value
    data: Data = {"exact": exact, "margin": margin, "depth": depth, "correlation": correlation, "families": families}
    for name in SETTINGS:
        data[name] = np.asarray([PRIORS.index(value) if name == "prior" else value for value in values[name]])
        for family in families:
            rows = [found[family, _label(base | {name: value})] for value in values[name]]
            data[f"{family} {name}"] = np.stack([row[0] for row in rows])  # (values, targets, seeds)
            data[f"{family} {name} numbers"] = np.asarray([row[1] for row in rows])
    return data


def _label(setting: dict[str, Any]) -> str:
    return "-".join(str(setting[name]) for name in SETTINGS)


def _targets(correlation: float, radius: float, deviation: float) -> list[et.GaussianMixture]:
    """The Gaussian, as four components of which one counts, and four modes on a circle: laws of one structure."""
    covs = np.tile([[1.0, correlation], [correlation, 1.0]], (4, 1, 1)), np.tile(deviation**2 * np.eye(2), (4, 1, 1))
    means = np.zeros((4, 2)), radius * np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    weights = np.array([1.0, 0.0, 0.0, 0.0]), np.full(4, 1 / 4)
    return [et.GaussianMixture(*parameters) for parameters in zip(weights, means, covs, strict=True)]


def _learner(family: type[HamiltonianLearner], setting: dict[str, Any], depth: int, batch: int) -> HamiltonianLearner:
    prior = SoftUniform(np.full(4, PLATEAU), SHARPNESS) if setting["prior"] == "soft-uniform" else None
    return family(steps=setting["steps"], horizon=setting["horizon"], width=setting["width"], depth=depth, batch=batch, prior=prior)


@eqx.filter_jit
def _deficits(key: PRNGKeyArray, flows: Any, laws: Any, draws: int) -> Float[Array, " members"]:
    """Each flow's on its law, from draws with one momentum each."""
    key_data, key_momenta = jax.random.split(key)
    noise = jax.random.normal(key_momenta, (draws, 2))

    def one(flow, law):
        x = law.sample(key_data, draws)
        return jnp.mean(jax.vmap(law._log_prob)(x) - jax.vmap(flow.log_weight)(x, noise))

    return eqx.filter_vmap(one)(flows, laws)


def _draw(data: Data) -> Picture:
    picture, panels = new_figure(WIDTHS["iclr"], 3.3, rows=2, columns=4)
    for row, target in enumerate(TARGETS):
        for column, name in enumerate(SETTINGS):
            _draw_setting(panels[4 * row + column], data, name, row)
        panels[4 * row].set_ylabel(f"{target}\ndeficit, nats")
    for ax, name, title in zip(panels, "abcd", ("leapfrog steps $L$", "time $T$", "units a layer", "prior"), strict=False):
        ax.set_title(rf"$\bf{{{name}}}$  {title}")
    handles, labels = panels[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=4)
    return picture


def _draw_setting(ax: Axes, data: Data, name: str, target: int) -> None:
    """Single seeds, their means, and the exact least deficit."""
    at = np.arange(data[name].size)
    for family in data["families"].tolist():
        shift, look = (-0.12, LOOKS["learned_kinetic"]) if family == "nhf" else (0.12, LOOKS["fixed_kinetic"])
        values = data[f"{family} {name}"][:, target]
        ax.plot(np.repeat(at, values.shape[1]) + shift, values.ravel(), marker=".", markersize=3, color=look.color, alpha=0.5, linestyle="none")
        ax.plot(at + shift, values.mean(axis=1), color=look.color, marker=look.marker, linestyle=look.linestyle, label=look.label)
    if target == 0:
        exact = LOOKS["mean_field_encoder"]
        share = 1 / at.size if name == "prior" else 1.0  # it holds from a Gaussian prior
        ax.axhline(float(data["exact"]), xmax=share, color=exact.color, linestyle=exact.linestyle, linewidth=0.9, label="least of linear flows")
    labels = [PRIORS[int(i)].replace("-", "\n") for i in data[name]] if name == "prior" else [f"{value:g}" for value in data[name]]
    top = max(data[f"{family} {each}"][:, target].max() for family in data["families"].tolist() for each in SETTINGS)
    ax.set(xticks=at, xticklabels=labels, xlim=(-0.5, at.size - 0.5), ylim=(0, 1.1 * top))


def _verdict(data: Data, family: str, name: str) -> str:
    """Whether the deficits of a family keep within the margin of those of the best cell over the values of a setting, on both targets."""
    low, high = np.transpose([_differences(data, family, name, target) for target in range(len(TARGETS))], (1, 0, 2))
    return "passes" if np.all(high <= data["margin"]) else "fails" if np.any(low > data["margin"]) else "is undecided"


def _differences(data: Data, family: str, name: str, target: int) -> np.ndarray:
    """Ends (2, values) of the intervals of differences of mean deficits from the best cell, of which its own is 0."""
    cells = np.concatenate([data[f"{each} {name}"][:, target] for each in data["families"].tolist()])
    best, own = cells[np.argmin(cells.mean(axis=1))], data[f"{family} {name}"][:, target]
    interval = stats.ttest_ind(own, np.broadcast_to(best, own.shape), axis=1, equal_var=False).confidence_interval(0.95)
    return np.where(np.all(own == best, axis=1), 0.0, np.stack([interval.low, interval.high]))


TEXT = r"""ELBO deficit of neural Hamiltonian flows {kinds}: {seeds} seeds (dots) and their mean{against}. Above: a Gaussian of correlation {correlation}, for which
linear flows of a Gaussian prior with mean-field encoders attain 0.287682 nats at the least, exactly; below: four modes. At {width} units a layer the energies learned are
{counts}."""

TESTED = r"""

The claim that a fixed kinetic energy makes flows robust, tested here as: at all values of a setting and on both targets, the 95 % interval of the difference of the mean
deficit from that of the best cell of the panel ends below {margin} nats (fails: begins above it; undecided: holds it).
{verdicts}. By this test, at these sizes, the claim {verdict}."""
KINDS = {"nhf": "with both energies learned (NHF)", "fixed": "with a fixed kinetic energy of learned mass (FK-NHF)"}


def _caption(data: Data) -> Caption:
    width, depth = int(data["width"][len(data["width"]) // 2]), int(data["depth"])
    energy = 3 * width + (depth - 1) * (width + 1) * width + width + 1  # of a network from the plane to the line
    counts, middle = {"nhf": str(2 * energy), "fixed": str(energy + 1)}, len(data["width"]) // 2
    families, tested = data["families"].tolist(), [name for name in SETTINGS if data[name].size > 1]
    numbers = (
        Number("least deficit of linear flows", data["exact"], "0.287682"),
        *(Number(f"numbers learned for energies, {family}", data[f"{family} width numbers"][middle], counts[family]) for family in families),
    )
    text = TEXT.format(
        kinds=" and ".join(KINDS[family] for family in families),
        counts=" and ".join(f"{counts[family]} numbers ({NAMES[family]})" for family in families),
        against=" against one setting at a time" if tested else "",
        width=width,
        seeds=data["fixed steps"].shape[2],
        correlation=data["correlation"],
    )
    return Caption(text + _tested(data, families, tested), numbers)


def _tested(data: Data, families: list[str], tested: list[str]) -> str:
    """The verdicts in words, where there is something to test."""
    if not tested:
        return ""
    verdicts = {family: {name: _verdict(data, family, name) for name in tested} for family in families}
    words = "; ".join(f"{NAMES[family]} " + ", ".join(f"{verdict} for {name}" for name, verdict in found.items()) for family, found in verdicts.items())
    of_claim = set(verdicts["fixed"].values())
    verdict = "fails" if "fails" in of_claim else "is undecided" if "is undecided" in of_claim else "passes"
    return TESTED.format(margin=data["margin"], verdicts=words, verdict=verdict)


FIGURE = Figure(
    name="nhf_robustness",
    title="How robust neural Hamiltonian flows are to their settings",
    inputs={
        "seed": 3,
        "correlation": 0.8,
        "radius": 1.3,
        "deviation": 0.3,
        "seeds": 3,
        "base": {"steps": 2, "horizon": 1.0, "width": 16, "prior": "Gaussian"},
        "values": {"steps": [1, 2, 4], "horizon": [0.5, 1.0, 2.0], "width": [8, 16, 32], "prior": ["Gaussian", "soft-uniform"]},
        "depth": 2,
        "batch": 64,
        "updates": 1000,
        "rate": 0.01,
        "draws": 8192,
        "margin": 0.1,
        "families": ["nhf", "fixed"],
    },
    quick_inputs={
        "seeds": 2,
        "base": {"steps": 1, "horizon": 1.0, "width": 8, "prior": "Gaussian"},
        "values": {"steps": [1], "horizon": [1.0], "width": [8], "prior": ["Gaussian"]},
        "depth": 1,
        "updates": 100,
        "rate": 0.03,
        "draws": 512,
        "families": ["fixed"],
    },
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Eight panels: the deficit on a Gaussian (above) and on four modes (below) against leapfrog steps, integration time, width and prior. Each shows single "
    "seeds and their means for flows with both energies learned and with a fixed kinetic one; above also the line of the least deficit of linear flows.",
    source="models of Toth et al. (2020) and Souveton et al. (2024) by ensembletheory.neural.hamiltonian; our settings; exact optimum by ensembletheory.hamiltonian",
    claims=("mean-field-encoder-bias",),
)
