r"""Forward event chains: straight motion, and at the rate (v^T S (x - m))_+ an event that redraws the velocity along the normal n = S (x - m) / |S (x - m)| from the flux law.

A stationary flux through the level set brings velocities of density proportional to (v.n)_+ nu(v), and takes away those of (-v.n)_+ nu(v): any event that draws the latter
keeps N(m, S^{-1}) times nu, though nothing is balanced in detail. So v.n becomes -r with r from the flux law, whatever it was,

    nu = N(0, I):               P(r) = r e^{-r^2 / 2}                            (Rayleigh),
    nu uniform on the sphere:   P(r) proportional to r (1 - r^2)^{(d-3)/2} on (0, 1),   r^2 = 1 - U^{2 / (d-1)} with U uniform,

and the part of v orthogonal to n, which is independent of it (on the sphere: its direction), is kept, or drawn anew with probability `mixing` at every event. There is no
other refreshment. With mixing 0 an isotropic target keeps the plane of x - m and v, and for Gaussian velocities the area that they span: beyond one dimension mixing > 0 is
needed.

Source: Michel, Durmus & Senecal (2020), "Forward event-chain Monte Carlo".
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.laws import Gaussian, Law
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.pdmp.draws import exponential, normals, uniforms_of_normals
from ensembletheory.processes.pdmp.event_times import spent, wait
from ensembletheory.processes.pdmp.process import Clocks, Lanes, PiecewiseDeterministic, Rings, Times, along, checked_rate, checked_target, dot

__all__ = ["ForwardEventChain"]


class ForwardEventChain(PiecewiseDeterministic):
    """A forward event chain; its one clock is the event.

    Args:
        target: the stationary law of x, of any covariance.
        mixing: with which probability an event also draws anew what of v is orthogonal to the normal.
        velocities: their stationary law: "gaussian" for N(0, I), "sphere" for the uniform law on the unit sphere.
        horizon: the time of the noise.

    Raises:
        ValueError: if the target is not a Gaussian with a density, `mixing` is no probability, or 0 where d > 1, `velocities` is unknown, or the horizon is not positive.
    """

    target: Gaussian
    mixing: Float[Array, ""]
    horizon: Float[Array, ""]
    velocities: str = eqx.field(static=True)

    def __init__(self, target: Law, mixing: Numbers = 1.0, velocities: str = "gaussian", horizon: Numbers = 10.0):
        self.target, self.horizon, self.velocities = checked_target(target), positive("horizon", horizon), velocities
        self.mixing = checked_rate("mixing", mixing, "Events alone keep the plane of x and v." if target.dim > 1 else None)
        if is_concrete(self.mixing) and float(self.mixing) > 1:
            refuse("mixing", f"{float(self.mixing):.6g}", "a probability", "1 draws anew at every event.")
        if velocities not in ("gaussian", "sphere"):
            refuse("velocities", repr(velocities), "'gaussian' or 'sphere'", "The flux law is known for these.")

    @property
    def _groups(self) -> tuple[int]:
        return (1,)

    @property
    def _uniforms(self) -> int:
        return 2 + uniforms_of_normals(self.dim)

    def draw_velocities(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` draws of nu."""
        v = jax.random.normal(key, (n, self.dim), self.target.mean.dtype)
        return v if self.velocities == "gaussian" else v / jnp.linalg.norm(v, axis=1, keepdims=True)

    def _line(self, prepared: Array, z: Lanes, v: Lanes) -> tuple[Float[Array, "1 n"], Float[Array, "1 n"]]:
        pull = along(prepared, v)
        return dot(pull, z)[None, :], dot(pull, v)[None, :]

    def _rates(self, prepared: Array, z: Lanes, v: Lanes) -> Clocks:
        return (jnp.maximum(self._line(prepared, z, v)[0], 0),)

    def _waits(self, prepared: Array, z: Lanes, v: Lanes, energies: Clocks) -> Clocks:
        return (wait(*self._line(prepared, z, v), energies[0]),)

    def _spent(self, prepared: Array, z: Lanes, v: Lanes, s: Times) -> Clocks:
        return (spent(*self._line(prepared, z, v), s[None, :]),)

    def _jumped(self, prepared: Array, z: Lanes, v: Lanes, rang: Rings, uniforms: Array) -> Lanes:
        normal = _unit(along(prepared, z))
        drawn = normals(uniforms[2:], self.dim)
        beside = _without(jnp.where(uniforms[:1] < self.mixing, drawn, v), normal)
        r = self._flux(uniforms[1])[None, :]
        if self.velocities == "sphere":
            beside = jnp.sqrt(1 - r**2) * _unit(beside)
        return jnp.where(rang[0], beside - r * normal, v)

    def _flux(self, u: Times) -> Times:
        """A draw of the flux law."""
        if self.velocities == "gaussian":
            return jnp.sqrt(2 * exponential(u))
        return jnp.ones_like(u) if self.dim == 1 else jnp.sqrt(-jnp.expm1(-2 / (self.dim - 1) * exponential(u)))


def _unit(v: Lanes) -> Lanes:
    size = jnp.sqrt(dot(v, v))[None, :]
    return v / jnp.where(size > 0, size, 1)


def _without(v: Lanes, normal: Lanes) -> Lanes:
    return v - dot(v, normal)[None, :] * normal
