r"""Ensembles of VAEs: averaged decoders, as they stand and with their latents aligned, beside pools of their laws; linear VAEs beside the exact fits that they must reach.

Latents may be turned without a change of the law of x, and training from a random start ends in every signed permutation of them with equal probability. So the average of
decoders as they stand mixes directions that have nothing in common; alignment (`ensembletheory.neural.latent.averaged_vae`) takes that away; pools of the laws never see it.

Linear VAEs, one a data set, have an exact answer: maximum likelihood PPCA with the best diagonal encoder, its latents turned by a signed permutation drawn at random. VAEs
with hidden layers learn bootstrap samples of points along an arc; the divergences of their laws are trapezoidal sums over the plane, of log-densities by quadrature over z.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D

import ensembletheory as et
from ensembletheory.identifiability import Orthogonal, SignedPermutations
from ensembletheory.latent import stationary_points
from ensembletheory.laws.weights import log_weighted_sum
from ensembletheory.neural import AveragedVae, Recipe, VaeLearner, align_latents, fit_ensemble, linear_vae, stack
from ensembletheory.plotting import LOOKS, WIDTHS, Look, curve, dots, letter, new_figure
from ensembletheory.progress import progress
from paper_figures.framework import Caption, Data, Figure, Number, checkpoint

__all__ = ["FIGURE"]

NAME = "vae_ensembles"
RULES = ("raw_decoders", "aligned_decoders", "rotated_decoders", "log", "linear")
ONE, TARGET = LOOKS["member"], LOOKS["target"]
REACH = 2.2  # of the latents whose decoded images are drawn, in standard deviations


def _compute(
    seed,
    spectrum,
    noise,
    points,
    members,
    replicates,
    trained,
    draws,
    linear_steps,
    weights,
    centres,
    variance,
    arc_points,
    arc_members,
    arc_steps,
    width,
    depth,
    nodes,
    cells,
) -> Data:
    keys = jax.random.split(jax.random.key(seed), 4)
    linear = _linear(keys[0], keys[1], et.Ppca(np.eye(3)[:, :2] * np.sqrt(spectrum), np.zeros(3), noise), points, members, replicates, trained, draws, linear_steps)
    arc = et.GaussianMixture(weights, centres, np.full((len(weights), 2), variance))
    return linear | _curved(keys[2], keys[3], arc, arc_points, arc_members, arc_steps, width, depth, nodes, cells)


def _linear(key, train_key, target: et.Ppca, points, members, replicates, trained, draws, steps) -> Data:
    """Divergences by rule and number of members: of exact fits to all data sets, and of linear VAEs trained on those of the first few replicates."""
    data_key, turn_key, draw_key = jax.random.split(key, 3)
    rows = np.asarray(target.sample(data_key, replicates * members * points)).reshape(replicates, members, points, 3)
    choices = np.concatenate([np.kron(np.eye(members // K), np.full(K, 1 / K)) for K in _sizes(members)])
    x = target.sample(draw_key, draws)
    laws = [et.FiniteLaw(sample) for sample in rows[:trained].reshape(-1, points, 3)]
    recipe = Recipe(steps=steps, learning_rate=3e-2, chunk=100)
    networks = fit_ensemble(train_key, VaeLearner(latent=2, depth=0, batch=None), laws, len(laws), recipe, checkpoint=checkpoint(NAME, "linear")).model
    fits = _best_vaes(rows.reshape(-1, points, 3))
    raw = _random_turns(turn_key, replicates, members)
    exact = [_kls(target, _part(fits, r * members, members), one, raw[r], choices, x) for r, one in enumerate(rows)]
    learned = [_kls(target, _part(networks, r * members, members), rows[r], _no_turns(members), choices, x) for r in range(trained)]
    return {"samples": rows, "sizes": _sizes(members), "exact": _by_size(np.stack(exact), choices), "learned": _by_size(np.stack(learned), choices)}


def _sizes(members: int) -> list[int]:
    return [K for K in (1, 2, 4, 8) if K <= members]


def _best_vaes(samples: np.ndarray) -> Any:
    """A stack of the linear VAEs of largest ELBO, one a sample."""
    best = [stationary_points(np.cov(sample.T, bias=True), 2, objective="elbo", mean=sample.mean(axis=0))[0].model for sample in samples]
    return eqx.filter_jit(eqx.filter_vmap(linear_vae))(stack(best))


def _part(stacked: Any, start: int, length: int) -> Any:
    return jax.tree.map(lambda array: array[start : start + length] if eqx.is_array(array) else array, stacked)


TURNINGS = 16  # random signed permutations of each member, over which the average of decoders as they stand is averaged


def _random_turns(key: PRNGKeyArray, replicates: int, members: int) -> np.ndarray:
    elements = np.stack(list(SignedPermutations(2).elements()))
    return elements[np.asarray(jax.random.randint(key, (replicates, TURNINGS, members), 0, len(elements)))]


def _no_turns(members: int) -> np.ndarray:
    return np.tile(np.eye(2), (TURNINGS, members, 1, 1))


def _kls(target: et.Ppca, models: Any, samples: np.ndarray, raw: np.ndarray, choices: np.ndarray, x: Array) -> np.ndarray:
    """Divergences (rules, choices) of one replicate."""
    seen = samples.reshape(-1, 3)
    turns = np.concatenate([raw, [align_latents(models, seen), align_latents(models, seen, Orthogonal)]])
    averaged, log, linear = (np.asarray(part) for part in _pooled(target.law, models, jnp.asarray(turns), jnp.asarray(choices), x))
    return np.stack([averaged[:TURNINGS].mean(axis=0), averaged[TURNINGS], averaged[TURNINGS + 1], log, linear])


@eqx.filter_jit
def _pooled(target: et.Gaussian, models: Any, turns: Float[Array, "turns K q q"], choices: Float[Array, "rows K"], x: Float[Array, "n d"]):
    """Divergences from the target of averaged decoders (turns, rows), and of log pools and linear pools (rows), the last by the draws x from the target."""
    laws = eqx.filter_vmap(lambda vae: vae.law())(models)
    listed = [jax.tree.map(lambda array, k=k: array[k], laws) for k in range(choices.shape[1])]
    averaged = jax.vmap(lambda turn: jax.vmap(lambda row: et.kl(target, AveragedVae(models, turn, row).law()).value)(choices))(turns)
    log = jax.vmap(lambda row: et.kl(target, et.log_pool(listed, row)).value)(choices)
    singles = jax.vmap(lambda law: et.kl(target, law).value)(laws)
    log_q = jax.vmap(lambda law: jax.vmap(law._log_prob)(x))(laws)
    surplus = jax.vmap(lambda row: jnp.mean(jax.vmap(lambda terms: log_weighted_sum(row, terms), in_axes=1)(log_q) - row @ log_q))(choices)
    return averaged, log, choices @ singles - surplus


def _by_size(kls: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Means over the ensembles of each size in each replicate: (replicates, rules, sizes)."""
    sizes = (choices > 0).sum(axis=1)
    return np.stack([kls[:, :, sizes == K].mean(axis=2) for K in np.unique(sizes)], axis=2)


