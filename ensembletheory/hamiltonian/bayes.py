r"""Fitting a Hamiltonian flow to an unnormalised target by the reverse KL divergence on phase space.

With a prior pi_0 on phase space, (q, p) = Phi(z), an unnormalised density pi~ = Z pi of the positions and an encoder f(p | q), which makes pi f a target on phase space,
volume preservation leaves no Jacobian in

    L = E_{z ~ pi_0} [ log pi~(q) + log f(p | q) - log pi_0(z) ] = log Z - KL( law of (q, p) || pi f ) <= log Z.

**Quadratic case.** Linear flows of N(0, I), Gaussian target N(m, S) and linear encoders: KL between Gaussians. A full encoder reaches 0 with S_m = S; a mean-field
encoder is best with the mean W (q - m) and the variances (S_m^{-1})_ii of the posterior, and its optimum is biased (`hamiltonian.mean_field`).

**Otherwise** the expectation is taken by Gauss-Hermite quadrature in the 2d coordinates of z, for priors N(m, S); the error is the change from a rule of two nodes less
an axis. `fit_reverse_kl` minimises it over a small family: V quadratic plus ridges a_j log cosh(w_j . q + c_j), a fixed kinetic energy with a learned mass, and encoders
whose means are affine plus the same kind of ridges. For posteriors of two parameters `GridLaw` gives the truth by quadrature. Sources: Souveton et al. (2024) for the
model.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import minimize

from ensembletheory.covariance import Dense, Diagonal
from ensembletheory.divergences import kl
from ensembletheory.errors import Numbers, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.hamiltonian.flow import HamiltonianFlow
from ensembletheory.hamiltonian.mean_field import mean_field_reverse_model, moment_encoder
from ensembletheory.hamiltonian.one_step import one_step_gaussian
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian, Law, standard_normal
from ensembletheory.processes import SeparableHamiltonian
from ensembletheory.processes.hamiltonian import QuadraticEnergy

__all__ = [
    "BayesianFlow",
    "QuadraticFit",
    "RidgeEncoder",
    "RidgePotential",
    "evidence_bound",
    "extended_target",
    "fit_reverse_kl",
    "position_moments",
    "quadratic_fit",
    "reverse_kl",
]

LogDensity = Callable[[Float[Array, " d"]], Float[Array, ""]]
Encoder = AffineKernel | Callable[[Float[Array, " d"]], Law]
_MOST_STEPS = 400


def extended_target(target: Gaussian, encoder: AffineKernel) -> Gaussian:
    """The law of (q, p) with q ~ target and p | q ~ encoder.

    Raises:
        ValueError: if the encoder's input has another dimension than the target.
    """
    if encoder.A.shape[1] != target.dim:
        refuse("encoder", f"an input of dimension {encoder.A.shape[1]}", f"dimension {target.dim}, that of the target", "It maps positions to momenta.")
    return _extended(target, encoder)


def reverse_kl(flow: HamiltonianFlow, target: Law, encoder: Encoder, order: int = 8) -> Estimate:
    """KL(law of (q, p) || target x encoder): closed form where all is affine and Gaussian, else by Gauss-Hermite quadrature with `order` nodes an axis.

    Raises:
        ValueError: if dimensions differ, or `order` is below 4.
        TypeError: if the prior is not Gaussian.
    """
    if isinstance(target, Gaussian) and isinstance(encoder, AffineKernel) and isinstance(flow.prior, Gaussian) and not isinstance(flow.hamiltonian, SeparableHamiltonian):
        joint = flow.joint()
        assert isinstance(joint, Gaussian)
        return kl(joint, extended_target(target, encoder))
    return -evidence_bound(flow, target._log_prob, encoder, order)


def evidence_bound(flow: HamiltonianFlow, log_target: LogDensity, encoder: Encoder, order: int = 8) -> Estimate:
    """The lower bound L on log Z of an unnormalised log-density, by Gauss-Hermite quadrature with `order` nodes an axis.

    Raises:
        ValueError: if `order` is below 4.
        TypeError: if the prior is not Gaussian.
    """
    if order < 4:
        refuse("order", str(order), "at least 4", "The error compares with two nodes less.")
    fine, coarse = (_bound(flow, log_target, encoder, *_nodes(flow.prior, n)) for n in (order, order - 2))
    return Estimate(fine, jnp.abs(fine - coarse), "quadrature")


def position_moments(flow: HamiltonianFlow, order: int = 8) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Mean and covariance of the positions, by Gauss-Hermite quadrature with `order` nodes an axis.

    Raises:
        TypeError: if the prior is not Gaussian.
    """
    return _moments(flow, *_nodes(flow.prior, order))


