r"""Randomised Hamiltonian Monte Carlo: v ~ N(0, I) moves x by x' = v, v' = -S (x - m), exactly, and is drawn anew at the rate lambda.

With the eigenpairs S q = w^2 q the flow turns every (w q.(x - m), q.v) by the angle w s: (x, v) -> (x cos s + v sin s, -x sin s + v cos s) for S = I. It keeps N(m, S^{-1})
times N(0, I) together with the energy, which nothing but the new velocities change: lambda > 0 is needed.

Moments of any data are exact at any time: the deviation of E z z^T, z = (x - m, v), from that of the target solves a linear equation, in which refreshment damps all blocks
but that of x; between the modes j and k of S it has four unknowns,

    a' = b + c,   b' = e - w_k^2 a - lambda b,   c' = e - w_j^2 a - lambda c,   e' = -w_j^2 b - w_k^2 c - lambda e      (a = y_j y_k, b = y_j u_k, c = u_j y_k, e = u_j u_k),

and the mean solves x' = v, v' = -S (x - m) - lambda v, as under Langevin dynamics of friction lambda.

Source: Bou-Rabee & Sanz-Serna (2017), "Randomized Hamiltonian Monte Carlo".
"""

from functools import reduce

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers
from ensembletheory.laws import Gaussian, Law
from ensembletheory.linalg import symmetrised, transition
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

    def __init__(self, target: Law, refreshment: Numbers = 1.0, horizon: Numbers = 10.0):
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

    def moments(self, law: Law, t: Numbers) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
        """The exact mean and covariance matrix of (x, v) at time t, of positions begun from `law` with stationary velocities.

        Raises:
            ValueError: if t is not within [0, horizon], or `law` not of the dimension of the target.
        """
        self._require(law)
        return _moments(self, law.mean, law.cov, self.checked_time("t", t))

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
        pairs = [_product(w[j], y[j], u[j], w[k], y[k], u[k], s)[None, :] * (Q[:, j] * Q[:, k])[:, None] * (2 - (j == k)) for j in range(len(Q)) for k in range(j + 1)]
        return along(Q, linear), reduce(jnp.add, pairs)

    def _rates(self, prepared: Modes, z: Lanes, v: Lanes) -> Clocks:
        return (jnp.broadcast_to(self.refreshment, z[:1].shape),)

    def _waits(self, prepared: Modes, z: Lanes, v: Lanes, energies: Clocks) -> Clocks:
        return (energies[0] / self.refreshment,)

    def _spent(self, prepared: Modes, z: Lanes, v: Lanes, s: Times) -> Clocks:
        return (self.refreshment * s[None, :],)

    def _jumped(self, prepared: Modes, z: Lanes, v: Lanes, rang: Rings, uniforms: Array) -> Lanes:
        return jnp.where(rang[0], normals(uniforms, self.dim), v)


@eqx.filter_jit
def _moments(process: RandomisedHmc, mean: Float[Array, " d"], cov: Float[Array, "d d"], t: Float[Array, ""]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    w, Q = process._prepared()
    begun, rate, none = mean - process.target.mean, process.refreshment, jnp.zeros_like(t)

    def forwarded(generator: list[list[Array]]) -> Float[Array, " n"]:
        """What becomes of the first unit vector."""
        A = jnp.stack([jnp.stack(row) for row in generator])
        return transition(A, jnp.zeros_like(A), t)[0][:, 0]

    def of_mean(w):
        return forwarded([[none, none + 1], [-(w**2), -rate]])

    def of_pair(w, other):
        rows = [[none, none + 1, none + 1, none], [-(other**2), -rate, none, none + 1], [-(w**2), none, -rate, none + 1], [none, -(w**2), -(other**2), -rate]]
        return forwarded(rows)

    middle = (jax.vmap(of_mean)(w).T * (Q.T @ begun)[None, :]) @ Q.T
    pairs = jax.vmap(jax.vmap(of_pair, (None, 0)), (0, None))(w, w)
    excess = Q.T @ (cov + jnp.outer(begun, begun)) @ Q - jnp.diag(1 / w**2)
    xx, xv, vx, vv = (Q @ (pairs[:, :, k] * excess) @ Q.T for k in range(4))
    second = jnp.block([[process.target.cov + xx, xv], [vx, jnp.eye(len(w), dtype=vv.dtype) + vv]])
    centre = middle.ravel()
    return jnp.concatenate([process.target.mean + middle[0], middle[1]]), symmetrised(second - jnp.outer(centre, centre))


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
