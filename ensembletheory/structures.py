r"""Structures of flows and processes as checks that serve any of them: each is a defect, a number that is 0 up to rounding where the structure is there, and a requirement.

For a map Phi of phase space z = (q, p), with derivative D, the flip R(q, p) = (q, -p), and J = [[0, I], [-I, 0]]:

    symplectic            D^T J D = J                 (then it keeps volume too)
    volume-preserving     log |det D| = 0
    reversible            R Phi R Phi = identity      (undone by flipping the momenta)

For a process dX = b dt + G dW with law p, Q = G G^T constant in x and the current velocity c = b - Q grad log p / 2, so that d/dt log p = -div c - c . grad log p:

    stationary            div c + c . grad log p = 0  (the law p does not change)
    reversible in time    c = 0                       (detailed balance: nothing flows)
    non-reversible        c is not 0, though p is stationary.

Maps are functions of one point or matrices. Defects are the largest over the points that are given, relative to the size of their terms.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.laws import Law
from ensembletheory.processes.hamiltonian import halves
from ensembletheory.processes.process import Process

__all__ = [
    "current",
    "current_size",
    "require_nonreversible",
    "require_reversible",
    "require_stationary",
    "require_symplectic",
    "require_volume_preserving",
    "reversibility_defect",
    "stationarity_defect",
    "symplectic_defect",
    "unit_symplectic",
    "volume_defect",
]

Map = Callable[[Float[Array, " n"]], Float[Array, " n"]]

TOLERANCE = 1e-9


def unit_symplectic(d: int) -> Float[np.ndarray, "n n"]:
    """J = [[0, I], [-I, 0]] on R^{2d}."""
    return np.block([[np.zeros((d, d)), np.eye(d)], [-np.eye(d), np.zeros((d, d))]])


def symplectic_defect(map: Map | Numbers, points: Numbers | None = None) -> Float[Array, ""]:
    """The largest entry of D^T J D - J, relative to 1 + |D|^2.

    Args:
        map: a function of one point (2d,), or a matrix (2d, 2d).
        points: (n, 2d), where the derivative is taken; a matrix needs none.

    Raises:
        ValueError: if phase space has an odd dimension.
    """
    return _symplectic_defect(*_map_and_points(map, points))


def volume_defect(map: Map | Numbers, points: Numbers | None = None) -> Float[Array, ""]:
    """The largest |log |det D||; arguments as of `symplectic_defect`, in any dimension."""
    return _volume_defect(*_map_and_points(map, points))


def reversibility_defect(map: Map | Numbers, points: Numbers | None = None) -> Float[Array, ""]:
    """The largest entry of R Phi R Phi z - z, relative to 1 + |z|; arguments as of `symplectic_defect`."""
    return _reversibility_defect(*_map_and_points(map, points))


def current(process: Process, law: Law, t: Numbers, x: Numbers) -> Float[Array, "... d"]:
    """The current velocity b - Q grad log p / 2 of a law, at time t and points (..., d)."""
    return _currents(process, law, process.checked_time("t", t), as_floats("x", x))


def stationarity_defect(process: Process, law: Law, points: Numbers, t: Numbers = 0.0) -> Float[Array, ""]:
    """The largest |d/dt log p|, relative to 1 + the sizes of its terms, over points (n, d), when the process has the law p at time t."""
    return _stationarity_defect(process, law, process.checked_time("t", t), as_floats("points", points))


def current_size(process: Process, law: Law, points: Numbers, t: Numbers = 0.0) -> Float[Array, ""]:
    """The largest |c|, relative to 1 + the sizes of its terms, over points (n, d): 0 where the process is reversible with respect to the law."""
    return _current_size(process, law, process.checked_time("t", t), as_floats("points", points))


def require_symplectic(map: Map | Numbers, points: Numbers | None = None, argument: str = "map", tolerance: float = TOLERANCE) -> None:
    """Refuse a map that is not symplectic.

    Raises:
        ValueError: naming the defect.
    """
    _require(symplectic_defect(map, points), tolerance, argument, "off D^T J D = J", "a symplectic map", "Compose kicks, drifts and Hamiltonian flows, which are.")


def require_volume_preserving(map: Map | Numbers, points: Numbers | None = None, argument: str = "map", tolerance: float = TOLERANCE) -> None:
    """Refuse a map that does not keep volume.

    Raises:
        ValueError: naming the defect.
    """
    _require(volume_defect(map, points), tolerance, argument, "off log |det D| = 0", "a map that keeps volume", "Without it densities need the determinant.")


def require_reversible(map: Map | Numbers, points: Numbers | None = None, argument: str = "map", tolerance: float = TOLERANCE) -> None:
    """Refuse a map that flipping the momenta does not undo.

    Raises:
        ValueError: naming the defect.
    """
    _require(reversibility_defect(map, points), tolerance, argument, "off R Phi R Phi = identity", "a reversible map", "Make the coefficients of a splitting a palindrome.")


def require_stationary(process: Process, law: Law, points: Numbers, t: Numbers = 0.0, tolerance: float = TOLERANCE) -> None:
    """Refuse a law that the process changes.

    Raises:
        ValueError: naming the defect.
    """
    _require(stationarity_defect(process, law, points, t), tolerance, "law", "off div c + c . grad log p = 0", "a law that the process keeps", "Check drift and noise.")


def require_nonreversible(process: Process, law: Law, points: Numbers, t: Numbers = 0.0, tolerance: float = TOLERANCE) -> None:
    """Refuse a process that is reversible with respect to the law, or does not keep it.

    Raises:
        ValueError: naming the current or the defect.
    """
    require_stationary(process, law, points, t, tolerance)
    size = current_size(process, law, points, t)
    if is_concrete(size) and not float(size) > tolerance:
        refuse("process", f"a current of {float(size):.3g}", "a process in which something flows", "Add an antisymmetric part to the drift.")


def _require(defect: Float[Array, ""], tolerance: float, argument: str, what: str, expected: str, remedy: str) -> None:
    if is_concrete(defect) and not float(defect) <= tolerance:
        refuse(argument, f"one that is {what} by {float(defect):.3g}", expected, remedy)


def _map_and_points(map: Map | Numbers, points: Numbers | None) -> tuple[Map, Float[Array, "n d"]]:
    if callable(map):
        if points is None:
            refuse("points", "None", "points (n, d) at which to look at the map", "A matrix needs none; the derivative of another map depends on the point.")
        return map, as_floats("points", points)
    matrix = as_floats("map", map)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        refuse("map", f"shape {matrix.shape}", "a square matrix, or a function of one point", "Phase space is mapped to itself.")
    return Partial(jnp.matmul, matrix), jnp.asarray(np.eye(len(matrix)))


@eqx.filter_jit
def _symplectic_defect(map: Map, points: Float[Array, "n d"]) -> Float[Array, ""]:
    J = jnp.asarray(unit_symplectic(len(halves(points[0])[0])), points.dtype)

    def at(z):
        D = jax.jacfwd(map)(z)
        return jnp.max(jnp.abs(D.T @ J @ D - J)) / (1 + jnp.sum(D**2))

    return jnp.max(jax.vmap(at)(points))


@eqx.filter_jit
def _volume_defect(map: Map, points: Float[Array, "n d"]) -> Float[Array, ""]:
    return jnp.max(jax.vmap(lambda z: jnp.abs(jnp.linalg.slogdet(jax.jacfwd(map)(z))[1]))(points))


@eqx.filter_jit
def _reversibility_defect(map: Map, points: Float[Array, "n d"]) -> Float[Array, ""]:
    def flipped(z):
        q, p = halves(z)
        return jnp.concatenate([q, -p])

    return jnp.max(jax.vmap(lambda z: jnp.max(jnp.abs(flipped(map(flipped(map(z)))) - z)) / (1 + jnp.max(jnp.abs(z))))(points))


def _current(process: Process, law: Law, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
    return process.drift(t, x) - process.spread(t, law._score(x)) / 2


@eqx.filter_jit
def _currents(process: Process, law: Law, t: Float[Array, ""], points: Float[Array, "... d"]) -> Float[Array, "... d"]:
    return jnp.vectorize(lambda x: _current(process, law, t, x), signature="(d)->(d)")(points)


@eqx.filter_jit
def _stationarity_defect(process: Process, law: Law, t: Float[Array, ""], points: Float[Array, "n d"]) -> Float[Array, ""]:
    def at(x):
        slopes, score = jax.jacfwd(lambda y: _current(process, law, t, y))(x), law._score(x)
        terms = jnp.concatenate([jnp.diagonal(slopes), _current(process, law, t, x) * score])
        return jnp.abs(jnp.sum(terms)) / (1 + jnp.sum(jnp.abs(terms)))

    return jnp.max(jax.vmap(at)(points))


@eqx.filter_jit
def _current_size(process: Process, law: Law, t: Float[Array, ""], points: Float[Array, "n d"]) -> Float[Array, ""]:
    def at(x):
        moved, spread = process.drift(t, x), process.spread(t, law._score(x)) / 2
        return jnp.max(jnp.abs(moved - spread)) / (1 + jnp.max(jnp.abs(moved)) + jnp.max(jnp.abs(spread)))

    return jnp.max(jax.vmap(at)(points))
