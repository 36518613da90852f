r"""A law of finite support, sum_i w_i delta(x_i).

Its log-probability is the logarithm of a mass, not of a density: -inf off the support; its entropy is Shannon's, -sum w log w over different points. Points may repeat:
the mass of a point is the sum of its weights. There is no score.
"""

from collections.abc import Sequence
from typing import NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws.law import Law, checked_affine, checked_dims, checked_point
from ensembletheory.laws.weights import checked_weights

__all__ = ["FiniteLaw"]


class FiniteLaw(Law):
    """The law that gives points[i] the probability weights[i].

    Args:
        points: (n, d); a point may repeat.
        weights: (n,), non-negative, summing to 1; default 1/n each.

    Raises:
        ValueError: if shapes do not agree, weights are off the simplex or a value is not finite.
    """

    points: Float[Array, "n d"]
    weights: Float[Array, " n"]

    def __init__(self, points: Numbers, weights: Numbers | None = None):
        self.points = as_floats("points", points)
        if self.points.ndim != 2 or 0 in self.points.shape:
            refuse("points", f"shape {self.points.shape}", "(n, d) with n, d >= 1", "One row a point; in 1-D write x[:, None].")
        self.weights = checked_weights(weights, len(self.points))

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.points.shape[1]

    @property
    def mean(self) -> Float[Array, " d"]:
        """The mean."""
        return self.weights @ self.points

    @property
    def cov(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        centred = self.points - self.mean[None, :]
        return (self.weights[:, None] * centred).T @ centred

    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        return jnp.log(jnp.sum(jnp.where(jnp.all(self.points == x[None, :], axis=1), self.weights, 0.0)))

    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        self._no_density("score")

    def _hessian(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        self._no_density("Hessian")

    def pieces(self) -> tuple[Float[Array, "K d"], Float[Array, "K d"]]:
        """Refused: there is no density."""
        self._no_density("piece that quadrature could resolve")

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        return _drawn(self, key, n)

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """Shannon's entropy in nats, exact (`key` and `samples` are not used)."""
        return closed_form(_shannon(self))

    def marginal(self, dims: Sequence[int]) -> "FiniteLaw":
        """The law of the coordinates `dims`, in that order."""
        return FiniteLaw(self.points[:, np.asarray(checked_dims(dims, self.dim))], self.weights)

    def condition(self, dims: Sequence[int], values: Numbers) -> "FiniteLaw":
        """The law of the remaining coordinates, in order, given that the coordinates `dims` equal `values` exactly.

        Raises:
            ValueError: if `dims` repeats a coordinate, is out of range or leaves nothing, `values` does not have its length, or no point of positive weight has these values.
        """
        given = checked_dims(dims, self.dim)
        rest = [i for i in range(self.dim) if i not in given]
        if not rest:
            refuse("dims", "all coordinates", "at least one left free", "Evaluate log_prob at the values instead.")
        match = jnp.all(self.points[:, np.asarray(given)] == checked_point("values", values, len(given))[None, :], axis=1)
        kept = jnp.where(match, self.weights, 0.0)
        if is_concrete(kept) and not np.sum(kept) > 0:
            refuse("values", f"{values}", "the coordinates of a point of positive weight", "Nothing else can be conditioned on.")
        return FiniteLaw(self.points[:, np.asarray(rest)], kept / jnp.sum(kept))

    def push(self, A: Numbers, b: Numbers) -> "FiniteLaw":
        """The law of A x + b, for A (k, d) and b (k,)."""
        A, b = checked_affine(A, b, self.dim)
        return FiniteLaw(self.points @ A.T + b[None, :], self.weights)

    def _no_density(self, what: str) -> NoReturn:
        raise TypeError(f"FiniteLaw: got a request for its {what}; expected a law with a density. A law of finite support has none: convolve it with a Gaussian first.")


@eqx.filter_jit
def _drawn(law: FiniteLaw, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    return law.points[jax.random.choice(key, law.weights.shape[0], (n,), p=law.weights)]


@eqx.filter_jit
def _shannon(law: FiniteLaw) -> Float[Array, ""]:
    log_mass = jax.vmap(law._log_prob)(law.points)
    return -jnp.sum(jnp.where(law.weights > 0, law.weights * jnp.where(law.weights > 0, log_mass, 0.0), 0.0))
