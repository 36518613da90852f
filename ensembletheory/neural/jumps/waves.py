r"""What networks of jump processes see of place and time: both, and waves of them.

    z,  sin and cos of (pi/2) 2^j z, j = 0, 1, 2;      u = sqrt(t / horizon),  sin and cos of pi k u, k = 1 ... 4.

Particles of one speed keep the shape of the data for long, shifted to both sides: ratios and velocities go from one bound to the other over distances much shorter than
the spread of the law, which the waves let a small network follow (Tancik et al. 2020). Training times and quadratic grids are uniform in u.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

__all__ = ["wave_count", "waves"]

_OF_PLACE, _OF_TIME = np.pi / 2 * 2.0 ** np.arange(3), np.pi * np.arange(1.0, 5.0)


def wave_count(dim: int) -> int:
    """How many numbers `waves` gives."""
    return dim * (1 + 2 * _OF_PLACE.size) + 1 + 2 * _OF_TIME.size


def waves(z: Float[Array, " d"], t: Float[Array, ""], horizon: Float[Array, ""]) -> Float[Array, " m"]:
    """Place and time, and their waves."""
    u = jnp.sqrt(t / horizon)
    of_place, of_time = (z[:, None] * jnp.asarray(_OF_PLACE, z.dtype)[None, :]).ravel(), u * jnp.asarray(_OF_TIME, u.dtype)
    return jnp.concatenate([z, jnp.sin(of_place), jnp.cos(of_place), u[None], jnp.sin(of_time), jnp.cos(of_time)])
