r"""How many evaluations of a field a sampler needs for a given divergence from the data, KL(data || law of the draws), each law exact.

The number asked for is the least N such that the divergence is at most the tolerance after N steps **and after every larger number**: the error of a sampler may pass through
zero as N grows, where one N is lucky and the next is not. All numbers of steps up to `most` are looked at, none is left out, in one compiled program.

**Evaluations a step** are counted by running the step: calls of the field. For kicks and drifts they are gradients of the potential; the last kick of a step and the first
of the next share one, and the last of all moves momenta alone, so that N steps of leapfrog cost N.

**Several modes.** The samplers here move eigenvectors of the data's covariance independently of each other, and the divergence is the sum over modes; `divergences` takes
deviations of modes on the line.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.divergences import kl
from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.fields import Field
from ensembletheory.integration_cost.methods import Method, ScalarMass
from ensembletheory.laws import Gaussian, standard_normal
from ensembletheory.samplers.splitting import KickDrift

__all__ = ["divergences", "evaluations_a_step", "evaluations_needed", "joint_divergences", "steps_needed"]

_STANDARD = standard_normal(1)


def divergences(method: Method, deviations: Numbers, steps: int) -> Float[Array, "modes steps"]:
    """KL(N(0, s^2) || law of the draws) after 1, 2, ..., `steps` steps, for each deviation s.

    Raises:
        ValueError: if a deviation is not positive, there is no step, or there are several deviations of a model whose modes share a horizon.
    """
    s = jnp.atleast_1d(as_floats("deviations", deviations))
    if s.ndim != 1 or not np.all(np.asarray(s) > 0):
        refuse("deviations", f"{np.asarray(s).tolist()}", "positive numbers", "Take square roots of the eigenvalues of the covariance.")
    if s.size > 1 and isinstance(method.model, ScalarMass):
        refuse("deviations", f"{s.size} modes of one horizon", "one deviation", "Use joint_divergences, with the covariance of all.")
    if steps < 1:
        refuse("steps", str(steps), "at least 1", "The sampler takes steps from the prior to the data.")
    return _divergences(method, s, steps)


def joint_divergences(method: Method, data: Gaussian, steps: int) -> Float[Array, " steps"]:
    """KL(data || law of the draws) after 1, 2, ..., `steps` steps, in any dimension, for methods whose modes share something, such as a horizon.

    Raises:
        ValueError: if there is no step.
    """
    if steps < 1:
        refuse("steps", str(steps), "at least 1", "The sampler takes steps from the prior to the data.")
    return _joint_divergences(method, data, steps)


def steps_needed(values: Numbers, tolerance: float) -> float:
    """The least N with values[N - 1] and all later values at most `tolerance`, where values[n - 1] belongs to n steps; infinite if the last is above it."""
    above = np.flatnonzero(~(np.asarray(values) <= tolerance))  # NaN counts as above
    least = int(above[-1]) + 2 if above.size else 1
    return float(least) if least <= np.size(values) else np.inf


def evaluations_needed(method: Method, deviations: Numbers, tolerance: float, steps: int) -> float:
    """The evaluations of the field from which on the divergence, summed over modes, stays at most `tolerance`; infinite if that is not so after `steps` steps."""
    values = np.sum(np.asarray(divergences(method, deviations, steps)), axis=0)
    return evaluations_a_step(method) * steps_needed(values, tolerance)


def evaluations_a_step(method: Method) -> int:
    """How often a step evaluates the field."""
    if isinstance(method.scheme, KickDrift):
        return method.scheme.evaluations
    calls: list[None] = []

    def step(start: Float[Array, " n"]) -> Float[Array, " n"]:
        sampler, scheme = method.sampler(_STANDARD, 1), method.scheme
        first, last = sampler.grid
        return scheme.step(sampler.process, _Counted(sampler.field, calls), first, last, start, jnp.zeros((scheme.draws, start.size)))

    eqx.filter_eval_shape(step, method.model.prior(_STANDARD).mean)
    return len(calls)


class _Counted(Field):
    field: Field
    calls: list[None] = eqx.field(static=True)

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        self.calls.append(None)
        return self.field(t, x)


@eqx.filter_jit
def _joint_divergences(method: Method, data: Gaussian, most: int) -> Float[Array, " steps"]:
    return jax.vmap(lambda steps: kl(data, method.law(data, steps, most)).value)(jnp.arange(1, most + 1))


@eqx.filter_jit
def _divergences(method: Method, deviations: Float[Array, " modes"], most: int) -> Float[Array, "modes steps"]:
    return jax.lax.map(lambda deviation: _joint_divergences(method, Gaussian(jnp.zeros(1), deviation[None] ** 2), most), deviations)
