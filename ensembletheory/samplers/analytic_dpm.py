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
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.processes import GaussianPath, Process
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
        self.variances = jnp.stack([mean_posterior_variance(process, law, t) for t in self.times])

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


def mean_posterior_variance(process: GaussianPath, law: Law, t: Float[Array, ""]) -> Float[Array, ""]:
    """V_t = E tr Cov(X_0 | X_t) / d: in closed form for a Gaussian, by quadrature for a mixture in d <= 2.

    Raises:
        ValueError: for a mixture in more than two dimensions.
    """
    noise = process.noise_variance(t)
    noised = process.marginal(law, t)
    if isinstance(law, Gaussian) and isinstance(noised, Gaussian):
        return noise * _trace_of_ratio(law, noised) / law.dim
    curvature = expectation(noised, _laplacian, (noised,)).value
    return noise / process.a(t) ** 2 * (1 + noise * curvature / law.dim)


def _laplacian(x: Float[Array, " d"], noised: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    second = jnp.diagonal(noised._hessian(x))
    return jnp.sum(second), jnp.sum(jnp.abs(second))


@eqx.filter_jit
def _trace_of_ratio(law: Gaussian, noised: Gaussian) -> Float[Array, ""]:
    """tr(S C^{-1})."""
    return jnp.trace(jax.vmap(noised.covariance.solve)(law.cov))
