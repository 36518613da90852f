r"""Linear processes from data (time 0) to noise (the horizon): dX = F_t X dt + G_t dW, so that X_t given X_s is an affine Gaussian kernel.

With p_t the law of X_t, two dynamics have the same marginals, and both generate when time runs backwards:

    dX = [F X - G G^T grad log p_t(X)] dt + G dW      (the reverse SDE, time running down),
    dx/dt = v(t, x) = F x - 1/2 G G^T grad log p_t(x)  (the probability flow).

Sources: Anderson (1982); Song et al. (2021).
"""

from abc import abstractmethod

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Law

__all__ = ["Clock", "Process"]


class Clock(eqx.Module):
    """Times from 0 (data) to the horizon (noise): what a flow's sampler needs of a process, be it a `Process`, `Telegraph` or a Hamiltonian."""

    horizon: eqx.AbstractVar[Float[Array, ""]]

    def checked_time(self, argument: str, t: Numbers) -> Float[Array, ""]:
        """`t` as a time of this process.

        Raises:
            ValueError: if it is not within [0, horizon].
        """
        time = jnp.asarray(t, dtype=self.horizon.dtype)
        if is_concrete(time, self.horizon) and not 0 <= float(time) <= float(self.horizon):
            refuse(argument, f"{float(time):.6g}", f"a time from 0 (data) to {float(self.horizon):.6g} (noise)", "Time 0 is the data in every process here.")
        return time

    def checked_interval(self, s: Numbers, t: Numbers) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Two times in order.

        Raises:
            ValueError: unless 0 <= s <= t <= horizon.
        """
        s, t = self.checked_time("s", s), self.checked_time("t", t)
        if is_concrete(s, t) and s > t:
            refuse("s", f"{float(s):.6g}", f"at most t = {float(t):.6g}", "Noising runs forward; invert the kernel for the way back.")
        return s, t


class Process(Clock):
    """What samplers need of a linear process: `GaussianPath`s, where F and G are scalars, and `HomogeneousProcess`es, where they are constant matrices."""

    @abstractmethod
    def drift(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """F_t x."""

    @abstractmethod
    def spread(self, t: Float[Array, ""], y: Float[Array, " d"]) -> Float[Array, " d"]:
        """G_t G_t^T y."""

    @abstractmethod
    def disturbance(self, t: Float[Array, ""], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """G_t z."""

    @abstractmethod
    def kernel(self, s: Numbers, t: Numbers, dim: int = 1) -> AffineKernel:
        """The law of X_t given X_s on R^dim, s <= t."""

    @abstractmethod
    def marginal(self, law: Law, t: Numbers) -> Law:
        """The law of X_t when X_0 has `law`."""

    @abstractmethod
    def score(self, law: Law) -> Field:
        """The exact grad log p_t."""

    @abstractmethod
    def denoiser(self, law: Law) -> Field:
        """The exact E[X_0 | X_t = x]."""

    @abstractmethod
    def velocity(self, law: Law) -> Field:
        """The exact probability-flow velocity."""

    def hessian(self, law: Law, t: Numbers, x: Float[Array, " d"]) -> Float[Array, "d d"]:
        """The second derivatives of log p_t at one point."""
        return self.marginal(law, t)._hessian(x)
