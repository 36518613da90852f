r"""Latent-variable models of rows with holes, and what importance sampling tells of them.

A row is x with observed coordinates o and missing ones m, with s which is which. A model gives K independent draws (x_m^k, weight w_k) of which

    E w_k = p(x_o)   (or p(x_o, s), if why values are missing is part of the model),      E w_k f(x_m^k) = E w_k E[f(x_m) | x_o].

So, as for the bounds of complete rows (`ensembletheory.neural.latent.variational`), with v_k = w_k / sum_j w_j,

    bound          L_K = E log (1/K) sum_k w_k <= L_{K+1} <= log p(x_o),
    single         sum_k v_k E[x_m | draw k]                       the conditional mean as K grows (self-normalised importance sampling; its bias is O(1/K)),
    multiple       x_m^k with probability v_k                      a draw from the conditional law as K grows (sampling importance resampling),

where E w_k^2 is finite (`ensembletheory.latent.importance` says when for linear models). (Mattei & Frellsen 2019.) Several imputations of a row share its K draws.
"""

from abc import abstractmethod
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, checked_count
from ensembletheory.estimate import Estimate, monte_carlo
from ensembletheory.imputation.tiles import read_rows
from ensembletheory.laws import FiniteLaw
from ensembletheory.neural.imputation.missing_data import parted, values_and_observed

__all__ = ["BoundLoss", "ImputationModel", "Proposals"]

_BLOCK = 2**20  # numbers held at once


class Proposals(NamedTuple):
    """K draws for one row, in which the observed values stand as they are: log-weights, the row's mean given each draw, and rows drawn."""

    log_weights: Float[Array, " K"]
    means: Float[Array, "K d"]
    rows: Float[Array, "K d"]


class ImputationModel(eqx.Module):
    """A latent-variable model of rows with holes; see `Miwae` and `NotMiwae`."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The number d of columns."""

    @abstractmethod
    def proposals(self, key: PRNGKeyArray, x: Float[Array, " d"], observed: Bool[Array, " d"], K: int) -> Proposals:
        """K weighted draws for one row, whose missing values are not looked at."""

    def bound(self, key: PRNGKeyArray, x: Float[Array, " d"], observed: Bool[Array, " d"], K: int) -> Float[Array, ""]:
        """One draw of log (1/K) sum_k w_k for one row, whose mean is L_K."""
        return jax.nn.logsumexp(self.proposals(key, x, observed, K).log_weights) - np.log(K)

    def bounds(self, key: PRNGKeyArray, X: Numbers, K: int = 20, samples: int = 64) -> Estimate:
        """The bound L_K in nats of each row of X (n, d), NaN = missing, by `samples` draws of K weights.

        Raises:
            ValueError: if X is not a table of d columns, K < 1, or there are fewer than two samples.
        """
        return _bounds(self, key, *self._checked(X), checked_count("K", K, 1), checked_count("samples", samples, 2))

    def impute(self, key: PRNGKeyArray, X: Numbers, K: int = 1000) -> Float[Array, "n d"]:
        """The rows X (n, d), NaN = missing, with conditional means in the holes, by K draws a row.

        Raises:
            ValueError: if X is not a table of d columns, or K < 1.
        """
        return _imputed(self, key, *self._checked(X), checked_count("K", K, 1))

    def complete(self, key: PRNGKeyArray, X: Numbers, n: int = 1, K: int = 1000) -> Float[Array, "n rows d"]:
        """`n` copies of the rows X (rows, d), NaN = missing, with draws from the conditional law in the holes, chosen among K a row.

        Raises:
            ValueError: if X is not a table of d columns, or n < 1 or K < 1.
        """
        return _completed(self, key, *self._checked(X), checked_count("n", n, 1), checked_count("K", K, 1))

    def _checked(self, X: Numbers) -> tuple[Array, Array]:
        values, observed = values_and_observed(read_rows(X, self.dim))
        return jnp.asarray(values), jnp.asarray(observed)


class BoundLoss(eqx.Module):
    """Minus the average of L_K over rows with holes; called with (model, key), an unbiased estimate.

    Args:
        law: of joined rows (`joined_law`).
        batch: rows drawn a call; None for all rows.
        importance: K.

    Raises:
        ValueError: if K or the batch is less than one.
    """

    law: FiniteLaw
    batch: int | None = eqx.field(static=True)
    importance: int = eqx.field(static=True)

    def __check_init__(self):
        checked_count("importance", self.importance, 1)
        if self.batch is not None:
            checked_count("batch", self.batch, 1)

    def __call__(self, model: ImputationModel, key: PRNGKeyArray) -> Float[Array, ""]:
        """Minus the bound, averaged over a batch or over all rows."""
        for_rows, for_latents = jax.random.split(key)
        rows, weights = self.law.points, self.law.weights
        if self.batch is not None:
            rows, weights = self.law.sample(for_rows, self.batch), jnp.full(self.batch, 1 / self.batch)
        keys = jax.random.split(for_latents, len(rows))
        return -weights @ jax.vmap(lambda k, row: model.bound(k, *parted(row), self.importance))(keys, rows)


def _over_rows(at: Any, key: PRNGKeyArray, values: Float[Array, "n d"], observed: Bool[Array, "n d"], width: int) -> Any:
    """What `at` gives for a key of its own and each row, in equal blocks (of which one program is compiled) that hold `width` numbers a row."""
    n = len(values)
    blocks = -(-n // max(1, _BLOCK // width))
    size = -(-n // blocks)
    places = jnp.arange(blocks * size) % n
    arguments = jax.random.split(key, len(places)), values[places], observed[places]
    found = jax.lax.map(lambda one: at(*one), arguments, batch_size=size)
    return jax.tree.map(lambda leaf: leaf[:n], found)


@eqx.filter_jit
def _bounds(model: ImputationModel, key: PRNGKeyArray, values: Float[Array, "n d"], observed: Bool[Array, "n d"], K: int, samples: int) -> Estimate:
    def at(key, x, seen):
        return monte_carlo(jax.vmap(lambda k: model.bound(k, x, seen, K))(jax.random.split(key, samples)))

    return _over_rows(at, key, values, observed, samples * K * model.dim)


@eqx.filter_jit
def _imputed(model: ImputationModel, key: PRNGKeyArray, values: Float[Array, "n d"], observed: Bool[Array, "n d"], K: int) -> Float[Array, "n d"]:
    def at(key, x, seen):
        proposals = model.proposals(key, x, seen, K)
        return jnp.where(seen, x, jax.nn.softmax(proposals.log_weights) @ proposals.means)

    return _over_rows(at, key, values, observed, K * model.dim)


@eqx.filter_jit
def _completed(model: ImputationModel, key: PRNGKeyArray, values: Float[Array, "rows d"], observed: Bool[Array, "rows d"], n: int, K: int) -> Float[Array, "n rows d"]:
    def at(key, x, seen):
        for_proposals, for_choice = jax.random.split(key)
        proposals = model.proposals(for_proposals, x, seen, K)
        return proposals.rows[jax.random.choice(for_choice, K, (n,), p=jax.nn.softmax(proposals.log_weights))]

    return jnp.swapaxes(_over_rows(at, key, values, observed, K * model.dim), 0, 1)
