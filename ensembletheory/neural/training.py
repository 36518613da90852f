r"""The one training loop: any loss, any Equinox model, one member or a stack of them.

Step i = 0, 1, ... takes the key k_i = fold_in(key, i) and the gradient g_i of `loss(model, k_i)` at the parameters theta_i:

    theta_{i+1} = theta_i + Adam(clip(g_i)),      average_{i+1} = average_i + (1 - d_i) (theta_{i+1} - average_i),      d_i = min(d, (1 + i) / (10 + i)),

where clip(g) = g min(1, c / |g|) with the Euclidean norm of all parameters, Adam is Kingma & Ba's (2015) with the recipe's learning rate, held constant or decayed to
0 along half a cosine, and average is the exponential moving average of decay d, started at theta_0 and warmed up. Every inexact array of the model is a parameter; what
must stay fixed goes through `jax.lax.stop_gradient` in the model.

Steps run in chunks, one compiled `lax.scan` a chunk; between chunks the losses are checked and the checkpoint is written whole. Since a step depends on nothing but the
state, the key and its number i, a run that is stopped and called again with the same arguments gives the same bits as one that is not stopped.

Member k of `train_ensemble(key, ...)` starts and trains with `member_keys(key, k)`, whatever the other members do. All members run one program, that of `train`, in as many
threads as there are cores: one member hardly uses more than one core, and a program of all members at once (`vmap`) takes as much work and leaves the other cores idle.
The result is a stack, a model whose arrays have a leading axis K.
"""

import operator
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ensembletheory.errors import missing_extra, refuse
from ensembletheory.neural.checkpoints import fingerprint, read_checkpoint, write_checkpoint
from ensembletheory.neural.stacks import members, require_alike, stack
from ensembletheory.progress import progress

try:
    import optax
except ImportError:
    missing_extra("optax", "neural")

__all__ = ["Loss", "Recipe", "Trained", "member_keys", "train", "train_ensemble"]

