r"""Kinetic (underdamped) Langevin diffusion of positions x and momenta v.

On R^{2d}, z = (x, v), with friction Gamma, mass M and rate beta, all constant,

    dx = beta v / M dt,     dv = -beta (x + Gamma v / M) dt + sqrt(2 Gamma beta) dW,     stationary law N(0, I) x N(0, M I).

Coordinates do not meet: X_{t+h} given X_t is N(E z, W) with 2 x 2 blocks E and W, each times I. With b = beta h, g = Gamma / (2 M), the discriminant w^2 = g^2 - 1/M, and

    c = exp(-g b) cosh(w b),     s = exp(-g b) sinh(w b) / w,

which are analytic in w^2, negative (oscillating), 0 (critical, Gamma^2 = 4 M) or positive (overdamped),

    E = [[c + g s, s / M], [-s, c - g s]],
    W_xx = 1 - exp(-2 g b) - 2 g s (c + g s),     W_xv = 2 g s^2,     W_vv = M [1 - exp(-2 g b) + 2 g s (c - g s)],

that is W = P - E P E^T with P = diag(1, M). What would cancel in W_xx, of the order of b^3, is computed otherwise: as (4 g / M) int_0^b s^2 over a short time, and by
decay rates where w is real.

**Hybrid score.** Momenta begin independent of the data, N(0, gamma M I), and are integrated out: given x_0, z_t is Gaussian with covariance blocks
C_t = E diag(0, gamma M) E^T + W, and its score in v is -l_t e_v, with e_v the second half of the standard normal draw and l_t = (C_xx / det C)^{1/2}.

Source: Dockhorn, Vahdat & Kreis (2022), for the critical case.
"""

from math import factorial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import block_diag
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned, Covariance, Dense, Diagonal, SemiDefinite
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.mixture import with_components
from ensembletheory.linalg import cholesky
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.homogeneous import HomogeneousProcess
from ensembletheory.processes.path import as_gaussians

__all__ = ["CriticallyDampedLangevin", "KineticProcess", "UnderdampedLangevin"]

_TERMS = 10  # of the power series of cosh and sinh up to |w b| = 1: the next is below 1e-18
_NODES, _WEIGHTS = (0.5 * part for part in np.polynomial.legendre.leggauss(12))  # exact to rounding for g b, |w b| <= 1


