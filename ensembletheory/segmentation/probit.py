r"""Masks of rank-one probit logits: y_i = 1{m_i + l_i z + sqrt(v_i) e_i > 0} with z, e_i independent N(0, 1).

P(y_i = 1) = Phi(m_i / sqrt(l_i^2 + v_i)); two pixels with m = 0 are in the mask together with probability 1/4 + asin(rho) / (2 pi), rho the correlation of their latent
normals (Sheppard 1899); the probability of a whole mask of n pixels is an orthant probability of N(m, l l^T + diag v), here one integral over z. A change of sign of all l
changes nothing.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.segmentation.factors import FactorMasks, checked_maps
from ensembletheory.segmentation.normal_tails import log_normal_cdf

__all__ = ["ProbitMasks"]


class ProbitMasks(FactorMasks):
    """The law of the signs of a Gaussian map with one common factor.

    Args:
        mean: (H, W), m.
        loading: (H, W), l.
        noise: the variance v of each pixel's own noise, positive: one number or (H, W).

    Raises:
        ValueError: if shapes do not agree, a value is not finite, or a variance is not positive.
    """

    mean: Float[Array, "H W"]
    loading: Float[Array, "H W"]
    noise: Float[Array, "H W"]

    def __init__(self, mean: Numbers, loading: Numbers, noise: Numbers = 1.0):
        self.loading, variances = as_floats("loading", loading), as_floats("noise", noise)
        self.mean, _ = checked_maps(mean, _as_factor(self.loading))
        if variances.shape not in ((), self.mean.shape):
            refuse("noise", f"shape {variances.shape}", f"a number or {self.mean.shape}", "It is the variance of each pixel's own noise.")
        if is_concrete(variances) and not np.all(np.asarray(variances) > 0):
            refuse("noise", f"smallest {np.min(np.asarray(variances)):.6g}", "variances > 0", "Without noise of its own, a pixel is a function of the factor.")
        self.noise = variances if variances.shape else _filled(variances, self.mean.shape)

    @property
    def factor(self) -> Float[Array, "H W 1"]:
        """What each pixel gains from a unit of the factor."""
        return _as_factor(self.loading)

    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """The probability that each pixel is in the mask."""
        return _pixels(self.mean, self.loading, self.noise)

    def _log_cdf(self, x: Float[Array, "H W"]) -> Float[Array, "H W"]:
        return log_normal_cdf(x / jnp.sqrt(self.noise))

    def _steepness(self) -> Float[Array, "H W"]:
        return jnp.abs(self.loading) / jnp.sqrt(self.noise)

    def _noise(self, key: PRNGKeyArray, n: int) -> Float[Array, "n H W"]:
        return jnp.sqrt(self.noise)[None] * jax.random.normal(key, (n, *self.shape), self.mean.dtype)


@jax.jit
def _as_factor(loading: Float[Array, "*n"]) -> Float[Array, "*n 1"]:
    return loading[..., None]


@eqx.filter_jit
def _filled(number: Float[Array, ""], shape: tuple[int, ...]) -> Float[Array, "H W"]:
    return jnp.broadcast_to(number, shape)


@jax.jit
def _pixels(mean: Float[Array, "H W"], loading: Float[Array, "H W"], noise: Float[Array, "H W"]) -> Float[Array, "H W"]:
    return ndtr(mean / jnp.sqrt(loading**2 + noise))
