r"""The extended skew normal law: a Gaussian that is seen only where a noisy linear score is positive (Azzalini & Capitanio 2014, section 5.3; Arellano-Valle & Genton 2010).

    X ~ N(m, S),   e ~ N(0, 1) independent,   given   a + c^T (X - m) + s e > 0,   s >= 0.

With  sd^2 = c^T S c + s^2,  alpha = a / sd,  delta = S c / sd,  and the inverse Mills ratio  r(alpha) = phi(alpha) / Phi(alpha),

    density  N(x; m, S) Phi( (a + c^T (x - m)) / s ) / Phi(alpha),      mean  m + r delta,      covariance  S - r (r + alpha) delta delta^T.

s = 0 is truncation to a half-space, where Phi(. / s) is its indicator. The family is closed under
 - marginals, and affine maps of full row rank: c^T (X - m) is regressed on what is kept, and the variance of the residual is added to s^2;
 - conditioning: N(m, S) is conditioned, a grows by c^T (E[X | x_B] - m), c keeps the coordinates left.
In the tail alpha < -5, r = t + 1 / (t + 2 / (t + 3 / ...)) with t = -alpha, so that r + alpha does not cancel.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.gaussian import Gaussian
from ensembletheory.laws.law import Law, checked_affine, checked_dims, checked_point, marks

__all__ = ["ExtendedSkewNormal", "inverse_mills", "log_cdf", "truncated_normal"]

_TAIL = -5.0
_FRACTIONS = 40  # of the continued fraction, which at 5 then is exact to rounding
_NEWTON_STEPS = 4


class ExtendedSkewNormal(Law):
    """The law of a Gaussian given that offset + direction . (x - its mean) + noise e is positive.

    Args:
        parent: the Gaussian.
        direction: (d,).
        offset: a number.
        noise: the standard deviation of the score's noise, >= 0.

    Raises:
        ValueError: if the shapes do not agree, the noise is negative, or direction and noise are both zero.
    """

    parent: Gaussian
    direction: Float[Array, " d"]
    offset: Float[Array, ""]
    noise: Float[Array, ""]

    def __init__(self, parent: Gaussian, direction: Numbers, offset: Numbers, noise: Numbers):
        self.parent = parent
        self.direction, self.offset, self.noise = as_floats("direction", direction), as_floats("offset", offset), as_floats("noise", noise)
        if self.direction.shape != (parent.dim,) or self.offset.ndim or self.noise.ndim:
            refuse(
                "direction, offset, noise",
                f"shapes {self.direction.shape}, {self.offset.shape}, {self.noise.shape}",
                f"({parent.dim},) and scalars",
                "One slope a coordinate.",
            )
        if is_concrete(self.direction, self.noise) and (float(self.noise) < 0 or not (np.any(np.asarray(self.direction)) or float(self.noise) > 0)):
            refuse("noise", f"{float(self.noise):.6g}", "a number >= 0, positive where the direction is zero", "The score has to vary.")

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.parent.dim

    @property
    def mean(self) -> Float[Array, " d"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The mean."""
        return _moments(self)[0]

    @property
    def cov(self) -> Float[Array, "d d"]:
        """The covariance matrix."""
        return _moments(self)[1]

    def log_mass(self) -> Float[Array, ""]:
        """The log-probability log Phi(alpha) that the score is positive."""
        return _log_mass(self)

    def _scale(self) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        """Alpha and delta."""
        along = self.parent.covariance.matvec(self.direction)
        sd = jnp.sqrt(self.direction @ along + self.noise**2)
        return self.offset / sd, along / sd

    def _gap(self, x: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The score at a point, and the noise or, where it is zero, 1."""
        return self.offset + self.direction @ (x - self.parent.mean), jnp.where(self.noise > 0, self.noise, 1.0)

    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        gap, noise = self._gap(x)
        seen = jnp.where(self.noise > 0, log_cdf(gap / noise), jnp.where(gap >= 0, 0.0, -jnp.inf))
        return self.parent._log_prob(x) + seen - log_cdf(self._scale()[0])

    def _score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        gap, noise = self._gap(x)
        return self.parent._score(x) + self.direction * jnp.where(self.noise > 0, inverse_mills(gap / noise)[0] / noise, 0.0)

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        return _drawn(self, key, n)

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The differential entropy in nats: quadrature for d <= 2, else Monte Carlo.

        Raises:
            ValueError: if d > 2 and no key is given.
        """
        return expectation(self, _surprise, (self,), key, samples)

    def pieces(self) -> tuple[Float[Array, "3 d"], Float[Array, "3 d"]]:
        """The Gaussian, the law itself, and the foot of the threshold."""
        return _pieces(self)

    def marks(self) -> tuple[Float[Array, " _"], ...]:
        """As of every law, but of a truncated one on a line only where its density is positive."""
        found = marks(*self.pieces())
        return found if self.dim > 1 else (_shown(self, found[0]),)

    def marginal(self, dims: Sequence[int]) -> "ExtendedSkewNormal":
        """The law of the coordinates `dims`, in that order."""
        return _marginal(self, tuple(checked_dims(dims, self.dim)))

    def condition(self, dims: Sequence[int], values: Numbers) -> "ExtendedSkewNormal":
        """The law of the remaining coordinates, in order, given that the coordinates `dims` equal `values`.

        Raises:
            ValueError: if `dims` repeats a coordinate, is out of range or leaves nothing, or `values` does not have its length.
        """
        given = checked_dims(dims, self.dim)
        if len(given) == self.dim:
            refuse("dims", "all coordinates", "at least one left free", "Evaluate log_prob at the values instead.")
        return _conditioned(self, tuple(given), checked_point("values", values, len(given)))

    def push(self, A: Numbers, b: Numbers) -> "ExtendedSkewNormal":
        """The law of A x + b, for A (k, d) of full row rank and b (k,)."""
        A, b = checked_affine(A, b, self.dim)
        return _pushed(self, A, b)


def log_cdf(z: Float[Array, "..."]) -> Float[Array, "..."]:
    """Log Phi(z)."""
    return special.log_ndtr(z)  # pyright: ignore[reportReturnType]


def inverse_mills(alpha: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """The ratio r = phi(alpha) / Phi(alpha), and r + alpha > 0."""
    near = jnp.maximum(alpha, _TAIL)
    direct = jnp.exp(-0.5 * (near**2 + np.log(2 * np.pi)) - log_cdf(near))
    t = jnp.maximum(-alpha, -_TAIL)
    fraction = t
    for n in range(_FRACTIONS, 1, -1):
        fraction = t + n / fraction
    return jnp.where(alpha > _TAIL, direct, t + 1 / fraction), jnp.where(alpha > _TAIL, direct + near, 1 / fraction)


def truncated_normal(uniform: Float[Array, "..."], alpha: Float[Array, "..."]) -> Float[Array, "..."]:
    """The standard normal given that it exceeds -alpha, at the upper quantile `uniform` in (0, 1]."""
    near = jnp.maximum(alpha, _TAIL)
    direct = jnp.maximum(-special.ndtri(uniform * special.ndtr(near)), -near)
    far = jnp.minimum(alpha, _TAIL)
    target = log_cdf(far) + jnp.log(uniform)

    def step(_, w):
        return w + (log_cdf(-w) - target) / inverse_mills(-w)[0]

    w = jax.lax.fori_loop(0, _NEWTON_STEPS, step, jnp.sqrt(far**2 - 2 * jnp.log(uniform)))
    return jnp.where(alpha > _TAIL, direct, w)  # pyright: ignore[reportReturnType]


def _surprise(x: Float[Array, " d"], law: ExtendedSkewNormal) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """-log p(x), and 0 where p is."""
    log_prob = law._log_prob(x)
    held = jnp.where(log_prob > -jnp.inf, log_prob, 0.0)
    return -held, jnp.abs(held)


@eqx.filter_jit
def _moments(law: ExtendedSkewNormal) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    alpha, delta = law._scale()
    ratio, excess = inverse_mills(alpha)
    return law.parent.mean + ratio * delta, law.parent.cov - ratio * excess * jnp.outer(delta, delta)


@eqx.filter_jit
def _log_mass(law: ExtendedSkewNormal) -> Float[Array, ""]:
    return log_cdf(law._scale()[0])


@eqx.filter_jit
def _pieces(law: ExtendedSkewNormal) -> tuple[Float[Array, "3 d"], Float[Array, "3 d"]]:
    along = law.parent.covariance.matvec(law.direction)
    spread, reach = jnp.sqrt(law.parent.covariance.diagonal()), law.direction @ along
    foot = law.parent.mean - along * law.offset / jnp.where(reach > 0, reach, 1.0)
    slopes = jnp.abs(law.direction)
    edge = jnp.where(slopes > 0, jnp.minimum(law.noise / jnp.where(slopes > 0, slopes, 1.0), spread), spread)
    mean, cov = _moments(law)
    return jnp.stack([law.parent.mean, mean, foot]), jnp.stack([spread, jnp.sqrt(jnp.diagonal(cov)), edge])


@eqx.filter_jit
def _marginal(law: ExtendedSkewNormal, dims: tuple[int, ...]) -> ExtendedSkewNormal:
    kept, lost = np.asarray(dims), np.asarray([i for i in range(law.dim) if i not in dims], dtype=int)
    part, direction, noise = law.parent.marginal(dims), law.direction[kept], law.noise
    if lost.size:
        of_lost = law.direction[lost]
        rest = law.parent.covariance.regressed(lost.tolist(), dims, jnp.zeros(len(dims), law.direction.dtype))[1]
        direction = direction + part.covariance.solve(law.parent.cov[kept[:, None], lost] @ of_lost)
        noise = jnp.sqrt(noise**2 + of_lost @ rest.matvec(of_lost))
    return ExtendedSkewNormal(part, direction, law.offset, noise)


@eqx.filter_jit
def _conditioned(law: ExtendedSkewNormal, dims: tuple[int, ...], values: Float[Array, " b"]) -> ExtendedSkewNormal:
    given, rest = np.asarray(dims), np.asarray([i for i in range(law.dim) if i not in dims])
    remaining = law.parent.condition(dims, values)
    shift = law.direction[given] @ (values - law.parent.mean[given]) + law.direction[rest] @ (remaining.mean - law.parent.mean[rest])
    return ExtendedSkewNormal(remaining, law.direction[rest], law.offset + shift, law.noise)


@eqx.filter_jit
def _pushed(law: ExtendedSkewNormal, A: Float[Array, "k d"], b: Float[Array, " k"]) -> ExtendedSkewNormal:
    image, along = law.parent.push(A, b), law.parent.covariance.matvec(law.direction)
    direction = image.covariance.solve(A @ along)
    lost = jnp.maximum(law.direction @ along - direction @ A @ along, 0.0) if A.shape[0] < law.dim else 0.0
    return ExtendedSkewNormal(image, direction, law.offset, jnp.sqrt(law.noise**2 + lost))


@eqx.filter_jit
def _shown(law: ExtendedSkewNormal, found: Float[Array, " _"]) -> Float[Array, " _"]:
    """Points of a line, of a truncated law moved to where its density is positive."""
    slope, centre = law.direction[0], law.parent.mean[0]
    foot = centre - law.offset / jnp.where(slope == 0, 1.0, slope)
    inside = foot + jnp.sign(slope) * 8 * jnp.finfo(foot.dtype).eps * (jnp.abs(foot) + jnp.abs(centre))
    return jnp.where(law.noise > 0, found, jnp.where(slope > 0, jnp.maximum(found, inside), jnp.minimum(found, inside)))


@eqx.filter_jit
def _drawn(law: ExtendedSkewNormal, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    key_parent, key_noise, key_cut = jax.random.split(key, 3)
    alpha, delta = law._scale()
    drawn = law.parent.sample(key_parent, n)
    noise = law.noise * jax.random.normal(key_noise, (n,), drawn.dtype)
    sd = jnp.sqrt(law.direction @ law.parent.covariance.matvec(law.direction) + law.noise**2)
    score = ((drawn - law.parent.mean[None, :]) @ law.direction + noise) / sd
    cut = truncated_normal(1 - jax.random.uniform(key_cut, (n,), drawn.dtype), alpha)
    return drawn + (cut - score)[:, None] * delta[None, :]
