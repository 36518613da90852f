r"""Claims about piecewise deterministic processes: event times of linear rates, targets that are kept, the flux law, and what randomised HMC remembers.

A process with flow of divergence 0 keeps the density pi(x) nu(v) if at every point the clocks bring as much as they take and as the flow carries,

    sum over clocks of [ rate at the velocities that lead to v, less the rate at v ] = -v.grad U(x)      (straight motion, flips or reflections that keep nu),

where -log pi = U. For flips of coordinate i this holds as (a)_+ - (-a)_+ = a with a = v_i d_i U, for reflections with a = v.grad U. A rotation keeps energy and volume.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, spd
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, standard_normal
from ensembletheory.processes import BouncyParticle, ForwardEventChain, RandomisedHmc, ZigZag
from ensembletheory.processes.pdmp import forgetting_rate, remembered
from ensembletheory.processes.pdmp.event_times import spent, wait
from ensembletheory.quadrature import integrate

__all__ = ["event_chain_flux", "event_times_of_linear_rates", "pdmps_keep_their_target", "rhmc_best_refreshment", "rhmc_heavy_tails", "rhmc_renewal"]


ROUNDING = 1e-14  # of a time; along a rate that changes sign late, its hazard is known to as much times the largest rate on the way


def _defect_of_times(alpha, beta, energy, constant, slope: Callable = lambda beta: beta) -> Estimate:
    """Minus the largest relative distance of hazards from the energy at event times, with and without the constant; at inf, of what the energy falls short of."""

    def off(constant: Float[Array, ""] | None) -> tuple[Float[Array, ""], Float[Array, ""]]:
        found = wait(alpha, slope(beta), energy, constant)
        s = jnp.where(jnp.isfinite(found), found, 0)
        falling = jnp.maximum(alpha, 0) ** 2 / (2 * jnp.maximum(-beta, 1e-300))  # all that a falling rate will spend; any other spends everything
        whole = falling if constant is None else jnp.inf
        whole = jnp.where((beta > 0) | ((beta == 0) & (alpha > 0)), jnp.inf, whole)
        reached = jnp.where(jnp.isfinite(found), jnp.abs(spent(alpha, beta, s, constant) - energy), jnp.clip(whole - energy, 0, 1e3))
        return reached, ROUNDING * s * (jnp.abs(alpha) + jnp.abs(beta * s) + 1)

    (first, of_first), (second, of_second) = off(constant), off(None)
    return Estimate(-jnp.maximum(first, second) / (1 + energy), jnp.maximum(of_first, of_second) / (1 + energy), "quadrature")


def _some_rates() -> Iterator[dict[str, Any]]:
    for alpha, beta, energy in ((0.7, 1.3, 0.5), (-0.7, 1.3, 0.5), (1.5, -0.6, 0.5), (0.8, -0.6, 2.0), (-0.5, -0.5, 1.0), (0.5, 0.0, 1.0)):
        yield {"alpha": alpha, "beta": beta, "energy": energy, "constant": 0.3}


@claim(
    id="event-times-of-linear-rates",
    statement=r"\int_0^s [(\alpha + \beta u)_+ + c] \, du = E \ \mathrm{at\ the\ closed}\ s(\alpha, \beta, c, E), \ \mathrm{or}\ s = \infty \ \mathrm{if\ it\ stays\ below}",
    source="Bierkens, Fearnhead & Roberts (2019) for increasing rates; all signs derived here",
    domain=Domain(alpha=real(-3, 3), beta=real(-2, 2), energy=positive(0.01, 10), constant=positive(0.01, 2)),
    kind="theorem",
    references=["bierkens2019zigzag"],
    equality=_some_rates,
    mutants={"rising-rates": Mutant("rates of any sign of slope: |beta| for beta", lambda **instance: _defect_of_times(**instance, slope=jnp.abs))},
    proof="The hazard is piecewise quadratic and increasing; each piece is solved by the root that does not cancel.",
)
def event_times_of_linear_rates(alpha, beta, energy, constant) -> Estimate:
    """Minus the largest relative distance of hazards from the energy: 0 everywhere."""
    return _defect_of_times(alpha, beta, energy, constant)


def _defect_of_balance(cov, position, velocity, time, kept: Callable = lambda cov: cov) -> Estimate:
    """Minus the largest relative excess of what clocks bring over what they take and the flow carries, with the energy and the volume of the rotation."""
    target, precision = Gaussian(jnp.zeros(2), kept(cov)), jnp.linalg.inv(cov)
    signs, pull = jnp.where(velocity < 0, -1.0, 1.0), precision @ position
    zigzag, bouncy, hmc = ZigZag(target, 0.1), BouncyParticle(target), RandomisedHmc(target)
    flips = [zigzag.rates(position, signs.at[i].mul(-1))[i] - zigzag.rates(position, signs)[i] + signs[i] * pull[i] for i in range(2)]
    bounce = bouncy.rates(position, bouncy.reflect(position, velocity))[0] - bouncy.rates(position, velocity)[0] + velocity @ pull

    def moved(z: Float[Array, " 4"]) -> Float[Array, " 4"]:
        return jnp.concatenate(hmc.flow(z[:2], z[2:], time))

    def energy(z: Float[Array, " 4"]) -> Float[Array, ""]:
        return (z[:2] @ precision @ z[:2] + z[2:] @ z[2:]) / 2

    z = jnp.concatenate([position, velocity])
    off = jnp.stack([*flips, bounce, energy(moved(z)) - energy(z)]) / (1 + jnp.abs(pull).sum() + energy(z))
    return closed_form(-jnp.max(jnp.abs(jnp.append(off, jnp.linalg.det(jax.jacfwd(moved)(z)) - 1))))


def _diagonal(cov: Float[Array, "2 2"]) -> Float[Array, "2 2"]:
    return jnp.diag(jnp.diagonal(cov))


def _some_points() -> Iterator[dict[str, Any]]:
    for cov in ([[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.7], [0.7, 0.5]]):
        yield {"cov": cov, "position": [1.0, -0.5], "velocity": [0.3, -2.0], "time": 1.2}


@claim(
    id="pdmps-keep-their-target",
    statement=r"\sum_i [\lambda_i(x, R_i v) - \lambda_i(x, v)] = -v \cdot S x \ \mathrm{(flips,\ bounces)}; \quad H \circ \varphi_s = H, \ \det D\varphi_s = 1",
    source="Bierkens, Fearnhead & Roberts (2019); Bouchard-Côté, Vollmer & Doucet (2018); Bou-Rabee & Sanz-Serna (2017)",
    domain=Domain(cov=spd(2, 0.1, 10), position=real(-3, 3, shape=(2,)), velocity=real(-3, 3, shape=(2,)), time=real(0, 5)),
    kind="theorem",
    references=["bierkens2019zigzag", "bouchard2018bouncy", "bourabee2017randomized", "davis1984piecewise"],
    equality=_some_points,
    mutants={"own-variances": Mutant("the target's covariance: its diagonal alone", lambda **instance: _defect_of_balance(**instance, kept=_diagonal))},
    proof="(a)_+ - (-a)_+ = a at a = v_i (S x)_i and at a = v.S x; a rotation keeps H and the volume, and refreshment keeps N(0, I).",
)
def pdmps_keep_their_target(cov, position, velocity, time) -> Estimate:
    """Minus the largest relative defect of the balance: 0 everywhere."""
    return _defect_of_balance(cov, position, velocity, time)


DIMENSIONS = (2, 3, 5)


def _defect_of_the_flux(level, weighted: bool = True) -> Estimate:
    """Minus the largest |f(r) |dr/du| - 1| of the draws r(u), with f the density of the flux law, or without its factor r."""

    def off(process: ForwardEventChain, density: Callable) -> Float[Array, ""]:
        r, slope = jax.jvp(process._flux, (level[None],), (jnp.ones(1),))
        return jnp.abs(density(r[0]) * jnp.abs(slope[0]) - 1)

    gaussian = off(ForwardEventChain(standard_normal(2)), lambda r: (r if weighted else jnp.sqrt(2 / jnp.pi)) * jnp.exp(-(r**2) / 2))
    spheres = [off(ForwardEventChain(standard_normal(d), 1.0, "sphere"), lambda r, d=d: (d - 1) * r * (1 - r**2) ** ((d - 3) / 2)) for d in DIMENSIONS]
    return closed_form(-jnp.max(jnp.stack([gaussian, *spheres])))


@claim(
    id="event-chain-flux",
    statement=r"r = \sqrt{-2 \log U} \sim r e^{-r^2/2}, \quad r = \sqrt{1 - U^{2/(d-1)}} \sim (d-1) \, r (1 - r^2)^{(d-3)/2}",
    source="Michel, Durmus & Sénécal (2020), for d = 2, 3, 5 on the sphere",
    domain=Domain(level=real(0.001, 0.999)),
    kind="theorem",
    references=["michel2020forward"],
    equality=lambda: iter([{"level": 0.1}, {"level": 0.5}, {"level": 0.9}]),
    mutants={"law-of-the-component": Mutant("the flux: the law of |v.n| itself", lambda level: _defect_of_the_flux(level, weighted=False))},
    proof="P(r > s) is exp(-s^2/2), or (1 - s^2)^{(d-1)/2}: invert it at a uniform number.",
)
def event_chain_flux(level) -> Estimate:
    """Minus the largest relative defect of the density of the draws: 0 everywhere."""
    return _defect_of_the_flux(level)


def _kernel(time: Float[Array, ""], refreshment: Float[Array, ""], power: int = 2) -> Float[Array, ""]:
    return jnp.exp(-refreshment * time) * jnp.cos(time) ** power


def _renewed(s: Float[Array, " 1"], refreshment: Float[Array, ""], time: Float[Array, ""], power: int) -> tuple[Float[Array, ""], Float[Array, ""]]:
    value = _kernel(time - s[0], refreshment, power) * remembered(refreshment, s[0], 2)
    return value, jnp.abs(value)


def _deviation(refreshment: Float[Array, ""], time: Float[Array, ""]) -> Float[Array, ""]:
    """What is left of the deviation of a variance, from the equations of moments."""
    return (RandomisedHmc(standard_normal(1), refreshment).moments(Gaussian([0.0], 4.0), time)[1][0, 0] - 1) / 3


def _defect_of_renewal(refreshment, time, power: int = 2, factor: float = 1.0) -> Estimate:
    """Minus |u - f - lambda f * u| at one time, with u by its loop under the integral, and by the equations of moments beside it."""
    convolved = integrate(Partial(_renewed, refreshment=refreshment, time=time, power=power), (time * jnp.linspace(0.0, 1.0, 5),))
    off = _deviation(refreshment, time) - _kernel(time, refreshment, power) - factor * refreshment * convolved.value
    return Estimate(-jnp.abs(off), refreshment * convolved.error, "quadrature")


REFRESHED = Domain(refreshment=positive(0.1, 5), time=real(0.1, 6))


@claim(
    id="rhmc-renewal",
    statement=r"E[(X_t - m)^2] = 1 + (E[(X_0 - m)^2] - 1) \, u(t), \quad u = f + \lambda f * u, \ f(t) = e^{-\lambda t} \cos^2 t",
    source="derived here, for the randomised HMC of Bou-Rabee & Sanz-Serna (2017)",
    domain=REFRESHED,
    kind="theorem",
    references=["bourabee2017randomized"],
    equality=lambda: iter([{"refreshment": 1.0, "time": 2.0}, {"refreshment": 0.3, "time": 4.0}, {"refreshment": 4.0, "time": 1.0}]),
    mutants={
        "of-means": Mutant("the square of the cosine", lambda refreshment, time: _defect_of_renewal(refreshment, time, power=1)),
        "larger-rate": Mutant("the constant: 1.05 lambda", lambda refreshment, time: _defect_of_renewal(refreshment, time, factor=1.05)),
    },
    proof="Condition on the first refreshment: before it the deviation turns as cos^2, and from it on the process begins anew.",
)
def rhmc_renewal(refreshment, time) -> Estimate:
    """Minus the defect of the renewal equation: 0 everywhere."""
    return _defect_of_renewal(refreshment, time)


@claim(
    id="rhmc-best-refreshment",
    statement=r"\lim_t -\frac{1}{t} \log |E[(X_t - m)^2] - s^2| \leq \frac{1}{\sqrt{2} \, s} , \ \mathrm{with\ equality\ at}\ \lambda = \frac{3}{\sqrt{2} \, s}",
    source="derived here, for the randomised HMC of Bou-Rabee & Sanz-Serna (2017)",
    domain=Domain(refreshment=positive(0.1, 20), deviation=positive(0.2, 5)),
    kind="theorem",
    references=["bourabee2017randomized"],
    equality=lambda: iter([{"refreshment": 3 / (2**0.5 * s), "deviation": s} for s in (0.5, 1.0, 3.0)]),
    mutants={"of-means": Mutant("second moments: the rate of the mean", lambda refreshment, deviation: _slack_of_the_rate(refreshment, deviation, 1))},
    proof="The slowest root z = -r solves r (lambda - r)^2 + 4 r = 2 lambda; its largest r over lambda is 1 / sqrt 2.",
)
def rhmc_best_refreshment(refreshment, deviation) -> Estimate:
    """What the rate lacks to the best one, in units of the frequency."""
    return _slack_of_the_rate(refreshment, deviation, 2)


def _slack_of_the_rate(refreshment, deviation, power: int) -> Estimate:
    return closed_form(2**-0.5 - forgetting_rate(refreshment * deviation, power))


def _excess_of_tails(refreshment, time, factor: float = 1.0) -> Estimate:
    return closed_form(remembered(refreshment, time, 4) - factor * remembered(refreshment, time, 2) ** 2)


@claim(
    id="rhmc-heavy-tails",
    statement=r"E X_t^4 \geq 3 (E X_t^2)^2 \ \mathrm{for}\ X_0 \sim \mathcal{N}(0, \sigma^2): \quad E \prod_i \cos^4 g_i \geq (E \prod_i \cos^2 g_i)^2",
    source="derived here, for the randomised HMC of Bou-Rabee & Sanz-Serna (2017)",
    domain=Domain(refreshment=real(0, 5), time=real(0, 6)),
    kind="theorem",
    references=["bourabee2017randomized"],
    equality=lambda: iter([{"refreshment": 1.0, "time": 0.0}, {"refreshment": 0.0, "time": 0.7}, {"refreshment": 0.0, "time": 3.0}]),
    mutants={"larger-constant": Mutant("the constant: 1.05 times the square", lambda refreshment, time: _excess_of_tails(refreshment, time, 1.05))},
    proof="Given the refreshments X_t is Gaussian, of the variance 1 + (sigma^2 - 1) prod cos^2 g_i: a scale mixture; Jensen.",
)
def rhmc_heavy_tails(refreshment, time) -> Estimate:
    """The variance of prod cos^2 g_i."""
    return _excess_of_tails(refreshment, time)
