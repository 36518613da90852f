r"""Samplers: a scheme run along a grid of times, from noise to data.

`sample` runs the scheme's step on draws, and `paths` keeps what lies between; `law` is the exact law of those draws when the step is affine,
x -> A x + b + sum_j B_j z_j: each step is then a Gaussian kernel, read off the same step by linearisation, and the kernels are composed
(`ensembletheory.samplers.linearisation`). Affinity is verified at another point, never assumed. `log_prob` is the exact log-density of the draws of a deterministic scheme:
each step is inverted by Newton's method and contributes log |det| of its Jacobian.
"""

from collections.abc import Callable
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.fields import Batching, Field, differ, require_vectors
from ensembletheory.kernels import AffineKernel, DiagonalKernel, along_axes
from ensembletheory.laws import Law, standard_normal
from ensembletheory.laws.law import checked_point
from ensembletheory.processes import Clock, Process
from ensembletheory.samplers.grids import check_grid
from ensembletheory.samplers.linearisation import K, Run, coordinatewise, dense, rounding
from ensembletheory.samplers.scheme import Scheme

__all__ = ["Sampler"]

_NEWTON_STEPS = 3


class Sampler(eqx.Module):
    """`scheme` run along `grid` with `field`.

    Args:
        process: the path from data to noise.
        field: (t, x) -> vector, of the kind that the scheme takes.
        scheme: the step.
        grid: (n + 1,) times in the order visited, from noise to data; steps of length zero change nothing.

    Raises:
        ValueError: if the grid is not decreasing inside [0, horizon], the field says that it is of another kind than the scheme takes or of another process, or the
            scheme refuses the process.
    """

    process: Clock
    field: Field
    scheme: Scheme
    grid: Float[Array, " n"]

    def __init__(self, process: Clock, field: Field, scheme: Scheme, grid: Numbers):
        self.process, self.field, self.scheme, self.grid = process, field, scheme, as_floats("grid", grid)

    def __check_init__(self):
        if self.scheme.takes not in ("velocity", "gradient") and not isinstance(self.process, Process):
            expected = f"a linear process, whose drift and noise {type(self.scheme).__name__} needs"
            refuse("process", type(self.process).__name__, expected, "Take a scheme for velocities, such as Heun.")
        if self.field.kind not in (None, self.scheme.takes):
            remedy = f"Convert it: processes.convert(process, field, {self.scheme.takes!r})."
            refuse("field", f"a {self.field.kind}", f"a {self.scheme.takes}, which {type(self.scheme).__name__} takes", remedy)
        if self.field.origin is not None and differ(self.field.origin, self.process):
            got = f"a field of another process ({type(self.field.origin).__name__})"
            refuse("field", got, f"a field of the {type(self.process).__name__} that is run", "At equal times their laws hold different noise.")
        check_grid(self.grid, self.process)
        if is_concrete(self.grid, self.process.horizon):
            self.scheme.check(self.process, self.grid)

    def sample(self, key: PRNGKeyArray, n: int, start: Law) -> Float[Array, "n d"]:
        """`n` independent draws, begun from `start` at the first time of the grid.

        Raises:
            ValueError: if the field's vectors are not of the dimension of `start`.
            FloatingPointError: naming the step, if a draw leaves the finite numbers.
        """
        require_vectors("field", self.field, start.dim)
        draws, diverged = _sample(self, key, n, start)
        self._require_finite(diverged)
        return draws

    def run(self, key: PRNGKeyArray, points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The ends of paths begun at the given points at the first time of the grid.

        Raises:
            ValueError, FloatingPointError: as `sample`.
        """
        require_vectors("field", self.field, points.shape[1])
        ends, diverged = _run(self, key, points)
        self._require_finite(diverged)
        return ends

    def paths(self, key: PRNGKeyArray, n: int, start: Law) -> Float[Array, "n times d"]:
        """The points of `n` independent paths at every time of the grid, begun from `start`; the last are the draws of `sample` with the same key.

        Raises:
            ValueError, FloatingPointError: as `sample`.
        """
        require_vectors("field", self.field, start.dim)
        points, diverged = _paths(self, key, n, start)
        self._require_finite(diverged)
        return points

    def law(self, start: Law) -> Law:
        """The exact law of the draws of `sample`, when the step is affine.

        Raises:
            ValueError: naming scheme and field, if the step is not affine, or the field's vectors are not of the dimension of `start`.
            FloatingPointError: naming the step, if one is not finite.
        """
        if along_axes(start) and is_concrete(self.grid):
            run = self._linearised(_coordinatewise, start.dim)
            if is_concrete(run.defect) and float(run.defect) <= rounding(run.defect):
                return run.kernel.push(start)
        return self.kernel(start.dim).push(start)

    def kernel(self, dim: int) -> AffineKernel:
        """The law of the last point given the first, on R^dim, when the step is affine.

        Raises:
            ValueError, FloatingPointError: as `law`.
        """
        return self._verified(self._linearised(_dense, dim))

    def coordinatewise_kernel(self, dim: int) -> DiagonalKernel:
        """`kernel`, in O(dim), when every coordinate of a step is affine in the same coordinate of its input.

        Raises:
            ValueError, FloatingPointError: as `law`.
        """
        return self._verified(self._linearised(_coordinatewise, dim))

    def log_prob(self, x: Numbers, start: Law | None = None) -> Float[Array, "..."]:
        """The log-density in nats, at x (..., d), of the draws of `sample` begun from `start`, N(0, I) if left out.

        Raises:
            ValueError: if the scheme is stochastic.
        """
        if self.scheme.draws:
            refuse("scheme", type(self.scheme).__name__, "a deterministic scheme", "Use Heun with a velocity; a stochastic step has no inverse.")
        point = as_floats("x", x)
        start = standard_normal(point.shape[-1] if point.ndim else 1) if start is None else start
        return _log_prob(self, checked_point("x", point, start.dim), start)

    def _move(self, t: Float[Array, ""], s: Float[Array, ""]):
        return lambda x, z: self.scheme.step(self.process, self.field, t, s, x, z)

    def _linearised(self, linearised: Callable[..., Run[K]], dim: int) -> Run[K]:
        if len(self.scheme.branches(self.field)) > 1:
            remedy = "Sample it; with shorter steps the law tends to that of the averaged field."
            refuse("scheme", f"{type(self.scheme).__name__}, whose steps are drawn among several", "an affine step", remedy)
        if self.field.piecewise:
            refuse("field", f"{type(self.field).__name__}, which may be affine in pieces only", "an affine field", "Sample it; nothing less tells its law.")
        require_vectors("field", self.field, dim)
        run = linearised(self, dim)
        self._require_finite(run.diverged)
        return run

    def _verified(self, run: Run[K]) -> K:
        if is_concrete(run.defect) and not float(run.defect) <= rounding(run.defect):
            names = f"{type(self.scheme).__name__} with {type(self.field).__name__}"
            refuse("field", f"a step of {names} that is off its linearisation by {float(run.defect):.3g}", "an affine step", "Sample it, or use a Gaussian's field.")
        return run.kernel

    def _require_finite(self, diverged: Int[Array, ""]) -> None:
        if is_concrete(diverged) and int(diverged) >= 0:
            t, s = float(self.grid[diverged]), float(self.grid[diverged + 1])
            where = f"step {int(diverged)} of {self.grid.size - 1}, from time {t:.6g} to {s:.6g}"
            remedy = "Use shorter steps; where the law at time 0 has no density, end the grid later or use a scheme that never looks at its last time."
            raise FloatingPointError(f"{type(self.scheme).__name__} left the finite numbers at {where}. {remedy}")


@eqx.filter_jit
def _sample(sampler: Sampler, key: PRNGKeyArray, n: int, start: Law) -> tuple[Float[Array, "n d"], Int[Array, ""]]:
    key_start, key_noise = jax.random.split(key)
    return _followed(sampler, key_noise, start.sample(key_start, n), keep=False)[0]


@eqx.filter_jit
def _run(sampler: Sampler, key: PRNGKeyArray, points: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Int[Array, ""]]:
    return _followed(sampler, key, points, keep=False)[0]


@eqx.filter_jit
def _paths(sampler: Sampler, key: PRNGKeyArray, n: int, start: Law) -> tuple[Float[Array, "n times d"], Int[Array, ""]]:
    key_start, key_noise = jax.random.split(key)
    first = start.sample(key_start, n)
    (_, diverged), later = _followed(sampler, key_noise, first, keep=True)
    return jnp.swapaxes(jnp.concatenate([first[None], cast(Array, later)]), 0, 1), diverged


def _followed(sampler: Sampler, key: PRNGKeyArray, first: Float[Array, "n d"], keep: bool):
    """The last points with the step that left the finite numbers (-1: none), and all but the first if they are to be kept."""
    draws = sampler.scheme.draws
    batching = eqx.tree_at(lambda one: one.field, sampler, Batching(sampler.field))

    def step(carry, inputs):
        (x, diverged), (t, s, i) = carry, inputs
        z = jax.random.normal(jax.random.fold_in(key, i), (len(x), draws, x.shape[1]), x.dtype)
        moved = jax.vmap(batching._move(t, s))(x, z)
        return (moved, jnp.where((diverged < 0) & ~jnp.all(jnp.isfinite(moved)), i, diverged)), moved if keep else None

    steps = (sampler.grid[:-1], sampler.grid[1:], jnp.arange(sampler.grid.size - 1))
    return jax.lax.scan(step, (first, jnp.asarray(-1)), steps)


@eqx.filter_jit
def _dense(sampler: Sampler, dim: int) -> Run[AffineKernel]:
    return dense(sampler._move, sampler.grid, dim, sampler.scheme.draws)


@eqx.filter_jit
def _coordinatewise(sampler: Sampler, dim: int) -> Run[DiagonalKernel]:
    return coordinatewise(sampler._move, sampler.grid, dim, sampler.scheme.draws)


@eqx.filter_jit
def _log_prob(sampler: Sampler, x: Float[Array, "... d"], start: Law) -> Float[Array, "..."]:
    no_draws = jnp.zeros((0, x.shape[-1]), x.dtype)

    def back(point, times):
        t, s = times

        def move(y):
            return sampler._move(t, s)(y, no_draws)

        def newton(y, _):
            return y - jnp.linalg.solve(jax.jacfwd(move)(y), move(y) - point), None

        first = sampler._move(s, t)(point, no_draws)
        y = jax.lax.scan(newton, first, None, length=_NEWTON_STEPS)[0]
        return y, -jnp.linalg.slogdet(jax.jacfwd(move)(y))[1]

    def at(point):
        noise, changes = jax.lax.scan(back, point, (sampler.grid[:-1], sampler.grid[1:]), reverse=True)
        return start._log_prob(noise) + jnp.sum(changes)

    return jnp.vectorize(at, signature="(d)->()")(x)
