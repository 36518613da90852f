r"""Hamiltonian generative networks on pictures of a pendulum: roll-outs three times as long as the sequences of training, beside twins along any velocity.

Sequences of noisy pictures of an exact pendulum train an ensemble of networks of either kind, of equal numbers of parameters and integrators of equal order and cost. Each
then sees the first few frames of new sequences and rolls on. The angle is read off every predicted frame by its first moments, its velocity by differences of order six, and
with them the energy that the predicted frames show, which a pendulum keeps. Averages are of frames, since latent points of two networks have nothing to do with each other.

What leapfrog does to the learned H is exact: its error falls with the square of the step, and the volume of phase space stays. Trained networks differ between machines: of
them the caption prints only what does not depend on that.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from ensembletheory.neural import FrameModel, FreeTwinLearner, HgnLearner, Pendulum, Recipe, fit_ensemble, member, roll_outs
from ensembletheory.neural.hamiltonian.hgn import HamiltonianMotion, parameters
from ensembletheory.neural.hamiltonian.pendulum import angles, momenta, pictures
from ensembletheory.plotting import LOOKS, WIDTHS, curve, letter, new_figure
from paper_figures.framework import Caption, Data, Figure, Number, checkpoint

__all__ = ["FIGURE"]

KINDS = {"hgn": LOOKS["generative_network"], "twin": LOOKS["free_twin"]}
NAMES = {"hgn": "HGN", "twin": "twin"}
TRUE, LENGTHS, EDGE = LOOKS["target"], 3, 3  # roll-outs of three times the sequences of training; frames at either end whose differences are not taken
PARTS = (1.0, 8.0, 16.0)  # of the step of training; between the last two the order of leapfrog is measured


def _compute(seed, frequency, swings, step, frames, seen, side, sequences, noise, members, updates, rate, latent, width, depth, batch, tests) -> Data:
    pendulum = Pendulum(frequency)
    learner = HgnLearner(side**2, step, latent, seen, width, depth, batch)
    rows = _sequences(seed, pendulum, sequences, step * np.arange(frames), swings, side, noise)[1]
    z, seen_rows = _sequences(seed + 1, pendulum, tests, step * np.arange(LENGTHS * frames), swings, side, noise)
    truth = np.asarray(pictures(z[..., 0], side))
    recipe = Recipe(steps=updates, learning_rate=rate, chunk=min(updates, 100), ema_decay=0.99)
    stacks = {
        kind: fit_ensemble(jax.random.key(seed + 2), one, rows, members, recipe, checkpoint=checkpoint("hgn_pendulum", kind)).average
        for kind, one in (("hgn", learner), ("twin", FreeTwinLearner(learner)))
    }
    swing = np.linspace(-swings[1], swings[1], 201)
    data: Data = {
        "step": step,
        "frames": frames,
        "truth": truth[0],
        "spread": np.mean((truth - truth.mean(axis=(0, 1))) ** 2),
        "reading": np.max(np.abs(np.asarray(angles(pictures(swing, side))) - swing)),
        "parameters": [parameters(member(stacks[kind], 0).motion) for kind in KINDS],
    }
    energy = np.asarray(pendulum.energy(z[:, 0]))
    for kind, stacked in stacks.items():
        predicted, volumes, energies = (np.asarray(array) for array in _rolled(stacked, jnp.asarray(seen_rows), LENGTHS * frames))
        predicted = np.concatenate([predicted, predicted.mean(axis=0, keepdims=True)])  # the ensemble comes last
        data |= {
            f"{kind}_shown": predicted[:-1, 0],
            f"{kind}_errors": np.mean((predicted - truth) ** 2, axis=(1, 3)),
            f"{kind}_spread": np.mean((predicted[:-1] - predicted[-1]) ** 2, axis=(0, 1, 3)),
            f"{kind}_energies": _shown_energies(pendulum, predicted, step) / energy[:, None],
            f"{kind}_volume": volumes,
        }
        if kind == "hgn":
            data |= _kept(energies)
    return data


def _sequences(seed: int, pendulum: Pendulum, n: int, times: np.ndarray, swings, side: int, noise: float) -> tuple[Array, np.ndarray]:
    """Orbits, and noisy pictures of them, one sequence a row."""
    z = pendulum.sequences(jax.random.key(seed), n, times, swings)
    rows = np.asarray(pictures(z[..., 0], side)).reshape(n, -1)
    return z, rows + noise * np.random.default_rng(seed).normal(size=rows.shape)


def _shown_energies(pendulum: Pendulum, predicted: np.ndarray, step: float) -> np.ndarray:
    """Of angles read off the frames and their differences, at all but the first and the last three times."""
    q = np.unwrap(np.asarray(angles(predicted)))
    return np.asarray(pendulum.energy(np.stack([q[..., EDGE:-EDGE], np.asarray(momenta(q, step))], axis=-1)))


@eqx.filter_jit
def _rolled(stacked: Any, rows: Float[Array, "n sequence"], frames: int) -> tuple[Array, Array, Array]:
    """Frames of all members' roll-outs, the log |det| of the map of phase space through the first, and H along all, by the step of training and by fractions of it."""

    def of(model: FrameModel):
        starts = jax.vmap(lambda row: model.encode(row)[0])(rows)
        path = model.roll(starts[0], frames)
        volume = jnp.sum(jnp.linalg.slogdet(jax.vmap(jax.jacfwd(lambda z: model.roll(z, 2)[1]))(path[:-1]))[1])
        if not isinstance(model.motion, HamiltonianMotion):
            return volume, jnp.zeros(0)
        steps = model.step / jnp.asarray(PARTS)
        paths = jax.vmap(lambda h: jax.vmap(lambda z: model.motion.roll(z, h, frames - 1))(starts))(steps)
        return volume, jax.vmap(jax.vmap(jax.vmap(model.motion.hamiltonian.energy)))(paths)

    return roll_outs(stacked, rows, frames), *eqx.filter_vmap(of)(stacked)


