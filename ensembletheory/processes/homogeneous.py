r"""Linear processes with constant coefficients, dX = (A X + b) dt + G dW, whatever A: it need not be symmetric, normal or stable, nor the process reversible.

X_t = E_t X_0 + c_t + xi_t with E_t = exp(A t), c_t = int_0^t exp(A u) b du and Cov xi_t = W_t = int_0^t exp(A u) G G^T exp(A^T u) du. A component N(m, S) of the data becomes
N(E m + c, C), C = E S E^T + W, and with y = C^{-1} (x - E m - c) averaged over the components by their responsibilities,

    score = -y,     velocity = A x + b + (1/2) G G^T y,     denoiser E[X_0 | X_t = x] = m + S E^T y.

Source: Anderson (1982) for the reverse SDE.
"""

from abc import abstractmethod

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.gaussian import is_singular
from ensembletheory.laws.mixture import weighted_components
from ensembletheory.laws.weights import relative_terms
from ensembletheory.processes.path import as_gaussians, refuse_unnoised
from ensembletheory.processes.process import Process

__all__ = ["HomogeneousProcess"]


class HomogeneousProcess(Process):
    """A linear process whose transitions depend on the length of time alone; see `LinearSde`."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The dimension, or the smallest."""

    @abstractmethod
    def transition(self, h: Float[Array, ""], dim: int) -> AffineKernel:
        """The law of X_{t+h} given X_t on R^dim."""

    @abstractmethod
    def expected(self, dim: int) -> str | None:
        """What the dimension of a law should be, if the process does not act on R^dim."""

    def kernel(self, s: Numbers, t: Numbers, dim: int | None = None) -> AffineKernel:
        """The law of X_t given X_s on R^dim, s <= t; `dim` is that of the process where it is left out.

        Raises:
            ValueError: unless 0 <= s <= t <= horizon, or if the process does not act on R^dim.
        """
        s, t = self.checked_interval(s, t)
        dim = self.dim if dim is None else dim
        self._require("dim", dim)
        return _transition(self, t - s, dim)

    def marginal(self, law: Law, t: Numbers) -> Law:
        """The law of X_t when X_0 has `law`: a Gaussian of a Gaussian, else a mixture.

        Raises:
            ValueError: if t is not within [0, horizon], or the process does not act in the law's dimension.
            TypeError: if `law` is none of Gaussian, GaussianMixture and FiniteLaw.
        """
        time = self.checked_time("t", t)
        if is_singular(law) and is_concrete(time) and float(time) == 0:
            return law
        return _moved(self, self._required(law), time)

    def score(self, law: Law) -> Field:
        """The exact grad log p_t when X_0 has `law`."""
        return _HomogeneousField(self, self._required(law), "score")

    def denoiser(self, law: Law) -> Field:
        """The exact E[X_0 | X_t = x] when X_0 has `law`."""
        return _HomogeneousField(self, self._required(law), "denoiser")

    def velocity(self, law: Law) -> Field:
        """The exact probability-flow velocity, drift - (1/2) G G^T score, when X_0 has `law`."""
        return _HomogeneousField(self, self._required(law), "velocity")

    def _required(self, law: Law) -> Gaussian | GaussianMixture:
        self._require("law", law.dim)
        return as_gaussians(law)

    def _require(self, argument: str, dim: int) -> None:
        expected = self.expected(dim)
        if expected is not None:
            refuse(argument, f"dimension {dim}", expected, "Give the process and the law the same space.")


class _HomogeneousField(Field):
    process: HomogeneousProcess
    law: Gaussian | GaussianMixture
    readout: str = eqx.field(static=True)

    @property
    def kind(self) -> str:
        return self.readout

    @property
    def origin(self) -> HomogeneousProcess:
        return self.process

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        self.check(t)
        noised = _moved(self.process, self.law, t)
        if self.readout == "score":
            return noised._score(x)
        if self.readout == "velocity":
            return self.process.drift(t, x) - self.process.spread(t, noised._score(x)) / 2
        (weights, own), (_, seen) = weighted_components(self.law), weighted_components(noised)
        E = self.process.transition(t, self.law.dim).A

        def mean(component: Gaussian, later: Gaussian) -> Float[Array, " d"]:
            return component.mean + component.covariance.matvec(E.T @ later.covariance.solve(x - later.mean))

        return relative_terms(weights, jax.vmap(lambda later: later._log_prob(x))(seen)) @ jax.vmap(mean)(own, seen)

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse time 0, where it can be looked at, for data without a density."""
        if is_concrete(t) and float(t) == 0:
            refuse_unnoised(self.law, t)


@eqx.filter_jit
def _transition(process: HomogeneousProcess, h: Float[Array, ""], dim: int) -> AffineKernel:
    return process.transition(h, dim)


@eqx.filter_jit
def _moved(process: HomogeneousProcess, law: Gaussian | GaussianMixture, t: Float[Array, ""]) -> Gaussian | GaussianMixture:
    moved = process.transition(t, law.dim).push(law)
    assert isinstance(moved, Gaussian | GaussianMixture)
    return moved
