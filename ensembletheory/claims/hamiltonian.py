r"""Claims about Hamiltonian flows of Gaussians: what leapfrog samples, what it can reach, what no symplectic map changes, and how fast its error falls.

**Leapfrog** turns a mode by the angle theta with sin(theta/2) = w h / 2, so L steps are Chebyshev polynomials of x = 1 - h^2 k / 2m, T_L and U_{L-1}, for every real k.
With T^2 + (1 - x^2) U^2 = 1 and c = h / m the variance T^2 + c^2 U^2 is at least min(c, 1)^2: for |x| <= 1 it is a mean of 1 and c^2 / (1 - x^2), with weights T^2 and
(1 - x^2) U^2, and for |x| > 1 already T^2 > 1.

**Symplectic maps** keep the symplectic eigenvalues of a covariance P, those of the Hermitian i P^{1/2} J P^{1/2}: P goes to N P N^T, and J P to N^{-T} J P N^T. From
N(0, I), where P = N N^T is itself symplectic, the momenta are p | q ~ N(W q, S^{-1}), W symmetric, S the covariance of the positions.

**The quarter turn** in L steps has w h = pi / 2L on every mode, and the excess pi^2 / (16 L^2) of variance, hence the divergence pi^4 / (1024 L^4).
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, spd
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.hamiltonian import chebyshev, leapfrog_variance
from ensembletheory.hamiltonian.deficit import LEADING_CONSTANT
from ensembletheory.linalg import oscillation, sqrtm, symmetrised
from ensembletheory.processes import QuadraticHamiltonian
from ensembletheory.samplers import Leapfrog
from ensembletheory.structures import unit_symplectic

__all__ = [
    "leapfrog_chebyshev_variance",
    "leapfrog_kl_law",
    "leapfrog_least_deviation",
    "momentum_posterior",
    "one_step_gaussian_exact",
    "symplectic_invariants",
]

MOST_STEPS = 21
MODE = Domain(mass=positive(0.2, 5), stiffness=real(-3, 30), step=positive(0.05, 1), deviations=positive(0.2, 5, shape=(2,)))


def _run_variances(mass, stiffness, step, deviations) -> Float[Array, " L"]:
    """The variances of the positions after 1, 2, ... steps, of kicks and drifts made one by one."""
    hamiltonian = QuadraticHamiltonian(mass, stiffness)
    field, begin, end = hamiltonian.gradient(), step, jnp.zeros_like(step)

    def moved(columns, _):
        columns = jax.vmap(lambda z: Leapfrog().step(hamiltonian, field, begin, end, z, jnp.zeros((0, 2))))(columns)
        return columns, jnp.sum(columns[:, 0] ** 2)

    return jax.lax.scan(moved, jnp.diag(deviations), None, length=MOST_STEPS)[1]


def _defect_of_variances(instance: dict[str, Any], stated: Float[Array, " L"]) -> Estimate:
    run = _run_variances(**instance)
    return closed_form(-jnp.max(jnp.abs(run - stated) / (run + stated)))


def _steps() -> np.ndarray:
    return np.arange(1, MOST_STEPS + 1)


def _positions_alone(mass, stiffness, step, deviations) -> Estimate:
    T, _ = chebyshev(jnp.broadcast_to(step**2 * stiffness / (4 * mass), (MOST_STEPS,)), _steps())
    return _defect_of_variances({"mass": mass, "stiffness": stiffness, "step": step, "deviations": deviations}, deviations[0] ** 2 * T**2)


def _exact_flow(mass, stiffness, step, deviations) -> Estimate:
    cosine, sine = jax.vmap(lambda time: oscillation((stiffness / mass)[None, None], time))(step * _steps().astype(float))
    stated = (deviations[0] * cosine[:, 0, 0]) ** 2 + (deviations[1] * sine[:, 0, 0] / mass) ** 2
    return _defect_of_variances({"mass": mass, "stiffness": stiffness, "step": step, "deviations": deviations}, stated)


def _some_modes() -> Iterator[dict[str, Any]]:
    for mass, stiffness, step in ((1.0, 4.0, 0.5), (0.5, -2.0, 0.3), (0.3, 25.0, 0.9), (2.0, 0.0, 1.0)):
        yield {"mass": mass, "stiffness": stiffness, "step": step, "deviations": [1.0, 2.0]}


@claim(
    id="leapfrog-chebyshev-variance",
    statement=r"\mathrm{Var}\, q_L = s_q^2\, T_L(x)^2 + s_p^2 \frac{h^2}{m^2} U_{L-1}(x)^2, \quad x = 1 - \frac{h^2 k}{2m}, \; k \in \mathbf{R}",
    source="derived here, for leapfrog on a quadratic Hamiltonian; checked for L up to 21",
    domain=MODE,
    kind="theorem",
    references=["hairer2003geometric"],
    equality=_some_modes,
    mutants={
        "positions-alone": Mutant("the momenta of the prior", _positions_alone),
        "exact-flow": Mutant("leapfrog: the exact flow over the same time", _exact_flow),
    },
    proof="A step is a 2 x 2 matrix of determinant 1 and trace 2x: its powers are U_{L-1}(x) times itself less U_{L-2}(x) times 1.",
)
def leapfrog_chebyshev_variance(mass, stiffness, step, deviations) -> Estimate:
    """Minus the largest relative difference between the variances of the steps and of the polynomials: 0 everywhere."""
    stated = leapfrog_variance(mass, stiffness, step, _steps(), deviations[0] ** 2, deviations[1] ** 2)
    return _defect_of_variances({"mass": mass, "stiffness": stiffness, "step": step, "deviations": deviations}, stated)


FLOWS = Domain(mass=spd(2, 0.3, 3), stiffness=spd(2, 0.1, 8), coupling=real(-1, 1, shape=(2, 2)), time=real(0.1, 2))
PRIORS = FLOWS.replace(prior=spd(4, 0.2, 5))


def _flow(mass, stiffness, coupling, time) -> Float[Array, "4 4"]:
    return QuadraticHamiltonian(mass, stiffness, coupling=coupling).flow(time)


def _euler(mass, stiffness, coupling, time) -> Float[Array, "4 4"]:
    """The flow of `_flow`, by one step of Euler's method."""
    inverse = jnp.linalg.inv(mass)
    return jnp.eye(4) + time * jnp.block([[coupling, inverse], [-stiffness, -coupling.T]])


