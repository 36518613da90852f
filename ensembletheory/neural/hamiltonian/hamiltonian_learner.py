r"""Neural Hamiltonian flows as families that learn by the evidence lower bound, and their fit to an unnormalised density.

The loss of training is unbiased from one draw of the momentum for each draw of the data (Kingma & Welling 2014),

    - E log p(x, p) / f(p | q),   x ~ data,   p = mu(q) + sigma(q) e,   e ~ N(0, I).

Where a density is known up to its normaliser Z and no data are at hand, the same flow read from the prior bounds log Z instead (Souveton et al. 2024),

    E_{z ~ prior} log [ Z pi(x) f(p | q) scale^d / prior(z) ]  <=  log Z,   (q, p) = Phi(z),   x = centre + scale q,

by the divergence KL(law of (x, p) || pi f).
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count
from ensembletheory.laws import Law, standard_normal
from ensembletheory.neural.data import scale_of
from ensembletheory.neural.hamiltonian.hamiltonian_flow import FixedKinetic, MomentumEncoder, NeuralHamiltonianFlow, PerceptronEnergy
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.training import Loss
from ensembletheory.processes import SeparableHamiltonian
from ensembletheory.processes.arguments import positive

__all__ = ["EvidenceBound", "FixedKineticLearner", "HamiltonianLearner", "NhfLearner", "ReverseEvidenceBound"]


class EvidenceBound(eqx.Module):
    """Minus the evidence lower bound of `batch` draws of a law."""

    law: Law
    batch: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        checked_count("batch", self.batch, 1)

    def __call__(self, model: NeuralHamiltonianFlow, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean over a batch, one momentum for each position."""
        key_data, key_momenta = jax.random.split(key)
        x = self.law.sample(key_data, self.batch)
        return -jnp.mean(jax.vmap(model.log_weight)(x, jax.random.normal(key_momenta, x.shape, x.dtype)))


class ReverseEvidenceBound(eqx.Module):
    """Minus the bound on log Z of an unnormalised log-density (a pytree, of one point), from `batch` draws of the prior."""

    log_target: Callable[[Float[Array, " d"]], Float[Array, ""]]
    batch: int = eqx.field(static=True, default=256)

    def __check_init__(self):
        checked_count("batch", self.batch, 1)

    def __call__(self, model: NeuralHamiltonianFlow, key: PRNGKeyArray) -> Float[Array, ""]:
        """The mean over a batch."""
        prior, centre, scale = jax.lax.stop_gradient((model.prior, model.centre, model.scale))

        def bound(z: Float[Array, " n"]) -> Float[Array, ""]:
            end = model.generate(z)
            q, p = end[: model.dim], end[model.dim :]
            return self.log_target(centre + scale * q) + model.dim * jnp.log(scale) + model.encoder(q)._log_prob(p) - prior._log_prob(z)

        return -jnp.mean(jax.vmap(bound)(prior.sample(key, self.batch)))


class HamiltonianLearner(Learner):
    """What both families share.

    Args:
        steps: leapfrog steps of each Hamiltonian.
        horizon: the time each Hamiltonian takes.
        width: units in a hidden layer, of energies and encoder.
        depth: number of hidden layers.
        batch: draws a step.
        composed: how many Hamiltonians, one after the other.
        prior: on phase space, in units in which the data have variance 1 a coordinate; N(0, I) if left out.

    Raises:
        ValueError: if there is no Hamiltonian, no step, no unit or no draw, or the horizon is not positive.
    """

    steps: int = eqx.field(static=True, default=4)
    horizon: float = 1.0
    width: int = eqx.field(static=True, default=32)
    depth: int = eqx.field(static=True, default=2)
    batch: int = eqx.field(static=True, default=256)
    composed: int = eqx.field(static=True, default=1)
    prior: Law | None = None

    def __check_init__(self):
        for name in ("steps", "width", "batch", "composed"):
            checked_count(name, getattr(self, name), 1)
        checked_count("depth", self.depth, 0)
        positive("horizon", self.horizon)

    @abstractmethod
    def kinetic(self, key: PRNGKeyArray, dim: int) -> Callable[[Float[Array, " d"]], Float[Array, ""]]:
        """A kinetic energy before training."""

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `NeuralHamiltonianFlow`, its centre and scale those of the law.

        Raises:
            ValueError: if the prior is not on the phase space of the law.
        """
        key_encoder, *keys = jax.random.split(key, 1 + self.composed)
        encoder = MomentumEncoder(key_encoder, law.dim, self.width, self.depth)
        prior = standard_normal(2 * law.dim) if self.prior is None else self.prior
        return NeuralHamiltonianFlow([self._hamiltonian(k, law.dim) for k in keys], encoder, prior, self.steps, law.mean, scale_of(law))

    def loss(self, law: Law) -> Loss:
        """Minus the evidence lower bound."""
        return EvidenceBound(law, self.batch)

    def _hamiltonian(self, key: PRNGKeyArray, dim: int) -> SeparableHamiltonian:
        first, second = jax.random.split(key)
        return SeparableHamiltonian(PerceptronEnergy(first, dim, self.width, self.depth), self.kinetic(second, dim), self.horizon)


class NhfLearner(HamiltonianLearner):
    """Neural Hamiltonian flows, whose potential and kinetic energies are networks; see `HamiltonianLearner` for the arguments."""

    def kinetic(self, key: PRNGKeyArray, dim: int) -> Callable[[Float[Array, " d"]], Float[Array, ""]]:
        """A network."""
        return PerceptronEnergy(key, dim, self.width, self.depth)


class FixedKineticLearner(HamiltonianLearner):
    """Fixed-kinetic neural Hamiltonian flows, whose mass is learned; see `HamiltonianLearner` for the arguments."""

    def kinetic(self, key: PRNGKeyArray, dim: int) -> Callable[[Float[Array, " d"]], Float[Array, ""]]:
        """1/2 a^2 |p|^2 with a = 1."""
        return FixedKinetic(jnp.ones(()))
