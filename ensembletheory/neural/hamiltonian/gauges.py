r"""A gauge of neural Hamiltonian flows: momenta in other units.

With p' = p / s, every leapfrog step of H = V(q) + K(p) is one of

    H'(q, p') = V(q) / s + K(s p') / s,

at the same q, since dq = h K_p(s p') = h s K'_p'(p') / s and dp' = -h V_q / s. If the prior's momenta and the encoder N(mu, sigma^2) are divided by s as well, the law of the
positions, each weight p(x, p) / f(p | x) and so every bound are as they were. Of networks the gauge changes the last layer of V (by 1 / s), the first
(s) and the last (1 / s) of K or the mass of a fixed kinetic energy, a^2 -> s a^2, and the last layers of the encoder. A prior that is not trained fixes the gauge. Energies of
flows with different priors must be brought to one of them before they are averaged, where scores need nothing of the kind. Quadratic energies have more gauges:
`ensembletheory.hamiltonian.gauge`.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, refuse
from ensembletheory.laws import Gaussian
from ensembletheory.neural.hamiltonian.hamiltonian_flow import FixedKinetic, NeuralHamiltonianFlow, PerceptronEnergy
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.processes.arguments import positive

__all__ = ["rescaled_momenta"]


def rescaled_momenta(flow: NeuralHamiltonianFlow, factor: Numbers) -> NeuralHamiltonianFlow:
    """The flow with its momenta divided by `factor`: the same law of positions, and the same bounds.

    Raises:
        ValueError: if the factor is not above 0, the prior is not Gaussian, or an energy is neither a `PerceptronEnergy` nor a `FixedKinetic`.
    """
    s = positive("factor", factor)
    if not isinstance(flow.prior, Gaussian):
        refuse("flow", f"a prior that is a {type(flow.prior).__name__}", "a Gaussian", "Its momenta divided by a number are a law of another family.")
    one = jnp.ones_like(s)
    pairs = [(_scaled(h.potential, one, 1 / s), _scaled(h.kinetic, s, 1 / s)) for h in flow.hamiltonians]
    hamiltonians = tuple(eqx.tree_at(lambda whole: (whole.potential, whole.kinetic), h, pair) for h, pair in zip(flow.hamiltonians, pairs, strict=True))
    networks = _rescaled(flow.encoder.mean, one, 1 / s), _shifted(flow.encoder.log_width, -jnp.log(s))
    encoder = eqx.tree_at(lambda whole: (whole.mean, whole.log_width), flow.encoder, networks)
    return NeuralHamiltonianFlow(hamiltonians, encoder, _divided(flow.prior, s), flow.steps, flow.centre, flow.scale)


def _scaled(energy: Any, inner: Float[Array, ""], outer: Float[Array, ""]) -> Any:
    """The energy x -> outer E(inner x)."""
    if isinstance(energy, FixedKinetic):
        return FixedKinetic(energy.a * inner * jnp.sqrt(outer))
    if isinstance(energy, PerceptronEnergy):
        return eqx.tree_at(lambda whole: whole.network, energy, _rescaled(energy.network, inner, outer))
    refuse("flow", f"an energy that is a {type(energy).__name__}", "a PerceptronEnergy or a FixedKinetic", "Only of these it is known how their weights change.")


def _rescaled(network: Perceptron, inner: Float[Array, ""], outer: Float[Array, ""]) -> Perceptron:
    """The network x -> outer F(inner x)."""
    first, *rest = network.layers
    layers = [jnp.concatenate([inner * first[:, :-1], first[:, -1:]], axis=1), *rest]
    return eqx.tree_at(lambda whole: whole.layers, network, (*layers[:-1], outer * layers[-1]))


def _shifted(network: Perceptron, shift: Float[Array, ""]) -> Perceptron:
    """The network x -> F(x) + shift."""
    *hidden, last = network.layers
    return eqx.tree_at(lambda whole: whole.layers, network, (*hidden, last.at[:, -1].add(shift)))


def _divided(prior: Gaussian, s: Float[Array, ""]) -> Gaussian:
    """The law of (q, p / s)."""
    half = np.ones(prior.dim // 2)
    units = jnp.concatenate([jnp.asarray(half, s.dtype), half / s])
    return Gaussian(units * prior.mean, units[:, None] * prior.cov * units[None, :])
