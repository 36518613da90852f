r"""The bounded f-divergences: total variation (1/2) int |p - q|, squared Hellinger distance 1 - int sqrt(p q), Jensen-Shannon divergence with equal weights.

With m = (p + q) / 2 and t = log p - log q each is E_m h(t), where h >= 0 is even and of the order of t^2 at 0 (|t| for total variation), so that near-equal laws keep their
digits:

    total variation  |tanh(t/2)|        squared Hellinger  2 sinh^2(t/4) / cosh(t/2)        Jensen-Shannon  (t/2) tanh(t/2) - log cosh(t/2).

Closed forms. Two laws of finite support: a sum over atoms. One such law beside a density: mutually singular, 1, 1 and log 2. Gaussians, with rho and g of
`divergences.midpoint`:

    squared Hellinger  1 - exp( 1/4 sum_i log(1 - rho_i^2) - g / 8 ).

Total variation of Gaussians of equal covariance: 2 Phi(D/2) - 1 with D their Mahalanobis distance; on the line also of unequal variances, since log p - log q changes
its sign at the roots of a quadratic. Everything else: quadrature for d <= 2, else Monte Carlo.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, ndtr
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.divergences.midpoint import midpoint
from ensembletheory.divergences.pairs import finite_sum, is_finite
from ensembletheory.errors import is_concrete
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.law import require_same_dim

__all__ = ["hellinger_squared", "jensen_shannon", "total_variation"]

_SATURATED = 80.0  # |t| from which every h is its limit to the last digit
_PLANE_RTOL = 1e-3  # asked of total variation in the plane by default: |p - q| has a crease along a curve


def hellinger_squared(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """1 - int sqrt(p q), in [0, 1]: closed form for two Gaussians and for laws of finite support, quadrature for d <= 2, else Monte Carlo.

    Args:
        p: a law.
        q: a law.
        key: needed where only Monte Carlo can answer.
        samples: number of Monte-Carlo draws from each law; giving it asks for Monte Carlo unless there is a closed form.
        rtol: relative error asked of the quadrature (default 1e-10).

    Raises:
        ValueError: if the dimensions differ, or only Monte Carlo can answer and no key is given.
    """
    require_same_dim(p, q)
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return closed_form(_gaussian_hellinger(p, q))
    return _answered(p, q, _HELLINGER, key, samples, rtol)


def jensen_shannon(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """(1/2) KL(p || m) + (1/2) KL(q || m) with m = (p + q) / 2, in [0, log 2]: closed form for laws of finite support, quadrature for d <= 2, else Monte Carlo.

    Args:
        p: a law.
        q: a law.
        key: needed where only Monte Carlo can answer.
        samples: number of Monte-Carlo draws from each law; giving it asks for Monte Carlo unless there is a closed form.
        rtol: relative error asked of the quadrature (default 1e-10).

    Raises:
        ValueError: if the dimensions differ, or only Monte Carlo can answer and no key is given.
    """
    require_same_dim(p, q)
    return _answered(p, q, _JENSEN_SHANNON, key, samples, rtol)


def total_variation(p: Law, q: Law, key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """(1/2) int |p - q|, in [0, 1].

    Closed form for Gaussians on the line, for Gaussians whose covariances can be seen to be equal, and for laws of finite support; else quadrature for d <= 2 and Monte
    Carlo beyond. In the plane |p - q| has a crease along a curve, and the quadrature is content with a relative error of 1e-3 unless `rtol` asks for less.

    Args:
        p: a law.
        q: a law.
        key: needed where only Monte Carlo can answer.
        samples: number of Monte-Carlo draws from each law; giving it asks for Monte Carlo unless there is a closed form.
        rtol: relative error asked of the quadrature (default 1e-10 on the line, 1e-3 in the plane).

    Raises:
        ValueError: if the dimensions differ, or only Monte Carlo can answer and no key is given.
    """
    require_same_dim(p, q)
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        if p.dim == 1:
            return closed_form(_line_total_variation(p, q))
        if _same_covariance(p, q):
            return closed_form(_shifted_total_variation(p, q))
    return _answered(p, q, _TOTAL_VARIATION, key, samples, _PLANE_RTOL if rtol is None and p.dim == 2 else rtol)


class _Bounded(eqx.Module):
    """One of the divergences: h, f(p(x), q(x)) at an atom x, and the value at mutually singular laws."""

    at_ratio: Callable[[Float[Array, ""]], Float[Array, ""]] = eqx.field(static=True)
    integrand: Callable = eqx.field(static=True)
    at_atom: Callable = eqx.field(static=True)
    singular: float = eqx.field(static=True)


def _answered(p: Law, q: Law, divergence: _Bounded, key: PRNGKeyArray | None, samples: int | None, rtol: float | None) -> Estimate:
    if is_finite(p, q):
        return closed_form(finite_sum(divergence.at_atom, p, q))
    if is_finite(p) or is_finite(q):
        return closed_form(divergence.singular)
    first, second = (None, None) if key is None else jax.random.split(key)
    under_p = expectation(p, divergence.integrand, (p, q), first, samples, rtol)
    return (under_p + expectation(q, divergence.integrand, (p, q), second, samples, rtol)) * 0.5


def _hellinger_at(t: Float[Array, ""]) -> Float[Array, ""]:
    return 2 * jnp.sinh(t / 4) ** 2 / jnp.cosh(t / 2)


def _jensen_shannon_at(t: Float[Array, ""]) -> Float[Array, ""]:
    return 0.5 * (t * jnp.tanh(t / 2) - jnp.log1p(jnp.sinh(t / 2) ** 2))


def _total_variation_at(t: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.abs(jnp.tanh(t / 2))


def _of_log_ratio(h: Callable, x: Float[Array, " d"], p: Law, q: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    log_p, log_q = p._log_prob(x), q._log_prob(x)
    value, slope = jax.value_and_grad(h)(jnp.clip(log_p - log_q, -_SATURATED, _SATURATED))
    return value, value + jnp.abs(slope) * (jnp.abs(log_p) + jnp.abs(log_q))


def _hellinger_integrand(x, p, q):
    return _of_log_ratio(_hellinger_at, x, p, q)


def _jensen_shannon_integrand(x, p, q):
    return _of_log_ratio(_jensen_shannon_at, x, p, q)


def _total_variation_integrand(x, p, q):
    return _of_log_ratio(_total_variation_at, x, p, q)


def _hellinger_at_atom(a: Array, b: Array) -> Array:
    return 0.5 * ((a - b) / (_root(a) + _root(b))) ** 2


def _root(a: Array) -> Array:
    """Its square root, with derivative 0 at 0."""
    return jnp.where(a > 0, jnp.sqrt(jnp.where(a > 0, a, 1.0)), 0.0)


def _jensen_shannon_at_atom(a: Array, b: Array) -> Array:
    middle = (a + b) / 2
    u = (a - b) / (a + b)
    ratio = jnp.clip(u, -0.5, 0.5)
    near = 0.5 * (2 * ratio * jnp.arctanh(ratio) + jnp.log1p(-(ratio**2)))
    far = 0.5 * (_xlogx(1 + u) + _xlogx(1 - u))
    return middle * jnp.where(jnp.abs(u) <= 0.5, near, far)


def _xlogx(x: Array) -> Array:
    return jnp.where(x > 0, x * jnp.log(jnp.where(x > 0, x, 1.0)), 0.0)


def _total_variation_at_atom(a: Array, b: Array) -> Array:
    return 0.5 * jnp.abs(a - b)


_HELLINGER = _Bounded(_hellinger_at, _hellinger_integrand, _hellinger_at_atom, 1.0)
_JENSEN_SHANNON = _Bounded(_jensen_shannon_at, _jensen_shannon_integrand, _jensen_shannon_at_atom, float(np.log(2)))
_TOTAL_VARIATION = _Bounded(_total_variation_at, _total_variation_integrand, _total_variation_at_atom, 1.0)


@eqx.filter_jit
def _gaussian_hellinger(p: Gaussian, q: Gaussian) -> Float[Array, ""]:
    ratios, gap = midpoint(p, q)
    return -jnp.expm1(0.25 * jnp.sum(jnp.log1p(-(ratios**2))) - gap / 8)


@eqx.filter_jit
def _line_total_variation(p: Gaussian, q: Gaussian) -> Float[Array, ""]:
    """In units of q: p = N(z, a^2); the signs of p - q change where k x^2 + 2 z x - (z^2 + 2 a^2 log a) = 0 with k = a^2 - 1."""
    scale_p, scale_q = (law.covariance.factor()[0, 0] for law in (p, q))
    z, excess = (p.mean[0] - q.mean[0]) / scale_q, (scale_p - scale_q) / scale_q
    a, k, log_a = 1 + excess, excess * (2 + excess), jnp.log1p(excess)
    discriminant = z**2 + 2 * k * log_a
    root = a * _root(discriminant)
    larger = -(z + jnp.where(z < 0, -1.0, 1.0) * root)
    safe = jnp.where(larger != 0, larger, 1.0)
    near = -(z**2 + 2 * a**2 * log_a) / safe
    far = safe / jnp.where(k != 0, k, 1.0)
    at_far = jnp.where(k != 0, ndtr((far - z) / a) - ndtr(far), 0.0)
    return jnp.where(larger != 0, jnp.abs(ndtr((near - z) / a) - ndtr(near) - at_far), 0.0)


@eqx.filter_jit
def _shifted_total_variation(p: Gaussian, q: Gaussian) -> Float[Array, ""]:
    gap = q.covariance.whiten(p.mean - q.mean)
    squared = gap @ gap
    return jnp.where(squared > 0, erf(jnp.sqrt(jnp.where(squared > 0, squared, 1.0) / 8)), 0.0)


def _same_covariance(p: Gaussian, q: Gaussian) -> bool:
    if p.covariance is q.covariance:
        return True
    first, second = p.cov, q.cov
    return is_concrete(first, second) and bool(np.array_equal(first, second))
