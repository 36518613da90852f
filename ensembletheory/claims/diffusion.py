r"""Claims about sampled diffusions: exact solutions of the reverse dynamics, and what their discretisations keep of them.

**SDE before ODE.** On the eigenvalues of Gaussian data, noised to l_t at time t, the reverse dynamics of churn e = eta^2 begun off p_T = N(m_T, l_T) at N(m, v) comes out
at p_t but for a part of that error: with r = (a_T / a_t)^2 l_t / l_T <= 1 (`processes.continuous`),

    mean m_t + (r^e l_t / l_T)^{1/2} (m - m_T),      variance l_t + r^e (l_t / l_T) (v - l_T),

so churn is nearer to p_t in W2 than the flow, e = 0, for every spectrum, schedule and time, and every start in the same eigenbasis. Proposition 4 of Pierret & Galerne (2025)
is e = 1 from N(0, I). It is a statement about exact solutions: Euler-Maruyama in few steps is not before Euler.

**Fixed point.** N(0, I) is its own noised law, and its velocity under a VP diffusion is 0: Euler, Heun and RK4 leave it alone, and so does DDPM, with (1 - b) + b = 1. In
one step of length h, Euler-Maruyama makes its variance 1 + (h b/2)^2 and the exponential integrator 1 + 2 (a_s / a_t - 1)^2.

**Analytic-DPM.** With V_t = E tr Cov(X_0 | X_t) / d and c = a_s - (s_s^2 - lambda^2)^{1/2} a_t / s_t its variance is sigma^2 = lambda^2 + c^2 V_t. The best affine estimate of
X_0 gives V_t <= v s_t^2 / (a_t^2 v + s_t^2) for data of variance v, which is at most the bound s_t^2 / a_t^2 of Bao et al. (2022).
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import w2_squared
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, GaussianMixture, Law, standard_normal
from ensembletheory.processes import VariancePreserving, reverse_kernel
from ensembletheory.samplers import AnalyticDpm, Ddim, Ddpm, Euler, EulerMaruyama, ExponentialIntegrator, Heun, Rk4, Sampler, Scheme

__all__ = ["analytic_dpm_isotropic", "analytic_dpm_variance_bounds", "early_stopping_monotone", "edm_preconditioner_zero", "sde_before_ode", "unit_eigenvalue_fixed_point"]

RATES = positive(0.1, 20, shape=(2,))
STEPS = simplex(4)
SHORTEST = 0.05  # steps of a grid, in units of the horizon


def _path(rates: Float[Array, " 2"]) -> VariancePreserving:
    return VariancePreserving(rates[0], rates[1])


def _grid(path: VariancePreserving, steps: Float[Array, " n"]) -> Float[Array, " m"]:
    """Times from the horizon to 0 whose steps are `steps`, none below `SHORTEST`."""
    lengths = SHORTEST + (1 - SHORTEST * steps.shape[0]) * steps
    return path.horizon * jnp.concatenate([jnp.ones(1), 1 - jnp.cumsum(lengths)[:-1], jnp.zeros(1)])


def _distance(p: Law, q: Law) -> Float[Array, ""]:
    """The largest difference of means and covariances."""
    return jnp.maximum(jnp.max(jnp.abs(p.mean - q.mean)), jnp.max(jnp.abs(p.cov - q.cov)))


STARTED = Domain(
    mean=real(-3, 3, shape=(2,)),
    spectrum=positive(0.01, 100, shape=(2,)),
    start_mean=real(-3, 3, shape=(2,)),
    start_spectrum=positive(0.01, 100, shape=(2,)),
    rates=RATES,
    time=real(0, 1),
    churn=real(0, 3),
)


def _lead_of_churn(mean, spectrum, start_mean, start_spectrum, rates, time, churn) -> Estimate:
    path, data, start = _path(rates), Gaussian(mean, spectrum), Gaussian(start_mean, start_spectrum)
    target = path.marginal(data, time)
    flow, churned = (w2_squared(reverse_kernel(path, data, time, path.horizon, eta).push(start), target) for eta in (0.0, churn))
    return flow - churned


def _lead_of_the_flow(**instance) -> Estimate:
    return -_lead_of_churn(**instance)


def _lead_of_euler_maruyama(mean, spectrum, start_mean, start_spectrum, rates, steps) -> Estimate:
    path, data, start = _path(rates), Gaussian(mean, spectrum), Gaussian(start_mean, start_spectrum)
    grid = _grid(path, steps)
    by_flow = Sampler(path, path.velocity(data), Euler(), grid).law(start)
    by_sde = Sampler(path, path.score(data), EulerMaruyama(), grid).law(start)
    return w2_squared(by_flow, data) - w2_squared(by_sde, data)


def _nothing_to_forget() -> Iterator[dict[str, Any]]:
    """Data N(0, I) begun there, any data at the horizon, where generation has not begun, and no churn."""
    start = {"start_mean": [0.0, 0.0], "start_spectrum": [1.0, 1.0], "rates": [0.1, 20.0]}
    yield {"mean": [0.0, 0.0], "spectrum": [1.0, 1.0], "time": 0.4, "churn": 1.0, **start}
    yield {"mean": [1.0, -2.0], "spectrum": [4.0, 0.1], "time": 1.0, "churn": 1.0, **start}
    yield {"mean": [1.0, -2.0], "spectrum": [4.0, 0.1], "time": 0.0, "churn": 0.0, **start}


@claim(
    id="diffusion-sde-before-ode",
    statement=r"W_2(p^\eta_t, p_t) \leq W_2(p^0_t, p_t), \quad p^\eta_T = p^0_T = \mathcal{N}(m, V), \; p_0 = \mathcal{N}(\mu, S), \; VS = SV, \; \eta \geq 0",
    source="Pierret & Galerne (2025), proposition 4, for the reverse SDE (churn 1) from N(0, I) and centred data; other churn and other starts are derived here",
    domain=STARTED,
    kind="theorem",
    references=["pierret2025diffusion", "song2021scorebased"],
    equality=_nothing_to_forget,
    mutants={
        "ode-before-sde": Mutant("the order: the flow before the SDE", _lead_of_the_flow),
        "four-steps": Mutant(
            "exact solutions: Euler-Maruyama and Euler in four steps",
            _lead_of_euler_maruyama,
            Domain(**{name: part for name, part in STARTED.parts.items() if name not in ("time", "churn")}, steps=STEPS),
        ),
    },
    proof="The variances' error is kept with the factor l_t / l_T by the flow and with r^e <= 1 times that by the SDE, the means' with the roots; W2 is monotone in both.",
)
def sde_before_ode(mean, spectrum, start_mean, start_spectrum, rates, time, churn) -> Estimate:
    """What churn takes from the squared W2 error of the flow."""
    return _lead_of_churn(mean, spectrum, start_mean, start_spectrum, rates, time, churn)


SHORT_STEPS = Domain(rates=positive(0.05, 0.95, shape=(2,)), steps=STEPS)  # DDPM's b stays below 1
KEEPING = (Euler(), Heun(), Rk4(), Ddpm())


def _drift_of_the_law(rates, steps, schemes: tuple[Scheme, ...], variance=1.0) -> Estimate:
    """Minus the largest change of N(0, variance) from the horizon to the data."""
    path, law = _path(rates), Gaussian(jnp.zeros(1), jnp.reshape(variance, (1,)))
    grid, fields = _grid(path, steps), {"score": path.score(law), "velocity": path.velocity(law)}
    changes = [_distance(Sampler(path, fields[scheme.takes], scheme, grid).law(law), law) for scheme in schemes]
    return closed_form(-jnp.max(jnp.stack(changes)))


def _some_grids() -> Iterator[dict[str, Any]]:
    yield {"rates": [0.1, 0.9], "steps": [0.25] * 4}
    yield {"rates": [0.5, 0.2], "steps": [0.7, 0.0, 0.1, 0.2]}


@claim(
    id="unit-eigenvalue-fixed-point",
    statement=r"\mathcal{N}(0, I)\ \mathrm{is\ kept\ by\ Euler,\ Heun,\ RK4\ and\ DDPM\ on\ every\ grid,\ for\ data}\ \mathcal{N}(0, I)",
    source="derived here, from the recursions of Pierret & Galerne (2025)",
    domain=SHORT_STEPS,
    kind="theorem",
    references=["pierret2025diffusion", "ho2020denoising"],
    equality=_some_grids,
    mutants={
        "euler-maruyama": Mutant("the scheme: Euler-Maruyama, which makes 1 + (h b / 2)^2 of 1", lambda rates, steps: _drift_of_the_law(rates, steps, (EulerMaruyama(),))),
        "exponential-integrator": Mutant(
            "the scheme: the exponential integrator, which makes 1 + 2 (a_s / a_t - 1)^2 of 1",
            lambda rates, steps: _drift_of_the_law(rates, steps, (ExponentialIntegrator(),)),
        ),
        "another-eigenvalue": Mutant(
            "the eigenvalue 1: data and start N(0, v), for Heun",
            lambda rates, steps, variance: _drift_of_the_law(rates, steps, (Heun(),), variance),
            SHORT_STEPS.replace(variance=positive(0.1, 10)),
        ),
    },
    proof="The velocity at N(0, I) is a a' + s s' = 0 times x. DDPM: x <- (1 - b) x / (1 - b)^{1/2} + b^{1/2} z keeps the variance (1 - b) + b = 1.",
)
def unit_eigenvalue_fixed_point(rates, steps) -> Estimate:
    """Minus the largest change of the law over the four schemes: 0 everywhere."""
    return _drift_of_the_law(rates, steps, KEEPING)


ISOTROPIC = Domain(mean=real(-3, 3, shape=(2,)), variance=positive(0.05, 20), rates=RATES, steps=STEPS)


def _sampled_in_few_steps(mean, variances, rates, steps, scheme: Scheme | None = None) -> Estimate:
    """Minus the distance from the data of what four steps from p_T make, by default of Analytic-DPM with lambda^2 a quarter of the posterior's variance."""
    path, data = _path(rates), Gaussian(mean, variances)
    grid = _grid(path, steps)
    scheme = AnalyticDpm(path, data, grid, eta=0.5) if scheme is None else scheme
    sampled = Sampler(path, path.denoiser(data), scheme, grid).law(path.marginal(data, path.horizon))
    return closed_form(-_distance(sampled, data))


