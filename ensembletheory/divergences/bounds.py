r"""Bounds in closed form on divergences of Gaussian mixtures f = sum_a pi_a f_a and g = sum_b w_b g_b, and some approximations that are no bounds.

With z_ab = KL(f_a || f_b), k_ab = KL(f_a || g_b), s_ab = int f_a f_b, t_ab = int f_a g_b and H_a the entropy of f_a:

 - product approximation (Hershey & Olsen 2007)   sum_a pi_a log[ sum_b pi_b s_ab / sum_b w_b t_ab ]; neither a lower nor an upper bound
 - variational approximation (same)               sum_a pi_a log[ sum_b pi_b exp(-z_ab) / sum_b w_b exp(-k_ab) ]; neither
 - Durrieu, Thiran & Kelly (2012), a sandwich: E_{f_a} log f lies between log sum_b pi_b exp(-z_ab) - H_a (variational)
   and log sum_b pi_b s_ab (Jensen), and the same with g, so

       sum_a pi_a ( log[ sum_b pi_b exp(-z_ab) / sum_b w_b t_ab ] - H_a )  <=  KL(f || g)  <=  sum_a pi_a ( log[ sum_b pi_b s_ab / sum_b w_b exp(-k_ab) ] + H_a ).

 - convexity                                      KL(f || g) <= sum_ab pi_a w_b k_ab
 - matching (Goldberger, Gordon & Greenspan 2003) sum_a pi_a min_b [ k_ab + log(pi_a / w_b) ]; an upper bound (log-sum inequality) if no b serves two a, else neither

On W2: Gelbrich's lower bound sqrt(|m - n|^2 + B^2(S, R)) from means and covariances alone; the upper bound MW2 (Delon & Desolneux 2020), and its converse
MW2 <= W2 + sqrt(2 sum_a pi_a tr S_a) + sqrt(2 sum_b w_b tr R_b).

On the entropy of f (Kolchinsky & Tracey 2017): with E_D = - sum_a pi_a log sum_b pi_b exp(-D(f_a, f_b)), the entropy lies between sum_a pi_a H_a + E_D for D the Chernoff
divergence -log int f_a^{1-alpha} f_b^alpha and for D = KL. The entropy of the pool of an ensemble less the mean entropy of its Gaussian members, their generalised
Jensen-Shannon divergence, hence lies between the two E_D.
"""

from collections.abc import Sequence
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembletheory.divergences.frechet import frechet_distance
from ensembletheory.divergences.kernel_mean import overlaps
from ensembletheory.divergences.kl import _gaussian_kl
from ensembletheory.divergences.pairs import Components, components, has_grid, is_finite, refuse_laws
from ensembletheory.divergences.transport import mw2
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.law import require_same_dim
from ensembletheory.laws.weights import checked_weights, log_weighted_sum
from ensembletheory.linalg import logdet

__all__ = [
    "convexity_bound",
    "durrieu",
    "gelbrich",
    "goldberger",
    "hershey_olsen",
    "kolchinsky_tracey",
    "kolchinsky_tracey_diversity",
    "mw2_upper_bound_on_w2",
    "product_approximation",
    "w2_upper_bound_on_mw2",
]


def durrieu(p: Law, q: Law) -> tuple[Estimate, Estimate]:
    """A lower and an upper bound on KL(p || q) of Gaussians or mixtures.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for other laws.
    """
    lower, upper = _durrieu(*_mixtures(p, q))
    return closed_form(lower), closed_form(upper)


def hershey_olsen(p: Law, q: Law) -> Estimate:
    """The variational approximation of KL(p || q) of Gaussians or mixtures: no bound, neither from below nor from above.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for other laws.
    """
    return closed_form(_hershey_olsen(*_mixtures(p, q)))


def product_approximation(p: Law, q: Law) -> Estimate:
    """The product-of-Gaussians approximation of KL(p || q) of Gaussians or mixtures: no bound, neither from below nor from above.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for other laws.
    """
    return closed_form(_product(*_mixtures(p, q)))


