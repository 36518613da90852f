r"""Claims about information lost as noise is added: stochastic localisation, decay of KL, de Bruijn's identity.

Along a VP diffusion X_t = a_t X_0 + s_t Z, a^2 + s^2 = 1, with Sigma_t = Cov(X_0 | X_t):

    (s^3 / (2 s')) d/dt E Sigma_t = E Sigma_t^2,

for the ratio a^2 / s^2 = 1 / s^2 - 1 has the derivative -2 s' / s^3, and d E Sigma = -E Sigma^2 d(a^2 / s^2) (Guo, Wu, Shamai & Verdu 2011). Benton et al. (2024) bound
the discretisation error of samplers with it, for the Ornstein-Uhlenbeck process a = e^{-t}.

Two laws noised alike grow alike: with F(p || q) = E_p |grad log p - grad log q|^2,

    d/dt KL(p_t || q_t) = -(g_t^2 / 2) F(p_t || q_t),      KL(p || q) = 1/2 int_0^T g_t^2 F(p_t || q_t) dt + KL(p_T || q_T),

so that the Fisher divergences of all noise levels together see what that of the data does not (`claims.blindness`). With q = N(0, I), which stays what it is, the logarithmic
Sobolev inequality KL <= F / 2 makes KL fall at least as fast as a_t^2, exactly so for translations of N(0, I).
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, simplex, spd
from ensembletheory.divergences import fisher_divergence, kl
from ensembletheory.estimate import Estimate
from ensembletheory.fields import Field
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.laws.expectation import expectation
from ensembletheory.processes import GaussianPath, OrnsteinUhlenbeck, VariancePreserving
from ensembletheory.quadrature import integrate

__all__ = ["de_bruijn", "de_bruijn_rate", "kl_decay_along_ou", "stochastic_localisation"]

RATES = positive(0.1, 5, shape=(2,))
MIXTURE = Domain(weights=simplex(2), means=real(-3, 3, shape=(2,)), variances=positive(0.1, 10, shape=(2,)))


def _mixture(weights, means, variances) -> GaussianMixture:
    return GaussianMixture(weights, means[:, None], variances[:, None])


LOCALISED = Domain(**MIXTURE.parts, cov=spd(2, 0.1, 10), rates=RATES, time=real(0.05, 1))


def _posterior_variance(x: Float[Array, " 1"], denoiser: Field, t: Float[Array, ""], slope: Float[Array, ""], power: int) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Var(X_0 | X_t = x) = (s^2 / a) dD/dx, to a power."""
    variance = slope * jax.jvp(lambda y: denoiser(t, y), (x,), (jnp.ones_like(x),))[1][0]
    return variance**power, jnp.abs(variance) ** power


def _linear(x, denoiser, t, slope):
    return _posterior_variance(x, denoiser, t, slope, 1)


def _squared(x, denoiser, t, slope):
    return _posterior_variance(x, denoiser, t, slope, 2)


def _defect_of_localisation(weights, means, variances, cov, rates, time, factor=1.0, squared_mean=False) -> Estimate:
    """Minus the sum of the relative defects for a mixture on the line, by quadrature, and a Gaussian in the plane, whose Sigma_t is Bayes' covariance."""
    path, law, plane = VariancePreserving(rates[0], rates[1]), _mixture(weights, means, variances), Gaussian(jnp.zeros(2), cov)
    noise, noise_rate = jax.value_and_grad(path.noise_variance)(time)
    scale = factor * noise**2 / noise_rate

    def mean_of(f, t: Float[Array, ""]) -> Estimate:
        return expectation(path.marginal(law, t), f, (path.denoiser(law), t, path.noise_variance(t) / path.a(t)))

    def posterior(t: Float[Array, ""]) -> Float[Array, "2 2"]:
        return path.kernel(0.0, t, 2).invert(plane).C.as_matrix()

    mean, rate = jax.jvp(lambda t: mean_of(_linear, t).value, (time,), (jnp.ones_like(time),))
    squared = mean_of(_squared, time)
    on_the_line = scale * rate - (mean**2 if squared_mean else squared.value)
    posterior_cov, posterior_rate = jax.jvp(posterior, (time,), (jnp.ones_like(time),))
    in_the_plane = scale * posterior_rate - posterior_cov @ posterior_cov
    largest = jnp.max(jnp.abs(posterior_cov)) ** 2
    return Estimate(-jnp.abs(on_the_line) / (1 + squared.value) - jnp.max(jnp.abs(in_the_plane)) / (1 + largest), squared.error, "quadrature")


def _twice_the_rate(**instance) -> Estimate:
    return _defect_of_localisation(**instance, factor=2.0)


def _square_of_the_mean(**instance) -> Estimate:
    return _defect_of_localisation(**instance, squared_mean=True)


def _some_times() -> Iterator[dict[str, Any]]:
    data = {"weights": [0.3, 0.7], "means": [-2.0, 1.0], "variances": [0.25, 0.5], "cov": [[4.0, 1.0], [1.0, 0.5]]}
    for time in (0.1, 0.5, 1.0):
        yield {**data, "rates": [2.0, 2.0], "time": time}


