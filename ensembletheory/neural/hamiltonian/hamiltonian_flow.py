r"""Neural Hamiltonian flows: a prior on phase space z = (q, p), moved by leapfrog steps of learned energies; data are the positions, momenta are latent.

In units of the data, x = centre + scale q, with one Hamiltonian H = V(q) + K(p) after another and L steps of horizon / L each,

    (q, p) = Phi(z),  z ~ prior,        log p(x, p) = log prior( Phi^{-1}(q, p) ) - d log scale,

for the steps keep volume whatever the weights of the networks. An encoder f(p | q) = N(mu(q), diag sigma(q)^2) gives the weights w = p(x, p) / f(p | q), p ~ f, and

    ELBO(x) = E log w  <=  L_K(x) = E log (1/K) sum_k w_k  <=  log p(x),

with E over K independent draws. In `NeuralHamiltonianFlow` of Toth et al. (2020) V and K are networks; fixed-kinetic ones (Souveton et al. 2024) have K = 1/2 a^2 |p|^2,
a learned. Energies are softplus perceptrons, whose gradients are smooth. What linear flows reach, and at what ELBO, is in `ensembletheory.hamiltonian`.

**The log-density** log p(x) itself is estimated from n draws of the encoder widened to the deviations 2 sigma(q), as log of the mean weight plus half its squared error, which
removes the bias of order 1/n; where the encoder is so far off that a few draws outweigh all others the error is infinite (`ensembletheory.estimate`). The encoder as it is
would not do: the best one is narrower than the posterior, and of a model with correlation 1/2 its weights have no second moment (`ensembletheory.latent.iwae_threshold`,
whose condition 2 D > S is here 8 D > S).

Leapfrog is written here for one field of two halves, since only those it needs are then differentiated, and the last slope of a step is the first of the next: training
takes 0.4 of the time of the general scheme, to whose points it is equal.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import Diagonal
from ensembletheory.errors import Numbers, checked_count, refuse
from ensembletheory.estimate import Estimate, log_mean, monte_carlo
from ensembletheory.hamiltonian import HamiltonianFlow
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.law import checked_point
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.processes import SeparableHamiltonian
from ensembletheory.processes.hamiltonian import halves

__all__ = ["FixedKinetic", "MomentumEncoder", "NeuralHamiltonianFlow", "PerceptronEnergy", "leapfrog_start", "leapfrog_step"]

State = tuple[Float[Array, " d"], Float[Array, " d"], Float[Array, " d"]]  # q, p and the slope of V at q

_WIDENING = 2.0  # of the encoder's deviations, where log p(x) is estimated


class PerceptronEnergy(eqx.Module):
    """A network as an energy: its one output."""

    network: Perceptron

    def __init__(self, key: PRNGKeyArray, dim: int, width: int, depth: int):
        self.network = Perceptron(key, dim, 1, width, depth, jax.nn.softplus)

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The energy at one point."""
        return self.network(x)[0]


class FixedKinetic(eqx.Module):
    """p -> 1/2 a^2 |p|^2, of mass 1 / a^2."""

    a: Float[Array, ""]

    def __call__(self, p: Float[Array, " d"]) -> Float[Array, ""]:
        """The energy at one momentum."""
        return jnp.sum((self.a * p) ** 2) / 2


class MomentumEncoder(eqx.Module):
    """p | q ~ N(mu(q), diag sigma(q)^2), with two perceptrons for mu and log sigma."""

    mean: Perceptron
    log_width: Perceptron

    def __init__(self, key: PRNGKeyArray, dim: int, width: int, depth: int):
        first, second = jax.random.split(key)
        self.mean, self.log_width = Perceptron(first, dim, dim, width, depth), Perceptron(second, dim, dim, width, depth)

    def __call__(self, q: Float[Array, " d"]) -> Gaussian:
        """The law of p at one q, in the units of the flow."""
        return Gaussian(self.mean(q), Diagonal(jnp.exp(2 * self.log_width(q))))