Loss = Callable[[Any, PRNGKeyArray], Float[Array, ""]]  # (model, key) -> loss
Initialise = Callable[[PRNGKeyArray], Any]  # key -> model


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Args:
        steps: number of gradient steps, a multiple of `chunk`.
        learning_rate: Adam's, at the start.
        schedule: "cosine" (to 0 at the last step) or "constant".
        ema_decay: d, in [0, 1).
        clip: c, the largest norm of the gradient (inf: none).
        chunk: steps between two looks at the loss and two checkpoints.

    Raises:
        ValueError: if a number is out of its range.
    """

    steps: int = 3000
    learning_rate: float = 2e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    ema_decay: float = 0.999
    clip: float = 1.0
    chunk: int = 100

    def __post_init__(self):
        self._convert(operator.index, "a whole number", ("steps", "chunk"))
        self._convert(float, "a number", ("learning_rate", "ema_decay", "clip"))
        if self.chunk < 1 or self.steps < 1 or self.steps % self.chunk:
            refuse("steps", f"{self.steps} steps in chunks of {self.chunk}", "a positive multiple of chunk", "Choose a chunk that divides the steps.")
        if not (0 < self.learning_rate < np.inf and self.clip > 0):
            refuse("learning_rate and clip", f"{self.learning_rate} and {self.clip}", "positive numbers, the first finite", "clip=inf switches clipping off.")
        if not 0 <= self.ema_decay < 1:
            refuse("ema_decay", f"{self.ema_decay}", "a number in [0, 1)", "0 makes the average equal to the last model.")
        if self.schedule not in ("cosine", "constant"):
            refuse("schedule", repr(self.schedule), "'cosine' or 'constant'", "Spell it so.")

    def _convert(self, kind: Callable[[Any], int | float], expected: str, names: Sequence[str]) -> None:
        """Plain numbers of Python, which a checkpoint can hold, in place of those of NumPy."""
        for name in names:
            try:
                object.__setattr__(self, name, kind(getattr(self, name)))
            except (TypeError, ValueError):
                refuse(name, repr(getattr(self, name)), expected, "Convert it first.")


class Trained(eqx.Module):
    """What training gives: the last `model`, the exponential moving `average` of its path, and the `losses` of the steps; of a stack, each with a leading axis K."""

    model: Any
    average: Any
    losses: Float[Array, "... steps"]


class _State(eqx.Module):
    model: Any
    average: Any
    optimiser: Any


def train(key: PRNGKeyArray, model: Any, loss: Loss, recipe: Recipe, checkpoint: Path | str | None = None) -> Trained:
    """Train one model.

    Args:
        key: step i uses fold_in(key, i).
        model: any Equinox module.
        loss: `loss(model, key)`, a scalar that is an unbiased estimate of what is to be minimised. Make it a module that holds its data, and no program is compiled twice.
        recipe: see `Recipe`.
        checkpoint: file that is written after every chunk and continued from if it is there. More `steps` than it has seen continue a constant schedule.

    Raises:
        FloatingPointError: if the loss or its gradient is not finite; it names the step and the last good checkpoint.
        ValueError: if the checkpoint was written by a run with another key, recipe, model or loss, as far as
            `ensembletheory.neural.checkpoints` can tell.
    """
    model, loss = _strong(model), _strong(loss)
    (state,), losses = _run([_initial(model, recipe)], [key], [loss], recipe, checkpoint, {} if checkpoint is None else _identity(key, model, loss, recipe))
    return Trained(state.model, state.average, jnp.asarray(losses[0]))


def train_ensemble(key: PRNGKeyArray, initialise: Initialise | Sequence[Initialise], losses: Sequence[Loss], recipe: Recipe, checkpoint: Path | str | None = None) -> Trained:
    """Train K = len(losses) members at once, member k by losses[k]; the result is a stack.

    Args:
        key: see `member_keys`.
        initialise: maps a key to a model; or one such function a member, of one structure. Make it a `Partial` of a function, and no program is compiled twice.
        losses: modules of one structure (they may hold different laws or data); `[loss] * K` trains K members on the same.
        recipe: see `Recipe`.
        checkpoint: as in `train`.

    Raises:
        FloatingPointError: if the loss or gradient of any member is not finite.
        ValueError: if `losses` is empty or of unequal structure, or the checkpoint was written by another run.
    """
    require_alike("losses", losses)
    losses, begin = ([_strong(part) for part in parts] for parts in (losses, [initialise] * len(losses) if callable(initialise) else initialise))
    init_keys, train_keys = jax.vmap(lambda k: member_keys(key, k))(jnp.arange(len(losses)))
    states = members(_begun(stack(begin), init_keys, recipe))
    identity = {} if checkpoint is None else _identity(key, [state.model for state in states], losses, recipe)
    states, values = _run(states, list(train_keys), losses, recipe, checkpoint, identity)
    return Trained(stack([state.model for state in states]), stack([state.average for state in states]), jnp.asarray(values))


def member_keys(key: PRNGKeyArray, k: Int[Array, ""] | int) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """The keys with which member k of an ensemble starts and trains."""
    init_key, train_key = jax.random.split(jax.random.fold_in(key, k))
    return init_key, train_key


def _optimiser(recipe: Recipe) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(recipe.learning_rate, recipe.steps) if recipe.schedule == "cosine" else recipe.learning_rate
    return optax.chain(optax.clip_by_global_norm(recipe.clip), optax.adam(rate))


@eqx.filter_jit
def _begun(initialise: Initialise, keys: PRNGKeyArray, recipe: Recipe) -> _State:
    """The stack of the members' states before training, from a stack of what makes them."""
    return eqx.filter_vmap(lambda initialise, key: _initial(initialise(key), recipe))(initialise, keys)


