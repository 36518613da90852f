r"""Weighted particles in independent batches, and what they estimate.

Batch b has m particles x_i of weights w_i. For a function phi its mean a_b = (1/m) sum_i w_i phi(x_i) is an unbiased estimate of an integral against an unnormalised density,
and z_b = (1/m) sum_i w_i of its mass, whatever resampling made the particles of the batch dependent. Batches are independent: with bars for means over the B batches,

    log mass ~ log z_bar,                   standard error  sd(z_b) / (sqrt(B) z_bar),
    E phi    ~ phi_bar = a_bar / z_bar,     standard error  sd(a_b - phi_bar z_b) / (sqrt(B) z_bar),

by the delta method; both ratios are biased by O(1/n), less than their standard errors by a factor of the order of sqrt(n).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.estimate import Estimate

__all__ = ["WeightedSample"]


class WeightedSample(eqx.Module):
    """Points with weights; see the module for its estimates.

    Args:
        points: of all batches, one batch after the other.
        log_weights: of the points, on one scale for all batches.
        effective_sizes: (sum w)^2 / sum w^2 in each batch, at the times of the run that made the sample.
    """

    points: Float[Array, "n d"]
    log_weights: Float[Array, " n"]
    effective_sizes: Float[Array, "times B"]

    def __check_init__(self):
        batches = self.effective_sizes.shape[1]
        if batches < 2 or len(self.points) % batches:
            refuse("effective_sizes", f"{batches} batches of {len(self.points)} points", "two or more batches of equal size", "Standard errors are those of batches.")

    @property
    def effective_size(self) -> Float[Array, ""]:
        """(sum w)^2 / sum w^2 of all weights: how many equally weighted points they are worth; after resampling, whose copies count apart, it is too favourable."""
        return _effective_size(self.log_weights)

    @property
    def log_normaliser(self) -> Estimate:
        """The log of the mean weight, in nats."""
        return _log_mean(self.log_weights, self.effective_sizes.shape[1])

    def expectation(self, f: Callable[[Float[Array, " d"]], Float[Array, "..."]]) -> Estimate:
        """The expectation of f, which maps one point to a number or an array, under the law of the weighted points."""
        return _expectation(self, f)


@jax.jit
def _effective_size(log_weights: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.exp(2 * jax.nn.logsumexp(log_weights) - jax.nn.logsumexp(2 * log_weights))


@eqx.filter_jit
def _log_mean(log_weights: Float[Array, " n"], batches: int) -> Estimate:
    top = jnp.max(log_weights)
    masses = jnp.mean(jnp.exp(log_weights - top).reshape(batches, -1), axis=1)
    return Estimate(top + jnp.log(jnp.mean(masses)), _error(masses) / jnp.mean(masses), "monte_carlo")


@eqx.filter_jit
def _expectation(sample: WeightedSample, f: Callable[[Float[Array, " d"]], Float[Array, "..."]]) -> Estimate:
    batches = sample.effective_sizes.shape[1]
    weights = jnp.exp(sample.log_weights - jnp.max(sample.log_weights)).reshape(batches, -1)
    values = jax.vmap(f)(sample.points)
    integrals = jax.vmap(lambda w, value: jnp.tensordot(w, value, axes=1) / len(w))(weights, values.reshape(*weights.shape, *values.shape[1:]))
    masses = jnp.mean(weights, axis=1)
    ratio = jnp.mean(integrals, axis=0) / jnp.mean(masses)
    residuals = integrals - jnp.tensordot(masses, ratio, axes=0)
    return Estimate(ratio, _error(residuals) / jnp.mean(masses), "monte_carlo")


def _error(batches: Float[Array, "B *shape"]) -> Float[Array, "*shape"]:
    """The standard error of the mean over batches."""
    return jnp.std(batches, axis=0, ddof=1) / np.sqrt(len(batches))
