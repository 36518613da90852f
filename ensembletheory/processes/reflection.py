r"""Reflection as a path from data to uniform noise: free motion with velocity V_0 ~ N(0, r^2 I) in the box [-w, w]^d, whose walls reflect.

Unfolded, the motion is Y_t = Y_0 + t V_0: the point Y_t of the interval n, of length 2 w around 2 w n, is seen at X_t = (-1)^n (Y_t - 2 w n), moving with (-1)^n V_0.
Data are the folded law of a mixture of Gaussians along the axes (or of atoms in the box). On each axis a component N(m, S) has v = S + r^2 t^2, and density and flux of
X_t are sums over images,

    p(x) = sum_n N(y_n; m, v),     p u(x) = sum_n (-1)^n (r^2 t / v) (y_n - m) N(y_n; m, v),     y_n = 2 w n + (-1)^n x,

or, with f_n = pi n / (2 w), Fourier series (theta functions both, related by Poisson's sum),

    p(x) = 1/(2w) + (1/w) sum_{n>=1} exp(-f_n^2 v / 2) cos f_n (m + w) cos f_n (x + w),
    p u(x) = (r^2 t / w) sum_{n>=1} f_n exp(-f_n^2 v / 2) cos f_n (m + w) sin f_n (x + w).

Where v = 4 w^2 / pi both fall as exp(-pi n^2 / 2); the one that falls faster is summed, to rounding. As t grows the law tends to the uniform one.
Source: Holderrieth, Xu & Jaakkola (2024).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.kernels import along_axes
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.law import checked_point
from ensembletheory.laws.mixture import weighted_components
from ensembletheory.laws.weights import log_weighted_sum, relative_terms
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.path import as_gaussians, refuse_unnoised
from ensembletheory.processes.process import Clock

__all__ = ["Reflection"]

_TERMS = 6  # beyond it exp(-pi n^2 / 2) < 1e-33
_SHORT = 0.01  # of the variance over w^2: above it the series of the bound, below it one image is exact to rounding
_FEWEST = 2  # images on either side, for components whose means are in the box and points that have left it


class Reflection(Clock):
    """Free motion in [-half_width, half_width]^d between walls that reflect.

    Args:
        half_width: w.
        speed: r, the standard deviation of the velocities.
        horizon: the time of the noise; by default that at which every density is uniform to 1e-6.

    Raises:
        ValueError: unless all are above 0.
    """

    half_width: Float[Array, ""]
    speed: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, half_width: Numbers = 1.0, speed: Numbers = 1.0, horizon: Numbers | None = None):
        self.half_width, self.speed = positive("half_width", half_width), positive("speed", speed)
        self.horizon = np.sqrt(2 * np.log(2e6)) * 2 * self.half_width / (np.pi * self.speed) if horizon is None else positive("horizon", horizon)

    def log_prob(self, law: Law, t: Numbers, x: Numbers) -> Float[Array, "..."]:
        """The log-density of X_t at x (..., d) when X_0 is `law` folded into the box; -inf outside of it.

        Raises:
            ValueError: if t is not within [0, horizon], a mean is outside of the box, a covariance is not along the axes, or the law at time t has no density.
            TypeError: if `law` is none of Gaussian, GaussianMixture and FiniteLaw.
        """
        data, time = self._required(law), self.checked_time("t", t)
        if is_concrete(time) and float(time) == 0:
            refuse_unnoised(data, time)
        return _log_prob(self, data, time, checked_point("x", x, data.dim))

    def velocity(self, law: Law) -> Field:
        """The exact Hamiltonian velocity predictor u_t(x) = E[V_t | X_t = x], extended by reflection beyond the box.

        Raises:
            ValueError, TypeError: as `log_prob`.
        """
        return _ReflectedField(self, self._required(law))

    def sample(self, key: PRNGKeyArray, n: int, law: Law, t: Numbers) -> Float[Array, "n d"]:
        """`n` draws of X_t.

        Raises:
            ValueError, TypeError: as `log_prob`.
        """
        self._required(law)
        return _drawn(self, key, n, law, self.checked_time("t", t))

    def fold(self, y: Numbers) -> Float[Array, "..."]:
        """Where points of unfolded space are seen in the box."""
        return _folded(jnp.asarray(y, self.half_width.dtype), self.half_width)

    def unevenness(self, t: Numbers, dim: int = 1) -> Float[Array, ""]:
        """A bound on |p_t(x) (2 w)^dim - 1|, whatever the data."""
        return _unevenness(self, self.checked_time("t", t), dim)

    def _required(self, law: Law) -> Gaussian | GaussianMixture:
        data = as_gaussians(law)
        if data.dim > 1 and not along_axes(data):
            refuse("law", "a full covariance", "covariances along the axes", "Walls turn correlations: only then is a component a product over the axes.")
        means = weighted_components(data)[1].mean
        if is_concrete(means, self.half_width) and float(np.max(np.abs(means))) > float(self.half_width):
            refuse(
                "law",
                f"a mean at {float(np.max(np.abs(means))):.6g}",
                f"means within the box, at most {float(self.half_width):.6g} from 0",
                "Fold the means, or widen the box.",
            )
        return data


class _ReflectedField(Field):
    process: Reflection
    law: Gaussian | GaussianMixture

    @property
    def kind(self) -> str:
        return "velocity"

    @property
    def origin(self) -> Reflection:
        return self.process

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        self.check(t)
        weights, logs, velocities = _terms(self.process, self.law, t, x)
        return relative_terms(weights, jnp.sum(logs, axis=1)) @ velocities

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse time 0, where it can be looked at, for data without a density."""
        if is_concrete(t) and float(t) == 0:
            refuse_unnoised(self.law, t)


