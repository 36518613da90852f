r"""Ornstein-Uhlenbeck processes that keep N(m, Sigma), reversible or not.

With S = Sigma^{-1}, D symmetric positive semi-definite and J antisymmetric,

    dX = -(D + J) S (X - m) dt + (2 D)^{1/2} dW.

B = (D + J) S solves B Sigma + Sigma B^T = 2 D, so the law is stationary whatever J; for J = 0 the process is reversible, and run backwards in time from N(m, Sigma) it is the
same process with -J. As a process from data to noise it forgets the data at the rates of B (see `ensembletheory.nonreversible`), and N(m, Sigma) is the noise.
Source: Hwang, Hwang-Ma & Sheu (1993).
"""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import Covariance, Dense, as_covariance
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import sqrtm, transition
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.homogeneous import HomogeneousProcess

__all__ = ["SkewOrnsteinUhlenbeck"]


class SkewOrnsteinUhlenbeck(HomogeneousProcess):
    """dX = -(D + J) Sigma^{-1} (X - m) dt + (2 D)^{1/2} dW.

    Args:
        target: N(m, Sigma).
        skew: J (d, d), antisymmetric.
        noise: D, as the covariance of a `Gaussian` but possibly singular; None is the identity.
        horizon: the time of the noise.

    Raises:
        ValueError: if the shapes do not agree, J is not antisymmetric or D not symmetric positive semi-definite (beyond rounding), or the horizon is not positive.
    """

    target: Gaussian
    skew: Float[Array, "d d"]
    noise: Float[Array, "d d"]
    A: Float[Array, "d d"]  # the drift matrix -(D + J) S
    root: Float[Array, "d d"]  # the symmetric root of 2 D
    horizon: Float[Array, ""]

    def __init__(self, target: Gaussian, skew: Numbers, noise: Numbers | None = None, horizon: Numbers = 1.0):
        J = as_floats("skew", skew)
        _require_antisymmetric("skew", J, target.dim)
        self.target, self.horizon = target, positive("horizon", horizon)
        self.skew, self.noise, self.A, self.root = _matrices(target, J, as_covariance("noise", 1.0 if noise is None else noise, target.dim))

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.target.dim

    def expected(self, dim: int) -> str | None:
        """The dimension of the process, if it is another."""
        return None if dim == self.dim else f"dimension {self.dim}, that of the process"

    def drift(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector -(D + J) S (x - m)."""
        return self.A @ (x - self.target.mean)

    def spread(self, t: Float[Array, ""], y: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector 2 D y."""
        return 2 * self.noise @ y

    def disturbance(self, t: Float[Array, ""], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """The symmetric root of 2 D, times z."""
        return self.root @ z

    def transition(self, h: Float[Array, ""], dim: int) -> AffineKernel:
        """N(m + E (x - m), W)."""
        E, W = transition(self.A, 2 * self.noise, h)
        return AffineKernel(E, self.target.mean - E @ self.target.mean, Dense(W))

    def reversed(self) -> "SkewOrnsteinUhlenbeck":
        """The process with -J: this one, from N(m, Sigma), run backwards in time."""
        return SkewOrnsteinUhlenbeck(self.target, -self.skew, self.noise, self.horizon)


def _require_antisymmetric(argument: str, J: Float[Array, "..."], dim: int) -> None:
    if J.shape != (dim, dim):
        refuse(argument, f"shape {J.shape}", f"({dim}, {dim})", "One row and one column a coordinate of the target.")
    if is_concrete(J):
        values = np.asarray(J)
        defect = np.max(np.abs(values + values.T))
        if defect > 16 * dim * np.finfo(values.dtype).eps * np.max(np.abs(values)):
            refuse(argument, f"a matrix that differs from -J^T by {defect:.3g}", "an antisymmetric matrix", "Take (J - J^T) / 2; a symmetric part belongs to `noise`.")


@eqx.filter_jit
def _matrices(target: Gaussian, J: Float[Array, "d d"], noise: Covariance) -> tuple[Array, Array, Array, Array]:
    """J, D, the drift matrix -(D + J) S and the symmetric root of 2 D."""
    skew, D = (J - J.T) / 2, noise.as_matrix()
    return skew, D, -jax.vmap(target.covariance.solve)(D + skew), sqrtm(2 * D)
