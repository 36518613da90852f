r"""How far inexact scores break the theorem of averaged scores, on the line: the gain as the scores' diversity plus what their inconsistency does to it.

Fields s_1 ... s_K, scores of no laws in particular, move draws of N(0, 1) at the horizon T by the flows of v_k = f x - g^2 s_k / 2. Let q_{k,t} be the law of member k's own
flow at time t and r_k = grad log q_{k,t} its score: s_k is consistent where r_k = s_k. Along dx/dt = v = sum_k w_k v_k, the flow of s = sum_k w_k s_k with law q_t,

    d/dt log q_t(x_t) = -div v,    d/dt log q_{k,t}(x_t) = -div v_k + (v - v_k) . r_k,

and all laws are N(0, 1) at T, so that there is no term at the boundary. Hence through every point x at the last time t_0, whatever the fields,

    log q(x) - sum_k w_k log q_k(x) = int_{t_0}^T g^2/2 sum_k w_k (s_k - s) . r_k dt,

and in expectation under any law of x, here the target p, whose draws are carried to noise by the averaged flow,

    gain = sum_k w_k KL(p || q_k) - KL(p || q) = D + C,
    D = int g^2/2 E sum_k w_k |s_k - s|^2 dt >= 0                   the diversity of the scores (Krogh and Vedelsby's ambiguity),
    C = int g^2/2 E sum_k w_k (s_k - s) . (r_k - s_k) dt             the interaction of diversity and inconsistency,
    I = int g^2/2 E sum_k w_k |r_k - s_k|^2 dt                       the inconsistency,
    J = I - int g^2/2 E |sum_k w_k (r_k - s_k)|^2 dt                 what of it is not common to the members.

Since sum_k w_k (s_k - s) = 0, a part of r_k - s_k that all members share drops out of C, and by Cauchy and Schwarz |C| <= sqrt(D J) <= sqrt(D I). So

    gain >= D - sqrt(D J):    averaging can lose against the member average only if J > D, so only if I > D.

For exact scores r_k differs from s_k by the horizon's mismatch only, N(0, 1) in place of the noised law; then gain = D as in `ensembletheory.pooling.diversity`. The identity
does not need the line; there, what it asks for is cheap. Derived here.

Discretisation: paths by the classical Runge-Kutta method along the grid; r_k at every time of it by differentiating the log-density of the rest of the flow, exactly for
those steps; integrals over time by the trapezoid rule on the grid, over x by that on the points. Errors are distances from the results on every second time plus those on
every second point, so that the gain, which comes from the densities at t_0 alone, checks D + C.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.fields import Field, MeanField, differ
from ensembletheory.laws import Law, standard_normal
from ensembletheory.laws.weights import checked_weights
from ensembletheory.neural.stacks import count
from ensembletheory.precision import require_x64
from ensembletheory.processes import GaussianPath, convert
from ensembletheory.samplers.grids import check_grid

__all__ = ["InexactGain", "inexact_gain"]

_STAGES, _SHARES = [0.0, 0.5, 0.5, 1.0], [1 / 6, 1 / 3, 1 / 3, 1 / 6]  # of the classical Runge-Kutta method: each stage is taken with the slope of the one before
_MASS = 1e-3  # what may be missing of the target on the points


class InexactGain(eqx.Module):
    """`gain` = `diversity` + `interaction`, and what bounds the last: |C| <= sqrt(D J) <= sqrt(D I)."""

    gain: Estimate
    diversity: Estimate  # D
    interaction: Estimate  # C
    inconsistency: Estimate  # I
    unshared: Estimate  # J
    times: Float[Array, " times"]  # increasing
    rates: Float[Array, "4 times"]  # the integrands over time of the last four

    @property
    def residual(self) -> Estimate:
        """`gain` - `diversity` - `interaction`: zero up to the terms' errors."""
        return self.gain - self.diversity - self.interaction

    @property
    def floor(self) -> Float[Array, ""]:
        """D - sqrt(D J), which the gain is not below."""
        return self.diversity.value - jnp.sqrt(self.diversity.value * self.unshared.value)


def inexact_gain(target: Law, fields: Any, process: GaussianPath, grid: Numbers, points: Numbers, weights: Numbers | None = None) -> InexactGain:
    """The gain of averaging a stack of score fields on the line, trained or made by hand, and its parts.

    Args:
        target: a law on the line with a density.
        fields: a stack of fields, scores unless they say otherwise.
        process: the path whose probability flow is run from N(0, 1) at the first time of the grid.
        grid: decreasing times, to the data, an even number of steps; a score network's must end above 0.
        points: evenly spaced, increasing, an odd number of them, which hold the mass of the target.
        weights: (K,) on the simplex; default equal.

    Raises:
        RuntimeError: in 32-bit mode.
        ValueError: if the target is not on the line, or grid, points or weights are not as asked.
    """
    require_x64("inexact_gain")
    averaged, times, x = MeanField(fields, checked_weights(weights, count(fields))), as_floats("grid", grid), as_floats("points", points)
    if averaged.origin is not None and differ(averaged.origin, process):
        refuse("fields", f"fields of another process ({type(averaged.origin).__name__})", f"fields of the {type(process).__name__} that is run", "Pass their process.")
    check_grid(times, process)
    _check(target, times, x)
    return _inexact_gain(target, fields, averaged, process, times, x)


