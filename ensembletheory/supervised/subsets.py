r"""Losses of averages over all subsets of an ensemble: what M trained members tell of ensembles of K <= M, without choosing any.

With predictions f_1 ... f_M, an average f_S = (1/|S|) sum_{k in S} f_k and a loss l of it,

    L_K = mean over all S of size K of l(f_S),      L_1 >= L_2 >= ... >= L_M     for every convex l and every f_1 ... f_M:

f_S is the average of the means over the subsets of S with one member less, so that Jensen's inequality holds subset by subset. Nothing is assumed of how the members came
about. If they are exchangeable, L_K is an unbiased estimate of the expected loss of K members (Mattei & Garreau 2025). A loss that is not convex, such as the 0/1 loss of the
most likely class, need not fall. What is averaged decides what is convex: the log loss is convex in probabilities (linear pool) and in log-probabilities, when
the average is normalised (log pool).
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse

__all__ = ["subset_losses"]

_MOST = 16  # members: 65,535 subsets


def subset_losses(loss: Callable[[Float[Array, "..."]], Float[Array, "..."]], predictions: Numbers) -> Float[Array, "M ..."]:
    """The mean loss of averages over all subsets of K members, for K = 1 ... M.

    Args:
        loss: from an average, of the shape of one member's predictions, to a loss or an array of losses (one a test point, say).
        predictions: (M, ...), M <= 16.

    Raises:
        ValueError: if there is no member, or more than 16.
    """
    array = as_floats("predictions", predictions)
    if array.ndim == 0 or not 1 <= len(array) <= _MOST:
        refuse("predictions", f"shape {array.shape}", f"(M, ...) with M from 1 to {_MOST}", "The first axis counts the members; all of their 2^M - 1 subsets are averaged.")
    return _mean_losses(loss, array, *_subsets(len(array)))


def _subsets(members: int) -> tuple[Float[Array, "S M"], Float[Array, "M S"]]:
    """Equal weights on every subset that is not empty, one a row; and the share of each in the mean over the subsets of its size, one row a size."""
    chosen = (np.arange(1, 2**members)[:, None] >> np.arange(members)) & 1
    sizes = chosen.sum(axis=1)
    of_size = sizes[None, :] == np.arange(1, members + 1)[:, None]
    return jnp.asarray(chosen / sizes[:, None]), jnp.asarray(of_size / of_size.sum(axis=1, keepdims=True))


@eqx.filter_jit
def _mean_losses(loss: Callable, predictions: Float[Array, "M ..."], weights: Float[Array, "S M"], shares: Float[Array, "M S"]) -> Float[Array, "M ..."]:
    losses = jax.lax.map(lambda w: loss(jnp.tensordot(w, predictions, 1)), weights)
    return jnp.tensordot(shares, losses, 1)
