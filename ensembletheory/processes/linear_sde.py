r"""The linear SDE dX = A X dt + G dW with constant matrices: X_{t+h} given X_t is N(E x, W), E = exp(A h) and W Van Loan's Gramian int_0^h exp(A u) G G^T exp(A^T u) du.

G need not be square: G (d, m) acts on m noises, and the symmetric root of G G^T, which is used in its place, on d noises with the same law.
Source: Van Loan (1978).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import Dense
from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.kernels import AffineKernel
from ensembletheory.linalg import sqrtm, transition
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.homogeneous import HomogeneousProcess

__all__ = ["LinearSde"]


class LinearSde(HomogeneousProcess):
    """dX = A X dt + G dW on R^d.

    Args:
        A: (d, d), the drift matrix.
        G: (d, m), the noise matrix.
        horizon: the time of the noise.

    Raises:
        ValueError: if the shapes do not agree, a value is not finite, or the horizon is not positive.
    """

    A: Float[Array, "d d"]
    G: Float[Array, "d d"]  # the symmetric root of what was given, times its transpose
    horizon: Float[Array, ""]

    def __init__(self, A: Numbers, G: Numbers, horizon: Numbers = 1.0):
        self.A, noise = as_floats("A", A), as_floats("G", G)
        if self.A.ndim != 2 or self.A.shape[0] != self.A.shape[1] or self.A.size == 0:
            refuse("A", f"shape {self.A.shape}", "a square matrix (d, d)", "For a scalar drift see OrnsteinUhlenbeck.")
        if noise.ndim != 2 or noise.shape[0] != self.dim:
            refuse("G", f"shape {noise.shape}", f"({self.dim}, m)", "One row a coordinate, one column a noise; for G G^T = Q pass a root of Q.")
        self.G, self.horizon = _root(noise), positive("horizon", horizon)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.A.shape[0]

    def expected(self, dim: int) -> str | None:
        """The dimension of the process, if it is another."""
        return None if dim == self.dim else f"dimension {self.dim}, that of the process"

    def drift(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """A x."""
        return self.A @ x

    def spread(self, t: Float[Array, ""], y: Float[Array, " d"]) -> Float[Array, " d"]:
        """G G^T y."""
        return self.G @ (self.G @ y)

    def disturbance(self, t: Float[Array, ""], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """The symmetric root of G G^T, times z."""
        return self.G @ z

    def transition(self, h: Float[Array, ""], dim: int) -> AffineKernel:
        """N(E x, W)."""
        E, W = transition(self.A, self.G @ self.G, h)
        return AffineKernel(E, jnp.zeros(self.dim), Dense(W))


@jax.jit
def _root(G: Float[Array, "d m"]) -> Float[Array, "d d"]:
    """The symmetric root of G G^T."""
    return sqrtm(G @ G.T)
