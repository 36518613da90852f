"""A scheme is one step of a sampler, written once, on a point and its noise draws; laws and samples both follow from it."""

from abc import abstractmethod
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.fields import Field
from ensembletheory.processes import GaussianPath, Process

__all__ = ["Scheme", "gaussian_path"]


class Scheme(eqx.Module):
    """One step from time t to time s; see `EulerMaruyama` and `Heun`. A step of length zero stays where it is."""

    takes: eqx.AbstractClassVar[str]  # the kind of field

    @property
    @abstractmethod
    def draws(self) -> int:
        """How many draws of N(0, I) a step needs."""

    @abstractmethod
    def step(self, process: Any, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s that follows x at time t, with the rows of z draws of N(0, I); `process` is of the class that the scheme runs on."""

    def branches(self, field: Field) -> "list[tuple[float | Float[Array, ''], Scheme, Field]]":
        """The steps among which a step is drawn, as probabilities, schemes and fields; most schemes have one."""
        return [(1.0, self, field)]

    def check(self, process: Any, grid: Float[Array, " n"]) -> None:
        """Refuse a process or a grid, whose values can be looked at, that the scheme cannot run on."""


def gaussian_path(scheme: Scheme, process: Process) -> GaussianPath:
    """The process of a scheme that is defined through a_t and s_t.

    Raises:
        ValueError: if the process is not a Gaussian path.
    """
    if not isinstance(process, GaussianPath):
        refuse("process", type(process).__name__, f"a Gaussian path, through whose a_t and s_t {type(scheme).__name__} is defined", "Use EulerMaruyama or a flow's method.")
    return process
