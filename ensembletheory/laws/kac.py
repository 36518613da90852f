r"""The Kac (telegraph) law: where a particle of speed c is at time t that starts at 0 in either direction and turns round at the times of a Poisson process of rate a.

With b = a/c and r = sqrt(c^2 t^2 - x^2), it has the masses e^{-at}/2 at both ends of its light cone, x = -ct and x = ct, and between them, by the present velocity +c or -c,
the densities

    p_+-(x) = (b/4) e^{-at} [ I_0(b r) + (c t +- x) I_1(b r) / r ],

smooth up to the cone. They solve the transport equations d_t p_+- = -+ c d_x p_+- + a (p_-+ - p_+-), hence their sum the telegraph equation u_tt + 2 a u_t = c^2 u_xx. Then

    mean velocity    u(x) = E[v | x] = x / (t + (r/c) I_0(br) / I_1(br)),  |u| <= c,  and u = +-c at the ends, where nobody has turned round;
    reverse rates    a p_-(x) / p_+(x) at which the process run backwards turns round when its velocity is +c, and a p_+ / p_- when it is -c;
    variance         (c^2/a) [ t - (1 - e^{-2at}) / (2a) ],      transform  E e^{i xi X} = e^{-at} [cosh(k t) + (a/k) sinh(k t)],  k^2 = a^2 - c^2 xi^2;
    even moments     E X^{2n} = (ct)^{2n} Gamma(n + 1/2) / sqrt(pi) int_{-1}^1 e^{-at(1-s)} [ (at/2) (1-s^2)^n / n! + (1-s^2)^{n-1} / (n-1)! ] ds,

the last from E X^{2n} = (ct)^{2n} (2/at)^{n-1/2} Gamma(n + 1/2) e^{-at} [ I_{n+1/2}(at) + I_{n-1/2}(at) ] and Poisson's integral of the Bessel functions. Given N turns, the
share B of time spent in the first direction is Beta(ceil((N+1)/2), floor((N+1)/2)), and X = ct (2B - 1): draws need no path. Ulrich's formula
2B - 1 = (1 - U^{2/(2k-1)})^{1/2} cos 2 pi V gives Beta(k, k), and taken with probability B, else turned to 1 - B, Beta(k + 1, k). As a -> infinity with c^2/a fixed, the
law tends to N(0, c^2 t / a) and u to x / (2t).

**Smoothed by a Gaussian.** For X + s Z the atoms become Gaussian densities, and the rest is integrated by one Gauss-Legendre rule about the peak of the integrand, which is
log-concave: what lies outside of the interval weighs less than 1e-16 of it. Bessel functions are scaled throughout, so that nothing overflows.

Sources: Kac (1974); Ulrich (1984), "Computer generation of distributions on the m-sphere"; for the generative use Duong et al. (2025).
"""

import math
from collections.abc import Sequence
from typing import NoReturn

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import i0e, i1e
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws.law import Law
from ensembletheory.quadrature import gauss_legendre

__all__ = ["KacLaw"]

_NODES = 48
_HALF_WIDTH = 8.6  # standard deviations of a Gaussian, beyond which less than 1e-16 of it lies
_NEWTON_STEPS = 12
_SERIES = 1e-4  # of (b r)^2, below which three terms of the series of I_0 and I_1 are exact