class NeuralHamiltonianFlow(eqx.Module):
    """The law of positions after leapfrog steps of each Hamiltonian in turn; its log-density is known with an error, and by bounds.

    Args:
        hamiltonians: one or more, of any energies.
        encoder: of the momenta.
        prior: a law on R^{2d}.
        steps: leapfrog steps of each Hamiltonian over its horizon.
        centre: (d,), where positions 0 lie in the units of the data.
        scale: the length of one unit of the positions.

    Raises:
        ValueError: if there is no Hamiltonian or no step, or the prior is not twice as wide as the data.
    """

    hamiltonians: tuple[SeparableHamiltonian, ...]
    encoder: MomentumEncoder
    prior: Law
    centre: Float[Array, " d"]
    scale: Float[Array, ""]
    steps: int = eqx.field(static=True)

    def __init__(self, hamiltonians: Sequence[SeparableHamiltonian], encoder: MomentumEncoder, prior: Law, steps: int, centre: Float[Array, " d"], scale: Float[Array, ""]):
        self.hamiltonians, self.encoder, self.prior, self.centre, self.scale = tuple(hamiltonians), encoder, prior, centre, scale
        self.steps = checked_count("steps", steps, 1)
        if not self.hamiltonians:
            refuse("hamiltonians", "none", "at least one", "Nothing else moves the prior.")
        if prior.dim != 2 * self.dim:
            refuse("prior", f"dimension {prior.dim}", f"{2 * self.dim}, that of phase space", "It is a law of positions and as many momenta.")

    @property
    def dim(self) -> int:
        """The dimension d of the data."""
        return self.centre.shape[0]

    def flows(self) -> tuple[HamiltonianFlow, ...]:
        """Each Hamiltonian's steps as a flow of the package, in the units of the flow; the one composed of all is `generate`."""
        return tuple(HamiltonianFlow(hamiltonian, self.prior, self.steps) for hamiltonian in self.hamiltonians)

    def generate(self, z: Float[Array, " n"]) -> Float[Array, " n"]:
        """Where one point of the prior goes: Phi."""
        for hamiltonian in self.hamiltonians:
            z = _leapfrog(hamiltonian, z, self.steps, 1.0)
        return z

    def encode(self, z: Float[Array, " n"]) -> Float[Array, " n"]:
        """Where one point of phase space came from: the inverse of `generate`."""
        for hamiltonian in reversed(self.hamiltonians):
            z = _leapfrog(hamiltonian, z, self.steps, -1.0)
        return z

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws."""
        return _drawn(self, key, n)

    def log_joint(self, x: Float[Array, " d"], p: Float[Array, " d"]) -> Float[Array, ""]:
        """The exact log-density of one position, in units of the data, and its momentum."""
        prior, centre, scale = jax.lax.stop_gradient((self.prior, self.centre, self.scale))
        return prior._log_prob(self.encode(jnp.concatenate([(x - centre) / scale, p]))) - self.dim * jnp.log(scale)

    def log_weight(self, x: Float[Array, " d"], noise: Float[Array, " d"], widening: float = 1.0) -> Float[Array, ""]:
        """The log of p(x, p) / f(p | q) at p = mu + widening sigma noise, for the encoder f whose deviations are widened alike."""
        q = (x - jax.lax.stop_gradient(self.centre)) / jax.lax.stop_gradient(self.scale)
        log_width = self.encoder.log_width(q) + np.log(widening)
        log_encoder = -jnp.sum(noise**2) / 2 - jnp.sum(log_width) - self.dim / 2 * np.log(2 * np.pi)
        return self.log_joint(x, self.encoder.mean(q) + jnp.exp(log_width) * noise) - log_encoder

    def elbo(self, key: PRNGKeyArray, x: Numbers, samples: int = 256) -> Estimate:
        """The evidence lower bound at points (..., d), each with `samples` draws of its momentum: (...).

        Raises:
            ValueError: if there are fewer than two samples, or the points have another dimension.
        """
        return self.iwae(key, x, 1, samples)

    def iwae(self, key: PRNGKeyArray, x: Numbers, K: int, samples: int = 256) -> Estimate:
        """The bound L_K at points (..., d), each with `samples` times K draws of its momentum: (...).

        Raises:
            ValueError: if K < 1, or as `elbo`.
        """
        return _bound(self, key, checked_point("x", x, self.dim), checked_count("K", K, 1), checked_count("samples", samples, 2))

    def log_prob(self, x: Numbers, key: PRNGKeyArray, samples: int = 1024) -> Estimate:
        """The log-density in nats at points (..., d), each with its standard error, infinite where a few draws outweigh the others: (...). See the module.

        Raises:
            ValueError: if there are fewer than four samples, or the points have another dimension.
        """
        return _log_prob(self, key, checked_point("x", x, self.dim), checked_count("samples", samples, 4))


def leapfrog_step(hamiltonian: SeparableHamiltonian, h: Float[Array, ""] | float) -> Callable[[State], State]:
    """A step over the time h, from (q, p, slope of V at q), with which it begins, to the same after it."""
    force, speed = jax.grad(hamiltonian.potential), jax.grad(hamiltonian.kinetic)

    def step(state: State) -> State:
        q, p, slope = state
        p = p - h / 2 * slope
        q = q + h * speed(p)
        slope = force(q)
        return q, p - h / 2 * slope, slope

    return step


def leapfrog_start(hamiltonian: SeparableHamiltonian, z: Float[Array, " n"]) -> State:
    """What the first `leapfrog_step` begins with."""
    q, p = halves(z)
    return q, p, jax.grad(hamiltonian.potential)(q)


def _leapfrog(hamiltonian: SeparableHamiltonian, z: Float[Array, " n"], steps: int, direction: float) -> Float[Array, " n"]:
    """All steps, forward or backward in the time of H."""
    step = leapfrog_step(hamiltonian, direction * jax.lax.stop_gradient(hamiltonian.horizon) / steps)
    q, p, _ = jax.lax.scan(lambda state, _: (step(state), None), leapfrog_start(hamiltonian, z), None, length=steps)[0]
    return jnp.concatenate([q, p])


@eqx.filter_jit
def _drawn(model: NeuralHamiltonianFlow, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    z = jax.vmap(model.generate)(model.prior.sample(key, n))
    return model.centre[None, :] + model.scale * z[:, : model.dim]


def _log_weights(model: NeuralHamiltonianFlow, key: PRNGKeyArray, x: Float[Array, " d"], count: int, widening: float) -> Float[Array, " count"]:
    noise = jax.random.normal(key, (count, model.dim), x.dtype)
    return jax.vmap(lambda e: model.log_weight(x, e, widening))(noise)


def _at_points(at, key: PRNGKeyArray, x: Float[Array, "... d"]) -> Estimate:
    """`at` of a key and a point, at every point of an array."""
    points = x.reshape(-1, x.shape[-1])
    found = jax.lax.map(lambda both: at(*both), (jax.random.split(key, len(points)), points))
    return jax.tree.map(lambda values: values.reshape(x.shape[:-1]), found)


@eqx.filter_jit
def _bound(model: NeuralHamiltonianFlow, key: PRNGKeyArray, x: Float[Array, "... d"], K: int, samples: int) -> Estimate:
    def at(key, point):
        weights = _log_weights(model, key, point, samples * K, 1.0).reshape(samples, K)
        return monte_carlo(jax.nn.logsumexp(weights, axis=1) - np.log(K))

    return _at_points(at, key, x)


@eqx.filter_jit
def _log_prob(model: NeuralHamiltonianFlow, key: PRNGKeyArray, x: Float[Array, "... d"], samples: int) -> Estimate:
    def at(key, point):
        return log_mean(_log_weights(model, key, point, samples, _WIDENING))

    return _at_points(at, key, x)