def _kept(H: np.ndarray) -> Data:
    """Root mean square deviations of H from its start, in units of its spread over sequences, for the step of training; and by which power of the step they fall.

    Args:
        H: (networks, steps, sequences, times), by steps of 1, 1/8 and 1/16, of which the last goes on twice as often over an equal time.
    """
    deviations = np.sqrt(np.mean((H - H[..., :1]) ** 2, axis=2)) / H[:, :1, :, 0].std(axis=2)[..., None]
    coarse, fine = deviations[:, 1, : (H.shape[-1] + 1) // 2], deviations[:, 2]
    return {"deviations": deviations[:, 0], "orders": np.log2(coarse[:, -1] / fine[:, 2 * (coarse.shape[1] - 1)])}


def _draw(data: Data) -> Picture:
    picture, (strip, energies, errors, kept) = new_figure(WIDTHS["iclr"], 4.4, rows=2, columns=2)
    _draw_strip(strip, data)
    _draw_energies(energies, data)
    _draw_errors(errors, data)
    _draw_kept(kept, data)
    picture.legend(handles=errors.get_lines()[:4], loc="outside lower center", ncols=2)
    return picture


def _draw_strip(ax: Axes, data: Data) -> None:
    letter(ax, "a", "one sequence, rolled out")
    frames, side = int(data["frames"]), round(data["truth"].shape[-1] ** 0.5)
    shown = np.linspace(0, LENGTHS * frames - 1, 7).astype(int)
    rows = [data["truth"], *(data[f"{kind}_shown"][_best(data, kind)] for kind in KINDS)]
    blocks = [[np.pad(row[t].reshape(side, side), 1, constant_values=np.nan) for t in shown] for row in rows]
    ax.imshow(np.block(blocks), cmap="gray", vmin=0, vmax=1)
    ax.set_xticks((np.arange(len(shown)) + 0.5) * (side + 2) - 0.5, [f"{t * float(data['step']):.1f}" for t in shown])
    ax.set_yticks((np.arange(3) + 0.5) * (side + 2) - 0.5, ["true", *NAMES.values()])
    ax.tick_params(length=0)
    ax.set(xlabel="time")
    ax.spines[:].set_visible(False)


def _best(data: Data, kind: str) -> int:
    """The network with the least error of frames within the horizon of training."""
    return int(np.argmin(data[f"{kind}_errors"][:-1, : int(data["frames"])].mean(axis=1)))


def _times(data: Data) -> np.ndarray:
    return float(data["step"]) * np.arange(LENGTHS * int(data["frames"]))


def _mark_training(ax: Axes, data: Data) -> None:
    ax.axvline(float(data["step"]) * (int(data["frames"]) - 1), color=TRUE.color, linestyle=":", linewidth=0.8)
    ax.set(xlabel="time", xlim=(0, _times(data)[-1]))


def _draw_energies(ax: Axes, data: Data) -> None:
    letter(ax, "b", "energy that the frames show")
    t = _times(data)[EDGE:-EDGE]
    for kind, look in KINDS.items():
        low, middle, high = np.quantile(data[f"{kind}_energies"][_best(data, kind)], [0.25, 0.5, 0.75], axis=0)
        curve(ax, t, middle, look._replace(linestyle="-"), low, high)
    ax.axhline(1, color=TRUE.color, linewidth=0.8)
    _mark_training(ax, data)
    ax.set(ylabel="energy / true energy", ylim=(0.5, 1.5))


def _draw_errors(ax: Axes, data: Data) -> None:
    letter(ax, "c", "error of frames")
    t = _times(data)
    for kind, look in KINDS.items():
        curve(ax, t, data[f"{kind}_errors"][:-1].mean(axis=0) / data["spread"], look._replace(linestyle=(0, (1, 1)), label=f"{NAMES[kind]}: members, average"))
    for kind, look in KINDS.items():
        curve(ax, t, data[f"{kind}_errors"][-1] / data["spread"], look._replace(linestyle="-", label=f"{NAMES[kind]}: averaged frames"))
    ax.axhline(1, color=TRUE.color, linewidth=0.8)
    _mark_training(ax, data)
    ax.set(ylabel="mean squared error / variance", yscale="log")


def _draw_kept(ax: Axes, data: Data) -> None:
    letter(ax, "d", "learned $H$ along leapfrog")
    for one in data["deviations"]:
        curve(ax, _times(data)[1:], one[1:], KINDS["hgn"]._replace(linestyle="-"))
    _mark_training(ax, data)
    ax.set(ylabel="deviation of $H$ / its spread", ylim=(0, None))


TEXT = r"""Pictures of a pendulum, {side} pixels a side with noise, learned by {members} Hamiltonian generative networks (HGN) and as many twins along any velocity. The
motion of the former has {hgn} parameters, of the latter {twin}; both step by methods of order 2 that multiply twice by each matrix. Networks see {seen} noisy frames of
{tests} new sequences and roll on to three times the {frames} frames of training (dotted line).

(a) One sequence: true pictures, and those of the network of either kind with the least error within the horizon of training.

(b) Energy shown by the frames of these networks, of the angle and its differences, over the true one: medians and quartiles over sequences. The angle of first moments is
off by {reading} at most on pictures without noise.

(c) Mean squared error of frames over the variance of the pictures (1: the mean picture). The averaged frames of an ensemble err less than its members on average at {both}
of {both} times, exactly by the spread of the members: the largest difference is 0.000000000000. No theorem says which kind errs less.

(d) Root mean square deviation of the learned H from its start along each Hamiltonian network's roll-out, in units of the spread of H over sequences. It comes from the
leapfrog step alone, and falls with its power 2.0 whatever was learned. The volume of phase space changes along the roll-out by a factor whose logarithm is 0.000000000 for
them, and is not 0 for the twins."""


def _caption(data: Data) -> Caption:
    frames, (hgn, twin) = int(data["frames"]), data["parameters"]
    inputs = FIGURE.inputs
    gaps = [data[f"{kind}_errors"][:-1].mean(axis=0) - data[f"{kind}_errors"][-1] for kind in KINDS]
    lower = sum(int(np.sum(gap > 0)) for gap in gaps)
    identity = max(np.max(np.abs(gap - data[f"{kind}_spread"])) for gap, kind in zip(gaps, KINDS, strict=True))
    side, tests, members = round(data["truth"].shape[-1] ** 0.5), data["hgn_energies"].shape[1], len(data["deviations"])
    reading = "0.0000001" if side >= 16 else "0.0001"
    numbers = (
        Number("parameters of H", hgn, f"{hgn}"),
        Number("parameters of the velocity", twin, f"{twin}"),
        Number("error of angles read", data["reading"], reading),
        Number("times at which averaged frames err less", lower, f"{2 * LENGTHS * frames}"),
        Number("gain of averaging less spread", identity, "0.000000000000"),
        Number("least order of leapfrog", np.min(data["orders"]), "2.0"),
        Number("largest order of leapfrog", np.max(data["orders"]), "2.0"),
        Number("largest logarithm of volume", np.max(np.abs(data["hgn_volume"])), "0.000000000"),
    )
    text = TEXT.format(
        side=side,
        members=members,
        hgn=hgn,
        twin=twin,
        seen=inputs["seen"],
        tests=tests,
        frames=frames,
        reading=reading,
        both=2 * LENGTHS * frames,
    )
    return Caption(text, numbers)


FIGURE = Figure(
    name="hgn_pendulum",
    title="Hamiltonian generative networks on pictures of a pendulum",
    inputs={
        "seed": 20260207,
        "frequency": 1.5,
        "swings": [0.4, 1.4],
        "step": 0.2,
        "frames": 20,
        "seen": 5,
        "side": 16,
        "sequences": 512,
        "noise": 0.05,
        "members": 3,
        "updates": 1200,
        "rate": 5e-3,
        "latent": 1,
        "width": 32,
        "depth": 1,
        "batch": 32,
        "tests": 64,
    },
    quick_inputs={"frames": 8, "seen": 3, "side": 12, "sequences": 64, "members": 2, "updates": 40, "width": 12, "batch": 8, "tests": 8},
    compute=_compute,
    draw=_draw,
    caption=_caption,
    alt="Four panels: frames of a pendulum, true and predicted by two kinds of networks; the energy that predicted frames show against time; the error of frames of members "
    "and of their average against time; the deviation of the learned Hamiltonian along leapfrog.",
    source="Toth et al. (2020), Hamiltonian generative networks; pendulum, sizes and twin are this project's",
)