class KineticProcess(HomogeneousProcess):
    """Kinetic Langevin diffusion; see `UnderdampedLangevin` and `CriticallyDampedLangevin`."""

    friction: eqx.AbstractVar[Float[Array, ""]]
    mass: eqx.AbstractVar[Float[Array, ""]]
    rate: eqx.AbstractVar[Float[Array, ""]]

    @property
    def dim(self) -> int:
        """The smallest dimension: one position and its momentum."""
        return 2

    def expected(self, dim: int) -> str | None:
        """An even dimension."""
        return None if dim % 2 == 0 else "an even dimension: positions, then as many momenta (see `joint`)"

    def drift(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector beta (v / M, -x - Gamma v / M)."""
        position, momentum = jnp.split(x, 2)
        return self.rate * jnp.concatenate([momentum / self.mass, -position - self.friction / self.mass * momentum])

    def spread(self, t: Float[Array, ""], y: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector 2 Gamma beta (0, y_v)."""
        return 2 * self.friction * self.rate * _momenta_of(y)

    def disturbance(self, t: Float[Array, ""], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """The vector (2 Gamma beta)^{1/2} (0, z_v)."""
        return jnp.sqrt(2 * self.friction * self.rate) * _momenta_of(z)

    def transition(self, h: Float[Array, ""], dim: int) -> AffineKernel:
        """N(E z, W), with blocks times I."""
        E, W = self.blocks(h)
        identity = jnp.eye(dim // 2)
        return AffineKernel(jnp.kron(E, identity), jnp.zeros(dim), Dense(jnp.kron(W, identity)))

    def blocks(self, h: Float[Array, ""]) -> tuple[Float[Array, "2 2"], Float[Array, "2 2"]]:
        """E and W of one position and its momentum, over a time h >= 0."""
        return _blocks(self.friction / (2 * self.mass), 1 / self.mass, self.rate * h)

    def rooted_blocks(self, h: Float[Array, ""]) -> tuple[Float[Array, "2 2"], Float[Array, "2 2"]]:
        """E and a lower L with L L^T = W, 0 where h is."""
        return _rooted_blocks(self.friction / (2 * self.mass), 1 / self.mass, self.rate * h)

    def stationary(self, dim: int = 2) -> Gaussian:
        """N(0, I) x N(0, M I) on R^dim.

        Raises:
            ValueError: if the dimension is odd.
        """
        self._require("dim", dim)
        return Gaussian(np.zeros(dim), Diagonal(jnp.where(np.arange(dim) < dim // 2, 1.0, self.mass)))

    def joint(self, law: Law, gamma: Numbers = 0.04) -> Gaussian | GaussianMixture:
        """The law of (x_0, v_0): data from `law`, and momenta N(0, gamma M I) independent of them.

        Raises:
            ValueError: if gamma is not positive.
            TypeError: if `law` is none of Gaussian, GaussianMixture and FiniteLaw.
        """
        return _joint(as_gaussians(law), positive("gamma", gamma) * self.mass)

    def conditional(self, t: Numbers, gamma: Numbers = 0.04, dim: int = 1) -> AffineKernel:
        """The law of z_t given the data x_0 in R^dim, momenta integrated out.

        Raises:
            ValueError: if gamma is not positive, or t is not within [0, horizon].
        """
        return _conditional(self, self.checked_time("t", t), positive("gamma", gamma), dim)

    def noise_coefficient(self, t: Numbers, gamma: Numbers = 0.04) -> Float[Array, ""]:
        """l_t: given the data, the score in v is -l_t times the second half of the standard normal draw.

        Raises:
            ValueError: if gamma is not positive, or t is not within (0, horizon].
        """
        time = self.checked_time("t", t)
        if is_concrete(time) and float(time) == 0:
            refuse("t", "0", "a time above 0", "Given x_0 and x_t, the momentum is known ever better as t goes to 0: l_t grows like t^{-1/2}.")
        return _noise_coefficient(self, time, positive("gamma", gamma))

    def target_score(self, law: Law) -> Field:
        """The score (grad log p(x), -v / M) of a law of positions times N(0, M I), the same at all times: what `Baoab` and `KineticEuler` take."""
        return _TargetScore(law, self.mass)


class UnderdampedLangevin(KineticProcess):
    """Kinetic Langevin diffusion of any friction.

    Args:
        friction: Gamma > 0.
        mass: M > 0.
        rate: beta > 0.
        horizon: the time of the noise.

    Raises:
        ValueError: if an argument is not a positive number.
    """

    friction: Float[Array, ""]
    mass: Float[Array, ""]
    rate: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, friction: Numbers, mass: Numbers = 1.0, rate: Numbers = 1.0, horizon: Numbers = 1.0):
        self.friction, self.mass = positive("friction", friction), positive("mass", mass)
        self.rate, self.horizon = positive("rate", rate), positive("horizon", horizon)


class CriticallyDampedLangevin(KineticProcess):
    """Kinetic Langevin diffusion of friction 2 M^{1/2}, the fastest of its mass.

    Args:
        mass: M > 0.
        rate: beta > 0.
        horizon: the time of the noise.

    Raises:
        ValueError: if an argument is not a positive number.
    """

    mass: Float[Array, ""]
    rate: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, mass: Numbers = 0.25, rate: Numbers = 4.0, horizon: Numbers = 1.0):
        self.mass, self.rate, self.horizon = positive("mass", mass), positive("rate", rate), positive("horizon", horizon)

    @property
    def friction(self) -> Float[Array, ""]:
        """2 M^{1/2}."""
        return 2 * jnp.sqrt(self.mass)


class _TargetScore(Field):
    law: Law
    mass: Float[Array, ""]

    @property
    def kind(self) -> str:
        return "score"

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        position, momentum = jnp.split(x, 2)
        return jnp.concatenate([self.law._score(position), -momentum / self.mass])


def _momenta_of(x: Float[Array, " d"]) -> Float[Array, " d"]:
    half = x.shape[0] // 2
    return x.at[:half].set(0.0)


@jax.jit
def _blocks(g: Array, inverse_mass: Array, b: Array) -> tuple[Float[Array, "2 2"], Float[Array, "2 2"]]:
    """E and W in the module's notation."""
    discriminant = g**2 - inverse_mass
    c, s = _damped(g, inverse_mass, discriminant, b)
    E = jnp.stack([jnp.stack([c + g * s, s * inverse_mass]), jnp.stack([-s, c - g * s])])
    W_xx = _position_noise(g, inverse_mass, discriminant, b, c, s)
    W_xv, W_vv = 2 * g * s**2, (2 * g * s * (c - g * s) - jnp.expm1(-2 * g * b)) / inverse_mass
    return E, jnp.stack([jnp.stack([W_xx, W_xv]), jnp.stack([W_xv, W_vv])])


def _damped(g: Array, inverse_mass: Array, discriminant: Array, b: Array) -> tuple[Array, Array]:
    """exp(-g b) cosh(w b) and exp(-g b) sinh(w b) / w, w^2 = discriminant."""
    near = jnp.abs(discriminant) * b**2 < 1
    w = jnp.sqrt(jnp.where(near, 1.0, jnp.abs(discriminant)))
    fast, slow, decay = jnp.exp(-(g + w) * b), jnp.exp(-inverse_mass / (g + w) * b), jnp.exp(-g * b)
    real = (slow + fast) / 2, (slow - fast) / (2 * w)
    oscillating = decay * jnp.cos(w * b), decay * jnp.sin(w * b) / w
    x = jnp.where(near, discriminant * b**2, 0.0)
    series = decay * _series(x, 0), decay * b * _series(x, 1)
    c, s = (jnp.where(near, by_series, jnp.where(discriminant > 0, one, other)) for by_series, one, other in zip(series, real, oscillating, strict=True))
    return c, s


def _position_noise(g: Array, inverse_mass: Array, discriminant: Array, b: Array, c: Array, s: Array) -> Float[Array, ""]:
    """W_xx, from sums of positive terms where the formula cancels."""
    short, overdamped = (g * b < 1) & (jnp.abs(discriminant) * b**2 < 1), discriminant * b**2 >= 1
    u = jnp.where(short, b, 0.0) * (1 / 2 + _NODES)
    sinh = u * _series(jnp.where(short, discriminant, 0.0) * u**2, 1)
    over_short = 4 * g * inverse_mass * b * (_WEIGHTS @ (jnp.exp(-2 * g * u) * sinh**2))
    w = jnp.sqrt(jnp.where(overdamped, discriminant, 1.0))
    rates = 2 * jnp.stack([inverse_mass / (g + w), g, g + w])
    by_rates = g * inverse_mass / w**2 * (jnp.asarray([1.0, -2.0, 1.0]) @ (-jnp.expm1(-rates * b) / rates))
    return jnp.where(short, over_short, jnp.where(overdamped, by_rates, -jnp.expm1(-2 * g * b) - 2 * g * s * (c + g * s)))


def _series(x: Array, odd: int) -> Array:
    """Sum of x^k / (2 k + odd)!: cosh(x^{1/2}), or sinh(x^{1/2}) / x^{1/2}."""
    return jnp.polyval(jnp.asarray([1 / factorial(2 * k + odd) for k in reversed(range(_TERMS))]), x)


@jax.jit
def _rooted_blocks(g: Array, inverse_mass: Array, b: Array) -> tuple[Float[Array, "2 2"], Float[Array, "2 2"]]:
    blocks: tuple[Array, Array] = _blocks(g, inverse_mass, b)
    E, W = blocks
    moving = W[0, 0] > 0
    return E, jnp.where(moving, cholesky(jnp.where(moving, W, jnp.eye(2))), 0.0)


@eqx.filter_jit
def _joint(law: Gaussian | GaussianMixture, variance: Float[Array, ""]) -> Gaussian | GaussianMixture:
    def extended(component: Gaussian) -> Gaussian:
        return Gaussian(jnp.concatenate([component.mean, jnp.zeros(component.dim)]), _beside(component.covariance, jnp.full(component.dim, variance)))

    return with_components(law, extended)


def _beside(covariance: Covariance, variances: Float[Array, " d"]) -> Covariance:
    """Independent coordinates of the given variances added."""
    if isinstance(covariance, SemiDefinite):
        return SemiDefinite(_beside(covariance.inner, variances))
    if isinstance(covariance, AxisAligned):
        return Diagonal(jnp.concatenate([covariance.variances, variances]))
    return Dense(block_diag(covariance.as_matrix(), jnp.diag(variances)))


@eqx.filter_jit
def _conditional(process: Any, t: Float[Array, ""], gamma: Float[Array, ""], dim: int) -> AffineKernel:
    E, W = process.blocks(t)
    C = gamma * process.mass * E[:, 1:] @ E[:, 1:].T + W
    identity = jnp.eye(dim)
    return AffineKernel(jnp.kron(E[:, :1], identity), jnp.zeros(2 * dim), Dense(jnp.kron(C, identity)))


@jax.jit
def _noise_coefficient(process: Any, t: Float[Array, ""], gamma: Float[Array, ""]) -> Float[Array, ""]:
    E, W = process.blocks(t)
    C_xx = gamma * process.mass * E[0, 1] ** 2 + W[0, 0]
    known = W[1, 1] * E[0, 1] ** 2 - 2 * W[0, 1] * E[0, 1] * E[1, 1] + W[0, 0] * E[1, 1] ** 2
    return jnp.sqrt(C_xx / (W[0, 0] * W[1, 1] - W[0, 1] ** 2 + gamma * process.mass * known))