def _scaled(mass, stiffness, coupling, time) -> Float[Array, "4 4"]:
    """Volume kept, but areas not: one position is stretched and the other shrunk, and no momentum is."""
    return _flow(mass, stiffness, coupling, time) * jnp.asarray([2.0, 0.5, 1.0, 1.0])[:, None]


def _symplectic_squares(P: Float[Array, "4 4"]) -> Float[Array, " 2"]:
    """The sum and the sum of squares of nu^2, from traces of powers of J P: symmetric functions, whose derivatives exist where eigenvalues meet."""
    square = jnp.asarray(unit_symplectic(2)) @ P
    square = square @ square
    return jnp.stack([-jnp.trace(square) / 2, jnp.trace(square @ square) / 2])


def _ordinary_squares(P: Float[Array, "4 4"]) -> Float[Array, " 2"]:
    return jnp.stack([jnp.trace(P @ P) / 2, jnp.trace(P @ P @ P @ P) / 2])


def _change_of_invariants(instance: dict[str, Any], prior, flow: Callable = _flow, invariants: Callable = _symplectic_squares) -> Estimate:
    N = flow(**instance)
    before, after = invariants(prior), invariants(symmetrised(N @ prior @ N.T))
    size = 1 + jnp.sum((N @ prior @ N.T) ** 2) ** jnp.asarray([1.0, 2.0])  # of the terms that cancel
    return closed_form(-jnp.max(jnp.abs(after - before) / size))


