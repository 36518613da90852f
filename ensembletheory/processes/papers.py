r"""Between this package's fields and the networks of four papers, which look at the same paths through other variables and clocks.

| paper | callable | relation to X_t = a_t X_0 + s_t Z, t from data (0) to noise (T) |
|---|---|---|
| Song et al. (2021) | score(x, t) | the same time and the same score |
| Lipman et al. (2023) | v(t', x), t' from noise (0) to data (1) | t' = 1 - t / T, v' = -T v |
| Karras et al. (2022) | D(y, sigma), y = X_0 + sigma n | y = x / a, sigma = s / a, D the denoiser |
| Ho et al. (2020) | eps(x', n), x' = sqrt(A_n) X_0 + sqrt(1 - A_n) Z, A_n = prod_{i <= n} (1 - beta_i) | A_n = a^2 / (a^2 + s^2), x' = x / sqrt(a^2 + s^2), eps the noise |

`from_*` makes a `Field` of their callable; `to_*` makes such a callable of a field, which is converted if it is of another kind. DDPM's n runs from 1 to N; a time between two
of its noise levels is given to eps as the n, not whole, at which the interpolated log A_n is right, and less noise than that of n = 1 as an n between 0 and 1.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers
from ensembletheory.fields import Field
from ensembletheory.processes.conversions import convert
from ensembletheory.processes.path import GaussianPath
from ensembletheory.processes.schedules import log_signals

__all__ = ["from_ddpm", "from_karras", "from_lipman", "from_song", "to_ddpm", "to_karras", "to_lipman", "to_song"]

Scalar = Float[Array, ""]
Vector = Float[Array, " d"]


def from_song(process: GaussianPath, score: Callable[[Vector, Scalar], Vector]) -> Field:
    """The score field of Song's score(x, t)."""
    return _FromSong(process, score)


def to_song(process: GaussianPath, field: Field, given: str | None = None) -> Callable[[Vector, Scalar], Vector]:
    """Song's score(x, t) of a field (of the kind `given`, default what the field says of itself)."""
    converted = convert(process, field, "score", given)
    return lambda x, t: converted(t, x)


def from_lipman(process: GaussianPath, velocity: Callable[[Scalar, Vector], Vector]) -> Field:
    """The velocity field of Lipman's v(t', x)."""
    return _FromLipman(process, velocity)


def to_lipman(process: GaussianPath, field: Field, given: str | None = None) -> Callable[[Scalar, Vector], Vector]:
    """Lipman's v(t', x) of a field (of the kind `given`, default what the field says of itself)."""
    converted, horizon = convert(process, field, "velocity", given), process.horizon
    return lambda t, x: -horizon * converted(horizon * (1 - t), x)


def from_karras(process: GaussianPath, denoiser: Callable[[Vector, Scalar], Vector]) -> Field:
    """The denoiser field of Karras's D(y, sigma)."""
    return _FromKarras(process, denoiser)


def to_karras(process: GaussianPath, field: Field, given: str | None = None) -> Callable[[Vector, Scalar], Vector]:
    """Karras's D(y, sigma) of a field (of the kind `given`, default what the field says of itself), for noise levels that the process reaches."""
    converted = convert(process, field, "denoiser", given)

    def denoiser(y: Vector, sigma: Scalar) -> Vector:
        t = process.time_of_angle(jnp.arctan(sigma))
        return converted(t, process.a(t) * y)

    return denoiser


def from_ddpm(process: GaussianPath, noise: Callable[[Vector, Scalar], Vector], betas: Numbers) -> Field:
    """The noise field of DDPM's eps(x', n), trained with the given betas.

    Raises:
        ValueError: if there is no beta, or one is not between 0 and 1.
    """
    return _FromDdpm(process, noise, log_signals(betas))


def to_ddpm(process: GaussianPath, field: Field, betas: Numbers, given: str | None = None) -> Callable[[Vector, Scalar], Vector]:
    """DDPM's eps(x', n) of a field (of the kind `given`, default what the field says of itself), for noise levels that the process reaches.

    Raises:
        ValueError: if there is no beta, or one is not between 0 and 1.
    """
    converted, signals = convert(process, field, "noise", given), log_signals(betas)

    def noise(x: Vector, n: Numbers) -> Vector:
        log_signal = jnp.interp(jnp.asarray(n, dtype=signals.dtype), jnp.arange(signals.size, dtype=signals.dtype), signals)
        t = process.time_of_angle(jnp.arctan2(jnp.sqrt(-jnp.expm1(log_signal)), jnp.exp(log_signal / 2)))
        return converted(t, _length(process, t) * x)

    return noise


class _FromSong(Field):
    process: GaussianPath
    score: Callable[[Vector, Scalar], Vector]

    @property
    def kind(self) -> str:
        return "score"

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.score(x, t)


class _FromLipman(Field):
    process: GaussianPath
    velocity: Callable[[Scalar, Vector], Vector]

    @property
    def kind(self) -> str:
        return "velocity"

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return -self.velocity(1 - t / self.process.horizon, x) / self.process.horizon


class _FromKarras(Field):
    process: GaussianPath
    denoiser: Callable[[Vector, Scalar], Vector]

    @property
    def kind(self) -> str:
        return "denoiser"

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.denoiser(x / self.process.a(t), self.process.noise_level(t))


class _FromDdpm(Field):
    process: GaussianPath
    predicted: Callable[[Vector, Scalar], Vector]
    log_signals: Float[Array, " levels"]

    @property
    def kind(self) -> str:
        return "noise"

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        length = _length(self.process, t)
        decay = jnp.log1p(self.process.noise_level(t) ** 2)
        n = jnp.interp(decay, -self.log_signals, jnp.arange(self.log_signals.size, dtype=decay.dtype))
        return self.predicted(x / length, n)


def _length(process: GaussianPath, t: Scalar) -> Scalar:
    return jnp.sqrt(process.a(t) ** 2 + process.noise_variance(t))
