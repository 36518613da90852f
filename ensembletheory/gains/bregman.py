r"""Bregman divergences, given by a convex generator phi and the inverse of its gradient.

    B(y, q) = phi(y) - phi(q) - <grad phi(q), y - q>  >= 0.

The gradient, taken by `jax.grad`, is the mirror map q -> theta; `inverse` leads back, theta -> q. Where q is confined to the simplex theta is known up to a constant,
which `inverse` must not depend on. The centroid combiner of an ensemble averages in the mirror space:

    q_bar = inverse( sum_k w_k grad phi(q_k) ),    the minimiser of sum_k w_k B(q, q_k) over q.

| generator   | phi(x)                                  | B(y, q)                         | centroid                   |
|-------------|-----------------------------------------|---------------------------------|----------------------------|
| `squared`   | |x|^2                                   | |y - q|^2                       | mean                       |
| `simplex`   | sum x log x on the simplex              | KL(y || q); cross-entropy if y is a label | normalised geometric mean |
| `poisson`   | sum x log x - x, x > 0                  | sum y log(y / q) - y + q        | geometric mean             |
| `bernoulli` | sum x log x + (1 - x) log(1 - x), (0, 1)| sum of binary KL(y || q)        | mean of the logits         |
| `itakura`   | - sum log x, x > 0                      | sum y / q - log(y / q) - 1      | harmonic mean              |

(Wood et al. 2023.)
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy
from jaxtyping import Array, Float

__all__ = ["Bregman", "bernoulli", "itakura", "poisson", "simplex", "squared"]

Vector = Float[Array, " c"]


class Bregman(eqx.Module):
    """A Bregman divergence.

    Args:
        potential: phi, convex and differentiable, of a vector.
        inverse: the inverse of its gradient.
    """

    potential: Callable[[Vector], Float[Array, ""]] = eqx.field(static=True)
    inverse: Callable[[Vector], Vector] = eqx.field(static=True)

    def mirror(self, q: Vector) -> Vector:
        """The gradient of phi."""
        return jax.grad(self.potential)(q)

    def divergence(self, y: Vector, q: Vector) -> Float[Array, ""]:
        """B(y, q)."""
        at_q, theta = jax.value_and_grad(self.potential)(q)
        return self.potential(y) - at_q - theta @ (y - q)

    def centroid(self, weights: Float[Array, " K"], predictions: Float[Array, "K c"]) -> Vector:
        """The combiner: the inverse of the average of the mirror images."""
        return self.inverse(weights @ jax.vmap(self.mirror)(predictions))


def _square(x: Vector) -> Float[Array, ""]:
    return x @ x


def _negative_entropy(x: Vector) -> Float[Array, ""]:
    return jnp.sum(xlogy(x, x))


def _poisson(x: Vector) -> Float[Array, ""]:
    return jnp.sum(xlogy(x, x) - x)


def _bernoulli(x: Vector) -> Float[Array, ""]:
    return jnp.sum(xlogy(x, x) + xlogy(1 - x, 1 - x))


def _negative_log(x: Vector) -> Float[Array, ""]:
    return -jnp.sum(jnp.log(x))


def _half(theta: Vector) -> Vector:
    return theta / 2


def _minus_reciprocal(theta: Vector) -> Vector:
    return -1 / theta


squared = Bregman(_square, _half)
simplex = Bregman(_negative_entropy, jax.nn.softmax)
poisson = Bregman(_poisson, jnp.exp)
bernoulli = Bregman(_bernoulli, jax.nn.sigmoid)
itakura = Bregman(_negative_log, _minus_reciprocal)
