r"""The chi-squared divergence chi^2(p || q) = int p^2 / q - 1 = int (p - q)^2 / q, which is infinite unless q's tails are heavy enough.

A mixture p = sum_i w_i N(m_i, S_i) against a Gaussian q = N(n, V): with L L^T = V, E_i = L^{-1} (S_i - V) L^{-T}, z_i = L^{-1} (m_i - n) and M = I - E_i E_j,

    chi^2 = sum_ij w_i w_j (I_ij - 1),   log I_ij = -1/2 log det M + z_i^T M^{-T} z_j + 1/2 z_i^T M^{-T} E_j z_i + 1/2 z_j^T M^{-1} E_i z_j,

finite if and only if S_i^{-1} + S_j^{-1} - V^{-1} is positive definite for all i, j with w_i w_j > 0 (it is enough to ask it of i = j: V > S_i / 2).

A mixture q, by the tails. On the line p^2 / q is integrable at an end if and only if, among the widest components, var_p < 2 var_q, or var_p = 2 var_q and q's mean lies
farther out than p's. In the plane it is enough that for every i and every direction v there is a k with v^T (2 S_i^{-1} - V_k^{-1}) v > 0, and if all are < 0 in some
direction the integral is infinite; the least of the largest is looked for at all minima of single forms and crossings of two. A tie in the plane counts as infinite.
In higher dimensions directions are tried, which can prove that the integral is infinite but not that it is finite.

Laws of finite support: a sum over atoms; infinite where q misses an atom of p or p has a density and q not. Otherwise quadrature for d <= 2 over a box that holds the
pieces of every N(m_i, S_i)^2 / N(n_k, V_k), else Monte Carlo under (p + q) / 2, whose integrand 2 tanh^2(t/2) (1 + exp t), t = log p - log q, may have heavy tails.
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.divergences.midpoint import relative_spectrum
from ensembletheory.divergences.pairs import Components, components, finite_sum, has_grid, is_finite, joint_breaks, refuse_laws
from ensembletheory.errors import is_concrete
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.law import require_same_dim
from ensembletheory.linalg import cholesky, substitute, symmetrised
from ensembletheory.quadrature import integrate

__all__ = ["chi_squared"]

_SLACK = 64  # units of rounding within which a smallest eigenvalue counts as 0
_SMALL = 1e-2  # Frobenius norm below which log det(I - X) is summed as a series
_LARGEST_RATIO = 700.0
_STEPS = (0.7, 1.5, 2.5, 3.7, 5.2, 7.0, 9.5, 13.0)  # break points in standard deviations
_DIRECTIONS = 4096  # tried for d > 2


def chi_squared(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """Int p^2 / q - 1, infinite where the module's docstring says so.

    Closed form for a Gaussian or mixture p against a Gaussian q and between laws of finite support; quadrature against a mixture q for d <= 2, else Monte Carlo.

    Args:
        p: the law in the numerator.
        q: the law in the denominator.
        key: needed where only Monte Carlo can answer.
        samples: number of Monte-Carlo draws from each law; giving it asks for Monte Carlo unless there is a closed form or the answer is infinite.
        rtol: relative error asked of the quadrature (default 1e-10).

    Raises:
        ValueError: if the dimensions differ, or only Monte Carlo can answer and no key is given.
        TypeError: between a density and a `GridLaw`, whose tails are not known.
    """
    require_same_dim(p, q)
    if is_finite(p, q):
        return closed_form(finite_sum(_at_atom, p, q))
    if is_finite(p) or is_finite(q):
        return closed_form(jnp.inf)
    if has_grid(p, q):
        refuse_laws(p, q, "Gaussians, mixtures or laws of finite support", "Whether chi-squared is finite is a matter of tails, and those of a GridLaw are not known.")
    if isinstance(q, Gaussian):
        return closed_form(_against_gaussian(p, q))
    return _against_mixture(p, cast(GaussianMixture, q), key, samples, rtol)


def _at_atom(a: Array, b: Array) -> Array:
    return jnp.where(b > 0, (a - b) ** 2 / jnp.where(b > 0, b, 1.0), jnp.where(a > 0, jnp.inf, 0.0))


@eqx.filter_jit
def _against_gaussian(p: Law, q: Gaussian) -> Float[Array, ""]:
    weights, means, covs = cast(Components, components(p))
    V = q.cov
    L = cholesky(V)
    narrow = jax.vmap(lambda S: _fits(S, V, L))(covs)
    bounded = jnp.all(narrow | (weights == 0))
    E = jax.vmap(lambda S: symmetrised(substitute(L, substitute(L, S - V).T)))(jnp.where(narrow[:, None, None], covs, V[None]))
    z = jax.vmap(lambda m: substitute(L, (m - q.mean)[:, None])[:, 0])(means)
    logs = _log_single(E[0], z[0])[None, None] if isinstance(p, Gaussian) else jax.vmap(lambda A, a: jax.vmap(lambda B, b: _log_pair(A, a, B, b))(E, z))(E, z)
    products = weights[:, None] * weights[None, :]
    terms = jnp.where(products > 0, products * jnp.expm1(logs), 0.0)
    return jnp.where(bounded, jnp.sum(terms), jnp.inf)


def _fits(S: Float[Array, "d d"], V: Float[Array, "d d"], L: Float[Array, "d d"]) -> Bool[Array, ""]:
    """Whether V > S / 2, beyond rounding."""
    largest = jnp.max(jax.lax.stop_gradient(relative_spectrum(L, S - V)))
    return largest < 1 - _SLACK * S.shape[0] * jnp.finfo(S.dtype).eps


def _log_single(E: Float[Array, "d d"], z: Float[Array, " d"]) -> Float[Array, ""]:
    """Log I_ii: -1/2 log det(I - E^2) + z^T (I - E)^{-1} z."""
    spectrum = E[0] if E.shape[0] == 1 else jnp.linalg.eigvalsh(E)
    return -0.5 * jnp.sum(jnp.log1p(-(spectrum**2))) + z @ jnp.linalg.solve(jnp.eye(z.size, dtype=z.dtype) - E, z)


def _log_pair(A: Float[Array, "d d"], a: Float[Array, " d"], B: Float[Array, "d d"], b: Float[Array, " d"]) -> Float[Array, ""]:
    M = jnp.eye(a.size, dtype=a.dtype) - A @ B
    through = jnp.linalg.solve(M.T, jnp.stack([b, B @ a], axis=1))
    return -0.5 * _logdet_one_minus(A @ B) + a @ through[:, 0] + 0.5 * a @ through[:, 1] + 0.5 * b @ jnp.linalg.solve(M, A @ b)


def _logdet_one_minus(X: Float[Array, "d d"]) -> Float[Array, ""]:
    """Log det(I - X), by -sum_k tr X^k / k where X is small."""
    small = jnp.sum(X**2) < _SMALL**2
    term, total = X, -jnp.trace(X)
    for k in range(2, 9):
        term = term @ X
        total = total - jnp.trace(term) / k
    return jnp.asarray(jnp.where(small, total, jnp.linalg.slogdet(jnp.eye(X.shape[0], dtype=X.dtype) - X)[1]))


def _against_mixture(p: Law, q: GaussianMixture, key: PRNGKeyArray | None, samples: int | None, rtol: float | None) -> Estimate:
    bounded = _tails_hold(p, q)
    if p.dim > 2 or samples is not None:
        if is_concrete(bounded) and not bool(bounded):
            return closed_form(jnp.inf)
        first, second = (None, None) if key is None else jax.random.split(key)
        estimate = (expectation(p, _under_average, (p, q), first, samples) + expectation(q, _under_average, (p, q), second, samples)) * 0.5
    elif is_concrete(bounded) and not bool(bounded):
        return Estimate(jnp.asarray(jnp.inf), jnp.asarray(0.0), "quadrature")
    else:
        estimate = integrate(Partial(_excess, p, q), _ratio_breaks(p, q), rtol)
    return Estimate(jnp.where(bounded, estimate.value, jnp.inf), jnp.where(bounded, estimate.error, 0.0), estimate.kind)


def _excess(p: Law, q: Law, x: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(p - q)^2 / q, from log p and log q without overflow."""
    log_p, log_q = p._log_prob(x), q._log_prob(x)
    t = log_p - log_q
    far = t > 1
    small = jnp.exp(log_q) * jnp.expm1(jnp.where(far, 0.0, t)) ** 2
    value = jnp.where(far, jnp.exp(jnp.where(far, log_p + t, 0.0)) * jnp.expm1(-jnp.where(far, t, 1.0)) ** 2, small)
    return value, value * (1 + jnp.abs(log_p) + jnp.abs(log_q))


