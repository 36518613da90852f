r"""Covariance matrices, each stored by its structure, behind one interface.

A `Covariance` of dimension d represents a symmetric positive semi-definite d x d matrix S through a factor L (d, width) with L L^T = S: `unwhiten(z)` = L z turns a standard
normal vector into one of covariance S, and `whiten(x)` = L^T S^{-1} x is the shortest z with L z = x (L^{-1} x where L is square), so that |whiten(x)|^2 = x^T S^{-1} x.

Low rank plus diagonal, S = F F^T + D with F (d, k): L = [D^{1/2}, F]. With A = D^{-1/2} F, M = I + A^T A (k x k) and y = D^{-1/2} x,

    whiten(x) = (y - A z, z),  z = M^{-1} A^T y (ridge regression of y on A),     S^{-1} x = D^{-1/2} (y - A z),     log det S = log det D + log det M,

(Woodbury; the matrix determinant lemma): O(d k^2), and x^T S^{-1} x = |y - A z|^2 + |z|^2 is a sum of squares, from which nothing cancels.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.linalg import cholesky, logdet, solve_lower, solve_lower_transposed, solve_spd, sqrtm, substitute, symmetrised

__all__ = ["AxisAligned", "Covariance", "Dense", "Diagonal", "Isotropic", "LowRankPlusDiagonal", "SemiDefinite", "as_covariance", "refuse_singular", "semidefinite"]


def _floats(value: Numbers) -> Array:
    return jnp.asarray(value, dtype=jnp.result_type(float))


class Covariance(eqx.Module):
    """A symmetric positive semi-definite matrix; see `Isotropic`, `Diagonal`, `LowRankPlusDiagonal` and `Dense`."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The number of rows."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The number of columns of L."""

    @abstractmethod
    def as_matrix(self) -> Float[Array, "d d"]:
        """The full matrix."""

    @abstractmethod
    def diagonal(self) -> Float[Array, " d"]:
        """The variances of the coordinates."""

    @abstractmethod
    def logdet(self) -> Float[Array, ""]:
        """The log-determinant."""

    @abstractmethod
    def factor(self) -> Float[Array, "d width"]:
        """The matrix L."""

    @abstractmethod
    def whiten(self, x: Float[Array, " d"]) -> Float[Array, " width"]:
        """The shortest z with L z = x."""

    @abstractmethod
    def unwhiten(self, z: Float[Array, " width"]) -> Float[Array, " d"]:
        """L z."""

    @abstractmethod
    def matvec(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S x."""

    @abstractmethod
    def solve(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S^{-1} x."""

    @abstractmethod
    def inverse(self) -> "Covariance":
        """S^{-1}."""

    @abstractmethod
    def root(self) -> "Covariance":
        """The symmetric root of S."""

    @abstractmethod
    def scaled(self, factor: Float[Array, ""]) -> "Covariance":
        """`factor` times S, for a factor >= 0."""

    @abstractmethod
    def marginal(self, dims: Sequence[int]) -> "Covariance":
        """The rows and columns `dims`."""

    @abstractmethod
    def __add__(self, other: "Covariance") -> "Covariance":
        pass

    def trace(self) -> Float[Array, ""]:
        """The trace."""
        return jnp.sum(self.diagonal())

    def congruence(self, A: Float[Array, "k d"]) -> "Dense":
        """A S A^T."""
        return Dense(symmetrised(A @ self.as_matrix() @ A.T))

    def regressed(self, rest: Sequence[int], given: Sequence[int], x: Float[Array, " b"]) -> tuple[Float[Array, " a"], "Covariance"]:
        """S_AB S_BB^{-1} x and the covariance S_AA - S_AB S_BB^{-1} S_BA of coordinates A = `rest` given B = `given`."""
        A, B, S = np.asarray(rest), np.asarray(given), self.as_matrix()
        cross = S[A[:, None], B[None, :]]
        gain = solve_spd(S[B[:, None], B[None, :]], cross.T).T
        return gain @ x, Dense(symmetrised(S[A[:, None], A[None, :]] - gain @ cross.T))


class AxisAligned(Covariance):
    """A diagonal matrix, known by its `variances`; see `Isotropic` and `Diagonal`."""

    variances: eqx.AbstractVar[Float[Array, " d"]]

    @property
    def width(self) -> int:
        """The number of columns of L."""
        return self.dim

    def as_matrix(self) -> Float[Array, "d d"]:
        """The full matrix."""
        return jnp.diag(self.variances)

    def diagonal(self) -> Float[Array, " d"]:
        """The variances."""
        return self.variances

    def logdet(self) -> Float[Array, ""]:
        """The log-determinant."""
        return jnp.sum(jnp.log(self.variances))

    def factor(self) -> Float[Array, "d d"]:
        """diag(sqrt(variances))."""
        return jnp.diag(jnp.sqrt(self.variances))

    def whiten(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """L^{-1} x with L = diag(sqrt(variances))."""
        return x / jnp.sqrt(self.variances)

    def unwhiten(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """L z with L = diag(sqrt(variances))."""
        return jnp.sqrt(self.variances) * z

    def matvec(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S x."""
        return self.variances * x

    def solve(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S^{-1} x."""
        return x / self.variances

    def congruence(self, A: Float[Array, "k d"]) -> "Dense":
        """A S A^T."""
        return Dense(symmetrised((A * self.variances[None, :]) @ A.T))

    def regressed(self, rest: Sequence[int], given: Sequence[int], x: Float[Array, " b"]) -> tuple[Float[Array, " a"], Covariance]:
        """Nothing is learnt from uncorrelated coordinates."""
        return jnp.zeros(len(rest), x.dtype), self.marginal(rest)


class Diagonal(AxisAligned):
    """diag(variances)."""

    variances: Float[Array, " d"] = eqx.field(converter=_floats)

    @property
    def dim(self) -> int:
        """The number of rows."""
        return self.variances.shape[-1]

    def inverse(self) -> "Diagonal":
        """S^{-1}."""
        return Diagonal(1 / self.variances)

    def root(self) -> "Diagonal":
        """The symmetric root of S."""
        return Diagonal(jnp.sqrt(self.variances))

    def scaled(self, factor: Float[Array, ""]) -> "Diagonal":
        """`factor` times S."""
        return Diagonal(factor * self.variances)

    def marginal(self, dims: Sequence[int]) -> "Diagonal":
        """The rows and columns `dims`."""
        return Diagonal(self.variances[jnp.asarray(dims)])

    def __add__(self, other: Covariance) -> Covariance:
        if isinstance(other, AxisAligned):
            return Diagonal(self.variances + other.variances)
        return other + self


class Isotropic(AxisAligned):
    """`variance` times the identity of dimension `size`."""

    variance: Float[Array, ""]
    size: int = eqx.field(static=True)

    def __init__(self, variance: Numbers, size: int):
        self.variance, self.size = _floats(variance), size

    @property
    def dim(self) -> int:
        """The number of rows."""
        return self.size

    @property
    def variances(self) -> Float[Array, " d"]:
        """The variance, once a coordinate."""
        return jnp.broadcast_to(self.variance[..., None], (*self.variance.shape, self.size))

    def inverse(self) -> "Isotropic":
        """S^{-1}."""
        return Isotropic(1 / self.variance, self.size)

    def root(self) -> "Isotropic":
        """The symmetric root of S."""
        return Isotropic(jnp.sqrt(self.variance), self.size)

    def scaled(self, factor: Float[Array, ""]) -> "Isotropic":
        """`factor` times S."""
        return Isotropic(factor * self.variance, self.size)

    def marginal(self, dims: Sequence[int]) -> "Isotropic":
        """The rows and columns `dims`."""
        return Isotropic(self.variance, len(dims))

    def __add__(self, other: Covariance) -> Covariance:
        if isinstance(other, Isotropic):
            return Isotropic(self.variance + other.variance, self.size)
        return other + self


class LowRankPlusDiagonal(Covariance):
    """F F^T + diag(noise) with loadings F (d, k) and noise (d,) > 0: every operation costs O(d k^2), except `as_matrix`, `factor`, `inverse` and `root`, which are full.

    Args:
        loadings: (d, k).
        noise: (d,), the diagonal that is added.

    Raises:
        ValueError: if the shapes do not agree, a value is not finite, or a noise variance is negative.
    """

    loadings: Float[Array, "d k"]
    noise: Float[Array, " d"]

    def __init__(self, loadings: Numbers, noise: Numbers):
        self.loadings, self.noise = as_floats("loadings", loadings), _refuse_negative("noise", as_floats("noise", noise))
        if self.loadings.ndim != 2 or self.noise.shape != self.loadings.shape[:1]:
            refuse("loadings, noise", f"shapes {self.loadings.shape} and {self.noise.shape}", "(d, k) and (d,)", "One row of the loadings a coordinate.")

    @property
    def dim(self) -> int:
        """The number of rows."""
        return self.loadings.shape[-2]

    @property
    def width(self) -> int:
        """The coordinates and the factors, d + k."""
        return self.dim + self.loadings.shape[-1]

    def as_matrix(self) -> Float[Array, "d d"]:
        """The full matrix."""
        return self.loadings @ self.loadings.T + jnp.diag(self.noise)

    def diagonal(self) -> Float[Array, " d"]:
        """The variances of the coordinates."""
        return jnp.sum(self.loadings**2, axis=1) + self.noise

    def logdet(self) -> Float[Array, ""]:
        """The log-determinant."""
        return jnp.sum(jnp.log(self.noise)) + 2 * jnp.sum(jnp.log(jnp.diagonal(self._inner_factor())))

    def factor(self) -> Float[Array, "d width"]:
        """[D^{1/2}, F]."""
        return jnp.concatenate([jnp.diag(jnp.sqrt(self.noise)), self.loadings], axis=1)

    def whiten(self, x: Float[Array, " d"]) -> Float[Array, " width"]:
        """(y - A z, z), in the module's notation."""
        residual, z = self._regression(x)
        return jnp.concatenate([residual, z])

    def unwhiten(self, z: Float[Array, " width"]) -> Float[Array, " d"]:
        """D^{1/2} z_1 + F z_2."""
        return jnp.sqrt(self.noise) * z[: self.dim] + self.loadings @ z[self.dim :]

    def matvec(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S x."""
        return self.loadings @ (self.loadings.T @ x) + self.noise * x

    def solve(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S^{-1} x."""
        return self._regression(x)[0] / jnp.sqrt(self.noise)

    def inverse(self) -> "Dense":
        """S^{-1}, a full matrix: it is diagonal minus low rank."""
        half = self.half_correction()
        return Dense(jnp.diag(1 / self.noise) - symmetrised(half.T @ half))

    def inverse_diagonal(self) -> Float[Array, " d"]:
        """The diagonal of S^{-1}."""
        return 1 / self.noise - jnp.sum(self.half_correction() ** 2, axis=0)

    def root(self) -> "Dense":
        """The symmetric root of S, a full matrix."""
        return Dense(sqrtm(self.as_matrix()))

    def scaled(self, factor: Float[Array, ""]) -> "LowRankPlusDiagonal":
        """`factor` times S."""
        return LowRankPlusDiagonal(jnp.sqrt(factor) * self.loadings, factor * self.noise)

    def marginal(self, dims: Sequence[int]) -> "LowRankPlusDiagonal":
        """The rows and columns `dims`."""
        index = jnp.asarray(dims)
        return LowRankPlusDiagonal(self.loadings[index], self.noise[index])

    def __add__(self, other: Covariance) -> Covariance:
        if isinstance(other, AxisAligned):
            return LowRankPlusDiagonal(self.loadings, self.noise + other.variances)
        if isinstance(other, LowRankPlusDiagonal):
            return LowRankPlusDiagonal(jnp.concatenate([self.loadings, other.loadings], axis=1), self.noise + other.noise)
        return other + self

    def congruence(self, A: Float[Array, "k d"]) -> "Dense":
        """A S A^T."""
        image = A @ self.loadings
        return Dense(symmetrised(image @ image.T + (A * self.noise[None, :]) @ A.T))

    def regressed(self, rest: Sequence[int], given: Sequence[int], x: Float[Array, " b"]) -> tuple[Float[Array, " a"], Covariance]:
        """Through the factors: z | x_B has mean M^{-1} A^T y and covariance M^{-1}, of the block B, and x_A = F_A z + noise."""
        known, free = self.marginal(given), self.marginal(rest)
        return free.loadings @ known._regression(x)[1], LowRankPlusDiagonal(substitute(known._inner_factor(), free.loadings.T).T, free.noise)

    def _scaled_loadings(self) -> Float[Array, "d k"]:
        """A = D^{-1/2} F."""
        return self.loadings / jnp.sqrt(self.noise)[:, None]

    def half_correction(self) -> Float[Array, "k d"]:
        """H with S^{-1} = D^{-1} - H^T H."""
        return substitute(self._inner_factor(), self._scaled_loadings().T) / jnp.sqrt(self.noise)[None, :]

    def _inner_factor(self) -> Float[Array, "k k"]:
        """The Cholesky factor of M = I + A^T A."""
        A = self._scaled_loadings()
        return cholesky(jnp.eye(A.shape[1], dtype=A.dtype) + symmetrised(A.T @ A))

    def _regression(self, x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " k"]]:
        """Residual y - A z and coefficients z of the ridge regression of y = D^{-1/2} x on A."""
        A, C = self._scaled_loadings(), self._inner_factor()
        y = x / jnp.sqrt(self.noise)
        z = solve_lower_transposed(C, solve_lower(C, A.T @ y))
        return y - A @ z, z


class Dense(Covariance):
    """A full matrix, factorised by Cholesky on demand."""

    matrix: Float[Array, "d d"] = eqx.field(converter=_floats)

    @property
    def dim(self) -> int:
        """The number of rows."""
        return self.matrix.shape[-1]

    @property
    def width(self) -> int:
        """The number of columns of L."""
        return self.dim

    def as_matrix(self) -> Float[Array, "d d"]:
        """The full matrix."""
        return self.matrix

    def diagonal(self) -> Float[Array, " d"]:
        """The variances of the coordinates."""
        return jnp.diagonal(self.matrix)

    def logdet(self) -> Float[Array, ""]:
        """The log-determinant."""
        return logdet(self.matrix)

    def factor(self) -> Float[Array, "d d"]:
        """The Cholesky factor, lower triangular."""
        return cholesky(self.matrix)

    def whiten(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """L^{-1} x with L the Cholesky factor."""
        return solve_lower(cholesky(self.matrix), x)

    def unwhiten(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """L z with L the Cholesky factor."""
        return cholesky(self.matrix) @ z

    def matvec(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S x."""
        return self.matrix @ x

    def solve(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S^{-1} x."""
        L = cholesky(self.matrix)
        return solve_lower_transposed(L, solve_lower(L, x))

    def inverse(self) -> "Dense":
        """S^{-1}."""
        return Dense(symmetrised(solve_spd(self.matrix, jnp.eye(self.dim, dtype=self.matrix.dtype))))

    def root(self) -> "Dense":
        """The symmetric root of S."""
        return Dense(sqrtm(self.matrix))

    def scaled(self, factor: Float[Array, ""]) -> "Dense":
        """`factor` times S."""
        return Dense(factor * self.matrix)

    def marginal(self, dims: Sequence[int]) -> "Dense":
        """The rows and columns `dims`."""
        index = jnp.asarray(dims)
        return Dense(self.matrix[index[:, None], index[None, :]])

    def __add__(self, other: Covariance) -> "Dense":
        return Dense(self.matrix + other.as_matrix())


class SemiDefinite(Covariance):
    """A singular matrix, stored by its structure: it has a factor but no inverse. Adding a positive definite covariance gives one of the structure below."""

    inner: Covariance

    @property
    def dim(self) -> int:
        """The number of rows."""
        return self.inner.dim

    @property
    def width(self) -> int:
        """The number of columns of L."""
        return self.inner.width

    def as_matrix(self) -> Float[Array, "d d"]:
        """The full matrix."""
        return self.inner.as_matrix()

    def diagonal(self) -> Float[Array, " d"]:
        """The variances of the coordinates."""
        return self.inner.diagonal()

    def logdet(self) -> Float[Array, ""]:
        """Refused."""
        self._no_inverse()

    def factor(self) -> Float[Array, "d width"]:
        """The symmetric root of a full matrix, else the factor of the structure."""
        return sqrtm(self.inner.as_matrix()) if isinstance(self.inner, Dense) else self.inner.factor()

    def whiten(self, x: Float[Array, " d"]) -> Float[Array, " width"]:
        """Refused."""
        self._no_inverse()

    def unwhiten(self, z: Float[Array, " width"]) -> Float[Array, " d"]:
        """L z."""
        return self.factor() @ z if isinstance(self.inner, Dense) else self.inner.unwhiten(z)

    def matvec(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S x."""
        return self.inner.matvec(x)

    def solve(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """Refused."""
        self._no_inverse()

    def inverse(self) -> Covariance:
        """Refused."""
        self._no_inverse()

    def root(self) -> Covariance:
        """The symmetric root of S."""
        return SemiDefinite(self.inner.root())

    def scaled(self, factor: Float[Array, ""]) -> "SemiDefinite":
        """`factor` times S."""
        return SemiDefinite(self.inner.scaled(factor))

    def marginal(self, dims: Sequence[int]) -> "SemiDefinite":
        """The rows and columns `dims`, which may be regular after all: see `semidefinite`."""
        return SemiDefinite(self.inner.marginal(dims))

    def regressed(self, rest: Sequence[int], given: Sequence[int], x: Float[Array, " b"]) -> tuple[Float[Array, " a"], Covariance]:
        """Refused."""
        self._no_inverse()

    def __add__(self, other: Covariance) -> Covariance:
        return SemiDefinite(self.inner + other.inner) if isinstance(other, SemiDefinite) else self.inner + other

    def _no_inverse(self) -> NoReturn:
        _refuse_semidefinite("cov")


def _refuse_semidefinite(argument: str) -> NoReturn:
    refuse(argument, "a singular covariance", "a positive definite one, which has an inverse and a density", "Add noise first: process.marginal(law, t) at t > 0.")


def semidefinite(covariance: Covariance) -> Covariance:
    """The covariance itself if its values can be looked at and are positive definite beyond rounding, else as `SemiDefinite`."""
    smallest = _smallest(covariance)
    rounding = 0.0 if smallest is None or not isinstance(covariance, Dense) else covariance.dim * jnp.finfo(covariance.matrix.dtype).eps * float(covariance.trace())
    return covariance if smallest is not None and smallest > rounding else SemiDefinite(covariance)


def as_covariance(argument: str, value: Covariance | Numbers, dim: int) -> Covariance:
    """A Covariance from a Covariance, a (dim, dim) array, a (dim,) diagonal or a scalar, which is `Isotropic`.

    Raises:
        ValueError: if the shape does not fit `dim`, or the values are not finite, not symmetric (beyond rounding) or not positive semi-definite.
    """
    if isinstance(value, Covariance):
        if value.dim != dim:
            refuse(argument, f"dimension {value.dim}", f"dimension {dim}, that of the mean", "Give mean and covariance of the same dimension.")
        return value
    array = as_floats(argument, value)
    if array.ndim == 0:
        return Isotropic(_refuse_negative(argument, array), dim)
    if array.shape not in ((dim,), (dim, dim)):
        refuse(argument, f"shape {array.shape}", f"a scalar, ({dim},) or ({dim}, {dim})", "Give mean and covariance of the same dimension.")
    if array.ndim == 1:
        return Diagonal(_refuse_negative(argument, array))
    return Dense(_refuse_asymmetric(argument, array))


def refuse_singular(argument: str, covariance: Covariance) -> None:
    """Refuse a covariance that is not positive definite, when its values can be looked at.

    Raises:
        ValueError: naming the smallest eigenvalue.
    """
    if isinstance(covariance, SemiDefinite):
        _refuse_semidefinite(argument)
    with jax.ensure_compile_time_eval():  # known values stay known while other values are traced
        smallest = _smallest(covariance)
        singular = smallest is not None and (smallest <= 0 or np.isnan(_logdet(covariance)))
    if singular:
        what = "noise variance" if isinstance(covariance, LowRankPlusDiagonal) else "eigenvalue"
        refuse(argument, f"smallest {what} {smallest:.6g}", "a positive definite covariance", "Drop redundant coordinates or add a ridge.")


@eqx.filter_jit
def _logdet(covariance: Covariance) -> Float[Array, ""]:
    return covariance.logdet()


def _smallest(covariance: Covariance) -> float | None:
    """The smallest eigenvalue, or noise variance where low rank is added to it; None where values cannot be looked at."""
    if isinstance(covariance, LowRankPlusDiagonal):
        return float(np.min(np.asarray(covariance.noise))) if is_concrete(covariance.noise, covariance.loadings) else None
    if isinstance(covariance, AxisAligned):
        return float(np.min(np.asarray(covariance.variances))) if is_concrete(covariance.variances) else None
    matrix = covariance.as_matrix()
    return float(np.linalg.eigvalsh(matrix)[0]) if is_concrete(matrix) else None


def _refuse_negative(argument: str, variances: Float[Array, "..."]) -> Float[Array, "..."]:
    if is_concrete(variances) and np.any(np.asarray(variances) < 0):
        refuse(argument, f"variance {np.min(variances):.6g}", "variances >= 0", "Pass variances, not log-variances or precisions.")
    return variances


def _refuse_asymmetric(argument: str, matrix: Float[Array, "d d"]) -> Float[Array, "d d"]:
    if not is_concrete(matrix):
        return symmetrised(matrix)
    values = np.asarray(matrix)
    defect, scale = np.max(np.abs(values - values.T)), np.max(np.abs(values))
    if defect > 1e3 * np.finfo(matrix.dtype).eps * scale:
        refuse(argument, f"an asymmetry of {defect:.3g}", "a symmetric matrix", "Pass (S + S.T) / 2 if the asymmetry is rounding.")
    smallest = np.linalg.eigvalsh(values)[0]
    if smallest < -1e3 * np.finfo(matrix.dtype).eps * scale:
        refuse(argument, f"smallest eigenvalue {smallest:.6g}", "a positive semi-definite matrix", "Check the sign and order of its entries.")
    return jnp.asarray((values + values.T) / 2)
