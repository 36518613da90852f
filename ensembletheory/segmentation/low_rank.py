r"""The law of masks of stochastic segmentation networks: logits with a Gaussian law of low rank (Monteiro et al. 2020).

eta ~ N(m, P P^T + diag d), and given eta the pixels are independent, P(y_i = 1 | eta) = sigmoid(eta_i).

It is a law with Gaussian factors whose noise is logistic plus N(0, d_i), both of log-concave density: F(x, d) = E sigmoid(x + sqrt(d) e), the logistic-normal integral.
It is computed to a relative error near 1e-11 for all x and d:

 - from sigmoid(x) = e^x sigmoid(-x) follows F(x, d) = exp(x + d/2) F(-x - d, d), which brings every x to x >= -d/2, where F is not small against what it sums;
 - for d < 1 by the trapezoid rule over e (the poles of the sigmoid lie pi / sqrt(d) from the axis);
 - else as E Phi((x + l) / sqrt(d)) over the logistic l, by the trapezoid rule (the density's poles lie pi from the axis), further to the right, where at
   x = -d/2 the integrand falls like exp(-l/2) only.

The pixel probabilities are F(m_i, |P_i|^2 + d_i).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.segmentation.factors import FactorMasks, checked_maps
from ensembletheory.segmentation.normal_tails import log_normal_cdf

__all__ = ["LowRankLogits", "log_logistic_normal"]

_NORMAL_STEP, _NORMAL_SPAN = 0.5, 9.0
_LOGISTIC_STEP, _LOGISTIC_LEAST, _LOGISTIC_MOST = 0.55, -39.6, 72.6


class LowRankLogits(FactorMasks):
    """The law of masks whose logits are N(mean, factor factor^T + diag(diagonal)).

    Args:
        mean: (H, W).
        factor: (H, W, r).
        diagonal: (H, W), non-negative.

    Raises:
        ValueError: if shapes do not agree, a value is not finite, or a variance is negative.
    """

    mean: Float[Array, "H W"]
    factor: Float[Array, "H W r"]
    diagonal: Float[Array, "H W"]

    def __init__(self, mean: Numbers, factor: Numbers, diagonal: Numbers):
        self.mean, self.factor = checked_maps(mean, factor)
        self.diagonal = as_floats("diagonal", diagonal)
        if self.diagonal.shape != self.mean.shape:
            refuse("diagonal", f"shape {self.diagonal.shape}", f"{self.mean.shape}", "One variance a pixel.")
        if is_concrete(self.diagonal) and np.any(np.asarray(self.diagonal) < 0):
            refuse("diagonal", f"smallest {np.min(np.asarray(self.diagonal)):.6g}", "variances >= 0", "It is what the factors leave of each logit's variance.")

    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """The probability that each pixel is in the mask."""
        return _pixels(self.mean, self.factor, self.diagonal)

    def _log_cdf(self, x: Float[Array, "H W"]) -> Float[Array, "H W"]:
        return log_logistic_normal(x, self.diagonal)

    def _steepness(self) -> Float[Array, "H W"]:
        return jnp.linalg.norm(self.factor, axis=-1) / jnp.sqrt(1 + self.diagonal)

    def _noise(self, key: PRNGKeyArray, n: int) -> Float[Array, "n H W"]:
        of_normal, of_logistic = jax.random.split(key)
        normal = jax.random.normal(of_normal, (n, *self.shape), self.mean.dtype)
        return jnp.sqrt(self.diagonal)[None] * normal + jax.random.logistic(of_logistic, normal.shape, normal.dtype)


@jax.jit
def _pixels(mean: Float[Array, "H W"], factor: Float[Array, "H W r"], diagonal: Float[Array, "H W"]) -> Float[Array, "H W"]:
    return jnp.exp(log_logistic_normal(mean, jnp.sum(factor**2, axis=-1) + diagonal))


def log_logistic_normal(x: Float[Array, "*n"], d: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Log of E sigmoid(x + sqrt(d) e), e ~ N(0, 1). See the module."""
    return jnp.vectorize(_log_logistic_normal)(x, d)


def _log_logistic_normal(x: Float[Array, ""], d: Float[Array, ""]) -> Float[Array, ""]:
    low, wide = x < -d / 2, d >= 1
    folded = jnp.where(low, -x - d, x)
    value = jnp.where(wide, _over_logistic(folded, jnp.where(wide, d, 1.0)), _over_normal(folded, jnp.where(wide, 0.0, d)))
    return jnp.where(low, x + d / 2, 0.0) + value


def _over_normal(x: Float[Array, ""], d: Float[Array, ""]) -> Float[Array, ""]:
    e = np.arange(-_NORMAL_SPAN, _NORMAL_SPAN + _NORMAL_STEP / 2, _NORMAL_STEP)
    return _log_sum(jax.nn.log_sigmoid(x + _root(d) * jnp.asarray(e, x.dtype)), -(e**2) / 2)


def _over_logistic(x: Float[Array, ""], d: Float[Array, ""]) -> Float[Array, ""]:
    nodes = np.arange(_LOGISTIC_LEAST, _LOGISTIC_MOST + _LOGISTIC_STEP / 2, _LOGISTIC_STEP)
    return _log_sum(log_normal_cdf((x + jnp.asarray(nodes, x.dtype)) / jnp.sqrt(d)), -np.abs(nodes) - 2 * np.log1p(np.exp(-np.abs(nodes))))


def _log_sum(logs: Float[Array, " k"], log_weights: np.ndarray) -> Float[Array, ""]:
    return jax.nn.logsumexp(logs + jnp.asarray(log_weights - np.logaddexp.reduce(log_weights), logs.dtype))


def _root(d: Float[Array, ""]) -> Float[Array, ""]:
    """The square root, with derivative 0 at 0, where all terms of that derivative cancel."""
    positive = d > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, d, 1.0)), 0.0)
