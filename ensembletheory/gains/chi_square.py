r"""Expected divergences of pooled fits on the line, by the trapezoidal rule over the laws of sample variances.

A Gaussian fitted by maximum likelihood to n draws from N(0, 1) has a mean m ~ N(0, 1/n) and, independent of it, a variance s^2 = x / n with x ~ chi^2 of nu = n - 1 degrees
of freedom (n may be any real number here). In w = log(x / nu) the density of x is exp( nu/2 (w - e^w) ) times a constant, which decays exponentially to the left and doubly
exponentially to the right: the trapezoidal rule converges geometrically, and the difference to the rule with every second node bounds its error.

 - Linear pool of infinitely many independent fits: q(x) = E N(x; m, s^2) = E N(x; 0, (x + 1)/n), a Gaussian mixture over scales; KL(N(0, 1) || q) is an integral over x.
 - The same for parametric-bootstrap fits of one data set with fit N(m, s^2): the pool is q((x - m) / s) / s, and (x - m) / s = sqrt((n + 1) / nu) T with T ~ Student t of
   nu degrees of freedom, T = sqrt(nu) sinh(v) with a density proportional to cosh(v)^-nu:  E KL = E log s - E log q(sqrt((n + 1) / nu) T) - 1/2 log(2 pi e).
 - Log pool of K independent fits, with precisions p_k = n / x_k: E KL = 1/2 ( E p - 1 + M - E log P ), P = mean of the p_k. With f(s) = E exp(-s / x),
   M = E sum_k p_k^2 / (n K sum_k p_k) = int_0^oo f''(s) f(s)^{K-1} ds   and   E log sum_k 1/x_k = int_0^oo ( e^{-s} - f(s)^K ) ds / s.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, gammaln, logsumexp
from jaxtyping import Array, Float

from ensembletheory.estimate import Estimate

__all__ = ["bootstrap_linear_limit", "linear_limit", "log_pool_on_the_line"]

_NODES = 257
_MORE_NODES = 1025  # where the range is long
_FAR = 37.0  # exp(-37) = 1e-16
_ROUNDING = 1e-13  # log-gamma and digamma are right to a few units in the last place of numbers below 1e3

Rule = tuple[Float[Array, " k"], Float[Array, " k"]]


def _with_error(integral) -> Estimate:
    """The integral by all nodes, and its difference to that by every second one."""
    fine, coarse = integral(1), integral(2)
    return Estimate(fine, jnp.abs(fine - coarse) + _ROUNDING, "quadrature")


def _every(stride: int, nodes: Float[Array, " m"], density: Float[Array, " m"]) -> Rule:
    """The trapezoidal rule on every `stride`-th of equally spaced nodes, at whose ends the density vanishes, or is even."""
    step = stride * (nodes[1] - nodes[0])
    masses = step * density[::stride]
    return nodes[::stride], masses.at[0].multiply(0.5)


def _log_predictive(y: Float[Array, ""], n: Float[Array, ""], stride: int) -> Float[Array, ""]:
    """Log E N(y; 0, (x + 1) / n), by nodes around the x that contributes most: about |y| sqrt(n) where y is large."""
    dof, square = n - 1, n * y**2
    peak = (jnp.maximum(dof - 1, 0.5) + jnp.hypot(jnp.maximum(dof - 1, 0.5), 2 * jnp.sqrt(n) * y)) / 2
    right = jnp.minimum(jnp.sqrt(4 * _FAR / peak), jnp.log(2 + 4 * _FAR / peak))
    lowest = 1 / (1 / (peak + 1) + (2 * _FAR + peak) / jnp.maximum(square, 1e-300)) - 1  # below it the Gaussian factor is negligible
    by_density = jnp.where(dof > 6 * _FAR, jnp.sqrt(6 * _FAR / dof) + jnp.log(peak / dof), 1 + 2 * _FAR / dof + jnp.log1p(peak / dof))
    left = jnp.where(lowest > 0, jnp.minimum(jnp.log(peak / jnp.where(lowest > 0, lowest, 1.0)), by_density), by_density)
    w = jnp.log(peak) + jnp.linspace(-left, right, _NODES)[::stride]
    x = jnp.exp(w)
    log_density = dof / 2 * (w - np.log(2)) - x / 2 - gammaln(dof / 2)
    log_normal = -0.5 * (jnp.log(2 * np.pi * (x + 1) / n) + square / (x + 1))
    return logsumexp(log_density + log_normal) + jnp.log(w[1] - w[0])


@jax.jit
def linear_limit(n: Float[Array, ""]) -> Estimate:
    """KL from N(0, 1) to the linear pool of infinitely many independent fits, n > 1."""
    y = jnp.linspace(0.0, 9.0, _NODES)

    def divergence(stride: int):
        log_p = -0.5 * (y**2 + np.log(2 * np.pi))
        nodes, masses = _every(stride, y, 2 * jnp.exp(log_p))
        return masses @ (log_p[::stride] - jax.vmap(lambda at: _log_predictive(at, n, stride))(nodes))

    return _with_error(divergence)


@jax.jit
def bootstrap_linear_limit(n: Float[Array, ""]) -> Estimate:
    """Expected KL from N(0, 1) to the linear pool of infinitely many parametric-bootstrap fits, n > 2."""
    dof = n - 1
    v = jnp.linspace(0.0, jnp.arccosh(jnp.exp(_FAR / (dof - 1))), _NODES)  # the logarithm of the pool grows like |T|
    density = 2 * jnp.exp(gammaln((dof + 1) / 2) - gammaln(dof / 2) - 0.5 * np.log(np.pi) - dof * jnp.log(jnp.cosh(v)))
    log_scale = 0.5 * (digamma(dof / 2) + jnp.log(2 / n))

    def divergence(stride: int):
        nodes, masses = _every(stride, v, density)
        log_pool = jax.vmap(lambda at: _log_predictive(jnp.sqrt(n + 1) * jnp.sinh(at), n, stride))(nodes)
        return log_scale - masses @ log_pool - 0.5 * (np.log(2 * np.pi) + 1)

    return _with_error(divergence)


def _chi_square(dof: Float[Array, ""], stride: int) -> Rule:
    """Nodes and masses of chi^2, down to where E[1 / x] has no more of it."""
    high = jnp.minimum(jnp.sqrt(4 * _FAR / dof), jnp.log(2 + 4 * _FAR / dof))
    low = jnp.where(dof > 6 * _FAR, -jnp.sqrt(6 * _FAR / dof), -(1 + 2 * _FAR / (dof - 2)))
    w = jnp.linspace(low, high, _MORE_NODES)[::stride]
    return dof * jnp.exp(w), jax.nn.softmax(dof / 2 * (w - jnp.exp(w)))


@jax.jit
def log_pool_on_the_line(n: Float[Array, ""], K: Float[Array, ""]) -> Estimate:
    """Expected KL from N(0, 1) to the log pool of K independent fits, n > 3."""
    dof, mean, scale = n - 1, n / (n - 3), K / (n - 1)
    v = jnp.linspace(-(2 + 2 * _FAR / jnp.minimum(dof - 2, 2.0)), 9.0, _MORE_NODES)

    def divergence(stride: int):
        (nodes, steps), (x, masses) = _every(stride, v, jnp.ones_like(v)), _chi_square(dof, stride)
        t = jnp.exp(nodes)
        decays = masses[None, :] * jnp.exp(-t[:, None] / (scale * x[None, :]))
        f, curvature = jnp.sum(decays, axis=1), decays @ (1 / x**2)
        M = steps @ (t / scale * curvature * f ** (K - 1))
        log_sum = jnp.log(scale) + steps @ (jnp.exp(-t) - f**K)
        return 0.5 * (mean - 1 + M - jnp.log(n / K) - log_sum)

    estimate = _with_error(divergence)
    return Estimate(estimate.value, estimate.error + 1e-14 * K, estimate.kind)  # f is right to a unit in the last place, and is raised to K
