r"""The gain of averaged scores, measured: one code path for exact scores and for networks.

Fields s_1 ... s_K are run through the same sampler of the probability flow, begun from N(0, s_T^2 I) at the horizon T, each alone and made into one by a rule, by default
averaged, s_bar = sum_k w_k s_k. The sampler is a composition of invertible steps, so the log-densities log q_k and log q_bar of its draws are exact (up to rounding) for the
grid at hand, and with x ~ p drawn once and shared,

    gain = sum_k w_k KL(p || q_k) - KL(p || q_bar) = E_p [ log q_bar(x) - sum_k w_k log q_k(x) ]

is the mean of one number a draw: its standard error is that of the paired difference. With the exact scores of laws p_k the q_k are the p_k but for the discretisation and
the finite horizon, which the networks trained on the p_k suffer too: what differs between the two gains is what training leaves to be learned.
"""

from collections.abc import Callable
from math import isclose
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import Isotropic
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.estimate import monte_carlo
from ensembletheory.fields import Field, MeanField, require_origin, require_vectors
from ensembletheory.gains import Gain
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.weights import checked_weights
from ensembletheory.neural.stacks import count
from ensembletheory.precision import require_x64
from ensembletheory.processes import GaussianPath, convert
from ensembletheory.samplers import Heun, Sampler

__all__ = ["flow_log_prob", "sampled_gain", "stacked_flow_log_prob"]


def sampled_gain(
    key: PRNGKeyArray,
    target: Law,
    fields: Any,
    process: GaussianPath,
    grid: Numbers,
    samples: int,
    weights: Numbers | None = None,
    rule: Callable[[Any], Field] | None = None,
) -> Gain:
    """The gain in KL from `target` of making one of a stack of K fields, by Monte Carlo; no decomposition is known for fields that are not exact.

    The best member is chosen on the draws that measure it: its divergence is a little too low, by about the standard errors of differences between members.

    Args:
        key: of the draws from the target.
        target: the law p.
        fields: a stack of scores, velocities or any other field of the path, exact ones or networks.
        process: the path whose probability flow is run, by Heun's method.
        grid: decreasing times from the horizon to the data; a score network's must end above 0.
        samples: number of draws from the target, at least 2.
        weights: (K,) on the simplex, of the members' average; default equal.
        rule: makes one field of the stack, such as `MedianField`, or `WeightedSum` with coefficients by `functools.partial`; default the average with the weights.

    Raises:
        RuntimeError: in 32-bit mode.
        ValueError: if grid, weights or samples are not as asked, or the fields are known to be of several processes, or of another process or dimension.
    """
    require_x64("sampled_gain")
    weights, averaged = checked_weights(weights, count(fields)), MeanField(fields, weights)
    require_origin("fields", averaged, process)
    require_vectors("fields", averaged, target.dim)
    x = target.sample(key, samples)
    grid = Sampler(process, _velocity(process, averaged), Heun(), grid).grid  # looks at the times, which compiled code cannot
    surprise, mean = target.log_prob(x), flow_log_prob(averaged if rule is None else rule(fields), process, grid, x)
    members = stacked_flow_log_prob(fields, process, grid, x)
    best = monte_carlo(surprise - members[jnp.argmax(jnp.mean(members, axis=1))])
    return Gain(monte_carlo(surprise - weights @ members), best, monte_carlo(surprise - mean), monte_carlo(mean - weights @ members), None)


def flow_log_prob(field: Field, process: GaussianPath, grid: Float[Array, " times"], x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The log-density, at the points x, of the draws that the probability flow of one field (a score, unless it says otherwise) makes from N(0, s_T^2 I) along the grid.

    Raises:
        ValueError: if the grid does not begin at the horizon T, or the field is known to be of another process.
    """
    require_origin("field", field, process)
    _require_horizon(process, grid)
    return _flow_log_prob(field, process, grid, x)


def stacked_flow_log_prob(fields: Any, process: GaussianPath, grid: Float[Array, " times"], x: Float[Array, "n d"]) -> Float[Array, "K n"]:
    """`flow_log_prob` of every member of a stack of fields.

    Raises:
        ValueError: as `flow_log_prob`; if the fields are no stack, or known to be of several processes.
    """
    require_origin("fields", MeanField(fields), process)
    _require_horizon(process, grid)
    return _stacked_flow_log_prob(fields, process, grid, x)


def _require_horizon(process: GaussianPath, grid: Float[Array, " times"]) -> None:
    if is_concrete(grid, process.horizon) and not isclose(float(grid[0]), float(process.horizon), rel_tol=1e-9):
        got, expected = f"times from {float(grid[0]):.6g}", f"times from the horizon, {float(process.horizon):.6g}"
        refuse("grid", got, expected, "Draws begin there, from the noise alone.")


@eqx.filter_jit
def _flow_log_prob(field: Field, process: GaussianPath, grid: Float[Array, " times"], x: Float[Array, "n d"]) -> Float[Array, " n"]:
    noise = Gaussian(jnp.zeros(x.shape[1], x.dtype), Isotropic(process.noise_variance(process.horizon), x.shape[1]))
    return Sampler(process, _velocity(process, field), Heun(), grid).log_prob(x, noise)


@eqx.filter_jit
def _stacked_flow_log_prob(fields: Any, process: GaussianPath, grid: Float[Array, " times"], x: Float[Array, "n d"]) -> Float[Array, "K n"]:
    return eqx.filter_vmap(lambda field: _flow_log_prob(field, process, grid, x))(fields)


def _velocity(process: GaussianPath, field: Field) -> Field:
    return convert(process, field, "velocity", given=field.kind or "score")