def _under_average(x: Float[Array, " d"], p: Law, q: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    t = jnp.minimum(p._log_prob(x) - q._log_prob(x), _LARGEST_RATIO)
    value = 2 * jnp.tanh(t / 2) ** 2 * (1 + jnp.exp(t))
    return value, value


@eqx.filter_jit
def _ratio_breaks(p: Law, q: GaussianMixture) -> tuple[Float[Array, " n"], ...]:
    """The break points of both laws, and those of every N(m_i, S_i)^2 / N(n_k, V_k) that is a Gaussian up to its factor."""
    _, means, covs = cast(Components, components(p))
    P, Q = jnp.linalg.inv(covs), jnp.linalg.inv(q.covs)
    H = 2 * P[:, None] - Q[None, :]
    proper = jnp.linalg.eigvalsh(H)[..., 0] > 1e-6 * jnp.linalg.eigvalsh(P)[:, None, 0]
    H = jnp.asarray(jnp.where(proper[..., None, None], H, P[:, None]))
    pull = 2 * jnp.einsum("iab,ib->ia", P, means)[:, None] - jnp.einsum("kab,kb->ka", Q, q.means)[None, :]
    centres = jnp.asarray(jnp.where(proper[..., None], jnp.linalg.solve(H, pull[..., None])[..., 0], means[:, None]))
    widths = jnp.sqrt(jnp.diagonal(jnp.linalg.inv(H), axis1=-2, axis2=-1))
    steps = jnp.asarray([-step for step in reversed(_STEPS)] + [0.0, *_STEPS] if p.dim == 1 else [-13.0, -6.0, -3.0, 0.0, 3.0, 6.0, 13.0])
    points = centres[..., None, :] + widths[..., None, :] * steps[None, None, :, None]
    return tuple(jnp.sort(jnp.concatenate([own, points[..., axis].ravel()])) for axis, own in enumerate(joint_breaks(p, q)))


@eqx.filter_jit
def _tails_hold(p: Law, q: GaussianMixture) -> Bool[Array, ""]:
    """Whether int p^2 / q is finite; beyond the plane, whether nothing was found that makes it infinite."""
    weights, means, covs = jax.lax.stop_gradient(cast(Components, components(p)))
    others = jax.lax.stop_gradient(cast(Components, components(q)))
    if p.dim == 1:
        ends = [_end_holds(weights, side * means[:, 0], covs[:, 0, 0], others[0], side * others[1][:, 0], others[2][:, 0, 0]) for side in (1.0, -1.0)]
        return ends[0] & ends[1]
    P, Q = jnp.linalg.inv(covs), jnp.linalg.inv(others[2])
    forms = 2 * P[:, None] - Q[None, :]  # (i, k, d, d)
    present = others[0] > 0
    directions = jax.vmap(_plane_candidates)(forms) if p.dim == 2 else jnp.broadcast_to(_tried(p.dim), (P.shape[0], _DIRECTIONS, p.dim))
    heights = jnp.einsum("inA,ikAB,inB->ink", directions, forms, directions)
    least = jnp.min(jnp.max(jnp.where(present, heights, -jnp.inf), axis=-1), axis=-1)
    slack = _SLACK * jnp.finfo(P.dtype).eps * jnp.max(jnp.abs(forms), axis=(1, 2, 3))
    return jnp.all((least > slack) | (weights == 0))


def _end_holds(weights, means, variances, other_weights, other_means, other_variances) -> Bool[Array, ""]:
    """Whether p^2 / q is integrable at plus infinity."""

    def widest(w, m, v):
        top = jnp.max(v, initial=0.0, where=w > 0)
        return top, jnp.max(m, initial=-jnp.inf, where=(w > 0) & (v >= top * (1 - slack)))

    slack = _SLACK * jnp.finfo(means.dtype).eps
    (variance, mean), (other_variance, other_mean) = widest(weights, means, variances), widest(other_weights, other_means, other_variances)
    tie = jnp.abs(variance - 2 * other_variance) <= slack * variance
    return jnp.where(tie, mean < other_mean, variance < 2 * other_variance)


def _plane_candidates(forms: Float[Array, "k 2 2"]) -> Float[Array, "n 2"]:
    """Directions among which the largest of the quadratic forms is least: minima of one, crossings of two.

    In the direction of angle s a form is a + b cos 2s + c sin 2s, least at 2s = pi + atan2(c, b); the difference of two vanishes where b cos 2s + c sin 2s = -a.
    """
    a, b, c = (forms[:, 0, 0] + forms[:, 1, 1]) / 2, (forms[:, 0, 0] - forms[:, 1, 1]) / 2, forms[:, 0, 1]
    minima = jnp.arctan2(c, b) + np.pi
    da, db, dc = (part[:, None] - part[None, :] for part in (a, b, c))
    size, phase = jnp.hypot(db, dc), jnp.arctan2(dc, db)
    turn = jnp.arccos(jnp.clip(-da / jnp.where(size > 0, size, 1.0), -1.0, 1.0))
    doubled = jnp.concatenate([minima, (phase + turn).ravel(), (phase - turn).ravel()])
    return jnp.stack([jnp.cos(doubled / 2), jnp.sin(doubled / 2)], axis=-1)


def _tried(d: int) -> Float[Array, "n d"]:
    """Fixed directions, spread over the sphere."""
    draws = np.random.default_rng(0).normal(size=(_DIRECTIONS - d, d))
    return jnp.asarray(np.concatenate([np.eye(d), draws / np.linalg.norm(draws, axis=1, keepdims=True)]))
