r"""The zig-zag process: v in {-1, 1}^d, straight motion, and coordinate i of v flips at the rate (v_i (S (x - m))_i)_+ + lambda.

It keeps N(m, S^{-1}) times the uniform law of velocities: the rates of v and of v with coordinate i flipped differ by v_i d_i U, for any lambda >= 0; the law is unique and
reached from anywhere even without refreshment. Along the motion the rates of coordinate i are (alpha_i + beta_i s)_+ + lambda with beta_i = v_i (S v)_i, negative where
other coordinates pull more than its own. Run backwards from its stationary law, it is the same process with v -> -v.

Sources: Bierkens, Fearnhead & Roberts (2019), "The zig-zag process and super-efficient sampling for Bayesian analysis of big data"; Bierkens, Roberts & Zitt (2019) for
ergodicity.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, is_concrete
from ensembletheory.laws import Gaussian, Law
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.pdmp.event_times import spent, wait
from ensembletheory.processes.pdmp.process import Clocks, Lanes, PiecewiseDeterministic, Rings, Times, along, checked_rate, checked_target

__all__ = ["ZigZag"]


class ZigZag(PiecewiseDeterministic):
    """The zig-zag process; clock i flips coordinate i of v.

    Args:
        target: the stationary law of x, of any covariance.
        refreshment: lambda, by which every coordinate flips more often than it has to.
        horizon: the time of the noise.

    Raises:
        ValueError: if the target is not a Gaussian with a density, the refreshment is negative, or the horizon is not positive.
    """

    target: Gaussian
    horizon: Float[Array, ""]
    _added: Float[Array, ""] | None  # None where it is known to be 0, so that programs leave it out

    def __init__(self, target: Law, refreshment: Numbers = 0.0, horizon: Numbers = 10.0):
        self.target, self.horizon = checked_target(target), positive("horizon", horizon)
        rate = checked_rate("refreshment", refreshment)
        self._added = None if is_concrete(rate) and float(rate) == 0 else rate

    @property
    def refreshment(self) -> Float[Array, ""]:
        """The rate that is added to that of every coordinate."""
        return jnp.zeros_like(self.horizon) if self._added is None else self._added

    @property
    def _groups(self) -> tuple[int]:
        return (self.dim,)

    @property
    def _uniforms(self) -> int:
        return 0

    def draw_velocities(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` draws of the uniform law on {-1, 1}^d."""
        return jax.random.rademacher(key, (n, self.dim), self.target.mean.dtype)

    def _line(self, prepared: Array, z: Lanes, v: Lanes) -> tuple[Lanes, Lanes]:
        """Where the rates begin and how they grow, before the positive part is taken."""
        return v * along(prepared, z), v * along(prepared, v)

    def _rates(self, prepared: Array, z: Lanes, v: Lanes) -> Clocks:
        return (jnp.maximum(self._line(prepared, z, v)[0], 0) + self.refreshment,)

    def _waits(self, prepared: Array, z: Lanes, v: Lanes, energies: Clocks) -> Clocks:
        return (wait(*self._line(prepared, z, v), energies[0], self._added),)

    def _spent(self, prepared: Array, z: Lanes, v: Lanes, s: Times) -> Clocks:
        return (spent(*self._line(prepared, z, v), s[None, :], self._added),)

    def _jumped(self, prepared: Array, z: Lanes, v: Lanes, rang: Rings, uniforms: Array) -> Lanes:
        return jnp.where(rang[0], -v, v)
