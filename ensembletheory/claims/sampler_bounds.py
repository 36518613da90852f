r"""Claims about bounds on the error of samplers: valid, tight on their equality families, and false once a hypothesis is dropped.

The bounds are those of `ensembletheory.samplers.bounds`. The models here have exact laws to compare with:

 - scores sum_k c_k s_k of Gaussian members, whose reverse SDE and probability flow sample Gaussians in closed form (`pooling.score_sum_law`);
 - scores of another Gaussian, frozen over the steps of an exponential integrator, whose law is that of its affine steps;
 - velocities v(t, x) + b x + c on the trigonometric path. With m_t and sigma_t the mean and deviation of X_t, y = (x - m_t) / sigma_t stands still under v, so that
   y' = b y + (b m_t + c) / sigma_t, and from y ~ N(0, 1) at time 1

       y_0 ~ N( - int_0^1 e^{-b t} (b m_t + c) / sigma_t dt, e^{-2b} ).

**Averages.** E |sum_k w_k s_k - s*|^2 <= sum_k w_k E |s_k - s*|^2, so that the bound of an averaged score is at most the average of the members' bounds. It can be above the
best member's, and it is a bound on the reverse SDE alone.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.members import gaussian, gaussians
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import kl, total_variation, w2
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.fields import Field
from ensembletheory.laws import FiniteLaw, Gaussian
from ensembletheory.pooling import score_sum_law
from ensembletheory.pooling.field_rules import WeightedSum
from ensembletheory.processes import GaussianPath, TrigonometricInterpolant, VariancePreserving
from ensembletheory.quadrature import integrate
from ensembletheory.samplers import ExponentialIntegrator, Sampler
from ensembletheory.samplers.bounds import Perturbed, albergo_bound, benton_bound, girsanov_bound, song_bound

__all__ = [
    "albergo_w2_bound",
    "benton_w2_bound",
    "ensemble_bound_below_average",
    "ensemble_bound_below_best",
    "girsanov_frozen_score",
    "pinsker",
    "song_bound_ode",
    "song_bound_sde",
]

RATES = positive(0.1, 5, shape=(2,))
MEMBERS = Domain(target_mean=real(-3, 3), target_variance=positive(0.1, 10), means=real(-3, 3, shape=(2,)), variances=positive(0.1, 10, shape=(2,)), weights=simplex(2))


def _path(rates: Float[Array, " 2"]) -> VariancePreserving:
    return VariancePreserving(rates[0], rates[1])


def _end_cost(path: GaussianPath, p: Gaussian) -> Estimate:
    """KL(p_T || N(0, 1))."""
    return kl(path.marginal(p, path.horizon), Gaussian([0.0], [1.0]))


SUMMED = Domain(**MEMBERS.parts, total=real(0.75, 1.5), rates=RATES)


def _slack_of_song(target_mean, target_variance, means, variances, weights, total, rates, reverse="sde", constant=1.0, end=1.0) -> Estimate:
    """`constant` times the path's part of the bound, plus `end` times that of the start, less the divergence from the law of the SDE (or of the flow)."""
    path, p, members = _path(rates), gaussian(target_mean, target_variance), gaussians(means, variances)
    score, start = WeightedSum([path.score(member) for member in members], total * weights), _end_cost(path, p)
    bound = (song_bound(path, p, score) - start) * constant + start * end
    return bound - kl(p, score_sum_law(members, path, total * weights, reverse))


def _standard_members() -> Iterator[dict[str, Any]]:
    """Models that stay N(0, 1), which is their noised end."""
    for mean, variance, rates in ((0.0, 4.0, [0.1, 5.0]), (2.0, 0.25, [2.0, 1.0]), (-1.0, 1.0, [0.5, 0.5])):
        yield {"target_mean": mean, "target_variance": variance, "means": [0.0] * 2, "variances": [1.0] * 2, "weights": [0.3, 0.7], "total": 1.0, "rates": rates}


