r"""Squared distances of densities and of kernel means: int (p - q)^2, and MMD^2 = E k(X, X') - 2 E k(X, Y) + E k(Y, Y').

Mixtures: int N(x; m, S) N(x; n, T) dx = N(m; n, S + T), summed over pairs of components. Two Gaussians, with rho and g of `divergences.midpoint`,
a = int p^2 = (4 pi)^{-d/2} det S_p^{-1/2}, b = int q^2 and log b - log a = sum_i artanh rho_i:

    int (p - q)^2 = (sqrt a - sqrt b)^2 + 2 sqrt(a b) [ 1 - exp( 1/4 sum_i log(1 - rho_i^2) - g / 4 ) ],

in which nothing cancels. Other densities: quadrature for d <= 2, else Monte Carlo, of (p - q)^2 / m under m = (p + q) / 2.

The Gaussian kernel k(x, y) = exp(-|x - y|^2 / (2 h^2)) of bandwidth h is (2 pi h^2)^{d/2} times the overlap of N(x, h^2/2 I) and N(y, h^2/2 I), so

    MMD^2(p, q) = (2 pi h^2)^{d/2} int (p_h - q_h)^2,   p_h = p * N(0, h^2/2 I):

in closed form for Gaussians, mixtures and laws of finite support, and across them.
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembletheory.divergences.midpoint import midpoint
from ensembletheory.divergences.pairs import Components, components, has_grid, is_finite, refuse_laws
from ensembletheory.errors import as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.law import require_same_dim
from ensembletheory.linalg import cholesky, solve_lower

__all__ = ["l2_squared", "mmd_squared", "overlaps"]


def l2_squared(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """Int (p - q)^2: closed form for Gaussians and mixtures, else quadrature for d <= 2.

    Args:
        p: a law with a density.
        q: a law with a density.
        key: needed where only Monte Carlo can answer.
        samples: number of Monte-Carlo draws from each law; giving it asks for Monte Carlo unless there is a closed form.
        rtol: relative error asked of the quadrature (default 1e-10).

    Raises:
        ValueError: if the dimensions differ, or only Monte Carlo can answer and no key is given.
        TypeError: for a law of finite support, which has no density.
    """
    require_same_dim(p, q)
    if is_finite(p) or is_finite(q):
        refuse_laws(p, q, "two densities", "A law of finite support has none; compare by `mmd_squared`, which smooths both.")
    if not has_grid(p, q):
        return closed_form(_overlap_distance(cast(Components, components(p)), cast(Components, components(q))))
    first, second = (None, None) if key is None else jax.random.split(key)
    return (expectation(p, _squared_gap, (p, q), first, samples, rtol) + expectation(q, _squared_gap, (p, q), second, samples, rtol)) * 0.5


def mmd_squared(p: Law, q: Law, bandwidth: ArrayLike = 1.0) -> Estimate:
    """The squared maximum mean discrepancy of the kernel exp(-|x - y|^2 / (2 bandwidth^2)), always in closed form.

    Raises:
        ValueError: if the dimensions differ, or the bandwidth is not one positive number.
        TypeError: for a `GridLaw`, whose kernel mean is an integral over pairs of points.
    """
    require_same_dim(p, q)
    if has_grid(p, q):
        refuse_laws(p, q, "Gaussians, mixtures or laws of finite support", "Compare grid laws by `l2_squared`.")
    h = as_floats("bandwidth", bandwidth)
    if h.shape != () or (is_concrete(h) and not float(h) > 0):
        refuse("bandwidth", str(bandwidth), "one positive number", "It is the standard deviation of the kernel, in the units of x.")
    return closed_form(_smoothed_distance(cast(Components, components(p)), cast(Components, components(q)), h))


@eqx.filter_jit
def _smoothed_distance(p: Components, q: Components, h: Float[Array, ""]) -> Float[Array, ""]:
    d = p[1].shape[1]
    noise = h**2 / 2 * jnp.eye(d, dtype=h.dtype)
    smoothed = [(w, m, S + noise[None]) for w, m, S in (p, q)]
    return (2 * np.pi * h**2) ** (d / 2) * _overlap_distance(*smoothed)


@eqx.filter_jit
def _overlap_distance(p: Components, q: Components) -> Float[Array, ""]:
    if p[0].size == 1 and q[0].size == 1:
        return _single_distance(p[1][0], p[2][0], q[1][0], q[2][0])
    weights, means, covs = (jnp.concatenate(parts) for parts in zip((p[0], p[1], p[2]), (-q[0], q[1], q[2]), strict=True))
    return jnp.maximum(weights @ overlaps((means, covs), (means, covs)) @ weights, 0.0)


def _single_distance(m: Float[Array, " d"], S: Float[Array, "d d"], n: Float[Array, " d"], T: Float[Array, "d d"]) -> Float[Array, ""]:
    p, q = Gaussian(m, S), Gaussian(n, T)
    rho, gap = midpoint(p, q)
    log_a = -0.5 * (m.size * np.log(4 * np.pi) + p.covariance.logdet())
    growth = jnp.sum(jnp.arctanh(jnp.clip(rho, -1 + 1e-16, 1 - 1e-16)))
    cosine_defect = -jnp.expm1(0.25 * jnp.sum(jnp.log1p(-(rho**2))) - gap / 4)
    return jnp.exp(log_a) * jnp.expm1(growth / 2) ** 2 + 2 * jnp.exp(log_a + growth / 2) * cosine_defect


def overlaps(p: tuple[Array, Array], q: tuple[Array, Array]) -> Float[Array, "K L"]:
    """Int N(m_k, S_k) N(n_l, T_l) for all pairs of components, from means and covariances."""

    def overlap(m, S, n, T):
        L = cholesky(S + T)
        z = solve_lower(L, m - n)
        return jnp.exp(-0.5 * (z @ z + m.size * np.log(2 * np.pi)) - jnp.sum(jnp.log(jnp.diagonal(L))))

    return jax.vmap(lambda m, S: jax.vmap(lambda n, T: overlap(m, S, n, T))(*q))(*p)


def _squared_gap(x: Float[Array, " d"], p: Law, q: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    log_p, log_q = p._log_prob(x), q._log_prob(x)
    value = 2 * (jnp.exp(log_p) + jnp.exp(log_q)) * jnp.tanh(jnp.clip(log_p - log_q, -80.0, 80.0) / 2) ** 2
    return value, value * (1 + jnp.abs(log_p) + jnp.abs(log_q))
