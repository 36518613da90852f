r"""The law sampled from sums of scores, for Gaussian members with any covariances.

With C_k = S_k - I, e = eta^2, coefficients c_k of total W, p = (1+e) W - 1 and u = a_t^2 as in `mean_score`, the reverse dynamics in the variable y = u^{p/2} x are linear:

    dy = [ (1+e)/2 D(u) y + (1+e)/2 u^{(p-1)/2} B(u) ] du + noise of covariance e u^{p-1} du I,
    D(u) = sum_k c_k C_k (I + u C_k)^{-1},     B(u) = sum_k c_k (I + u C_k)^{-1} m_k,     y ~ N(0, u_T^p I) at u = u_T,     y = x at u = 1.

On each panel of a grid in u that shrinks geometrically towards both ends, the transition matrix is found by Gauss collocation (an implicit Runge-Kutta method of order
twice the number of nodes), and the panel becomes an affine map of mean and covariance. Below u = 1e-22 D and B are constant to rounding, and the equations are solved there in
closed form: y ~ N( u^{(p+1)/2} B(0) / W, (e/p) u^p I ), or N( u^{1/2} B(0), I ) for e = 0 and W = 1.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.linalg import symmetrised

__all__ = ["matrix_moments"]

_SMALLEST = 1e-22
_BREAKS = np.concatenate([np.geomspace(_SMALLEST, 0.5, 74), 1 - 0.5 ** np.arange(2.0, 41.0), [1.0]])


@eqx.filter_jit
def matrix_moments(
    means: Float[Array, "K d"],
    covs: Float[Array, "K d d"],
    c: Float[Array, " K"],
    total: Float[Array, ""],
    e: Float[Array, ""],
    u_T: Float[Array, ""],
    nodes: int = 8,
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Mean and covariance at u = 1, for coefficients `c` of sum `total`, with `nodes` collocation nodes a panel."""
    identity, p = jnp.eye(means.shape[1]), (1 + e) * total - 1
    breaks = jnp.maximum(jnp.asarray(_BREAKS), u_T)

    def parts(u):
        inverses = jnp.linalg.inv(identity[None] + u * (covs - identity[None]))
        D = jnp.einsum("k,kij,kjl->il", c, covs - identity[None], inverses)
        return (1 + e) / 2 * symmetrised(D), (1 + e) / 2 * jnp.einsum("k,kij,kj->i", c, inverses, means)

    def panel(moments, ends):
        (mean, cov), (lower, upper) = moments, ends
        A, forced, noise = _panel_map(parts, e, p, lower, upper, nodes)
        return (A @ mean + forced, symmetrised(A @ cov @ A.T) + noise), None

    below = jnp.where(u_T < _SMALLEST, _SMALLEST ** ((p + 1) / 2) / total, 0.0)
    begun = jnp.where((u_T < _SMALLEST) & (e > 0), e / jnp.where(e > 0, p, 1.0), 1.0) * breaks[0] ** p
    return jax.lax.scan(panel, (below * (c @ means), begun * identity), (breaks[:-1], breaks[1:]))[0]


def _panel_map(parts, e, p, lower, upper, nodes: int):
    """The transition matrix of a panel, the mean it adds and the covariance it adds."""
    x, b, a = _collocation(nodes)
    h = upper - lower
    u = lower + h * jnp.asarray(x)
    M, B = jax.vmap(parts)(u)
    d = M.shape[-1]
    system = jnp.eye(nodes * d) - h * jnp.einsum("jl,lik->jilk", jnp.asarray(a), M).reshape(nodes * d, nodes * d)
    inner = jnp.linalg.solve(system, jnp.tile(jnp.eye(d), (nodes, 1))).reshape(nodes, d, d)
    A = jnp.eye(d) + h * jnp.einsum("l,lij,ljk->ik", jnp.asarray(b), M, inner)
    onward = A[None] @ jnp.linalg.inv(inner)  # the transition from each node to the end
    forced = h * jnp.einsum("l,l,lij,lj->i", jnp.asarray(b), u ** ((p - 1) / 2), onward, B)
    noise = e * h * jnp.einsum("l,l,lij,lkj->ik", jnp.asarray(b), u ** (p - 1), onward, onward)
    return A, forced, symmetrised(noise)


def _collocation(nodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes c and weights b on [0, 1], and a_jl = integral from 0 to c_j of the l-th Lagrange polynomial."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    c, b = (x + 1) / 2, w / 2
    lagrange = np.linalg.inv(np.vander(x, increasing=False))  # column l: coefficients of the l-th Lagrange polynomial
    integrals = [np.polyval(np.polyint(lagrange[:, l]), x) - np.polyval(np.polyint(lagrange[:, l]), -1.0) for l in range(nodes)]
    return c, b, np.stack(integrals, axis=1) / 2
