r"""Where is a margin least? Local searches from many starts in the chart of the domain, where no constraint is left.

A quarter of the budget is spent on random instances; they are dealt into as many groups as there will be local searches, and the best of each group starts one.
The local search is L-BFGS (optimistix; a block of searches in one compiled call). Where it cannot move, because the margin cannot be traced or its gradient vanishes
or is not finite, it is a compass search: a step along every axis, halved where none helps. One evaluation is one value, with its gradient where L-BFGS needs it.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optimistix

from ensembletheory.claims.evaluation import Evaluator
from ensembletheory.progress import progress

__all__ = ["Search", "search"]

STEPS = 160  # evaluations of one local search: 18 coordinates converge in about 120
TOGETHER = 8  # local searches in one compiled call
COMPASS_STARTS = 8
FIRST_STEP, LAST_STEP = 2.0, 1e-6


@dataclass(frozen=True)
class Search:
    """Where the local searches ended, coordinates (searches, size), the best random draw (1, size), and what the searches were."""

    ends: np.ndarray
    best_draw: np.ndarray
    method: str


def search(evaluator: Evaluator, budget: int, seed: int) -> Search:
    """Search for the least margin with about `budget` evaluations, and no more unless a single sweep exceeds it."""
    u = evaluator.draws(budget // 4, seed)
    values, errors = evaluator(evaluator.instances(u))
    best_draw, remaining = u[[np.argmin(values + errors)]], budget - len(u)
    if evaluator.compiled:
        starts = _best_of_groups(u, values + errors, _searches(remaining))
        ends = _descend(evaluator, starts, min(STEPS, remaining))
        if ends is not None:
            return Search(ends, best_draw, "L-BFGS")
    starts = _best_of_groups(u, values + errors, COMPASS_STARTS)
    ends = _compass(evaluator, starts, budget - evaluator.evaluations)
    return Search(ends, best_draw, "compass search (the margin has no usable gradient)")


def _searches(evaluations: int) -> int:
    """How many local searches fit, in whole blocks if there are several."""
    fitting = max(1, evaluations // STEPS)
    return fitting if fitting < TOGETHER else fitting // TOGETHER * TOGETHER


def _best_of_groups(u: np.ndarray, margins: np.ndarray, groups: int) -> np.ndarray:
    """The best draw of each of `groups` groups."""
    deals = [np.arange(len(u))[group::groups] for group in range(min(groups, len(u)))]
    return u[[deal[np.argmin(margins[deal])] for deal in deals]]


def _descend(evaluator: Evaluator, starts: np.ndarray, steps: int) -> np.ndarray | None:
    """Where L-BFGS ends from `starts`; None if most of the first block is stuck."""
    run, ends = jax.jit(jax.vmap(lambda u: _lbfgs(evaluator, u, steps))), []
    blocks = np.split(starts, max(1, len(starts) // TOGETHER))
    for block in progress(blocks, f"falsify {evaluator.claim.id}", len(blocks)):
        try:
            end, taken, stuck = (np.asarray(result) for result in run(jnp.asarray(block)))
        except (TypeError, ValueError, NotImplementedError):  # no derivative: integer results, while loops, callbacks ...
            return None
        evaluator.evaluations += int(np.sum(taken))
        ends.append(end)
        if np.mean(stuck) > 0.5:
            return None
    return np.concatenate(ends)


def _lbfgs(evaluator: Evaluator, u: jax.Array, steps: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Where L-BFGS ends from `u`, the evaluations it took, and whether a gradient that vanishes or is not finite kept it there (one evaluation)."""
    solver = optimistix.LBFGS(rtol=1e-9, atol=1e-12)
    solution = optimistix.minimise(lambda v, _: evaluator.claim.traced(evaluator.claim.domain.instance(v))[0], solver, u, max_steps=steps, throw=False)
    gradient = solution.state.f_info.grad
    moved = jnp.all(jnp.isfinite(solution.value)) & jnp.any(solution.value != u)
    stuck = ~moved & (jnp.any(~jnp.isfinite(gradient)) | jnp.all(gradient == 0))
    return jnp.where(moved, solution.value, u), jnp.where(stuck, 1, jnp.asarray(solution.stats["num_steps"])), stuck


def _compass(evaluator: Evaluator, starts: np.ndarray, budget: int) -> np.ndarray:
    margins, steps = np.full(len(starts), np.inf), np.full(len(starts), FIRST_STEP)
    sweeps = range(max(1, budget // (2 * starts.size)))
    for _ in progress(sweeps, f"falsify {evaluator.claim.id}", len(sweeps)):
        starts, margins, steps = _sweep(evaluator, starts, margins, steps)
        if np.all(steps < LAST_STEP):
            break
    return starts


def _sweep(evaluator: Evaluator, u: np.ndarray, margins: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of each search along its best axis, or half the step where none is better."""
    axes = np.concatenate([np.eye(u.shape[1]), -np.eye(u.shape[1])])
    trials = u[:, None, :] + steps[:, None, None] * axes[None, :, :]
    values, errors = evaluator(evaluator.instances(trials.reshape(-1, u.shape[1])))
    found = (values + errors).reshape(len(u), -1)
    best, rows = np.argmin(found, axis=1), np.arange(len(u))
    better = found[rows, best] < margins
    return np.where(better[:, None], trials[rows, best], u), np.where(better, found[rows, best], margins), np.where(better, steps, steps / 2)
