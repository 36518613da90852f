r"""A velocity network for X_t = a_t X_0 + s_t X_1, X_1 ~ N(0, I), preconditioned so that a network of outputs of order one suffices at every time.

With m and c^2 the mean and the variance per coordinate of the data, v_t = a_t^2 c^2 + s_t^2, W_t = a_t s'_t - a'_t s_t >= 0 and F the network,

    velocity(t, x) = a'_t m + (a_t a'_t c^2 + s_t s'_t) / v_t (x - a_t m) + W_t c / sqrt(v_t) F((x - a_t m) / sqrt(v_t), features(t)).

The first two terms are the velocity of N(m, c^2 I), the exact one if these are the data. The target of flow matching, X'_t = a'_t X_0 + s'_t X_1, is then the target

    F = [ a_t c^2 X_1 - s_t (X_0 - m) ] / (c sqrt(v_t)),

whose variance per coordinate is (a_t^2 c^4 + s_t^2 c^2) / (c^2 v_t) = 1 at every t where X_0 and X_1 are independent: minus the target of a `ScoreNetwork`. On the linear
path W_t = 1, and nothing is infinite at either end; where s'_t is infinite, as at the data of a diffusion, so is the velocity of a network, and grids end at a time > 0.

features(t) are the sines and cosines of 2^j phi_t, j = 1, 2, 3, of the angle phi_t = arctan(s_t / (a_t c)), which runs from 0 (data) to pi/2 (noise).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.laws import Law
from ensembletheory.neural.data import scale_of
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.processes import GaussianPath

__all__ = ["VelocityNetwork", "noise_rate"]

_MULTIPLES = (2.0, 4.0, 8.0)
_EARLIEST = 1e-9  # shares of the horizon: where the noise begins, its rate is its limit


class VelocityNetwork(Field):
    """A multilayer perceptron as a velocity field; trained are the perceptron's parameters only.

    Args:
        key: of the initial parameters.
        process: the path from data to noise.
        law: of the data, from which mean and scale are taken.
        width: units in a hidden layer.
        depth: number of hidden layers.

    Raises:
        ValueError: if the law has no spread, or a size is below 1.
    """

    network: Perceptron
    process: GaussianPath
    mean: Float[Array, " d"]
    scale: Float[Array, ""]

    def __init__(self, key: PRNGKeyArray, process: GaussianPath, law: Law, width: int = 64, depth: int = 3):
        self.network = Perceptron(key, law.dim + 2 * len(_MULTIPLES), law.dim, width, depth)
        self.process, self.mean, self.scale = process, law.mean, scale_of(law)

    @property
    def kind(self) -> str:
        """A velocity."""
        return "velocity"

    @property
    def origin(self) -> GaussianPath:
        """The path."""
        return self.process

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The velocity at time t and one point x."""
        process, mean, c = jax.lax.stop_gradient((self.process, self.mean, self.scale))
        a, s, (slope, half_rate) = process.a(t), jnp.sqrt(process.noise_variance(t)), process.readout("velocity", t)
        variance = a**2 * c**2 + s**2
        centred = x - a * mean
        correction = self.network(jnp.concatenate([centred / jnp.sqrt(variance), _features(jnp.arctan2(s, a * c))]))
        gaussian = slope * mean + (a * slope * c**2 + half_rate) / variance * centred
        return gaussian + (a * noise_rate(process, t) - slope * s) * c / jnp.sqrt(variance) * correction

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse a time, whose value can be looked at, at which the path moves infinitely fast.

        Raises:
            ValueError: naming the time.
        """
        if is_concrete(t) and not np.isfinite(noise_rate(self.process, t)):
            refuse("t", f"{float(t):.6g}", "a later time", "Noise begins there with an infinite slope, and the velocity of a network with it.")


@eqx.filter_jit
def noise_rate(process: GaussianPath, t: Float[Array, ""]) -> Float[Array, ""]:
    """The slope s'_t = (s_t^2)' / (2 s_t) of the noise coefficient; where s_t = 0, its limit, which may be infinite."""
    later = jnp.maximum(t, _EARLIEST * process.horizon)
    rate = process.readout("velocity", later)[1] / jnp.sqrt(process.noise_variance(later))
    begins = (process.noise_variance(t) == 0) & (process.readout("velocity", t)[1] > 0)
    return jnp.where(begins, jnp.inf, rate)


def _features(angle: Float[Array, ""]) -> Float[Array, " m"]:
    angles = angle * jnp.asarray(_MULTIPLES, angle.dtype)
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])