def _terms(process: Reflection, law: Gaussian | GaussianMixture, t: Float[Array, ""], x: Float[Array, " d"]):
    """Weights (K,) of the components, and along each axis (K, d) their log-densities at x, folded, and the velocities E[V_t | X_t = x, component]."""
    weights, stacked = weighted_components(law)
    variances = jax.vmap(lambda one: one.covariance.diagonal())(stacked)
    along = jnp.vectorize(lambda m, S, y: _along_axis(process, m, S, t, y))
    return weights, *along(stacked.mean, variances, jnp.broadcast_to(x[None, :], variances.shape))


def _along_axis(process: Reflection, m: Float[Array, ""], S: Float[Array, ""], t: Float[Array, ""], x: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The log-density of one component on one axis at x, and its velocity there."""
    w, rate = process.half_width, process.speed**2 * t
    v, even = S + rate * t, 4 * process.half_width**2 / np.pi
    n = np.arange(-_TERMS - _FEWEST, _TERMS + _FEWEST + 1.0)
    sign = np.where(n % 2, -1.0, 1.0)
    narrow, turned, x = jnp.minimum(v, even), _turned(x, w), _folded(x, w)
    gap = 2 * w * n + sign * x - m
    logs = -0.5 * gap**2 / narrow - 0.5 * jnp.log(2 * np.pi * narrow)
    near = jax.nn.logsumexp(logs), rate / narrow * jnp.sum(jax.nn.softmax(logs) * sign * gap)
    f = np.pi / (2 * w) * np.arange(1.0, _TERMS + 1)
    terms = jnp.exp(-0.5 * f**2 * jnp.maximum(v, even)) * jnp.cos(f * (m + w)) / w
    density = 1 / (2 * w) + jnp.sum(terms * jnp.cos(f * (x + w)))
    far = jnp.log(density), rate * jnp.sum(f * terms * jnp.sin(f * (x + w))) / density
    return jnp.where(v < even, near[0], far[0]), turned * jnp.where(v < even, near[1], far[1])


@eqx.filter_jit
def _log_prob(process: Reflection, law: Gaussian | GaussianMixture, t: Float[Array, ""], x: Float[Array, "... d"]) -> Float[Array, "..."]:
    def at(point):
        weights, logs, _ = _terms(process, law, t, point)
        inside = jnp.all(jnp.abs(point) <= process.half_width)
        return jnp.where(inside, log_weighted_sum(weights, jnp.sum(logs, axis=1)), -jnp.inf)

    return jnp.vectorize(at, signature="(d)->()")(x)


@eqx.filter_jit
def _drawn(process: Reflection, key: PRNGKeyArray, n: int, law: Law, t: Float[Array, ""]) -> Float[Array, "n d"]:
    first, second = jax.random.split(key)
    start = law.sample(first, n)
    return _folded(start + process.speed * t * jax.random.normal(second, start.shape, start.dtype), process.half_width)


@jax.jit
def _folded(y: Float[Array, "..."], w: Float[Array, ""]) -> Float[Array, "..."]:
    return _turned(y, w) * (y - 2 * w * jnp.round(y / (2 * w)))


def _turned(y: Float[Array, "..."], w: Float[Array, ""]) -> Float[Array, "..."]:
    """-1 where walls have turned unfolded space an odd number of times, else 1."""
    return jnp.where(jnp.round(y / (2 * w)) % 2 == 0, 1.0, -1.0)


@eqx.filter_jit
def _unevenness(process: Reflection, t: Float[Array, ""], dim: int) -> Float[Array, ""]:
    share = (process.speed * t / process.half_width) ** 2
    series = 2 * jnp.sum(jnp.exp(-0.5 * (np.pi / 2 * np.arange(1.0, 200.0)) ** 2 * share))
    image = jnp.sqrt(8 / (np.pi * jnp.where(share > 0, share, 1.0))) - 1
    return jnp.expm1(dim * jnp.log1p(jnp.where(share > _SHORT, series, jnp.where(share > 0, image, jnp.inf))))
