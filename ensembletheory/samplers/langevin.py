r"""Langevin correction: a predictor's step to time s, then steps that leave p_s invariant as their length goes to 0, with `field` a score.

    x <- x + h score(s, x) + sqrt(2 h) z,

with h fixed, so that the step is affine for Gaussians, or chosen from the point and the draw, h = 2 (snr |z| / |score|)^2, which is not.
Source: Song et al. (2021), algorithms 2 to 5, with norms of each point instead of means over a batch.
"""

from abc import abstractmethod
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.fields import Field
from ensembletheory.processes import Process
from ensembletheory.samplers.scheme import Scheme

__all__ = ["AdaptiveLangevinCorrector", "LangevinCorrector"]


class _Corrector(Scheme):
    takes: ClassVar[str] = "score"
    predictor: eqx.AbstractVar[Scheme]
    steps: eqx.AbstractVar[int]

    @abstractmethod
    def length(self, score: Float[Array, " d"], noise: Float[Array, " d"]) -> float | Float[Array, ""]:
        """The length h of a correction."""

    @property
    def draws(self) -> int:
        """The predictor's and one a correction."""
        return self.predictor.draws + self.steps

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t."""
        x = self.predictor.step(process, field, t, s, x, z[: self.predictor.draws])
        for noise in z[self.predictor.draws :]:
            score = field(s, x)
            h = jnp.sign(t - s) * self.length(score, noise)
            x = x + h * score + jnp.sqrt(2 * h) * noise
        return x

    def check(self, process: Process, grid: Float[Array, " n"]) -> None:
        """What the predictor refuses."""
        self.predictor.check(process, grid)


class LangevinCorrector(_Corrector):
    """A predictor followed by Langevin steps of fixed length; takes a score.

    Args:
        predictor: a scheme that takes a score.
        step_size: the length h > 0.
        steps: corrections a step.

    Raises:
        ValueError: if the predictor takes another field, or an argument is not positive.
    """

    predictor: Scheme
    step_size: float
    steps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        _require(self.predictor, "step_size", self.step_size, self.steps)

    def length(self, score: Float[Array, " d"], noise: Float[Array, " d"]) -> float:
        """The step size."""
        return self.step_size


class AdaptiveLangevinCorrector(_Corrector):
    """A predictor followed by Langevin steps of the length at which signal and noise have the ratio `snr`; takes a score.

    Args:
        predictor: a scheme that takes a score.
        snr: the ratio > 0.
        steps: corrections a step.

    Raises:
        ValueError: if the predictor takes another field, or an argument is not positive.
    """

    predictor: Scheme
    snr: float = 0.16
    steps: int = eqx.field(static=True, default=1)

    def __check_init__(self):
        _require(self.predictor, "snr", self.snr, self.steps)

    def length(self, score: Float[Array, " d"], noise: Float[Array, " d"]) -> Float[Array, ""]:
        """2 (snr |z| / |score|)^2."""
        return 2 * self.snr**2 * (noise @ noise) / (score @ score)


def _require(predictor: Scheme, name: str, value: float, steps: int) -> None:
    if predictor.takes != "score":
        refuse("predictor", f"{type(predictor).__name__}, which takes a {predictor.takes}", "a scheme that takes a score", "EulerMaruyama, for example.")
    if not (value > 0 and steps > 0):
        refuse(f"{name}, steps", f"{value:.6g} and {steps}", "positive numbers", "Drop the corrector if none is wanted.")
