r"""log Phi with derivatives that hold in the far tail.

The first derivative is r(x) = phi(x) / Phi(x) and the second -r (x + r), where x and r cancel: below -30 they are taken from the continued fraction of Laplace,
r = t + 1 / (t + 2 / (t + 3 / t)) with t = -x, whose relative error there is below 1e-10.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float

__all__ = ["log_normal_cdf"]

_FAR = -30.0


@jax.custom_jvp
def log_normal_cdf(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The logarithm of Phi(x)."""
    return jnp.asarray(log_ndtr(x))


@log_normal_cdf.defjvp
def _derivative(primals: tuple[Float[Array, "*n"]], tangents: tuple[Float[Array, "*n"]]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    (x,), (dx,) = primals, tangents
    near, t = jnp.where(x > _FAR, x, _FAR), jnp.where(x > _FAR, -_FAR, -x)
    ratio = jnp.exp(-(near**2 + np.log(2 * np.pi)) / 2 - log_normal_cdf(near))
    return log_normal_cdf(x), jnp.where(x > _FAR, ratio, t + 1 / (t + 2 / (t + 3 / t))) * dx
