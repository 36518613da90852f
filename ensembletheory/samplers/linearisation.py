r"""The exact kernel of a run whose steps are affine, read off the steps themselves.

A step x -> A x + b + sum_j B_j z_j is linearised at 0, in all directions (dense) or, where every coordinate goes its own way, in the direction of the vector of ones
(coordinatewise: A and B_j are then diagonal and their products with ones are their diagonals). Either form is compared with the step itself at a random point with random
draws: a step that is not affine, or not coordinatewise, shows there as a defect above `rounding`. Kernels are composed as they come:

    A <- A_k A,     b <- A_k b + b_k,     C <- A_k C A_k^T + sum_j B_j B_j^T.
"""

from collections.abc import Callable
from typing import Generic, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ensembletheory.covariance import Dense, Diagonal
from ensembletheory.kernels import AffineKernel, DiagonalKernel
from ensembletheory.linalg import symmetrised

__all__ = ["K", "Run", "coordinatewise", "dense", "rounding"]

Move = Callable[[Float[Array, " d"], Float[Array, "m d"]], Float[Array, " d"]]


K = TypeVar("K", AffineKernel, DiagonalKernel)
_ROUNDING, _EPSILONS = 1e-9, 64  # relative, and in units of the precision where that is coarser: defects of affine steps were seen up to two


class Run(eqx.Module, Generic[K]):
    """The kernel of a whole run, the largest relative defect of a step (NaN where it has no linearisation), and the first step that leaves the finite numbers (-1: none)."""

    kernel: K
    defect: Float[Array, ""]
    diverged: Int[Array, ""]


def rounding(defect: Array) -> float:
    """The largest relative defect of affinity that counts as rounding in the precision of `defect`: 1e-9 in 64 bits, 8e-6 in 32."""
    return max(_ROUNDING, _EPSILONS * float(jnp.finfo(defect.dtype).eps))


def dense(move: Callable[[Array, Array], Move], grid: Float[Array, " n"], dim: int, draws: int) -> Run[AffineKernel]:
    """The run of the steps move(t, s) along the grid, with full matrices."""

    def linear(step: Move) -> tuple[AffineKernel, Array, Array]:
        zero, no_draws = jnp.zeros(dim), jnp.zeros((draws, dim))
        A, B = jax.jacfwd(step)(zero, no_draws), jax.jacfwd(step, argnums=1)(zero, no_draws).reshape(dim, draws * dim)
        b = step(zero, no_draws)
        return AffineKernel(A, b, Dense(symmetrised(B @ B.T))), *_defect(step, dim, draws, lambda x, z: A @ x + B @ z.ravel() + b)

    return _composed(move, linear, AffineKernel(jnp.eye(dim), jnp.zeros(dim), Dense(jnp.zeros((dim, dim)))), grid)


def coordinatewise(move: Callable[[Array, Array], Move], grid: Float[Array, " n"], dim: int, draws: int) -> Run[DiagonalKernel]:
    """The run of the steps move(t, s) along the grid, with every coordinate by itself."""

    def linear(step: Move) -> tuple[DiagonalKernel, Array, Array]:
        zero, no_draws = jnp.zeros(dim), jnp.zeros((draws, dim))
        b, push = jax.linearize(step, zero, no_draws)
        A = push(jnp.ones(dim), no_draws)
        B = jax.vmap(lambda j: push(zero, no_draws.at[j].set(1.0)))(jnp.arange(draws)) if draws else no_draws
        return DiagonalKernel(A, b, Diagonal(jnp.sum(B**2, axis=0))), *_defect(step, dim, draws, lambda x, z: A * x + jnp.sum(B * z, axis=0) + b)

    return _composed(move, linear, DiagonalKernel(jnp.ones(dim), jnp.zeros(dim), Diagonal(jnp.zeros(dim))), grid)


def _defect(step: Move, dim: int, draws: int, linearised: Move) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """The relative distance of the step from its linearisation, at a random point, and whether the step is finite there."""
    random = jax.random.normal(jax.random.key(0), (draws + 1, dim))
    actual = step(random[0], random[1:])
    return jnp.max(jnp.abs(actual - linearised(random[0], random[1:]))) / (1 + jnp.max(jnp.abs(actual))), jnp.all(jnp.isfinite(actual))


def _composed(move, linear: Callable[[Move], tuple[K, Array, Array]], identity: K, grid: Float[Array, " n"]) -> Run[K]:
    def advance(run: Run[K], step):
        t, s, index = step
        kernel, defect, finite = linear(move(t, s))
        whole = kernel.after(run.kernel)
        left = ~finite | (_is_finite(kernel) & ~_is_finite(whole))
        diverged = cast(Array, jnp.where((run.diverged < 0) & left, index, run.diverged))
        return Run(whole, jnp.maximum(run.defect, defect), diverged), None

    start = Run(identity, jnp.zeros(()), jnp.asarray(-1))
    return jax.lax.scan(advance, start, (grid[:-1], grid[1:], jnp.arange(grid.size - 1)))[0]


def _is_finite(kernel: AffineKernel | DiagonalKernel) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(kernel)]))