class QuadraticFit(eqx.Module):
    """The flow that the reverse KL divergence fits to a Gaussian, its encoder, and the divergence that is left."""

    flow: HamiltonianFlow
    encoder: AffineKernel
    divergence: Estimate


def quadratic_fit(target: Gaussian, step: Numbers, mass: Numbers = 1.0, mean_field: bool = False) -> QuadraticFit:
    """The optimum over linear flows and affine encoders, in closed form, as one leapfrog step from N(m, I) x N(0, I).

    Args:
        target: N(m, S).
        step: h, the horizon.
        mass: m, a number; h / m must not exceed the least standard deviation of the fitted law.
        mean_field: whether the encoder's covariance is diagonal.

    Raises:
        ValueError: if one step does not reach the fitted law.
    """
    model = mean_field_reverse_model(target) if mean_field else target
    prior = Gaussian(jnp.concatenate([model.mean, jnp.zeros(model.dim)]), 1.0)
    flow = HamiltonianFlow(one_step_gaussian(model, step, mass), prior, 1)
    joint = flow.joint()
    assert isinstance(joint, Gaussian)
    encoder = moment_encoder(joint) if mean_field else flow.posterior()
    return QuadraticFit(flow, encoder, kl(joint, extended_target(target, encoder)))


class RidgePotential(eqx.Module):
    """V(q) = b . q + 1/2 q^T K q + sum_j a_j log cosh(w_j . q + c_j), K the symmetric part of `stiffness`."""

    offset: Float[Array, " d"]
    stiffness: Float[Array, "d d"]
    heights: Float[Array, " r"]
    directions: Float[Array, "r d"]
    shifts: Float[Array, " r"]

    def __call__(self, q: Float[Array, " d"]) -> Float[Array, ""]:
        """V at one point."""
        u = self.directions @ q + self.shifts
        return self.offset @ q + q @ self.stiffness @ q / 2 + self.heights @ (jnp.logaddexp(u, -u) - np.log(2))


class RidgeEncoder(eqx.Module):
    """p | q ~ N( b + W q + sum_j u_j tanh(w_j . q + c_j), L L^T ), L lower triangular with positive diagonal exp(log_widths); diagonal where `below` is None."""

    offset: Float[Array, " d"]
    slope: Float[Array, "d d"]
    heights: Float[Array, "d r"]
    directions: Float[Array, "r d"]
    shifts: Float[Array, " r"]
    log_widths: Float[Array, " d"]
    below: Float[Array, "d d"] | None

    def __call__(self, q: Float[Array, " d"]) -> Gaussian:
        """The law of p at one q."""
        mean = self.offset + self.slope @ q + self.heights @ jnp.tanh(self.directions @ q + self.shifts)
        if self.below is None:
            return Gaussian(mean, Diagonal(jnp.exp(2 * self.log_widths)))
        L = jnp.tril(self.below, -1) + jnp.diag(jnp.exp(self.log_widths))
        return Gaussian(mean, Dense(L @ L.T))


class BayesianFlow(eqx.Module):
    """A potential and a mass of the small family, with an encoder; `flow` pushes N(0, I) by leapfrog steps over a horizon of 1, which fixes the gauge of time and energy."""

    potential: RidgePotential
    log_mass: Float[Array, ""]
    encoder: RidgeEncoder
    steps: int = eqx.field(static=True)

    @property
    def flow(self) -> HamiltonianFlow:
        """The flow."""
        d = len(self.potential.offset)
        H = SeparableHamiltonian(self.potential, QuadraticEnergy(jnp.exp(-self.log_mass) * jnp.eye(d), jnp.zeros(d)))
        return HamiltonianFlow(H, standard_normal(2 * d), self.steps)


def fit_reverse_kl(log_target: LogDensity, dim: int, key: PRNGKeyArray, ridges: int = 2, steps: int = 2, mean_field: bool = False, order: int = 7) -> BayesianFlow:
    """The flow of the small family that maximises the evidence bound, by BFGS from a random start.

    Args:
        log_target: a pytree that maps a point (d,) to its unnormalised log-density.
        dim: d.
        key: of the start.
        ridges: how many, in the potential and in the encoder.
        steps: leapfrog steps.
        mean_field: whether the encoder's covariance is diagonal.
        order: Gauss-Hermite nodes an axis of the 2d axes.

    Raises:
        ValueError: if the bound is not finite.
    """
    start = _start(dim, key, ridges, steps, mean_field)
    found, loss = _fitted(start, log_target, *_nodes(standard_normal(2 * dim), order))
    if not np.isfinite(loss):
        refuse("log_target", "a bound that is not finite", "finite log-densities where the flow begins", "Give a density that is positive everywhere.")
    return found