def _curved(data_key, train_key, target: et.GaussianMixture, points, members, steps, width, depth, nodes, cells) -> Data:
    """VAEs with hidden layers on bootstrap samples of points along an arc: decoded curves, and divergences of every subset's averages and pools."""
    rows = np.asarray(target.sample(data_key, points))
    recipe = Recipe(steps=steps, learning_rate=1e-2, chunk=100)
    learner = VaeLearner(latent=1, width=width, depth=depth, batch=128)
    models = fit_ensemble(train_key, learner, rows, members, recipe, "bootstrap", checkpoint(NAME, "curved")).model
    turns = align_latents(models, rows)
    subsets = np.array([np.isin(np.arange(members), chosen) / K for K in range(1, members + 1) for chosen in combinations(range(members), K)])
    grid = _grid(cells)
    log_p, area = np.asarray(target.log_prob(grid)), (grid[1, 1] - grid[0, 1]) ** 2

    def divergence(log_q):
        return float(np.sum(np.exp(log_p) * (log_p - log_q)) * area)

    averages = [[_log_prob(AveragedVae(models, t, row), grid, nodes) for t in (None, turns)] for row in progress(subsets, "averaged decoders", len(subsets))]
    singles = np.stack([aligned for _, aligned in averages[:members]])
    with np.errstate(divide="ignore"):
        linear = [np.logaddexp.reduce(np.log(row)[:, None] + singles, axis=0) for row in subsets]
    geometric = [row @ singles for row in subsets]
    pooled = [log_q - np.log(np.sum(np.exp(log_q)) * area) for log_q in geometric]
    z = np.linspace(-REACH, REACH, 61)[:, None]
    shown = [_decoded(AveragedVae(models, t, row), z) for t, row in [*((turns, row) for row in np.eye(members)), (None, None), (turns, None)]]
    return {
        "rows": rows,
        "curves": np.stack(shown),
        "subsets": subsets,
        "signs": turns[:, 0, 0],
        "mass": [np.sum(np.exp(log_q)) * area for log_q in (log_p, *singles)],
        "curved": [[divergence(parts[i]) for i in (0, 1)] + [divergence(pool), divergence(mixture)] for parts, pool, mixture in zip(averages, pooled, linear, strict=True)],
    }


