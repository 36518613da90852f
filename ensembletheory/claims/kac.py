r"""Claims about the telegraph process as noise, its reverse, and the loss by which reverse rates are learned.

**The law.** A particle of speed c that turns round at rate a has masses e^{-at}/2 on its light cone and densities p_+, p_- within (`ensembletheory.laws.KacLaw`); the sum of
the densities solves u_tt + 2 a u_t = c^2 u_xx.

**Bounded velocities.** E[v | X_t = x] is a mean of +c and -c, so no data make it faster than c. The probability flow of the diffusion of the same variance per time,
(x - E[X_0 | x]) / (2t), knows no such bound: it grows like 1/t towards the data.

**Backwards.** The reversed process leaves (x, +) at the rate a p_-/p_+, so that as many turn back as have turned: with that rate the densities of the forward process, run
backwards, solve the equations of the reversed one, -d_t p_+- = +- c d_x p_+- - l_+- p_+- + l_-+ p_-+.

**Ratio matching.** Two states of masses p_1, p_2 and guesses G_i = 1 / (1 + s_i): loss - minimum = (p_1 + p_2) sum_i (G_i - p_i / (p_1 + p_2))^2.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import FiniteLaw, GaussianMixture, KacLaw, KacMixture
from ensembletheory.laws.weights import relative_terms
from ensembletheory.processes.pdmp.ratio_matching import pair_least_loss, pair_loss
from ensembletheory.processes.telegraph import at_time
from ensembletheory.quadrature import gauss_legendre

__all__ = ["kac_law", "kac_velocity_bounded", "ratio_matching_minimum", "reverse_flux_balance"]

_NODES, _WEIGHTS = (part.ravel() for part in gauss_legendre(64, 1))
NOISE = {"speed": positive(0.3, 3), "rate": positive(0.3, 10), "time": positive(0.1, 2)}


def _defect_of_the_law(speed, rate, time, place, atoms: float = 1.0, damping: float = 2.0, bend: float = 1.0) -> Estimate:
    """Minus the distances of mass and variance from what is stated, and of the density at a share `place` of the way to the cone from the telegraph equation."""
    law = KacLaw(speed, rate, time)
    x = law.reach * (2 * _NODES - 1)
    p = 2 * law.reach * _WEIGHTS * jnp.sum(jnp.exp(jax.vmap(law.log_parts)(x)), axis=1)
    mass, second = jnp.sum(p) + atoms * 2 * law.atom, p @ x**2 + 2 * law.atom * law.reach**2
    stated = speed**2 / rate * (time + bend * jnp.expm1(-2 * rate * time) / (2 * rate))

    def u(t, x):
        return jnp.sum(jnp.exp(KacLaw(speed, rate, t).log_parts(x)))

    at = time, place * law.reach
    u_t, u_tt = jax.jvp(lambda t: jax.jvp(lambda t: u(t, at[1]), (t,), (jnp.ones_like(t),))[1], at[:1], (jnp.ones_like(time),))
    u_xx = jax.jvp(lambda x: jax.jvp(lambda x: u(time, x), (x,), (jnp.ones_like(x),))[1], at[1:], (jnp.ones_like(time),))[1]
    residual = (u_tt + damping * rate * u_t - speed**2 * u_xx) / (jnp.abs(u_tt) + damping * rate * jnp.abs(u_t) + speed**2 * jnp.abs(u_xx))
    return closed_form(-jnp.abs(mass - 1) - jnp.abs(second - stated) / stated - jnp.abs(residual))


def _some_laws() -> Iterator[dict[str, Any]]:
    for speed, rate, time, place in ((3.0, 9.0, 0.7, 3 / 7), (0.5, 0.4, 2.0, -0.9), (1.0, 5.0, 0.2, 0.0)):
        yield {"speed": speed, "rate": rate, "time": time, "place": place}


@claim(
    id="kac-law",
    statement=r"\int p + e^{-at} = 1, \quad E X^2 = \frac{c^2}{a} (t - \frac{1 - e^{-2at}}{2a}), \quad p_{tt} + 2 a p_t = c^2 p_{xx}",
    source="Kac (1974)",
    domain=Domain(**NOISE, place=real(-0.95, 0.95)),
    kind="theorem",
    references=["kac1974stochastic"],
    equality=_some_laws,
    mutants={
        "no-atoms": Mutant("the masses on the light cone", lambda **instance: _defect_of_the_law(**instance, atoms=0.0)),
        "diffusive-variance": Mutant("the memory of the velocity: the variance c^2 t / a", lambda **instance: _defect_of_the_law(**instance, bend=0.0)),
        "half-the-damping": Mutant("the constant: damping a", lambda **instance: _defect_of_the_law(**instance, damping=1.0)),
    },
    proof="Add and subtract the transport equations of p_+ and p_-; E X v / c^2 relaxes to 1 / (2a) at the rate 2a and is half the growth of E X^2 / c^2.",
)
def kac_law(speed, rate, time, place) -> Estimate:
    """Minus the sum of three relative defects: 0 everywhere."""
    return _defect_of_the_law(speed, rate, time, place)


def _room(points, weights, deviation, speed, rate, time, place, share: float = 1.0) -> Estimate:
    """How much slower than `share` times c the mean velocity is, at the least of data at points and of the same smoothed."""
    data = FiniteLaw(points[:, None], weights), GaussianMixture(weights, points[:, None], jnp.full((points.size, 1), deviation**2))
    speeds = jnp.stack([jnp.abs(KacMixture(law, KacLaw(speed, rate, time)).mean_velocity(place[None])[0]) for law in data])
    return closed_form(share * speed - jnp.max(speeds))


def _room_of_the_diffusion(points, weights, deviation, speed, rate, time, place) -> Estimate:
    """The same for the probability flow of the diffusion of the same variance per time."""
    variance = speed**2 / rate * time
    r = relative_terms(weights, -0.5 * (place - points) ** 2 / variance)
    return closed_form(speed - jnp.abs(r @ (place - points)) / (2 * time))


def _on_cones() -> Iterator[dict[str, Any]]:
    for place in (1.0, -1.5, 1.5):
        yield {"points": [0.0, -0.5, 0.5], "weights": [0.2, 0.5, 0.3], "deviation": 0.3, "speed": 2.0, "rate": 3.0, "time": 0.5, "place": place}


@claim(
    id="kac-velocity-bounded",
    statement=r"|E[v \, | \, X_t = x]| \leq c \ \mathrm{for\ data\ of\ any\ law}",
    source="Duong et al. (2025)",
    domain=Domain(points=real(-2, 2, shape=(3,)), weights=simplex(3), deviation=positive(0.1, 2), **NOISE, place=real(-5, 5)),
    kind="theorem",
    references=["duong2025telegraphers", "kac1974stochastic"],
    equality=_on_cones,
    mutants={
        "nine-tenths": Mutant("the constant: 0.9 c", lambda **instance: _room(**instance, share=0.9)),
        "diffusion": Mutant("the finite speed: the diffusion of the same variance", _room_of_the_diffusion),
    },
    proof="The velocity is +c or -c, and a conditional mean lies between; on the light cone of a point nobody has turned.",
)
def kac_velocity_bounded(points, weights, deviation, speed, rate, time, place) -> Estimate:
    """C less the speed of the flow, at the least of data at points and of the same points smoothed."""
    return _room(points, weights, deviation, speed, rate, time, place)


def _ratios(law: KacMixture, x: Float[Array, " 1"]) -> Float[Array, " 2"]:
    """p_-/p_+ and p_+/p_-."""
    return jax.vmap(law.turned_ratios, in_axes=(None, 0))(x, jnp.asarray([[1.0], [-1.0]]))[:, 0]


def _imbalance(weights, means, variances, speed, rate, time, place, ratios: Callable = _ratios) -> Estimate:
    """Minus the relative defect of the equations of the reversed process with turns at the rates a times the ratios."""
    law = KacMixture(GaussianMixture(weights, means[:, None], variances[:, None]), KacLaw(speed, rate, time))

    def densities(at):
        p = weights @ jnp.exp(at_time(law, at[0])._parts(at[1:])[0][:, 0])
        return p, p

    slopes, p = jax.jacfwd(densities, has_aux=True)(jnp.stack([time, place]))
    p_t, drifted = slopes[:, 0], speed * jnp.asarray([1.0, -1.0]) * slopes[:, 1]
    leaving = rate * ratios(law, place[None]) * p
    defect = -p_t - (drifted - leaving + leaving[::-1])
    return closed_form(-jnp.max(jnp.abs(defect) / (jnp.abs(p_t) + jnp.abs(drifted) + rate * jnp.sum(p))))


def _some_mixtures() -> Iterator[dict[str, Any]]:
    for time, place in ((0.7, 0.9), (0.2, -1.5), (1.5, 3.0)):
        yield {"weights": [0.3, 0.7], "means": [-1.0, 1.0], "variances": [0.16, 0.5], "speed": 3.0, "rate": 9.0, "time": time, "place": place}


@claim(
    id="reverse-flux-balance",
    statement=r"-\partial_t p_\pm = \pm c \, \partial_x p_\pm - \lambda_\pm p_\pm + \lambda_\mp p_\mp, \quad \lambda_\pm = a \, p_\mp / p_\pm",
    source="Bertazzi et al. (2024), for the telegraph process",
    domain=Domain(weights=simplex(2), means=real(-2, 2, shape=(2,)), variances=positive(0.05, 2, shape=(2,)), **NOISE, place=real(-4, 4)),
    kind="theorem",
    references=["bertazzi2024piecewise", "kac1974stochastic"],
    equality=_some_mixtures,
    mutants={
        "forward-rates": Mutant("the ratios: turns at the rate a, as forward in time", lambda **instance: _imbalance(**instance, ratios=lambda law, x: jnp.ones(2))),
        "inverted-ratios": Mutant(
            "the direction: the rates a p / p of the other velocity", lambda **instance: _imbalance(**instance, ratios=lambda law, x: _ratios(law, x)[::-1])
        ),
    },
    proof="What turns from - to + forward in time, a p_-, is what must turn from + to - backwards, l_+ p_+; put it into the forward equations.",
)
def reverse_flux_balance(weights, means, variances, speed, rate, time, place) -> Estimate:
    """Minus the larger relative defect of both equations: 0 everywhere."""
    return _imbalance(weights, means, variances, speed, rate, time, place)


def _without_the_turned_state(masses, guess) -> Estimate:
    G = 1 / (1 + guess)
    return closed_form(masses @ (G**2 - 2 * G) - pair_least_loss(masses))


def _true_ratios() -> Iterator[dict[str, Any]]:
    for first, second in ((0.3, 0.1), (0.05, 0.7), (0.5, 0.5)):
        yield {"masses": [first, second], "guess": [second / first, first / second]}


@claim(
    id="ratio-matching-minimum",
    statement=r"\sum_i p_i [G(s_i)^2 + G(s_{3-i})^2 - 2 G(s_i)] \geq -\frac{p_1^2 + p_2^2}{p_1 + p_2}, \quad G(s) = \frac{1}{1 + s}",
    source="the loss is that of Bertazzi et al. (2024); its minimum is derived here",
    domain=Domain(masses=positive(0.01, 1, shape=(2,)), guess=positive(0.02, 50, shape=(2,))),
    kind="theorem",
    references=["bertazzi2024piecewise"],
    equality=_true_ratios,
    mutants={
        "own-square-only": Mutant("the square of the turned state", _without_the_turned_state),
        "smaller-minimum": Mutant("the constant: the minimum less a tenth of it", lambda masses, guess: closed_form(pair_loss(masses, guess) - 0.9 * pair_least_loss(masses))),
    },
    proof="The difference is (p_1 + p_2) sum_i (G_i - p_i / (p_1 + p_2))^2, and G_1 = p_1 / (p_1 + p_2) says s_1 = p_2 / p_1.",
)
def ratio_matching_minimum(masses, guess) -> Estimate:
    """The loss in excess of its minimum."""
    return closed_form(pair_loss(masses, guess) - pair_least_loss(masses))
