r"""not-MIWAE (Ipsen, Mattei & Frellsen 2021): MIWAE with a model of why values are missing, learned with it.

To the weights of `ensembletheory.neural.imputation.miwae` comes the probability of what is observed and what is missing, at the row with its holes filled by the draw:

    w_k = p(s | x_o, x_m^k) p(x_o | z_k) p(z_k) / e(z_k | i(x)),   x_m^k ~ p(x_m | z_k),   E w_k = p(x_o, s).

The weight depends on the draw x_m^k itself, so a draw stands for x_m^k and not for its mean given z_k. Mechanisms, independent by column given the row u in units:

| mechanism | logit (or probit) of P(x_j missing given the row) |
|---|---|
| "agnostic" | a network of the whole row, affine with no hidden layer |
| "self-masking" | b_j (u_j - c_j) |
| "self-masking above" | the same with b_j > 0: large values go missing |
| "self-masking below" | the same with b_j < 0: small ones do |

With an affine decoder and the probit link everything is a Gaussian integral: for one hole of conditional mean m and variance v the evidence has the factor
Phi(b (m - c) / sqrt(1 + b^2 v)), for h holes the probability of an orthant of R^h (`ensembletheory.imputation.self_masked`). The same data have two explanations, a law
with a thinner tail or a mechanism that cuts one off: nothing but the assumed families tells them apart.
"""

from abc import abstractmethod
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, checked_count, refuse
from ensembletheory.laws import Law
from ensembletheory.neural.imputation.imputation_model import ImputationModel, Proposals
from ensembletheory.neural.imputation.miwae import Miwae, MiwaeLearner
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.training import Loss

__all__ = ["AgnosticMechanism", "MissingnessModel", "NotMiwae", "NotMiwaeLearner", "SelfMaskingMechanism"]

Link = Literal["logit", "probit"]
_LOG_PROBABILITIES = {"logit": jax.nn.log_sigmoid, "probit": jax.scipy.stats.norm.logcdf}
_SIGNS = {"self-masking": 0, "self-masking above": 1, "self-masking below": -1}


class MissingnessModel(eqx.Module):
    """What is learned of why values are missing: columns are, independently given the row, with probabilities that the row decides."""

    link: eqx.AbstractVar[Link]

    @abstractmethod
    def scores(self, u: Float[Array, " d"]) -> Float[Array, " d"]:
        """The logits or probits of the probability of being missing, at one row in units."""

    def log_prob(self, u: Float[Array, " d"], observed: Bool[Array, " d"]) -> Float[Array, ""]:
        """The log-probability of what is observed and what is missing, at one row in units."""
        scores = self.scores(u)
        return jnp.sum(_LOG_PROBABILITIES[self.link](jnp.where(observed, -scores, scores)))


class SelfMaskingMechanism(MissingnessModel):
    """Each column by its own value: score b_j (u_j - c_j).

    Args:
        slopes: s (d,) with b = sinh s, or b = `sign` exp s if the sign is known: so that a mechanism as steep as a step is not far from the start.
        thresholds: c (d,).
        sign: 1, -1 or 0 (not known); it is not trained.
        link: "logit" or "probit".
    """

    slopes: Float[Array, " d"]
    thresholds: Float[Array, " d"]
    sign: Float[Array, ""] = eqx.field(converter=lambda sign: jnp.asarray(sign, float), default=0.0)
    link: Link = eqx.field(static=True, default="logit")

    def scores(self, u: Float[Array, " d"]) -> Float[Array, " d"]:
        """Logits or probits of the probability of being missing, at one row in units."""
        sign = jax.lax.stop_gradient(self.sign)
        slopes = jnp.where(sign == 0, jnp.sinh(self.slopes), sign * jnp.exp(self.slopes))
        return slopes * (u - self.thresholds)


