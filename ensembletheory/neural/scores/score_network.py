r"""A score network for X_t = a_t X_0 + s_t Z, preconditioned so that a network of outputs of order one suffices at every time.

With m and c^2 the mean and the variance per coordinate of the data, v_t = a_t^2 c^2 + s_t^2 the variance per coordinate of X_t and F the network,

    score(t, x) = -(x - a_t m) / v_t + a_t c / (s_t sqrt(v_t)) F((x - a_t m) / sqrt(v_t), features(t)).

The first term is the score of N(a_t m, v_t I), the exact one if the data are N(m, c^2 I). The denoising target of the score, -(X_t - a_t X_0) / s_t^2 = -Z / s_t, is then
the target

    F = [ s_t (X_0 - m) - a_t c^2 Z ] / (c sqrt(v_t)),

whose variance per coordinate is (s_t^2 c^2 + a_t^2 c^4) / (c^2 v_t) = 1 at every t; its input has variance 1 too. This is the preconditioning of Karras et al. (2022,
table 1), there for a_t = 1 and the denoiser, here for any Gaussian path and the score. Where a_t = 0, at or towards the horizon, the score is exactly that of the noise
N(0, s_t^2 I) whatever the network; at t = 0, where s_t = 0, it is not defined: grids end at a time > 0.

features(t) are the level l_t = log(s_t^2 / v_t) <= 0, divided by 8, and the sines and cosines of 2^j l_t / 4, j = 0 ... 3.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.fields import Field
from ensembletheory.laws import Law
from ensembletheory.neural.data import scale_of
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.processes import GaussianPath

__all__ = ["ScoreNetwork"]

_FREQUENCIES = (0.25, 0.5, 1.0, 2.0)


class ScoreNetwork(Field):
    """A multilayer perceptron as a score field; trained are the perceptron's parameters only.

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
        self.network = Perceptron(key, law.dim + 1 + 2 * len(_FREQUENCIES), law.dim, width, depth)
        self.process, self.mean, self.scale = process, law.mean, scale_of(law)

    @property
    def kind(self) -> str:
        """A score."""
        return "score"

    @property
    def origin(self) -> GaussianPath:
        """The path."""
        return self.process

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The score at time t > 0 and one point x."""
        process, mean, scale = jax.lax.stop_gradient((self.process, self.mean, self.scale))
        a, noise = process.a(t), process.noise_variance(t)
        variance = a**2 * scale**2 + noise
        centred = x - a * mean
        correction = self.network(jnp.concatenate([centred / jnp.sqrt(variance), _features(jnp.log(noise / variance))]))
        return -centred / variance + a * scale / jnp.sqrt(noise * variance) * correction


def _features(level: Float[Array, ""]) -> Float[Array, " m"]:
    angles = level * jnp.asarray(_FREQUENCIES, level.dtype)
    return jnp.concatenate([level[None] / 8, jnp.sin(angles), jnp.cos(angles)])
