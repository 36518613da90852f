r"""The soft-uniform law: independent coordinates, each uniform on an interval of width a whose edges are softened by a logistic noise of scale 1 / b.

    density  [ s(b (x + a/2)) - s(b (x - a/2)) ] / a,  s(u) = 1 / (1 + e^{-u}),  about the mean;     variance  a^2 / 12 + pi^2 / (3 b^2).

With u = b (x + a/2) and v = b (x - a/2) the difference of the edges is s(u) s(-v) (1 - e^{-ab}), from which nothing cancels, and the score is b (s(-u) - s(v)).
A prior of flows in Toth et al. (2020); the normaliser a is exact.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws.expectation import expectation, surprise
from ensembletheory.laws.law import Law, checked_affine, checked_dims, checked_point

__all__ = ["SoftUniform"]

_EDGE = 3.0  # a mark's width at an edge, in logistic scales: what lies beyond 13 of them weighs less than e^{-39}


class SoftUniform(Law):
    """The product of soft-uniform laws.

    Args:
        widths: a (d,), the distance between the edges.
        sharpness: b (d,) or a scalar: the larger, the harder the edges.
        mean: (d,); the origin if left out.

    Raises:
        ValueError: if the shapes do not agree, or a width or a sharpness is not positive.
    """

    widths: Float[Array, " d"]
    sharpness: Float[Array, " d"]
    mean: Float[Array, " d"]

    def __init__(self, widths: Numbers, sharpness: Numbers, mean: Numbers | None = None):
        self.widths, sharp = as_floats("widths", widths), as_floats("sharpness", sharpness)
        if self.widths.ndim != 1 or self.widths.size == 0:
            refuse("widths", f"shape {self.widths.shape}", "(d,) with d >= 1", "One width a coordinate.")
        self.sharpness = _coordinates("sharpness", sharp, self.dim)
        self.mean = _coordinates("mean", as_floats("mean", 0.0 if mean is None else mean), self.dim)
        for name, values in (("widths", self.widths), ("sharpness", self.sharpness)):
            if is_concrete(values) and not np.all(np.asarray(values) > 0):
                refuse(name, f"{float(np.min(np.asarray(values))):.6g}", "positive numbers", "Pass values such as 1.0.")

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.widths.shape[0]

    @property
    def cov(self) -> Float[Array, "d d"]:
        """The covariance matrix, which is diagonal."""
        return jnp.diag(self.widths**2 / 12 + (jnp.pi / self.sharpness) ** 2 / 3)

    def _edges(self, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        y = x - self.mean
        return self.sharpness * (y + self.widths / 2), self.sharpness * (y - self.widths / 2)

    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        u, v = self._edges(x)
        return jnp.sum(jax.nn.log_sigmoid(u) + jax.nn.log_sigmoid(-v) + jnp.log(-jnp.expm1(-self.sharpness * self.widths)) - jnp.log(self.widths))

    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        u, v = self._edges(x)
        return self.sharpness * (jax.nn.sigmoid(-u) - jax.nn.sigmoid(v))

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        return _drawn(self, key, n)

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The differential entropy in nats, by quadrature coordinate by coordinate (`key` and `samples` are not used)."""
        parts = [self.marginal([i]) for i in range(self.dim)]
        each = [expectation(part, surprise, (part,)) for part in parts]
        return Estimate(sum((e.value for e in each), jnp.zeros(())), sum((e.error for e in each), jnp.zeros(())), "quadrature")

    def pieces(self) -> tuple[Float[Array, "K d"], Float[Array, "K d"]]:
        """Both edges and the plateau between them."""
        half, edge = self.widths / 2, _EDGE / self.sharpness
        return jnp.stack([self.mean - half, self.mean, self.mean + half]), jnp.stack([edge, half / 4, edge])

    def marginal(self, dims: Sequence[int]) -> "SoftUniform":
        """The law of the coordinates `dims`, in that order."""
        kept = np.asarray(checked_dims(dims, self.dim))
        return SoftUniform(self.widths[kept], self.sharpness[kept], self.mean[kept])

    def condition(self, dims: Sequence[int], values: Numbers) -> "SoftUniform":
        """The law of the remaining coordinates, in order: the others tell nothing of them.

        Raises:
            ValueError: if `dims` repeats a coordinate, is out of range or leaves nothing, or `values` does not have its length.
        """
        given = checked_dims(dims, self.dim)
        checked_point("values", values, len(given))
        rest = [i for i in range(self.dim) if i not in given]
        if not rest:
            refuse("dims", "all coordinates", "at least one left free", "Evaluate log_prob at the values instead.")
        return self.marginal(rest)

    def push(self, A: Numbers, b: Numbers) -> "SoftUniform":
        """The law of A x + b, for A diagonal and regular.

        Raises:
            ValueError: if A mixes coordinates or removes one: such images are not soft uniform.
        """
        matrix, offset = checked_affine(A, b, self.dim)
        values = np.asarray(matrix)
        if matrix.shape[0] != self.dim or not np.array_equal(values, np.diag(np.diagonal(values))) or not np.all(np.diagonal(values)):
            refuse("A", f"a {matrix.shape[0]} x {matrix.shape[1]} matrix that mixes or removes coordinates", "a regular diagonal matrix", "Push draws instead.")
        scales = jnp.diagonal(matrix)
        return SoftUniform(self.widths * jnp.abs(scales), self.sharpness / jnp.abs(scales), scales * self.mean + offset)


def _coordinates(name: str, values: Float[Array, "..."], dim: int) -> Float[Array, " d"]:
    if values.shape not in ((), (dim,)):
        refuse(name, f"shape {values.shape}", f"a scalar or ({dim},)", "One number a coordinate.")
    return jnp.broadcast_to(values, (dim,))


@eqx.filter_jit
def _drawn(law: SoftUniform, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    key_plateau, key_edge = jax.random.split(key)
    plateau = jax.random.uniform(key_plateau, (n, law.dim), law.mean.dtype, -0.5, 0.5)
    edge = jax.random.logistic(key_edge, (n, law.dim), law.mean.dtype)
    return law.mean[None, :] + law.widths[None, :] * plateau + edge / law.sharpness[None, :]
