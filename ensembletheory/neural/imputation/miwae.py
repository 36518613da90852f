r"""MIWAE (Mattei & Frellsen 2019): a variational autoencoder trained on rows with holes.

In the units of the columns, with g, v and the encoder e those of a `Vae` (`ensembletheory.neural.latent.vae`) and i(x) the row with 0 in its holes, where the unit begins,

    z_k ~ e(z | i(x)),   w_k = prod_{j observed} N(x_j; g_j(z_k), v_j) N(z_k; 0, I) / e(z_k | i(x)),   x_m^k ~ N(g_m(z_k), v_m),

and E w_k = p(x_o), whatever the encoder: the holes are left out of the likelihood exactly, and 0 in them is no guess of their values but only what the encoder sees. Given z
the coordinates are independent, so that a draw stands for E[x_m | z_k] = g_m(z_k). Missing at random, the mechanism drops out of the likelihood.

With an affine g the law is PPCA (one v) or factor analysis, and that of x_o has the rows W_o of its loadings: p(x_o), the conditional law of x_m and the bounds are then those
of `Ppca(W_o, mu_o, s2)` exactly. The best encoder depends on o; one that does not know o loses some of the bound, but none in the limit of K.

The likelihood of latent-variable models with hidden layers is not bounded above when the v are free (Mattei & Frellsen 2018), which is why training stops and is not a limit.
"""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import checked_count, refuse
from ensembletheory.laws import FiniteLaw, Law, standard_normal
from ensembletheory.neural.imputation.imputation_model import BoundLoss, ImputationModel, Proposals
from ensembletheory.neural.imputation.missing_data import observed_units, own_units
from ensembletheory.neural.latent.vae import Vae
from ensembletheory.neural.latent.variational import VariationalModel
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.training import Loss
from ensembletheory.neural.units import Units

__all__ = ["Miwae", "MiwaeLearner"]


class Miwae(ImputationModel):
    """A variational autoencoder of rows with holes.

    Args:
        vae: of rows in the units of their columns.
        units: of the columns.
    """

    vae: VariationalModel
    units: Units

    @property
    def dim(self) -> int:
        """The number d of columns."""
        return self.vae.dim

    def proposals(self, key: PRNGKeyArray, x: Float[Array, " d"], observed: Bool[Array, " d"], K: int) -> Proposals:
        """K draws through the latent, from the encoder."""
        seen = jnp.where(observed, self.units.of(x), 0.0)
        m, D = self.vae.encode(seen)
        for_latents, for_noise = jnp.split(jax.random.normal(key, (K, self.vae.latent + self.dim), x.dtype), [self.vae.latent], axis=1)
        z = m[None, :] + jnp.sqrt(D)[None, :] * for_latents
        means = jax.vmap(self.vae.decode)(z)
        variances, scale = self.vae.noise_variances, jax.lax.stop_gradient(self.units.scale)
        terms = -0.5 * ((seen[None, :] - means) ** 2 / variances[None, :] + jnp.log(2 * np.pi * variances * scale**2)[None, :])
        divergences = 0.5 * jnp.sum(z**2 - for_latents**2 - jnp.log(D)[None, :], axis=1)  # log e(z | x) - log N(z; 0, I)
        log_weights = jnp.sum(jnp.where(observed[None, :], terms, 0.0), axis=1) - divergences
        rows = means + jnp.sqrt(variances)[None, :] * for_noise
        return Proposals(log_weights, self._filled(x, observed, means), self._filled(x, observed, rows))

    def _filled(self, x: Float[Array, " d"], observed: Bool[Array, " d"], found: Float[Array, "K d"]) -> Float[Array, "K d"]:
        return jnp.where(observed[None, :], x[None, :], jax.vmap(self.units.back)(found))


class MiwaeLearner(Learner):
    """MIWAE with `latent` latent dimensions.

    Args:
        latent: q, at most the number of columns.
        width: units in a hidden layer.
        depth: number of hidden layers.
        decoder_depth: of the decoder, if another: 0 is PPCA or factor analysis.
        noise: "scalar" or "diagonal", learned, or a variance, fixed; in the units of the columns.
        batch: rows a step; None for all.
        importance: K of the bound in training.
        standardise: whether the units of a column are mean and deviation of its observed values; else the rows are taken as they come.

    Raises:
        ValueError: if a number is out of its range.
    """

    latent: int = eqx.field(static=True, default=2)
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=2)
    decoder_depth: int | None = eqx.field(static=True, default=None)
    noise: Literal["scalar", "diagonal"] | float = eqx.field(static=True, default="diagonal")
    batch: int | None = eqx.field(static=True, default=64)
    importance: int = eqx.field(static=True, default=20)
    standardise: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        for name, least in {"latent": 1, "width": 1, "depth": 0, "importance": 1}.items():
            checked_count(name, getattr(self, name), least)
        for name, least in {"decoder_depth": 0, "batch": 1}.items():
            if getattr(self, name) is not None:
                checked_count(name, getattr(self, name), least)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Miwae:
        """A `Miwae` in the units of the law, which is one of joined rows.

        Raises:
            ValueError: if the law is not one of joined rows, or has fewer columns than there are latent dimensions.
        """
        joined = checked_joined(law)
        vae = Vae(key, standard_normal(law.dim // 2), self.latent, self.width, self.depth, self.noise)
        if self.decoder_depth is not None:
            decoder = Perceptron(jax.random.fold_in(key, 1), self.latent, vae.dim, self.width, self.decoder_depth)
            vae = eqx.tree_at(lambda v: v.decoder, vae, decoder)
        return Miwae(vae, observed_units(joined) if self.standardise else own_units(joined))

    def loss(self, law: Law) -> Loss:
        """Minus the bound.

        Raises:
            ValueError: if the law is not one of joined rows.
        """
        return BoundLoss(checked_joined(law), self.batch, self.importance)


def checked_joined(law: Any) -> FiniteLaw:
    """The law, if it may be one of joined rows."""
    if not isinstance(law, FiniteLaw) or law.dim % 2:
        refuse("data", f"{type(law).__name__} of dimension {law.dim}", "a FiniteLaw of joined rows", "Take joined_law(X), with NaN for missing.")
    return law
