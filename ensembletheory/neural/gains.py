r"""The gain of averaged scores, measured: one code path for exact scores and for networks.

Fields s_1 ... s_K are run through the same sampler of the probability flow, each alone and averaged, s_bar = sum_k w_k s_k. The sampler is a composition of invertible
steps, so the log-densities log q_k and log q_bar of its draws are exact (up to rounding) for the grid at hand, and with x ~ p drawn once and shared,

    gain = sum_k w_k KL(p || q_k) - KL(p || q_bar) = E_p [ log q_bar(x) - sum_k w_k log q_k(x) ]

is the mean of one number a draw: its standard error is that of the paired difference. With the exact scores of laws p_k the q_k are the p_k but for the discretisation and
the finite horizon, which the networks trained on the p_k suffer too: what differs between the two gains is what training leaves to be learned.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers
from ensembletheory.estimate import monte_carlo
from ensembletheory.fields import Field, MeanField
from ensembletheory.gains import Gain
from ensembletheory.laws import Law
from ensembletheory.laws.weights import checked_weights
from ensembletheory.neural.stacks import count
from ensembletheory.precision import require_x64
from ensembletheory.processes import GaussianPath, convert
from ensembletheory.samplers import Heun, Sampler

__all__ = ["flow_log_prob", "sampled_gain", "stacked_flow_log_prob"]


def sampled_gain(key: PRNGKeyArray, target: Law, fields: Any, process: GaussianPath, grid: Numbers, samples: int, weights: Numbers | None = None) -> Gain:
    """The gain in KL from `target` of averaging a stack of K fields, by Monte Carlo; no decomposition is known for fields that are not exact.

    Args:
        key: of the draws from the target.
        target: the law p.
        fields: a stack of scores, velocities or any other field of the path, exact ones or networks.
        process: the path whose probability flow is run, by Heun's method.
        grid: decreasing times, to the data; a score network's must end above 0.
        samples: number of draws from the target.
        weights: (K,) on the simplex; default equal.

    Raises:
        RuntimeError: in 32-bit mode.
        ValueError: if grid or weights are not as asked.
    """
    require_x64("sampled_gain")
    weights, x = checked_weights(weights, count(fields)), target.sample(key, samples)
    averaged = MeanField(fields, weights)
    grid = Sampler(process, convert(process, averaged, "velocity", given="score"), Heun(), grid).grid  # looks at the times, which compiled code cannot
    surprise, mean = target.log_prob(x), flow_log_prob(averaged, process, grid, x)
    members = stacked_flow_log_prob(fields, process, grid, x)
    best = monte_carlo(surprise - members[jnp.argmax(jnp.mean(members, axis=1))])
    return Gain(monte_carlo(surprise - weights @ members), best, monte_carlo(surprise - mean), monte_carlo(mean - weights @ members), None)


@eqx.filter_jit
def flow_log_prob(field: Field, process: GaussianPath, grid: Float[Array, " times"], x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The log-density, at the points x, of the draws that the probability flow of one field (a score, unless it says otherwise) makes from N(0, I) along the grid."""
    return Sampler(process, _velocity(process, field), Heun(), grid).log_prob(x)


@eqx.filter_jit
def stacked_flow_log_prob(fields: Any, process: GaussianPath, grid: Float[Array, " times"], x: Float[Array, "n d"]) -> Float[Array, "K n"]:
    """`flow_log_prob` of every member of a stack of fields."""
    return eqx.filter_vmap(lambda field: Sampler(process, _velocity(process, field), Heun(), grid).log_prob(x))(fields)


def _velocity(process: GaussianPath, field: Field) -> Field:
    return convert(process, field, "velocity", given=field.kind or "score")
