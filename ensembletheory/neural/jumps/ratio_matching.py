r"""Ratio matching along a path: networks learn p_t(x, R_j v) / p_t(x, v) from draws of place and velocity alone (`ensembletheory.processes.pdmp.ratio_matching`).

With u uniform on [0, 1], t = horizon u^2, and (X_t, V_t) of the process begun from the data, ratios s have the loss

    L(s) = E sum_j [ G(s_j(t, X, V))^2 + G(s_j(t, X, R_j V))^2 - 2 G(s_j(t, X, V)) ],      G(r) = 1 / (1 + r),

and with r the true ratios L(s) = L(r) + excess(s), the excess being a squared error of the probabilities G:

    excess(s) = E sum_j [ (G(s_j) - G(r_j))^2 at (X, V) + the same at (X, R_j V) ],      L(r) = -E sum_j G(r_j(t, X, V)).

Ratios with s_j(R_j v) = 1 / s_j(v) have L = E sum_j [2 (1 - G(s_j))^2 - 1], twice Brier's score of a classifier of signs less one: one evaluation a draw.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count, refuse
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.laws import KacMixture, Law
from ensembletheory.neural.data import stratified
from ensembletheory.neural.jumps.ratio_network import RatioNetwork, Ratios
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.training import Loss
from ensembletheory.processes import Telegraph, ZigZag
from ensembletheory.processes.pdmp.ratio_matching import chances, least_loss_on_the_line
from ensembletheory.processes.telegraph import at_time

__all__ = ["RatioLearner", "RatioMatching", "least_ratio_loss", "ratio_error", "ratio_loss"]

_BATCHES = 4096  # draws evaluated at once


class RatioMatching(eqx.Module):
    """What ratios are asked to match; called with (ratios, key), the loss of `batch` draws, with stratified times.

    Args:
        process: whose velocities have signs.
        law: the law of X_0.
        batch: draws a call.

    Raises:
        ValueError: if there are none.
    """

    process: ZigZag | Telegraph
    law: Law
    batch: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        checked_count("batch", self.batch, 1)

    def __call__(self, ratios: Ratios, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean of sum_j [2 (1 - G(s_j))^2 - 1] over a batch whose u fill [0, 1] evenly; unbiased."""
        key_time, key_rest = jax.random.split(key)
        logs = jax.vmap(ratios.log_ratios)(*self._noised(key_rest, stratified(key_time, self.batch)))
        return jnp.mean(jnp.sum(2 * jax.nn.sigmoid(logs) ** 2 - 1, axis=1))

    def _drawn(self, key: PRNGKeyArray, samples: int) -> tuple[Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"]]:
        """Independent draws of t, X_t and V_t."""
        key_time, key_rest = jax.random.split(key)
        return self._noised(key_rest, jax.random.uniform(key_time, (samples,)))

    def _noised(self, key: PRNGKeyArray, u: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, "n d"], Float[Array, "n d"]]:
        key_data, key_noise = jax.random.split(key)
        t = self.process.horizon * u**2
        return t, *self.process.noised(key_noise, self.law.sample(key_data, u.size), t)


class RatioLearner(Learner):
    """Ratio networks of one process, which learn by ratio matching.

    Args:
        process: a zig-zag or telegraph process.
        width: units in a hidden layer.
        depth: number of hidden layers.
        batch: draws a step.

    Raises:
        ValueError: if a number is out of its range.
    """

    process: ZigZag | Telegraph
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=3)
    batch: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        for name, least in {"width": 1, "depth": 2, "batch": 1}.items():
            checked_count(name, getattr(self, name), least)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `RatioNetwork`, its mean and scale those of the law."""
        return RatioNetwork(key, self.process, law, self.width, self.depth)

    def loss(self, law: Law) -> Loss:
        """Ratio matching."""
        return RatioMatching(self.process, law, self.batch)


def ratio_loss(key: PRNGKeyArray, ratios: Any, objective: RatioMatching, samples: int) -> Estimate:
    """L(ratios) by Monte Carlo, of any (t, x, v) -> s; the same key gives the same draws here and in `ratio_error`.

    Raises:
        ValueError: if there are fewer than two samples.
    """
    return monte_carlo(_values(key, (ratios,), objective, checked_count("samples", samples, 2), _loss_at))


def ratio_error(key: PRNGKeyArray, ratios: Any, exact: Any, objective: RatioMatching, samples: int) -> Estimate:
    """The excess of L(ratios) over the minimum, by Monte Carlo against the exact ratios, such as `Telegraph.turned_ratios(law)` or `ZigZagTables`.

    Raises:
        ValueError: if there are fewer than two samples.
    """
    return monte_carlo(_values(key, (ratios, exact), objective, checked_count("samples", samples, 2), _error_at))


@eqx.filter_jit
def least_ratio_loss(objective: RatioMatching) -> Estimate:
    """The minimum L(r) of a telegraph process on the line, below which no ratios get, by quadrature.

    Gauss-Legendre in u with 16 nodes; the error adds the difference to 8 nodes and the errors in x.

    Raises:
        ValueError: if the process is a zig-zag process, or the law not on the line.
        TypeError: if the law has no density whose noised law is known.
    """
    process = objective.process
    if not isinstance(process, Telegraph):
        refuse("objective", f"one of a {type(process).__name__}", "one of a Telegraph process", "For others the minimum is the loss of the exact ratios: ratio_loss.")
    noised = KacMixture(objective.law, process.noise(process.horizon))
    rules = [np.polynomial.legendre.leggauss(n) for n in (16, 8)]
    u = jnp.concatenate([(1 + nodes) / 2 for nodes, _ in rules])
    at = jax.lax.map(lambda u: least_loss_on_the_line(at_time(noised, process.horizon * u**2)), u)
    weights = jnp.concatenate([weights / 2 for _, weights in rules])
    fine, coarse = (weights * at.value)[:16].sum(), (weights * at.value)[16:].sum()
    return Estimate(fine, (weights * at.error)[:16].sum() + jnp.abs(fine - coarse), "quadrature")


def _loss_at(t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"], ratios: Any) -> Float[Array, ""]:
    own, turned = chances(partial(ratios, t), x, v)
    return jnp.sum(own**2 + turned**2 - 2 * own)


def _error_at(t: Float[Array, ""], x: Float[Array, " d"], v: Float[Array, " d"], ratios: Any, exact: Any) -> Float[Array, ""]:
    learned, true = (jnp.stack(chances(partial(field, t), x, v)) for field in (ratios, exact))
    return jnp.sum((learned - true) ** 2)


@eqx.filter_jit
def _values(key: PRNGKeyArray, fields: tuple[Any, ...], objective: RatioMatching, samples: int, value) -> Float[Array, " n"]:
    return jax.lax.map(lambda draw: value(*draw, *fields), objective._drawn(key, samples), batch_size=_BATCHES)
