r"""The linear pool q = sum_k w_k q_k: draw a member, then draw from it.

It minimises sum_k w_k KL(q_k || q), and its forward KL gains by Jensen: sum_k w_k KL(p || q_k) - KL(p || q) = E_p[ log q - sum_k w_k log q_k ] >= 0.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers
from ensembletheory.laws import FiniteLaw, Gaussian, GaussianMixture, Law
from ensembletheory.laws.mixture import join_covariances, weighted_components
from ensembletheory.pooling.members import Member, checked_laws

__all__ = ["linear_pool"]


def linear_pool(members: Sequence[Member], weights: Numbers | None = None) -> GaussianMixture | FiniteLaw:
    """The mixture of the members, Gaussians, mixtures or PPCA models (or only laws of finite support), with `weights` (default equal).

    Raises:
        ValueError: if there is no member, dimensions differ, or the weights are off the simplex.
        TypeError: if a member is of another kind.
    """
    laws, weights = checked_laws(members, weights)
    if all(isinstance(law, FiniteLaw) for law in laws):
        return _finite_pool(laws, weights)  # pyright: ignore[reportArgumentType]
    parts = [_parts(law) for law in laws]
    pooled = jnp.concatenate([weight * inner for weight, (inner, _) in zip(weights, parts, strict=True)])
    components = [component for _, component in parts]
    means = jnp.concatenate([component.mean for component in components])
    return GaussianMixture(pooled, means, join_covariances([component.covariance for component in components]))


def _finite_pool(laws: Sequence[FiniteLaw], weights: Float[Array, " K"]) -> FiniteLaw:
    masses = jnp.concatenate([weight * law.weights for weight, law in zip(weights, laws, strict=True)])
    return FiniteLaw(jnp.concatenate([law.points for law in laws]), masses)


def _parts(law: Law) -> tuple[Float[Array, " K"], Gaussian]:
    """Weights and batched components."""
    if not isinstance(law, Gaussian | GaussianMixture):
        raise TypeError(f"`members`: got {type(law).__name__}; expected Gaussians and mixtures, whose mixture is a GaussianMixture, or only laws of finite support.")
    return weighted_components(law)
