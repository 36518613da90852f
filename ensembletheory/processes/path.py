r"""Gaussian paths from data to noise: X_t = a_t X_0 + s_t Z, Z ~ N(0, I) independent of X_0, t from 0 (data) to the horizon (noise).

As a linear process: F = f I with f = a'/a, and G G^T = g^2 I with g^2 = (s^2)' - 2 f s^2. Some paths of flow matching start with a little noise, s_0 > 0.

**Exact fields.** For data sum_k w_k N(m_k, S_k), X_t is a mixture of N(a m_k, C_k), C_k = a^2 S_k + s^2 I, with responsibilities r_k. Every field is a readout (alpha, c) of
the hidden pair (X_0, Z): the conditional mean of alpha X_0 + (c / s) Z,

    E[ alpha X_0 + (c / s) Z | X_t = x ] = sum_k r_k(x) { alpha m_k + (alpha a S_k + c I) C_k^{-1} (x - a m_k) }:

    denoiser E[X_0 | x]: (1, 0);    noise E[Z | x]: (0, s);    velocity E[X'_t | x]: (a', (s^2)'/2);    score grad log p_t: (0, -1).

Nothing is divided by a or s, so fields hold at both ends of time. Any two fields determine each other (`ensembletheory.processes.conversions`).
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.bisection import bisected
from ensembletheory.covariance import Dense, Isotropic, refuse_singular
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import FiniteLaw, Gaussian, GaussianMixture, Law
from ensembletheory.laws.gaussian import is_singular
from ensembletheory.laws.mixture import components, with_components
from ensembletheory.laws.weights import relative_terms
from ensembletheory.linalg import shifted_solve
from ensembletheory.processes.process import Process

__all__ = ["ExactField", "GaussianPath", "as_gaussians", "refuse_unnoised"]

_SMALL = 4  # factorised coordinate by coordinate, in few operations
_NOISE_ONLY = ("score", "noise")  # readouts with alpha = 0


class GaussianPath(Process):
    """X_t = a_t X_0 + s_t Z; see `VariancePreserving` and `LinearInterpolant`."""

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

    def noise_level(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """sigma_t = s_t / a_t."""
        return jnp.sqrt(self.noise_variance(t)) / self.a(t)

    def angle(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """arctan(s_t / a_t), which increases from data to noise."""
        return jnp.arctan2(jnp.sqrt(self.noise_variance(t)), self.a(t))

    def time_of_angle(self, angle: Numbers) -> Float[Array, "..."]:
        """The times at which arctan(s / a) has the given values, by bisection to rounding.

        Raises:
            ValueError: if a value is not reached within the horizon.
        """
        angle = as_floats("angle", angle)
        lowest, highest = self.angle(jnp.zeros_like(self.horizon)), self.angle(self.horizon)
        rounding = 8 * jnp.finfo(angle.dtype).eps
        if is_concrete(angle, highest) and (np.min(angle) < lowest - rounding or np.max(angle) > highest + rounding):
            got = f"noise levels s/a from {float(jnp.tan(jnp.min(angle))):.6g} to {float(jnp.tan(jnp.max(angle))):.6g}"
            refuse("angle", got, f"from {float(jnp.tan(lowest)):.6g} to {float(jnp.tan(highest)):.6g}", "Stay within the levels of the process, or lengthen its horizon.")
        return _bisected(self, angle)

    def drift(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """f_t x."""
        return self.signal_rate(t) * x

    def spread(self, t: Float[Array, ""], y: Float[Array, " d"]) -> Float[Array, " d"]:
        """g_t^2 y."""
        return self.diffusion(t) * y

    def disturbance(self, t: Float[Array, ""], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """g_t z."""
        return jnp.sqrt(self.diffusion(t)) * z

    def kernel(self, s: Numbers, t: Numbers, dim: int = 1) -> AffineKernel:
        """The law of X_t given X_s on R^dim, s <= t, under the forward SDE.

        Raises:
            ValueError: unless 0 <= s <= t <= horizon.
        """
        s, t = self.checked_interval(s, t)
        ratio = self.a(t) / self.a(s)
        return AffineKernel.scaling(ratio, self.noise_variance(t) - ratio**2 * self.noise_variance(s), dim)

    def marginal(self, law: Law, t: Numbers) -> Law:
        """The law of X_t when X_0 has `law`: a Gaussian of a Gaussian, else a mixture.

        Raises:
            ValueError: if t is not within [0, horizon].
            TypeError: if `law` is none of Gaussian, GaussianMixture and FiniteLaw.
        """
        time = self.checked_time("t", t)
        if is_singular(law) and _without_noise(self, time):
            return law
        return _noised(self, as_gaussians(law), time)

    def score(self, law: Law) -> Field:
        """The exact score field of the path that starts from `law`."""
        return ExactField(self, law, "score")

    def denoiser(self, law: Law) -> Field:
        """The exact E[X_0 | X_t = x] when X_0 has `law`."""
        return ExactField(self, law, "denoiser")

    def noise(self, law: Law) -> Field:
        """The exact noise prediction E[Z | X_t = x] when X_0 has `law`."""
        return ExactField(self, law, "noise")

    def velocity(self, law: Law) -> Field:
        """The exact probability-flow velocity E[X'_t | X_t = x] of the path that starts from `law`."""
        return ExactField(self, law, "velocity")

    def readout(self, kind: str, t: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """(alpha, c) of a kind of field at time t.

        Raises:
            ValueError: if the kind is not one of "score", "velocity", "denoiser" and "noise".
        """
        zero, one = jnp.zeros_like(t), jnp.ones_like(t)
        if kind == "denoiser":
            return one, zero
        if kind == "score":
            return zero, -one
        if kind == "noise":
            return zero, jnp.sqrt(self.noise_variance(t))
        if kind == "velocity":
            return jax.grad(self.a)(t), jax.grad(self.noise_variance)(t) / 2
        refuse("kind", repr(kind), "'score', 'velocity', 'denoiser' or 'noise'", "These are the fields of a Gaussian path.")


class ExactField(Field):
    """The exact field of a kind, for data of a law."""

    process: GaussianPath
    law: Gaussian | GaussianMixture
    spectrum: tuple[Float[Array, "d d"], Float[Array, " d"]] | None  # of a full covariance that is not small: noise moves eigenvalues, and eigenvectors stay
    readout: str = eqx.field(static=True)

    def __init__(self, process: GaussianPath, law: Law, readout: str):
        self.process, self.law, self.readout = process, as_gaussians(law), readout
        self.spectrum = _spectrum(self.law)

    @property
    def kind(self) -> str:
        """Which field it is."""
        return self.readout

    @property
    def origin(self) -> GaussianPath:
        """The path."""
        return self.process

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The field at time t and one point x."""
        self.check(t)
        a, (alpha, c) = self.process.a(t), self.process.readout(self.readout, t)

        def mean(component: Gaussian, y: Float[Array, " d"]) -> Float[Array, " d"]:
            return c * y if self.readout in _NOISE_ONLY else alpha * component.mean + alpha * a * component.covariance.matvec(y) + c * y

        if isinstance(self.law, Gaussian):
            return mean(self.law, self._solved(t, x - a * self.law.mean))
        noised = _noised(self.process, self.law, t)
        assert isinstance(noised, GaussianMixture)
        solved = jax.vmap(lambda seen: seen.covariance.solve(x - seen.mean))(noised.components)
        return relative_terms(noised.weights, noised._joint(x)) @ jax.vmap(mean)(self.law.components, solved)

    def _solved(self, t: Float[Array, ""], gap: Float[Array, " d"]) -> Float[Array, " d"]:
        """The inverse of the covariance at time t, times a vector, for the data of a Gaussian."""
        if self.spectrum is None:
            noised = _noised(self.process, self.law, t)
            assert isinstance(noised, Gaussian)
            return noised.covariance.solve(gap)
        return shifted_solve(self.law.cov, *self.spectrum, self.process.a(t) ** 2, self.process.noise_variance(t), gap)

    def batch(self, t: Float[Array, ""], points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The field at time t and many points; the components of a mixture of full covariances are factorised once."""
        noised = _noised(self.process, self.law, t)
        white = noised._prepared() if isinstance(noised, GaussianMixture) else None
        if white is None or not isinstance(self.law, GaussianMixture):
            return super().batch(t, points)
        self.check(t)
        a, (alpha, c) = self.process.a(t), self.process.readout(self.readout, t)
        if self.readout in _NOISE_ONLY:
            return -c * white.mixed_scores(self.law.weights, points)
        gains = alpha * a * self.law.covs + c * jnp.eye(self.law.dim, dtype=points.dtype)[None]
        return white.mixed(self.law.weights, points, alpha * self.law.means, jax.vmap(lambda gain, inverse: gain @ inverse.T)(gains, white.inverses))

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse a time, whose value can be looked at, at which the law has no density."""
        if _without_noise(self.process, t):
            refuse_unnoised(self.law, t)


def _without_noise(process: GaussianPath, t: Float[Array, ""]) -> bool:
    """Whether the noise at a time is known to be 0; it is not known where time or path are traced."""
    return is_concrete(t) and is_concrete(noise := process.noise_variance(t)) and float(noise) == 0


def as_gaussians(law: Law) -> Gaussian | GaussianMixture:
    """A law as a Gaussian or a mixture; the atoms of a finite law become components of covariance zero.

    Raises:
        TypeError: if the law is of another kind.
    """
    if isinstance(law, FiniteLaw):
        return _atoms(law)
    if isinstance(law, Gaussian | GaussianMixture):
        return law
    raise TypeError(f"`law`: got {type(law).__name__}; expected Gaussian, GaussianMixture or FiniteLaw, whose fields are exact. Train a network instead.")


def _spectrum(law: Gaussian | GaussianMixture) -> tuple[Float[Array, "d d"], Float[Array, " d"]] | None:
    """Eigenvectors and eigenvalues of a Gaussian's full covariance, constants for derivatives; none where factorising is as cheap."""
    if isinstance(law, Gaussian) and isinstance(law.covariance, Dense) and law.dim > _SMALL:
        eigenvalues, Q = _eigh(jax.lax.stop_gradient(law.cov))
        return Q, eigenvalues
    return None


_eigh = jax.jit(jnp.linalg.eigh)


@eqx.filter_jit
def _bisected(process: GaussianPath, angle: Float[Array, "..."]) -> Float[Array, "..."]:
    def below(times: Float[Array, "..."]) -> Array:
        return jax.vmap(process.angle)(times.ravel()).reshape(times.shape) < angle

    return bisected(below, jnp.zeros_like(angle), jnp.broadcast_to(process.horizon, angle.shape), 2 * jnp.finfo(angle.dtype).nmant)[1]


def refuse_unnoised(law: Gaussian | GaussianMixture, t: Float[Array, ""]) -> None:
    """Refuse a law without a density, where it is met without noise.

    Raises:
        ValueError: naming the component and the time.
    """
    for k, component in enumerate(components(law)):
        refuse_singular(f"law, whose covariance {k} is met without noise at time {float(t):.6g}", component.covariance)


@eqx.filter_jit
def _atoms(law: FiniteLaw) -> GaussianMixture:
    return GaussianMixture(law.weights, law.points, Isotropic(jnp.zeros(law.weights.shape), law.dim))


@eqx.filter_jit
def _noised(process: GaussianPath, law: Gaussian | GaussianMixture, t: Float[Array, ""]) -> Gaussian | GaussianMixture:
    a, variance = process.a(t), process.noise_variance(t)

    def noised(component: Gaussian) -> Gaussian:
        return Gaussian(a * component.mean, component.covariance.scaled(a**2) + Isotropic(variance, component.dim))

    return with_components(law, noised)
