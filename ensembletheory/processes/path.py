r"""Gaussian paths from data to noise: X_t = a_t X_0 + s_t Z, Z ~ N(0, I) independent of X_0, t from 0 (data) to the horizon (noise).

Two dynamics have the marginals of the path for every law of X_0, with p_t the law of X_t:

    dX = f_t X dt + g_t dW,     f = a'/a,   g^2 = (s^2)' - 2 f s^2                       (the forward SDE)
    dx/dt = v(t, x) = a' E[X_0 | X_t = x] - 1/2 (s^2)' grad log p_t(x)                   (the probability flow)
          = f x + (f s^2 - 1/2 (s^2)') grad log p_t(x) = f x - 1/2 g^2 grad log p_t(x).

The first form of v has no division by a or s and holds at both ends. Generation runs time backwards. The denoiser is E[X_0 | X_t = x]; the score is grad log p_t.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian, GaussianMixture, Law

__all__ = ["GaussianPath"]


class GaussianPath(eqx.Module):
    """X_t = a_t X_0 + s_t Z; see `VariancePreserving` and `LinearInterpolant`."""

    horizon: eqx.AbstractVar[Float[Array, ""]]

    @abstractmethod
    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """The signal coefficient a_t."""

    @abstractmethod
    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """The noise variance s_t^2."""

    def signal_rate(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """f_t = a'_t / a_t."""
        return jax.grad(self.a)(t) / self.a(t)

    def diffusion(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """g_t^2 = (s_t^2)' - 2 f_t s_t^2."""
        return jax.grad(self.noise_variance)(t) - 2 * self.signal_rate(t) * self.noise_variance(t)

    def kernel(self, s: Numbers, t: Numbers, dim: int = 1) -> AffineKernel:
        """The law of X_t given X_s on R^dim, s <= t, under the forward SDE.

        Raises:
            ValueError: unless 0 <= s <= t <= horizon.
        """
        s, t = self._checked_time("s", s), self._checked_time("t", t)
        if is_concrete(s, t) and s > t:
            refuse("s", f"{float(s):.6g}", f"at most t = {float(t):.6g}", "Noising runs forward; invert the kernel for the way back.")
        ratio = self.a(t) / self.a(s)
        return AffineKernel.scaling(ratio, self.noise_variance(t) - ratio**2 * self.noise_variance(s), dim)

    def marginal(self, law: Law, t: Numbers) -> Law:
        """The law of X_t when X_0 has `law`."""
        return self.kernel(0.0, t, law.dim).push(law)

    def score(self, law: Law) -> Field:
        """The exact score field of the path that starts from `law`."""
        return _Score(self, law)

    def denoiser(self, law: Law) -> Field:
        """The exact E[X_0 | X_t = x] when X_0 has `law`."""
        return _Denoiser(self, law)

    def velocity(self, law: Law) -> Field:
        """The exact probability-flow velocity of the path that starts from `law`."""
        return _Velocity(self, law)

    def velocity_from_score(self, score: Field) -> Field:
        """The probability-flow velocity f x - 1/2 g^2 score of any score field (not at times where a_t = 0)."""
        return _VelocityFromScore(self, score)

    def _checked_time(self, argument: str, t: Numbers) -> Float[Array, ""]:
        time = jnp.asarray(t, dtype=self.horizon.dtype)
        if is_concrete(time, self.horizon) and not 0 <= float(time) <= float(self.horizon):
            refuse(argument, f"{float(time):.6g}", f"a time from 0 (data) to {float(self.horizon):.6g} (noise)", "Time 0 is the data in every process here.")
        return time


class _Score(Field):
    process: GaussianPath
    law: Law

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.process.marginal(self.law, t)._score(x)


class _Denoiser(Field):
    process: GaussianPath
    law: Law

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        kernel = self.process.kernel(0.0, t, x.shape[0])
        noised = kernel.push(self.law)
        if isinstance(self.law, GaussianMixture) and isinstance(noised, GaussianMixture):
            return noised.responsibilities(x) @ jax.vmap(lambda component: _posterior_mean(kernel, component, x))(self.law.components)
        if isinstance(self.law, Gaussian):
            return _posterior_mean(kernel, self.law, x)
        raise TypeError(f"`law`: got {type(self.law).__name__}; expected Gaussian or GaussianMixture, whose denoiser is exact. Train a network instead.")


def _posterior_mean(kernel: AffineKernel, prior: Gaussian, x: Float[Array, " d"]) -> Float[Array, " d"]:
    back = kernel.invert(prior)
    return back.A @ x + back.b


class _Velocity(Field):
    process: GaussianPath
    law: Law

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        signal, noise = jax.grad(self.process.a)(t), jax.grad(self.process.noise_variance)(t)
        return signal * self.process.denoiser(self.law)(t, x) - noise / 2 * self.process.score(self.law)(t, x)


class _VelocityFromScore(Field):
    process: GaussianPath
    score: Field

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.process.signal_rate(t) * x - self.process.diffusion(t) / 2 * self.score(t, x)
