import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.laws import FiniteLaw
from ensembletheory.neural import DropoutLearner, FlowMatching, IndependentPairs, Perceptron, Recipe, ScoreLearner, TransportedPairs, member, train, train_ensemble
from ensembletheory.neural import training as module
from ensembletheory.neural.checkpoints import fingerprint
from ensembletheory.neural.training import member_keys
from ensembletheory.processes import LinearInterpolant, SubVariancePreserving, VariancePreserving


class Point(eqx.Module):
    """Three parameters, and a name that is not an array."""

    w: Float[Array, "3"]
    name: str = "point"


class NoisyDistance(eqx.Module):
    """Half the squared distance to centre + noise: its gradient is w - centre - noise."""

    centre: Float[Array, "3"]

    def __call__(self, model: Point, key: PRNGKeyArray) -> Float[Array, ""]:
        return 0.5 * jnp.sum((model.w - self.centre - jax.random.normal(key, (3,))) ** 2)


START = Point(jnp.array([3.0, -1.0, 0.2]))
LOSS = NoisyDistance(jnp.array([0.3, 0.7, -2.0]))
KEY = jax.random.key(7)


def draw(key: PRNGKeyArray) -> Point:
    return Point(jax.random.normal(key, (3,)))


def by_hand(recipe: Recipe) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adam with clipping, schedule and moving average in NumPy, from the formulas of Kingma & Ba (2015) and the module's docstring."""
    w = average = np.asarray(START.w)
    m, v, losses = np.zeros(3), np.zeros(3), []
    for i in range(recipe.steps):
        residual = w - np.asarray(LOSS.centre) - np.asarray(jax.random.normal(jax.random.fold_in(KEY, i), (3,)))
        losses.append(residual @ residual / 2)
        g = residual * min(1.0, recipe.clip / np.linalg.norm(residual))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        rate = recipe.learning_rate * (0.5 * (1 + np.cos(np.pi * i / recipe.steps)) if recipe.schedule == "cosine" else 1.0)
        w = w - rate * (m / (1 - 0.9 ** (i + 1))) / (np.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8)
        d = min(recipe.ema_decay, (1 + i) / (10 + i))
        average = d * average + (1 - d) * w
    return w, average, np.array(losses)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize(("clip", "ema_decay"), [(0.5, 0.7), (float("inf"), 0.0)])
def test_training_is_adam_with_clipping_and_a_moving_average(schedule, clip, ema_decay):
    recipe = Recipe(steps=30, learning_rate=0.05, schedule=schedule, ema_decay=ema_decay, clip=clip, chunk=10)
    trained = train(KEY, START, LOSS, recipe)
    w, average, losses = by_hand(recipe)
    rounding = 1e-12  # 30 steps of a few roundings each, of numbers down to 0.2; measured 5e-15
    np.testing.assert_allclose(trained.model.w, w, rtol=rounding)
    np.testing.assert_allclose(trained.average.w, average, rtol=rounding)
    np.testing.assert_allclose(trained.losses, losses, rtol=rounding)
    assert trained.model.name == "point"


def identical(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(eqx.filter(a, eqx.is_array)), jax.tree.leaves(eqx.filter(b, eqx.is_array)), strict=True))


