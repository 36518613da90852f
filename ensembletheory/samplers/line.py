r"""The exact laws, on the line, of the draws of stochastic samplers with any fields: densities carried from step to step.

A step x -> mu_t(x) + sigma_t(x) z with one draw z ~ N(0, 1) makes of a density p the density

    p'(y) = int p(x) N(y; mu_t(x), sigma_t(x)^2) dx,

by the trapezoid rule on equally spaced points: for smooth densities that vanish at the ends it errs by about exp(-2 pi^2 r^2), r the least ratio of sigma to the spacing,
5e-9 at r = 1. Where a step is drawn among several (the rule "alternating"), p' is the average over them. Nothing need be affine.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.laws import Law
from ensembletheory.samplers.linearisation import rounding
from ensembletheory.samplers.sampler import Sampler

__all__ = ["densities_on_the_line", "density_on_the_line"]

_LOST = 1e-6  # mass that may leave the points


def density_on_the_line(sampler: Sampler, start: Law, points: Numbers) -> Float[Array, " n"]:
    """The density at `points` of the draws of a sampler begun from `start`, to the error of the trapezoid rule.

    Args:
        sampler: whose scheme takes one draw a step.
        start: a law on the line with a density.
        points: (n,) equally spaced and increasing, wide enough for every density on the way.

    Raises:
        ValueError: if the scheme takes more or fewer draws, a step is not affine in its draw, the points are not equally spaced, noise is narrower than their spacing, or
            mass leaves them.
    """
    return densities_on_the_line([sampler], start, points)[0]


def densities_on_the_line(samplers: Sequence[Sampler], start: Law, points: Numbers) -> Float[Array, "R n"]:
    """`density_on_the_line` of several samplers with one grid, in one program: what their fields share is computed once.

    Raises:
        ValueError: as `density_on_the_line`; or if there is no sampler, or grids differ.
    """
    x = _checked_points(points)
    if not samplers or any(is_concrete(one.grid, samplers[0].grid) and not np.array_equal(one.grid, samplers[0].grid) for one in samplers):
        refuse("samplers", f"{len(samplers)} samplers of several grids, or none", "samplers with one grid", "Call density_on_the_line for each.")
    for sampler in samplers:
        for _, scheme, _ in sampler.scheme.branches(sampler.field):
            if scheme.draws != 1:
                refuse("samplers", f"{type(scheme).__name__}, with {scheme.draws} draws a step", "one draw a step", "Use EulerMaruyama or Ddpm.")
    densities, defect, ratio = _carried(list(samplers), start, x)
    _require_resolved(defect, float(ratio), np.asarray(densities).sum(axis=1) * float(x[1] - x[0]))
    return densities


def _checked_points(points: Numbers) -> Float[Array, " n"]:
    x = as_floats("points", points)
    gaps = np.diff(np.asarray(x)) if x.ndim == 1 and x.size > 2 else np.zeros(1)
    if not (gaps[0] > 0 and np.allclose(gaps, gaps[0], rtol=1e-6)):
        refuse("points", f"shape {x.shape}", "at least three equally spaced, increasing numbers", "np.linspace(-6, 6, 601), for example.")
    return x


def _require_resolved(defect: Float[Array, ""], ratio: float, masses: np.ndarray) -> None:
    if not float(defect) <= rounding(defect):
        refuse("samplers", f"steps that are off an affine function of their draw by {float(defect):.3g}", "steps affine in the draw", "Sample them.")
    if not ratio >= 1:
        refuse("points", f"noise of a step {ratio:.3g} times as wide as their spacing", "noise at least as wide", "Use more points, or longer last steps.")
    if not np.all(np.abs(masses - 1) <= _LOST):
        refuse("points", f"a mass of {masses[np.argmax(np.abs(masses - 1))]:.9g} on them at the end", "1", "Widen them: paths leave their range.")


@eqx.filter_jit
def _carried(samplers: list[Sampler], start: Law, x: Float[Array, " n"]) -> tuple[Float[Array, "R n"], Float[Array, ""], Float[Array, ""]]:
    """The last densities, the largest relative defect of affinity in the draw, and the least ratio of noise to spacing."""
    spacing = x[1] - x[0]

    def transition(process, scheme, field, t, s):
        step = jax.vmap(lambda point, z: scheme.step(process, field, t, s, point, z), in_axes=(0, None))
        mean, one, other = jax.vmap(lambda z: step(x[:, None], z)[:, 0])(jnp.asarray([0.0, 1.0, -2.0])[:, None, None])
        width = one - mean
        defect = jnp.max(jnp.abs(other - (mean - 2 * width)) / (1 + jnp.abs(mean)))
        z = (x[:, None] - mean[None, :]) / width[None, :]
        return jnp.exp(-(z**2) / 2) * (spacing / np.sqrt(2 * np.pi) / jnp.abs(width))[None, :], defect, jnp.min(jnp.abs(width)) / spacing

    def step(carry, times):
        densities, defect, ratio = carry
        moved = []
        for sampler, density in zip(samplers, densities, strict=True):
            parts = [(weight, *transition(sampler.process, scheme, field, *times)) for weight, scheme, field in sampler.scheme.branches(sampler.field)]
            moved.append(sum((weight * (matrix @ density) for weight, matrix, _, _ in parts), jnp.zeros_like(density)))
            defect = jnp.max(jnp.stack([defect, *[part[2] for part in parts]]))
            ratio = jnp.min(jnp.stack([ratio, *[part[3] for part in parts]]))
        return (jnp.stack(moved), defect, ratio), None

    grid = samplers[0].grid
    begun = jnp.tile(jnp.exp(start.log_prob(x[:, None])), (len(samplers), 1))
    return jax.lax.scan(step, (begun, jnp.zeros(()), jnp.asarray(jnp.inf)), (grid[:-1], grid[1:]))[0]