def _some_flows() -> Iterator[dict[str, Any]]:
    for mass, stiffness, time in (([[1.0, 0.0], [0.0, 2.0]], [[4.0, 1.0], [1.0, 0.5]], 1.0), ([[0.5, 0.1], [0.1, 0.4]], [[1.0, -0.5], [-0.5, 2.0]], 0.3)):
        yield {"mass": mass, "stiffness": stiffness, "coupling": [[0.5, -0.2], [0.3, 0.0]], "time": time}


def _some_priors() -> Iterator[dict[str, Any]]:
    for instance in _some_flows():
        yield {**instance, "prior": [[2.0, 0.5, 0.0, 0.3], [0.5, 1.0, -0.2, 0.0], [0.0, -0.2, 0.7, 0.1], [0.3, 0.0, 0.1, 3.0]]}


def _with(flow: Callable, invariants: Callable = _symplectic_squares) -> Callable:
    return lambda mass, stiffness, coupling, time, prior: _change_of_invariants(
        {"mass": mass, "stiffness": stiffness, "coupling": coupling, "time": time}, prior, flow, invariants
    )


@claim(
    id="symplectic-invariants",
    statement=r"\mathrm{spec}_{\mathrm{symplectic}}(N P N^T) = \mathrm{spec}_{\mathrm{symplectic}}(P), \quad N = \exp(t J \nabla^2 H), \; P = \mathrm{Cov}\, z_0",
    source="Williamson (1936), for the flows of quadratic Hamiltonians",
    domain=PRIORS,
    kind="theorem",
    references=["williamson1936algebraic"],
    equality=_some_priors,
    mutants={
        "euler": Mutant("the exact flow: one step of Euler's method", _with(_euler)),
        "volume-alone": Mutant("a symplectic map: one that keeps volume", _with(_scaled)),
        "ordinary-spectrum": Mutant("symplectic eigenvalues: ordinary ones", _with(_flow, _ordinary_squares)),
    },
    proof="N^T J N = J, so J N P N^T = N^{-T} J P N^T is similar to J P, whose eigenvalues are +-i nu.",
)
def symplectic_invariants(mass, stiffness, coupling, time, prior) -> Estimate:
    """Minus the largest change of the power sums of nu^2, relative to the terms of which they are made: 0 everywhere."""
    return _with(_flow)(mass, stiffness, coupling, time, prior)


def _defect_of_the_posterior(mass, stiffness, coupling, time, deviations=None, flow: Callable = _flow) -> Estimate:
    """Minus the distance of W from its transpose and of Cov(p | q) S from the identity, relative to their sizes."""
    N = flow(mass, stiffness, coupling, time) if deviations is None else flow(mass, stiffness, coupling, time) * deviations[None, :]
    P = N @ N.T
    S, cross = P[:2, :2], P[2:, :2]
    W = cross @ jnp.linalg.inv(S)
    rest = (P[2:, 2:] - W @ cross.T) @ S
    return closed_form(-jnp.max(jnp.abs(W - W.T)) / (1 + jnp.max(jnp.abs(W))) - jnp.max(jnp.abs(rest - jnp.eye(2))) / (1 + jnp.sum(P**2)))


def _euler_posterior(mass, stiffness, coupling, time) -> Estimate:
    return _defect_of_the_posterior(mass, stiffness, coupling, time, flow=_euler)


