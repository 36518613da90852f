r"""What a mean-field encoder of the momenta costs, and the bias it gives the model.

A linear Hamiltonian flow of N(0, I) whose positions have covariance S_m leaves the momenta p | q ~ N(W (q - mean), S_m^{-1}), W symmetric, whatever the flow. The best
encoder N(mu(q), diagonal) therefore has mu(q) = W (q - mean) and the variances 1 / (S_m)_ii, and misses the posterior by the total correlation of the model,

    gap(S_m) = 1/2 ( sum_i log (S_m)_ii - log det S_m ),
    ELBO deficit = KL( N(0, S) || N(0, S_m) ) + gap(S_m) = 1/2 ( tr S_m^{-1} S - d + sum_i log (S_m)_ii - log det S ).

**The optimum is biased.** Write S_m = D^{1/2} R D^{1/2}, R a correlation matrix. The deficit is stationary where S = D^{1/2} R^2 D^{1/2}, that is S_m = D # S (the
geometric mean) with D = diag(S_m): a fixed point of D <- diag(D # S), which halves Thompson's distance max_i |log D_i - log D'_i| at every step, since X # S does and the
diagonal of a matrix is monotone and homogeneous. So there is one optimum, found from anywhere. Its variances are at most those of the data, S_ii = D_i (R^2)_ii >= D_i.
For two coordinates of correlation rho the model's correlation is tan(asin(rho) / 2).

**Reverse KL** (Bayesian fitting) has the same gap with p and q changing parts: a mean-field encoder of target N(m, S) has 1/2 ( tr S^{-1} S_m - d + log det S + sum_i log
(S_m^{-1})_ii ), so that the optimal precision is the forward optimum of the precision S^{-1}.

Derived here, for the encoder of Toth et al. (2020) and Souveton et al. (2024).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import Diagonal
from ensembletheory.divergences import kl
from ensembletheory.errors import refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import logdet, sqrtm, symmetrised

__all__ = [
    "diagonal_encoder",
    "encoder_gap",
    "mean_field_deficit",
    "mean_field_model",
    "mean_field_reverse_deficit",
    "mean_field_reverse_model",
    "moment_encoder",
    "reverse_encoder_gap",
]

_MOST_ITERATIONS = 120  # each halves the distance of the logarithms


def diagonal_encoder(joint: Gaussian) -> AffineKernel:
    """The kernel q -> N(mu(q), diagonal) nearest to the posterior of the second half of the coordinates (p) given the first (q), in KL(encoder || posterior).

    Raises:
        ValueError: if the number of coordinates is odd.
    """
    _half(joint)
    return _encoder(joint, False)


def moment_encoder(joint: Gaussian) -> AffineKernel:
    """As `diagonal_encoder`, nearest in KL(posterior || encoder): with the variances of the posterior itself.

    Raises:
        ValueError: if the number of coordinates is odd.
    """
    _half(joint)
    return _encoder(joint, True)


def encoder_gap(model: Gaussian) -> Estimate:
    """KL(encoder || posterior) of the best mean-field encoder of a linear Hamiltonian flow whose positions have the law `model`: the total correlation of `model`."""
    return closed_form(_gap(model.cov))


def reverse_encoder_gap(model: Gaussian) -> Estimate:
    """KL(posterior || encoder), at its least over mean-field encoders, of a linear Hamiltonian flow whose positions have the law `model`."""
    return closed_form(_reverse_gap(model.cov))


def mean_field_model(target: Gaussian) -> Gaussian:
    """The law that a linear Hamiltonian flow of N(0, I) samples when flow and mean-field encoder are trained on `target` by the ELBO; see the module."""
    return Gaussian(target.mean, _optimum(target.cov))


def mean_field_reverse_model(target: Gaussian) -> Gaussian:
    """As `mean_field_model`, trained by the reverse KL divergence from an unnormalised `target`."""
    return Gaussian(target.mean, _inverse(_optimum(_inverse(target.cov))))


def mean_field_deficit(target: Gaussian, model: Gaussian | None = None) -> Estimate:
    """By how much E log p - ELBO exceeds 0 with the best mean-field encoder, for a linear Hamiltonian flow that samples `model`; by default the optimum."""
    model = mean_field_model(target) if model is None else model
    return kl(target, model) + encoder_gap(model)


def mean_field_reverse_deficit(target: Gaussian, model: Gaussian | None = None) -> Estimate:
    """The reverse KL divergence on phase space with the best mean-field encoder, for a linear Hamiltonian flow that samples `model`; by default the optimum."""
    model = mean_field_reverse_model(target) if model is None else model
    return kl(model, target) + reverse_encoder_gap(model)


def _half(joint: Gaussian) -> int:
    if joint.dim % 2:
        refuse("joint", f"{joint.dim} coordinates", "positions and as many momenta", "Phase space is z = (q, p).")
    return joint.dim // 2


@eqx.filter_jit
def _encoder(joint: Gaussian, moments: bool) -> AffineKernel:
    d = _half(joint)
    S, precision = joint.cov, _inverse(joint.cov)[d:, d:]
    W = jnp.linalg.solve(S[:d, :d], S[:d, d:]).T
    variances = jnp.diagonal(_inverse(precision)) if moments else 1 / jnp.diagonal(precision)
    return AffineKernel(W, joint.mean[d:] - W @ joint.mean[:d], Diagonal(variances))


@jax.jit
def _gap(S: Float[Array, "d d"]) -> Float[Array, ""]:
    return (jnp.sum(jnp.log(jnp.diagonal(S))) - logdet(S)) / 2


@jax.jit
def _reverse_gap(S: Float[Array, "d d"]) -> Float[Array, ""]:
    return _gap(_inverse(S))


@jax.jit
def _inverse(S: Float[Array, "d d"]) -> Float[Array, "d d"]:
    return symmetrised(jnp.linalg.inv(S))


@jax.jit
def _optimum(S: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The D # S whose diagonal is D; derivatives are those of the equation's solution."""

    def rooted(u: Float[Array, " d"]) -> Float[Array, "d d"]:
        return sqrtm(S * jnp.exp(-(u[:, None] + u[None, :]) / 2))

    def defect(u: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.log(jnp.diagonal(rooted(u)))

    def solve(defect, start):
        rounding = 8 * len(S) * jnp.finfo(S.dtype).eps

        def improve(state):
            u, change, i = state
            change = defect(u)
            return u + change, change, i + 1

        return jax.lax.while_loop(lambda state: (jnp.max(jnp.abs(state[1])) > rounding) & (state[2] < _MOST_ITERATIONS), improve, (start, jnp.ones_like(start), 0))[0]

    u = jax.lax.custom_root(defect, jnp.log(jnp.diagonal(S)), solve, _solve_linear)
    return rooted(u) * jnp.exp((u[:, None] + u[None, :]) / 2)


def _solve_linear(function: Callable[[Array], Array], y: Float[Array, " d"]) -> Float[Array, " d"]:
    """The x with function(x) = y, for a linear function of vectors."""
    return jnp.linalg.solve(jax.jacobian(function)(jnp.zeros_like(y)), y)
