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

__all__ = ["AveragedFlow", "averaged_flow"]

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


@eqx.filter_jit
def _followed(process: Process, laws: tuple[Law, ...], weights: Float[Array, " K"], rows: Float[Array, "n d"], steps: int) -> AveragedFlow:
    times = process.horizon * jnp.linspace(0.0, 1.0, steps + 1)
    grids = jnp.stack([times, jnp.concatenate([times[::2], jnp.full(steps // 2, process.horizon)])])
    rate, start = jax.jit(_rates(process, laws, weights)), standard_normal(rows.shape[1])  # traced once for the four stages
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
        return weights @ v, jnp.trace(jacobian), -weights @ jnp.sum((v - (weights @ v)[None]) * s, axis=1)

    return rate


def _runge_kutta(rate: Callable[[Float[Array, ""], State], State], start: State, grid: Float[Array, " n"]) -> tuple[State, Float[Array, " n-1"]]:
    """The state at the last time, and the last rate at the beginning of each step."""

    def step(state: State, ends: tuple[Float[Array, ""], Float[Array, ""]]) -> tuple[State, Float[Array, ""]]:
        t, h = ends[0], ends[1] - ends[0]
        first = rate(t, state)
        second = rate(t + h / 2, _moved(state, h / 2, first))
        third = rate(t + h / 2, _moved(state, h / 2, second))
        fourth = rate(t + h, _moved(state, h, third))
        return jax.tree.map(lambda y, a, b, c, d: y + h / 6 * (a + 2 * b + 2 * c + d), state, first, second, third, fourth), first[2]

    return jax.lax.scan(step, start, (grid[:-1], grid[1:]))


def _moved(state: State, h: Float[Array, ""], rates: State) -> State:
    return jax.tree.map(lambda y, rate: y + h * rate, state, rates)
