r"""Analytic-DPM on any Gaussian path, with `field` a denoiser D: DDIM's mean with the best isotropic variance.

With lambda^2 = eta^2 tau^2 (see `Ddim`) and V_t = E tr Cov(X_0 | X_t) / d,

    x_s = a_s D + sqrt(s_s^2 - lambda^2) eps + sigma z,     sigma^2 = lambda^2 + (a_s - sqrt(s_s^2 - lambda^2) a_t / s_t)^2 V_t.

V_t = (s_t^2 / a_t^2) (1 - s_t^2 E|score|^2 / d) lies between 0 and s_t^2 / a_t^2. Exact for isotropic Gaussian data whatever the grid, the step to time 0 with its noise
included (the original leaves that noise out). Source: Bao et al. (2022), theorem 1, for VP; the general path is derived here.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats
from ensembletheory.fields import Field
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.laws.weights import relative_terms
from ensembletheory.processes import GaussianPath, Process
from ensembletheory.processes.path import as_gaussians
from ensembletheory.samplers.ddim import posterior_variance, towards
from ensembletheory.samplers.scheme import Scheme, gaussian_path

__all__ = ["AnalyticDpm", "mean_posterior_variance"]


class AnalyticDpm(Scheme):
    """Analytic-DPM for data of a known law; takes a denoiser.

    Args:
        process: the path.
        law: of the data: a Gaussian, or a mixture on the line or the plane.
        grid: the times at which steps begin, as given to the sampler.
        eta: 1 for the variance of DDPM, 0 for that of DDIM.
    """

    takes: ClassVar[str] = "denoiser"
    times: Float[Array, " n"]  # increasing
    variances: Float[Array, " n"]  # V at the times
    eta: float = eqx.field(static=True)

    def __init__(self, process: GaussianPath, law: Law, grid: Numbers, eta: float = 1.0):
        self.times, self.eta = jnp.sort(as_floats("grid", grid)), eta
        self.variances = _at_all(process, law, self.times)

    @property
    def draws(self) -> int:
        """One."""
        return 1

    def step(self, process: Process, field: Field, t: Float[Array, ""], s: Float[Array, ""], x: Float[Array, " d"], z: Float[Array, "m d"]) -> Float[Array, " d"]:
        """The point at time s < t that follows x at time t, one of the times the scheme was made for."""
        path = gaussian_path(self, process)
        own = self.eta**2 * posterior_variance(path, t, s)
        unknown = path.a(s) - jnp.sqrt(jnp.maximum(path.noise_variance(s) - own, 0.0)) * path.a(t) / jnp.sqrt(path.noise_variance(t))
        variance = own + unknown**2 * jnp.interp(t, self.times, self.variances)
        return towards(path, field(t, x), own, t, s, x) + jnp.sqrt(variance) * z[0]


@eqx.filter_jit
def _at_all(process: GaussianPath, law: Law, times: Float[Array, " n"]) -> Float[Array, " n"]:
    return jax.lax.map(lambda t: mean_posterior_variance(process, law, t), times)


def mean_posterior_variance(process: GaussianPath, law: Law, t: Float[Array, ""]) -> Float[Array, ""]:
    """V_t = E tr Cov(X_0 | X_t) / d: in closed form for a Gaussian, by quadrature for a mixture in d <= 2.

    Raises:
        ValueError: for a mixture in more than two dimensions.
    """
    noise = process.noise_variance(t)
    noised = process.marginal(law, t)
    if isinstance(law, Gaussian) and isinstance(noised, Gaussian):
        return noise * _trace_of_ratio(law, noised) / law.dim
    unknown = expectation(noised, _posterior_trace, (noised, (as_gaussians(law),), process.a(t), noise)).value / law.dim
    return jnp.where(noise > 0, unknown, 0.0)  # atoms have no density without noise


def _posterior_trace(
    x: Float[Array, " d"], noised: GaussianMixture, data: tuple[GaussianMixture], a: Float[Array, ""], noise: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The trace of Cov(X_0 | X_t = x), within and between the components: a sum of positive terms, which cancel nowhere."""
    responsibilities = relative_terms(noised.weights, noised._joint(x))

    def posterior(component: Gaussian, seen: Gaussian) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        return component.mean + a * component.covariance.matvec(seen.covariance.solve(x - seen.mean)), noise * _trace_of_ratio(component, seen)

    means, traces = jax.vmap(posterior)(data[0].components, noised.components)
    spread = jnp.sum((means - (responsibilities @ means)[None, :]) ** 2, axis=1)
    value = responsibilities @ (traces + spread)
    return value, value


@eqx.filter_jit
def _trace_of_ratio(law: Gaussian, noised: Gaussian) -> Float[Array, ""]:
    """tr(S C^{-1})."""
    return jnp.trace(jax.vmap(noised.covariance.solve)(law.cov))
