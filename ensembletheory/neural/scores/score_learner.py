"""Score networks as a family that learns by score matching."""

from typing import Any

import equinox as eqx
from jaxtyping import PRNGKeyArray

from ensembletheory.laws import Law
from ensembletheory.neural.data import require_spread
from ensembletheory.neural.learner import Learner
from ensembletheory.neural.scores.score_matching import ScoreMatching
from ensembletheory.neural.scores.score_network import ScoreNetwork
from ensembletheory.neural.training import Loss
from ensembletheory.processes import GaussianPath

__all__ = ["ScoreLearner"]


class ScoreLearner(Learner):
    """Score networks of one path from data to noise.

    Args:
        process: the path.
        width: units in a hidden layer.
        depth: number of hidden layers.
        batch: draws a step.
        start: the earliest time of training.
        weighting: of the loss over times, see `ensembletheory.neural.scores.score_matching`.
    """

    process: GaussianPath
    width: int = eqx.field(static=True, default=64)
    depth: int = eqx.field(static=True, default=3)
    batch: int = eqx.field(static=True, default=256)
    start: float = eqx.field(static=True, default=1e-3)
    weighting: str = eqx.field(static=True, default="noise")

    def initialise(self, key: PRNGKeyArray, law: Law) -> Any:
        """A `ScoreNetwork`, its mean and scale those of the law."""
        return ScoreNetwork(key, self.process, law, self.width, self.depth)

    def loss(self, law: Law) -> Loss:
        """Denoising score matching.

        Raises:
            ValueError: if the law has no spread.
        """
        require_spread(law)
        return ScoreMatching(self.process, law, self.batch, self.start, self.weighting)
