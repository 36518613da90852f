r"""Where is a margin least? Local searches from many starts in the chart of the domain, where no constraint is left.

The search is a stream of rounds. A round deals random instances into groups, one for each of its local searches, and keeps the best of each group as it goes; draws,
chart, margin and running best are one compiled program. The local searches from there are L-BFGS (optimistix), all of a round in one compiled program. A quarter of the budget
is spent on random instances, and more where it would pay for more than `MOST_SEARCHES` local searches: these then start from the best of more. One evaluation is one value,
with its gradient where L-BFGS needs it. A round is a function of the seed and its number, so that a search that was stopped goes on from its checkpoint as if it had not been.

Where L-BFGS cannot move, because the margin cannot be traced or its gradient vanishes or is not finite, there is a compass search: a step along every axis, halved where none
helps.
"""

import io
import json
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, ArrayLike, Float, UInt

from ensembletheory.claims.evaluation import Evaluator
from ensembletheory.files import write_whole
from ensembletheory.progress import progress

__all__ = ["Checkpoint", "Search", "search"]

MOST_STEPS = 160  # evaluations of one local search: 6 coordinates converge in about 60, 18 in about 120
MOST_SEARCHES = 2**14
ROUNDS = 4  # at least, where there are enough local searches
COMPASS_STARTS = 8
FIRST_STEP, LAST_STEP = 2.0, 1e-6
NO_DERIVATIVE = (TypeError, ValueError, NotImplementedError)  # no derivative: integer results, while loops, callbacks ...


@dataclass(frozen=True)
class Search:
    """Where the search stands: the least margin (uncertainty added) at which a local search ended, and among the draws; what the searches were."""

    best_end: np.ndarray
    best_draw: np.ndarray
    least_end: float = np.inf
    least_draw: float = np.inf
    margins: np.ndarray = field(default_factory=lambda: np.zeros(0))  # one for each local search
    rounds: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    method: str = "L-BFGS"

    def after(self, drawn: np.ndarray, draws: np.ndarray, ends: np.ndarray, margins: np.ndarray, evaluations: int) -> "Search":
        """The search after another round of so many evaluations, with its best draws and its ends."""
        end, draw = int(np.argmin(margins)), int(np.argmin(draws))
        best_end, least_end = _least((self.best_end, self.least_end), (ends[end], float(margins[end])))
        best_draw, least_draw = _least((self.best_draw, self.least_draw), (drawn[draw], float(draws[draw])))
        every = np.concatenate([self.margins, margins])
        return Search(best_end, best_draw, least_end, least_draw, every, self.rounds + 1, self.evaluations + evaluations, self.seconds, self.method)


class Plan(NamedTuple):
    """The rounds of a search: local searches in a round, random instances for each, and evaluations that each may take."""

    searches: int
    draws: int
    steps: int

    @property
    def cost(self) -> int:
        """The most evaluations of a round."""
        return self.searches * (self.draws + self.steps + 1)


@dataclass(frozen=True)
class Checkpoint:
    """A file that a search is kept in, written whole every `every` seconds and when the search is interrupted; another search's file is not read."""

    path: Path
    every: float = 30.0

    def load(self, identity: str) -> Search | None:
        """The search of this identity as it stood, if it is there."""
        try:
            with np.load(io.BytesIO(self.path.read_bytes())) as kept:
                found = {name: kept[name] for name in kept.files}
        except (OSError, ValueError, zipfile.BadZipFile):
            return None
        if str(found.pop("identity")) != identity:
            return None
        return Search(**{name: value if value.ndim else value.item() for name, value in found.items()})

    def save(self, identity: str, search: Search) -> None:
        """Write the search whole."""
        content = io.BytesIO()
        np.savez(content, identity=identity, **asdict(search))
        write_whole(self.path, content.getvalue())


def search(evaluator: Evaluator, budget: int, seed: int, checkpoint: Checkpoint | None = None) -> Search:
    """Search for the least margin with about `budget` evaluations, and no more unless a single sweep exceeds it."""
    done = _streamed(evaluator, budget, seed, checkpoint) if evaluator.compiled else None
    return _compass(evaluator, budget, seed) if done is None else done


