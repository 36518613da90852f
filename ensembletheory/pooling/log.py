r"""The log pool q = prod_k q_k^{w_k} / Z: the normalised geometric mean.

It minimises sum_k w_k KL(q || q_k), whose minimum is -log Z >= 0, and its forward KL gains exactly that, whatever the target:
KL(p || q) = sum_k w_k KL(p || q_k) - (-log Z) (Heskes 1998; Genest & Zidek 1986). For Gaussians it is the Gaussian of precision sum_k w_k S_k^{-1}.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import Covariance
from ensembletheory.divergences.kl import kl
from ensembletheory.errors import Numbers
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian
from ensembletheory.pooling.members import Member, checked_gaussians

__all__ = ["log_normaliser", "log_pool"]


def log_pool(members: Sequence[Member], weights: Numbers | None = None) -> Gaussian:
    """The normalised geometric mean of Gaussian members with `weights` (default equal).

    Raises:
        ValueError: if there is no member, dimensions differ, or the weights are off the simplex.
        TypeError: if a member is not Gaussian.
    """
    gaussians, weights = checked_gaussians(members, weights, "log pool")
    return _precision_average(gaussians, weights)


@eqx.filter_jit
def _precision_average(gaussians: list[Gaussian], weights: Float[Array, " K"]) -> Gaussian:
    precisions = [member.covariance.inverse().scaled(weight) for weight, member in zip(weights, gaussians, strict=True)]
    shifts = jnp.stack([weight * member.covariance.solve(member.mean) for weight, member in zip(weights, gaussians, strict=True)])
    precision = _total(precisions)
    return Gaussian(precision.solve(jnp.sum(shifts, axis=0)), precision.inverse())


def log_normaliser(members: Sequence[Member], weights: Numbers | None = None) -> Estimate:
    """Log Z = log of the integral of prod_k q_k^{w_k} = -sum_k w_k KL(log pool || q_k) <= 0, in nats.

    Raises:
        ValueError: as `log_pool`.
        TypeError: as `log_pool`.
    """
    gaussians, weights = checked_gaussians(members, weights, "log pool")
    pool = log_pool(gaussians, weights)
    terms = jnp.stack([kl(pool, member).value for member in gaussians])
    return closed_form(-jnp.dot(weights, terms))


def _total(covariances: list[Covariance]) -> Covariance:
    total = covariances[0]
    for covariance in covariances[1:]:
        total = total + covariance
    return total
