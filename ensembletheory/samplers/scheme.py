"""A scheme is one step of a sampler, written once, on a point and a noise draw; laws and samples both follow from it."""

from abc import abstractmethod

import equinox as eqx
from jaxtyping import Array, Float

from ensembletheory.fields import Field
from ensembletheory.processes import GaussianPath

__all__ = ["Scheme"]


class Scheme(eqx.Module):
    """One step from time t to time s; see `EulerMaruyama` and `Heun`."""

    deterministic: eqx.AbstractClassVar[bool]

    @abstractmethod
    def step(self, process: GaussianPath, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """The point at time s that follows x at time t, with z a draw of N(0, I)."""
