r"""Stochastic interpolants: X_t = a_t X_0 + b_t X_1 + gamma_t W between a data point and a source point that may depend on each other, W ~ N(0, I) independent of both.

Time runs from data (0) to source (1). For a coupling with components N((m, n), [[S, C], [C^T, R]]), each component of X_t is Gaussian,

    mean a m + b n,     covariance Sigma = a^2 S + b^2 R + a b (C + C^T) + gamma^2 I,

and the velocity E[X'_t | X_t = x], X'_t = a' X_0 + b' X_1 + gamma' W, is the average over components by their responsibilities of

    a' m + b' n + Gamma Sigma^{-1} (x - a m - b n),     Gamma = Cov(X'_t, X_t) = a a' S + b b' R + a' b C + a b' C^T + (1/2) (gamma^2)' I.

The flow of the velocity v has the marginals of X_t, and with the score s so have, for any epsilon_t >= 0,

    dX = [v + epsilon s] dt + sqrt(2 epsilon) dW   (time running up),     dX = [v - epsilon s] dt + sqrt(2 epsilon) dW   (time running down).

With the independent coupling to N(0, I) and gamma = 0 this is the Gaussian path of a and b. Flows are run by a `Sampler` with any process of horizon 1.
Source: Albergo, Boffi & Vanden-Eijnden (2023); couplings in `processes.couplings`.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import Dense, refuse_singular
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.mixture import components, weighted_components, with_components
from ensembletheory.laws.weights import relative_terms
from ensembletheory.processes.couplings import halved
from ensembletheory.processes.interpolants import Coefficient, refuse_wrong_ends
from ensembletheory.processes.path import as_gaussians

__all__ = ["StochasticInterpolant"]


def _falling(t: Float[Array, ""]) -> Float[Array, ""]:
    return 1 - t


def _rising(t: Float[Array, ""]) -> Float[Array, ""]:
    return t


def _absent(t: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.zeros_like(t)


class StochasticInterpolant(eqx.Module):
    """X_t = a(t) X_0 + b(t) X_1 + gamma(t) W on [0, 1]; the default is linear without noise.

    Args:
        a: from 1 to 0.
        b: from 0 to 1.
        gamma: from 0 to 0. Its square is differentiated; where that has no finite slope in floating point, as for sqrt(t (1 - t)) at the ends, the velocity refuses.

    Raises:
        ValueError: if an end is wrong (beyond 1e-9).
    """

    a: Coefficient = _falling
    b: Coefficient = _rising
    gamma: Coefficient = _absent

    def __check_init__(self):
        refuse_wrong_ends({"a": (self.a, 1.0, 0.0), "b": (self.b, 0.0, 1.0), "gamma": (self.gamma, 0.0, 0.0)}, as_floats("horizon", 1.0))

    def moments(self, mean: Numbers, cov: Numbers, t: Numbers) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """The mean and covariance of X_t for any coupling with this mean (2d,) and covariance (2d, 2d), Gaussian or not."""
        return _moments(self, as_floats("mean", mean), as_floats("cov", cov), as_floats("t", t))

    def marginal(self, coupling: Law, t: Numbers) -> Gaussian | GaussianMixture:
        """The law of X_t: a Gaussian of a Gaussian coupling, else a mixture.

        Raises:
            ValueError: if t is not within [0, 1], or the dimension of the coupling is odd.
            TypeError: if the coupling is none of Gaussian, GaussianMixture and FiniteLaw.
        """
        time = as_floats("t", t)
        if is_concrete(time) and not 0 <= float(time) <= 1:
            refuse("t", f"{float(time):.6g}", "a time from 0 (data) to 1 (source)", "Time 0 is the data in every process here.")
        return _marginal(self, _checked(coupling), time)

    def score(self, coupling: Law) -> Field:
        """The exact grad log p_t."""
        return _InterpolantField(self, _checked(coupling), "score")

    def velocity(self, coupling: Law) -> Field:
        """The exact E[X'_t | X_t = x]."""
        return _InterpolantField(self, _checked(coupling), "velocity")

    def forward_drift(self, coupling: Law, epsilon: Coefficient | Numbers) -> Field:
        """The field v + epsilon s, with which dX = drift dt + sqrt(2 epsilon) dW has the marginals of X_t; epsilon >= 0 is a number or a function of time."""
        return _Drift(self.velocity(coupling), self.score(coupling), _function("epsilon", epsilon), 1.0)

    def reverse_drift(self, coupling: Law, epsilon: Coefficient | Numbers) -> Field:
        """The field v - epsilon s, with which dX = drift dt + sqrt(2 epsilon) dW, time running down, has the marginals of X_t."""
        return _Drift(self.velocity(coupling), self.score(coupling), _function("epsilon", epsilon), -1.0)

    def half_rate(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """The product gamma gamma', as half the derivative of gamma^2."""
        return jax.grad(lambda time: self.gamma(time) ** 2)(t) / 2


class _InterpolantField(Field):
    interpolant: StochasticInterpolant
    coupling: Gaussian | GaussianMixture
    readout: str = eqx.field(static=True)

    @property
    def kind(self) -> str:
        return self.readout

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        self.check(t)
        seen = _marginal(self.interpolant, self.coupling, t)
        if self.readout == "score":
            return seen._score(x)
        (weights, pairs), (_, marginals) = weighted_components(self.coupling), weighted_components(seen)
        rates = jax.grad(self.interpolant.a)(t), jax.grad(self.interpolant.b)(t), self.interpolant.half_rate(t)

        def mean(pair: Gaussian, marginal: Gaussian) -> Float[Array, " d"]:
            (m, n), (S, C, R) = _blocks(pair.mean, pair.cov)
            a, b, (da, db, noise) = self.interpolant.a(t), self.interpolant.b(t), rates
            y = marginal.covariance.solve(x - marginal.mean)
            return da * m + db * n + a * da * (S @ y) + b * db * (R @ y) + da * b * (C @ y) + a * db * (C.T @ y) + noise * y

        return relative_terms(weights, jax.vmap(lambda marginal: marginal._log_prob(x))(marginals)) @ jax.vmap(mean)(pairs, marginals)

    def check(self, t: Float[Array, ""]) -> None:
        """Refuse a time, where it can be looked at, at which X_t has no density or gamma^2 no slope."""
        if not is_concrete(t):
            return
        for k, component in enumerate(components(_marginal(self.interpolant, self.coupling, t))):
            refuse_singular(f"coupling, whose component {k} at time {float(t):.6g}", component.covariance)
        if self.readout == "velocity" and not np.isfinite(self.interpolant.half_rate(t)):
            refuse("t", f"{float(t):.6g}, where the slope of gamma^2 is {float(self.interpolant.half_rate(t))}", "a time inside (0, 1)", "Stay a little away from the ends.")


class _Drift(Field):
    velocity: Field
    score: Field
    epsilon: Coefficient
    sign: float = eqx.field(static=True)

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.velocity(t, x) + self.sign * self.epsilon(t) * self.score(t, x)


class _Constant(eqx.Module):
    value: Float[Array, ""]

    def __call__(self, t: Float[Array, ""]) -> Float[Array, ""]:
        return self.value


def _function(argument: str, value: Coefficient | Numbers) -> Coefficient:
    if isinstance(value, Callable):
        return value
    number = as_floats(argument, value)
    if is_concrete(number) and not np.all(number >= 0):
        refuse(argument, f"{float(number):.6g}", "a number >= 0", "0 is the flow.")
    return _Constant(number)


def _checked(coupling: Law) -> Gaussian | GaussianMixture:
    halved(coupling.dim)
    return as_gaussians(coupling)


def _blocks(mean: Float[Array, " pair"], cov: Float[Array, "pair pair"]):
    d = halved(mean.shape[0])
    return (mean[:d], mean[d:]), (cov[:d, :d], cov[:d, d:], cov[d:, d:])


@eqx.filter_jit
def _moments(
    interpolant: StochasticInterpolant, mean: Float[Array, " pair"], cov: Float[Array, "pair pair"], t: Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    (m, n), (S, C, R) = _blocks(mean, cov)
    a, b = interpolant.a(t), interpolant.b(t)
    return a * m + b * n, a**2 * S + b**2 * R + a * b * (C + C.T) + interpolant.gamma(t) ** 2 * jnp.eye(len(m), dtype=m.dtype)


@eqx.filter_jit
def _marginal(interpolant: StochasticInterpolant, coupling: Gaussian | GaussianMixture, t: Float[Array, ""]) -> Gaussian | GaussianMixture:
    def seen(pair: Gaussian) -> Gaussian:
        mean, cov = _moments(interpolant, pair.mean, pair.cov, t)
        return Gaussian(mean, Dense(cov))

    return with_components(coupling, seen)