@claim(
    id="stochastic-localisation",
    statement=r"\frac{s_t^3}{2 \dot{s}_t} \frac{d}{dt} E[\Sigma_t] = E[\Sigma_t^2], \quad \Sigma_t = \mathrm{Cov}(X_0 | X_t), \; X_t = \sqrt{1 - s_t^2} \, X_0 + s_t Z",
    source="Benton et al. (2024), for the Ornstein-Uhlenbeck process; the derivative in a^2 / s^2 is that of Guo, Wu, Shamai & Verdu (2011)",
    domain=LOCALISED,
    kind="theorem",
    references=["benton2024nearly", "guo2011estimation"],
    equality=_some_times,
    mutants={
        "twice": Mutant("the constant: s^3 / s' for s^3 / (2 s')", _twice_the_rate),
        "square-of-the-mean": Mutant("the mean of the square: the square of the mean, as for Gaussians", _square_of_the_mean),
    },
    proof="Observed as a^2 / s^2 grows, X_0 has a posterior whose covariance falls at the rate of its square, on average; a^2 / s^2 = 1 / s^2 - 1.",
)
def stochastic_localisation(weights, means, variances, cov, rates, time) -> Estimate:
    """Minus the sum of the relative defects, of a mixture on the line and a Gaussian in the plane: 0 everywhere."""
    return _defect_of_localisation(weights, means, variances, cov, rates, time)


NOISED = Domain(**MIXTURE.parts, time=real(0, 2))


def _gain_on_the_decay(weights, means, variances, time, rate=2.0, target=1.0, centred=False) -> Estimate:
    """KL(p || g) less exp(rate t) KL(p_t || g), along dX = -X dt + 2^{1/2} dW."""
    p, g = _mixture(weights, jnp.zeros_like(means) if centred else means, variances), Gaussian(jnp.zeros(1), target)
    noised = OrnsteinUhlenbeck(1.0, horizon=2.0).marginal(p, time)
    return kl(p, g) * jnp.exp(-rate * time) - kl(noised, g)


def _translations() -> Iterator[dict[str, Any]]:
    for mean, time in ((1.0, 0.5), (-2.5, 1.0), (2.0, 2.0)):
        yield {"weights": [0.25, 0.75], "means": [mean] * 2, "variances": [1.0, 1.0], "time": time}


@claim(
    id="kl-decay-along-ou",
    statement=r"\mathrm{KL}(p_t \,\|\, \mathcal{N}(0, I)) \leq e^{-2t} \, \mathrm{KL}(p_0 \,\|\, \mathcal{N}(0, I)), \quad dX = -X dt + \sqrt{2} \, dW",
    source="Bakry, Gentil & Ledoux (2014); the initial error of samplers in Chen et al. (2023)",
    domain=NOISED,
    kind="theorem",
    references=["bakry2014analysis", "chen2023sampling", "gross1975logarithmic"],
    equality=_translations,
    mutants={
        "faster": Mutant("the constant: e^{-2.1 t}", lambda **instance: _gain_on_the_decay(**instance, rate=2.1)),
        "centred": Mutant("the constant: e^{-4t}, for centred laws", lambda **instance: _gain_on_the_decay(**instance, rate=4.0, centred=True)),
        "wider-target": Mutant("the invariant law: N(0, 2), instead", lambda **instance: _gain_on_the_decay(**instance, target=2.0)),
    },
    proof="d/dt KL(p_t || g) = -F(p_t || g) <= -2 KL(p_t || g) by the logarithmic Sobolev inequality.",
)
def kl_decay_along_ou(weights, means, variances, time) -> Estimate:
    """e^{-2t} times the KL divergence at time 0, less that at time t."""
    return _gain_on_the_decay(weights, means, variances, time)


TWO_GAUSSIANS = Domain(mean=real(-3, 3, shape=(2,)), cov=spd(2, 0.1, 10), other_mean=real(-3, 3, shape=(2,)), other_cov=spd(2, 0.1, 10), rates=RATES)
PANELS = 12


