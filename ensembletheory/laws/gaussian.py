r"""The Gaussian law N(m, S) on R^d, S positive definite (or, from `singular_gaussian`, singular: then there are moments and draws, but no density).

log N(x; m, S) = -1/2 [ d log 2 pi + log det S + (x-m)^T S^{-1} (x-m) ],  score = -S^{-1} (x-m),  Hessian = -S^{-1},  entropy = 1/2 (d log 2 pi e + log det S).
Given x_B = v: x_A ~ N( m_A + S_AB S_BB^{-1} (v - m_B),  S_AA - S_AB S_BB^{-1} S_BA ).
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import Covariance, SemiDefinite, as_covariance, refuse_singular, semidefinite
from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws.law import Law, checked_affine, checked_dims, checked_point
from ensembletheory.laws.whitening import Whitening, whitening

__all__ = ["Gaussian", "is_singular", "singular_gaussian", "standard_normal"]


class Gaussian(Law):
    """N(mean, cov).

    Args:
        mean: (d,).
        cov: (d, d) array, (d,) diagonal, a scalar (times the identity) or a `Covariance`.

    Raises:
        ValueError: if the shapes do not agree, a value is not finite, or the covariance is not symmetric positive definite.
    """

    mean: Float[Array, " d"]
    covariance: Covariance

    def __init__(self, mean: Numbers, cov: Covariance | Numbers):
        self.mean = as_floats("mean", mean)
        if self.mean.ndim != 1 or self.mean.size == 0:
            refuse("mean", f"shape {self.mean.shape}", "(d,) with d >= 1", "In 1-D write mean=[0.0].")
        self.covariance = as_covariance("cov", cov, self.mean.shape[0])

    def __check_init__(self):
        if not isinstance(self.covariance, SemiDefinite):
            refuse_singular("cov", self.covariance)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.mean.shape[-1]

    @property
    def cov(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        return self.covariance.as_matrix()

    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        z = self.covariance.whiten(x - self.mean)
        return -0.5 * (self.dim * np.log(2 * np.pi) + self.covariance.logdet() + jnp.sum(z**2))

    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        return -self.covariance.solve(x - self.mean)

    def _prepared(self) -> Whitening | None:
        return whitening(jax.tree.map(lambda leaf: leaf[None], self))

    def _log_probs(self, prepared: Whitening | None, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        return super()._log_probs(prepared, points) if prepared is None else prepared.log_densities(points)[0]

    def _scores(self, prepared: Whitening | None, points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return super()._scores(prepared, points) if prepared is None else prepared.mixed_scores(jnp.ones(1, points.dtype), points)

    def _hessian(self, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        return -self.covariance.inverse().as_matrix()

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        return _drawn(self, key, n)

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The differential entropy in nats, in closed form (`key` and `samples` are not used)."""
        return closed_form(0.5 * (self.dim * np.log(2 * np.pi * np.e) + self.covariance.logdet()))

    def pieces(self) -> tuple[Float[Array, "1 d"], Float[Array, "1 d"]]:
        """The mean and the standard deviations along the axes."""
        return self.mean[None, :], jnp.sqrt(self.covariance.diagonal())[None, :]

    def marginal(self, dims: Sequence[int]) -> "Gaussian":
        """The law of the coordinates `dims`, in that order."""
        part = _marginal(self, tuple(checked_dims(dims, self.dim)))
        return singular_gaussian(part.mean, part.covariance.inner) if isinstance(part.covariance, SemiDefinite) else part

    def condition(self, dims: Sequence[int], values: Numbers) -> "Gaussian":
        """The law of the remaining coordinates, in order, given that the coordinates `dims` equal `values`.

        Raises:
            ValueError: if `dims` repeats a coordinate, is out of range or leaves nothing, or `values` does not have its length.
        """
        given = checked_dims(dims, self.dim)
        rest = [i for i in range(self.dim) if i not in given]
        if not rest:
            refuse("dims", "all coordinates", "at least one left free", "Evaluate log_prob at the values instead.")
        return _conditioned(self, tuple(rest), tuple(given), checked_point("values", values, len(given)))

    def push(self, A: Numbers, b: Numbers) -> "Gaussian":
        """N(A m + b, A S A^T), for A (k, d) of full row rank and b (k,)."""
        A, b = checked_affine(A, b, self.dim)
        return _pushed(self, A, b)


@eqx.filter_jit
def _drawn(law: Gaussian, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    z = jax.random.normal(key, (n, law.covariance.width), law.mean.dtype)
    return law.mean[None, :] + jax.vmap(law.covariance.unwhiten)(z)


@eqx.filter_jit
def _marginal(law: Gaussian, dims: tuple[int, ...]) -> Gaussian:
    return Gaussian(law.mean[np.asarray(dims)], law.covariance.marginal(dims))


@eqx.filter_jit
def _conditioned(law: Gaussian, rest: tuple[int, ...], given: tuple[int, ...], values: Float[Array, " b"]) -> Gaussian:
    shift, covariance = law.covariance.regressed(rest, given, values - law.mean[np.asarray(given)])
    return Gaussian(law.mean[np.asarray(rest)] + shift, covariance)


@eqx.filter_jit
def _pushed(law: Gaussian, A: Float[Array, "k d"], b: Float[Array, " k"]) -> Gaussian:
    return Gaussian(A @ law.mean + b, law.covariance.congruence(A))


def standard_normal(dim: int) -> Gaussian:
    """N(0, I) on R^dim."""
    return Gaussian(np.zeros(dim), 1.0)


def singular_gaussian(mean: Numbers, cov: Covariance | Numbers) -> Gaussian:
    """N(mean, cov) whose covariance may be singular: with moments, draws, Wasserstein distances and noised versions, while what needs a density refuses.

    A covariance that is seen to be positive definite gives an ordinary Gaussian.

    Args:
        mean: (d,).
        cov: as of `Gaussian`, but positive semi-definite.

    Raises:
        ValueError: if the shapes do not agree, a value is not finite, or the covariance is not symmetric positive semi-definite.
    """
    centre = as_floats("mean", mean)
    return Gaussian(centre, semidefinite(as_covariance("cov", cov, centre.shape[-1] if centre.ndim else 1)))


def is_singular(law: Law) -> bool:
    """Whether the law is a Gaussian that was made with a singular covariance."""
    return isinstance(law, Gaussian) and isinstance(law.covariance, SemiDefinite)