def _grid(cells: int) -> np.ndarray:
    """Square cells over the part of the plane that holds the arc."""
    side = np.linspace(-3.6, 3.6, cells + 1)
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)


def _log_prob(model: AveragedVae, x: np.ndarray, nodes: int) -> np.ndarray:
    return np.asarray(model.log_prob(x, nodes=nodes).value)


@eqx.filter_jit
def _decoded(model: AveragedVae, z: np.ndarray) -> Float[Array, "n d"]:
    return jax.vmap(model.decode)(jnp.asarray(z))


def _draw(data: Data) -> Picture:
    picture, (linear, curves, curved, closer) = new_figure(WIDTHS["iclr"], 4.6, rows=2, columns=2)
    _draw_linear(linear, data)
    _draw_curves(curves, data)
    _draw_curved(curved, data)
    _draw_closer(closer, data)
    handles = [Line2D([], [], color=look.color, linestyle=look.linestyle, label=look.label) for look in map(_line, RULES)]
    handles += [Line2D([], [], color=ONE.color, label=ONE.label)]
    picture.legend(handles=handles, loc="outside lower center", ncols=3)
    return picture


def _draw_linear(ax: Axes, data: Data) -> None:
    letter(ax, "a", "linear VAEs, exact fits")
    sizes, exact, learned = data["sizes"], data["exact"], data["learned"]
    for i, name in enumerate(RULES):
        curve(ax, sizes, exact[:, i].mean(axis=0), _line(name))
        dots(ax, sizes, learned[:, i].mean(axis=0), 2 * _spread(learned[:, i]), LOOKS[name]._replace(marker="o"))
    ax.set(xscale="log", yscale="log", xlabel="members $K$", ylabel="KL(target || law), nats")
    ax.set_xticks(sizes, labels=[f"{K}" for K in sizes])
    ax.minorticks_off()


def _spread(values: np.ndarray) -> np.ndarray:
    """Standard errors over replicates; none for one."""
    return values.std(axis=0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.zeros(values.shape[1])


def _draw_curves(ax: Axes, data: Data) -> None:
    letter(ax, "b", "decoders, one latent")
    *members, raw, aligned = data["curves"]
    ax.plot(*data["rows"].T, color="#DDDDDD", marker=".", linestyle="none", markersize=2, zorder=0)
    for one in members:
        ax.plot(*one.T, color=ONE.color, linewidth=0.8)
    for points, name in ((raw, "raw_decoders"), (aligned, "aligned_decoders")):
        ax.plot(*points.T, color=LOOKS[name].color, linewidth=1.6)
    ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")


def _draw_curved(ax: Axes, data: Data) -> None:
    letter(ax, "c", "VAEs on the plane")
    _draw_by_size(ax, data, COLUMNS)
    ax.set(yscale="log", ylabel="KL(target || law), nats")
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10]
    ax.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    ax.minorticks_off()


def _draw_closer(ax: Axes, data: Data) -> None:
    letter(ax, "d", "the same, closer")
    _draw_by_size(ax, data, ("log", "linear", "aligned_decoders"))  # the last lies on the first


COLUMNS = ("raw_decoders", "aligned_decoders", "log", "linear")


def _draw_by_size(ax: Axes, data: Data, names: Sequence[str]) -> None:
    """Every subset, and means by size."""
    subsets, kls = data["subsets"], data["curved"]
    sizes, M = (subsets > 0).sum(axis=1), subsets.shape[1]
    for name in names:
        values = kls[:, COLUMNS.index(name)]
        _faint(ax, sizes, values, LOOKS[name])
        curve(ax, np.arange(1, M + 1), [values[sizes == K].mean() for K in range(1, M + 1)], _line(name))
    ax.set(xlabel="members $K$", xticks=range(1, M + 1))


def _line(name: str) -> Look:
    """Solid but for aligned averages, which lie on other curves."""
    return LOOKS[name]._replace(linestyle=(0, (3, 1.5)) if name == "aligned_decoders" else "-")


def _faint(ax: Axes, x: np.ndarray, y: np.ndarray, look: Look) -> None:
    ax.plot(x, y, color=look.color, marker=".", linestyle="none", markersize=2, alpha=0.4)