def _streamed(evaluator: Evaluator, budget: int, seed: int, checkpoint: Checkpoint | None) -> Search | None:
    """Rounds while the budget lasts; None if most local searches of the first are stuck."""
    rounds = _Rounds(evaluator, seed, _plan(budget, evaluator.claim.domain.size, evaluator.block))
    start = rounds.begin() if checkpoint is None else checkpoint.load(rounds.identity) or rounds.begin()
    done = _kept(rounds.play(start, budget), rounds.identity, checkpoint)
    evaluator.evaluations += rounds.least_cost if done is None else done.evaluations
    return done


def _kept(states: Iterator[Search | None], identity: str, checkpoint: Checkpoint | None) -> Search | None:
    """The last of the states, which the checkpoint keeps now and then and when the search is interrupted."""
    state, saved = None, time.monotonic()
    try:
        for state in states:
            if checkpoint and state and time.monotonic() - saved > checkpoint.every:
                checkpoint.save(identity, state)
                saved = time.monotonic()
    except KeyboardInterrupt:
        if checkpoint and state:
            checkpoint.save(identity, state)
        raise
    return state


def _plan(budget: int, size: int, block: int) -> Plan:
    steps = min(MOST_STEPS, 40 + 6 * size)
    fitting = min(MOST_SEARCHES, max(1, 3 * budget // (4 * steps)))
    searches = fitting if fitting < 2 * ROUNDS else min(block, max(8, 2 ** int(np.log2(fitting / ROUNDS))))
    draws = max(1, max(budget // 4, budget - fitting * (steps + 1)) // fitting)
    return Plan(searches, draws, min(steps, budget - draws - 2))


class _Rounds:
    """The rounds of one search, as two compiled programs."""

    def __init__(self, evaluator: Evaluator, seed: int, plan: Plan):
        self._claim, self._draw, self._seed, self._plan = evaluator.claim, evaluator.draw, np.uint64(seed), plan
        self._screen, self._descend = jax.jit(self._screened), jax.jit(jax.vmap(self._descended))
        self.least_cost = plan.searches * (plan.draws + 1)
        self.identity = json.dumps([self._claim.id, self._claim.statement, str(self._claim.domain), seed, *plan])

    def begin(self) -> Search:
        """The search before its first round."""
        none = np.zeros(self._claim.domain.size)
        return Search(none, none)

    def play(self, state: Search, budget: int) -> Iterator[Search | None]:
        """The search after each round; None, the last, if the first could not descend."""
        start = time.monotonic() - state.seconds
        for percent in progress(range(1, 101), f"falsify {self._claim.id}", 100):
            while state.rounds == 0 or state.evaluations + self._plan.cost <= budget * percent / 100:
                after = self._next(state)
                if after is None:
                    yield None
                    return
                state = replace(after, seconds=time.monotonic() - start)
                yield state
        if state.rounds:
            yield state

    def _next(self, state: Search) -> Search | None:
        u, drawn = self._refused(*self._screen(self._seed, np.uint64(state.rounds * self._plan.searches * self._plan.draws)))
        try:
            ends, margins, taken, stuck = map(np.asarray, self._descend(u))
        except NO_DERIVATIVE:
            return None
        if state.rounds == 0 and np.mean(stuck) > 0.5:
            return None
        return state.after(u, drawn, *self._refused(ends, margins), self.least_cost + int(np.sum(taken)))

    def _margin(self, u: Float[Array, " size"]) -> Float[Array, ""]:
        value, error = self._claim.traced(self._claim.domain.instance(u))
        return value + error

    def _screened(self, seed: UInt[Array, ""], first: UInt[Array, ""]) -> tuple[Float[Array, "searches size"], Float[Array, " searches"]]:
        """The best draw of each group, and its margin; NaN if one was NaN."""
        order = jnp.arange(self._plan.searches, dtype=jnp.uint64)

        def keep_best(kept, i):
            u = jax.vmap(lambda number: self._draw(seed, number))(first + i * self._plan.searches + order)
            margins = jax.vmap(self._margin)(u)
            better = (margins < kept[1]) | jnp.isnan(margins)
            return (jnp.where(better[:, None], u, kept[0]), jnp.where(better, margins, kept[1])), None

        none = jnp.zeros((self._plan.searches, self._claim.domain.size)), jnp.full(self._plan.searches, jnp.inf)
        u, margins = jax.lax.scan(keep_best, none, jnp.arange(self._plan.draws, dtype=jnp.uint64))[0]
        return jnp.asarray(u), jnp.asarray(margins)

    def _descended(self, u: Float[Array, " size"]):
        """Where a local search ends and its margin there, the evaluations it took and whether it is stuck."""
        end, taken, stuck = _lbfgs(self._margin, u, self._plan.steps)
        return end, self._margin(end), taken, stuck

    def _refused(self, u: ArrayLike, margins: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """The same as NumPy arrays, if no margin is NaN."""
        u, margins = np.asarray(u), np.asarray(margins)
        for i in np.flatnonzero(np.isnan(margins))[:1]:
            raise self._claim.mistake("returned NaN", self._claim.domain.instance(jnp.asarray(u[i])))
        return u, margins


def _least(first: tuple[np.ndarray, float], second: tuple[np.ndarray, float]) -> tuple[np.ndarray, float]:
    return second if second[1] < first[1] or not np.any(first[0]) else first


def _lbfgs(margin: Callable, u: jax.Array, steps: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where L-BFGS ends from `u`, the evaluations it took, and whether a gradient that vanishes or is not finite kept it there (one evaluation)."""
    solver = optimistix.LBFGS(rtol=1e-9, atol=1e-12)
    solution = optimistix.minimise(lambda v, _: margin(v), solver, u, max_steps=steps, throw=False)
    gradient = solution.state.f_info.grad
    moved = jnp.all(jnp.isfinite(solution.value)) & jnp.any(solution.value != u)
    stuck = ~moved & (jnp.any(~jnp.isfinite(gradient)) | jnp.all(gradient == 0))
    return jnp.where(moved, solution.value, u), jnp.where(stuck, 1, jnp.asarray(solution.stats["num_steps"])), stuck


def _compass(evaluator: Evaluator, budget: int, seed: int) -> Search:
    """A compass search from the best of each group of a quarter of the budget of draws."""
    start, used = time.monotonic(), evaluator.evaluations
    u = evaluator.draws(budget // 4, seed)
    values, errors = evaluator(evaluator.instances(u))
    drawn = values + errors
    starts, margins = _best_of_groups(u, drawn, COMPASS_STARTS), np.full(min(COMPASS_STARTS, len(u)), np.inf)
    steps = np.full(len(starts), FIRST_STEP)
    sweeps = range(max(1, (budget - (evaluator.evaluations - used)) // (2 * starts.size)))
    for _ in progress(sweeps, f"falsify {evaluator.claim.id}", len(sweeps)):
        starts, margins, steps = _sweep(evaluator, starts, margins, steps)
        if np.all(steps < LAST_STEP):
            break
    best, drawn_best = int(np.argmin(margins)), int(np.argmin(drawn))
    return Search(
        best_end=starts[best],
        best_draw=u[drawn_best],
        least_end=float(margins[best]),
        least_draw=float(drawn[drawn_best]),
        margins=margins,
        evaluations=evaluator.evaluations,
        seconds=time.monotonic() - start,
        method="compass search (the margin has no usable gradient)",
    )


def _best_of_groups(u: np.ndarray, margins: np.ndarray, groups: int) -> np.ndarray:
    """The best draw of each of `groups` groups."""
    deals = [np.arange(len(u))[group::groups] for group in range(min(groups, len(u)))]
    return u[[deal[np.argmin(margins[deal])] for deal in deals]]


def _sweep(evaluator: Evaluator, u: np.ndarray, margins: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of each search along its best axis, or half the step where none is better."""
    axes = np.concatenate([np.eye(u.shape[1]), -np.eye(u.shape[1])])
    trials = u[:, None, :] + steps[:, None, None] * axes[None, :, :]
    values, errors = evaluator(evaluator.instances(trials.reshape(-1, u.shape[1])))
    found = (values + errors).reshape(len(u), -1)
    best, rows = np.argmin(found, axis=1), np.arange(len(u))
    better = found[rows, best] < margins
    return np.where(better[:, None], trials[rows, best], u), np.where(better, found[rows, best], margins), np.where(better, steps, steps / 2)