def _any_covariance(mean, variance, rates, steps) -> Estimate:
    return _sampled_in_few_steps(mean, variance, rates, steps)


def _posterior_variance_alone(mean, variance, rates, steps) -> Estimate:
    return _sampled_in_few_steps(mean, variance * jnp.ones(2), rates, steps, Ddim(1.0))


def _some_isotropic_data() -> Iterator[dict[str, Any]]:
    yield {"mean": [0.0, 0.0], "variance": 4.0, "rates": [0.1, 20.0], "steps": [0.25] * 4}
    yield {"mean": [1.0, -2.0], "variance": 0.25, "rates": [5.0, 1.0], "steps": [0.1, 0.6, 0.3, 0.0]}


@claim(
    id="analytic-dpm-isotropic",
    statement=r"p_0 = \mathcal{N}(\mu, v I) \ \Rightarrow \ \mathrm{Analytic\ DPM\ takes}\ p_T\ \mathrm{to}\ p_0\ \mathrm{exactly,\ in\ any\ steps,\ for\ any}\ \lambda",
    source="derived here, from the optimal variance of Bao et al. (2022)",
    domain=ISOTROPIC,
    kind="theorem",
    references=["bao2022analytic"],
    equality=_some_isotropic_data,
    mutants={
        "any-covariance": Mutant("isotropic data: two variances", _any_covariance, ISOTROPIC.replace(variance=positive(0.05, 20, shape=(2,)))),
        "posterior-variance": Mutant("the variance: that of X_s given X_t and X_0, as in DDPM", _posterior_variance_alone),
    },
    proof="X_s given X_t is Gaussian with a mean that is affine in E[X_0 | X_t] and X_t, as in the step, and with covariance sigma^2 I: the step draws from it.",
)
def analytic_dpm_isotropic(mean, variance, rates, steps) -> Estimate:
    """Minus the distance of the sampled law from the data: 0 everywhere."""
    return _sampled_in_few_steps(mean, variance * jnp.ones(2), rates, steps)


