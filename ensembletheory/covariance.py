r"""Covariance matrices, each stored by its structure, behind one interface.

A `Covariance` of dimension d represents a symmetric positive semi-definite d x d matrix S through a factor L with L L^T = S:
`whiten(x)` = L^{-1} x and `unwhiten(z)` = L z, so that |whiten(x)|^2 = x^T S^{-1} x and `unwhiten` of a standard normal vector has covariance S.
"""

from abc import abstractmethod
from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.linalg import cholesky, logdet, solve_lower, solve_lower_transposed, solve_spd, sqrtm, symmetrised

__all__ = ["Covariance", "Dense", "Diagonal", "as_covariance", "refuse_singular"]


class Covariance(eqx.Module):
    """A symmetric positive semi-definite matrix; see `Dense` and `Diagonal`."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The number of rows."""

    @abstractmethod
    def as_matrix(self) -> Float[Array, "d d"]:
        """The full matrix."""

    @abstractmethod
    def logdet(self) -> Float[Array, ""]:
        """The log-determinant."""

    @abstractmethod
    def trace(self) -> Float[Array, ""]:
        """The trace."""

    @abstractmethod
    def factor(self) -> Float[Array, "d d"]:
        """The lower triangular L."""

    @abstractmethod
    def whiten(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """L^{-1} x."""

    @abstractmethod
    def unwhiten(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """L z."""

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

    def congruence(self, A: Float[Array, "k d"]) -> "Dense":
        """A S A^T."""
        return Dense(symmetrised(A @ self.as_matrix() @ A.T))


class Diagonal(Covariance):
    """diag(variances)."""

    variances: Float[Array, " d"]

    @property
    def dim(self) -> int:
        """The number of rows."""
        return self.variances.shape[-1]

    def as_matrix(self) -> Float[Array, "d d"]:
        """The full matrix."""
        return jnp.diag(self.variances)

    def logdet(self) -> Float[Array, ""]:
        """The log-determinant."""
        return jnp.sum(jnp.log(self.variances))

    def trace(self) -> Float[Array, ""]:
        """The trace."""
        return jnp.sum(self.variances)

    def factor(self) -> Float[Array, "d d"]:
        """diag(sqrt(variances))."""
        return jnp.diag(jnp.sqrt(self.variances))

    def whiten(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """L^{-1} x with L = diag(sqrt(variances))."""
        return x / jnp.sqrt(self.variances)

    def unwhiten(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """L z with L = diag(sqrt(variances))."""
        return jnp.sqrt(self.variances) * z

    def solve(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """S^{-1} x."""
        return x / self.variances

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
        if isinstance(other, Diagonal):
            return Diagonal(self.variances + other.variances)
        return Dense(self.as_matrix() + other.as_matrix())


class Dense(Covariance):
    """A full matrix, factorised by Cholesky on demand."""

    matrix: Float[Array, "d d"]

    @property
    def dim(self) -> int:
        """The number of rows."""
        return self.matrix.shape[-1]

    def as_matrix(self) -> Float[Array, "d d"]:
        """The full matrix."""
        return self.matrix

    def logdet(self) -> Float[Array, ""]:
        """The log-determinant."""
        return logdet(self.matrix)

    def trace(self) -> Float[Array, ""]:
        """The trace."""
        return jnp.trace(self.matrix)

    def factor(self) -> Float[Array, "d d"]:
        """The Cholesky factor."""
        return cholesky(self.matrix)

    def whiten(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """L^{-1} x with L the Cholesky factor."""
        return solve_lower(cholesky(self.matrix), x)

    def unwhiten(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """L z with L the Cholesky factor."""
        return cholesky(self.matrix) @ z

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


def as_covariance(argument: str, value: Covariance | Numbers, dim: int) -> Covariance:
    """A Covariance from a Covariance, a (dim, dim) array, a (dim,) diagonal or a scalar (times the identity).

    Raises:
        ValueError: if the shape does not fit `dim`, or the values are not finite, not symmetric (beyond rounding) or not positive semi-definite.
    """
    if isinstance(value, Covariance):
        if value.dim != dim:
            refuse(argument, f"dimension {value.dim}", f"dimension {dim}, that of the mean", "Give mean and covariance of the same dimension.")
        return value
    array = as_floats(argument, value)
    if array.ndim == 0:
        array = jnp.broadcast_to(array, (dim,))
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
    matrix = covariance.variances if isinstance(covariance, Diagonal) else covariance.as_matrix()
    if not is_concrete(matrix):
        return
    spectrum = np.asarray(matrix) if isinstance(covariance, Diagonal) else np.linalg.eigvalsh(matrix)
    if spectrum.min() <= 0 or np.any(np.isnan(covariance.logdet())):
        refuse(argument, f"smallest eigenvalue {spectrum.min():.6g}", "a positive definite covariance", "Drop redundant coordinates or add a ridge.")


def _refuse_negative(argument: str, variances: Float[Array, " d"]) -> Float[Array, " d"]:
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