TEXT = r"""Ensembles of variational autoencoders: averaged decoders, and pools of their laws. Latents may be turned without a change of the law of x, and training
from a random start ends in each signed permutation of them with equal probability.

(a) Linear VAEs with two latents in three dimensions, each on 30 points of its own; the target is a PPCA. Lines: the exact optimum on each of 64 samples, in groups of 8,
its latents turned at random. Dots: VAEs trained on the same points ({trained} of them; bars: two standard errors over groups). One fit: 0.2097 nats; 8 fits: 0.0275 for
averaged decoders aligned by signed permutations, 0.0239 aligned by rotations, 0.0443 for the log pool, 0.0220 for the linear pool, but 2.5584 for averaged decoders as they
stand. What was trained differs on average from the exact fits to the same points by at most 0.00, but for these last, whose turns are random.

(b) VAEs with hidden layers and one latent on bootstrap samples of points along an arc: the image of $|z| \leq 2.2$ under the decoder of each, under the average of all as
they stand, and under the average with latents aligned.

(c, d) Divergences from the arc's law: averages and pools of every subset of {members} VAEs, and means by size. Pools do better than their members on average in every
subset, as Jensen's inequality demands: shares 1.000 (linear) and 1.000 (log). No theorem holds for averaged decoders: as they stand, those of opposite signs give a law
further from the target than any of their members in a share of 1.00 of the subsets that mix signs; aligned ones never do worse than as they stand there: share 1.00."""


def _caption(data: Data) -> Caption:
    exact, learned, members = data["exact"], data["learned"], data["subsets"].shape[1]
    differences = np.abs(np.mean(learned - exact[: len(learned)], axis=0))[1:]
    last = dict(zip(RULES, exact[:, :, -1].mean(axis=0), strict=True))
    linear, log, worst, better = _shares(data)
    numbers = (
        Number("one fit", exact[:, 0, 0].mean(), "0.2097"),
        Number("aligned", last["aligned_decoders"], "0.0275"),
        Number("rotated", last["rotated_decoders"], "0.0239"),
        Number("log pool", last["log"], "0.0443"),
        Number("linear pool", last["linear"], "0.0220"),
        Number("as they stand", last["raw_decoders"], "2.5584"),
        Number("trained less exact", differences.max(), "0.00"),
        Number("range of latents", REACH, "2.2"),
        Number("linear pools below their member average", linear, "1.000"),
        Number("log pools below their member average", log, "1.000"),
        Number("averages of opposite signs beyond every member", worst, "1.00"),
        Number("averages of opposite signs that alignment improves", better, "1.00"),
    )
    return Caption(TEXT.format(trained=learned.shape[0] * 8, members=members), numbers)


def _shares(data: Data) -> tuple[float, float, float, float]:
    """Of subsets of several: pools (linear, log) below the member average; of those of both signs: raw averages above every member, and above the aligned ones."""
    subsets, (raw, aligned, log, linear) = data["subsets"], data["curved"].T
    singles = linear[: subsets.shape[1]]
    several = (subsets > 0).sum(axis=1) > 1
    mixed = np.abs(subsets @ data["signs"]) < 1 - 1e-9
    highest = np.array([singles[row > 0].max() for row in subsets])
    shares = (linear <= subsets @ singles)[several], (log <= subsets @ singles)[several], (raw > highest)[mixed], (raw >= aligned)[mixed]
    return tuple(float(np.mean(share)) for share in shares)  # pyright: ignore[reportReturnType]


FIGURE = Figure(
    name=NAME,
    title="Ensembles of VAEs: averaged decoders and pools",
    inputs={
        "seed": 7,
        "spectrum": [2.5, 1.0],
        "noise": 0.3,
        "points": 30,
        "members": 8,
        "replicates": 8,
        "trained": 8,
        "draws": 4000,
        "linear_steps": 1000,
        "weights": [0.1, 0.15, 0.2, 0.1, 0.1, 0.2, 0.15],
        "centres": [[2.0, -0.6], [1.9, 0.4], [1.3, 1.3], [0.2, 1.8], [-1.0, 1.5], [-1.7, 0.6], [-1.9, -0.5]],
        "variance": 0.09,
        "arc_points": 400,
        "arc_members": 6,
        "arc_steps": 3000,
        "width": 32,
        "depth": 2,
        "nodes": 256,
        "cells": 90,
    },
    quick_inputs={"trained": 1, "linear_steps": 500, "arc_members": 3, "arc_steps": 400, "width": 16, "depth": 1, "nodes": 128, "cells": 60},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels. Linear VAEs: divergence falls with the number of members for aligned averages and both pools, and rises for decoders averaged as they stand; dots "
    "of trained VAEs lie on the lines of exact fits. Decoders: grey curves follow an arc of points, the aligned average too, the average as they stand leaves it. VAEs on "
    "the plane: aligned averages and pools stay low, averages as they stand are far above.",
    source="after Kingma & Welling (2014), Tipping & Bishop (1999) and Lucas et al. (2019)",
    claims=("linear-vae-elbo-gap",),
)