def _loss_rate(path: GaussianPath, p: Gaussian, q: Gaussian, time: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    rate = path.diffusion(time[0]) / 2 * fisher_divergence(path.marginal(p, time[0]), path.marginal(q, time[0])).value
    return rate, rate


def _defect_of_de_bruijn(mean, cov, other_mean, other_cov, rates, constant=1.0, left=1.0) -> Estimate:
    """Minus |KL(p || q) - constant x 1/2 int g^2 F dt - left x KL(p_T || q_T)|, by quadrature over time, relative to KL(p || q)."""
    path, p, q = VariancePreserving(rates[0], rates[1]), Gaussian(mean, cov), Gaussian(other_mean, other_cov)
    lost = integrate(Partial(_loss_rate, path, p, q), (jnp.linspace(0.0, 1.0, PANELS + 1) ** 2 * path.horizon,))
    whole = kl(p, q).value
    gap = lost * constant + left * kl(path.marginal(p, path.horizon), path.marginal(q, path.horizon)) - whole
    return Estimate(-jnp.abs(gap.value), gap.error, gap.kind) * (1 / (1 + whole))


def _without_the_end(**instance) -> Estimate:
    return _defect_of_de_bruijn(**instance, left=0.0)


def _without_the_half(**instance) -> Estimate:
    return _defect_of_de_bruijn(**instance, constant=2.0)


def _some_pairs() -> Iterator[dict[str, Any]]:
    pair = {"mean": [1.0, 0.0], "cov": [[1.0, 0.5], [0.5, 2.0]], "other_mean": [-0.5, 1.0], "other_cov": [[2.0, 0.0], [0.0, 0.5]]}
    for rates in ([2.0, 2.0], [0.1, 5.0]):
        yield {**pair, "rates": rates}


@claim(
    id="de-bruijn",
    statement=r"\mathrm{KL}(p \,\|\, q) = \frac{1}{2} \int_0^T g_t^2 \, \mathrm{F}(p_t \,\|\, q_t) \, dt + \mathrm{KL}(p_T \,\|\, q_T)",
    source="de Bruijn's identity (Stam 1959), for two laws noised alike (Lyu 2009)",
    domain=TWO_GAUSSIANS,
    kind="theorem",
    references=["stam1959some", "lyu2009interpretation"],
    equality=_some_pairs,
    mutants={
        "without-the-end": Mutant("the infinite horizon: what noise has left is dropped", _without_the_end),
        "without-the-half": Mutant("the constant: 1 for 1/2", _without_the_half),
    },
    proof="Integrate d/dt KL(p_t || q_t) = -(g^2 / 2) F(p_t || q_t), which is integration by parts in the two Fokker-Planck equations; drifts cancel.",
)
def de_bruijn(mean, cov, other_mean, other_cov, rates) -> Estimate:
    """Minus the relative distance between the two sides, for Gaussians in the plane: 0 everywhere."""
    return _defect_of_de_bruijn(mean, cov, other_mean, other_cov, rates)


TWO_MIXTURES = Domain(
    **MIXTURE.parts,
    other_weights=simplex(2),
    other_means=real(-3, 3, shape=(2,)),
    other_variances=positive(0.1, 10, shape=(2,)),
    rates=RATES,
    time=real(0, 1),
)


def _defect_of_the_rate(weights, means, variances, other_weights, other_means, other_variances, rates, time, backwards=False) -> Estimate:
    """Minus the relative distance between d/dt KL(p_t || q_t), by autodiff of a quadrature, and -(g^2 / 2) F."""
    path, p, q = VariancePreserving(rates[0], rates[1]), _mixture(weights, means, variances), _mixture(other_weights, other_means, other_variances)
    rate = jax.jvp(lambda t: kl(path.marginal(p, t), path.marginal(q, t)).value, (time,), (jnp.ones_like(time),))[1]
    first, second = (q, p) if backwards else (p, q)
    loss = fisher_divergence(path.marginal(first, time), path.marginal(second, time)) * (path.diffusion(time) / 2)
    return Estimate(-jnp.abs(rate + loss.value), loss.error, loss.kind) * (1 / (1 + loss.value))


def _other_way_round(**instance) -> Estimate:
    return _defect_of_the_rate(**instance, backwards=True)


def _some_pairs_of_mixtures() -> Iterator[dict[str, Any]]:
    pair = {"weights": [0.5, 0.5], "means": [-2.0, 2.0], "variances": [1.0, 1.0], "other_means": [-2.0, 2.0], "other_variances": [1.0, 1.0]}
    for weights, time in (([0.8, 0.2], 0.0), ([0.3, 0.7], 0.5)):
        yield {**pair, "other_weights": weights, "rates": [0.1, 5.0], "time": time}


@claim(
    id="de-bruijn-rate",
    statement=r"\frac{d}{dt} \mathrm{KL}(p_t \,\|\, q_t) = -\frac{g_t^2}{2} \, E_{p_t} |\nabla \log p_t - \nabla \log q_t|^2 \quad (\mathrm{mixtures\ on\ the\ line})",
    source="de Bruijn's identity (Stam 1959), for two laws noised alike (Lyu 2009)",
    domain=TWO_MIXTURES,
    kind="theorem",
    references=["stam1959some", "lyu2009interpretation"],
    equality=_some_pairs_of_mixtures,
    mutants={"other-way-round": Mutant("the law of the expectation: the other one", _other_way_round)},
    proof="Integration by parts in the two Fokker-Planck equations; drifts cancel.",
)
def de_bruijn_rate(weights, means, variances, other_weights, other_means, other_variances, rates, time) -> Estimate:
    """Minus the relative distance between the two sides: 0 everywhere."""
    return _defect_of_the_rate(weights, means, variances, other_weights, other_means, other_variances, rates, time)