@claim(
    id="momentum-posterior",
    statement=r"z_0 \sim \mathcal{N}(0, I), \; z = N z_0 \ \Rightarrow \ p\, |\, q \sim \mathcal{N}(W q,\, S^{-1}), \quad W = W^T, \; S = \mathrm{Cov}\, q",
    source="derived here, for the linear flows of Toth et al. (2020) and Souveton et al. (2024)",
    domain=FLOWS,
    kind="theorem",
    references=["toth2020hamiltonian", "souveton2024fixed"],
    equality=_some_flows,
    mutants={
        "other-prior": Mutant("the prior N(0, I): another product of Gaussians", _defect_of_the_posterior, FLOWS.replace(deviations=positive(0.3, 3, shape=(4,)))),
        "euler": Mutant("a symplectic map: one step of Euler's method", _euler_posterior),
    },
    proof="P = N N^T satisfies P J P = J: its blocks are S, S W and S^{-1} + W S W with W symmetric.",
)
def momentum_posterior(mass, stiffness, coupling, time) -> Estimate:
    """Minus the defect of the posterior: 0 everywhere."""
    return _defect_of_the_posterior(mass, stiffness, coupling, time)


COUNTS = np.arange(1, 10)


def _excess_variance(c, y, least: Callable) -> Estimate:
    """The least excess of the variance of 1 to 9 steps over what is stated, where x = 1 - 2 y; variances far above count as 1 more at most."""
    T, U = chebyshev(jnp.broadcast_to(y, COUNTS.shape), COUNTS)
    return closed_form(jnp.min(jnp.minimum(T**2 + (c * U) ** 2 - least(c), 1.0)))


def _least_variance(c: Float[Array, ""]) -> Float[Array, " 9"]:
    return jnp.where(COUNTS == 1, c**2, jnp.minimum(c, 1.0) ** 2)


def _where_positions_vanish(c: Float[Array, ""]) -> Float[Array, " 9"]:
    return jnp.where(COUNTS % 2 == 1, _least_variance(c), jnp.minimum(c / np.cos(np.pi / (2 * COUNTS)), 1.0) ** 2)


def _turned_off() -> Iterator[dict[str, Any]]:
    for c, y in ((0.3, 0.5), (0.8, 0.5), (1.0, 0.5), (1.5, 0.5)):
        yield {"c": c, "y": y}


@claim(
    id="leapfrog-least-deviation",
    statement=r"T_L(x)^2 + c^2 U_{L-1}(x)^2 \geq \min(c, 1)^2 \;\; (\geq c^2\ \mathrm{for}\ L = 1), \quad c = h / m, \; x \in \mathbf{R}",
    source="derived here, for leapfrog on a mode from N(0, I); checked for L up to 9",
    domain=Domain(c=positive(0.1, 2), y=real(-1, 2)),
    kind="theorem",
    references=["hairer2003geometric"],
    equality=_turned_off,
    mutants={
        "where-positions-vanish": Mutant("the least value for even L: that where T_L = 0 nearest to x = 0", lambda c, y: _excess_variance(c, y, _where_positions_vanish)),
        "longer-drifts": Mutant("the least value for c > 1: c", lambda c, y: _excess_variance(c, y, lambda c: jnp.broadcast_to(c**2, COUNTS.shape))),
    },
    proof="T^2 + c^2 U^2 is the mean of 1 and c^2 / (1 - x^2) with weights T^2 and (1 - x^2) U^2 where |x| <= 1, and T^2 > 1 elsewhere; U_0 = 1.",
)
def leapfrog_least_deviation(c, y) -> Estimate:
    """The least excess over the bound."""
    return _excess_variance(c, y, _least_variance)


LARGE = np.asarray([64, 128])


def _defect_of_the_limit(deviation, power: int = 4, turn: float = 1.0) -> Estimate:
    """Minus the distance of the limit of L^power KL, extrapolated from 64 and 128 steps, from pi^4 / 1024; `turn` quarters are turned."""
    half = jnp.asarray(turn * np.pi / (4 * LARGE))
    T, U = chebyshev(half**2, LARGE)
    excess = deviation**2 / (T**2 + (2 * half * deviation * U) ** 2) - 1
    scaled = (LARGE**power).astype(float) * (excess - jnp.log1p(excess)) / 2
    return closed_form(-jnp.abs((4 * scaled[1] - scaled[0]) / 3 - LEADING_CONSTANT))