ONE_STEP = Domain(weights=simplex(2), means=real(-3, 3, shape=(2,)), variances=positive(0.1, 10, shape=(2,)), rates=RATES, time=real(0.1, 1), share=real(0, 1))


def _slack_of_the_variance(weights, means, variances, rates, time, share, factor: float = 1.0) -> Estimate:
    """The smaller of sigma^2 - lambda^2 and (factor times the bound) - sigma^2, for the step from `time` to the part `share` of it."""
    path, data, s = _path(rates), GaussianMixture(weights, means[:, None], variances[:, None]), share * time
    a, noise, a_s, noise_s = path.a(time), path.noise_variance(time), path.a(s), path.noise_variance(s)
    own = noise_s / noise * (noise - (a / a_s) ** 2 * noise_s)
    scheme, no_field = AnalyticDpm(path, data, jnp.stack([time, path.horizon])), path.denoiser(standard_normal(1))
    drawn, undrawn = (scheme.step(path, no_field, time, s, jnp.zeros(1), jnp.full((1, 1), z)) for z in (1.0, 0.0))
    variance, spread = jnp.sum((drawn - undrawn) ** 2), data.cov[0, 0]
    most = own + factor * (a_s - jnp.sqrt(noise_s - own) * a / jnp.sqrt(noise)) ** 2 * spread * noise / (a**2 * spread + noise)
    return closed_form(jnp.minimum(variance - own, most - variance))


