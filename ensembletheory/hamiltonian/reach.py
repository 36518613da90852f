r"""What linear symplectic flows, and leapfrog on one mode, can reach.

**Linear symplectic maps N** push N(0, I) on phase space to the joint covariances P = N N^T whose symplectic eigenvalues are all 1, and these are

    P = [[ S, S W ], [ W S, S^{-1} + W S W ]],     S positive definite, W symmetric, both arbitrary,

so every covariance S of the positions is reached, and p | q ~ N(W q, S^{-1}) whatever the map. A quarter turn reaches it: A = 0, B = S^{1/2} in q = A q_0 + B p_0. From
another Gaussian the symplectic eigenvalues are those of the prior: the invariants.

**L leapfrog steps** on a mode, c = h/m, from N(0, 1) x N(0, 1), reach exactly the standard deviations from inf_x sigma(x) on, sigma(x)^2 = T_L(x)^2 + c^2 U_{L-1}(x)^2, for x
is any real number and sigma is continuous and unbounded. With T^2 + (1 - x^2) U^2 = 1 the infimum is c for odd L where c <= 1, and for L = 1 always; c sqrt(2 - c^2)
for L = 2, c <= 1; 1 where c >= 1 and L >= 2; and slightly below c / cos(pi / 2L) for even L where c is small. A deviation is reached by as many stiffnesses as the
polynomial sigma(x)^2 - s^2, of degree 2L, has real roots.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import Chebyshev

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.laws import Gaussian, standard_normal
from ensembletheory.linalg import solve_spd, sqrtm, symmetrised, williamson
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.hamiltonian import QuadraticHamiltonian
from ensembletheory.structures import require_symplectic

__all__ = ["invariants", "joint_covariance", "least_deviation", "quarter_turn", "reaching_stiffnesses", "symplectic_law"]

_REAL = 1e-7  # roots of a polynomial that come in pairs are known to about the square root of rounding


def symplectic_law(N: Numbers, prior: Gaussian | None = None) -> Gaussian:
    """The law of N z, for a symplectic N (2d, 2d) and z ~ prior, N(0, I) if left out.

    Raises:
        ValueError: if N is not symplectic, or the prior has another dimension.
    """
    matrix = as_floats("N", N)
    require_symplectic(matrix, argument="N")
    law = standard_normal(len(matrix)) if prior is None else prior
    return law.push(matrix, np.zeros(len(matrix)))


def joint_covariance(cov: Numbers, W: Numbers) -> Float[Array, "n n"]:
    """[[S, S W], [W S, S^{-1} + W S W]]: every joint covariance of unit symplectic eigenvalues, for S positive definite and W symmetric."""
    return _joint(as_floats("cov", cov), as_floats("W", W))


@jax.jit
def _joint(S: Float[Array, "d d"], W: Float[Array, "d d"]) -> Float[Array, "n n"]:
    return jnp.block([[S, S @ W], [W @ S, symmetrised(solve_spd(S, jnp.eye(len(S), dtype=S.dtype)) + W @ S @ W)]])


def invariants(law: Gaussian) -> Float[Array, " d"]:
    """The symplectic eigenvalues of the covariance of a Gaussian on phase space, ascending, which no linear symplectic flow changes.

    Raises:
        ValueError: if the dimension is odd.
    """
    if law.dim % 2:
        refuse("law", f"dimension {law.dim}", "an even dimension", "Phase space is z = (q, p): positions and as many momenta.")
    return _invariants(law.cov)


@jax.jit
def _invariants(P: Float[Array, "n n"]) -> Float[Array, " d"]:
    return williamson(P)[0]


def quarter_turn(target: Gaussian, horizon: Numbers = 1.0) -> QuadraticHamiltonian:
    """The quadratic Hamiltonian whose exact flow over the horizon turns every mode by pi / 2, so that N(0, I) gets `target` as the law of its positions.

    With T the horizon and S the target's covariance: M = (2T / pi) S^{-1/2} and K = (pi / 2T) S^{-1/2}.
    """
    mass, stiffness = _quarter_turn(target.cov, positive("horizon", horizon))
    return QuadraticHamiltonian(mass, stiffness, target.mean, horizon=horizon)


@jax.jit
def _quarter_turn(S: Float[Array, "d d"], horizon: Float[Array, ""]) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    inverse, scale = symmetrised(solve_spd(sqrtm(S), jnp.eye(len(S), dtype=S.dtype))), 2 * horizon / jnp.pi
    return scale * inverse, inverse / scale


def least_deviation(c: float, steps: int) -> float:
    """The infimum of the standard deviations that `steps` leapfrog steps of c = step / mass reach on a mode, over all stiffnesses: it is attained, and all above it are too.

    Raises:
        ValueError: if c is not positive or there is no step.
    """
    variance = _variance_polynomial(c, steps)
    stationary = variance.deriv().roots()
    at = np.concatenate([stationary.real[np.abs(stationary.imag) < _REAL], [0.0]])
    return float(np.sqrt(np.min(variance(at))))


def reaching_stiffnesses(deviation: float, mass: float, step: float, steps: int) -> Float[np.ndarray, " n"]:
    """All stiffnesses, ascending, with which `steps` leapfrog steps give the positions this standard deviation; none where it is not reached."""
    variance = _variance_polynomial(step / mass, steps)
    roots = (variance - deviation**2).roots()
    real = np.sort(roots.real[np.abs(roots.imag) < _REAL * (1 + np.abs(roots.real))])[::-1]
    return 2 * mass / step**2 * (1 - real)


def _variance_polynomial(c: float, steps: int) -> Chebyshev:
    """T_L^2 + c^2 U_{L-1}^2, where U_{L-1} = T_L' / L."""
    if not c > 0:
        refuse("c", f"{c:.6g}", "a positive number", "It is step / mass: how far a drift carries.")
    if steps < 1:
        refuse("steps", str(steps), "at least one", "No step leaves N(0, 1).")
    T = Chebyshev.basis(steps)
    return T**2 + (c * T.deriv() / steps) ** 2
