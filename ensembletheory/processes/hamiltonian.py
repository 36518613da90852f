r"""Hamiltonian processes: phase space z = (q, p) in R^{2d}, moved along J grad H, that is q' = dH/dp and p' = -dH/dq.

Time of this package is 0 at the data and the horizon at the prior, while a Hamiltonian flow *generates*: H's own time runs from prior to data. So in the time of the
process dz/dt = -J grad H(z); `Sampler` with `Leapfrog`, which runs from the horizon to 0, follows H forward. A Hamiltonian process has no noise: its flow is
symplectic, hence keeps volume, and is undone by flipping the momenta where H(q, -p) = H(q, p).

**Quadratic**: H = 1/2 p^T M^{-1} p + 1/2 x^T K x + p^T C x with x = q - mean. Without coupling C, with A = M^{-1} K, the flow over a time h is the linear symplectic map

    q = mean + cos(A^{1/2} h) x_0 + A^{-1/2} sin(A^{1/2} h) M^{-1} p_0,     p = -K A^{-1/2} sin(A^{1/2} h) x_0 + cos(A^{1/2} h)^T p_0,

in each normal mode of frequency w a turn by w h of (q, p / (m w)); K need not be positive. **Separable**: H = V(q) + K(p), any two functions; **fixed kinetic**:
K = 1/2 p^T M^{-1} p. Sources: Toth et al. (2020); Souveton et al. (2024).
"""

from abc import abstractmethod
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import Isotropic
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.fields import Field
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Law
from ensembletheory.linalg import oscillation, transition
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.homogeneous import HomogeneousProcess
from ensembletheory.processes.process import Clock

__all__ = ["Hamiltonian", "QuadraticEnergy", "QuadraticHamiltonian", "SeparableHamiltonian"]

Energy = Callable[[Float[Array, " d"]], Float[Array, ""]]
_ASYMMETRY = 1e-10  # relative; above it a matrix is not symmetric up to rounding