def _smaller_bound(**instance) -> Estimate:
    return _slack_of_the_variance(**instance, factor=0.95)


def _gaussian_data() -> Iterator[dict[str, Any]]:
    for mean, variance, time in ((0.0, 4.0, 0.5), (1.0, 0.25, 0.2)):
        yield {"weights": [0.25, 0.75], "means": [mean] * 2, "variances": [variance] * 2, "rates": [0.1, 20.0], "time": time, "share": 0.5}


@claim(
    id="analytic-dpm-variance-bounds",
    statement=r"\lambda^2 \leq \sigma^2 \leq \lambda^2 + c^2 \frac{v s_t^2}{a_t^2 v + s_t^2}, \quad c = a_s - \sqrt{s_s^2 - \lambda^2} \, a_t / s_t",
    source="Bao et al. (2022), with lambda^2 + c^2 s_t^2 / a_t^2 on the right; the smaller bound, which knows the variance v of the data, is derived here",
    domain=ONE_STEP,
    kind="theorem",
    references=["bao2022analytic"],
    equality=_gaussian_data,
    mutants={"smaller-bound": Mutant("the constant: 0.95 of the part that c^2 multiplies", _smaller_bound)},
    proof="E Var(X_0 | X_t) is at least 0 and at most the error of the best affine estimate of X_0 from X_t.",
)
def analytic_dpm_variance_bounds(weights, means, variances, rates, time, share) -> Estimate:
    """The smaller of the slacks on both sides, for mixtures on the line."""
    return _slack_of_the_variance(weights, means, variances, rates, time, share)


