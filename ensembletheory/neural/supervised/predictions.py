r"""What the members of a stack of predictors predict, and how near their weights are.

The cosine of two networks' parameters, <a, b> / (|a| |b|), says nothing about how near their predictions are: a permutation of hidden units changes it and no prediction,
and in many dimensions independent weights are all but orthogonal. See `supervised.disagreement` for predictions, and the diversity-accuracy plane of Fort, Hu &
Lakshminarayanan (2019), who compare both.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.neural.stacks import count

__all__ = ["predictions", "weight_cosines"]


def predictions(models: Any, x: Numbers) -> Any:
    """The predictions of every member of a stack at the points x (n, d), each array with leading axes (K, n).

    Raises:
        ValueError: if x is not (n, d).
    """
    points = as_floats("x", x)
    if points.ndim != 2 or 0 in points.shape:
        refuse("x", f"shape {points.shape}", "(n, d) with n, d >= 1", "One row a point.")
    return _predictions(models, points)


@eqx.filter_jit
def _predictions(models: Any, points: Float[Array, "n d"]) -> Any:
    return eqx.filter_vmap(lambda model: jax.vmap(model)(points))(models)


@eqx.filter_jit
def weight_cosines(networks: Any) -> Float[Array, "K K"]:
    """Cosines of the parameters of all pairs of a stack of networks, such as the field `network` of a stack of classifiers."""
    leaves = jax.tree.leaves(eqx.filter(networks, eqx.is_inexact_array))
    rows = jnp.concatenate([leaf.reshape(count(networks), -1) for leaf in leaves], axis=1)
    rows = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T