class AgnosticMechanism(MissingnessModel):
    """Each column by all values: scores are a network of the row."""

    network: Perceptron
    link: Link = eqx.field(static=True, default="logit")

    def scores(self, u: Float[Array, " d"]) -> Float[Array, " d"]:
        """Logits or probits of the probability of being missing, at one row in units."""
        return self.network(u)


class NotMiwae(ImputationModel):
    """A variational autoencoder of rows with holes, and a model of why values are missing."""

    miwae: Miwae
    mechanism: MissingnessModel

    @property
    def dim(self) -> int:
        """The number d of columns."""
        return self.miwae.dim

    def proposals(self, key: PRNGKeyArray, x: Float[Array, " d"], observed: Bool[Array, " d"], K: int) -> Proposals:
        """K draws through the latent, from the encoder, weighted by what they make of the holes too."""
        log_weights, _, rows = self.miwae.proposals(key, x, observed, K)
        reasons = jax.vmap(lambda row: self.mechanism.log_prob(self.miwae.units.of(row), observed))(rows)
        return Proposals(log_weights + reasons, rows, rows)

    def missing_probabilities(self, X: Numbers) -> Float[Array, "... d"]:
        """The probability that each value of complete rows X (..., d) goes missing.

        Raises:
            ValueError: if the last axis of X is not d, or a value is not finite.
        """
        rows = as_floats("X", X)
        if rows.shape[-1:] != (self.dim,):
            refuse("X", f"shape {rows.shape}", f"(..., {self.dim})", "Give complete rows of as many columns as the model has.")
        return _missing_probabilities(self, rows)


@eqx.filter_jit
def _missing_probabilities(model: NotMiwae, rows: Float[Array, "... d"]) -> Float[Array, "... d"]:
    def at(row):
        return jnp.exp(_LOG_PROBABILITIES[model.mechanism.link](model.mechanism.scores(model.miwae.units.of(row))))

    return jnp.vectorize(at, signature="(d)->(d)")(rows)


class NotMiwaeLearner(Learner):
    """not-MIWAE.

    Args:
        miwae: the model of the rows, and how its bound is taken.
        mechanism: of those in the table of the module.
        link: "logit" or "probit".
        hidden: hidden layers of an agnostic mechanism, as wide as those of the autoencoder.

    Raises:
        ValueError: if the mechanism or link is another, or `hidden` is not a whole number >= 0.
    """

    miwae: MiwaeLearner = MiwaeLearner()
    mechanism: Literal["agnostic", "self-masking", "self-masking above", "self-masking below"] = eqx.field(static=True, default="self-masking")
    link: Link = eqx.field(static=True, default="logit")
    hidden: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        for name, known in {"mechanism": ("agnostic", *_SIGNS), "link": tuple(_LOG_PROBABILITIES)}.items():
            if getattr(self, name) not in known:
                refuse(name, repr(getattr(self, name)), " or ".join(map(repr, known)), "Spell it so.")
        checked_count("hidden", self.hidden, 0)

    def initialise(self, key: PRNGKeyArray, law: Law) -> NotMiwae:
        """A `NotMiwae` in the units of the law, which is one of joined rows.

        Raises:
            ValueError: as `MiwaeLearner.initialise`.
        """
        for_rows, for_mechanism = jax.random.split(key)
        miwae = self.miwae.initialise(for_rows, law)
        return NotMiwae(miwae, self._first_mechanism(for_mechanism, miwae.dim))

    def _first_mechanism(self, key: PRNGKeyArray, d: int) -> MissingnessModel:
        if self.mechanism == "agnostic":
            return AgnosticMechanism(network=Perceptron(key, d, d, self.miwae.width, self.hidden), link=self.link)
        zeros = jnp.asarray(np.zeros(d))
        return SelfMaskingMechanism(slopes=zeros, thresholds=zeros, sign=_SIGNS[self.mechanism], link=self.link)

    def loss(self, law: Law) -> Loss:
        """Minus the bound.

        Raises:
            ValueError: if the law is not one of joined rows.
        """
        return self.miwae.loss(law)
