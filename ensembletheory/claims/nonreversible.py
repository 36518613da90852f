r"""Claims about kinetic and skew diffusions: kernels, rates, what is best of them, and what steps do.

**Rates.** With S = Sigma^{-1} and C C^T = Sigma, B = (D + J) S is similar to N + K, N = C^{-1} D C^{-T} and K antisymmetric: x* (N + K) x has real part x* N x for unit
vectors x, eigenvectors of N + K too, so real parts of rates lie within the spectrum of N; they sum to its trace.

**Momenta.** On a direction of precision k the rates of kinetic Langevin diffusion solve M l^2 - Gamma l + k = 0: their product is k / M, so if they are real the smaller is at
most (k / M)^{1/2}, and if not this is the modulus of both.

**Hybrid scores.** l_t^2 is the v-entry of C_t^{-1}, and C_t = W + gamma M E_v E_v^T grows with gamma: the more is integrated out, the smaller what scores are matched with.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, spd
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import transition
from ensembletheory.nonreversible import euler_kernel, fastest_skew, gap, kinetic_gap, kl_decay, law_at_rest, one_direction, step_limit
from ensembletheory.processes import CriticallyDampedLangevin, SkewOrnsteinUhlenbeck, UnderdampedLangevin
from ensembletheory.samplers import Baoab, Sampler
from ensembletheory.samplers.scheme import Scheme

__all__ = [
    "baoab_positions_unbiased",
    "critical_friction_fastest",
    "euler_step_limit",
    "hybrid_score_shrinks",
    "kinetic_kernel",
    "lnp_optimal_gap",
    "nonreversible_lowers_kl",
    "nonreversible_never_slower",
    "one_direction_optimal_gap",
    "skew_optimum_attained",
]

SKEW = ["hwang1993accelerating", "lelievre2013optimal"]


def _skew(entries: Float[Array, " n"], d: int = 3) -> Float[Array, "d d"]:
    upper = jnp.zeros((d, d)).at[np.triu_indices(d, 1)].set(entries)
    return upper - upper.T


def _entries(J: Float[Array, "d d"]) -> np.ndarray:
    return np.asarray(J)[np.triu_indices(len(J), 1)]


def _process(precision: Float[Array, "d d"], skew: Float[Array, " n"], noise: Float[Array, "d d"] | None = None) -> SkewOrnsteinUhlenbeck:
    d = len(precision)
    return SkewOrnsteinUhlenbeck(Gaussian(jnp.zeros(d), jnp.linalg.inv(precision)), _skew(skew, d), noise)


PRECISION, J = spd(3, 0.1, 10), real(-5, 5, shape=(3,))
IN_SPACE = Domain(precision=PRECISION, skew=J)
NOISY = IN_SPACE.replace(factor=real(-2, 2, shape=(3, 3)))


def _noise(factor: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """F F^T, divided to trace 3."""
    D = factor @ factor.T
    return jnp.where(jnp.trace(D) > 1e-6, D * 3 / jnp.maximum(jnp.trace(D), 1e-6), jnp.eye(3))


def _least(precision: Float[Array, "3 3"]) -> Float[Array, ""]:
    return jnp.linalg.eigvalsh(precision)[0]


def _sheared(precision, shear) -> Estimate:
    return closed_form(jnp.min(jnp.linalg.eigvals((jnp.eye(3) + shear) @ precision).real) - _least(precision))


def _still() -> Iterator[dict[str, Any]]:
    yield {"precision": [[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 4.0]], "skew": [0.0, 0.0, 0.0]}
    yield {"precision": np.diag([0.5, 1.0, 3.0]), "skew": [0.0, 0.0, 2.0]}


@claim(
    id="nonreversible-never-slower",
    statement=r"J^T = -J \ \Rightarrow \ \min \mathrm{Re} \, \mathrm{spec} ((I + J) S) \geq \lambda_{\min}(S)",
    source="Hwang, Hwang-Ma & Sheu (1993)",
    domain=IN_SPACE,
    kind="theorem",
    references=SKEW,
    equality=_still,
    mutants={
        "any-drift": Mutant("J antisymmetric: any matrix", _sheared, Domain(precision=PRECISION, shear=real(-2, 2, shape=(3, 3)))),
        "any-noise": Mutant(
            "the noise I: any of the same trace",
            lambda precision, skew, factor: closed_form(gap(_process(precision, skew, _noise(factor))) - _least(precision)),
            NOISY,
        ),
    },
    proof="Similar to S + K, K antisymmetric: the real part of an eigenvalue is x* S x at a unit vector.",
)
def nonreversible_never_slower(precision, skew) -> Estimate:
    """The gap with J less that without."""
    return closed_form(gap(_process(precision, skew)) - _least(precision))


def _optima_of_lnp() -> Iterator[dict[str, Any]]:
    for precision in (np.diag([0.5, 1.0, 4.0]), np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 4.0]])):
        found = fastest_skew(Gaussian(np.zeros(3), np.linalg.inv(precision)))
        yield {"precision": precision, "skew": _entries(found.skew)}


def _below_the_mean(precision, skew, noise=None, factor=1.0) -> Estimate:
    return closed_form(factor * jnp.trace(precision) / 3 - gap(_process(precision, skew, noise)))


@claim(
    id="lnp-optimal-gap",
    statement=r"J^T = -J \ \Rightarrow \ \min \mathrm{Re} \, \mathrm{spec} ((I + J) S) \leq \mathrm{tr}(S) / d, \ \mathrm{attained}",
    source="Lelievre, Nier & Pavliotis (2013)",
    domain=IN_SPACE.replace(skew=real(-50, 50, shape=(3,))),
    kind="theorem",
    references=SKEW,
    equality=_optima_of_lnp,
    mutants={
        "any-noise": Mutant("the noise I: any of the same trace", lambda precision, skew, factor: _below_the_mean(precision, skew, _noise(factor)), NOISY),
        "smaller": Mutant("tr(S) / d: 0.9 of it", lambda precision, skew: _below_the_mean(precision, skew, factor=0.9)),
    },
    proof="The real parts of the eigenvalues sum to the trace, and tr(J S) = 0.",
)
def lnp_optimal_gap(precision, skew) -> Estimate:
    """The mean precision less the gap."""
    return _below_the_mean(precision, skew)


def _optima_of_one_direction() -> Iterator[dict[str, Any]]:
    for precision in (np.diag([0.5, 1.0, 4.0]), np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 4.0]])):
        target = Gaussian(np.zeros(3), np.linalg.inv(precision))
        D = one_direction(target)
        values, vectors = np.linalg.eigh(D)
        factor = np.sqrt(np.maximum(values, 0.0)) * vectors
        yield {"precision": precision, "skew": _entries(fastest_skew(target, factor @ factor.T).skew), "factor": factor}


def _below_the_top(precision, skew, noise) -> Estimate:
    return closed_form(jnp.linalg.eigvalsh(precision)[-1] - gap(_process(precision, skew, noise)))


@claim(
    id="one-direction-optimal-gap",
    statement=r"J^T = -J, \ D \succeq 0, \ \mathrm{tr} D = d \ \Rightarrow \ \min \mathrm{Re} \, \mathrm{spec} ((D + J) S) \leq \lambda_{\max}(S), \ \mathrm{attained}",
    source="Guillin & Monmarche (2016), proved again here",
    domain=NOISY.replace(skew=real(-50, 50, shape=(3,))),
    kind="theorem",
    references=["guillin2016optimal"],
    equality=_optima_of_one_direction,
    mutants={"any-trace": Mutant("tr D = d: any trace", lambda precision, skew, factor: _below_the_top(precision, skew, factor @ factor.T))},
    proof="The mean of the real parts is tr(D S) / d, at most lambda_max(S) tr(D) / d.",
)
def one_direction_optimal_gap(precision, skew, factor) -> Estimate:
    """The largest precision less the gap."""
    return _below_the_top(precision, skew, _noise(factor))


def _defect_of_the_optimum(precision, noise, scale=1.0) -> Estimate:
    """Minus the relative defect of B P + P B^T = 2 r P and of the gap, r = tr(D S) / d."""
    found = fastest_skew(Gaussian(jnp.zeros(3), jnp.linalg.inv(precision)), noise)
    B, rate, P = (noise + scale * found.skew) @ precision, jnp.trace(noise @ precision) / 3, found.metric
    lyapunov = jnp.max(jnp.abs(B @ P + P @ B.T - 2 * rate * P)) / (jnp.linalg.norm(B) * jnp.linalg.norm(P))
    return closed_form(-jnp.maximum(lyapunov, jnp.abs(jnp.min(jnp.linalg.eigvals(B).real) / rate - 1)))


def _some_targets() -> Iterator[dict[str, Any]]:
    yield {"precision": np.diag([0.01, 1.0, 100.0]), "noise": np.eye(3)}
    yield {"precision": [[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 4.0]], "noise": np.diag([1.0, 0.2, 3.0])}


@claim(
    id="skew-optimum-attained",
    statement=r"\forall S, D \succ 0 \ \exists J^T = -J, P \succ 0: \ B P + P B^T = 2 r P, \ B = (D + J) S, \ r = \mathrm{tr}(D S) / d = \min \mathrm{Re} \, \mathrm{spec} B",
    source="Lelievre, Nier & Pavliotis (2013) and Guillin & Monmarche (2016), built and checked here",
    domain=Domain(precision=spd(3, 0.01, 100), noise=spd(3, 0.1, 10)),
    kind="theorem",
    references=["lelievre2013optimal", "guillin2016optimal"],
    equality=_some_targets,
    mutants={"half": Mutant("the size of J: half of it", lambda precision, noise: _defect_of_the_optimum(precision, noise, 0.5))},
    proof="In an orthonormal basis in which N = C^{-1} D C^{-T} has equal diagonal, K_jk = (l_j + l_k) / (l_j - l_k) N_jk cancels all else.",
    rounding=1e-8,
)
def skew_optimum_attained(precision, noise) -> Estimate:
    """Minus the largest relative defect: 0 everywhere."""
    return _defect_of_the_optimum(precision, noise)


def _contraction(precision, skew, fraction, of: str = "limit") -> Estimate:
    process = _process(precision, skew)
    limit = step_limit(process) if of == "limit" else 2 / jnp.max(jnp.linalg.eigvals(-process.A).real)
    radius = jnp.max(jnp.abs(jnp.linalg.eigvals(euler_kernel(process, fraction * limit, unstable=True).A)))
    return closed_form(jnp.where(fraction == 1, -jnp.abs(1 - radius), (1 - radius) * jnp.sign(1 - fraction)))


def _at_the_limit() -> Iterator[dict[str, Any]]:
    for skew in ([0.0, 0.0, 0.0], [1.0, -2.0, 0.5]):
        yield {"precision": [[2.0, 0.5, 0.0], [0.5, 1.0, 0.3], [0.0, 0.3, 4.0]], "skew": skew, "fraction": 1.0}


@claim(
    id="euler-step-limit",
    statement=r"\rho(I - h B) < 1 \ \Leftrightarrow \ h < \min_{l \in \mathrm{spec} B} 2 \, \mathrm{Re}(l) / |l|^2",
    source="derived here",
    domain=IN_SPACE.replace(fraction=positive(0.1, 3)),
    kind="theorem",
    references=SKEW,
    equality=_at_the_limit,
    mutants={
        "real-parts-alone": Mutant(
            "imaginary parts of the rates: the step is below 2 / max Re(l)", lambda precision, skew, fraction: _contraction(precision, skew, fraction, "real parts")
        )
    },
    proof="|1 - h l|^2 = 1 - 2 h Re(l) + h^2 |l|^2.",
)
def euler_step_limit(precision, skew, fraction) -> Estimate:
    """1 less the spectral radius at a fraction of the limit, with the other sign above it; minus its distance from 1 at the limit."""
    return _contraction(precision, skew, fraction)


def _of_momenta(stiffness, friction, mass, bound) -> Estimate:
    return closed_form(bound - kinetic_gap(stiffness, friction, mass))


def _critical() -> Iterator[dict[str, Any]]:
    yield {"stiffness": [1.0, 4.0], "friction": 2.0, "mass": 1.0}
    yield {"stiffness": [3.0, 0.25], "friction": 2.0, "mass": 4.0}


MOMENTA = Domain(stiffness=positive(0.05, 20, shape=(2,)), friction=positive(0.05, 20), mass=positive(0.05, 20))


@claim(
    id="critical-friction-fastest",
    statement=r"\min \mathrm{Re} \, l \leq \sqrt{k_{\min} / M}, \ \mathrm{with\ equality\ at}\ \Gamma = 2 \sqrt{M k_{\min}}",
    source="Dockhorn, Vahdat & Kreis (2022), section 3, for their process; derived here for Gaussian targets",
    domain=MOMENTA,
    kind="theorem",
    references=["dockhorn2022score"],
    equality=_critical,
    mutants={
        "no-gain": Mutant("momenta: the rate without them", lambda stiffness, friction, mass: _of_momenta(stiffness, friction, mass, jnp.min(stiffness))),
        "smaller": Mutant("the constant 1: 0.9", lambda stiffness, friction, mass: _of_momenta(stiffness, friction, mass, 0.9 * jnp.sqrt(jnp.min(stiffness) / mass))),
    },
    proof="The two rates of a direction have product k / M; where they are complex, both real parts are at most their common modulus.",
)
def critical_friction_fastest(stiffness, friction, mass) -> Estimate:
    """The bound less the gap."""
    return _of_momenta(stiffness, friction, mass, jnp.sqrt(jnp.min(stiffness) / mass))


def _defect_of_the_kernel(friction, mass, time, critical=False) -> Estimate:
    """Minus the difference of the compact kernel from Van Loan's, relative where W is small."""
    process = CriticallyDampedLangevin(mass, 1.0) if critical else UnderdampedLangevin(friction, mass)
    E, W = process.blocks(time)
    one, zero = jnp.ones(()), jnp.zeros(())
    A = jnp.stack([jnp.stack([zero, 1 / mass]), jnp.stack([-one, -friction / mass])])
    F, V = transition(A, jnp.diag(jnp.stack([zero, 2 * friction])), time)
    scale = jnp.sqrt(jnp.diagonal(V))
    return closed_form(-jnp.maximum(jnp.max(jnp.abs(E - F)), jnp.max(jnp.abs(W - V) / (scale[:, None] * scale[None, :]))))