def test_a_constant_schedule_continues_bit_for_bit(tmp_path):
    half, whole = (Recipe(steps=steps, schedule="constant", chunk=50) for steps in (100, 200))
    train(KEY, START, LOSS, half, tmp_path / "run")
    assert identical(train(KEY, START, LOSS, whole, tmp_path / "run"), train(KEY, START, LOSS, whole))


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_stopped_run_resumes_bit_for_bit(tmp_path, monkeypatch, ensemble):
    recipe, path = Recipe(steps=200, chunk=20), tmp_path / "run"

    def run(checkpoint):
        if ensemble:
            return train_ensemble(KEY, draw, [LOSS, NoisyDistance(LOSS.centre + 1)], recipe, checkpoint)
        return train(KEY, START, LOSS, recipe, checkpoint)

    uninterrupted = run(None)

    def interrupted(items, description, total):
        for i in items:
            if i == 5:
                raise KeyboardInterrupt
            yield i

    with monkeypatch.context() as patch:
        patch.setattr(module, "progress", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(path)
    seen = []
    monkeypatch.setattr(module, "progress", lambda items, description, total: seen.append((list(items), total)) or items)
    assert identical(run(path), uninterrupted)
    assert seen == [(list(range(5, 10)), 5)]
    assert identical(run(path), uninterrupted)  # nothing left to do
    assert seen[1] == ([], 0)


class Cliff(eqx.Module):
    """-w as long as w < edge, then NaN. Adam climbs by exactly one learning rate a step, as the gradient is constant."""

    edge: Float[Array, ""]

    def __call__(self, model: Point, key: PRNGKeyArray) -> Float[Array, ""]:
        return jnp.where(model.w[0] < self.edge, -model.w[0], jnp.nan)


CLIMB = Recipe(steps=60, learning_rate=0.01, schedule="constant", chunk=10)


def test_a_loss_that_is_not_finite_stops_training_and_names_step_and_checkpoint(tmp_path):
    path, start = tmp_path / "run", Point(jnp.zeros(3))
    with pytest.raises(FloatingPointError, match=r"not finite at step 36; there is no checkpoint"):  # 0.01 i first exceeds 0.355 at i = 36
        train(KEY, start, Cliff(jnp.array(0.355)), CLIMB)
    with pytest.raises(FloatingPointError, match=rf"at step 36; the last good checkpoint is {path} \(step 30\)"):
        train(KEY, start, Cliff(jnp.array(0.355)), CLIMB, path)
    short = Recipe(steps=30, learning_rate=0.01, schedule="constant", chunk=10)
    np.testing.assert_allclose(train(KEY, start, Cliff(jnp.array(0.355)), short, path).model.w[0], 0.3, rtol=1e-6)


def test_the_member_whose_loss_is_not_finite_is_named():
    losses = [Cliff(jnp.array(edge)) for edge in (0.5, 0.305, 0.195)]
    with pytest.raises(FloatingPointError, match="of member 2 or its gradient is not finite at step 20"):
        train_ensemble(KEY, lambda key: Point(jnp.zeros(3)), losses, CLIMB)


def test_a_gradient_that_is_not_finite_stops_training():
    with pytest.raises(FloatingPointError, match="not finite at step 0"):
        train(KEY, Point(jnp.zeros(3)), lambda model, key: jnp.sqrt(model.w[0]), CLIMB)


class Farther(NoisyDistance):
    """The same arrays, and another loss."""

    def __call__(self, model: Point, key: PRNGKeyArray) -> Float[Array, ""]:
        return 2 * super().__call__(model, key)


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"key": jax.random.key(8)}, "key"),
        ({"model": Point(jnp.ones(3))}, "initial model"),
        ({"loss": NoisyDistance(jnp.ones(3))}, "loss"),
        ({"loss": Farther(LOSS.centre)}, "loss"),
        ({"loss": lambda model, key: LOSS(model, key)}, "loss"),
        ({"model": Point(START.w, "another")}, "initial model"),
        ({"recipe": Recipe(steps=40, chunk=10, clip=2.0)}, "recipe"),
        ({"recipe": Recipe(steps=60, chunk=10)}, "recipe"),  # a cosine knows its end
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changed, names):
    arguments = {"key": KEY, "model": START, "loss": LOSS, "recipe": Recipe(steps=40, chunk=10), "checkpoint": tmp_path / "run"}
    train(**arguments)
    with pytest.raises(ValueError, match=f"`checkpoint`: got .*run, written with another {names}; expected the {names} of this run"):
        train(**arguments | changed)


ROWS = FiniteLaw([[0.0, 1.0], [2.0, -1.0]])
SCORE = ScoreLearner(VariancePreserving(), batch=16)


def closing_over(number):
    return lambda model, key: number * LOSS(model, key)


def calling_itself(model, key):
    return calling_itself


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SCORE.loss(ROWS), ScoreLearner(SubVariancePreserving(), batch=16).loss(ROWS)),
        (SCORE.loss(ROWS), ScoreLearner(VariancePreserving(), batch=64).loss(ROWS)),
        (DropoutLearner(SCORE, 0.1).loss(ROWS), DropoutLearner(SCORE, 0.2).loss(ROWS)),
        (FlowMatching(LinearInterpolant(), ROWS, IndependentPairs(), 16), FlowMatching(LinearInterpolant(), ROWS, TransportedPairs(16), 16)),
        tuple(eqx.tree_at(lambda p: p.layers, Perceptron(KEY, 1, 1, 2, 1, f), Perceptron(KEY, 1, 1, 2, 1).layers) for f in (jax.nn.relu, jax.nn.silu)),
        (closing_over(1.0), closing_over(2.0)),
        (lambda model, key: 1.0, lambda model, key: 2.0),
        (eqx.filter_jit(closing_over(1.0)), eqx.filter_jit(closing_over(2.0))),
        (jax.tree_util.Partial(calling_itself, 1), jax.tree_util.Partial(calling_itself, 2)),
        ({"a": 1}, {"b": 1}),
        (np.ones(2), np.ones((2, 1))),
    ],
)
def test_runs_of_equal_arrays_and_other_classes_sizes_rates_or_functions_are_told_apart(first, second):
    assert fingerprint(first) != fingerprint(second)
    assert fingerprint(jax.tree.map(lambda leaf: jnp.array(leaf, copy=True) if eqx.is_array(leaf) else leaf, first)) == fingerprint(first)