def convexity_bound(p: Law, q: Law) -> Estimate:
    """The upper bound sum_ab pi_a w_b KL(f_a || g_b) on KL(p || q) of Gaussians or mixtures.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for other laws.
    """
    return closed_form(_convexity(*_mixtures(p, q)))


def goldberger(p: Law, q: Law) -> Estimate:
    """The matching approximation of KL(p || q) of Gaussians or mixtures: an upper bound if each component of p is matched with another one of q, else no bound.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for other laws.
    """
    return closed_form(_goldberger(*_mixtures(p, q)))


def gelbrich(p: Law, q: Law) -> Estimate:
    """The lower bound on W2(p, q) from means and covariances, of any two laws; attained by Gaussians.

    Raises:
        ValueError: if the dimensions differ.
    """
    return frechet_distance(p, q)


def mw2_upper_bound_on_w2(p: Law, q: Law) -> Estimate:
    """The upper bound MW2 on W2(p, q) of Gaussians, mixtures or laws of finite support; attained by two Gaussians and by two laws of finite support.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for a `GridLaw`.
    """
    return mw2(p, q)


def w2_upper_bound_on_mw2(p: Law, q: Law, w2: Estimate | ArrayLike) -> Estimate:
    """W2 + sqrt(2 sum_a pi_a tr S_a) + sqrt(2 sum_b w_b tr R_b), which MW2 does not exceed.

    Args:
        p: a Gaussian, mixture or law of finite support.
        q: the same.
        w2: the distance W2(p, q), or what is known of it.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: for a `GridLaw`.
    """
    require_same_dim(p, q)
    if has_grid(p, q):
        refuse_laws(p, q, "Gaussians, mixtures or laws of finite support", "The bound is about components, and a GridLaw has none.")
    slack = _root_of_traces(cast(Components, components(p))) + _root_of_traces(cast(Components, components(q)))
    return (w2 if isinstance(w2, Estimate) else closed_form(w2)) + slack


def kolchinsky_tracey(law: Law, alpha: ArrayLike = 0.5) -> tuple[Estimate, Estimate]:
    """A lower and an upper bound on the differential entropy of a Gaussian or mixture.

    Args:
        law: the mixture.
        alpha: the exponent of the Chernoff divergence in the lower bound, in [0, 1].

    Raises:
        ValueError: if alpha is outside [0, 1].
        TypeError: for other laws.
    """
    (f, _), alpha = _mixtures(law, law), _checked_exponent(alpha)
    entropy = f[0] @ _entropies(f)
    lower, upper = _pairwise_entropy(f, alpha)
    return closed_form(entropy + lower), closed_form(entropy + upper)


def kolchinsky_tracey_diversity(members: Sequence[Gaussian], weights: Numbers | None = None, alpha: ArrayLike = 0.5) -> tuple[Estimate, Estimate]:
    """A lower and an upper bound on sum_k w_k KL(q_k || pool), the generalised Jensen-Shannon divergence of Gaussian members: what the linear pool gains in reverse KL.

    Raises:
        ValueError: if there is no member, dimensions differ, weights are off the simplex, or alpha is outside [0, 1].
        TypeError: if a member is not Gaussian.
    """
    if not members:
        refuse("members", "none", "at least one Gaussian", "An ensemble has members.")
    for member in members:
        if not isinstance(member, Gaussian):
            raise TypeError(f"`members`: got {type(member).__name__}; expected Gaussians. The bounds are about one family.")
        require_same_dim(members[0], member)
    parts = checked_weights(weights, len(members)), jnp.stack([member.mean for member in members]), jnp.stack([member.cov for member in members])
    lower, upper = _pairwise_entropy(parts, _checked_exponent(alpha))
    return closed_form(lower), closed_form(upper)


def _checked_exponent(alpha: ArrayLike) -> Float[Array, ""]:
    exponent = as_floats("alpha", alpha)
    if exponent.shape != () or (is_concrete(exponent) and not 0 <= float(exponent) <= 1):
        refuse("alpha", str(alpha), "one number in [0, 1]", "1/2 gives the Bhattacharyya distance, the best choice for equal covariances.")
    return exponent


