r"""Optimal transport between finitely many points or components; the plan is found by the network simplex of POT (extra `transport`), exactly up to rounding.

MW2 (Delon & Desolneux 2020) is the optimal transport distance of mixtures with couplings restricted to Gaussian mixtures:

    MW2^2(p, q) = min over plans w with marginals pi, omega of sum_kl w_kl W2^2(N(m_k, S_k), N(n_l, T_l)),   W2 <= MW2.

An atom is a Gaussian of covariance 0, so laws of finite support are covered: between two of them MW2 is W2. The plan is a vertex and carries no derivative; the value's
derivative in means and covariances is that at the optimal plan (envelope theorem), in weights it is not known.
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.divergences.bures import bures_squared
from ensembletheory.divergences.pairs import Components, components, has_grid, is_finite, refuse_laws
from ensembletheory.errors import Numbers, as_floats, is_concrete, missing_extra, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Law
from ensembletheory.laws.law import require_same_dim
from ensembletheory.laws.weights import checked_weights

__all__ = ["empirical_w2", "mw2", "mw2_squared", "squared_distances", "transport_cost", "transport_plan"]

_MOST_ITERATIONS = 100_000_000


def mw2(p: Law, q: Law) -> Estimate:
    """The Wasserstein-type distance MW2 of Gaussians, mixtures and laws of finite support, in any dimension; closed form up to the transport plan.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for a `GridLaw`, which has no components.
        ImportError: if the transport plan needs POT and the extra `transport` is not installed.
    """
    squared = mw2_squared(p, q)
    return closed_form(jnp.sqrt(squared.value))


def mw2_squared(p: Law, q: Law) -> Estimate:
    """The square of `mw2`."""
    require_same_dim(p, q)
    if has_grid(p, q):
        refuse_laws(p, q, "Gaussians, mixtures or laws of finite support", "MW2 couples components, and a GridLaw has none.")
    (a, means, covs), (b, others, other_covs) = (cast(Components, components(law)) for law in (p, q))
    spread = _traces(covs, other_covs) if is_finite(p) or is_finite(q) else _bures_squared(covs, other_covs)
    return closed_form(transport_cost(a, b, squared_distances(means, others) + spread))


def empirical_w2(x: Numbers, y: Numbers, weights_x: Numbers | None = None, weights_y: Numbers | None = None) -> Estimate:
    """The exact W2 between two samples (n, d) and (m, d), or weighted points: what it says of the laws behind them is biased upwards.

    Raises:
        ValueError: if a sample is not (n, d), the dimensions differ, or weights are off the simplex.
        ImportError: without the extra `transport`.
    """
    points = [as_floats(name, value) for name, value in (("x", x), ("y", y))]
    for name, array in zip(("x", "y"), points, strict=True):
        if array.ndim != 2 or 0 in array.shape:
            refuse(name, f"shape {array.shape}", "(n, d) with n, d >= 1", "One row a draw; in 1-D write x[:, None].")
    if points[0].shape[1] != points[1].shape[1]:
        refuse("y", f"dimension {points[1].shape[1]}", f"dimension {points[0].shape[1]}, that of `x`", "Compare samples from the same space.")
    a, b = (checked_weights(weights, len(array)) for weights, array in zip((weights_x, weights_y), points, strict=True))
    return closed_form(jnp.sqrt(transport_cost(a, b, squared_distances(*points))))


def transport_cost(a: Float[Array, " n"], b: Float[Array, " m"], costs: Float[Array, "n m"]) -> Float[Array, ""]:
    """The least of sum_ij w_ij costs_ij over plans w with marginals a and b."""
    if 1 in costs.shape:
        return a @ costs @ b
    return jnp.sum(transport_plan(a, b, costs) * costs)


def transport_plan(a: Float[Array, " n"], b: Float[Array, " m"], costs: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """A plan of least cost, without derivative.

    Raises:
        ImportError: without the extra `transport`.
        RuntimeError: if the network simplex stops short of the optimum.
    """
    a, b, costs = (jax.lax.stop_gradient(part) for part in (a, b, costs))
    if is_concrete(a, b, costs):
        return jnp.asarray(_network_simplex(a, b, costs), costs.dtype)
    return jax.pure_callback(_network_simplex, jax.ShapeDtypeStruct(costs.shape, costs.dtype), a, b, costs, vmap_method="sequential")


def _network_simplex(a: Array, b: Array, costs: Array) -> np.ndarray:
    try:
        from ot.lp import emd
    except ImportError:
        missing_extra("POT", "transport")
    first, second, table = (np.asarray(part, np.float64) for part in (a, b, costs))
    plan, log = emd(first / first.sum(), second / second.sum(), table, numItermax=_MOST_ITERATIONS, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"the optimal transport plan of {costs.shape[0]} x {costs.shape[1]} points was not found: {log['warning']}")
    return np.asarray(plan, np.asarray(costs).dtype)


@eqx.filter_jit
def squared_distances(x: Float[Array, "n d"], y: Float[Array, "m d"]) -> Float[Array, "n m"]:
    """|x_i - y_j|^2, from differences."""
    return sum(((x[:, i, None] - y[None, :, i]) ** 2 for i in range(x.shape[1])), jnp.zeros((len(x), len(y)), x.dtype))


@eqx.filter_jit
def _bures_squared(covs: Float[Array, "K d d"], others: Float[Array, "L d d"]) -> Float[Array, "K L"]:
    return jax.vmap(lambda S: jax.vmap(lambda R: bures_squared(S, R))(others))(covs)


@eqx.filter_jit
def _traces(covs: Float[Array, "K d d"], others: Float[Array, "L d d"]) -> Float[Array, "K L"]:
    """B^2 where one of the two is 0."""
    first, second = (jnp.trace(part, axis1=1, axis2=2) for part in (covs, others))
    return first[:, None] + second[None, :]
