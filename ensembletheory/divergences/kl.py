r"""The Kullback-Leibler divergence KL(p || q) = E_p[log p - log q], in nats.

For Gaussians with Cholesky factors L_p, L_q, the matrix A = L_q^{-1} L_p is lower triangular and z = L_q^{-1} (m_p - m_q):

    KL = 1/2 [ sum_i (A_ii^2 - 1 - log A_ii^2) + sum_{i > j} A_ij^2 + |z|^2 ],

a sum of non-negative terms, so that nothing cancels between near-equal Gaussians. Other pairs: quadrature for d <= 2, else Monte Carlo.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import Diagonal
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.law import require_same_dim

__all__ = ["kl"]


def kl(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """KL(p || q) in nats: closed form for two Gaussians, quadrature for d <= 2, else Monte Carlo.

    Args:
        p: the law under which the expectation is taken.
        q: the law compared with it.
        key: needed where only Monte Carlo can answer.
        samples: number of Monte-Carlo draws; giving it asks for Monte Carlo unless there is a closed form.
        rtol: relative error asked of the quadrature (default 1e-10).

    Raises:
        ValueError: if the dimensions differ, or only Monte Carlo can answer and no key is given.
    """
    require_same_dim(p, q)
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return closed_form(_gaussian_kl(p, q))
    return expectation(p, _log_ratio, (p, q), key, samples, rtol)


@eqx.filter_jit
def _gaussian_kl(p: Gaussian, q: Gaussian) -> Float[Array, ""]:
    z = q.covariance.whiten(p.mean - q.mean)
    if isinstance(p.covariance, Diagonal) and isinstance(q.covariance, Diagonal):
        excess, coupling = p.covariance.variances / q.covariance.variances - 1, 0.0
    else:
        A = jax.vmap(q.covariance.whiten, in_axes=1, out_axes=1)(p.covariance.factor())
        excess, coupling = jnp.diagonal(A) ** 2 - 1, jnp.sum(jnp.tril(A, -1) ** 2)
    return 0.5 * (jnp.sum(excess - jnp.log1p(excess)) + coupling + z @ z)


def _log_ratio(x: Float[Array, " d"], p: Law, q: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    log_p, log_q = p._log_prob(x), q._log_prob(x)
    return log_p - log_q, jnp.abs(log_p) + jnp.abs(log_q)
