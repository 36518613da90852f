r"""Probabilistic principal component analysis, which is the linear VAE's generative model.

    z ~ N(0, I_q),   x | z ~ N(W z + mu, s2 I_d),   hence   x ~ N(mu, W W^T + s2 I),   z | x ~ N(M^{-1} W^T (x - mu), s2 M^{-1}),   M = W^T W + s2 I_q.

(Tipping & Bishop 1999.) A linear-Gaussian encoder is an `AffineKernel` x -> N(V x + v, D). With e the encoder's law at x, mean m(x) and covariance D,

    ELBO(x) = log N(x; W m(x) + mu, s2 I) - tr(W^T W D) / (2 s2) - KL( N(m(x), D) || N(0, I) )  =  log p(x) - KL( e || z | x ).

Among encoders with diagonal covariance the best one has m the posterior mean and D_jj = s2 / M_jj; its gap is the same for every x, the Hadamard deficit

    log p(x) - ELBO(x) = 1/2 ( sum_j log M_jj - log det M )  >= 0,   zero if and only if the columns of W are orthogonal

(Lucas et al. 2019 for the setting; the formula is derived here: KL between Gaussians of equal mean with D^{-1} = diag(M / s2), and Hadamard's inequality.)
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import Diagonal, Isotropic, LowRankPlusDiagonal
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent.model import LatentModel
from ensembletheory.laws import Gaussian, standard_normal
from ensembletheory.laws.law import checked_point
from ensembletheory.linalg import logdet, solve_spd, symmetrised

__all__ = ["Ppca", "best_diagonal_encoder", "elbo", "hadamard_gap"]


class Ppca(LatentModel):
    """x = W z + mu + noise: loadings W (d, q), mean mu (d,), noise_variance s2 > 0.

    Raises:
        ValueError: if the shapes do not agree, a value is not finite, or the noise variance is not positive.
    """

    loadings: Float[Array, "d q"]
    mean: Float[Array, " d"]
    noise_variance: Float[Array, ""]

    def __init__(self, loadings: Numbers, mean: Numbers, noise_variance: Numbers):
        self.loadings, self.mean = as_floats("loadings", loadings), as_floats("mean", mean)
        self.noise_variance = as_floats("noise_variance", noise_variance)
        if self.loadings.ndim != 2 or self.mean.shape != self.loadings.shape[:1] or self.noise_variance.ndim:
            got = f"shapes {self.loadings.shape}, {self.mean.shape}, {self.noise_variance.shape}"
            refuse("loadings, mean, noise_variance", got, "(d, q), (d,) and a scalar", "One row of the loadings a coordinate of x.")
        if is_concrete(self.noise_variance) and self.noise_variance <= 0:
            refuse("noise_variance", f"{float(self.noise_variance):.6g}", "a positive number", "Pass a variance, not its logarithm.")

    @property
    def dim(self) -> int:
        """The dimension d of x."""
        return self.loadings.shape[0]

    @property
    def prior(self) -> Gaussian:
        """The law N(0, I_q) of z."""
        return standard_normal(self.loadings.shape[1])

    @property
    def decoder(self) -> AffineKernel:
        """The kernel z -> x."""
        return AffineKernel(self.loadings, self.mean, Isotropic(self.noise_variance, self.dim))

    @property
    def law(self) -> Gaussian:
        """The law N(mu, W W^T + s2 I) of x."""
        return _law(self)

    @property
    def M(self) -> Float[Array, "q q"]:
        """W^T W + s2 I."""
        return symmetrised(self.loadings.T @ self.loadings) + self.noise_variance * jnp.eye(self.loadings.shape[1])

    @property
    def posterior(self) -> AffineKernel:
        """The exact encoder x -> z | x."""
        return _posterior(self)


@eqx.filter_jit
def _law(model: Ppca) -> Gaussian:
    return Gaussian(model.mean, LowRankPlusDiagonal(model.loadings, jnp.full((model.dim,), model.noise_variance)))


@eqx.filter_jit
def _posterior(model: Ppca) -> AffineKernel:
    V = solve_spd(model.M, model.loadings.T)
    return AffineKernel(V, -V @ model.mean, model.noise_variance * symmetrised(solve_spd(model.M, jnp.eye(model.M.shape[0]))))


def elbo(model: Ppca, encoder: AffineKernel, x: Numbers) -> Float[Array, "..."]:
    """The evidence lower bound in nats at x (..., d) of any linear-Gaussian encoder x -> z.

    Raises:
        ValueError: if the encoder does not map R^d to R^q, or its covariance is singular.
    """
    if encoder.A.shape != model.loadings.shape[::-1]:
        refuse("encoder", f"a kernel of shape {encoder.A.shape}", f"{model.loadings.shape[::-1]}", "An encoder maps x to z.")
    return _elbo(model, encoder, checked_point("x", x, model.dim))


@eqx.filter_jit
def _elbo(model: Ppca, encoder: AffineKernel, x: Float[Array, "... d"]) -> Float[Array, "..."]:
    W, s2, D = model.loadings, model.noise_variance, encoder.C
    d, q = W.shape

    def at(point):
        m = encoder.A @ point + encoder.b
        residual = point - W @ m - model.mean
        reconstruction = -0.5 * (d * jnp.log(2 * np.pi * s2) + (residual @ residual + jnp.trace(W.T @ W @ D.as_matrix())) / s2)
        return reconstruction - 0.5 * (D.trace() + m @ m - q - D.logdet())

    return jnp.vectorize(at, signature="(d)->()")(x)


def best_diagonal_encoder(model: Ppca) -> AffineKernel:
    """The encoder of largest ELBO among those with diagonal covariance: the posterior mean, variances s2 / M_jj."""
    exact = model.posterior
    return AffineKernel(exact.A, exact.b, Diagonal(model.noise_variance / jnp.diagonal(model.M)))


@eqx.filter_jit
def hadamard_gap(model: Ppca) -> Float[Array, ""]:
    """Log p(x) - ELBO(x) in nats at the best diagonal encoder, for every x: 1/2 (sum_j log M_jj - log det M)."""
    return 0.5 * (jnp.sum(jnp.log(jnp.diagonal(model.M))) - logdet(model.M))