@claim(
    id="song-bound-sde",
    statement=r"\mathrm{KL}(p \,\|\, p_s^{\mathrm{SDE}}) \leq \frac{1}{2} \int_0^T g_t^2 \, E_{p_t} |s - \nabla \log p_t|^2 \, dt + \mathrm{KL}(p_T \,\|\, \mathcal{N}(0, I))",
    source="Song, Durkan, Murray & Ermon (2021); for scores s = sum_k c_k s_k of Gaussian members",
    domain=SUMMED,
    kind="theorem",
    references=["song2021maximum", "anderson1982reverse"],
    equality=_standard_members,
    mutants={
        "ode": Mutant("the SDE: the probability flow", lambda **instance: _slack_of_song(**instance, reverse="ode")),
        "smaller-constant": Mutant("the constant: 0.45 for 1/2", lambda **instance: _slack_of_song(**instance, constant=0.9)),
        "without-the-start": Mutant("the start: KL(p_T || N(0, I)) is dropped", lambda **instance: _slack_of_song(**instance, end=0.0)),
    },
    proof="By Girsanov's theorem the right side is the divergence of the laws of whole paths, and projecting paths on their ends increases no divergence.",
)
def song_bound_sde(target_mean, target_variance, means, variances, weights, total, rates) -> Estimate:
    """The slack of the bound; 0 where s is the exact score of N(0, I)."""
    return _slack_of_song(target_mean, target_variance, means, variances, weights, total, rates)


@claim(
    id="song-bound-ode",
    statement=r"\mathrm{KL}(p \,\|\, p_s^{\mathrm{ODE}}) \leq \frac{1}{2} \int_0^T g_t^2 \, E_{p_t} |s - s^*|^2 \, dt + \mathrm{KL}(p_T \,\|\, \pi), \ s = (1 + c) s^*",
    source="song-bound-sde, for the probability flow; refuted here",
    domain=Domain(variance=positive(0.1, 10), excess=real(-0.125, 0.125)),
    kind="refuted",
    references=["song2021maximum", "song2021scorebased"],
    proof="The flow never forgets: a relative error c of the score changes its log-variance by c log(v_T e^I / v), that of the SDE by about log(1 + 2c).",
)
def song_bound_ode(variance, excess) -> Estimate:
    """The slack of the bound for the law of the flow, for centred data on Song's schedule."""
    path, p = VariancePreserving(), gaussian(jnp.zeros(()), variance)
    score = WeightedSum([path.score(p)], 1 + excess[None])
    return song_bound(path, p, score) - kl(p, score_sum_law([p], path, 1 + excess[None], "ode"))


FROZEN = Domain(
    mean=real(-3, 3),
    variance=positive(0.1, 10),
    model_mean=real(-3, 3),
    model_variance=positive(0.1, 10),
    rates=RATES,
    steps=simplex(4),
    length=real(0, 1),
)


def _frozen_run(mean, variance, model_mean, model_variance, rates, steps, length) -> tuple[Gaussian, Sampler]:
    """Data, and a model generated over the part `length` of time, in four steps."""
    path = _path(rates)
    grid = path.horizon * (1 - length * jnp.concatenate([jnp.zeros(1), jnp.minimum(jnp.cumsum(steps), 1.0)]))
    return gaussian(mean, variance), Sampler(path, path.score(gaussian(model_mean, model_variance)), ExponentialIntegrator(), grid)


def _slack_of_girsanov(constant=1.0, end=1.0, frozen=True, **instance) -> Estimate:
    """As `_slack_of_song`, for a score that is frozen; `frozen` False forgets that it is, and counts its error at the same time alone."""
    p, sampler = _frozen_run(**instance)
    path, stop = sampler.process, sampler.grid[-1]
    assert isinstance(path, GaussianPath)
    start = _end_cost(path, p)
    bound = girsanov_bound(sampler, p) if frozen else song_bound(path, p, sampler.field, end=stop)
    return (bound - start) * constant + start * end - kl(path.marginal(p, stop), sampler.law(Gaussian([0.0], [1.0])))


def _without_length() -> Iterator[dict[str, Any]]:
    """Runs that take no time."""
    for mean, variance in ((0.0, 4.0), (2.0, 0.25), (-1.0, 1.0)):
        yield {"mean": mean, "variance": variance, "model_mean": 1.0, "model_variance": 2.0, "rates": [0.1, 5.0], "steps": [0.25] * 4, "length": 0.0}