class KacLaw(Law):
    """The law of the telegraph process on the line.

    Args:
        speed: c > 0.
        rate: a > 0, at which it turns round.
        time: t >= 0.

    Raises:
        ValueError: if speed or rate is not positive, or time is negative.
    """

    speed: Float[Array, ""]
    rate: Float[Array, ""]
    time: Float[Array, ""]

    def __init__(self, speed: Numbers, rate: Numbers, time: Numbers):
        self.speed, self.rate, self.time = as_floats("speed", speed), as_floats("rate", rate), as_floats("time", time)

    def __check_init__(self):
        for name, value, least in (("speed", self.speed, "above 0"), ("rate", self.rate, "above 0"), ("time", self.time, "of 0 or more")):
            if value.ndim:
                refuse(name, f"shape {value.shape}", "one number", "Make one law for each value.")
            if is_concrete(value) and not (float(value) > 0 or (float(value) == 0 and name == "time")):
                refuse(name, f"{float(value):.6g}", f"a number {least}", "A particle without speed or turns makes no telegraph process.")

    @property
    def dim(self) -> int:
        """1."""
        return 1

    @property
    def reach(self) -> Float[Array, ""]:
        """The distance c t of the light cone."""
        return self.speed * self.time

    @property
    def atom(self) -> Float[Array, ""]:
        """The mass e^{-at}/2 at each end of the light cone."""
        return jnp.exp(-self.rate * self.time) / 2

    @property
    def mean(self) -> Float[Array, " 1"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """0."""
        return jnp.zeros(1, self.time.dtype)

    @property
    def variance(self) -> Float[Array, ""]:
        """(c^2/a) [t - (1 - e^{-2at}) / (2a)]."""
        return self.moment(2)

    @property
    def cov(self) -> Float[Array, "1 1"]:
        """The variance as a matrix."""
        return self.variance[None, None]

    def moment(self, order: int) -> Float[Array, ""]:
        """E X^order.

        Raises:
            ValueError: if the order is not a positive integer.
        """
        if order != int(order) or order < 1:
            refuse("order", str(order), "a positive integer", "E X^0 is 1.")
        return jnp.zeros_like(self.time) if order % 2 else _even_moment(self, int(order) // 2)

    def transform(self, frequency: Numbers) -> Float[Array, "..."]:
        """E e^{i frequency X}, a real number."""
        return _transform(self, as_floats("frequency", frequency))

    def density(self, x: Numbers) -> Float[Array, "..."]:
        """The density between the atoms at x (...), 0 beyond them."""
        return jnp.sum(self.densities(x), axis=-1)

    def densities(self, x: Numbers) -> Float[Array, "... 2"]:
        """The densities p_+ and p_- between the atoms at x (...) of being there with velocity +c and -c."""
        return jnp.exp(_log_parts(self, as_floats("x", x)))

    def velocity(self, x: Numbers) -> Float[Array, "..."]:
        """The mean velocity E[v | X = x] between the atoms."""
        return _velocity(self, as_floats("x", x))

    def reverse_rates(self, x: Numbers) -> Float[Array, "... 2"]:
        """The rates a p_-/p_+ and a p_+/p_- between the atoms at which the process run backwards turns round, when its velocity is +c and -c."""
        return _reverse_rates(self, as_floats("x", x))

    def log_parts(self, x: Float[Array, ""]) -> Float[Array, " 2"]:
        """Log p_+ and log p_- at one point, -inf beyond the light cone."""
        inside = jnp.abs(x) <= self.reach
        exponents, amplitudes = self._scaled_parts(jnp.where(inside, x, 0.0)[None])
        return jnp.where(inside, exponents[0] + jnp.log(amplitudes[0]), -jnp.inf)

    def smoothed_log_parts(self, x: Float[Array, ""], deviation: Float[Array, ""]) -> Float[Array, " 2"]:
        """The logarithms of the densities, with velocity +c and with -c, of X + deviation Z at one point, atoms included; `deviation` > 0."""
        ends = jnp.stack([self.reach, -self.reach])
        at_ends = -0.5 * ((x - ends) / deviation) ** 2
        y, width = self._window(x, deviation)
        exponents, amplitudes = self._scaled_parts(y)
        exponents = exponents - 0.5 * ((x - y) / deviation) ** 2
        top = jax.lax.stop_gradient(jnp.maximum(jnp.max(at_ends), jnp.max(exponents)))
        spread = width * (jnp.asarray(_WEIGHTS, y.dtype) * jnp.exp(exponents - top)) @ amplitudes
        return top + jnp.log(self.atom * jnp.exp(at_ends - top) + spread) - jnp.log(deviation) - 0.5 * np.log(2 * np.pi)

    def _window(self, x: Float[Array, ""], deviation: Float[Array, ""]) -> tuple[Float[Array, " n"], Float[Array, ""]]:
        """The nodes of a rule on the interval that holds the mass of p(y) N(x - y; 0, deviation^2), and its length; the ends of the cone carry a derivative."""
        b, reach = self.rate / self.speed, self.reach
        kernel = jnp.where(reach > 0, b / jnp.where(reach > 0, reach, 1.0), 0.0)
        half = _HALF_WIDTH / jnp.sqrt(kernel + deviation**-2)
        peak = _peak(jnp.abs(x), b * deviation**2, reach)
        least = jax.lax.stop_gradient(jnp.maximum(peak - half, reach - _depth(jnp.abs(x) - reach, deviation, b**2 * reach)))
        low, high = jnp.maximum(least, -reach), jnp.minimum(jax.lax.stop_gradient(peak + half), reach)
        side = jnp.where(x < 0, -1.0, 1.0).astype(x.dtype)
        return side * (low + (high - low) * jnp.asarray(_POINTS, x.dtype)), high - low

    def _scaled_parts(self, x: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n 2"]]:
        """Exponents e and amplitudes (A_+, A_-) with p_+- = A_+- exp(e)."""
        b, reach = self.rate / self.speed, self.reach
        square = b**2 * (reach - x) * (reach + x)
        small = square < _SERIES
        z = jnp.sqrt(jnp.where(small, 1.0, square))
        zeroth = jnp.where(small, 1 + square / 4 + square**2 / 64, i0e(z))
        first = b * jnp.where(small, 1 / 2 + square / 16 + square**2 / 384, i1e(z) / z)
        exponents = jnp.where(small, -self.rate * self.time, -b * x**2 / (reach + z / b))
        return exponents, b / 4 * (zeroth[:, None] + (reach + x[:, None] * jnp.asarray([[1.0, -1.0]], x.dtype)) * first[:, None])

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n 1"]:
        """`n` independent draws."""
        return self.sample_with_velocity(key, n)[0][:, None]

    def sample_with_velocity(self, key: PRNGKeyArray, n: int) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """`n` independent draws of X and of the sign of the velocity."""
        return _drawn(self, key, n)

    def pieces(self) -> tuple[Float[Array, "K d"], Float[Array, "K d"]]:
        """Refused: there is no density."""
        self._no_density("piece that quadrature could resolve")

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """Refused: there is no density."""
        self._no_density("entropy")

    def marginal(self, dims: Sequence[int]) -> "KacLaw":
        """The law itself.

        Raises:
            ValueError: unless `dims` is [0].
        """
        if list(dims) != [0]:
            refuse("dims", str(list(dims)), "[0]", "The law lives on the line.")
        return self

    def condition(self, dims: Sequence[int], values: Numbers) -> Law:
        """Refused: nothing would be left free."""
        refuse("dims", str(list(dims)), "at least one coordinate left free", "The law lives on the line.")

    def push(self, A: Numbers, b: Numbers) -> Law:
        """Refused: the law is centred and on the line."""
        raise TypeError("KacLaw.push: got an affine map; expected none. For c x change `speed`; for a shift use Telegraph(...).marginal(FiniteLaw([[shift]]), t).")

    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        self._no_density("density")

    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        self._no_density("score")

    def _no_density(self, what: str) -> NoReturn:
        raise TypeError(
            f"KacLaw: got a request for its {what}; expected a law without atoms. See `density` and `atom`, or noise a law with a density: Telegraph(...).marginal(law, t)."
        )


_POINTS, _WEIGHTS = (part.ravel() for part in gauss_legendre(_NODES, 1))


def _peak(x: Float[Array, ""], spread: Float[Array, ""], reach: Float[Array, ""]) -> Float[Array, ""]:
    """Where in [0, reach] the exponent b r(y) - (x - y)^2 / (2 s^2) is largest, with spread = b s^2 and x >= 0.

    With p = y / r it solves spread p + reach p / sqrt(1 + p^2) = x, increasing and concave in p >= 0: Newton's method climbs from below.
    """
    start = jnp.maximum(x / (spread + reach), (x - reach) / spread)

    def climbed(p, _):
        root = jnp.sqrt(1 + p**2)
        return p + (x - spread * p - reach * p / root) / (spread + reach / root**3), None

    p = jax.lax.scan(climbed, start, None, length=_NEWTON_STEPS)[0]
    return jax.lax.stop_gradient(reach * p / jnp.sqrt(1 + p**2))


def _depth(beyond: Float[Array, ""], deviation: Float[Array, ""], rise: Float[Array, ""]) -> Float[Array, ""]:
    """How far behind the end of the cone the integrand is less than 1e-16 of what it is there, for a point `beyond` the end; infinite for one before it.

    At a depth u the Gaussian has fallen by g u + u^2 / (2 s^2), g = beyond / s^2, and the rest has risen by b sqrt(2 ct u) <= g u / 2 + b^2 ct / g at most.
    """
    slope = jnp.maximum(beyond, jnp.finfo(beyond.dtype).tiny ** 0.25) / deviation**2
    fall = _HALF_WIDTH**2 / 2 + rise / slope
    return jnp.where(beyond > 0, 2 * fall / (slope / 2 + jnp.sqrt(slope**2 / 4 + 2 * fall / deviation**2)), jnp.inf)


@eqx.filter_jit
def _even_moment(law: KacLaw, n: int) -> Float[Array, ""]:
    at = law.rate * law.time
    length = jnp.minimum(2.0, 80 / jnp.where(at > 0, at, 1.0))
    gap = length * jnp.asarray(_POINTS, at.dtype)  # 1 - s
    bulk = gap * (2 - gap)
    terms = at / 2 * bulk**n / math.factorial(n) + bulk ** (n - 1) / math.factorial(n - 1)
    integral = length * (jnp.asarray(_WEIGHTS, at.dtype) @ (jnp.exp(-at * gap) * terms))
    return law.reach ** (2 * n) * math.gamma(n + 0.5) / np.sqrt(np.pi) * integral


@eqx.filter_jit
def _transform(law: KacLaw, frequency: Float[Array, "..."]) -> Float[Array, "..."]:
    at = law.rate * law.time
    square = at**2 - (law.reach * frequency) ** 2  # (k t)^2
    small = jnp.abs(square) < _SERIES
    root = jnp.sqrt(jnp.where(small, 1.0, jnp.abs(square)))
    falling = jnp.where(square > 0, (jnp.exp(root - at) + jnp.exp(-root - at)) / 2, jnp.exp(-at) * jnp.cos(root))
    slope = jnp.where(square > 0, (jnp.exp(root - at) - jnp.exp(-root - at)) / 2, jnp.exp(-at) * jnp.sin(root)) / root
    near = jnp.exp(-at) * (1 + square / 2 + square**2 / 24 + at * (1 + square / 6 + square**2 / 120))
    return jnp.where(small, near, falling + at * slope)


@eqx.filter_jit
def _log_parts(law: KacLaw, x: Float[Array, "..."]) -> Float[Array, "... 2"]:
    return jnp.vectorize(law.log_parts, signature="()->(k)")(x)


@eqx.filter_jit
def _velocity(law: KacLaw, x: Float[Array, "..."]) -> Float[Array, "..."]:
    logs = jnp.vectorize(law.log_parts, signature="()->(k)")(x)
    return law.speed * jnp.tanh((logs[..., 0] - logs[..., 1]) / 2)


@eqx.filter_jit
def _reverse_rates(law: KacLaw, x: Float[Array, "..."]) -> Float[Array, "... 2"]:
    logs = jnp.vectorize(law.log_parts, signature="()->(k)")(x)
    return law.rate * jnp.exp(logs[..., ::-1] - logs)


@eqx.filter_jit
def _drawn(law: KacLaw, key: PRNGKeyArray, n: int) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    return drawn(law, key, (n,))


def drawn(law: KacLaw, key: PRNGKeyArray, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Independent draws of X and of the sign of the velocity."""
    return drawn_at(law.speed, law.rate, law.time, key, shape)


def drawn_at(speed: Float[Array, ""], rate: Float[Array, ""], time: Float[Array, "..."], key: PRNGKeyArray, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Such draws, at one time or at times of the rank of `shape`."""
    key_turns, key_uniform = jax.random.split(key)
    turns = jax.random.poisson(key_turns, rate * time, shape)
    sign, radius, angle, size = jax.random.uniform(key_uniform, (4, *shape), time.dtype)
    first, even, none = jnp.where(sign < 0.5, -1.0, 1.0), turns % 2 == 0, turns == 0
    equal = jnp.maximum(jnp.where(even, turns - 1, turns), 1).astype(first.dtype)  # 2k - 1
    gap = jnp.sqrt(1 - radius ** (2 / equal)) * jnp.cos(2 * np.pi * angle)
    gap = jnp.where(even & (size > (1 + gap) / 2), -gap, gap)
    return first * speed * time * jnp.where(none, 1.0, gap), first * jnp.where(even, 1.0, -1.0)
