r"""The bouncy particle process: straight motion with v ~ N(0, I), bounces off the level sets of the potential, and refreshment.

A bounce, v -> v - 2 (v.n) n with n the normal S (x - m) / |S (x - m)|, comes at the rate (v^T S (x - m))_+, and a new velocity from N(0, I) at the rate lambda. The process
keeps N(m, S^{-1}) times N(0, I). Without refreshment bounces keep |v|, and on an isotropic target also the plane of x - m and v and its area, so that the law of x is not
reached: lambda > 0 is needed.

Source: Bouchard-Cote, Vollmer & Doucet (2018), "The bouncy particle sampler".
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers
from ensembletheory.laws import Gaussian, Law
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.pdmp.draws import normals, uniforms_of_normals
from ensembletheory.processes.pdmp.event_times import spent, wait
from ensembletheory.processes.pdmp.process import Clocks, Lanes, PiecewiseDeterministic, Rings, Times, along, checked_rate, checked_target, dot

__all__ = ["BouncyParticle"]


class BouncyParticle(PiecewiseDeterministic):
    """The bouncy particle process; clock 0 bounces and clock 1 refreshes.

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
        self.refreshment = checked_rate("refreshment", refreshment, "Bounces alone keep |v|, so that the target is not reached.")

    @property
    def _groups(self) -> tuple[int, int]:
        return (1, 1)

    @property
    def _uniforms(self) -> int:
        return uniforms_of_normals(self.dim)

    def draw_velocities(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` draws of N(0, I)."""
        return jax.random.normal(key, (n, self.dim), self.target.mean.dtype)

    def reflect(self, x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """The velocity after a bounce at one point."""
        return _reflected(along(self._prepared(), (x - self.target.mean)[:, None]), v[:, None])[:, 0]

    def _line(self, prepared: Array, z: Lanes, v: Lanes) -> tuple[Float[Array, "1 n"], Float[Array, "1 n"]]:
        pull = along(prepared, v)
        return dot(pull, z)[None, :], dot(pull, v)[None, :]

    def _rates(self, prepared: Array, z: Lanes, v: Lanes) -> Clocks:
        bounce = jnp.maximum(self._line(prepared, z, v)[0], 0)
        return bounce, jnp.broadcast_to(self.refreshment, bounce.shape)

    def _waits(self, prepared: Array, z: Lanes, v: Lanes, energies: Clocks) -> Clocks:
        return wait(*self._line(prepared, z, v), energies[0]), energies[1] / self.refreshment

    def _spent(self, prepared: Array, z: Lanes, v: Lanes, s: Times) -> Clocks:
        return spent(*self._line(prepared, z, v), s[None, :]), s[None, :] * self.refreshment

    def _jumped(self, prepared: Array, z: Lanes, v: Lanes, rang: Rings, uniforms: Array) -> Lanes:
        bounced, refreshed = rang
        return jnp.where(refreshed, normals(uniforms, self.dim), jnp.where(bounced, _reflected(along(prepared, z), v), v))


def _reflected(normal: Lanes, v: Lanes) -> Lanes:
    size = dot(normal, normal)
    return v - (2 * dot(v, normal) / jnp.where(size > 0, size, 1))[None, :] * normal
