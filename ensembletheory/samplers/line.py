r"""The exact law, on the line, of the draws of a stochastic sampler with any field: its density carried from step to step.

A step x -> mu_t(x) + sigma_t(x) z with one draw z ~ N(0, 1) makes of a density p the density

    p'(y) = int p(x) N(y; mu_t(x), sigma_t(x)^2) dx,

by the trapezoid rule on equally spaced points: for smooth densities that vanish at the ends it errs by about exp(-2 pi^2 r^2), r the least ratio of sigma to the spacing,
5e-9 at r = 1. Several samplers with weights make the density of runs whose every step is drawn among theirs (the rule "alternating"). Nothing need be affine.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.laws import Law
from ensembletheory.laws.weights import checked_weights
from ensembletheory.samplers.sampler import Sampler

__all__ = ["density_on_the_line"]

_LOST = 1e-6  # mass that may leave the points
_AFFINE = 1e-9


def density_on_the_line(samplers: Sampler | Sequence[Sampler], start: Law, points: Numbers, weights: Numbers | None = None) -> Float[Array, " n"]:
    """The density at `points` of the draws of a sampler begun from `start`, to the error of the trapezoid rule.

    Args:
        samplers: a sampler whose scheme takes one draw a step; or several, on one grid, among which every step is drawn.
        start: a law on the line with a density.
        points: (n,) equally spaced and increasing, wide enough for every density on the way.
        weights: of the samplers, on the simplex; default equal.

    Raises:
        ValueError: if the scheme takes more or fewer draws, a step is not affine in its draw, the points are not equally spaced, noise is narrower than their spacing, or
            mass leaves them.
    """
    listed = [samplers] if isinstance(samplers, Sampler) else list(samplers)
    x, w = _checked_points(points), checked_weights(weights, len(listed))
    for sampler in listed:
        if sampler.scheme.draws != 1 or sampler.scheme.drawn_among:
            refuse("samplers", f"{type(sampler.scheme).__name__}, with {sampler.scheme.draws} draws a step", "one draw a step", "Use EulerMaruyama or Ddpm.")
    density, defect, ratio = _carried(listed, w, start, x)
    _require_resolved(float(defect), float(ratio), float(jnp.sum(density) * (x[1] - x[0])))
    return density


def _checked_points(points: Numbers) -> Float[Array, " n"]:
    x = as_floats("points", points)
    gaps = np.diff(np.asarray(x)) if x.ndim == 1 and x.size > 2 else np.zeros(1)
    if not (gaps[0] > 0 and np.allclose(gaps, gaps[0], rtol=1e-6)):
        refuse("points", f"shape {x.shape}", "at least three equally spaced, increasing numbers", "np.linspace(-6, 6, 601), for example.")
    return x


def _require_resolved(defect: float, ratio: float, mass: float) -> None:
    if not defect <= _AFFINE:
        refuse("samplers", f"steps that are off an affine function of their draw by {defect:.3g}", "steps affine in the draw", "Sample them.")
    if not ratio >= 1:
        refuse("points", f"noise of a step {ratio:.3g} times as wide as their spacing", "noise at least as wide", "Use more points, or longer last steps.")
    if not abs(mass - 1) <= _LOST:
        refuse("points", f"a mass of {mass:.9g} on them at the end", "1", "Widen them: paths leave their range.")


@eqx.filter_jit
def _carried(samplers: list[Sampler], weights: Float[Array, " K"], start: Law, x: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, ""], Float[Array, ""]]:
    """The last density, the largest relative defect of affinity in the draw, and the least ratio of noise to spacing."""
    spacing = x[1] - x[0]

    def moved(sampler: Sampler, t, s, density):
        step = jax.vmap(sampler._move(t, s), in_axes=(0, None))
        mean, one, other = jax.vmap(lambda z: step(x[:, None], z)[:, 0])(jnp.asarray([0.0, 1.0, -2.0])[:, None, None])
        width = one - mean
        defect = jnp.max(jnp.abs(other - (mean - 2 * width)) / (1 + jnp.abs(mean)))
        z = (x[:, None] - mean[None, :]) / width[None, :]
        return jnp.exp(-(z**2) / 2) @ (density / jnp.abs(width)) * spacing / np.sqrt(2 * np.pi), defect, jnp.min(jnp.abs(width)) / spacing

    def step(carry, times):
        density, defect, ratio = carry
        parts = [moved(sampler, times[0], times[1], density) for sampler in samplers]
        densities, defects, ratios = (jnp.stack(values) for values in zip(*parts, strict=True))
        return (weights @ densities, jnp.maximum(defect, jnp.max(defects)), jnp.minimum(ratio, jnp.min(ratios))), None

    grid = samplers[0].grid
    begun = (jnp.exp(start.log_prob(x[:, None])), jnp.zeros(()), jnp.asarray(jnp.inf))
    return jax.lax.scan(step, begun, (grid[:-1], grid[1:]))[0]