@claim(
    id="girsanov-frozen-score",
    statement=r"\mathrm{KL}(p_\epsilon \,\|\, \hat p) \leq \mathrm{KL}(p_T \,\|\, \mathcal{N}(0, I)) + \frac{1}{2} \sum_k \int_{t_{k+1}}^{t_k} g_t^2 \, "
    r"E |s_{t_k}(X_{t_k}) - \nabla \log p_t(X_t)|^2 \, dt",
    source="Chen, Chewi, Li, Li, Salim & Zhang (2023), with the constants of their proof; for scores of Gaussians in four steps of the exponential integrator",
    domain=FROZEN,
    kind="theorem",
    references=["chen2023sampling"],
    equality=_without_length,
    mutants={
        "smaller-constant": Mutant("the constant: 1/4 for 1/2", lambda **instance: _slack_of_girsanov(constant=0.5, **instance)),
        "without-the-start": Mutant("the start: KL(p_T || N(0, I)) is dropped", lambda **instance: _slack_of_girsanov(end=0.0, **instance)),
        "not-frozen": Mutant("the frozen score: its error at the time t itself", lambda **instance: _slack_of_girsanov(frozen=False, **instance)),
    },
    proof="Girsanov's theorem on the interpolated scheme. Of runs that take time it is tight in the limit alone, of the exact score and steps of no length.",
)
def girsanov_frozen_score(mean, variance, model_mean, model_variance, rates, steps, length) -> Estimate:
    """The slack of the bound; 0 for runs that take no time."""
    return _slack_of_girsanov(mean=mean, variance=variance, model_mean=model_mean, model_variance=model_variance, rates=rates, steps=steps, length=length)


FLOW = Domain(mean=real(-2, 2), deviation=positive(0.3, 3), slope=real(-3, 3), shift=real(-2, 2))
PATH = TrigonometricInterpolant()


