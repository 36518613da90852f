r"""How much evidence Gaussian Hamiltonian flows and linear encoders leave on the table: the ELBO deficit, in nats, and how it falls with the number of leapfrog steps.

For data of law P, a flow whose positions have the law Q, and an encoder f(p | q), the mean of log P(q) - ELBO(q) over the data is

    deficit = KL(P || Q) + E_P KL( f(.|q) || p(.|q) ) = divergence + gap.

With everything Gaussian, f = N(V q + v, F) and p(.|q) = N(W q + u, G),

    gap = 1/2 [ tr G^{-1} F - d - log det G^{-1} F + E_P |G^{-1/2} ((V - W) q + v - u)|^2 ];

on one mode G = 1 / sigma_L^2 and W = (T C + B T) / sigma_L^2 for the matrix [[T, B], [C, T]] of the steps, from N(0, I).

**Trained for its steps**, a flow of L steps, c = h / m, has deficit 0 for every deviation from `least_deviation(c, L)` on, and below it 1/2 [r - 1 - log r] with
r = (sigma / least)^2.

**Solved first and discretised then**: the quarter turn (m = 1, k = 1 / sigma^2, T = pi sigma / 2) in L steps has w h = pi / 2L on every mode, and

    sigma_L^2 / sigma^2 - 1 = pi^2 / (16 L^2) + O(L^{-4}),     KL(N(0, sigma^2) || N(0, sigma_L^2)) = pi^4 / (1024 L^4) + O(L^{-6}).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ensembletheory.divergences import kl
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.hamiltonian.flow import HamiltonianFlow
from ensembletheory.hamiltonian.leapfrog import chebyshev, counted
from ensembletheory.hamiltonian.reach import least_deviation
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import logdet, solve_spd

__all__ = ["LEADING_CONSTANT", "Deficit", "continuous_encoder", "discretised_divergence", "elbo_deficit", "trained_deficit"]

LEADING_CONSTANT = np.pi**4 / 1024  # of KL = LEADING_CONSTANT / L^4 + O(L^{-6})


class Deficit(eqx.Module):
    """What the evidence lower bound of a flow misses on average: the divergence of the model from the data, and the gap of the encoder from the posterior."""

    divergence: Estimate
    gap: Estimate

    @property
    def total(self) -> Estimate:
        """Divergence and gap together."""
        return self.divergence + self.gap


def elbo_deficit(data: Gaussian, flow: HamiltonianFlow, encoder: AffineKernel) -> Deficit:
    """The ELBO deficit of a flow of Gaussian joint law with a linear Gaussian encoder q -> law of p, on Gaussian data.

    Raises:
        ValueError: if data, flow and encoder have different dimensions, or the steps are not affine.
        TypeError: if the prior is not Gaussian.
    """
    if data.dim != flow.dim or encoder.A.shape != (flow.dim, flow.dim):
        got = f"dimension {data.dim}, with an encoder {encoder.A.shape}"
        refuse("data, encoder", got, f"dimension {flow.dim}, that of the positions", "The encoder gives p, as many as q.")
    model = flow.law()
    assert isinstance(model, Gaussian)
    return Deficit(kl(data, model), closed_form(_gap(data, encoder, flow.posterior())))


@eqx.filter_jit
def _gap(data: Gaussian, encoder: AffineKernel, posterior: AffineKernel) -> Float[Array, ""]:
    F, G = encoder.C.as_matrix(), posterior.C.as_matrix()
    slope, shift = encoder.A - posterior.A, encoder.b - posterior.b
    off = slope @ data.mean + shift
    squares = slope @ data.cov @ slope.T + off[:, None] * off[None, :]
    return (jnp.trace(solve_spd(G, F + squares)) - data.dim + logdet(G) - logdet(F)) / 2


def continuous_encoder(target: Gaussian) -> AffineKernel:
    """The posterior q -> N(0, S^{-1}) of the momenta after the exact quarter turn to N(m, S), which shears nothing."""
    return _continuous_encoder(target)


@eqx.filter_jit
def _continuous_encoder(target: Gaussian) -> AffineKernel:
    zero = jnp.zeros_like(target.mean)
    return AffineKernel(zero[:, None] * zero[None, :], zero, solve_spd(target.cov, jnp.eye(target.dim, dtype=zero.dtype)))


def discretised_divergence(deviation: Numbers, steps: ArrayLike) -> Estimate:
    """KL(N(0, sigma^2) || N(0, sigma_L^2)) of the quarter turn with unit mass in L leapfrog steps; arrays broadcast.

    Raises:
        ValueError: if a deviation is not positive, or a number of steps is no integer, or less than 1.
    """
    sigma = as_floats("deviation", deviation)
    if is_concrete(sigma) and not np.all(np.asarray(sigma) > 0):
        refuse("deviation", f"{float(np.min(np.asarray(sigma))):.6g}", "positive deviations", "Data of deviation 0 have no density.")
    count = counted(steps)
    shape = jnp.broadcast_shapes(sigma.shape, count.shape)
    return closed_form(_discretised(jnp.broadcast_to(sigma, shape), jnp.broadcast_to(count, shape)))


@jax.jit
def _discretised(sigma: Float[Array, "..."], steps: Int[Array, "..."]) -> Float[Array, "..."]:
    half = jnp.pi / (4 * steps.astype(sigma.dtype))  # w h / 2
    T, U = chebyshev(half**2, steps)
    excess = sigma**2 / (T**2 + (2 * half * sigma * U) ** 2) - 1
    return (excess - jnp.log1p(excess)) / 2


def trained_deficit(deviation: float, c: float, steps: int) -> Estimate:
    """The least ELBO deficit of `steps` leapfrog steps of c = step / mass, over all stiffnesses and linear encoders, for data N(0, sigma^2)."""
    ratio = min(deviation / least_deviation(c, steps), 1.0) ** 2
    return closed_form((ratio - 1 - np.log(ratio)) / 2)
