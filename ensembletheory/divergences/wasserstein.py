r"""The Wasserstein distances W1 and W2, and the square of W2, always by name.

Gaussians: W2^2 = |m_p - m_q|^2 + B^2(S_p, S_q) with the Bures distance B (`divergences.bures`). On the line: `divergences.line`. Between laws of finite support: the optimal
plan (`divergences.transport`). For all other pairs in several dimensions no exact form is known, and an `enclosure` is returned:

    |m_p - m_q|^2 + B^2(S_p, S_q)  <=  W2^2  <=  MW2^2,        |m_p - m_q|  <=  W1  <=  W2,

with the moments of the laws on the left (Gelbrich 1990) and the best coupling of components on the right; where a law has no components, the right end is the cost of
the independent coupling, |m_p - m_q|^2 + tr S_p + tr S_q.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.divergences.bures import covariance_bures_squared, semidefinite_bures_squared
from ensembletheory.divergences.line import line_distance
from ensembletheory.divergences.pairs import between, has_grid
from ensembletheory.divergences.transport import mw2_squared, squared_distances, transport_cost
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import FiniteLaw, Gaussian, Law
from ensembletheory.laws.law import require_same_dim

__all__ = ["moment_distance_squared", "w1", "w2", "w2_squared"]


def w2_squared(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """The squared 2-Wasserstein distance.

    Closed form for Gaussians, between laws of finite support, and on the line between such a law and a Gaussian or mixture; quadrature of quantile functions for other pairs
    on the line; else an enclosure by Gelbrich's bound and MW2.

    Args:
        p: a law.
        q: a law.
        key: not used: draws only tell W2 with a bias, see `empirical_w2`.
        samples: not used.
        rtol: relative error asked of the quadrature (default 1e-10).

    Raises:
        ValueError: if the dimensions differ.
        ImportError: if a transport plan needs POT and the extra `transport` is not installed.
    """
    require_same_dim(p, q)
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return closed_form(_gaussian_w2_squared(p, q))
    if p.dim == 1:
        return line_distance(p, q, 2, rtol)
    if isinstance(p, FiniteLaw) and isinstance(q, FiniteLaw):
        return mw2_squared(p, q)
    return between(moment_distance_squared(p.mean, p.cov, q.mean, q.cov), _ceiling(p, q))


def w2(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """The 2-Wasserstein distance, the root of `w2_squared`; its error is the larger half-width of the root of that interval.

    Args:
        p: a law.
        q: a law.
        key: not used.
        samples: not used.
        rtol: relative error asked of the quadrature of the square (default 1e-10).

    Raises:
        ValueError: if the dimensions differ.
        ImportError: if a transport plan needs POT and the extra `transport` is not installed.
    """
    squared = w2_squared(p, q, rtol=rtol)
    if squared.kind == "enclosure":
        return between(_root(squared.value - squared.error), _root(squared.value + squared.error))
    value = _root(squared.value)
    return Estimate(value, value - _root(squared.value - squared.error), squared.kind)


def w1(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """The 1-Wasserstein distance (of the Euclidean norm).

    On the line closed form for Gaussians and where a law of finite support meets such a law, a Gaussian or a mixture, else quadrature of |F_p - F_q|. In several dimensions
    closed form between laws of finite support, else the enclosure from |m_p - m_q| to the upper bound on W2.

    Args:
        p: a law.
        q: a law.
        key: not used.
        samples: not used.
        rtol: relative error asked of the quadrature (default 1e-10).

    Raises:
        ValueError: if the dimensions differ.
        ImportError: if a transport plan needs POT and the extra `transport` is not installed.
    """
    require_same_dim(p, q)
    if p.dim == 1:
        return line_distance(p, q, 1, rtol)
    if isinstance(p, FiniteLaw) and isinstance(q, FiniteLaw):
        return closed_form(transport_cost(p.weights, q.weights, jnp.sqrt(squared_distances(p.points, q.points))))
    squared = w2_squared(p, q)
    return between(jnp.sqrt(jnp.sum((p.mean - q.mean) ** 2)), _root(squared.value + squared.error))


def _root(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.maximum(x, 0.0))


def _ceiling(p: Law, q: Law) -> Float[Array, ""]:
    """An upper bound on W2^2."""
    if has_grid(p, q):
        return jnp.sum((p.mean - q.mean) ** 2) + jnp.trace(p.cov) + jnp.trace(q.cov)
    return mw2_squared(p, q).value


@eqx.filter_jit
def _gaussian_w2_squared(p: Gaussian, q: Gaussian) -> Float[Array, ""]:
    return jnp.sum((p.mean - q.mean) ** 2) + covariance_bures_squared(p.covariance, q.covariance)


@eqx.filter_jit
def moment_distance_squared(m: Float[Array, " d"], S: Float[Array, "d d"], n: Float[Array, " d"], R: Float[Array, "d d"]) -> Float[Array, ""]:
    """|m - n|^2 + B^2(S, R), for positive semi-definite S and R."""
    return jnp.sum((m - n) ** 2) + semidefinite_bures_squared(S, R)