def _displacement(mean, deviation, slope, shift, time: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    t = time[0]
    law = PATH.marginal(gaussian(mean, deviation**2), t)
    rate = jnp.exp(-slope * t) * (slope * law.mean[0] + shift) / jnp.sqrt(law.cov[0, 0])
    return rate, jnp.abs(rate)


def _flowed(mean, deviation, slope, shift) -> tuple[Gaussian, Field, Estimate]:
    """Data, the model's velocity, and W2 of its exact law."""
    p = gaussian(mean, deviation**2)
    displacement = integrate(Partial(_displacement, mean, deviation, slope, shift), (jnp.linspace(0.0, 1.0, 5),))
    model = gaussian(mean - deviation * displacement.value, (deviation * jnp.exp(-slope)) ** 2)
    distance = w2(p, model)
    return p, Perturbed(PATH.velocity(p), slope, shift), Estimate(distance.value, deviation * displacement.error, "quadrature")


def _constant(K: float, t: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.full_like(t, K)


def _slope_of_the_exact(p: Gaussian, t: Float[Array, ""]) -> Float[Array, ""]:
    """The Lipschitz constant of the exact velocity."""
    field = PATH.velocity(p)
    return jnp.abs(field(t, jnp.ones(1)) - field(t, jnp.zeros(1)))[0]


def _slack_of_w2(bound: Callable, mean, deviation, slope, shift, exact=False, stretching=True) -> Estimate:
    p, velocity, distance = _flowed(mean, deviation, slope, shift)
    constant = Partial(_slope_of_the_exact, p) if exact else None
    return bound(PATH, p, velocity, lipschitz=constant if stretching else Partial(_constant, 0.0)) - distance


def _displaced_alike() -> Iterator[dict[str, Any]]:
    """Errors that displace all points alike, on a path whose deviation stays what it is; and no error."""
    yield {"mean": 1.0, "deviation": 1.0, "slope": 0.0, "shift": 0.5}
    yield {"mean": -2.0, "deviation": 1.0, "slope": 0.0, "shift": -2.0}
    yield {"mean": 1.0, "deviation": 2.0, "slope": 0.0, "shift": 0.0}


def _no_error() -> Iterator[dict[str, Any]]:
    for mean, deviation in ((1.0, 2.0), (-2.0, 0.5)):
        yield {"mean": mean, "deviation": deviation, "slope": 0.0, "shift": 0.0}


@claim(
    id="benton-w2-bound",
    statement=r"W_2(p, p_w) \leq e^{\int_0^1 L_t dt} \left( \int_0^1 E |w - v|^2(t, X_t) \, dt \right)^{1/2}, \quad |w(t, x) - w(t, y)| \leq L_t |x - y|",
    source="Benton, Deligiannidis & Doucet (2024), theorem 1; for velocities w(t, x) = v(t, x) + b x + c",
    domain=FLOW,
    kind="theorem",
    references=["benton2024error"],
    equality=_displaced_alike,
    mutants={
        "of-the-exact-velocity": Mutant("the Lipschitz constant of w: that of v", lambda **instance: _slack_of_w2(benton_bound, exact=True, **instance)),
        "without-stretching": Mutant("the exponent: 0", lambda **instance: _slack_of_w2(benton_bound, stretching=False, **instance)),
    },
    proof="d|D| <= L |D| dt + |w - v| dt along paths of both flows begun together; Gronwall's inequality, Minkowski's and that of Cauchy and Schwarz.",
)
def benton_w2_bound(mean, deviation, slope, shift) -> Estimate:
    """The slack of the bound; 0 where an error displaces all points alike, at constant speed and without stretching."""
    return _slack_of_w2(benton_bound, mean, deviation, slope, shift)


@claim(
    id="albergo-w2-bound",
    statement=r"W_2^2(p, p_w) \leq e^{1 + 2K} \int_0^1 E |w - v|^2(t, X_t) \, dt, \quad |w(t, x) - w(t, y)| \leq K |x - y|",
    source="Albergo & Vanden-Eijnden (2023); for velocities w(t, x) = v(t, x) + b x + c",
    domain=FLOW,
    kind="theorem",
    references=["albergo2023building"],
    equality=_no_error,
    mutants={
        "of-the-exact-velocity": Mutant("the Lipschitz constant of w: that of v", lambda **instance: _slack_of_w2(albergo_bound, exact=True, **instance)),
        "without-stretching": Mutant("the exponent: 1 for 1 + 2K", lambda **instance: _slack_of_w2(albergo_bound, stretching=False, **instance)),
    },
    proof="d E|D|^2 <= (1 + 2K) E|D|^2 dt + E|w - v|^2 dt, and Gronwall's inequality; tight without error alone, for 2 D (w - v) <= |D|^2 + |w - v|^2 is.",
)
def albergo_w2_bound(mean, deviation, slope, shift) -> Estimate:
    """The slack of the bound; 0 without error."""
    return _slack_of_w2(albergo_bound, mean, deviation, slope, shift)


TWO_LAWS = Domain(weights=simplex(shape=(2, 3)), means=real(-3, 3, shape=(2,)), variances=positive(0.1, 10, shape=(2,)))


def _slack_of_pinsker(weights, means, variances, constant=2.0, power=2) -> Estimate:
    """The lesser of KL - constant TV^power for two laws of three atoms, and for two Gaussians on the line."""
    atoms = [FiniteLaw(jnp.arange(3.0)[:, None], weights[k]) for k in range(2)]
    pairs = atoms, gaussians(means, variances)
    return closed_form(jnp.min(jnp.stack([kl(p, q).value - constant * total_variation(p, q).value ** power for p, q in pairs])))


def _same_laws() -> Iterator[dict[str, Any]]:
    for weights, mean, variance in (([0.2, 0.3, 0.5], 1.0, 2.0), ([0.5, 0.5, 0.0], -3.0, 0.1)):
        yield {"weights": [weights] * 2, "means": [mean] * 2, "variances": [variance] * 2}


@claim(
    id="pinsker",
    statement=r"2 \, \mathrm{TV}(p, q)^2 \leq \mathrm{KL}(p \,\|\, q)",
    source="Csiszar (1967); turns bounds on KL into bounds on total variation in Chen et al. (2023)",
    domain=TWO_LAWS,
    kind="theorem",
    references=["csiszar1967information", "cover2006elements", "chen2023sampling"],
    equality=_same_laws,
    mutants={
        "larger-constant": Mutant("the constant: 2.1 TV^2", lambda **instance: _slack_of_pinsker(**instance, constant=2.1)),
        "without-the-square": Mutant("the square: 2 TV", lambda **instance: _slack_of_pinsker(**instance, power=1)),
    },
    proof="Data processing to the event {p > q}, and calculus for two atoms; tight for equal laws, and to leading order for weights 1/2 + e, 1/2 - e and their exchange.",
)
def pinsker(weights, means, variances) -> Estimate:
    """The lesser slack, of two laws of three atoms and of two Gaussians."""
    return _slack_of_pinsker(weights, means, variances)


AVERAGED = Domain(**MEMBERS.parts, rates=RATES)


def _bounds(target_mean, target_variance, means, variances, weights, rates, total=1.0) -> tuple[Estimate, Estimate]:
    """The bound of `total` times the averaged score, and those of the members."""
    path, p = _path(rates), gaussian(target_mean, target_variance)
    scores = [path.score(member) for member in gaussians(means, variances)]
    found = jax.vmap(lambda coefficients: song_bound(path, p, WeightedSum(scores, coefficients)))(jnp.concatenate([total * weights[None], jnp.eye(2)]))
    averaged, members = (Estimate(found.value[part], found.error[part], found.kind) for part in (0, slice(1, 3)))
    return averaged, members


def _gain_of_the_bound(total=1.0, geometric=False, **instance) -> Estimate:
    averaged, members = _bounds(total=total, **instance)
    if geometric:
        return closed_form(jnp.exp(instance["weights"] @ jnp.log(jnp.maximum(members.value, 1e-300)))) - averaged
    return Estimate(instance["weights"] @ members.value, jnp.max(members.error), members.kind) - averaged


def _equal_members() -> Iterator[dict[str, Any]]:
    for mean, variance in ((0.0, 1.0), (-2.0, 0.25)):
        yield {"target_mean": 0.5, "target_variance": 2.0, "means": [mean] * 2, "variances": [variance] * 2, "weights": [0.3, 0.7], "rates": [0.1, 5.0]}


@claim(
    id="ensemble-bound-below-average",
    statement=r"B(\sum_k w_k s_k) \leq \sum_k w_k B(s_k), \quad B(s) = \frac{1}{2} \int_0^T g_t^2 \, E |s - \nabla \log p_t|^2 \, dt + \mathrm{KL}(p_T \,\|\, \pi)",
    source="the ambiguity decomposition of Krogh & Vedelsby (1995), for the bound of Song, Durkan, Murray & Ermon (2021)",
    domain=AVERAGED,
    kind="theorem",
    references=["song2021maximum", "krogh1995neural", "razafindralambo2026scores"],
    equality=_equal_members,
    mutants={
        "sum-of-scores": Mutant("weights that sum to one: twice the average", lambda **instance: _gain_of_the_bound(total=2.0, **instance)),
        "geometric-mean": Mutant("the arithmetic mean of the bounds: the geometric one", lambda **instance: _gain_of_the_bound(geometric=True, **instance)),
    },
    proof="E|mean - s*|^2 = mean E|s_k - s*|^2 - mean E|s_k - mean|^2 at every time.",
)
def ensemble_bound_below_average(target_mean, target_variance, means, variances, weights, rates) -> Estimate:
    """What averaging scores takes from the average of the members' bounds."""
    return _gain_of_the_bound(target_mean=target_mean, target_variance=target_variance, means=means, variances=variances, weights=weights, rates=rates)


@claim(
    id="ensemble-bound-below-best",
    statement=r"B(\frac{1}{2} (s_1 + s_2)) \leq \min_k \, B(s_k), \quad B(s) = \frac{1}{2} \int_0^T g_t^2 \, E |s - \nabla \log p_t|^2 \, dt + \mathrm{KL}(p_T \,\|\, \pi)",
    source="the analogue of ensemble-bound-below-average for the best member; refuted here",
    domain=Domain(**{name: part for name, part in AVERAGED.parts.items() if name != "weights"}),
    kind="refuted",
    references=["song2021maximum", "razafindralambo2026scores"],
    proof="Where one member is p its bound is KL(p_T || N(0, I)), the least there is.",
)
def ensemble_bound_below_best(target_mean, target_variance, means, variances, rates) -> Estimate:
    """The gain over the best member's bound."""
    averaged, members = _bounds(target_mean, target_variance, means, variances, jnp.full(2, 0.5), rates)
    return Estimate(jnp.min(members.value), jnp.max(members.error), members.kind) - averaged
