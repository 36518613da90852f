r"""The flow of averaged velocities, followed through given points: its density by change of variables, and what it owes to the diversity of the scores.

Member k has the law q_k at time 0, q_{k,t} at time t, the score s_k = grad log q_{k,t} and the exact velocity v_k, so that d/dt log q_{k,t} = -div v_k - v_k . s_k. Along
dx/dt = v = sum_k w_k v_k, begun from N(0, I) at the horizon T, the density changes by d/dt log p_t(x_t) = -div v. Hence

    d/dt [ log p_t - sum_k w_k log q_{k,t} ](x_t) = sum_k w_k (v_k - v) . s_k,

and since v_k = F x - 1/2 G G^T s_k, the right side is -1/2 sum_k w_k |G^T (s_k - s)|^2, s = sum_k w_k s_k: the score diversity, taken away as noise is added. Integrated,

    log p_0(x) = sum_k w_k log q_k(x) + int_0^T 1/2 sum_k w_k |G^T (s_k - s)|^2 dt + e_T(x_T),      e_T = log N(0, I) - sum_k w_k log q_{k,T}.

For an interpolant, whose members all end at N(0, I), e_T = 0, and p_0 is above the geometric mean of the members everywhere. In sum_k w_k (v_k - v) . s_k nothing is
divided by a_t or s_t, so it holds at both ends of time. Derived here (see the documentation).

Paths are followed by the classical Runge-Kutta method; the reported error is the distance from the run with steps of twice the length, 15 times the error that the order
of the method lets expect.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Law, standard_normal
from ensembletheory.laws.law import checked_point
from ensembletheory.pooling.members import Member, checked_laws
from ensembletheory.processes import Process

__all__ = ["AveragedFlow", "averaged_flow", "diversity_rate"]

_TABLEAU = ([0.0, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 0.0], [1 / 6, 1 / 3, 1 / 3, 1 / 6])  # where a stage is taken, how far it is followed, and its share in the step

State = tuple[Float[Array, " d"], Float[Array, ""], Float[Array, ""]]  # a point, the integral of the divergence, the integrated diversity


class AveragedFlow(eqx.Module):
    """What is known of the averaged flow through points x (..., d)."""

    ends: Float[Array, "... d"]  # of the paths, at the horizon
    log_prob: Estimate  # log p_0(x)
    log_geometric_mean: Float[Array, "..."]  # sum_k w_k log q_k(x)
    diversity: Estimate  # the integral of 1/2 sum_k w_k |G^T (s_k - s)|^2
    mismatch: Float[Array, "..."]  # e_T(x_T)
    rates: Float[Array, "... steps"]  # the integrand of the diversity at the beginning of each step


def averaged_flow(process: Process, members: Sequence[Member], x: Numbers, weights: Numbers | None = None, steps: int = 256) -> AveragedFlow:
    """Follow the flow of the members' averaged velocities from x at time 0 to the horizon, where it begins from N(0, I).

    Args:
        process: the path on which the members are noised; for an interpolant the law is the one of averaged scores in the probability flow, in the limit of infinite time.
        members: laws with exact fields.
        x: points (..., d).
        weights: on the simplex; default equal.
        steps: how many, of equal length in time.

    Raises:
        ValueError: if there is no member, dimensions differ, the weights are off the simplex, or the number of steps is odd or less than 2.
        TypeError: if the fields of a member are not exact.
    """
    laws, weights = checked_laws(members, weights)
    points = checked_point("x", as_floats("x", x), laws[0].dim)
    if steps < 2 or steps % 2:
        refuse("steps", str(steps), "an even number, at least 2", "Half as many are taken to know the error.")
    followed = _followed(process, tuple(laws), weights, points.reshape(-1, points.shape[-1]), steps)
    return jax.tree.map(lambda leaf: leaf.reshape(*points.shape[:-1], *leaf.shape[1:]), followed)


def diversity_rate(process: Process, members: Sequence[Member], t: Numbers, x: Numbers, weights: Numbers | None = None) -> Float[Array, "..."]:
    """The score diversity 1/2 sum_k w_k |G_t^T (s_k - s)|^2 at time t and points x (..., d).

    Raises:
        ValueError: if there is no member, dimensions differ, the weights are off the simplex, or t is not within [0, horizon].
        TypeError: if the fields of a member are not exact.
    """
    laws, weights = checked_laws(members, weights)
    points = checked_point("x", as_floats("x", x), laws[0].dim)
    rates = _diversities(process, tuple(laws), weights, process.checked_time("t", t), points.reshape(-1, points.shape[-1]))
    return rates.reshape(points.shape[:-1])


@eqx.filter_jit
def _diversities(process: Process, laws: tuple[Law, ...], weights: Float[Array, " K"], t: Float[Array, ""], rows: Float[Array, "n d"]) -> Float[Array, " n"]:
    v, s = (jnp.stack([field(law).batch(t, rows) for law in laws], axis=1) for field in (process.velocity, process.score))
    return jax.vmap(lambda v, s: _diversity(weights, v, s))(v, s)


def _diversity(weights: Float[Array, " K"], v: Float[Array, "K d"], s: Float[Array, "K d"]) -> Float[Array, ""]:
    return -weights @ jnp.sum((v - (weights @ v)[None]) * s, axis=1)


@eqx.filter_jit
def _followed(process: Process, laws: tuple[Law, ...], weights: Float[Array, " K"], rows: Float[Array, "n d"], steps: int) -> AveragedFlow:
    times = process.horizon * jnp.linspace(0.0, 1.0, steps + 1)
    grids = jnp.stack([times, jnp.concatenate([times[::2], jnp.full(steps // 2, process.horizon)])])
    rate, start = _rates(process, laws, weights), standard_normal(rows.shape[1])
    noised = [process.marginal(law, process.horizon) for law in laws]

    def at(x: Float[Array, " d"]) -> AveragedFlow:
        (ends, logs, diversities), rates = jax.vmap(lambda grid: _runge_kutta(rate, (x, jnp.zeros(()), jnp.zeros(())), grid))(grids)
        densities = jax.vmap(start._log_prob)(ends) + logs
        mismatch = start._log_prob(ends[0]) - _average(weights, noised, ends[0])
        return AveragedFlow(ends[0], _fine(densities), _average(weights, laws, x), _fine(diversities), mismatch, rates[0])

    return jax.vmap(at)(rows)


def _fine(both: Float[Array, " 2"]) -> Estimate:
    return Estimate(both[0], jnp.abs(both[0] - both[1]), "quadrature")


def _average(weights: Float[Array, " K"], laws: Sequence[Law], x: Float[Array, " d"]) -> Float[Array, ""]:
    return weights @ jnp.stack([law._log_prob(x) for law in laws])


def _rates(process: Process, laws: Sequence[Law], weights: Float[Array, " K"]) -> Callable[[Float[Array, ""], State], State]:
    """The averaged velocity, its divergence, and -sum_k w_k (v_k - v) . s_k."""
    velocities, scores = [process.velocity(law) for law in laws], [process.score(law) for law in laws]

    def rate(t: Float[Array, ""], state: State) -> State:
        x, _, _ = state

        def averaged(x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, "K d"]]:
            v = jnp.stack([velocity(t, x) for velocity in velocities])
            return weights @ v, v

        jacobian, v = jax.jacfwd(averaged, has_aux=True)(x)
        s = jnp.stack([score(t, x) for score in scores])
        return weights @ v, jnp.trace(jacobian), _diversity(weights, v, s)

    return rate


def _runge_kutta(rate: Callable[[Float[Array, ""], State], State], start: State, grid: Float[Array, " n"]) -> tuple[State, Float[Array, " n-1"]]:
    """The state at the last time, and the last rate at the beginning of each step. All stages of all steps are one loop, so that the rate is compiled once."""
    begin, length = (jnp.repeat(part, 4) for part in (grid[:-1], jnp.diff(grid)))
    at, to, share = (jnp.tile(jnp.asarray(part), grid.size - 1) for part in _TABLEAU)

    def stage(carry: tuple[State, State, State], inputs: tuple[Array, ...]):
        (first, here, reached), (t, h, at, to, share) = carry, inputs
        slopes = rate(t + at * h, here)
        reached, onward = _moved(reached, share * h, slopes), _moved(first, to * h, slopes)
        done = at == 1
        first, here = (jax.tree.map(lambda new, old: jnp.where(done, new, old), reached, old) for old in (first, onward))
        return (first, here, reached), slopes[2]

    (_, last, _), rates = jax.lax.scan(stage, (start, start, start), (begin, length, at, to, share))
    return last, rates[::4]


def _moved(state: State, h: Float[Array, ""], rates: State) -> State:
    return jax.tree.map(lambda y, rate: y + h * rate, state, rates)
