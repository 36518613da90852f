r"""Networks for the ratios p_t(x, R_j v) / p_t(x, v) of zig-zag and telegraph processes, R_j v the velocities with the sign of v_j turned.

A ratio is the odds against the sign of v_j given the place and the other signs, so that the network is a classifier of signs: with F_j the log-odds of v_j = 1,

    log s_j(t, x, v) = -v_j F_j(t, x, v without v_j),      s_j(t, x, R_j v) = 1 / s_j(t, x, v),      G(s_j) = 1 / (1 + s_j) = P(v_j | x, the other signs).

A trunk sees time and place; its features and the signs v go through one hidden layer more, of which coordinate j takes the part without v_j: one pass through the trunk
gives the ratios of all coordinates, and any function of (t, x, v without v_j) can be approached. Places come in units of the data and the noise together, with waves
(`ensembletheory.neural.jumps.waves`).

**Ensembles** average the probabilities, sum_k w_k G_k, a linear pool of the laws of v_j given the rest, which keeps s_j(R_j v) = 1 / s_j(v). The excess of ratio matching over
its minimum is a squared error of G, so that the average errs by the members' average less their ambiguity, on any draws (Krogh & Vedelsby 1995).
"""

from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, refuse
from ensembletheory.laws import Law
from ensembletheory.laws.weights import checked_weights
from ensembletheory.neural.jumps.waves import wave_count, waves
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.stacks import count
from ensembletheory.processes import Telegraph, ZigZag

__all__ = ["AveragedRatios", "RatioNetwork", "Ratios"]


class Ratios(eqx.Module):
    """Ratios (t, x, v) -> s > 0 with s_j(t, x, R_j v) = 1 / s_j(t, x, v), as `processes.pdmp.ReverseFlips` takes them."""

    @abstractmethod
    def log_ratios(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """Log s_j of every coordinate at one point."""

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """The ratios at one point."""
        return jnp.exp(self.log_ratios(t, x, v))


class RatioNetwork(Ratios):
    """A perceptron as the ratios of a process; trained are the perceptron's parameters only.

    Args:
        key: of the initial parameters.
        process: whose velocities have signs.
        law: of the data, from which mean and scale are taken.
        width: units in a hidden layer.
        depth: number of hidden layers; the last one sees the signs.

    Raises:
        ValueError: if the dimensions differ, or there are fewer than two hidden layers.
    """

    trunk: Perceptron
    head: Perceptron
    mean: Float[Array, " d"]
    scale: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, key: PRNGKeyArray, process: ZigZag | Telegraph, law: Law, width: int = 64, depth: int = 3):
        if isinstance(process, ZigZag) and law.dim != process.dim:
            refuse("law", f"dimension {law.dim}", f"dimension {process.dim}, that of the process", "Give the process and the law the same space.")
        if depth < 2:
            refuse("depth", f"{depth}", "at least 2", "One hidden layer of the trunk, and one that sees the signs.")
        noise = process.noise(process.horizon).variance if isinstance(process, Telegraph) else jnp.trace(process.target.cov) / law.dim
        key_trunk, key_head = jax.random.split(key)
        self.trunk = Perceptron(key_trunk, wave_count(law.dim), width, width, depth - 2)
        self.head = Perceptron(key_head, width + law.dim, law.dim, width, 1)
        self.mean, self.scale, self.horizon = law.mean, jnp.sqrt(jnp.trace(law.cov) / law.dim + noise), process.horizon

    def log_ratios(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """-v_j F_j of every coordinate at one point."""
        mean, scale, horizon = jax.lax.stop_gradient((self.mean, self.scale, self.horizon))
        hidden = self.trunk.activation(self.trunk(waves((x - mean) / scale, t, horizon)))
        joined, last = self.head.layers
        together = joined @ jnp.concatenate([hidden, v, jnp.ones_like(t)[None]])
        without = together[None, :] - v[:, None] * joined[:, -1 - len(v) : -1].T
        return -v * (jnp.sum(last[:, :-1] * self.head.activation(without), axis=1) + last[:, -1])


class AveragedRatios(Ratios):
    """The ratios of the average probability of each sign, over a stack of ratios.

    Args:
        stacked: a stack of K ratios.
        weights: (K,) on the simplex; default 1/K each.

    Raises:
        ValueError: if the weights are off the simplex.
    """

    stacked: Any
    weights: Float[Array, " K"]

    def __init__(self, stacked: Any, weights: Numbers | None = None):
        self.stacked, self.weights = stacked, checked_weights(weights, count(stacked))

    def log_ratios(self, t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " d"]:
        """The log-odds of the averages at one point."""
        logs = eqx.filter_vmap(lambda ratios: ratios.log_ratios(t, x, v))(self.stacked)
        return _log_mean(self.weights, jax.nn.log_sigmoid(logs)) - _log_mean(self.weights, jax.nn.log_sigmoid(-logs))


def _log_mean(weights: Float[Array, " K"], logs: Float[Array, "K d"]) -> Float[Array, " d"]:
    return jax.nn.logsumexp(logs, axis=0, b=weights[:, None])