class Hamiltonian(Clock):
    """A function H on phase space that does not depend on time; see `QuadraticHamiltonian` and `SeparableHamiltonian`."""

    @property
    @abstractmethod
    def separable(self) -> bool:
        """Whether H(q, p) = V(q) + K(p), which kicks and drifts need."""

    @abstractmethod
    def energy(self, z: Float[Array, " n"]) -> Float[Array, ""]:
        """H at one point (q, p)."""

    @abstractmethod
    def slopes(self, q: Float[Array, " d"], p: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """dH/dq and dH/dp."""

    def gradient(self) -> Field:
        """Grad H, as a field of kind "gradient"."""
        return _Gradient(self)

    def velocity(self, law: Law | None = None) -> Field:
        """-J grad H, the velocity in the time of the process, whatever the law."""
        return _Velocity(self)


class QuadraticHamiltonian(HomogeneousProcess, Hamiltonian):
    """H = 1/2 p^T M^{-1} p + 1/2 (q - mean)^T K (q - mean) + p^T C (q - mean) on R^{2d}.

    Args:
        mass: M, positive definite: (d, d), (d,) diagonal, or a scalar times the identity.
        stiffness: K, symmetric of any signature: likewise.
        mean: (d,), where the potential is stationary; the origin if left out.
        coupling: C (d, d); none if left out, and H is separable.
        horizon: the time of the prior.

    Raises:
        ValueError: if the shapes do not agree, the mass is not symmetric positive definite, the stiffness is not symmetric, or the horizon is not positive.
    """

    mass: Float[Array, "d d"]
    inverse_mass: Float[Array, "d d"]
    stiffness: Float[Array, "d d"]
    mean: Float[Array, " d"]
    coupling: Float[Array, "d d"] | None
    horizon: Float[Array, ""]

    def __init__(self, mass: Numbers, stiffness: Numbers, mean: Numbers | None = None, coupling: Numbers | None = None, horizon: Numbers = 1.0):
        given = {"mass": as_floats("mass", mass), "stiffness": as_floats("stiffness", stiffness)}
        if mean is not None:
            given["mean"] = as_floats("mean", mean)
        d = _common_dimension(given)
        self.mass, self.stiffness = (_matrix(name, given[name], d) for name in ("mass", "stiffness"))
        require_positive_mass(self.mass)
        self.inverse_mass = _inverse(self.mass)
        self.mean = given["mean"] if "mean" in given else jnp.asarray(np.zeros(d))
        if self.mean.shape != (d,):
            refuse("mean", f"shape {self.mean.shape}", f"({d},)", "One number a coordinate; in 1-D write mean=[0.0].")
        self.coupling = None if coupling is None else _square("coupling", as_floats("coupling", coupling), d)
        self.horizon = positive("horizon", horizon)

    @property
    def dim(self) -> int:
        """The dimension 2d of phase space."""
        return 2 * self.mass.shape[0]

    @property
    def separable(self) -> bool:
        """Whether there is no coupling."""
        return self.coupling is None

    def expected(self, dim: int) -> str | None:
        """The dimension of phase space, if it is another."""
        return None if dim == self.dim else f"dimension {self.dim}, that of phase space (q, p)"

    def energy(self, z: Float[Array, " n"]) -> Float[Array, ""]:
        """H at one point (q, p)."""
        (q, p), (along_q, along_p) = halves(z), self.slopes(*halves(z))
        return ((q - self.mean) @ along_q + p @ along_p) / 2

    def slopes(self, q: Float[Array, " d"], p: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """dH/dq and dH/dp."""
        x = q - self.mean
        along_q, along_p = self.stiffness @ x, self.inverse_mass @ p
        return (along_q, along_p) if self.coupling is None else (along_q + self.coupling.T @ p, along_p + self.coupling @ x)

    def drift(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        """-J grad H."""
        return _Velocity(self)(t, x)

    def spread(self, t: Float[Array, ""], y: Float[Array, " d"]) -> Float[Array, " d"]:
        """Nothing: there is no noise."""
        return jnp.zeros_like(y)

    def disturbance(self, t: Float[Array, ""], z: Float[Array, " d"]) -> Float[Array, " d"]:
        """Nothing: there is no noise."""
        return jnp.zeros_like(z)

    def velocity(self, law: Law | None = None) -> Field:
        """-J grad H, the velocity in the time of the process, whatever the law."""
        return _Velocity(self)

    def flow(self, h: Numbers) -> Float[Array, "n n"]:
        """The linear part of the flow of H over its own time h, of either sign: a symplectic matrix."""
        return _flow(self, jnp.asarray(h, self.horizon.dtype))

    def transition(self, h: Float[Array, ""], dim: int) -> AffineKernel:
        """Where the flow of H, run backward for a time h, takes a point."""
        E = _flow(self, -h)
        centre = jnp.concatenate([self.mean, jnp.zeros_like(self.mean)])
        return AffineKernel(E, centre - E @ centre, Isotropic(0.0, self.dim))

    def squared_frequencies(self) -> Float[Array, " d"]:
        """The eigenvalues of M^{-1} K, ascending: squared frequencies of the normal modes, where there is no coupling; a negative one is a rate of growth, squared."""
        return _squared_frequencies(self.mass, self.stiffness)


class QuadraticEnergy(eqx.Module):
    """x -> 1/2 (x - centre)^T A (x - centre)."""

    matrix: Float[Array, "d d"]
    centre: Float[Array, " d"]

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The energy at one point."""
        return (x - self.centre) @ self.matrix @ (x - self.centre) / 2


class SeparableHamiltonian(Hamiltonian):
    """H = V(q) + K(p).

    Args:
        potential: V, from a point (d,) to a scalar: a function or a module, such as a network.
        kinetic: K, likewise.
        horizon: the time of the prior.

    Raises:
        ValueError: if the horizon is not positive.
    """

    potential: Energy
    kinetic: Energy
    horizon: Float[Array, ""]

    def __init__(self, potential: Energy, kinetic: Energy, horizon: Numbers = 1.0):
        self.potential, self.kinetic, self.horizon = potential, kinetic, positive("horizon", horizon)

    @staticmethod
    def fixed_kinetic(potential: Energy, mass: Numbers, horizon: Numbers = 1.0) -> "SeparableHamiltonian":
        """V(q) + 1/2 p^T M^{-1} p, with a mass (d, d) or (d,) that fixes the dimension.

        Raises:
            ValueError: if the mass is not symmetric positive definite.
        """
        given = as_floats("mass", mass)
        matrix = _matrix("mass", given, _common_dimension({"mass": given}))
        require_positive_mass(matrix)
        return SeparableHamiltonian(potential, QuadraticEnergy(_inverse(matrix), jnp.asarray(np.zeros(len(matrix)))), horizon)

    @property
    def separable(self) -> bool:
        """It is."""
        return True

    def energy(self, z: Float[Array, " n"]) -> Float[Array, ""]:
        """H at one point (q, p)."""
        q, p = halves(z)
        return self.potential(q) + self.kinetic(p)

    def slopes(self, q: Float[Array, " d"], p: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Grad V and grad K."""
        return jax.grad(self.potential)(q), jax.grad(self.kinetic)(p)


class _Gradient(Field):
    hamiltonian: Hamiltonian

    @property
    def kind(self) -> str:
        return "gradient"

    @property
    def origin(self) -> Hamiltonian:
        return self.hamiltonian

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return jnp.concatenate(self.hamiltonian.slopes(*halves(x)))


class _Velocity(Field):
    hamiltonian: Hamiltonian

    @property
    def kind(self) -> str:
        return "velocity"

    @property
    def origin(self) -> Hamiltonian:
        return self.hamiltonian

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        along_q, along_p = self.hamiltonian.slopes(*halves(x))
        return jnp.concatenate([-along_p, along_q])


def halves(z: Float[Array, " n"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
    """Positions and momenta.

    Raises:
        ValueError: if there is an odd number of coordinates.
    """
    if z.shape[-1] % 2:
        refuse("z", f"{z.shape[-1]} coordinates", "positions and as many momenta", "Phase space is z = (q, p).")
    d = z.shape[-1] // 2
    return z[:d], z[d:]


def require_positive_mass(mass: Float[Array, "d d"]) -> None:
    """Refuse a mass matrix, whose values can be looked at, unless it is positive definite.

    Raises:
        ValueError: naming its smallest eigenvalue.
    """
    if is_concrete(mass):
        least = float(np.linalg.eigvalsh(np.asarray(mass))[0])
        if not least > 0:
            refuse(
                "mass",
                f"a matrix with eigenvalue {least:.6g}",
                "a symmetric positive definite mass",
                "Without it momenta do not tell velocities, and energy is not bounded below.",
            )


def _common_dimension(given: dict[str, Float[Array, "..."]]) -> int:
    """The d of all that are not scalars, or 1."""
    sizes = {name: array.shape[0] for name, array in given.items() if array.ndim}
    if len(set(sizes.values())) > 1 or 0 in sizes.values():
        refuse(", ".join(sizes), f"dimensions {list(sizes.values())}", "one dimension d >= 1", "Scalars stand for multiples of the identity.")
    return next(iter(sizes.values()), 1)


def _matrix(name: str, array: Float[Array, "..."], d: int) -> Float[Array, "d d"]:
    """A symmetric matrix of a scalar, a diagonal or a matrix.

    Raises:
        ValueError: if it is of another shape or, where it can be looked at, not symmetric.
    """
    values = np.asarray(array) if is_concrete(array) else array  # known numbers compile nothing
    if array.ndim < 2:
        return jnp.asarray((values[:, None] if array.ndim else values) * np.eye(d, dtype=array.dtype))
    _square(name, array, d)
    if is_concrete(array):
        asymmetry = np.max(np.abs(values - values.T))
        if asymmetry > _ASYMMETRY * np.max(np.abs(values)):
            refuse(name, f"a matrix that differs from its transpose by {asymmetry:.3g}", "a symmetric matrix", "With another one the map is not symplectic; symmetrise it.")
    return jnp.asarray((values + values.T) / 2)


def _square(name: str, array: Float[Array, "..."], d: int) -> Float[Array, "d d"]:
    if array.shape != (d, d):
        refuse(name, f"shape {array.shape}", f"a matrix ({d}, {d})", "One row and one column a coordinate.")
    return array


def _inverse(mass: Float[Array, "d d"]) -> Float[Array, "d d"]:
    inverse = np.linalg.inv(np.asarray(mass)) if is_concrete(mass) else jnp.linalg.inv(mass)
    return jnp.asarray((inverse + inverse.T) / 2)


@jax.jit
def _squared_frequencies(mass: Float[Array, "d d"], stiffness: Float[Array, "d d"]) -> Float[Array, " d"]:
    L = jnp.linalg.cholesky(mass)
    half = jax.scipy.linalg.solve_triangular(L, stiffness, lower=True)
    return jnp.linalg.eigvalsh(jax.scipy.linalg.solve_triangular(L, half.T, lower=True))


@eqx.filter_jit
def _flow(hamiltonian: QuadraticHamiltonian, h: Float[Array, ""]) -> Float[Array, "n n"]:
    M, K, C = hamiltonian.inverse_mass, hamiltonian.stiffness, hamiltonian.coupling
    if C is None:
        cosine, sine = oscillation(M @ K, h)
        return jnp.block([[cosine, sine @ M], [-K @ sine, cosine.T]])
    generator = jnp.block([[C, M], [-K, -C.T]]) * jnp.where(h < 0, -1.0, 1.0)
    return transition(generator, jnp.zeros_like(generator), jnp.abs(h))[0]