def _strong(tree: Any) -> Any:
    """The same arrays, none of them weakly typed: equal programs are compiled once."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)) if getattr(leaf, "weak_type", False) else leaf, tree)


@eqx.filter_jit
def _initial(model: Any, recipe: Recipe) -> _State:
    with jax.numpy_dtype_promotion("standard"):
        return _State(model, model, _optimiser(recipe).init(eqx.filter(model, eqx.is_inexact_array)))


def _step(state: _State, key: PRNGKeyArray, loss: Loss, i: Int[Array, ""], recipe: Recipe) -> tuple[_State, Float[Array, ""]]:
    """The state after step i, and the loss before it (NaN if its gradient is not finite)."""
    value, gradient = eqx.filter_value_and_grad(lambda model: loss(model, jax.random.fold_in(key, i)))(state.model)
    with jax.numpy_dtype_promotion("standard"):
        finite = jnp.isfinite(sum(jnp.sum(part**2) for part in jax.tree.leaves(gradient)))
        update, optimiser = _optimiser(recipe).update(gradient, state.optimiser)
        model = eqx.apply_updates(state.model, update)
    time = i.astype(value.dtype)
    decay = jnp.minimum(recipe.ema_decay, (1 + time) / (10 + time))
    return _State(model, _moved(state.average, model, 1 - decay), optimiser), jnp.where(finite, value, jnp.nan)


def _moved(average: Any, model: Any, rate: Float[Array, ""]) -> Any:
    """`average`, its parameters moved towards those of `model` by the fraction `rate`."""
    old, rest = eqx.partition(average, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda a, b: a + rate.astype(a.dtype) * (b - a), old, eqx.filter(model, eqx.is_inexact_array)), rest)


@eqx.filter_jit
def _chunk(state: _State, key: PRNGKeyArray, loss: Loss, start: Int[Array, ""], recipe: Recipe) -> tuple[_State, Float[Array, " chunk"]]:
    dynamic, static = eqx.partition(state, eqx.is_array)

    def body(carry, i):
        state, value = _step(eqx.combine(carry, static), key, loss, i, recipe)
        return eqx.filter(state, eqx.is_array), value

    dynamic, values = jax.lax.scan(body, dynamic, start + jnp.arange(recipe.chunk))
    return eqx.combine(dynamic, static), values


def _identity(key: PRNGKeyArray, model: Any, loss: Any, recipe: Recipe) -> dict[str, Any]:
    """What the path of training depends on. The number of steps matters only to a schedule that knows the end."""
    fixed = {name: value for name, value in asdict(recipe).items() if name != "steps" or recipe.schedule == "cosine"}
    return {"key": fingerprint(key), "initial model": fingerprint(model), "loss": fingerprint(loss), "recipe": fixed}


def _run(
    states: list[_State], keys: list[PRNGKeyArray], losses: list[Loss], recipe: Recipe, checkpoint: Path | str | None, identity: dict[str, Any]
) -> tuple[list[_State], Float[np.ndarray, "K steps"]]:
    """Advance all members chunk by chunk, from the checkpoint if there is one."""
    path, values = None if checkpoint is None else Path(checkpoint), np.zeros((len(states), 0))
    if path and path.exists():
        states, values = read_checkpoint(path, states, values, identity)
        if values.shape[-1] > recipe.steps:
            refuse("steps", f"{recipe.steps}", f"at least the {values.shape[-1]} of {path}", "Delete the checkpoint to start afresh.")
    done, chunks = values.shape[-1] // recipe.chunk, recipe.steps // recipe.chunk
    with ThreadPoolExecutor(min(len(states), _cores())) as pool:
        for i in progress(range(done, chunks), "training", chunks - done):
            states, latest = _advanced(pool, states, keys, losses, jnp.asarray(i * recipe.chunk), recipe)
            _stop_unless_finite(latest, i * recipe.chunk, path)
            values = np.concatenate([values, latest], axis=-1)
            if path:
                write_checkpoint(path, states, values, identity)
    return states, values


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _advanced(
    pool: ThreadPoolExecutor, states: list[_State], keys: list[PRNGKeyArray], losses: list[Loss], start: Int[Array, ""], recipe: Recipe
) -> tuple[list[_State], Float[np.ndarray, "K chunk"]]:
    """All members one chunk on, in threads, which run a compiled program: the settings of JAX under which it is compiled are those of the thread that asks."""
    chunk = _chunk.lower(states[0], keys[0], losses[0], start, recipe).compile()
    moved = pool.map(lambda state, key, loss: jax.block_until_ready(chunk(state, key, loss, start, recipe)), states, keys, losses)
    states, values = map(list, zip(*moved, strict=True))
    return states, np.stack(values)


def _stop_unless_finite(values: Float[np.ndarray, "K chunk"], start: int, checkpoint: Path | None) -> None:
    bad = np.argwhere(~np.isfinite(values.T))
    if bad.size:
        step, k = (int(i) for i in bad[0])
        who = f" of member {k}" if len(values) > 1 else ""
        saved = f"the last good checkpoint is {checkpoint} (step {start})" if checkpoint and checkpoint.exists() else "there is no checkpoint"
        raise FloatingPointError(f"the loss{who} or its gradient is not finite at step {start + step}; {saved}. Lower the learning rate or the clip, or look at the data.")
