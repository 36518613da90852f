r"""Maximum likelihood: the loss -E_p log q of a law q with a density, whose least value over all q is the entropy of p, and whose excess over it is KL(p || q)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count
from ensembletheory.laws import Law

__all__ = ["MaximumLikelihood"]


class MaximumLikelihood(eqx.Module):
    """Called with (model, key), the mean of -log q over `batch` draws of `law`; unbiased.

    Args:
        law: the law p of the data.
        batch: draws a call.

    Raises:
        ValueError: if the batch is below 1.
    """

    law: Law
    batch: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        checked_count("batch", self.batch, 1)

    def __call__(self, model: Law, key: PRNGKeyArray) -> Float[Array, ""]:
        """The loss of one batch."""
        return -jnp.mean(jax.vmap(model._log_prob)(self.law.sample(key, self.batch)))
