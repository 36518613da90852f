r"""Conversions between the four fields of a Gaussian path: score, velocity, denoiser and noise prediction.

With D = E[X_0 | x] and n = E[Z | x] / s = -score, X_t = a X_0 + s Z gives x = a D + s^2 n, and a field of readout (alpha, c) is q = alpha D + c n. Two linear equations for
two unknowns,

    D = (c x - s^2 q) / det,     n = (a q - alpha x) / det,     det = a c - s^2 alpha,

determine every other field q' = alpha' D + c' n. Where det = 0 the given field does not know the answer: a denoiser or a noise prediction at s = 0, a score, a noise
prediction or (on the linear path) nothing but x itself at a = 0.
"""

import equinox as eqx
from jaxtyping import Array, Float

from ensembletheory.errors import refuse
from ensembletheory.fields import Field
from ensembletheory.processes.path import GaussianPath

__all__ = ["convert"]


def convert(process: GaussianPath, field: Field, to: str, given: str | None = None) -> Field:
    """A field of the path as a field of another kind.

    Args:
        process: the path.
        field: exact or trained.
        to: "score", "velocity", "denoiser" or "noise".
        given: the kind of `field`; default what the field says of itself.

    Raises:
        ValueError: if a kind is unknown.
    """
    given = given or field.kind
    if given is None:
        refuse("given", "None, for a field that does not say what it is", "'score', 'velocity', 'denoiser' or 'noise'", "Name the kind of the field.")
    for kind in (given, to):
        process.readout(kind, process.horizon)
    return field if given == to else _Converted(process, field, given, to)


class _Converted(Field):
    process: GaussianPath
    field: Field
    given: str = eqx.field(static=True)
    to: str = eqx.field(static=True)

    @property
    def kind(self) -> str:
        return self.to

    @property
    def origin(self) -> GaussianPath:
        return self.process

    @property
    def piecewise(self) -> bool:
        return self.field.piecewise

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self._read(t, x, self.field(t, x))

    def batch(self, t: Float[Array, ""], points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        return self._read(t, points, self.field.batch(t, points))

    def check(self, t: Float[Array, ""]) -> None:
        self.field.check(t)

    def _read(self, t: Float[Array, ""], x: Float[Array, "*points d"], q: Float[Array, "*points d"]) -> Float[Array, "*points d"]:
        """The formula of the module, which is the same in every coordinate."""
        a, noise = self.process.a(t), self.process.noise_variance(t)
        (alpha, c), (alpha_to, c_to) = self.process.readout(self.given, t), self.process.readout(self.to, t)
        det = a * c - noise * alpha
        return (alpha_to * (c * x - noise * q) + c_to * (a * q - alpha * x)) / det
