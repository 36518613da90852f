r"""A number together with what is known of its error.

An `Estimate` is a triple (value, error, kind), in nats unless its maker says otherwise:

| kind          | meaning of `error`                                                                   |
|---------------|--------------------------------------------------------------------------------------|
| `closed_form` | 0: a formula, exact up to rounding                                                   |
| `quadrature`  | a bound on |value - truth|, rounding included                                        |
| `enclosure`   | half the width of an interval that certainly holds the truth                         |
| `monte_carlo` | one standard error                                                                   |

Sums and multiples add errors linearly, which is valid whatever the dependence of the terms (triangle inequality for bounds, Minkowski for standard errors), and
take the least certain kind of their terms.

The log of a mean of weights, each given by its log, has the error r, the relative standard error of the mean, and the bias -r^2 / 2 + O(r^3), for which it is corrected. That
holds for small r only: where one of the draws outweighs all others r is 1 however far the mean is off. So the error is infinite from r = 0.3 on, which is where fewer than
about 1 / r^2 = 11 draws do all the work. No draws tell of a place that none has reached.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembletheory.errors import refuse

__all__ = ["Estimate", "closed_form", "log_mean", "monte_carlo"]

Kind = Literal["closed_form", "enclosure", "quadrature", "monte_carlo"]
_MOST_RELATIVE = 0.3  # error of a mean whose log has one
_BY_CERTAINTY: tuple[Kind, ...] = ("closed_form", "enclosure", "quadrature", "monte_carlo")


class Estimate(eqx.Module):
    """A value, its error (see the module's table) and its kind; `float(e)` is the value."""

    value: Float[Array, "..."]
    error: Float[Array, "..."]
    kind: Kind = eqx.field(static=True)

    def __float__(self) -> float:
        return float(self.value)

    def __add__(self, other: "Estimate | ArrayLike") -> "Estimate":
        other = as_estimate(other)
        kind = _BY_CERTAINTY[max(_BY_CERTAINTY.index(self.kind), _BY_CERTAINTY.index(other.kind))]
        return Estimate(self.value + other.value, self.error + other.error, kind)

    def __mul__(self, factor: ArrayLike) -> "Estimate":
        return Estimate(self.value * factor, self.error * jnp.abs(jnp.asarray(factor)), self.kind)

    def __neg__(self) -> "Estimate":
        return self * -1.0

    def __sub__(self, other: "Estimate | ArrayLike") -> "Estimate":
        return self + -as_estimate(other)

    def __rsub__(self, other: ArrayLike) -> "Estimate":
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        error = "" if self.kind == "closed_form" else f" ± {float(self.error):.2g}"
        return f"{float(self.value):.10g}{error} ({self.kind})"


def closed_form(value: ArrayLike) -> Estimate:
    """An exact value."""
    value = jnp.asarray(value, dtype=jnp.result_type(float))
    return Estimate(value, jnp.asarray(np.zeros(value.shape, value.dtype)), "closed_form")


def as_estimate(value: Estimate | ArrayLike) -> Estimate:
    """`value` itself if it is an Estimate, else an exact one."""
    return value if isinstance(value, Estimate) else closed_form(value)


def monte_carlo(draws: Float[Array, " n"]) -> Estimate:
    """The mean of independent draws with its standard error, infinite where the mean is not finite.

    Raises:
        ValueError: if there are fewer than two.
    """
    if draws.size < 2:
        refuse("samples", f"{draws.size}", "at least 2", "One draw does not tell its error.")
    mean, error = _mean_and_error(draws)
    return Estimate(mean, error, "monte_carlo")


@jax.jit
def _mean_and_error(draws: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    mean = jnp.mean(draws)
    return mean, jnp.where(jnp.isfinite(mean), jnp.std(draws, ddof=1) / jnp.sqrt(draws.size), jnp.inf)


def log_mean(logs: Float[Array, " n"]) -> Estimate:
    """The log of the mean weight, of independent draws given by the logs of their weights; its error is infinite where a few draws outweigh the others. See the module.

    Raises:
        ValueError: if there are fewer than two.
    """
    value = jax.nn.logsumexp(logs) - np.log(logs.size)
    relative = monte_carlo(jnp.exp(logs - value)).error
    return Estimate(value + relative**2 / 2, jnp.where(relative < _MOST_RELATIVE, relative, jnp.inf), "monte_carlo")
