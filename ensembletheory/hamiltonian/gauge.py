r"""Gauge freedom: which Hamiltonian flows sample the same law.

**Time and energy.** (h, H) and (h / s, s H) make the same steps: with quadratic H, (h, K, M) and (h / s, s K, M / s).

**One mode.** L leapfrog steps of h on p^2 / 2m + k q^2 / 2 take N(0, I) to a position of variance T_L(x)^2 + c^2 U_{L-1}(x)^2, x = 1 - h^2 k / 2m, c = h / m: one
equation, so that with m learned a curve of (k, m) samples the same law, while with m fixed there are at most 2 L stiffnesses, the roots of a polynomial of degree 2 L
(`reaching_stiffnesses`); for L = 1 they are k = (2m / h^2) (1 -/+ sqrt(sigma^2 - c^2)). For one step in d dimensions the signs are free along each axis of the
covariance: 2^d potentials, of which one makes q_0 -> E[q_1 | q_0] the gradient of a convex function (the convex gauge), and that one alone
stays below w h = 2 for every sigma; where sigma^2 > 1 + c^2 every gauge grows.

**Linear symplectic flows** of N(0, I): positions q = A z_q + B z_p with A B^T = B A^T. With Z = A + i B the law is Z Z^*, a real matrix, so that Z is known up to Z U, U
unitary: turns of the prior by orthogonal symplectic matrices [[X, -Y], [Y, X]], X + i Y unitary. Over these gauges

    min_U E|Z_1 z - Z_2 U z|^2 = tr S_1 + tr S_2 - 2 tr (S_1^{1/2} S_2 S_1^{1/2})^{1/2} = W_2^2(N(0, S_1), N(0, S_2)):

the gauges suffice to couple two laws optimally. Derived here; see Souveton et al. (2024) for the model.
"""

from collections.abc import Sequence
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, refuse
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import nearest_orthogonal
from ensembletheory.processes import QuadraticHamiltonian
from ensembletheory.processes.arguments import positive

__all__ = ["nearest_gauge", "one_step_gauges", "one_step_stiffness", "rescaled"]


def one_step_stiffness(cov: Float[Array, "d d"], noise: Float[Array, ""], signs: Float[Array, " d"]) -> Float[Array, "d d"]:
    """Q diag(1 - signs sqrt(S - noise)) Q^T for cov = Q diag(S) Q^T: (h^2 / 2m) K of a one-step flow that samples this covariance, where noise = (h / m)^2."""
    S, Q = jnp.linalg.eigh(cov)
    return (Q * (1 - signs * jnp.sqrt(jnp.maximum(S - noise, 0.0)))[None, :]) @ Q.T


def one_step_gauges(law: Gaussian, horizon: Numbers, mass: Numbers = 1.0) -> list[QuadraticHamiltonian]:
    """The 2^d quadratic Hamiltonians of this mass (a number) that sample a centred `law` from N(0, I) by one leapfrog step over their horizon; the convex gauge comes first.

    Raises:
        ValueError: if the law is not centred, or narrower somewhere than h / m, below which one step does not reach.
    """
    h, m = positive("horizon", horizon), positive("mass", mass)
    least = float(jnp.linalg.eigvalsh(law.cov)[0])
    if np.any(np.asarray(law.mean)):
        refuse("law", f"mean {np.asarray(law.mean)}", "a centred law", "Shift the positions of the prior instead.")
    if least < float(h / m) ** 2 * (1 - 1e-12):
        refuse("law", f"a variance of {least:.6g}", f"at least (h / m)^2 = {float(h / m) ** 2:.6g}", "Shorten the horizon, or raise the mass.")
    signs = product((1.0, -1.0), repeat=law.dim)
    return [QuadraticHamiltonian(m, 2 * m / h**2 * one_step_stiffness(law.cov, (h / m) ** 2, jnp.asarray(s)), jnp.zeros(law.dim), horizon=h) for s in signs]


def rescaled(hamiltonian: QuadraticHamiltonian, factor: Numbers) -> QuadraticHamiltonian:
    """`factor` times H over its horizon / `factor`: the same flow, and the same steps of any splitting.

    Raises:
        ValueError: if the factor is not above 0.
    """
    s = positive("factor", factor)
    coupling = None if hamiltonian.coupling is None else s * hamiltonian.coupling
    return QuadraticHamiltonian(hamiltonian.mass / s, s * hamiltonian.stiffness, hamiltonian.mean, coupling, hamiltonian.horizon / s)


@jax.jit
def nearest_gauge(C: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The orthogonal symplectic G = [[X, -Y], [Y, X]] with the largest <C, G>: the polar factor of the part of C that is of this form."""
    d = C.shape[0] // 2
    X, Y = C[:d, :d] + C[d:, d:], C[d:, :d] - C[:d, d:]
    return nearest_orthogonal(jnp.block([[X, -Y], [Y, X]]))


def turned(rows: Sequence[Float[Array, "d n"]], reference: Float[Array, "d n"]) -> Float[Array, "K d n"]:
    """Each [A B] times the gauge that brings it nearest to the reference."""
    return jnp.stack([row @ nearest_gauge(row.T @ reference) for row in rows])
