r"""Intersection over union of random masks with independent pixels, exactly, and GED^2 between mixtures of such laws.

Let S and T be independent masks with independent pixels, P(i in S) = p_i and P(i in T) = q_i; a_i = p_i q_i is the probability that pixel i is in both, and
u_i = p_i + q_i - p_i q_i that it is in one. Given that pixel i is in both, the union has 1 + V pixels, V the number of the others that are in it, and
1 / (1 + V) = int_0^1 t^V dt. With J(empty, empty) = 1,

    E J(S, T) = int_0^1 sum_i a_i prod_{j != i} (1 - u_j v) dv + prod_j (1 - u_j).

The integrand is a polynomial of degree n - 1 in v, so that the Gauss-Legendre rule with n / 2 nodes is exact; 3 sqrt(n) + 20 nodes leave an error below rounding for many
pixels, as it falls like exp(-4 nodes^2 / sum u).

Every law of this package is a mixture of such laws: a mask is one with probabilities 0 and 1, a law of finite support a mixture of its masks, and given their factors the
pixels of a low-rank model are independent. E J is linear in each law, so

    GED^2(P, Q) = E J(S, S') + E J(Y, Y') - 2 E J(S, Y)

is a sum over pairs of components. Where the mixture is over a Gaussian factor, it is taken by the trapezoid rule, and the error is the change when every other node is left
out, which says nothing where the step h is too long for how fast pixels change with the factor. By Poisson's summation formula, a pixel of steepness s (the standard
deviations of its own noise that a unit of the factors is worth) is then off by up to h phi(0) exp(-2 pi^2 / (h^2 (1 + s^2))), which is added: 0 to rounding for s < 7 with one
factor, and the whole change in a step for s >> 1 / h. Neither error exceeds 1.
"""

from functools import singledispatch

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.segmentation.independent import IndependentPixels
from ensembletheory.segmentation.mask_law import MaskDistribution, MaskLaw, require_same_shape
from ensembletheory.segmentation.product_modes import ProductModes

__all__ = ["Products", "as_products", "finite_products", "is_finite_mixture", "mean_iou", "product_ged_squared"]


class Products(eqx.Module):
    """A mixture of laws with independent pixels: their probabilities (m, n) and weights (m,).

    With the weights of a coarser rule (the same where the mixture is finite), and what the rule may be off by, in probability, where it is too coarse for the steepest pixels
    (0 where the mixture is finite).
    """

    probabilities: Float[Array, "m n"]
    weights: Float[Array, " m"]
    coarse: Float[Array, " m"]
    doubt: Float[Array, ""]
    exact: bool = eqx.field(static=True)


@singledispatch
def as_products(law: MaskDistribution) -> Products:
    """The law as a mixture of laws with independent pixels.

    Raises:
        TypeError: if it is not known as one.
    """
    expected = "a law whose pixels are independent given what it mixes over"
    raise TypeError(f"`law`: got {type(law).__name__}; expected {expected}. Take the law of samples instead: MaskLaw(law.sample(key, n)).")


@as_products.register
def _of_independent(law: IndependentPixels) -> Products:
    return finite_products(law.probabilities[None], jnp.ones(1, law.probabilities.dtype))


@as_products.register
def _of_finite(law: MaskLaw) -> Products:
    return finite_products(law.masks.astype(law.weights.dtype), law.weights)


@as_products.register
def _of_modes(law: ProductModes) -> Products:
    return _of_finite(law.law())


def is_finite_mixture(law: MaskDistribution) -> bool:
    """Whether the law is known as a finite mixture of laws with independent pixels."""
    try:
        return as_products(law).exact
    except (TypeError, ValueError):
        return False


def finite_products(probabilities: Float[Array, "m H W"], weights: Float[Array, " m"]) -> Products:
    """The finite mixture of laws with these pixel probabilities."""
    return Products(probabilities.reshape(len(weights), -1), weights, weights, jnp.zeros((), weights.dtype), True)


def mean_iou(p: MaskDistribution, q: MaskDistribution) -> Estimate:
    """The expected intersection over union E J(S, T) of independent masks S ~ p and T ~ q, J(empty, empty) = 1.

    Raises:
        ValueError: if their shapes differ.
        TypeError: if a law is not known as a mixture of laws with independent pixels.
    """
    require_same_shape(p, q)
    return _overlap(p, q)


def product_ged_squared(p: MaskDistribution, q: MaskDistribution) -> Estimate:
    """GED^2(p, q) = 2 E d(S, Y) - E d(S, S') - E d(Y, Y') with d = 1 - J, J(empty, empty) = 1. See the module.

    Raises:
        ValueError: if their shapes differ.
        TypeError: if a law is not known as a mixture of laws with independent pixels.
    """
    require_same_shape(p, q)
    return _distance(p, q)


@eqx.filter_jit
def _overlap(p: MaskDistribution, q: MaskDistribution) -> Estimate:
    first, second = as_products(p), as_products(q)
    return _mean(_table(first.probabilities, second.probabilities), first, second)


@eqx.filter_jit
def _distance(p: MaskDistribution, q: MaskDistribution) -> Estimate:
    first, second = as_products(p), as_products(q)
    joint, k = jnp.concatenate([first.probabilities, second.probabilities]), len(first.weights)
    table = _table(joint, joint)
    own, other, cross = _mean(table[:k, :k], first, first), _mean(table[k:, k:], second, second), _mean(table[:k, k:], first, second)
    return own + other - 2 * cross


def _mean(table: Float[Array, "m k"], first: Products, second: Products) -> Estimate:
    value = first.weights @ table @ second.weights
    if first.exact and second.exact:
        return closed_form(value)
    change = jnp.abs(value - first.coarse @ table @ second.coarse)
    return Estimate(value, jnp.minimum(change + first.doubt + second.doubt, 1.0), "quadrature")


def _table(first: Float[Array, "m n"], second: Float[Array, "k n"]) -> Float[Array, "m k"]:
    """E J for all pairs, one row after another."""
    return jax.lax.map(lambda p: jax.vmap(lambda q: _mean_iou(p, q))(second), first)


def _mean_iou(p: Float[Array, " n"], q: Float[Array, " n"]) -> Float[Array, ""]:
    nodes, weights = _rule(p.size)
    both, one = p * q, p + q - p * q
    factors = 1 - jnp.asarray(nodes, p.dtype)[:, None] * one[None, :]
    integrand = jnp.sum(both[None, :] / factors, axis=1) * jnp.prod(factors, axis=1)
    return jnp.asarray(weights, p.dtype) @ integrand + jnp.prod(1 - one)


def _rule(pixels: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(min((pixels + 1) // 2, int(3 * np.sqrt(pixels)) + 20))
    return (1 + nodes) / 2, weights / 2
