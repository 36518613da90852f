r"""Networks for the velocity u(t, x) = E[v | X_t = x] of the flow of a telegraph process X_t = X_0 + tau_t, |u_j| <= c by construction.

With m and s^2 the mean and the variance per coordinate of the data, n_t the variance of tau_t and F the network,

    u(t, x) = c tanh( k_t (x - m) + F((x - m) / sqrt(s^2 + n_t), t) ),      c k_t = Cov(v, X_t) / (s^2 + n_t) = (c^2 / 2a) (1 - e^{-2at}) / (s^2 + n_t),

whose inputs are those of `ensembletheory.neural.jumps.waves`.

The first term is the best linear guess, which the exact velocity approaches as noise outweighs the data; artanh(u / c) is half the log-odds of v = c given the place, so
that F does the same as a network of ratios on the line. Averages of such fields keep the bound.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.fields import Field
from ensembletheory.laws import Law
from ensembletheory.neural.data import scale_of
from ensembletheory.neural.jumps.waves import wave_count, waves
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.processes import Telegraph

__all__ = ["KacVelocityNetwork"]


class KacVelocityNetwork(Field):
    """A multilayer perceptron as the velocity of a telegraph process; trained are the perceptron's parameters only.

    Args:
        key: of the initial parameters.
        process: the telegraph process.
        law: of the data, from which mean and scale are taken.
        width: units in a hidden layer.
        depth: number of hidden layers.
    """

    network: Perceptron
    process: Telegraph
    mean: Float[Array, " d"]
    scale: Float[Array, ""]

    def __init__(self, key: PRNGKeyArray, process: Telegraph, law: Law, width: int = 64, depth: int = 3):
        self.network = Perceptron(key, wave_count(law.dim), law.dim, width, depth)
        self.process, self.mean, self.scale = process, law.mean, scale_of(law)

    @property
    def kind(self) -> str:
        """A velocity."""
        return "velocity"

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The velocity at time t and one point x."""
        process, mean, scale = jax.lax.stop_gradient((self.process, self.mean, self.scale))
        c, a = process.speed, process.rate
        turned = -jnp.expm1(-2 * a * t) / (2 * a)
        variance = scale**2 + c**2 / a * (t - turned)
        correction = self.network(waves((x - mean) / jnp.sqrt(variance), t, process.horizon))
        return c * jnp.tanh(c * turned / variance * (x - mean) + correction)