@claim(
    id="leapfrog-kl-law",
    statement=r"L^4\, \mathrm{KL}(\mathcal{N}(0, \sigma^2) \| \mathcal{N}(0, \sigma_L^2)) \to \frac{\pi^4}{1024}, \quad h \omega = \frac{\pi}{2L},\; m = 1",
    source="derived here, for L leapfrog steps of the quarter turn",
    domain=Domain(deviation=positive(0.2, 5)),
    kind="theorem",
    references=["hairer2003geometric"],
    equality=lambda: iter([{"deviation": 0.5}, {"deviation": 1.0}, {"deviation": 4.0}]),
    mutants={
        "second-power": Mutant("the fourth power of L: the second", lambda deviation: _defect_of_the_limit(deviation, power=2)),
        "longer-turn": Mutant("a quarter turn: one and a tenth", lambda deviation: _defect_of_the_limit(deviation, turn=1.1)),
    },
    proof="L theta = pi/2 + O(L^-2) and sigma_L^2 = sigma^2 (1 + pi^2 / (16 L^2)) + O(L^-4), and KL = e^2 / 4 + O(e^3) for an excess e.",
    rounding=1e-7,
)
def leapfrog_kl_law(deviation) -> Estimate:
    """Minus the distance of the extrapolated limit: 0, up to L^{-4} for L = 64."""
    return _defect_of_the_limit(deviation)


def _defect_of_the_covariance(cov, step, c, steps: int = 1) -> Estimate:
    """Minus the relative distance of the covariance that leapfrog steps reach with the potential of one step."""
    stiffness = 2 / (step * c) * symmetrised(jnp.eye(2) - sqrtm(cov - c**2 * jnp.eye(2)))
    hamiltonian = QuadraticHamiltonian(step / c * jnp.ones(2), stiffness)
    field, begin, end = hamiltonian.gradient(), step, jnp.zeros_like(step)
    columns = jnp.eye(4)
    for _ in range(steps):
        columns = jax.vmap(lambda z: Leapfrog().step(hamiltonian, field, begin, end, z, jnp.zeros((0, 4))))(columns)
    reached = columns[:, :2].T @ columns[:, :2]
    return closed_form(-jnp.max(jnp.abs(reached - cov)) / jnp.sqrt(jnp.sum(cov**2)))


ONE_STEP = Domain(cov=spd(2, 0.3, 8), step=positive(0.1, 2), c=positive(0.02, float(np.sqrt(0.3))))


def _some_covariances() -> Iterator[dict[str, Any]]:
    for step, c in ((1.0, 0.5), (0.3, 0.1)):
        yield {"cov": [[4.0, 1.0], [1.0, 0.6]], "step": step, "c": c}


@claim(
    id="one-step-gaussian",
    statement=r"V(q) = \frac{m}{h^2}\, q^T (I - (\Sigma - c^2 I)^{1/2})\, q, \; c = h/m \leq \lambda_{\min}(\Sigma)^{1/2} \Rightarrow q_1 \sim \mathcal{N}(0, \Sigma)",
    source="derived here, for one leapfrog step of a flow with fixed kinetic energy (Souveton et al. 2024)",
    domain=ONE_STEP,
    kind="theorem",
    references=["souveton2024fixed"],
    equality=_some_covariances,
    mutants={
        "longer-drift": Mutant("the drift no longer than the least deviation", _defect_of_the_covariance, ONE_STEP.replace(c=positive(3, 5))),
        "two-steps": Mutant("one step: two", lambda cov, step, c: _defect_of_the_covariance(cov, step, c, 2)),
    },
    proof="q_1 = q_0 - (h^2 / 2m) grad V(q_0) + c p_0 = (S - c^2)^{1/2} q_0 + c p_0.",
)
def one_step_gaussian_exact(cov, step, c) -> Estimate:
    """Minus the relative distance of the covariance reached: 0 everywhere."""
    return _defect_of_the_covariance(cov, step, c)
