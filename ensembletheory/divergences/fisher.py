r"""The Fisher divergence E_p |grad log p - grad log q|^2 (no factor 1/2).

For Gaussians, with B = S_q^{-1} - S_p^{-1}:  |B L_p|_F^2 + |S_q^{-1} (m_p - m_q)|^2. Other pairs: quadrature for d <= 2, else Monte Carlo.
A law of finite support has no score.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.divergences.pairs import is_finite, refuse_laws
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.law import require_same_dim

__all__ = ["fisher_divergence"]


def fisher_divergence(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """E_p |grad log p - grad log q|^2: closed form for two Gaussians, quadrature for d <= 2, else Monte Carlo.

    Args:
        p: the law under which the expectation is taken.
        q: the law compared with it.
        key: needed where only Monte Carlo can answer.
        samples: number of Monte-Carlo draws; giving it asks for Monte Carlo unless there is a closed form.
        rtol: relative error asked of the quadrature (default 1e-10).

    Raises:
        ValueError: if the dimensions differ, or only Monte Carlo can answer and no key is given.
        TypeError: for a law of finite support, which has no score.
    """
    require_same_dim(p, q)
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return closed_form(_gaussian_fisher(p, q))
    if is_finite(p) or is_finite(q):
        refuse_laws(p, q, "two densities", "A law of finite support has no score: convolve it with a Gaussian first.")
    return expectation(p, _squared_score_gap, (p, q), key, samples, rtol)


@eqx.filter_jit
def _gaussian_fisher(p: Gaussian, q: Gaussian) -> Float[Array, ""]:
    B = q.covariance.inverse().as_matrix() - p.covariance.inverse().as_matrix()
    return jnp.sum((B @ p.covariance.factor()) ** 2) + jnp.sum(q.covariance.solve(p.mean - q.mean) ** 2)


def _squared_score_gap(x: Float[Array, " d"], p: Law, q: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    score_p, score_q = p._score(x), q._score(x)
    return jnp.sum((score_p - score_q) ** 2), jnp.sum((jnp.abs(score_p) + jnp.abs(score_q)) ** 2)