def _mixtures(p: Law, q: Law) -> tuple[Components, Components]:
    require_same_dim(p, q)
    if has_grid(p, q) or is_finite(p) or is_finite(q):
        refuse_laws(p, q, "Gaussians or mixtures", "The bounds are formed from Gaussian components.")
    return cast(Components, components(p)), cast(Components, components(q))


def _over_pairs(function, f: Components, g: Components) -> Float[Array, "K L"]:
    return jax.vmap(lambda m, S: jax.vmap(lambda n, R: function(Gaussian(m, S), Gaussian(n, R)))(g[1], g[2]))(f[1], f[2])


def _log_mean_exp(weights: Float[Array, " L"], exponents: Float[Array, "K L"]) -> Float[Array, " K"]:
    return jax.vmap(lambda row: log_weighted_sum(weights, row))(exponents)


def _log_overlaps(f: Components, g: Components) -> Float[Array, "K L"]:
    return jnp.log(overlaps(f[1:], g[1:]))


@eqx.filter_jit
def _entropies(f: Components) -> Float[Array, " K"]:
    return 0.5 * (f[1].shape[1] * np.log(2 * np.pi * np.e) + jax.vmap(logdet)(f[2]))


@eqx.filter_jit
def _durrieu(f: Components, g: Components) -> tuple[Float[Array, ""], Float[Array, ""]]:
    entropies = _entropies(f)
    own_kl, cross_kl = (_log_mean_exp(other[0], -_over_pairs(_gaussian_kl, f, other)) for other in (f, g))
    own, cross = (_log_mean_exp(other[0], _log_overlaps(f, other)) for other in (f, g))
    return f[0] @ (own_kl - cross - entropies), f[0] @ (own - cross_kl + entropies)


@eqx.filter_jit
def _hershey_olsen(f: Components, g: Components) -> Float[Array, ""]:
    own, cross = (_log_mean_exp(other[0], -_over_pairs(_gaussian_kl, f, other)) for other in (f, g))
    return f[0] @ (own - cross)


@eqx.filter_jit
def _product(f: Components, g: Components) -> Float[Array, ""]:
    own, cross = (_log_mean_exp(other[0], _log_overlaps(f, other)) for other in (f, g))
    return f[0] @ (own - cross)


@eqx.filter_jit
def _convexity(f: Components, g: Components) -> Float[Array, ""]:
    return f[0] @ _over_pairs(_gaussian_kl, f, g) @ g[0]


@eqx.filter_jit
def _goldberger(f: Components, g: Components) -> Float[Array, ""]:
    present = f[0] > 0
    ratios = jnp.log(jnp.where(present, f[0], 1.0))[:, None] - jnp.log(g[0])[None, :]
    return f[0] @ jnp.where(present, jnp.min(_over_pairs(_gaussian_kl, f, g) + ratios, axis=1), 0.0)


@eqx.filter_jit
def _root_of_traces(f: Components) -> Float[Array, ""]:
    return jnp.sqrt(2 * f[0] @ jnp.trace(f[2], axis1=1, axis2=2))


@eqx.filter_jit
def _pairwise_entropy(f: Components, alpha: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """E_D for the Chernoff divergence and for KL."""
    chernoff, divergences = _over_pairs(lambda p, q: _chernoff(p, q, alpha), f, f), _over_pairs(_gaussian_kl, f, f)
    return -f[0] @ _log_mean_exp(f[0], -chernoff), -f[0] @ _log_mean_exp(f[0], -divergences)


def _chernoff(p: Gaussian, q: Gaussian, alpha: Float[Array, ""]) -> Float[Array, ""]:
    """-log int p^{1 - alpha} q^alpha = 1/2 alpha (1 - alpha) d^T S^{-1} d + 1/2 log( det S / (det S_p^alpha det S_q^{1-alpha}) ), S = alpha S_p + (1 - alpha) S_q."""
    between = Gaussian(p.mean - q.mean, alpha * p.cov + (1 - alpha) * q.cov)
    z = between.covariance.whiten(between.mean)
    return 0.5 * (alpha * (1 - alpha) * z @ z + between.covariance.logdet() - alpha * p.covariance.logdet() - (1 - alpha) * q.covariance.logdet())
