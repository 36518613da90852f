r"""A law is a probability distribution on R^d with a density.

Mathematics is written for one point; the public methods take one point (d,) or any batch of points (..., d) and compile once a shape. Batches are evaluated block by block;
NumPy arrays and memory maps too large to copy are streamed (`ensembletheory.laws.streaming`).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws.streaming import is_large, over_blocks, streamed

__all__ = ["Law", "checked_affine", "checked_dims", "checked_point", "marks", "require_same_dim"]


_REACH = 13.0  # what lies beyond this many standard deviations weighs less than 1e-37
_STEPS = {1: (0.0, 0.7, 1.5, 2.5, 3.7, 5.2, 7.0, 9.5, _REACH), 2: (0.0, 1.7, 3.5, 6.0, _REACH)}  # panel ends, in standard deviations, by dimension
_CACHE = 2**17  # numbers a block's largest array may hold: a megabyte in 64 bits
_SMALLEST_BLOCK, _LARGEST_BLOCK = 128, 8192  # points


class Law(eqx.Module):
    """A distribution on R^d: `Gaussian`, `GaussianMixture`, `GridLaw`, `FiniteLaw`."""

    mean: eqx.AbstractVar[Float[Array, " d"]]

    @property
    @abstractmethod
    def dim(self) -> int:
        """The dimension d."""

    @property
    @abstractmethod
    def cov(self) -> Float[Array, "d d"]:
        """The covariance matrix."""

    @abstractmethod
    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """Log-density at one point."""

    @abstractmethod
    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """Gradient of the log-density at one point."""

    def _prepared(self) -> Any:
        """What `_log_probs` and `_scores` need of the law and no point changes: computed once, before the blocks."""
        return None

    def _log_probs(self, prepared: Any, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        """Log-density at a block of points."""
        return jax.vmap(self._log_prob)(points)

    def _scores(self, prepared: Any, points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Score at a block of points."""
        return jax.vmap(self._score)(points)

    def _hessian(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """Second derivatives of the log-density at one point."""
        return jax.jacfwd(self._score)(x)

    @abstractmethod
    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""

    @abstractmethod
    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The differential entropy -E log p, in nats."""

    @abstractmethod
    def pieces(self) -> tuple[Float[Array, "K d"], Float[Array, "K d"]]:
        """Centres and widths (standard deviations along the axes) of the features of the density: where quadrature has to look."""

    def marks(self) -> tuple[Float[Array, " _"], ...]:
        """For each of one or two axes, where the panels of an integral under this law have to break; the first and the last span the box that holds the law."""
        return marks(*self.pieces())

    def _doubt(self) -> Float[Array, ""]:
        """By how much the log-density may be off, rounding aside: the error of its normaliser."""
        return jnp.zeros(())

    @abstractmethod
    def marginal(self, dims: Sequence[int]) -> "Law":
        """The law of the coordinates `dims`, in that order."""

    @abstractmethod
    def condition(self, dims: Sequence[int], values: Numbers) -> "Law":
        """The law of the remaining coordinates, in order, given that the coordinates `dims` equal `values`."""

    @abstractmethod
    def push(self, A: Numbers, b: Numbers) -> "Law":
        """The law of A x + b, for A (k, d) of full row rank and b (k,)."""

    def log_prob(self, x: Numbers) -> Float[Array, "..."]:
        """Log-density in nats at x (..., d), as (...).

        Raises:
            ValueError: if the last axis of x is not d, or x holds NaN or infinities.
        """
        return streamed(_log_prob, self, x, ()) if is_large(x, self.dim) else _log_prob(self, checked_point("x", x, self.dim))

    def score(self, x: Numbers) -> Float[Array, "... d"]:
        """The gradient of the log-density at x (..., d), as (..., d).

        Raises:
            ValueError: if the last axis of x is not d, or x holds NaN or infinities.
        """
        return streamed(_score, self, x, (self.dim,)) if is_large(x, self.dim) else _score(self, checked_point("x", x, self.dim))

    def hessian(self, x: Numbers) -> Float[Array, "... d d"]:
        """The second derivatives of the log-density at x (..., d), as (..., d, d).

        Raises:
            ValueError: if the last axis of x is not d, or x holds NaN or infinities.
        """
        return _hessian(self, checked_point("x", x, self.dim))


@jax.jit
def marks(centres: Float[Array, "K d"], widths: Float[Array, "K d"]) -> tuple[Float[Array, " _"], ...]:
    """On each axis, fixed multiples of the widths around the centres, sorted."""
    steps = jnp.asarray(_STEPS[centres.shape[1]])
    points = centres[:, None, :] + widths[:, None, :] * jnp.concatenate([-steps[:0:-1], steps])[None, :, None]
    return tuple(jnp.sort(points[:, :, axis].ravel()) for axis in range(centres.shape[1]))


@eqx.filter_jit
def _log_prob(law: Law, x: Float[Array, "... d"]) -> Float[Array, "..."]:
    prepared = law._prepared()
    return over_blocks(lambda points: law._log_probs(prepared, points), x.reshape(-1, law.dim), _block(law)).reshape(x.shape[:-1])


@eqx.filter_jit
def _score(law: Law, x: Float[Array, "... d"]) -> Float[Array, "... d"]:
    prepared = law._prepared()
    return over_blocks(lambda points: law._scores(prepared, points), x.reshape(-1, law.dim), _block(law)).reshape(x.shape)


@eqx.filter_jit
def _hessian(law: Law, x: Float[Array, "... d"]) -> Float[Array, "... d d"]:
    return over_blocks(jax.vmap(law._hessian), x.reshape(-1, law.dim), _block(law)).reshape(*x.shape, law.dim)


def _block(law: Law) -> int:
    """How many points are evaluated at once, so that what lies between stays in the cache: a multiple of 64."""
    numbers = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(law, eqx.is_array))) // law.dim
    return int(np.clip(_CACHE // max(numbers, 1) // 64 * 64, _SMALLEST_BLOCK, _LARGEST_BLOCK))


def checked_point(argument: str, x: Numbers, dim: int) -> Float[Array, "..."]:
    """`x` as an array whose last axis is `dim`.

    Raises:
        ValueError: otherwise, or if it holds NaN or infinities.
    """
    array = as_floats(argument, x)
    if array.ndim == 0 or array.shape[-1] != dim:
        refuse(argument, f"shape {array.shape}", f"(..., {dim})", f"The last axis is the coordinate, of a law in dimension {dim}; in 1-D write x[:, None].")
    return array


def checked_dims(dims: Sequence[int], dim: int) -> list[int]:
    """`dims` as a list of different coordinates of a `dim`-dimensional law.

    Raises:
        ValueError: if it is empty, repeats a coordinate or names one that does not exist.
    """
    listed = [int(i) for i in dims]
    if not listed or len(set(listed)) < len(listed) or min(listed) < 0 or max(listed) >= dim:
        refuse("dims", str(listed), f"one or more different integers from 0 to {dim - 1}", "List each coordinate at most once.")
    return listed


def checked_affine(A: Numbers, b: Numbers, dim: int) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """The matrix and offset of an affine map of R^dim.

    Raises:
        ValueError: if A is not (k, dim) or b not (k,).
    """
    matrix, offset = as_floats("A", A), as_floats("b", b)
    if matrix.ndim != 2 or matrix.shape[1] != dim:
        refuse("A", f"shape {matrix.shape}", f"(k, {dim})", "A maps points of this law: one column a coordinate.")
    if offset.shape != (matrix.shape[0],):
        refuse("b", f"shape {offset.shape}", f"({matrix.shape[0]},)", "b has one entry for each row of A.")
    return matrix, offset


def require_same_dim(p: Law, q: Law) -> None:
    """Refuse two laws on different spaces.

    Raises:
        ValueError: naming both dimensions.
    """
    if p.dim != q.dim:
        refuse("q", f"dimension {q.dim}", f"dimension {p.dim}, that of `p`", "Compare laws on the same space, or take a marginal.")
