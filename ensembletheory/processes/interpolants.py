r"""Interpolants between data and a Gaussian source drawn independently: the paths of flow matching (Lipman et al. 2023, Albergo & Vanden-Eijnden 2023).

Time runs from data (0) to noise (1) here as everywhere in this package; papers that run the other way have t' = 1 - t and v' = -v (`processes.papers`).

| path | a_t | s_t |
|---|---|---|
| linear | 1 - t | t |
| optimal transport (Lipman) | 1 - t | sigma_min + (1 - sigma_min) t |
| variance exploding (Lipman) | 1 | sigma_min (sigma_max / sigma_min)^t |
| variance preserving (Lipman) | exp(-I/2), I = int_0^t b | sqrt(1 - exp(-I)) |
| trigonometric | cos(pi t / 2) | sin(pi t / 2) |

Lipman's variance-preserving path is the VP diffusion itself in this time, so `VariancePreservingPath` is another name of `VariancePreserving`; his variance-exploding path
starts with the noise sigma_min, which `VarianceExploding` does not. A path named after optimal transport transports each data point's Gaussian optimally, not the whole law.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.processes.arguments import levels, positive
from ensembletheory.processes.diffusion import VariancePreserving
from ensembletheory.processes.path import GaussianPath

__all__ = [
    "Coefficient",
    "Interpolant",
    "LinearInterpolant",
    "OptimalTransportPath",
    "TrigonometricInterpolant",
    "VarianceExplodingPath",
    "VariancePreservingPath",
    "refuse_wrong_ends",
]

Coefficient = Callable[[Float[Array, ""]], Float[Array, ""]]

VariancePreservingPath = VariancePreserving


class LinearInterpolant(GaussianPath):
    """X_t = (1 - t) X_0 + t Z on [0, 1]."""

    horizon: Float[Array, ""]

    def __init__(self):
        self.horizon = as_floats("horizon", 1.0)

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """1 - t."""
        return 1 - t

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """t^2."""
        return t**2


class OptimalTransportPath(GaussianPath):
    """X_t = (1 - t) X_0 + (sigma_min + (1 - sigma_min) t) Z on [0, 1]: the linear interpolant of data that carry the noise sigma_min.

    Raises:
        ValueError: unless 0 < sigma_min < 1.
    """

    sigma_min: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, sigma_min: Numbers = 1e-4):
        self.sigma_min, self.horizon = levels(sigma_min, 1.0)

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """1 - t."""
        return 1 - t

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """(sigma_min + (1 - sigma_min) t)^2."""
        return (self.sigma_min + (1 - self.sigma_min) * t) ** 2


class VarianceExplodingPath(GaussianPath):
    """X_t = X_0 + sigma_min (sigma_max / sigma_min)^(t / horizon) Z.

    Raises:
        ValueError: unless 0 < sigma_min < sigma_max and 0 < horizon, all finite.
    """

    sigma_min: Float[Array, ""]
    sigma_max: Float[Array, ""]
    horizon: Float[Array, ""]

    def __init__(self, sigma_min: Numbers = 0.01, sigma_max: Numbers = 50.0, horizon: Numbers = 1.0):
        (self.sigma_min, self.sigma_max), self.horizon = levels(sigma_min, sigma_max), positive("horizon", horizon)

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """1."""
        return jnp.ones_like(t)

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """sigma_min^2 (sigma_max / sigma_min)^(2 t / horizon)."""
        return self.sigma_min**2 * (self.sigma_max / self.sigma_min) ** (2 * t / self.horizon)


class TrigonometricInterpolant(GaussianPath):
    """X_t = cos(pi t / 2) X_0 + sin(pi t / 2) Z on [0, 1], which preserves variance."""

    horizon: Float[Array, ""]

    def __init__(self):
        self.horizon = as_floats("horizon", 1.0)

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """cos(pi t / 2), as a sine so that it is exactly zero at the horizon."""
        return jnp.sin(np.pi / 2 * (1 - t))

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """sin(pi t / 2)^2."""
        return jnp.sin(np.pi / 2 * t) ** 2


class Interpolant(GaussianPath):
    """X_t = a(t) X_0 + s(t) Z for two differentiable functions of time.

    Args:
        a: the signal coefficient, from 1 at time 0 to 0 at the horizon.
        s: the noise coefficient, from 0 at time 0 to 1 at the horizon. Its square is differentiated: fields at an end want a square whose slope there is finite.
        horizon: the time of the source.

    Raises:
        ValueError: if an end is wrong (beyond 1e-9), or s / a falls between the ends, since noise that is added is not taken back.
    """

    signal: Coefficient
    deviation: Coefficient
    horizon: Float[Array, ""]

    def __init__(self, a: Coefficient, s: Coefficient, horizon: Numbers = 1.0):
        self.signal, self.deviation, self.horizon = a, s, positive("horizon", horizon)

    def __check_init__(self):
        refuse_wrong_ends({"a": (self.signal, 1.0, 0.0), "s": (self.deviation, 0.0, 1.0)}, self.horizon)
        angles = _angles(self)
        if is_concrete(angles) and not np.all(np.diff(angles) >= -1e-9):
            refuse("a, s", "noise levels s / a that fall, or are not numbers, in between", "s / a that grows from data to noise", "Check both functions between the ends.")

    def a(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """The first function."""
        return self.signal(t)

    def noise_variance(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """The square of the second function."""
        return self.deviation(t) ** 2


def refuse_wrong_ends(coefficients: dict[str, tuple[Coefficient, float, float]], horizon: Float[Array, ""]) -> None:
    """Refuse a coefficient whose values at time 0 and the horizon, where they can be looked at, are not the two given ones.

    Raises:
        ValueError: naming both values.
    """
    values = _ends([coefficient for coefficient, _, _ in coefficients.values()], horizon)
    for (argument, (_, first, last)), (start, end) in zip(coefficients.items(), values, strict=True):
        if is_concrete(start, end) and not (abs(float(start) - first) <= 1e-9 and abs(float(end) - last) <= 1e-9):
            got = f"{float(start):.6g} at time 0 and {float(end):.6g} at {float(horizon):.6g}"
            refuse(argument, got, f"{first:g} at time 0 and {last:g} at the horizon", "Time 0 is the data, the horizon the source; papers may run the other way.")


@eqx.filter_jit
def _ends(coefficients: list[Coefficient], horizon: Float[Array, ""]) -> list[tuple[Float[Array, ""], Float[Array, ""]]]:
    return [(coefficient(jnp.zeros_like(horizon)), coefficient(horizon)) for coefficient in coefficients]


@eqx.filter_jit
def _angles(path: Interpolant) -> Float[Array, " n"]:
    return jax.vmap(lambda t: jnp.arctan2(path.deviation(t), path.signal(t)))(jnp.linspace(0.0, path.horizon, 65))
