"""What every pooling rule asks of its members: at least one law, all on the same space, weights on the simplex."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, refuse
from ensembletheory.latent import Ppca
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.weights import checked_weights

__all__ = ["Member", "checked_gaussians", "checked_laws"]

Member = Law | Ppca


def checked_laws(members: Sequence[Member] | Member, weights: Numbers | None) -> tuple[list[Law], Float[Array, " K"]]:
    """The members as laws, and their weights (None: 1/K each).

    Raises:
        ValueError: if there is no member, dimensions differ, or the weights are off the simplex.
    """
    if isinstance(members, Law | Ppca) or not len(members):
        got = "one law" if isinstance(members, Law | Ppca) else "an empty list"
        refuse("members", got, "a list of at least one law", "Pool a list, such as [et.Gaussian([0.0], 1.0)].")
    laws = [member.law if isinstance(member, Ppca) else member for member in members]
    dims = {law.dim for law in laws}
    if len(dims) > 1:
        refuse("members", f"dimensions {sorted(dims)}", "one dimension", "Pool laws on the same space, or take marginals.")
    return laws, checked_weights(weights, len(laws))


def checked_gaussians(members: Sequence[Member], weights: Numbers | None, rule: str) -> tuple[list[Gaussian], Float[Array, " K"]]:
    """The members as Gaussians, and their weights.

    Raises:
        ValueError: as `checked_laws`.
        TypeError: if a member is not Gaussian, naming the rule and the member.
    """
    laws, weights = checked_laws(members, weights)
    for k, law in enumerate(laws):
        if not isinstance(law, Gaussian):
            raise TypeError(f"`members[{k}]`: got {type(law).__name__}; expected Gaussian, for which the {rule} has a closed form. Use linear_pool, or sample.")
    return laws, weights  # type: ignore[return-value]


def stacked_means(members: Sequence[Gaussian]) -> Float[Array, "K d"]:
    """The members' means, one a row."""
    return jnp.stack([member.mean for member in members])
