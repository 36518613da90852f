r"""Losses of predictors, means of an error over draws of a law of joined rows.

With (x, y) a draw, f the predictor and l the error,

    plain          E l(f(x), y),
    adversarial    E [ l(f(x), y) + l(f(x'), y) ] / 2,      x'_j = x_j + e_j sign( d l(f(x), y) / d x_j ),

where x' counts as given: no derivative is taken through it. To first order l(f(x'), y) = l(f(x), y) + sum_j e_j |d l / d x_j|, so that steep losses are smoothed; e = 0 is
the plain loss. (Goodfellow, Shlens & Szegedy 2015; with half the sum of Lakshminarayanan, Pritzel & Blundell 2017, who take e_j = 0.01 times the range of x_j.)

| error                                        | prediction              | l                                            |
|----------------------------------------------|-------------------------|----------------------------------------------|
| `SquaredError(scale)`                        | mean                    | sum_j (y_j - mean_j)^2 / scale_j^2           |
| `gaussian_error`                             | mean and variance       | -log N(y; mean, diag(variance))              |
| `cross_entropy`                              | log-probabilities       | -log p(y)                                    |

The Gaussian error and the cross-entropy are strictly proper: at the law's own conditional mean and variance, or probabilities, they are least.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count, refuse
from ensembletheory.laws import FiniteLaw, Law
from ensembletheory.supervised import gaussian_nll

__all__ = ["SquaredError", "SupervisedLoss", "cross_entropy", "gaussian_error", "reach"]


class SquaredError(eqx.Module):
    """The squared error in units of `scale`."""

    scale: Float[Array, " p"]

    def __call__(self, mean: Float[Array, " p"], y: Float[Array, " p"]) -> Float[Array, ""]:
        """Summed over the coordinates of the target."""
        return jnp.sum(((y - mean) / self.scale) ** 2)


def gaussian_error(prediction: tuple[Float[Array, " p"], Float[Array, " p"]], y: Float[Array, " p"]) -> Float[Array, ""]:
    """The negative log-density of N(mean, diag(variance)) at y."""
    return jnp.sum(gaussian_nll(y, *prediction))


def cross_entropy(log_probs: Float[Array, " classes"], y: Float[Array, " 1"]) -> Float[Array, ""]:
    """The negative log-probability of the label."""
    return -jnp.sum(jnp.where(jnp.arange(log_probs.size) == jnp.round(y[0]).astype(int), log_probs, 0.0))


class SupervisedLoss(eqx.Module):
    """The loss of a predictor over a batch of draws (x, y); unbiased.

    Args:
        law: of the joined rows.
        error: (prediction, y) -> scalar.
        inputs: how many coordinates are x.
        batch: draws a call.
        reach: e (inputs,); the plain loss if left out.

    Raises:
        ValueError: if the batch is no number of draws, at least 1.
    """

    law: Law
    error: Callable[[Any, Float[Array, " p"]], Float[Array, ""]]
    inputs: int = eqx.field(static=True)
    batch: int = eqx.field(static=True)
    reach: Float[Array, " inputs"] | None = None

    def __check_init__(self):
        checked_count("batch", self.batch, 1)

    def __call__(self, model: Callable, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean over the batch."""
        return jnp.mean(jax.vmap(lambda row: self.at(model, row[: self.inputs], row[self.inputs :]))(self.law.sample(key, self.batch)))

    def at(self, model: Callable, x: Float[Array, " inputs"], y: Float[Array, " p"]) -> Float[Array, ""]:
        """The loss of one example."""
        if self.reach is None:
            return self.error(model(x), y)
        loss, slope = jax.value_and_grad(lambda x: self.error(model(x), y))(x)
        near = jax.lax.stop_gradient(x + self.reach * jnp.sign(slope))
        return (loss + self.error(model(near), y)) / 2


def reach(law: Law, inputs: int, share: float) -> Float[Array, " inputs"] | None:
    """How far each input is moved: a share of its range over the rows of positive weight, or None for a share of 0.

    Raises:
        ValueError: if the share is negative or not finite, or the law has no rows.
    """
    if not (np.isfinite(share) and share >= 0):
        refuse("adversarial", f"{share}", "a share of the range of each input, at least 0", "0.01 is usual; 0 switches adversarial training off.")
    if share == 0:
        return None
    if not isinstance(law, FiniteLaw):
        refuse("adversarial", f"{share} of the range of a {type(law).__name__}", "rows (n, d)", "The range of other laws may be infinite.")
    x, seen = law.points[:, :inputs], law.weights[:, None] > 0
    return share * (jnp.max(jnp.where(seen, x, -jnp.inf), axis=0) - jnp.min(jnp.where(seen, x, jnp.inf), axis=0))
