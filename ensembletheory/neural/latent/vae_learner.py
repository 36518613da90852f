r"""Variational autoencoders as a family that learns by a bound on the log-likelihood.

Minimised is the average over data of minus one of

    ELBO_b(x) = E log N(x; g(z), v) - b KL(e || N(0, I))           (b = 1: the evidence lower bound; Higgins et al. 2017)
    L_K(x)    = E log (1/K) sum_k p(x, z_k) / e(z_k | x)           (importance K > 1; Burda et al. 2016)

with one draw of what is random a row. Of the linear VAE the expectation over z in ELBO_b is taken exactly, so that without batches (`batch=None`: all rows in every step) its
loss is - average ELBO_b, without noise. Its optimum is that of PPCA, gap included: columns on principal directions, in any order and with any signs.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, checked_count, is_concrete, refuse
from ensembletheory.latent.averages import checked_beta
from ensembletheory.laws import FiniteLaw, Law
from ensembletheory.neural.data import require_spread
from ensembletheory.neural.latent.vae import Vae
from ensembletheory.neural.latent.variational import VariationalModel
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.training import Loss

__all__ = ["VaeLearner", "VariationalLoss"]


class VariationalLoss(eqx.Module):
    """Minus the average bound; called with (model, key), an unbiased estimate.

    Args:
        law: of the data.
        batch: draws a call; None for all rows of a law of finite support.
        importance: K.
        beta: b, for K = 1.

    Raises:
        ValueError: if K or the batch is less than one, b is not positive or not 1 although K > 1, or all rows are asked of a law that has none.
    """

    law: Law
    batch: int | None = eqx.field(static=True)
    importance: int = eqx.field(static=True)
    beta: Float[Array, ""]

    def __init__(self, law: Law, batch: int | None = 256, importance: int = 1, beta: Numbers = 1.0):
        self.law, self.batch, self.importance, self.beta = law, batch, checked_count("importance", importance, 1), checked_beta(beta)
        if batch is not None:
            checked_count("batch", batch, 1)
        elif not isinstance(law, FiniteLaw):
            refuse("batch", f"None, for a {type(law).__name__}", "a number of draws a step", "Only rows (n, d) can all be taken at once.")
        if importance > 1 and is_concrete(self.beta) and self.beta != 1:
            refuse("beta", f"{np.asarray(self.beta)} with {importance} importance samples", "1", "The divergence to the prior stands apart in the ELBO only.")

    def __call__(self, model: VariationalModel, key: PRNGKeyArray) -> Float[Array, ""]:
        """Minus the bound, averaged over a batch or over all rows."""
        for_rows, for_latents = jax.random.split(key)
        if self.batch is None and isinstance(self.law, FiniteLaw):
            rows, weights = self.law.points, self.law.weights
        else:
            rows = self.law.sample(for_rows, self.batch or 1)
            weights = jnp.full(len(rows), 1 / len(rows), rows.dtype)
        return -weights @ jax.vmap(lambda k, x: self._bound(model, k, x))(jax.random.split(for_latents, len(rows)), rows)

    def _bound(self, model: VariationalModel, key: PRNGKeyArray, x: Float[Array, " d"]) -> Float[Array, ""]:
        if self.importance > 1:
            return model.bound(key, x, self.importance)
        fit, divergence = model.fit_and_divergence(key, x)
        return fit - self.beta * divergence


class VaeLearner(Learner):
    """Variational autoencoders with `latent` latent dimensions.

    Args:
        latent: q, at most the dimension of the data.
        width: units in a hidden layer.
        depth: number of hidden layers; 0 is the linear VAE.
        noise: "scalar" or "diagonal", learned, or a variance, fixed.
        batch: draws a step; None for all rows.
        importance: K of the bound.
        beta: weight of the divergence to the prior.

    Raises:
        ValueError: if a number is out of its range.
    """

    latent: int = eqx.field(static=True, default=2)
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=2)
    noise: Literal["scalar", "diagonal"] | float = eqx.field(static=True, default="scalar")
    batch: int | None = eqx.field(static=True, default=256)
    importance: int = eqx.field(static=True, default=1)
    beta: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        for name, least in {"latent": 1, "width": 1, "depth": 0, "importance": 1}.items():
            checked_count(name, getattr(self, name), least)
        if self.batch is not None:
            checked_count("batch", self.batch, 1)
        checked_beta(self.beta)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `Vae`, its location and scale those of the law."""
        return Vae(key, law, self.latent, self.width, self.depth, self.noise)

    def loss(self, law: Law) -> Loss:
        """Minus the bound.

        Raises:
            ValueError: if the law has no spread.
        """
        require_spread(law)
        return VariationalLoss(law, self.batch, self.importance, self.beta)
