"""What the divergences ask of a pair of laws: joint break points, masses on the atoms of both, Gaussian components, and refusals by name."""

from collections.abc import Callable
from typing import NoReturn, cast

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.estimate import Estimate
from ensembletheory.laws import FiniteLaw, Gaussian, GaussianMixture, GridLaw, Law

__all__ = ["between", "components", "finite_sum", "has_grid", "is_finite", "joint_breaks", "masses", "names", "refuse_laws"]

Components = tuple[Array, Array, Array]  # weights (K,), means (K, d), covariances (K, d, d)


def is_finite(*laws: Law) -> bool:
    """Whether all laws have finite support."""
    return all(isinstance(law, FiniteLaw) for law in laws)


def has_grid(*laws: Law) -> bool:
    """Whether one of the laws is a `GridLaw`, whose tails are not known."""
    return any(isinstance(law, GridLaw) for law in laws)


def names(p: Law, q: Law) -> str:
    """The classes of two laws and their dimension, for a message."""
    return f"{type(p).__name__} and {type(q).__name__} in dimension {p.dim}"


def refuse_laws(p: Law, q: Law, expected: str, remedy: str) -> NoReturn:
    """Raise a `TypeError` that names both laws, what was expected and what to do."""
    raise TypeError(f"`p`, `q`: got {names(p, q)}; expected {expected}. {remedy}")


def components(law: Law) -> Components | None:
    """Weights, means and covariances of a law that is a mixture of Gaussians or of atoms (whose covariances are 0); None for other laws."""
    if isinstance(law, Gaussian):
        return jnp.ones(1, law.mean.dtype), law.mean[None, :], law.cov[None]
    if isinstance(law, GaussianMixture):
        return law.weights, law.means, law.covs
    if isinstance(law, FiniteLaw):
        return law.weights, law.points, jnp.zeros((*law.points.shape, law.dim), law.points.dtype)
    return None


@eqx.filter_jit
def joint_breaks(p: Law, q: Law) -> tuple[Float[Array, " n"], ...]:
    """Sorted break points, on each axis, over the box that holds both laws."""
    return tuple(jnp.sort(jnp.concatenate(axes)) for axes in zip(p.marks(), q.marks(), strict=True))


@eqx.filter_jit
def finite_sum(f: Callable[..., Array], p: Law, q: Law) -> Float[Array, ""]:
    """The sum of f(p(x), q(x)) over the different atoms x, of positive mass, of two finite laws."""
    p, q = cast(FiniteLaw, p), cast(FiniteLaw, q)
    points = jnp.concatenate([p.points, q.points])
    mass_p, mass_q = (masses(law, points) for law in (p, q))
    copies = jnp.sum(jnp.all(points[:, None, :] == points[None, :, :], axis=-1), axis=1, dtype=points.dtype)
    present = mass_p + mass_q > 0
    return jnp.sum(jnp.where(present, f(jnp.where(present, mass_p, 1.0), jnp.where(present, mass_q, 1.0)) / copies, 0.0))


def masses(law: FiniteLaw, points: Float[Array, "n d"]) -> Float[Array, " n"]:
    """The probability of each point."""
    return jnp.where(jnp.all(points[:, None, :] == law.points[None, :, :], axis=-1), law.weights[None, :], 0.0).sum(1)


@eqx.filter_jit
def between(low: Float[Array, ""], high: Float[Array, ""]) -> Estimate:
    """The middle of an interval that holds the truth, with half its width."""
    return Estimate((low + high) / 2, jnp.maximum(high - low, 0.0) / 2, "enclosure")
