r"""Grids of times, decreasing from the horizon to the data, for samplers.

Uniform in time; quadratic, denser towards the data; EDM, with noise levels sigma = s/a that are powers (Karras et al. 2022, equation 5); angle, uniform in phi = arctan(s/a).
`padded` lengthens a grid by steps of length zero, so that grids of several lengths share one compiled program.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.processes import Clock, GaussianPath

__all__ = ["angle_grid", "check_grid", "edm_grid", "padded", "quadratic_grid", "uniform_grid"]


def check_grid(grid: Float[Array, " n"], clock: Clock) -> None:
    """Refuse a grid that is not of decreasing times of the clock, where that can be looked at.

    Raises:
        ValueError: naming the times.
    """
    if grid.ndim != 1 or grid.size < 2:
        refuse("grid", f"shape {grid.shape}", "at least two times in a row", "See ensembletheory.samplers.uniform_grid.")
    if is_concrete(grid, clock.horizon):
        times, horizon = np.asarray(grid), float(clock.horizon)
        if np.any(np.diff(times) > 0) or times[0] > horizon or times[-1] < 0:
            got = f"times from {times[0]:.6g} to {times[-1]:.6g}"
            refuse("grid", got, f"decreasing times within [0, {horizon:.6g}]", "Sampling runs from noise (the horizon) to data (0).")


def uniform_grid(process: Clock, steps: int, end: float = 0.0) -> Float[Array, " n"]:
    """Steps + 1 equally spaced times from the horizon down to `end`."""
    return _spaced(process.horizon, end, steps + 1)


def quadratic_grid(process: Clock, steps: int, end: float = 0.0) -> Float[Array, " n"]:
    """Steps + 1 times end + (horizon - end) r^2, r equally spaced from 1 down to 0."""
    return end + (process.horizon - end) * _spaced(1.0, 0.0, steps + 1) ** 2


def edm_grid(process: GaussianPath, levels: int, smallest: float = 0.002, largest: float = 80.0, rho: float = 7.0) -> Float[Array, " n"]:
    """Times whose noise levels s/a are the `levels` values (largest^(1/rho) + i/(levels - 1) (smallest^(1/rho) - largest^(1/rho)))^rho, then time 0.

    Raises:
        ValueError: if a level is not reached within the horizon.
    """
    roots = jnp.linspace(largest ** (1 / rho), smallest ** (1 / rho), levels)
    return jnp.append(process.time_of_angle(jnp.arctan(roots**rho)), 0.0)


def angle_grid(process: GaussianPath, steps: int, end: float = 0.0) -> Float[Array, " n"]:
    """Steps + 1 times from the horizon down to `end` with equally spaced angles arctan(s/a)."""
    first, last = process.angle(process.horizon), process.angle(jnp.asarray(end))
    inner = process.time_of_angle(jnp.linspace(first, last, steps + 1)[1:-1])
    return jnp.concatenate([process.horizon[None], inner, jnp.asarray([end])])


def padded(grid: Numbers, nodes: int) -> Float[Array, " n"]:
    """The grid, begun by as many steps of length zero as make it `nodes` long; the laws and draws of samplers stay what they are.

    Raises:
        ValueError: if the grid is longer.
    """
    times = as_floats("grid", grid)
    if len(times) > nodes:
        refuse("nodes", str(nodes), f"at least {len(times)}, the length of the grid", "Pad to the longest grid.")
    index = np.maximum(np.arange(nodes) - (nodes - len(times)), 0)
    return jnp.asarray(np.asarray(times)[index]) if is_concrete(times) else times[index]


def _spaced(first: ArrayLike, last: ArrayLike, nodes: int) -> Float[Array, " n"]:
    """Equally spaced numbers; known ends compile nothing."""
    if is_concrete(first, last):
        return jnp.asarray(np.linspace(np.asarray(first), np.asarray(last), nodes))
    return jnp.linspace(first, last, nodes)
