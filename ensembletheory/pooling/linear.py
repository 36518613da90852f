r"""The linear pool q = sum_k w_k q_k: draw a member, then draw from it.

It minimises sum_k w_k KL(q_k || q), and its forward KL gains by Jensen: sum_k w_k KL(p || q_k) - KL(p || q) = E_p[ log q - sum_k w_k log q_k ] >= 0.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import Diagonal
from ensembletheory.errors import Numbers
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.pooling.members import Member, checked_laws

__all__ = ["linear_pool"]


def linear_pool(members: Sequence[Member], weights: Numbers | None = None) -> GaussianMixture:
    """The mixture of the members, Gaussians, mixtures or PPCA models, with `weights` (default equal).

    Raises:
        ValueError: if there is no member, dimensions differ, or the weights are off the simplex.
    """
    laws, weights = checked_laws(members, weights)
    parts = [_parts(law) for law in laws]
    pooled = jnp.concatenate([weight * inner for weight, (inner, _) in zip(weights, parts, strict=True)])
    components = [component for _, component in parts]
    means = jnp.concatenate([component.mean for component in components])
    return GaussianMixture(pooled, means, _stacked_covariances(components))


def _parts(law: Law) -> tuple[Float[Array, " K"], Gaussian]:
    """Weights and batched components."""
    if isinstance(law, GaussianMixture):
        return law.weights, law.components
    if isinstance(law, Gaussian):
        return jnp.ones(1), jax.tree.map(lambda leaf: leaf[None], law)
    raise TypeError(f"`members`: got {type(law).__name__}; expected Gaussian or GaussianMixture, whose mixture is a GaussianMixture.")


def _stacked_covariances(components: list[Gaussian]) -> Float[Array, "..."]:
    diagonals = [component.covariance.variances for component in components if isinstance(component.covariance, Diagonal)]
    if len(diagonals) == len(components):
        return jnp.concatenate(diagonals)
    return jnp.concatenate([jax.vmap(lambda one: one.cov)(component) for component in components])