def _check(target: Law, grid: Float[Array, " times"], x: Float[Array, " n"]) -> None:
    if target.dim != 1:
        refuse("target", f"dimension {target.dim}", "a law on the line", "In more dimensions the gain alone is measured by sampled_gain.")
    if len(grid) % 2 == 0:
        refuse("grid", f"{len(grid) - 1} steps", "an even number of them", "Half as many are taken to know the error.")
    if x.ndim != 1 or x.size < 5 or x.size % 2 == 0:
        refuse("points", f"shape {x.shape}", "an odd number of points, in a row", "Take numpy.linspace(low, high, 101).")
    if is_concrete(x):
        gaps = np.diff(np.asarray(x))
        if np.ptp(gaps) > 1e-6 * np.min(gaps):
            refuse("points", "points of unequal distances", "evenly spaced ones, increasing", "Take numpy.linspace(low, high, 101).")
        mass = gaps[0] * np.sum(np.exp(np.asarray(target.log_prob(np.asarray(x)[:, None]))))
        if not abs(mass - 1) < _MASS:
            refuse("points", f"points on which the target has mass {mass:.6g}", "mass 1", "Space them more closely, or over a longer interval.")


@eqx.filter_jit
def _inexact_gain(target: Law, fields: Any, averaged: MeanField, process: GaussianPath, grid: Float[Array, " times"], x: Float[Array, " n"]) -> InexactGain:
    times = grid[::-1]
    grids = jnp.stack([times, jnp.concatenate([times[::2], jnp.full(len(times) // 2, times[-1])])])
    terms, rates = jax.vmap(lambda times: _terms(target, fields, averaged, process, times, x))(grids)
    fine = terms[0, :, 0]
    errors = jnp.abs(fine - terms[0, :, 1]) + jnp.abs(fine - terms[1, :, 0])
    return InexactGain(*(Estimate(value, error, "quadrature") for value, error in zip(fine, errors, strict=True)), times=times, rates=rates[0])


def _terms(
    target: Law, fields: Any, averaged: MeanField, process: GaussianPath, times: Float[Array, " times"], x: Float[Array, " n"]
) -> tuple[Float[Array, "5 2"], Float[Array, "4 times"]]:
    """Gain, D, C, I and J by all points and by every second one, and the rates of the last four."""
    weights, velocity = averaged.weights, _as(process, averaged, "velocity")
    paths = jax.vmap(lambda y: _path(velocity, times, y))(x[:, None])

    def at(t: Float[Array, ""], y: Float[Array, " 1"]) -> tuple[Float[Array, " K"], Float[Array, " 4"]]:
        logs, own, scores = eqx.filter_vmap(lambda field: (*_density(process, field, jnp.maximum(times, t), y), _as(process, field, "score")(t, y)[0]))(fields)
        return logs, process.diffusion(t) / 2 * _products(weights, scores, own)

    logs, rates = jax.vmap(lambda path: jax.vmap(at)(times, path[:, :1]))(paths)
    gains = _log_prob(paths[:, -1]) - logs[:, 0] @ weights
    lengths = jnp.diff(times, prepend=times[:1], append=times[-1:])
    values = jnp.concatenate([gains[None], jnp.einsum("t,ntj->jn", (lengths[:-1] + lengths[1:]) / 2, rates)])
    masses = (x[1] - x[0]) * jnp.exp(jax.vmap(target._log_prob)(x[:, None]))
    return jnp.stack([values @ masses, 2 * values[:, ::2] @ masses[::2]], axis=1), jnp.einsum("n,ntj->jt", masses, rates)


def _products(weights: Float[Array, " K"], scores: Float[Array, " K"], own: Float[Array, " K"]) -> Float[Array, " 4"]:
    """The integrands of D, C, I and J, without g^2/2."""
    apart, errors = scores - weights @ scores, own - scores
    return jnp.stack([weights @ apart**2, weights @ (apart * errors), weights @ errors**2, weights @ (errors - weights @ errors) ** 2])


def _density(process: GaussianPath, field: Field, times: Float[Array, " times"], y: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The log-density at y and the first time of the flow of one field, and its derivative."""
    velocity = _as(process, field, "velocity")
    return jax.jvp(lambda y: _log_prob(_path(velocity, times, y)[-1]), (y,), (jnp.ones_like(y),))


def _as(process: GaussianPath, field: Field, kind: str) -> Field:
    return convert(process, field, kind, given=field.kind or "score")


def _log_prob(end: Float[Array, "*n 2"]) -> Float[Array, "*n"]:
    """Of N(0, 1) at the end of a path, and the divergence along it."""
    return standard_normal(1).log_prob(end[..., :1]) + end[..., 1]


def _path(velocity: Field, times: Float[Array, " times"], y: Float[Array, " 1"]) -> Float[Array, "times 2"]:
    """The path from y, and the integral of the divergence along it; steps of length zero change nothing. The stages are a loop, so that the rate is compiled once."""

    def rate(t: Float[Array, ""], z: Float[Array, " 2"]) -> Float[Array, " 2"]:
        return jnp.concatenate(jax.jvp(lambda y: velocity(t, y), (z[:1],), (jnp.ones(1),)))

    def step(z: Float[Array, " 2"], ends: tuple[Float[Array, ""], Float[Array, ""]]):
        t, h = ends[0], ends[1] - ends[0]

        def stage(slope: Float[Array, " 2"], at: Float[Array, ""]):
            here = rate(t + at * h, z + at * h * slope)
            return here, here

        _, slopes = jax.lax.scan(stage, jnp.zeros(2), jnp.asarray(_STAGES))
        moved = z + h * jnp.asarray(_SHARES) @ slopes
        return moved, moved

    first = jnp.concatenate([y, jnp.zeros(1)])
    return jnp.concatenate([first[None], jax.lax.scan(step, first, (times[:-1], times[1:]))[1]])