def _regimes() -> Iterator[dict[str, Any]]:
    for friction, mass, time in ((2.0, 1.0, 0.7), (0.3, 0.5, 2.0), (9.0, 0.7, 0.01), (1.0, 0.25, 1.48)):
        yield {"friction": friction, "mass": mass, "time": time}


@claim(
    id="kinetic-kernel",
    statement=r"E = e^{-g b} [\cosh(w b) I + \frac{\sinh(w b)}{w} (A + g I)], \quad W = P - E P E^T, \quad g = \Gamma / 2M, \ w^2 = g^2 - 1/M",
    source="Dockhorn, Vahdat & Kreis (2022), appendix B, for the critical friction; derived here for any",
    domain=Domain(friction=positive(0.05, 20), mass=positive(0.2, 5), time=positive(1e-4, 3)),
    kind="theorem",
    references=["dockhorn2022score"],
    equality=_regimes,
    mutants={"critical": Mutant("the friction: the critical kernel serves all", lambda friction, mass, time: _defect_of_the_kernel(friction, mass, time, True))},
    proof="(A + g I)^2 = w^2 I, by Cayley and Hamilton, and A P + P A^T = -2 diag(0, Gamma).",
)
def kinetic_kernel(friction, mass, time) -> Estimate:
    """Minus the largest defect: 0 everywhere."""
    return _defect_of_the_kernel(friction, mass, time)


