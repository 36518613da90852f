r"""The laws that leapfrog samples on a quadratic Hamiltonian, in closed form by normal modes.

On H = p^2 / 2m + k q^2 / 2 with w^2 = k / m, y = (w h / 2)^2 and x = 1 - 2 y, L steps of length h are the matrix

    [[ T_L(x), (h/m) U_{L-1}(x) ], [ -h k (1 - y) U_{L-1}(x), T_L(x) ]]      (Chebyshev polynomials),

hence from N(0, s_q^2) x N(0, s_p^2) the positions have the variance  s_q^2 T_L^2 + s_p^2 (h/m)^2 U_{L-1}^2,  for every real k. Steps turn by the angle theta, sin(theta/2) =
w h / 2, while 0 <= y < 1 (w h < 2: stable), in which case they follow *exactly* a shadow Hamiltonian, of frequency theta / h = (2/h) asin(w h / 2), whatever the number of
steps. They keep p^2 / 2m + (k/2) (1 - y) q^2. With y < 0 (a negative k) or y > 1 they grow like a hyperbola: allowed, as volume is kept.

The polynomials are computed by adding angles, not from x, in v_n = (1 - T_n) / 2, which keeps the digits of small angles:

    v_{m+n} = v_m + v_n - 2 v_m v_n + 2 y (1 - y) U_m U_n,     U_{m+n} = U_m + U_n - 2 (v_m U_n + U_m v_n)      (U_n short for U_{n-1}).

Modes are the X with X^T M X = I and X^T K X = diag(w^2). Derivatives through `normal_modes` exist where frequencies differ; those of `leapfrog_variance`, and of `Sampler`,
everywhere.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.laws import Gaussian
from ensembletheory.linalg import symmetrised
from ensembletheory.processes.hamiltonian import QuadraticHamiltonian

__all__ = [
    "NormalModes",
    "chebyshev",
    "conserved_energy",
    "counted",
    "effective_frequency",
    "largest_step",
    "leapfrog_law",
    "leapfrog_matrix",
    "leapfrog_variance",
    "normal_modes",
    "shadow_hamiltonian",
]

_BITS = 31  # of the number of steps
_SMALL = 1e-3  # below it the power series of asin(sqrt(y)) / sqrt(y), to y^5, is exact to rounding


def chebyshev(y: Numbers, steps: ArrayLike) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """T_L(1 - 2 y) and U_{L-1}(1 - 2 y), with all digits of a small y; `steps` may be an array that broadcasts with y.

    Raises:
        ValueError: if a number of steps is no integer, or less than 1.
    """
    values = as_floats("y", y)
    count = counted(steps)
    shape = jnp.broadcast_shapes(values.shape, count.shape)
    return _chebyshev(jnp.broadcast_to(values, shape), jnp.broadcast_to(count, shape))


def counted(steps: ArrayLike) -> Int[Array, "..."]:
    """Numbers of steps.

    Raises:
        ValueError: if one is no integer, or less than 1.
    """
    count = jnp.asarray(steps)
    if not jnp.issubdtype(count.dtype, jnp.integer):
        refuse("steps", f"numbers of type {count.dtype}", "integers", "Steps are whole.")
    if is_concrete(count) and not np.all(np.asarray(count) >= 1):
        refuse("steps", str(int(np.min(np.asarray(count)))), "at least 1", "Backward flows take positive numbers of negative steps.")
    return count


@jax.jit
def _chebyshev(y: Float[Array, "..."], steps: Int[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    def added(one, other):
        (v, U), (w, W) = one, other
        return v + w - 2 * v * w + 2 * y * (1 - y) * U * W, U + W - 2 * (v * W + U * w)

    def bit(carry, _):
        total, power, left = carry
        total = jax.tree.map(lambda new, old: jnp.where(left % 2 == 1, new, old), added(total, power), total)
        left = left // 2
        power = jax.tree.map(lambda new, old: jnp.where(left > 0, new, old), added(power, power), power)
        return (total, power, left), None

    nothing, once = (jnp.zeros_like(y), jnp.zeros_like(y)), (y, jnp.ones_like(y))
    (v, U), *_ = jax.lax.scan(bit, (nothing, once, steps), None, length=_BITS)[0]
    return 1 - 2 * v, U


def leapfrog_variance(
    mass: Numbers, stiffness: Numbers, step: Numbers, steps: ArrayLike, position_variance: Numbers = 1.0, momentum_variance: Numbers = 1.0
) -> Float[Array, "..."]:
    """The variance of positions after `steps` leapfrog steps on modes of these masses and stiffnesses, which broadcast.

    Raises:
        ValueError: if a mass is not positive, or a number of steps is no integer, or less than 1.
    """
    m = as_floats("mass", mass)
    if is_concrete(m) and not np.all(np.asarray(m) > 0):
        refuse("mass", f"{float(np.min(np.asarray(m))):.6g}", "positive masses", "A mode without positive mass does not move.")
    return _variance(m, *map(jnp.asarray, (stiffness, step)), counted(steps), *map(jnp.asarray, (position_variance, momentum_variance)))


@jax.jit
def _variance(m, k, h, steps, position_variance, momentum_variance):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        y = h**2 * k / (4 * m)
        T, U = _chebyshev(*jnp.broadcast_arrays(y, steps))
        return position_variance * T**2 + momentum_variance * (h / m * U) ** 2


class NormalModes(eqx.Module):
    """The modes of a quadratic Hamiltonian: squared frequencies, ascending, and shapes X (columns) with X^T M X = I."""

    squared_frequencies: Float[Array, " d"]
    shapes: Float[Array, "d d"]


def normal_modes(hamiltonian: QuadraticHamiltonian) -> NormalModes:
    """The normal modes.

    Raises:
        ValueError: if positions and momenta are coupled.
    """
    _require_separable(hamiltonian)
    return _modes(hamiltonian)


def leapfrog_matrix(hamiltonian: QuadraticHamiltonian, step: Numbers, steps: ArrayLike) -> Float[Array, "n n"]:
    """The linear part of `steps` leapfrog steps, on R^{2d}, by normal modes.

    Raises:
        ValueError: if positions and momenta are coupled, or the number of steps is no integer, or less than 1.
    """
    _require_separable(hamiltonian)
    return _matrix(hamiltonian, jnp.asarray(step, hamiltonian.horizon.dtype), counted(steps))


def leapfrog_law(hamiltonian: QuadraticHamiltonian, steps: ArrayLike) -> Gaussian:
    """The law of the positions after `steps` leapfrog steps over the horizon, from N(0, I), by normal modes: as `HamiltonianFlow(...).law()`, for one eigendecomposition.

    Raises:
        ValueError: if positions and momenta are coupled, or the number of steps is no integer, or less than 1.
    """
    _require_separable(hamiltonian)
    return _law(hamiltonian, counted(steps))


def effective_frequency(frequency: Numbers, step: Numbers) -> Float[Array, "..."]:
    """(2/h) asin(w h / 2), the frequency at which leapfrog turns a mode of frequency w.

    Raises:
        ValueError: if a step is 0 or unstable, w |h| >= 2.
    """
    w, h = as_floats("frequency", frequency), as_floats("step", step)
    if is_concrete(h) and np.any(np.asarray(h) == 0):
        refuse("step", "0", "a step of some length", "As steps shrink, the frequency tends to w itself.")
    if is_concrete(w, h) and np.any(np.abs(np.asarray(w) * np.asarray(h)) >= 2):
        got = f"{np.max(np.abs(np.asarray(w) * np.asarray(h))):.6g} times 1 / frequency"
        refuse("step", got, "less than the stability limit, 2 / frequency", "Beyond it the steps do not turn but grow.")
    return _effective(w, h)


@jax.jit
def _effective(w: Float[Array, "..."], h: Float[Array, "..."]) -> Float[Array, "..."]:
    return 2 / h * jnp.arcsin(w * h / 2)


def largest_step(hamiltonian: QuadraticHamiltonian) -> Float[Array, ""]:
    """The stability limit 2 / w of the fastest mode; infinite where none oscillates.

    Raises:
        ValueError: if positions and momenta are coupled.
    """
    _require_separable(hamiltonian)
    return _largest_step(hamiltonian)


@eqx.filter_jit
def _largest_step(hamiltonian: QuadraticHamiltonian) -> Float[Array, ""]:
    fastest = hamiltonian.squared_frequencies()[-1]
    return jnp.where(fastest > 0, 2 / jnp.sqrt(jnp.where(fastest > 0, fastest, 1.0)), jnp.inf)


def conserved_energy(hamiltonian: QuadraticHamiltonian, step: Numbers) -> QuadraticHamiltonian:
    """The quadratic Hamiltonian p^T M^{-1} p / 2 + x^T K (I - (h^2/4) M^{-1} K) x / 2, whose energy leapfrog keeps exactly, stable or not.

    Raises:
        ValueError: if positions and momenta are coupled.
    """
    _require_separable(hamiltonian)
    stiffness = _softened(hamiltonian, jnp.asarray(step, hamiltonian.horizon.dtype))
    return QuadraticHamiltonian(hamiltonian.mass, stiffness, hamiltonian.mean, horizon=hamiltonian.horizon)


@eqx.filter_jit
def _softened(hamiltonian: QuadraticHamiltonian, h: Float[Array, ""]) -> Float[Array, "d d"]:
    K = hamiltonian.stiffness
    return symmetrised(K - h**2 / 4 * K @ hamiltonian.inverse_mass @ K)


def shadow_hamiltonian(hamiltonian: QuadraticHamiltonian, step: Numbers) -> QuadraticHamiltonian:
    """The Hamiltonian whose exact flow leapfrog follows: modes of frequency (2/h) asin(w h / 2).

    Raises:
        ValueError: if positions and momenta are coupled, or the step is at or beyond the stability limit, where there is none.
    """
    _require_separable(hamiltonian)
    h, limit = jnp.asarray(step, hamiltonian.horizon.dtype), largest_step(hamiltonian)
    if is_concrete(h, limit) and not abs(float(h)) < float(limit):
        refuse("step", f"{float(h):.6g}", f"less than the stability limit {float(limit):.6g}", "Beyond it leapfrog follows no quadratic Hamiltonian.")
    mass, stiffness = _shadow(hamiltonian, h)
    return QuadraticHamiltonian(mass, stiffness, hamiltonian.mean, horizon=hamiltonian.horizon)


def _require_separable(hamiltonian: QuadraticHamiltonian) -> None:
    if not hamiltonian.separable:
        refuse("hamiltonian", "one whose positions and momenta are coupled", "H = V(q) + K(p)", "Only then are there kicks and drifts.")


@eqx.filter_jit
def _modes(hamiltonian: QuadraticHamiltonian) -> NormalModes:
    inverse = jnp.linalg.cholesky(hamiltonian.mass).T @ hamiltonian.inverse_mass  # L^{-1} = L^T M^{-1}
    squares, Q = jnp.linalg.eigh(symmetrised(inverse @ hamiltonian.stiffness @ inverse.T))
    return NormalModes(squares, inverse.T @ Q)


@eqx.filter_jit
def _matrix(hamiltonian: QuadraticHamiltonian, h: Float[Array, ""], steps: Int[Array, ""]) -> Float[Array, "n n"]:
    modes, M = _modes(hamiltonian), hamiltonian.mass
    X, y = modes.shapes, h**2 * modes.squared_frequencies / 4
    T, U = _chebyshev(y, jnp.broadcast_to(steps, y.shape))
    turned, drifted, kicked = ((X * factor[None, :]) @ X.T for factor in (T, h * U, h * modes.squared_frequencies * (1 - y) * U))
    return jnp.block([[turned @ M, drifted], [-M @ kicked @ M, M @ turned]])


@eqx.filter_jit
def _law(hamiltonian: QuadraticHamiltonian, steps: Int[Array, ""]) -> Gaussian:
    modes, M = _modes(hamiltonian), hamiltonian.mass
    h = hamiltonian.horizon / steps.astype(hamiltonian.horizon.dtype)
    X, y = modes.shapes, h**2 * modes.squared_frequencies / 4
    T, U = _chebyshev(y, jnp.broadcast_to(steps, y.shape))
    turned, drifted = (X * T[None, :]) @ (X.T @ M), (X * (h * U)[None, :]) @ X.T
    return Gaussian(hamiltonian.mean - turned @ hamiltonian.mean, symmetrised(turned @ turned.T + drifted @ drifted.T))


@eqx.filter_jit
def _shadow(hamiltonian: QuadraticHamiltonian, h: Float[Array, ""]) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    modes, M = _modes(hamiltonian), hamiltonian.mass
    X, squares = modes.shapes, modes.squared_frequencies
    y = h**2 * squares / 4
    ratio, rest = _angle_ratio(y), jnp.sqrt(1 - y)
    MX = M @ X
    return symmetrised((MX * (rest / ratio)[None, :]) @ MX.T), symmetrised((MX * (squares * ratio * rest)[None, :]) @ MX.T)


def _angle_ratio(y: Float[Array, " d"]) -> Float[Array, " d"]:
    """Asin(sqrt(y)) / sqrt(y), continued to negative y."""
    root = jnp.sqrt(jnp.where(jnp.abs(y) < _SMALL, 1.0, jnp.abs(y)))
    away = jnp.where(y > 0, jnp.arcsin(jnp.minimum(root, 1.0)), jnp.arcsinh(root)) / root
    series = 1 + y * (1 / 6 + y * (3 / 40 + y * (5 / 112 + y * (35 / 1152 + y * 63 / 2816))))
    return jnp.where(jnp.abs(y) < _SMALL, series, away)