PRECONDITIONED = Domain(deviation=positive(0.1, 10), rates=RATES, time=real(0.1, 1), point=real(-5, 5, shape=(2,)))


def _residual_network(deviation, rates, time, point, mean=0.0, variance=None) -> Estimate:
    """Minus the size of F = (D - c_skip y) / c_out at y = x / a, sigma = s / a."""
    path = _path(rates)
    data = Gaussian(jnp.full(2, mean), deviation**2 if variance is None else variance)
    y, sigma = point / path.a(time), path.noise_level(time)
    total = deviation**2 + sigma**2
    skip, out = deviation**2 / total, sigma * deviation / jnp.sqrt(total)
    return closed_form(-jnp.max(jnp.abs(path.denoiser(data)(time, point) - skip * y)) / out)


def _another_variance(deviation, rates, time, point, variance) -> Estimate:
    return _residual_network(deviation, rates, time, point, variance=variance)


def _off_centre(deviation, rates, time, point) -> Estimate:
    return _residual_network(deviation, rates, time, point, mean=1.0)


def _some_noise_levels() -> Iterator[dict[str, Any]]:
    for deviation, time in ((0.5, 0.2), (0.5, 0.8), (3.0, 0.5)):
        yield {"deviation": deviation, "rates": [0.1, 20.0], "time": time, "point": [1.0, -2.0]}


@claim(
    id="edm-preconditioner-zero",
    statement=r"p_0 = \mathcal{N}(0, \sigma_d^2 I), \; E[X_0 | x] = c_\mathrm{skip}\, x + c_\mathrm{out}\, F(c_\mathrm{in}\, x) \ \Rightarrow \ F = 0",
    source="derived here, from the preconditioning of Karras et al. (2022)",
    domain=PRECONDITIONED,
    kind="theorem",
    references=["karras2022elucidating"],
    equality=_some_noise_levels,
    mutants={
        "another-variance": Mutant("the variance: of the data, another than sigma_d^2", _another_variance, PRECONDITIONED.replace(variance=positive(0.01, 100))),
        "off-centre": Mutant("centred data: mean 1", _off_centre),
    },
    proof="c_skip = sigma_d^2 / (sigma_d^2 + sigma^2) is the regression coefficient of X_0 on X_0 + sigma Z.",
)
def edm_preconditioner_zero(deviation, rates, time, point) -> Estimate:
    """Minus the size of F: 0 everywhere."""
    return _residual_network(deviation, rates, time, point)


def _error_of_heun(variance, rates, end) -> Estimate:
    """Squared W2 from the data of Heun's law at time `end`, in eight equal steps from N(0, 1)."""
    path, data = _path(rates), Gaussian(jnp.zeros(1), variance[None])
    grid = path.horizon + (end - path.horizon) * jnp.linspace(0.0, 1.0, 9)
    return w2_squared(Sampler(path, path.velocity(data), Heun(), grid).law(standard_normal(1)), data)


@claim(
    id="early-stopping-monotone",
    statement=r"W_2(p^{\mathrm{Heun}}_{\epsilon}, p_0) \leq W_2(p^{\mathrm{Heun}}_{\epsilon'}, p_0), \quad \epsilon \leq \epsilon'",
    source="what the tables of Pierret & Galerne (2025) suggest for one-stage schemes: the error falls as the grid ends earlier; refuted here for Heun",
    domain=Domain(variance=positive(1 / 64, 10), rates=RATES, end=positive(1 / 64, 0.2), share=real(0.1, 0.9)),
    kind="refuted",
    references=["pierret2025diffusion"],
    proof="Heun looks at its last time, where the velocity of a small variance v is of the order 1/v: it overshoots the more, the nearer to 0 the grid ends.",
)
def early_stopping_monotone(variance, rates, end, share) -> Estimate:
    """What the earlier end, `share` of the later one, takes from the squared error."""
    return _error_of_heun(variance, rates, end) - _error_of_heun(variance, rates, share * end)