def _shrinking(friction, mass, time, gamma, more) -> Estimate:
    process = UnderdampedLangevin(friction, mass, 1.0, 3.0)
    return closed_form(jnp.log(process.noise_coefficient(time, gamma)) - jnp.log(process.noise_coefficient(time, gamma * (1 + more))))


def _nothing_more() -> Iterator[dict[str, Any]]:
    for friction, mass, time in ((2.0, 1.0, 0.7), (0.3, 0.5, 2.0), (9.0, 0.7, 0.01)):
        yield {"friction": friction, "mass": mass, "time": time, "gamma": 0.04, "more": 0.0}


@claim(
    id="hybrid-score-shrinks",
    statement=r"\gamma \leq \gamma' \ \Rightarrow \ \ell_t(\gamma) \geq \ell_t(\gamma'), \quad \ell_t^2 = [(\gamma M E_v E_v^T + W_t)^{-1}]_{vv}",
    source="derived here, for hybrid score matching of Dockhorn, Vahdat & Kreis (2022)",
    domain=Domain(friction=positive(0.1, 10), mass=positive(0.2, 5), time=positive(0.01, 3), gamma=positive(0.001, 2), more=real(0, 10)),
    kind="theorem",
    references=["dockhorn2022score"],
    equality=_nothing_more,
    mutants={"less": Mutant("the order of gamma and gamma'", lambda friction, mass, time, gamma, more: -_shrinking(friction, mass, time, gamma, more))},
    proof="Inversion reverses the order of positive definite matrices.",
)
def hybrid_score_shrinks(friction, mass, time, gamma, more) -> Estimate:
    """The difference of the logarithms."""
    return _shrinking(friction, mass, time, gamma, more)


