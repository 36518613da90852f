r"""The log pool q = prod_k q_k^{w_k} / Z: the normalised geometric mean.

It minimises sum_k w_k KL(q || q_k), whose minimum is -log Z >= 0, and its forward KL gains exactly that, whatever the target:
KL(p || q) = sum_k w_k KL(p || q_k) - (-log Z) (Heskes 1998; Genest & Zidek 1986).

Gaussians give the Gaussian of precision sum_k w_k S_k^{-1}. With S_k = F_k F_k^T + D_k of low rank plus diagonal that precision is P - H^T H, P = sum_k w_k D_k^{-1}, H of as
many rows as there are factors, and its inverse P^{-1} + P^{-1} H^T (I - H P^{-1} H^T)^{-1} H P^{-1} is of low rank plus diagonal again. Mixtures have no closed form: on the
line and in the plane their pool is normalised by quadrature.
"""

from collections.abc import Sequence
from typing import cast

import equinox as eqx
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned, Covariance, LowRankPlusDiagonal
from ensembletheory.divergences.kl import kl
from ensembletheory.errors import Numbers
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import FiniteLaw, Gaussian, GridLaw, Law
from ensembletheory.linalg import cholesky, substitute, symmetrised
from ensembletheory.pooling.members import Member, checked_laws

__all__ = ["gaussian_log_pool", "log_normaliser", "log_pool", "normaliser_of"]


def log_pool(members: Sequence[Member], weights: Numbers | None = None) -> Gaussian | GridLaw:
    """The normalised geometric mean of the members with `weights` (default equal): a Gaussian of Gaussians, else, on the line or in the plane, a law on a grid.

    Raises:
        ValueError: if there is no member, dimensions differ, or the weights are off the simplex.
        TypeError: if a member is not Gaussian in more than two dimensions, or of finite support.
    """
    laws, weights = _checked_members(members, weights)
    if all(isinstance(law, Gaussian) for law in laws):
        return gaussian_log_pool(cast(list[Gaussian], laws), weights)
    centres, widths = (jnp.concatenate(parts) for parts in zip(*[law.pieces() for law in laws], strict=True))
    return GridLaw(Partial(_weighted_log_density, tuple(laws), weights), centres, widths)


def log_normaliser(members: Sequence[Member], weights: Numbers | None = None) -> Estimate:
    """Log Z = log of the integral of prod_k q_k^{w_k} <= 0, in nats: -sum_k w_k KL(log pool || q_k), in closed form for Gaussians, else by quadrature.

    Raises:
        ValueError: as `log_pool`.
        TypeError: as `log_pool`.
    """
    laws, weights = _checked_members(members, weights)
    return normaliser_of(log_pool(laws, weights), laws, weights)


def normaliser_of(pool: Gaussian | GridLaw, laws: Sequence[Law], weights: Float[Array, " K"]) -> Estimate:
    """Log Z of a log pool that is at hand."""
    if isinstance(pool, GridLaw):
        return pool.log_normaliser
    terms = jnp.stack([kl(pool, member).value for member in laws])
    return closed_form(-jnp.dot(weights, terms))


def _checked_members(members: Sequence[Member], weights: Numbers | None) -> tuple[list[Law], Float[Array, " K"]]:
    laws, weights = checked_laws(members, weights)
    for k, law in enumerate(laws):
        if isinstance(law, FiniteLaw) or (law.dim > 2 and not isinstance(law, Gaussian)):
            got = f"{type(law).__name__} in dimension {law.dim}"
            expected = "Gaussian, or a law with a density in one or two dimensions, where quadrature normalises the log pool"
            raise TypeError(f"`members[{k}]`: got {got}; expected {expected}. Use linear_pool, or marginals.")
    return laws, weights


def _weighted_log_density(laws: tuple[Law, ...], weights: Float[Array, " K"], x: Float[Array, " d"]) -> Float[Array, ""]:
    return jnp.dot(weights, jnp.stack([law._log_prob(x) for law in laws]))


@eqx.filter_jit
def gaussian_log_pool(gaussians: list[Gaussian], weights: Float[Array, " K"]) -> Gaussian:
    """The Gaussian whose precision is the average of the members' precisions."""
    covariances = [member.covariance for member in gaussians]
    shifts = jnp.stack([weight * member.covariance.solve(member.mean) for weight, member in zip(weights, gaussians, strict=True)])
    if _few_factors(covariances):
        covariance = _low_rank_harmonic_mean(covariances, weights)
        return Gaussian(_applied(covariance, jnp.sum(shifts, axis=0)), covariance)
    precision = _total([covariance.inverse().scaled(weight) for weight, covariance in zip(weights, covariances, strict=True)])
    return Gaussian(precision.solve(jnp.sum(shifts, axis=0)), precision.inverse())


def _few_factors(covariances: Sequence[Covariance]) -> bool:
    """Whether the harmonic mean is of low rank plus diagonal, with fewer factors than coordinates."""
    factors = sum(S.loadings.shape[1] for S in covariances if isinstance(S, LowRankPlusDiagonal))
    return 0 < factors < covariances[0].dim and all(isinstance(S, AxisAligned | LowRankPlusDiagonal) for S in covariances)


def _low_rank_harmonic_mean(covariances: Sequence[Covariance], weights: Float[Array, " K"]) -> LowRankPlusDiagonal:
    """( sum_k w_k S_k^{-1} )^{-1}."""
    diagonals = [S.noise if isinstance(S, LowRankPlusDiagonal) else cast(AxisAligned, S).variances for S in covariances]
    precision = jnp.sum(jnp.stack([weight / diagonal for weight, diagonal in zip(weights, diagonals, strict=True)]), axis=0)
    corrections = [jnp.sqrt(weight) * S.half_correction() for weight, S in zip(weights, covariances, strict=True) if isinstance(S, LowRankPlusDiagonal)]
    H = jnp.concatenate(corrections)
    scaled = H / precision[None, :]
    inner = cholesky(jnp.eye(H.shape[0], dtype=H.dtype) - symmetrised(scaled @ H.T))
    return LowRankPlusDiagonal(substitute(inner, scaled).T, 1 / precision)


def _applied(S: LowRankPlusDiagonal, x: Float[Array, " d"]) -> Float[Array, " d"]:
    return S.loadings @ (S.loadings.T @ x) + S.noise * x


def _total(covariances: list[Covariance]) -> Covariance:
    total = covariances[0]
    for covariance in covariances[1:]:
        total = total + covariance
    return total
