"""Velocity networks as a family that learns by flow matching."""

from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ensembletheory.laws import Law
from ensembletheory.neural.data import require_spread
from ensembletheory.neural.flows.flow_matching import FlowMatching
from ensembletheory.neural.flows.pairings import IndependentPairs, Pairing
from ensembletheory.neural.flows.velocity_network import VelocityNetwork
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.training import Loss
from ensembletheory.processes import GaussianPath

__all__ = ["FlowMatchingLearner"]


class FlowMatchingLearner(Learner):
    """Velocity networks of one path from data to noise.

    Args:
        process: the path, such as `LinearInterpolant`, `OptimalTransportPath` or `VariancePreservingPath`.
        coupling: how data and source are paired, `IndependentPairs` or `TransportedPairs`.
        width: units in a hidden layer.
        depth: number of hidden layers.
        batch: pairs a step.
        start: the earliest time of training.
    """

    process: GaussianPath
    coupling: Pairing = IndependentPairs()
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=3)
    batch: int = eqx.field(static=True, default=256)
    start: float = eqx.field(static=True, default=1e-3)

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `VelocityNetwork`, its mean and scale those of the law."""
        return VelocityNetwork(key, self.process, law, self.width, self.depth)

    def loss(self, law: Law) -> Loss:
        """Flow matching.

        Raises:
            ValueError: if the law has no spread.
        """
        require_spread(law)
        return FlowMatching(self.process, law, self.coupling, self.batch, self.start)
