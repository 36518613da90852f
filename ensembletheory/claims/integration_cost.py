r"""Claims about what integration costs: what Hamiltonian flows save against diffusions, and what they do not save against flow matching.

Data N(0, s^2) on the line; the Hamiltonian flow is the quarter turn of `ensembletheory.integration_cost`. **The horizon**: it reaches its prior, while the noised variance
v = 1 + (s^2 - 1) e^{-B} of a diffusion leaves KL = 1/2 (v - 1 - log v) >= (v - 1)^2 / (4 max(1, v)), since u - log(1 + u) >= u^2 / 2 for -1 < u <= 0 and >= u^2 / (2 (1 +
u)) for u >= 0: a tolerance of KL asks for B >= 1/2 log(1 / KL) + const. **Evaluations**: straight lines of optimal transport are exact in one step of Euler, so that
nothing needs fewer. **Paths** of momenta are longer. **Lipschitz time** depends on the units of momentum; in those of the prior nothing is below |log s|.

**Orders.** KL after N steps of a scheme of order p is e^2 N^{-2p} + O(N^{-2p-1}) with the e of `integration_cost.orders`; it is extrapolated from N = 32, 64 and 128 steps,
and the margin's error is that of the extrapolation, the change from the one of 64 and 128 alone.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.members import gaussian
from ensembletheory.claims.parts import positive, real
from ensembletheory.divergences import kl
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.integration_cost import METHODS, Kinetic, Method, Path, QuarterTurn, Transport, initialisation_error, leading_error, lipschitz_time, path_length
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import transition
from ensembletheory.processes import CriticallyDampedLangevin, OrnsteinUhlenbeck

__all__ = [
    "diffusion_horizon_grows",
    "euler_kl_law",
    "heun_kl_law",
    "lipschitz_time_at_least_log",
    "nhf_fewer_evaluations_than_ot_flow_matching",
    "nhf_lipschitz_time",
    "nhf_shorter_horizon_than_diffusion",
    "nhf_shorter_path",
]

TURN, LINE = QuarterTurn(), METHODS["linear_euler"].model
EXPOSED = Domain(log_deviation=real(-3, 3), exposure=positive(0.1, 12))
DEVIATION = Domain(log_deviation=real(-4, 4))


def _data(log_deviation: Float[Array, ""]) -> Gaussian:
    return gaussian(jnp.zeros(()), jnp.exp(2 * log_deviation))


def _diffused(log_deviation: Float[Array, ""], exposure: Float[Array, ""]) -> Estimate:
    """KL(law at the horizon || prior) of the variance-preserving diffusion with int beta = exposure."""
    return initialisation_error(Path(OrnsteinUhlenbeck(0.5, exposure)), _data(log_deviation))


def _saved_horizon(log_deviation, exposure, factor=1.0) -> Estimate:
    """What the less of two diffusions leaves at the horizon, less what a quarter turn does that is fitted to `factor` times the deviation."""
    kinetic = initialisation_error(Kinetic(CriticallyDampedLangevin(1.0, 1.0, exposure), 1.0), _data(log_deviation))
    least = jnp.minimum(_diffused(log_deviation, exposure).value, kinetic.value)
    fitted = _data(log_deviation + np.log(factor))
    clock = TURN.clock(fitted)
    joint = Gaussian(jnp.zeros(2), jnp.stack([jnp.exp(2 * log_deviation), 1 / fitted.cov[0, 0]]))
    return closed_form(least - kl(clock.marginal(joint, clock.horizon), TURN.prior(fitted)).value)


def _standard_data() -> Iterator[dict[str, Any]]:
    for exposure in (0.5, 2.0, 10.0):
        yield {"log_deviation": 0.0, "exposure": exposure}


@claim(
    id="nhf-shorter-horizon-than-diffusion",
    statement=r"\mathrm{KL}(\Phi^{-1} p \,\|\, \mathcal{N}(0, I)) = 0 \leq \mathrm{KL}(p_T \,\|\, \pi), \ p_T \ \mathrm{of\ a\ VP\ or\ critically\ damped\ diffusion}",
    source="fixed-kinetic neural Hamiltonian flows against diffusions (Souveton et al. 2024); derived here for Gaussian data",
    domain=EXPOSED,
    kind="theorem",
    references=["souveton2024fixed", "dockhorn2022score", "song2021scorebased"],
    equality=_standard_data,
    mutants={"misfit": Mutant("a fit: the flow is that of deviations 1.05 times as large", lambda **instance: _saved_horizon(**instance, factor=1.05))},
    proof="The quarter turn takes the data, with momenta N(0, 1 / s^2), to N(0, I) at any horizon; a diffusion does so at none unless s = 1.",
)
def nhf_shorter_horizon_than_diffusion(log_deviation, exposure) -> Estimate:
    """What the diffusions leave at their horizon, less what the Hamiltonian flow does; critical damping begins with stationary momenta."""
    return _saved_horizon(log_deviation, exposure)


def _above_the_logarithm(log_deviation, exposure, constant=0.25) -> Estimate:
    excess = jnp.expm1(2 * log_deviation) * jnp.exp(-exposure)
    return _diffused(log_deviation, exposure) - constant * excess**2 / jnp.maximum(1.0, 1 + excess)


@claim(
    id="diffusion-horizon-grows",
    statement=r"\mathrm{KL}(p_T \,\|\, \mathcal{N}(0, 1)) \geq \frac{(s^2 - 1)^2 e^{-2 B}}{4 \, \max(1, v_T)}, \quad B = \int_0^T \beta_t \, dt",
    source="derived here",
    domain=EXPOSED,
    kind="theorem",
    references=["song2021scorebased"],
    equality=_standard_data,
    mutants={"larger-constant": Mutant("the constant: 0.3 for 1/4", lambda **instance: _above_the_logarithm(**instance, constant=0.3))},
    proof="u - log(1 + u) >= u^2 / (2 max(1, 1 + u)) for u = v_T - 1: so a divergence eps asks for B >= 1/2 log(1 / eps) + const.",
)
def diffusion_horizon_grows(log_deviation, exposure) -> Estimate:
    """What the diffusion leaves at its horizon, less the bound."""
    return _above_the_logarithm(log_deviation, exposure)


@claim(
    id="nhf-shorter-path",
    statement=r"\int E |q'_t| \, dt \ \mathrm{of\ the\ Hamiltonian\ quarter\ turn} \leq \int E |x'_t| \, dt \ \mathrm{of\ flow\ matching}",
    source="folklore on shorter integration of Hamiltonian flows; refuted here",
    domain=Domain(log_deviation=real(-3, 3)),
    kind="refuted",
    references=["souveton2024fixed", "lipman2023flow"],
    proof="A quarter of the perimeter of the ellipse of half axes 1 and s, against 1 + s - 2 s / (1 + s^2)^{1/2} for the independent coupling: longer for every s.",
)
def nhf_shorter_path(log_deviation) -> Estimate:
    """The length of flow matching's paths, independent coupling, less that of the quarter turn's."""
    data = _data(log_deviation)
    return path_length(LINE, data) - path_length(TURN, data)


def _divergence(method: Method, data: Gaussian, steps: int, most: int) -> Float[Array, ""]:
    return kl(data, method.law(data, jnp.asarray(steps), most)).value


@claim(
    id="nhf-fewer-evaluations-than-ot-flow-matching",
    statement=r"\mathrm{KL}(p \,\|\, \mathrm{leapfrog}, N \ \mathrm{steps}) \leq "
    r"\mathrm{KL}(p \,\|\, \mathrm{OT\ flow\ matching}, N \ \mathrm{steps\ of\ Euler}), \quad N = 1, 2, 4, 8",
    source="folklore on shorter integration of Hamiltonian flows; refuted here",
    domain=Domain(log_deviation=real(-3, 3)),
    kind="refuted",
    references=["souveton2024fixed", "tong2024improving"],
    proof="Along straight lines at constant speed Euler's factors telescope: N = 1 is exact. Leapfrog trained through one step is exact as well: as few, never fewer.",
)
def nhf_fewer_evaluations_than_ot_flow_matching(log_deviation) -> Estimate:
    """The least of what Euler on straight lines leaves, less what leapfrog on the quarter turn does, at one evaluation a step."""
    data, steps = _data(log_deviation), jnp.asarray([1, 2, 4, 8])
    saved = jax.vmap(lambda n: _divergence(METHODS["transport_euler"], data, n, 8) - _divergence(METHODS["quarter_turn"], data, n, 8))(steps)
    return closed_form(jnp.min(saved))


def _shorter_iff(log_deviation, balanced=True, model=None) -> Estimate:
    data = _data(log_deviation)
    matching = lipschitz_time(Transport() if model is None else model, data)
    turn = lipschitz_time(TURN, data, TURN.balance(data) if balanced else None)
    return (matching - turn) * jnp.sign(jnp.abs(log_deviation) - np.pi / 2)


def _at_the_threshold() -> Iterator[dict[str, Any]]:
    for sign in (-1, 1):
        yield {"log_deviation": sign * np.pi / 2}


@claim(
    id="nhf-lipschitz-time",
    statement=r"\int |Dv_t| \, dt \ \mathrm{of\ the\ quarter\ turn,\ balanced,\ is\ below\ that\ of\ OT\ flow\ matching} \ \Leftrightarrow \ |\log s| > \pi / 2",
    source="derived here",
    domain=DEVIATION,
    kind="theorem",
    references=["souveton2024fixed", "tong2024improving"],
    equality=_at_the_threshold,
    mutants={
        "units-of-the-prior": Mutant("balanced momenta: measured in the units of the prior", lambda **instance: _shorter_iff(**instance, balanced=False)),
        "independent": Mutant("optimal transport: the independent coupling", lambda **instance: _shorter_iff(**instance, model=LINE)),
    },
    proof="pi / 2 for a rotation by a quarter, |log s| for deviations that move monotonically from 1 to s.",
)
def nhf_lipschitz_time(log_deviation) -> Estimate:
    """Flow matching's Lipschitz time less the quarter turn's, with the sign of |log s| - pi / 2."""
    return _shorter_iff(log_deviation)


def _time_of_a_flow(hessians, unit=1.0) -> Estimate:
    """The Lipschitz time of three quadratic Hamiltonians, each for a time 1, with momenta in multiples of `unit`, less |log s| of the positions made of N(0, I)."""
    along, across, twice = hessians[:, 2] * unit, -hessians[:, 0] / unit, 2 * hessians[:, 1]
    norms = (jnp.hypot(twice, along + across) + jnp.abs(along - across)) / 2  # of [[c, a], [b, -c]]
    generators = jnp.stack([hessians[:, 1], hessians[:, 2], -hessians[:, 0], -hessians[:, 1]], axis=1).reshape(3, 2, 2)
    whole, _ = jax.lax.scan(lambda N, A: (transition(A, jnp.zeros((2, 2)), jnp.ones(()))[0] @ N, None), jnp.eye(2), generators)
    return closed_form(jnp.sum(norms) - jnp.abs(jnp.log(whole[0] @ whole[0])) / 2)


def _squeezes() -> Iterator[dict[str, Any]]:
    for along in (0.5, -1.0, 0.0):
        yield {"hessians": [[0.0, along * share, 0.0] for share in (0.25, 1.0, 0.5)]}


@claim(
    id="lipschitz-time-at-least-log",
    statement=r"\int |Dv_t| \, dt \geq |\log s| \ \mathrm{in\ the\ units\ of\ the\ prior,\ for\ quadratic\ Hamiltonian\ flows} "
    r"\ \mathrm{from} \ \mathcal{N}(0, I) \ \mathrm{to\ deviation} \ s",
    source="derived here, for three Hamiltonians one after the other",
    domain=Domain(hessians=real(-2, 2, shape=(3, 3))),
    kind="theorem",
    references=["toth2020hamiltonian"],
    equality=_squeezes,
    mutants={"other-units": Mutant("the units of the prior: momenta in units ten times as small", lambda **instance: _time_of_a_flow(**instance, unit=0.1))},
    proof="s is the norm of a row of the flow's matrix N, between 1 / |N^{-1}| and |N|, and both norms are at most exp of the time. Squeezes q p attain it.",
)
def lipschitz_time_at_least_log(hessians) -> Estimate:
    """The slack; each row holds H_qq, H_qp and H_pp."""
    return _time_of_a_flow(hessians)


def _off_the_law(log_deviation, name: str, order: int, factor: float = 1.0) -> Estimate:
    """Minus the relative distance of N^{2p} KL, extrapolated, from `factor` e^2."""
    data, steps = _data(log_deviation), np.array([32, 64, 128])
    inner, outer = np.linalg.inv(np.vander(1 / steps[1:], 2))[-1], np.linalg.inv(np.vander(1 / steps, 3))[-1]
    values = jax.vmap(lambda n: _divergence(METHODS[name], data, n, int(steps[-1])))(jnp.asarray(steps)) * jnp.asarray(steps, float) ** (2 * order)
    law, limit = leading_error(METHODS[name], data), jnp.asarray(outer) @ values
    error = jnp.abs(limit - jnp.asarray(inner) @ values[1:]) + 2 * jnp.abs(law.value) * law.error
    return Estimate(-jnp.abs(limit - factor * law.value**2) / (1 + limit), error / (1 + limit), "quadrature")


def _some_deviations() -> Iterator[dict[str, Any]]:
    for s in (0.4, 0.8, 2.5):
        yield {"log_deviation": np.log(s)}


ORDERED = Domain(log_deviation=real(-1.2, 1.2))


@claim(
    id="euler-kl-law",
    statement=r"N^2 \, \mathrm{KL}(p \,\|\, \mathrm{Euler}, N \ \mathrm{steps}) \to \frac{1}{4} \left( \int_0^1 (l' + l^2) \, dt \right)^2, \quad v(t, x) = l(t) \, x",
    source="derived here, for the linear path: divergences fall with slope -2",
    domain=ORDERED,
    kind="theorem",
    references=["lipman2023flow"],
    equality=_some_deviations,
    mutants={"another-constant": Mutant("the constant: twice as large", lambda **instance: _off_the_law(**instance, name="linear_euler", order=1, factor=2.0))},
    proof="log(1 - h l) + int l = -h^2 (l' + l^2) / 2 + O(h^3) a step, and KL = (error of the log-deviation)^2 to leading order.",
)
def euler_kl_law(log_deviation) -> Estimate:
    """Minus the distance of the extrapolated constant from the law's."""
    return _off_the_law(log_deviation, "linear_euler", 1)


@claim(
    id="heun-kl-law",
    statement=r"N^4 \, \mathrm{KL}(p \,\|\, \mathrm{Heun}, N) \to \left( \int_0^1 (l^3 / 6 - l'' / 12) \, dt \right)^2, \quad v(t, x) = l(t) \, x",
    source="derived here, for the linear path: divergences fall with slope -4",
    domain=ORDERED,
    kind="theorem",
    references=["lipman2023flow"],
    equality=_some_deviations,
    mutants={"another-constant": Mutant("the constant: twice as large", lambda **instance: _off_the_law(**instance, name="linear_heun", order=2, factor=2.0))},
    proof="The logarithm of Heun's factor is off by h^3 (l^3 / 6 - l'' / 12) a step, and KL = (error of the log-deviation)^2 to leading order.",
)
def heun_kl_law(log_deviation) -> Estimate:
    """Minus the distance of the extrapolated constant from the law's."""
    return _off_the_law(log_deviation, "linear_heun", 2)
