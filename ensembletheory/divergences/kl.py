r"""The Kullback-Leibler divergence KL(p || q) = E_p[log p - log q], in nats.

For Gaussians with Cholesky factors L_p, L_q, the matrix A = L_q^{-1} L_p is lower triangular and z = L_q^{-1} (m_p - m_q):

    KL = 1/2 [ sum_i (A_ii^2 - 1 - log A_ii^2) + sum_{i > j} A_ij^2 + |z|^2 ],

a sum of non-negative terms, so that nothing cancels between near-equal Gaussians; low rank plus diagonal: `divergences.low_rank`. Between laws of finite support it is
the sum over atoms of p log(p / q) - p + q >= 0; between such a law, or a Gaussian of singular covariance, and a density, which are mutually singular, it is infinite. Other
pairs: quadrature for d <= 2, else Monte Carlo.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import AxisAligned, Covariance, Dense
from ensembletheory.divergences.low_rank import low_rank_kl, pays
from ensembletheory.divergences.pairs import finite_sum, is_finite, refuse_laws
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.gaussian import is_singular
from ensembletheory.laws.law import require_same_dim
from ensembletheory.linalg import cholesky

__all__ = ["kl"]


def kl(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """KL(p || q) in nats: closed form for two Gaussians and for laws of finite support, quadrature for d <= 2, else Monte Carlo.

    Args:
        p: the law under which the expectation is taken.
        q: the law compared with it.
        key: needed where only Monte Carlo can answer.
        samples: number of Monte-Carlo draws; giving it asks for Monte Carlo unless there is a closed form.
        rtol: relative error asked of the quadrature (default 1e-10).

    Raises:
        ValueError: if the dimensions differ, or only Monte Carlo can answer and no key is given.
        TypeError: if both are Gaussians of singular covariance.
    """
    require_same_dim(p, q)
    if is_singular(p) and is_singular(q):
        refuse_laws(p, q, "at most one Gaussian of singular covariance", "Take marginals on coordinates where both have densities.")
    if is_singular(p) or is_singular(q):
        return closed_form(jnp.inf)
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return closed_form(_gaussian_kl(p, q))
    if is_finite(p, q):
        return closed_form(finite_sum(_at_atom, p, q))
    if is_finite(p) or is_finite(q):
        return closed_form(jnp.inf)
    return expectation(p, _log_ratio, (p, q), key, samples, rtol)


@eqx.filter_jit
def _gaussian_kl(p: Gaussian, q: Gaussian) -> Float[Array, ""]:
    z = q.covariance.whiten(p.mean - q.mean)
    value = _centred_kl(p.covariance, q.covariance) + 0.5 * (z @ z)
    known = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((p, q))]))
    return jnp.where(jnp.isnan(value) & known, jnp.inf, value)  # a covariance met under jit turned out singular


def _centred_kl(S: Covariance, R: Covariance) -> Float[Array, ""]:
    """KL(N(0, S) || N(0, R))."""
    if isinstance(S, AxisAligned) and isinstance(R, AxisAligned):
        excess, coupling = S.variances / R.variances - 1, 0.0
    elif pays(S, R):
        return low_rank_kl(S, R)
    else:
        A = jax.vmap(Dense(R.as_matrix()).whiten, in_axes=1, out_axes=1)(cholesky(S.as_matrix()))
        excess, coupling = jnp.diagonal(A) ** 2 - 1, jnp.sum(jnp.tril(A, -1) ** 2)
    return 0.5 * (jnp.sum(excess - jnp.log1p(excess)) + coupling)


def _at_atom(a: Array, b: Array) -> Array:
    both = (a > 0) & (b > 0)
    excess = jnp.where(both, (b - a) / jnp.where(a > 0, a, 1.0), 0.0)
    return jnp.where(both, a * (excess - jnp.log1p(excess)), jnp.where(a > 0, jnp.inf, b))


def _log_ratio(x: Float[Array, " d"], p: Law, q: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    log_p, log_q = p._log_prob(x), q._log_prob(x)
    return log_p - log_q, jnp.abs(log_p) + jnp.abs(log_q)
