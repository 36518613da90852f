r"""Randomised Hamiltonian Monte Carlo: v ~ N(0, I) moves x by x' = v, v' = -S (x - m), exactly, and is drawn anew at the rate lambda.

With the eigenpairs S q = w^2 q the flow turns every (w q.(x - m), q.v) by the angle w s: (x, v) -> (x cos s + v sin s, -x sin s + v cos s) for S = I. It keeps N(m, S^{-1})
times N(0, I) together with the energy, which nothing but the new velocities change: lambda > 0 is needed.

Source: Bou-Rabee & Sanz-Serna (2017), "Randomized Hamiltonian Monte Carlo".
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers
from ensembletheory.laws import Gaussian
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.pdmp.draws import normals, uniforms_of_normals
from ensembletheory.processes.pdmp.process import Clocks, Lanes, PiecewiseDeterministic, Rings, Times, along, checked_rate, checked_target

__all__ = ["RandomisedHmc"]

Modes = tuple[Float[Array, " d"], Float[Array, "d d"]]  # frequencies and eigenvectors


class RandomisedHmc(PiecewiseDeterministic):
    """Randomised Hamiltonian Monte Carlo; its one clock refreshes.

    Args:
        target: the stationary law of x, of any covariance.
        refreshment: the rate lambda of new velocities.
        horizon: the time of the noise.

    Raises:
        ValueError: if the target is not a Gaussian with a density, or refreshment or horizon are not positive.
    """

    target: Gaussian
    refreshment: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, target: Gaussian, refreshment: Numbers = 1.0, horizon: Numbers = 10.0):
        self.target, self.horizon = checked_target(target), positive("horizon", horizon)
        self.refreshment = checked_rate("refreshment", refreshment, "The flow alone keeps the energy, so that the target is not reached.")

    @property
    def _groups(self) -> tuple[int]:
        return (1,)

    @property
    def _uniforms(self) -> int:
        return uniforms_of_normals(self.dim)

    def draw_velocities(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` draws of N(0, I)."""
        return jax.random.normal(key, (n, self.dim), self.target.mean.dtype)

    def _prepared(self) -> Modes:
        variances, Q = jnp.linalg.eigh(self.target.cov)
        return 1 / jnp.sqrt(variances), Q

    def _moved(self, prepared: Modes, z: Lanes, v: Lanes, s: Times) -> tuple[Lanes, Lanes]:
        w, Q, y, u = _modal(prepared, z, v)
        c, r = jnp.cos(w * s[None, :]), jnp.sin(w * s[None, :])
        return along(Q, y * c + u * r), along(Q, w * (u * c - y * r))

    def _integrals(self, prepared: Modes, z: Lanes, v: Lanes, s: Times) -> tuple[Lanes, Lanes]:
        """A product of two oscillations is half the sum of two of the difference and of the sum of their frequencies."""
        w, Q, y, u = _modal(prepared, z, v)
        linear = y * _cosine(w, s[None, :]) + u * _sine(w, s[None, :])
        pairs = [_product(w[j], y[j], u[j], w[k], y[k], u[k], s) * (Q[:, j] * Q[:, k])[:, None] * (2 - (j == k)) for j in range(len(Q)) for k in range(j + 1)]
        return along(Q, linear), reduce(jnp.add, pairs)

    def _rates(self, prepared: Modes, z: Lanes, v: Lanes) -> Clocks:
        return (jnp.broadcast_to(self.refreshment, z[:1].shape),)

    def _waits(self, prepared: Modes, z: Lanes, v: Lanes, energies: Clocks) -> Clocks:
        return (energies[0] / self.refreshment,)

    def _spent(self, prepared: Modes, z: Lanes, v: Lanes, s: Times) -> Clocks:
        return (self.refreshment * s[None, :],)

    def _jumped(self, prepared: Modes, z: Lanes, v: Lanes, rang: Rings, uniforms: Array) -> Lanes:
        return jnp.where(rang[0], normals(uniforms, self.dim), v)


def _modal(prepared: Modes, z: Lanes, v: Lanes) -> tuple[Float[Array, "d 1"], Float[Array, "d d"], Lanes, Lanes]:
    """Frequencies, eigenvectors, and the amplitudes of cosine and sine."""
    w, Q = prepared
    return w[:, None], Q, along(Q.T, z), along(Q.T, v) / w[:, None]


def _sinc(angle: Array) -> Array:
    return jnp.sinc(angle / jnp.pi)


def _cosine(w: Array, s: Array) -> Array:
    """The integral of cos(w u) over 0 <= u <= s, for any w."""
    return s * _sinc(w * s)


def _sine(w: Array, s: Array) -> Array:
    """The integral of sin(w u) over 0 <= u <= s, for any w."""
    return w * s**2 / 2 * _sinc(w * s / 2) ** 2


def _product(w: Array, y: Times, u: Times, other_w: Array, other_y: Times, other_u: Times, s: Times) -> Times:
    """The integral of (y cos w t + u sin w t) times the same of the other, over 0 <= t <= s."""
    same, crossed = (y * other_y, u * other_u), (u * other_y, y * other_u)
    fast = (same[0] - same[1]) * _cosine(w + other_w, s) + (crossed[0] + crossed[1]) * _sine(w + other_w, s)
    slow = (same[0] + same[1]) * _cosine(w - other_w, s) + (crossed[0] - crossed[1]) * _sine(w - other_w, s)
    return (fast + slow) / 2