PROGRAM = """
import jax, jax.numpy as jnp
from ensembletheory.neural.checkpoints import fingerprint
from ensembletheory.neural.scores.score_learner import ScoreLearner
from ensembletheory.processes import VariancePreserving

def own(model, key):
    return own if model in {"a", "b", "c"} else [lambda: {1.0, "d"}]

print(fingerprint([jax.random.key(1), own, jax.jit(own), jax.nn.relu, jnp.tanh, jnp.add, ScoreLearner(VariancePreserving())]))
"""


@pytest.mark.verify
def test_a_fingerprint_is_the_same_in_every_process():
    """Of what has neither an address nor an order of its own: jitted and recursive functions, and sets among their constants."""
    told = [subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout for seed in "12"]
    assert len(told[0].strip()) == 16
    assert told[0] == told[1]


def flipped(content: bytes) -> bytes:
    """One bit of one parameter, of which the format knows nothing."""
    return content[:-4] + bytes([content[-4] ^ 1]) + content[-3:]


@pytest.mark.parametrize("damage", [lambda content: b"", lambda content: content[:-40], flipped, lambda content: b"\xff" + content, lambda content: b"[1]\n" + content])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "run"
    train(KEY, START, LOSS, Recipe(steps=10, chunk=10), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="`checkpoint`: got .*cannot be read"):
        train(KEY, START, LOSS, Recipe(steps=10, chunk=10), path)


def test_a_checkpoint_that_is_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`checkpoint`: got .*cannot be read .*expected a file that can be read and written"):
        train(KEY, START, LOSS, Recipe(steps=10, chunk=10), tmp_path)


def test_numbers_of_numpy_make_a_recipe_that_a_checkpoint_holds(tmp_path: Path):
    recipe = Recipe(steps=np.int64(20), chunk=np.int32(10), learning_rate=np.float32(0.5), clip=np.float64(2.0), ema_decay=np.float32(0.5))  # pyright: ignore[reportArgumentType]
    assert recipe == Recipe(steps=20, chunk=10, learning_rate=0.5, clip=2.0, ema_decay=0.5)
    assert identical(train(KEY, START, LOSS, recipe, tmp_path / "run"), train(KEY, START, LOSS, recipe, tmp_path / "run"))


def test_a_checkpoint_with_more_steps_than_asked_for_is_refused(tmp_path):
    longer, shorter = (Recipe(steps=steps, schedule="constant", chunk=10) for steps in (40, 20))
    train(KEY, START, LOSS, longer, tmp_path / "run")
    with pytest.raises(ValueError, match="`steps`: got 20; expected at least the 40 of .*run"):
        train(KEY, START, LOSS, shorter, tmp_path / "run")


RATES = [{"learning_rate": rate} for rate in (0.0, float("nan"), float("inf"), "a")]


@pytest.mark.parametrize("wrong", [{"steps": 25}, {"steps": 20.0}, {"steps": 0}, {"chunk": 0}, {"clip": -1.0}, {"ema_decay": 1.0}, *RATES])
def test_a_recipe_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Recipe(**{"steps": 20, "chunk": 10} | wrong)


def test_members_trained_at_once_equal_members_trained_alone():
    """Bit for bit, for they run one program; also of different losses. A member does not depend on how many others there are."""
    losses = [NoisyDistance(jnp.full(3, float(k))) for k in range(3)]
    recipe = Recipe(steps=40, chunk=20)
    together = train_ensemble(KEY, draw, losses, recipe)
    assert identical(member(together.model, 0), member(train_ensemble(KEY, draw, losses[:1], recipe).model, 0))
    for k, loss in enumerate(losses):
        init_key, train_key = member_keys(KEY, k)
        alone = train(train_key, draw(init_key), loss, recipe)
        assert identical((member(together.model, k), member(together.average, k), together.losses[k]), (alone.model, alone.average, alone.losses))


def test_an_empty_ensemble_is_refused():
    with pytest.raises(ValueError, match="`losses`: got none"):
        train_ensemble(KEY, lambda key: START, [], CLIMB)
