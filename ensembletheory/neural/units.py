"""Columns of data in units of their own: centred at their mean, divided by their standard deviation. What is not trained."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.laws import Law

__all__ = ["Units"]


class Units(eqx.Module):
    """Mean and standard deviation of some coordinates of a law; of a constant coordinate the deviation counts as 1.

    Args:
        law: the law.
        columns: which coordinates.
    """

    mean: Float[Array, " m"]
    scale: Float[Array, " m"]

    def __init__(self, law: Law, columns: slice):
        with jax.ensure_compile_time_eval():  # XLA would take seconds to fold a data set of constants
            mean, deviation = _moments(law)
        self.mean, self.scale = mean[columns], deviation[columns]

    def of(self, x: Float[Array, " m"]) -> Float[Array, " m"]:
        """(x - mean) / scale.

        Raises:
            ValueError: if x has another number of coordinates.
        """
        if x.shape != self.mean.shape:
            refuse("x", f"shape {x.shape}", f"{self.mean.shape}, one point", "Give as many coordinates as the law has that was learned from.")
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        return (x - mean) / scale

    def back(self, z: Float[Array, " m"]) -> Float[Array, " m"]:
        """The inverse, mean + scale z."""
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        return mean + scale * z


@eqx.filter_jit
def _moments(law: Law) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    deviation = jnp.sqrt(jnp.sum(jnp.where(np.eye(law.dim, dtype=bool), law.cov, 0.0), axis=0))
    return law.mean, jnp.where(deviation > 0, deviation, 1.0)
