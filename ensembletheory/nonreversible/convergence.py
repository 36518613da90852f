r"""How fast linear processes forget, exactly: rates, prefactors and the divergence from the stationary law at any time.

For dX = -B (X - m) dt + (2 D)^{1/2} dW that keeps N(m, Sigma), Sigma = C C^T, started at N(m_0, Sigma_0), let F_t = C^{-1} exp(-B t) C. In whitened coordinates the mean is
off by u = F_t C^{-1} (m_0 - m) and the covariance by Delta = F_t (C^{-1} Sigma_0 C^{-T} - I) F_t^T, with eigenvalues delta_i, and

    KL(p_t || N(m, Sigma)) = 1/2 [ |u|^2 + sum_i (delta_i - log(1 + delta_i)) ],

right relatively however small it is. It never grows, and falls in the end like exp(-2 r t) (like exp(-4 r t) if the means agree), r the slowest rate, the least real part
of the eigenvalues of B; |F_t| is the norm of the semigroup on functions of mean 0 in L2 of the stationary law. |F_t| <= 1; |F_t| exp(r t), the prefactor, is 1 at all
times for reversible processes, and wherever the symmetric and antisymmetric parts of C^{-1} B C commute.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from ensembletheory.bisection import bisected
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian
from ensembletheory.laws.law import require_same_dim
from ensembletheory.linalg import solve_lower, substitute, transition
from ensembletheory.processes import HomogeneousProcess, SkewOrnsteinUhlenbeck

__all__ = ["drift_matrix", "gap", "kinetic_gap", "kl_decay", "prefactor", "rates", "time_to"]

_SMALL = 0.05  # below which delta - log(1 + delta) is its power series
_TERMS = 14  # of it: the next is below 1e-17 of the first
_HALVINGS = 60
_SINGULAR = 1e-13  # how near to -1 an eigenvalue of Delta is that of a law without a density
_LONGEST = 4e6  # of a time, over 1 / |A|: the reach of `transition`


def drift_matrix(process: HomogeneousProcess, dim: int | None = None) -> Float[Array, "d d"]:
    """B, on R^dim, by default the (smallest) dimension of the process."""
    size = process.dim if dim is None else dim
    return -jax.jacfwd(lambda x: process.drift(jnp.zeros(()), x))(jnp.zeros(size))


def rates(process: HomogeneousProcess) -> Complex[Array, " d"]:
    """The eigenvalues of B."""
    return _rates(process)


def gap(process: HomogeneousProcess) -> Float[Array, ""]:
    """The slowest rate: the least real part of the eigenvalues of B."""
    return _gap(process)


def kinetic_gap(stiffness: Numbers, friction: Numbers, mass: Numbers) -> Float[Array, ""]:
    """The slowest rate of the kinetic Langevin diffusion of a Gaussian target, in units of its rate beta.

    With g = Gamma / (2 M), a direction of precision k has the rate g - (g^2 - k / M)^{1/2}, or g where the root is not real. Of all frictions the best is
    2 (M k)^{1/2}, with k the smallest precision, and its gap (k / M)^{1/2}: at unit mass the root of that of Langevin's diffusion without momenta.

    Args:
        stiffness: (d,), the precisions k > 0.
        friction: Gamma > 0.
        mass: M > 0.

    Raises:
        ValueError: if a number is not positive.
    """
    k, friction, mass = as_floats("stiffness", stiffness), as_floats("friction", friction), as_floats("mass", mass)
    for name, value in (("stiffness", k), ("friction", friction), ("mass", mass)):
        if is_concrete(value) and not np.all(np.asarray(value) > 0):
            refuse(name, f"{value}", "numbers above 0", "Precisions, friction and mass are positive.")
    return _kinetic_gap(k, friction, mass)


def kl_decay(process: SkewOrnsteinUhlenbeck, start: Gaussian, times: Numbers) -> Estimate:
    """KL(p_t || target) at the given times (n,), from `start`.

    Raises:
        ValueError: if the start has another dimension, or a time is negative or beyond 4e6 / |A|.
    """
    require_same_dim(process.target, start)
    at = as_floats("times", times)
    longest = _longest(process)
    if is_concrete(at, longest) and np.any(np.asarray(at) > float(longest)):
        refuse("times", f"{np.max(at):.6g}", f"times up to {float(longest):.6g}", "Fast directions are long forgotten: drop them, or scale time.")
    if is_concrete(at) and np.any(np.asarray(at) < 0):
        refuse("times", f"{np.min(at):.6g}", "times >= 0", "For the way back in time see `SkewOrnsteinUhlenbeck.reversed`.")
    return closed_form(_kl_decay(process, start, at))


def time_to(process: SkewOrnsteinUhlenbeck, start: Gaussian, tolerance: Numbers) -> Float[Array, ""]:
    """The time from which on KL(p_t || target) <= tolerance; 0 if it is at once.

    Raises:
        ValueError: if the tolerance is not positive, the start has another dimension, or the tolerance is not met within 4e6 / |A|.
    """
    require_same_dim(process.target, start)
    level = as_floats("tolerance", tolerance)
    if is_concrete(level) and not float(level) > 0:
        refuse("tolerance", f"{float(level):.6g}", "a number above 0", "The stationary law is reached in infinite time only.")
    reached = _time_to(process, start, level)
    if is_concrete(reached) and not np.isfinite(reached):
        got = f"{float(level):.6g}, which is not met within a time of {float(_longest(process)):.6g}"
        refuse("tolerance", got, "one that is", "Where a rate is 0 some direction is never forgotten: see `gap`.")
    return reached


def prefactor(process: SkewOrnsteinUhlenbeck, rate: Numbers, times: Numbers) -> Float[Array, " n"]:
    """|F_t| exp(rate t) at the given times (n,)."""
    return _prefactor(process, as_floats("rate", rate), as_floats("times", times))


@eqx.filter_jit
def _longest(process: SkewOrnsteinUhlenbeck) -> Float[Array, ""]:
    return _LONGEST / jnp.linalg.norm(process.A)


@eqx.filter_jit
def _rates(process: HomogeneousProcess) -> Complex[Array, " d"]:
    return jnp.linalg.eigvals(drift_matrix(process))


@eqx.filter_jit
def _gap(process: HomogeneousProcess) -> Float[Array, ""]:
    return jnp.min(_rates(process).real)


@jax.jit
def _kinetic_gap(k: Float[Array, " d"], friction: Float[Array, ""], mass: Float[Array, ""]) -> Float[Array, ""]:
    g = friction / (2 * mass)
    square = g**2 - k / mass
    root = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    return jnp.min(jnp.where(square > 0, k / mass / (g + root), g))


def _kl_at(process: SkewOrnsteinUhlenbeck, start: Gaussian, t: Float[Array, ""]) -> Float[Array, ""]:
    C = jnp.linalg.cholesky(process.target.cov)
    E, _ = transition(process.A, jnp.zeros_like(process.A), t)
    u = solve_lower(C, E @ (start.mean - process.target.mean))
    half = substitute(C, E)
    delta = jnp.linalg.eigvalsh(half @ (start.cov - process.target.cov) @ half.T)
    return 0.5 * (u @ u + jnp.sum(_excess(jnp.asarray(jnp.where(delta < _SINGULAR - 1, -1.0, delta)))))


def _excess(x: Float[Array, " d"]) -> Float[Array, " d"]:
    """The numbers x - log(1 + x), for x >= -1."""
    small = jnp.abs(x) < _SMALL
    near, far = jnp.where(small, x, 0.0), jnp.where(small, 1.0, x)
    series = near**2 * jnp.polyval(jnp.asarray([(-1.0) ** k / (k + 2) for k in reversed(range(_TERMS))]), near)
    return jnp.where(small, series, far - jnp.log1p(far))


@eqx.filter_jit
def _kl_decay(process: SkewOrnsteinUhlenbeck, start: Gaussian, times: Float[Array, " n"]) -> Float[Array, " n"]:
    return jax.lax.map(lambda t: _kl_at(process, start, t), times)


@eqx.filter_jit
def _time_to(process: SkewOrnsteinUhlenbeck, start: Gaussian, tolerance: Float[Array, ""]) -> Float[Array, ""]:
    def above(t):
        return ~(_kl_at(process, start, t) <= tolerance)

    longest = _longest(process)
    late = jax.lax.while_loop(lambda t: above(t) & (2 * t < longest), lambda t: 2 * t, 1 / jnp.linalg.norm(process.A))
    met = ~above(late)

    start_time = jnp.zeros(())
    reached = bisected(above, start_time, late, _HALVINGS)[1]
    return jnp.asarray(jnp.where(above(start_time), jnp.where(met, reached, jnp.inf), start_time))


@eqx.filter_jit
def _prefactor(process: SkewOrnsteinUhlenbeck, rate: Float[Array, ""], times: Float[Array, " n"]) -> Float[Array, " n"]:
    C = jnp.linalg.cholesky(process.target.cov)
    slowed = process.A + rate * jnp.eye(process.dim)

    def at(t):
        E, _ = transition(slowed, jnp.zeros_like(slowed), t)
        return jnp.linalg.norm(substitute(C, E @ C), 2)

    return jax.lax.map(at, times)
