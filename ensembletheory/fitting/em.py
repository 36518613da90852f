r"""The iteration shared by every EM: climb an objective by steps that never lower it, stop when a step gains next to nothing.

With complete-data log-density log p(x, h; theta) and hidden part h, E-step and M-step together are the map

    theta -> argmax_t  sum_i w_i E[ log p(x_i, h_i; t) | x_i; theta ] + penalty(t),

and the penalised observed-data log-likelihood  l(theta) = sum_i w_i log p(x_i; theta) + penalty(theta)  never decreases along it, because l(t) - l(theta) is at least
the difference of the maximised expression at t and theta (Jensen's inequality; Dempster, Laird & Rubin 1977, theorem 1). The step gives l at the parameters it
starts from at no further cost, so one step is one pass over the rows.

The climb ends at the first step with  l_t - l_{t-1} <= tolerance (1 + |l_t|), l in nats per unit of weight. The rule is relative, and the default tolerance is the
root of the machine epsilon of the working precision: it triggers in 32 bits as in 64. A decrease (rounding) ends it too; NaN ends it without convergence.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ensembletheory.errors import refuse

__all__ = ["Climb", "NotConverged", "climb", "default_tolerance", "report"]

Step = Callable[[Any], tuple[Float[Array, ""], Any]]  # parameters -> (objective at them, next parameters)


class NotConverged(UserWarning):
    """An iterative fit stopped at its largest number of iterations."""


class Climb(eqx.Module):
    """Where a climb stands: its parameters, the objective one step before them (a lower bound of theirs), and how it ended."""

    parameters: Any
    objective: Float[Array, "..."]
    iterations: Int[Array, "..."]
    converged: Bool[Array, "..."]


def climb(step: Step, start: Any, tolerance: Float[Array, ""], max_iterations: Int[Array, ""]) -> Climb:
    """Repeat `step` from `start` until a step gains at most `tolerance` (1 + |objective|), at most `max_iterations` times; jit, vmap."""

    def unfinished(state: Climb):
        return (state.iterations < max_iterations) & ~state.converged & ~jnp.isnan(state.objective)

    def advance(state: Climb):
        objective, parameters = step(state.parameters)
        converged = objective - state.objective <= tolerance * (1 + jnp.abs(objective))
        return Climb(parameters, objective, state.iterations + 1, converged)

    below_all = jnp.asarray(-jnp.inf, dtype=tolerance.dtype)
    return jax.lax.while_loop(unfinished, advance, Climb(start, below_all, jnp.asarray(0), jnp.asarray(False)))


def default_tolerance() -> float:
    """The square root of the machine epsilon of JAX's current floating type."""
    return math.sqrt(np.finfo(jnp.result_type(float)).eps)


def report(ends: Climb, what: str, remedy: str) -> None:
    """Warn of climbs that did not converge, refuse those whose objective is not finite.

    Raises:
        ValueError: if an objective is NaN or infinite, as when a covariance became singular.
    """
    if not np.all(np.isfinite(ends.objective)):
        refuse("X", f"a log-likelihood that is not finite for {what}", "rows whose likelihood is bounded", remedy)
    running = int(np.sum(~np.asarray(ends.converged)))
    if running:
        steps = int(np.max(ends.iterations))
        message = f"{what}: {running} of {np.size(ends.converged)} fits still climbed after {steps} iterations; raise `max_iterations` or `tolerance`"
        warnings.warn(message, NotConverged, stacklevel=3)