def _start(dim: int, key: PRNGKeyArray, ridges: int, steps: int, mean_field: bool) -> BayesianFlow:
    """Ridges of small random heights in random directions, nothing else, and a mass of 1."""
    keys = jax.random.split(key, 4)
    directions, shifts = jax.random.normal(keys[0], (2, ridges, dim)), jax.random.normal(keys[1], (2, ridges))
    potential = RidgePotential(jnp.zeros(dim), jnp.zeros((dim, dim)), 0.1 * jax.random.normal(keys[2], (ridges,)), directions[0], shifts[0])
    below = None if mean_field else jnp.zeros((dim, dim))
    heights = 0.1 * jax.random.normal(keys[3], (dim, ridges))
    encoder = RidgeEncoder(jnp.zeros(dim), jnp.zeros((dim, dim)), heights, directions[1], shifts[1], jnp.zeros(dim), below)
    return BayesianFlow(potential, jnp.zeros(()), encoder, steps)


def _nodes(prior: Law, order: int) -> tuple[Float[Array, "n m"], Float[Array, " n"]]:
    """Gauss-Hermite nodes (order^m, m) and weights of a Gaussian on R^m."""
    if not isinstance(prior, Gaussian):
        raise TypeError(f"`prior`: got {type(prior).__name__}; expected Gaussian, for which the quadrature is made. Sample instead.")
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    grid = np.stack(np.meshgrid(*[nodes] * prior.dim, indexing="ij"), axis=-1).reshape(-1, prior.dim)
    product = np.prod(np.stack(np.meshgrid(*[weights / np.sqrt(2 * np.pi)] * prior.dim, indexing="ij"), axis=-1), axis=-1).ravel()
    return _placed(prior, jnp.asarray(grid)), jnp.asarray(product)


@eqx.filter_jit
def _placed(prior: Gaussian, grid: Float[Array, "n m"]) -> Float[Array, "n m"]:
    return prior.mean[None, :] + grid @ prior.covariance.factor().T


@eqx.filter_jit
def _extended(target: Gaussian, encoder: AffineKernel) -> Gaussian:
    S, A = target.cov, encoder.A
    return Gaussian(jnp.concatenate([target.mean, A @ target.mean + encoder.b]), Dense(jnp.block([[S, S @ A.T], [A @ S, A @ S @ A.T + encoder.C.as_matrix()]])))


def _loss(flow: HamiltonianFlow, log_target: LogDensity, encoder: Any, nodes: Float[Array, "n m"], weights: Float[Array, " n"]) -> Float[Array, ""]:
    ends, at = flow.generate(nodes), encoder.at if isinstance(encoder, AffineKernel) else encoder

    def terms(z: Float[Array, " m"], end: Float[Array, " m"]) -> Float[Array, ""]:
        q, p = end[: flow.dim], end[flow.dim :]
        return flow.prior._log_prob(z) - log_target(q) - at(q)._log_prob(p)

    return weights @ jax.vmap(terms)(nodes, ends)


@eqx.filter_jit
def _bound(flow: HamiltonianFlow, log_target: LogDensity, encoder: Encoder, nodes: Float[Array, "n m"], weights: Float[Array, " n"]) -> Float[Array, ""]:
    return -_loss(flow, log_target, encoder, nodes, weights)


@eqx.filter_jit
def _moments(flow: HamiltonianFlow, nodes: Float[Array, "n m"], weights: Float[Array, " n"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    q = flow.generate(nodes)[:, : flow.dim]
    mean = weights @ q
    return mean, (weights[:, None] * (q - mean[None, :])).T @ (q - mean[None, :])


def _fitted(start: BayesianFlow, log_target: LogDensity, nodes: Float[Array, "n m"], weights: Float[Array, " n"]) -> tuple[BayesianFlow, float]:
    """The end of a descent, and the loss there; one program gives value and slope, which is what takes time to compile."""
    numbers, rest = eqx.partition(start, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(numbers)

    def slope(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _with_slope(jnp.asarray(x, flat.dtype), Partial(unravel), rest, log_target, nodes, weights)
        return float(value), np.asarray(gradient, dtype=float)

    found = minimize(slope, np.asarray(flat, dtype=float), jac=True, method="BFGS", options={"maxiter": _MOST_STEPS})
    return eqx.combine(unravel(jnp.asarray(found.x, flat.dtype)), rest), float(found.fun)


@eqx.filter_jit
def _with_slope(flat: Float[Array, " k"], unravel: Callable[[Array], Any], rest: Any, log_target: LogDensity, nodes: Float[Array, "n m"], weights: Float[Array, " n"]):
    def loss(flat: Float[Array, " k"]) -> Float[Array, ""]:
        model = eqx.combine(unravel(flat), rest)
        return _loss(model.flow, log_target, model.encoder, nodes, weights)

    return jax.value_and_grad(loss)(flat)
