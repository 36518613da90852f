r"""Affine Gaussian kernels: x -> N(A x + b, C).

For a Gaussian law N(m, P) of x:
 - push:    y ~ N(A m + b, A P A^T + C);
 - invert:  x | y ~ N(m + G (y - A m - b), (I - G A) P (I - G A)^T + G C G^T),  G = P A^T (A P A^T + C)^{-1}
   (Bayes, in Joseph's form, which stays symmetric and positive);
 - after:   (A2, b2, C2) after (A1, b1, C1) = (A2 A1, A2 b1 + b2, A2 C1 A2^T + C2).
A mixture is pushed component by component. C may be singular (C = 0 is a deterministic map).
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned, Covariance, Dense, Diagonal, Isotropic, as_covariance
from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.law import checked_affine
from ensembletheory.laws.mixture import with_components
from ensembletheory.linalg import solve_spd, symmetrised

__all__ = ["AffineKernel", "DiagonalKernel", "along_axes"]


class AffineKernel(eqx.Module):
    """The kernel x -> N(A x + b, C) from R^d to R^k.

    Args:
        A: (k, d).
        b: (k,).
        C: (k, k) array, (k,) diagonal, a scalar or a `Covariance`; positive semi-definite.

    Raises:
        ValueError: if the shapes do not agree, a value is not finite, or C is not symmetric positive semi-definite.
    """

    A: Float[Array, "k d"]
    b: Float[Array, " k"]
    C: Covariance

    def __init__(self, A: Numbers, b: Numbers, C: Covariance | Numbers):
        matrix = as_floats("A", A)
        if matrix.ndim != 2:
            refuse("A", f"shape {matrix.shape}", "a matrix (k, d)", "One row a coordinate of the output.")
        self.A, self.b = checked_affine(matrix, b, matrix.shape[1])
        self.C = as_covariance("C", C, matrix.shape[0])

    def at(self, x: Float[Array, " d"]) -> Gaussian:
        """The law N(A x + b, C) of the output at one point."""
        return Gaussian(self.A @ x + self.b, self.C)

    def push(self, law: Law) -> Law:
        """The law of the output when the input has `law`, a Gaussian or a Gaussian mixture.

        Raises:
            ValueError: if the law's dimension is not the kernel's.
            TypeError: if the law is of another kind.
        """
        _require_input(self, law)
        if isinstance(law, Gaussian | GaussianMixture):
            return _push(self, law)
        raise TypeError(f"`law`: got {type(law).__name__}; expected Gaussian or GaussianMixture, which affine kernels keep. Sample it instead.")

    def after(self, first: "AffineKernel") -> "AffineKernel":
        """This kernel applied to the output of `first`.

        Raises:
            ValueError: if the output of `first` has another dimension than the input of this kernel.
        """
        if first.A.shape[0] != self.A.shape[1]:
            refuse("first", f"output dimension {first.A.shape[0]}", f"{self.A.shape[1]}", "a.after(b) applies b first.")
        return _after(self, first)

    def invert(self, prior: Gaussian) -> "AffineKernel":
        """Bayes: the kernel y -> law of x given y, when x ~ prior.

        Raises:
            ValueError: if the prior's dimension is not the kernel's.
        """
        _require_input(self, prior)
        return _invert(self, prior)

    @staticmethod
    def scaling(factor: Float[Array, ""], variance: Float[Array, ""], dim: int) -> "AffineKernel":
        """X -> N(factor x, variance I) on R^dim."""
        return AffineKernel(factor * jnp.eye(dim), jnp.zeros(dim), Isotropic(variance, dim))


class DiagonalKernel(eqx.Module):
    """The kernel x -> N(a x + b, C) on R^d with a product coordinate by coordinate and C diagonal: as AffineKernel(diag(a), b, C), in O(d)."""

    a: Float[Array, " d"]
    b: Float[Array, " d"]
    C: Diagonal

    def push(self, law: Law) -> Law:
        """The law of the output when the input is a Gaussian or a mixture of covariances along the axes.

        Raises:
            ValueError: if the output of a Gaussian has no density.
            TypeError: if the law is of another kind.
        """
        if isinstance(law, Gaussian | GaussianMixture) and along_axes(law):
            pushed = _push_along_axes(self, law)
            return Gaussian(pushed.mean, pushed.covariance) if isinstance(pushed, Gaussian) else pushed  # which looks at what compiled code cannot
        raise TypeError(f"`law`: got {type(law).__name__}; expected a Gaussian or a mixture with covariances along the axes. Use the AffineKernel with diag(a).")

    def after(self, first: "DiagonalKernel") -> "DiagonalKernel":
        """This kernel applied to the output of `first`."""
        return DiagonalKernel(self.a * first.a, self.a * first.b + self.b, Diagonal(self.a**2 * first.C.variances + self.C.variances))


def along_axes(law: Law) -> bool:
    """Whether the law is a Gaussian or a mixture whose covariances are diagonal."""
    if isinstance(law, GaussianMixture):
        return along_axes(law.components)
    return isinstance(law, Gaussian) and isinstance(law.covariance, AxisAligned)


@eqx.filter_jit
def _push(kernel: AffineKernel, law: Gaussian | GaussianMixture) -> Gaussian | GaussianMixture:
    return with_components(law, lambda component: Gaussian(kernel.A @ component.mean + kernel.b, component.covariance.congruence(kernel.A) + kernel.C))


@eqx.filter_jit
def _push_along_axes(kernel: DiagonalKernel, law: Gaussian | GaussianMixture) -> Gaussian | GaussianMixture:
    return with_components(law, lambda one: Gaussian(kernel.a * one.mean + kernel.b, Diagonal(kernel.a**2 * one.covariance.diagonal()) + kernel.C))


@eqx.filter_jit
def _after(second: AffineKernel, first: AffineKernel) -> AffineKernel:
    return AffineKernel(second.A @ first.A, second.A @ first.b + second.b, first.C.congruence(second.A) + second.C)


@eqx.filter_jit
def _invert(kernel: AffineKernel, prior: Gaussian) -> AffineKernel:
    A, C, P = kernel.A, kernel.C.as_matrix(), prior.cov
    G = solve_spd(symmetrised(A @ P @ A.T) + C, A @ P).T
    remainder = jnp.eye(prior.dim, dtype=P.dtype) - G @ A
    posterior = Dense(symmetrised(remainder @ P @ remainder.T + G @ C @ G.T))
    return AffineKernel(G, prior.mean - G @ (A @ prior.mean + kernel.b), posterior)


def _require_input(kernel: AffineKernel, law: Law) -> None:
    if law.dim != kernel.A.shape[1]:
        refuse("law", f"dimension {law.dim}", f"dimension {kernel.A.shape[1]}, that of the kernel's input", "Give the kernel and the law the same dimension.")
