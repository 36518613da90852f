r"""The zig-zag process on the line from any start, by characteristics: densities p_t(x, +) and p_t(x, -) on a grid of points and times.

    d_t p_+- = -+ c d_x p_+- + l_-+ p_-+ - l_+- p_+-,     l_+-(x) the rates at which velocities +c and -c turn round.

In a time step of one cell over c the transport moves every value by exactly one cell, and the exchange at a point is a two-state Markov chain with the exact solution
p_+ <- p_+ - (l_+ p_+ - l_- p_-) (1 - e^{-(l_+ + l_-) h}) / (l_+ + l_-). Strang's splitting (half an exchange, transport, half an exchange) is of second order in the step,
and both parts keep the mass: it is conserved to rounding, with particles turned round at the ends of the grid, where nothing is. Constant rates give the telegraph process,
whose densities are known (`ensembletheory.laws.KacMixture`).

In d dimensions the zig-zag process of a target with independent coordinates moves coordinates independently, so that a mixture with independent coordinates given the
component stays one: p_t(x, v) = sum_k w_k prod_j p_{k,j,t}(x_j, v_j), each factor a solution on the line (`ZigZagTables`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.laws.kac_mixture import along_axes, ratios_of_parts
from ensembletheory.laws.weights import log_weighted_sum
from ensembletheory.processes.pdmp.zigzag import ZigZag

__all__ = ["ZigZagTables", "transported"]

_DEVIATIONS = 8.0  # that have to lie within the grid
_LEAST_CELLS = 2.0  # in a standard deviation of the start
_FLOOR = 1e-290


class ZigZagTables(eqx.Module):
    """p_t(x, v) of the zig-zag process begun from a mixture with independent coordinates, at given times.

    Args:
        process: with a target of diagonal covariance.
        law: the data, a Gaussian or mixture with diagonal covariances.
        times: at which the densities are kept; each is rounded to a multiple of the time of one cell.
        half_width: the grid reaches this far on both sides of 0, in every coordinate.
        points: of the grid, an odd number.

    Raises:
        ValueError: if the process or the law has correlated coordinates, they differ in dimension, the cells are too wide for the law, the grid too
            narrow for it or the target, or a time is not within [0, horizon].
    """

    weights: Float[Array, " K"]
    which: Int[Array, "K d"]  # the table of each coordinate of each component
    grid: Float[Array, " n"]
    times: Float[Array, " m"]
    log_densities: Float[Array, "m tables 2 n"]

    def __init__(self, process: ZigZag, law: Gaussian | GaussianMixture, times: Numbers, half_width: float = 8.0, points: int = 3201):
        covariance = np.asarray(process.target.cov)
        if np.any(covariance != np.diag(np.diag(covariance))):
            refuse("process", "a target with correlated coordinates", "independent coordinates", "Other coordinates then turn a velocity too: only simulation is left.")
        if law.dim != process.dim:
            refuse("law", f"dimension {law.dim}", f"dimension {process.dim}, that of the process", "Give the process and the law the same space.")
        self.weights, means, deviations = along_axes(law)
        self.grid = jnp.asarray(np.linspace(-half_width, half_width, points))
        cell, narrowest = 2 * half_width / (points - 1), float(np.min(np.asarray(deviations)))
        if narrowest < _LEAST_CELLS * cell:
            got, need = f"cells of {cell:.3g} for a standard deviation of {narrowest:.3g}", int(2 * half_width * _LEAST_CELLS / narrowest) + 2
            refuse("points", got, f"at least {_LEAST_CELLS:g} cells a standard deviation", f"Take {need} points or more.")
        for name, centre, deviation in (("law", means, deviations), ("process", process.target.mean, np.sqrt(np.diag(covariance)))):
            furthest = float(np.max(np.abs(np.asarray(centre)) + _DEVIATIONS * np.asarray(deviation)))
            if furthest > half_width:
                refuse("half_width", f"{half_width:.6g}, where the {name} reaches {furthest:.6g}", f"at least {furthest:.6g}", "What leaves the grid is lost.")
        asked = as_floats("times", times)
        for end in (np.min(np.asarray(asked)), np.max(np.asarray(asked))):
            process.checked_time("times", end)
        rounds = np.rint(np.asarray(asked) / cell).astype(int)
        self.times = jnp.asarray(rounds * cell)
        rows = np.stack([means, deviations, *(np.broadcast_to(part, means.shape) for part in (process.target.mean, np.diag(covariance)))], axis=-1).reshape(-1, 4)
        unique, which = np.unique(rows, axis=0, return_inverse=True)
        self.which = jnp.asarray(which.reshape(means.shape))
        order = np.argsort(rounds)
        lasting = jnp.asarray(np.diff(rounds[order], prepend=0))
        self.log_densities = _tables(self.grid, jnp.asarray(unique), process.refreshment, lasting, jnp.asarray(np.argsort(order)))

    def turned_ratios(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """p_t(x, R_j v) / p_t(x, v) at the kept time nearest to t, linear in x between the points of the grid in the logarithm of each factor."""
        logs = self._parts(t, x)
        return ratios_of_parts(self.weights, logs, jnp.zeros_like(logs), v)

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """`turned_ratios`, as reversed processes take them."""
        return self.turned_ratios(t, x, v)

    def log_joint(self, t: Numbers, x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, ""]:
        """Log p_t(x, v) at one point, interpolated alike."""
        logs = self._parts(jnp.asarray(t, x.dtype), x)
        return log_weighted_sum(self.weights, jnp.sum(jnp.where(v[None, :] > 0, logs[:, :, 0], logs[:, :, 1]), axis=1))

    def _parts(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, "K d 2"]:
        now = self.log_densities[jnp.argmin(jnp.abs(self.times - t))]
        cell, last = self.grid[1] - self.grid[0], self.grid.size - 1
        place = jnp.clip((x - self.grid[0]) / cell, 0.0, last * 1.0)
        below = jnp.minimum(jnp.floor(place), last - 1.0)
        share = (place - below)[None, :, None]
        coordinate = jnp.broadcast_to(below.astype(self.which.dtype)[None, :], self.which.shape)
        return (1 - share) * now[self.which, :, coordinate] + share * now[self.which, :, coordinate + 1]


def transported(rates: Float[Array, "2 n"], densities: Float[Array, "2 n"], duration: Float[Array, ""], steps: Int[Array, ""]) -> Float[Array, "2 n"]:
    """The densities with velocity + and - after a number of steps of one cell each, which take `duration` each.

    Args:
        rates: at which velocities + and - turn round, at the points.
        densities: at the start.
        duration: of one step: the width of a cell over the speed.
        steps: how many.
    """
    total = rates[0] + rates[1]
    share = jnp.where(total > 0, -jnp.expm1(-total * duration / 2) / jnp.where(total > 0, total, 1.0), duration / 2)

    def exchanged(p):
        turned = (rates[0] * p[0] - rates[1] * p[1]) * share
        return jnp.stack([p[0] - turned, p[1] + turned])

    def step(_, p):
        plus, minus = exchanged(p)
        moved = jnp.stack([jnp.concatenate([minus[:1], plus[:-1]]), jnp.concatenate([minus[1:], plus[-1:]])])
        return exchanged(moved)

    return jax.lax.fori_loop(0, steps, step, densities)


@eqx.filter_jit
def _tables(grid: Float[Array, " n"], rows: Float[Array, "tables 4"], refreshment: Float[Array, ""], lasting: Int[Array, " m"], order: Int[Array, " m"]) -> Array:
    """Logarithms of the densities of all tables after each of the given numbers of steps, one after the other, and then in another order."""
    mean, deviation, centre, variance = (column[:, None] for column in rows.T)
    start = jnp.exp(-0.5 * ((grid[None, :] - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi)) / 2
    pull = (grid[None, :] - centre) / variance
    rates = jnp.stack([jnp.maximum(pull, 0.0), jnp.maximum(-pull, 0.0)], axis=1) + refreshment

    def advanced(p, steps):
        later = jax.vmap(transported, in_axes=(0, 0, None, None))(rates, p, grid[1] - grid[0], steps)
        return later, later

    return jnp.log(jnp.maximum(jax.lax.scan(advanced, jnp.stack([start, start], axis=1), lasting)[1], _FLOOR))[order]
