r"""The linear SDE dX = A X dt + G dW with constant matrices, whatever A: it need not be symmetric, normal or stable, nor the process reversible.

X_t = E_t X_0 + xi_t with E_t = exp(A t) and Cov xi_t = W_t = int_0^t exp(A u) G G^T exp(A^T u) du (Van Loan's Gramian). A component N(m, S) of the data becomes
N(E m, C), C = E S E^T + W, and with y = C^{-1} (x - E m) averaged over the components by their responsibilities,

    score = -y,     velocity = A x + (1/2) G G^T y,     denoiser E[X_0 | X_t = x] = m + S E^T y.

G need not be square: G (d, m) acts on m noises, and the symmetric root of G G^T, which is used in its place, on d noises with the same law.
Sources: Anderson (1982) for the reverse SDE; Van Loan (1978) for the Gramian.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import Dense
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.gaussian import is_singular
from ensembletheory.laws.mixture import weighted_components
from ensembletheory.laws.weights import relative_terms
from ensembletheory.linalg import sqrtm, transition
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.path import as_gaussians, refuse_unnoised
from ensembletheory.processes.process import Process

__all__ = ["LinearSde"]


class LinearSde(Process):
    """dX = A X dt + G dW on R^d.

    Args:
        A: (d, d), the drift matrix.
        G: (d, m), the noise matrix.
        horizon: the time of the noise.

    Raises:
        ValueError: if the shapes do not agree, a value is not finite, or the horizon is not positive.
    """

    A: Float[Array, "d d"]
    G: Float[Array, "d d"]  # the symmetric root of what was given, times its transpose
    horizon: Float[Array, ""]

    def __init__(self, A: Numbers, G: Numbers, horizon: Numbers = 1.0):
        self.A, noise = as_floats("A", A), as_floats("G", G)
        if self.A.ndim != 2 or self.A.shape[0] != self.A.shape[1] or self.A.size == 0:
            refuse("A", f"shape {self.A.shape}", "a square matrix (d, d)", "For a scalar drift see OrnsteinUhlenbeck.")
        if noise.ndim != 2 or noise.shape[0] != self.dim:
            refuse("G", f"shape {noise.shape}", f"({self.dim}, m)", "One row a coordinate, one column a noise; for G G^T = Q pass a root of Q.")
        self.G, self.horizon = _root(noise), positive("horizon", horizon)

    @property
    def dim(self) -> int:
        """The dimension d."""
        return self.A.shape[0]

    def drift(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """A x."""
        return self.A @ x

    def spread(self, t: Float[Array, ""], y: Float[Array, " d"]) -> Float[Array, " d"]:
        """G G^T y."""
        return self.G @ (self.G @ y)

    def disturbance(self, t: Float[Array, ""], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """The symmetric root of G G^T, times z."""
        return self.G @ z

    def kernel(self, s: Numbers, t: Numbers, dim: int | None = None) -> AffineKernel:
        """The law of X_t given X_s, s <= t.

        Raises:
            ValueError: unless 0 <= s <= t <= horizon, or if `dim` is given and not the dimension of the process.
        """
        s, t = self.checked_interval(s, t)
        if dim not in (None, self.dim):
            refuse("dim", str(dim), f"{self.dim}, the dimension of the process", "Leave it out.")
        return _kernel(self, t - s)

    def marginal(self, law: Law, t: Numbers) -> Law:
        """The law of X_t when X_0 has `law`: a Gaussian of a Gaussian, else a mixture.

        Raises:
            ValueError: if t is not within [0, horizon], or the dimensions differ.
            TypeError: if `law` is none of Gaussian, GaussianMixture and FiniteLaw.
        """
        time = self.checked_time("t", t)
        if is_singular(law) and is_concrete(time) and float(time) == 0:
            return law
        return _moved(self, self._required(law), time)

    def score(self, law: Law) -> Field:
        """The exact grad log p_t when X_0 has `law`."""
        return _LinearField(self, self._required(law), "score")

    def denoiser(self, law: Law) -> Field:
        """The exact E[X_0 | X_t = x] when X_0 has `law`."""
        return _LinearField(self, self._required(law), "denoiser")

    def velocity(self, law: Law) -> Field:
        """The exact probability-flow velocity A x - (1/2) G G^T score when X_0 has `law`."""
        return _LinearField(self, self._required(law), "velocity")

    def _required(self, law: Law) -> Gaussian | GaussianMixture:
        if law.dim != self.dim:
            refuse("law", f"dimension {law.dim}", f"dimension {self.dim}, that of the process", "Give the process and the law the same dimension.")
        return as_gaussians(law)


class _LinearField(Field):
    process: LinearSde
    law: Gaussian | GaussianMixture
    readout: str = eqx.field(static=True)

    @property
    def kind(self) -> str:
        return self.readout

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        self.check(t)
        noised = _moved(self.process, self.law, t)
        if self.readout == "score":
            return noised._score(x)
        if self.readout == "velocity":
            return self.process.drift(t, x) - self.process.spread(t, noised._score(x)) / 2
        (weights, own), (_, seen) = weighted_components(self.law), weighted_components(noised)
        E = transition(self.process.A, jnp.zeros_like(self.process.A), t)[0]

        def mean(component: Gaussian, later: Gaussian) -> Float[Array, " d"]:
            return component.mean + component.covariance.matvec(E.T @ later.covariance.solve(x - later.mean))

        return relative_terms(weights, jax.vmap(lambda later: later._log_prob(x))(seen)) @ jax.vmap(mean)(own, seen)

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse time 0, where it can be looked at, for data without a density."""
        if is_concrete(t) and float(t) == 0:
            refuse_unnoised(self.law, t)


@jax.jit
def _root(G: Float[Array, "d m"]) -> Float[Array, "d d"]:
    """The symmetric root of G G^T."""
    return sqrtm(G @ G.T)


@eqx.filter_jit
def _kernel(process: LinearSde, h: Float[Array, ""]) -> AffineKernel:
    E, W = transition(process.A, process.G @ process.G, h)
    return AffineKernel(E, jnp.zeros(process.dim), Dense(W))


@eqx.filter_jit
def _moved(process: LinearSde, law: Gaussian | GaussianMixture, t: Float[Array, ""]) -> Gaussian | GaussianMixture:
    moved = _kernel(process, t).push(law)
    assert isinstance(moved, Gaussian | GaussianMixture)
    return moved