def _bias_of_positions(stiffness, friction, mass, angle, scheme: Scheme) -> Estimate:
    """Minus the relative bias of the variance of positions at rest, with steps of a given angle h (k / M)^{1/2}."""
    h = angle * jnp.sqrt(mass / stiffness)
    process = UnderdampedLangevin(friction, mass, 1.0, h)
    field = process.target_score(Gaussian(jnp.zeros(1), (1 / stiffness)[None, None]))
    rest = law_at_rest(Sampler(process, field, scheme, jnp.stack([h, jnp.zeros_like(h)])).kernel(2))
    return closed_form(-jnp.abs(stiffness * rest.cov[0, 0] - 1))


def _some_steps() -> Iterator[dict[str, Any]]:
    yield {"stiffness": 1.0, "friction": 1.0, "mass": 1.0, "angle": 0.5}
    yield {"stiffness": 9.0, "friction": 0.5, "mass": 0.3, "angle": 1.8}


@claim(
    id="baoab-positions-unbiased",
    statement=r"U(x) = k x^2 / 2, \ h^2 k < 4 M \ \Rightarrow \ \mathrm{Var}_h x = 1 / k \ \mathrm{under\ BAOAB,\ for\ every\ friction}",
    source="Leimkuhler & Matthews (2013), proved again here",
    domain=Domain(stiffness=positive(0.1, 10), friction=positive(0.1, 10), mass=positive(0.2, 5), angle=positive(0.05, 1.8)),
    kind="theorem",
    references=["leimkuhler2013rational"],
    equality=_some_steps,
    mutants={
        "obabo": Mutant("the order of the letters", lambda stiffness, friction, mass, angle: _bias_of_positions(stiffness, friction, mass, angle, Baoab("OBABO"))),
    },
    proof="Where O acts the law is N(0, (1 - h^2 k / 4M) / k) x N(0, M): a function of what ABBA keeps, with momenta that O keeps.",
)
def baoab_positions_unbiased(stiffness, friction, mass, angle) -> Estimate:
    """Minus the relative bias: 0 everywhere."""
    return _bias_of_positions(stiffness, friction, mass, angle, Baoab())


@claim(
    id="nonreversible-lowers-kl",
    statement=r"\mathrm{KL}(p_t^J \,\|\, \pi) \leq \mathrm{KL}(p_t^0 \,\|\, \pi) \ \mathrm{at\ every\ time,\ from\ every\ start}",
    source="nonreversible-never-slower, read for divergences at a given time; refuted here",
    domain=Domain(precision=spd(2, 0.1, 10), skew=real(-5, 5, shape=(1,)), mean=real(-3, 3, shape=(2,)), time=positive(0.05, 3)),
    kind="refuted",
    references=SKEW,
    proof="From a start in a fast direction J turns the deviation into a slow one before it is gone: the price is the prefactor.",
)
def nonreversible_lowers_kl(precision, skew, mean, time) -> Estimate:
    """The divergence without J less that with it, from N(m, Sigma)."""
    target = Gaussian(jnp.zeros(2), jnp.linalg.inv(precision))
    start = Gaussian(mean, target.covariance)
    plain, turned = (kl_decay(_process(precision, J), start, time[None]).value[0] for J in (0 * skew, skew))
    return closed_form(plain - turned)
