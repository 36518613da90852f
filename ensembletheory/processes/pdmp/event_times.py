r"""First event times of an inhomogeneous Poisson clock whose rate along the motion is (alpha + beta s)_+ + c, in closed form for all signs.

The clock rings when the hazard Lambda(s) = int_0^s (alpha + beta u)_+ du + c s has spent an exponential energy E. With a = alpha_+ and D = (a + c)^2 + 2 beta E:

    beta > 0:   w = alpha_- / beta is the time until the rate grows; s = E / c if E <= c w, else s = w + 2 E' / (a + c + sqrt(D')), E' = E - c w and D' of E';
    beta <= 0:  s = 2 E / (a + c + sqrt(D)) while D >= c^2 (the rate has not yet fallen to c), else w + (E - M) / c with w = a / |beta| and M = a (a / 2 + c) / |beta|.

Where c = 0 and the rate dies before the energy is spent, the clock never rings: inf. The hazard itself is c s + (s / 2) (alpha_+ + q_+)^2 / (|alpha| + |q|) with q = alpha
+ beta s. No difference of nearly equal numbers occurs: -alpha + sqrt(alpha^2 + 2 beta E) never appears. What is left of the energy after s is again exponential: only a
clock that rang needs a new draw.

For a Gaussian target of precision S the rates along straight motion are of this form: alpha = v_i (S (x - m))_i and beta = v_i (S v)_i for coordinate i of the zig-zag
process, where beta < 0 occurs as soon as S is not diagonal, and alpha = v^T S (x - m), beta = v^T S v for the bouncy particle. Sources: Bierkens, Fearnhead & Roberts
(2019); Bouchard-Cote, Vollmer & Doucet (2018).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse

__all__ = ["event_time", "hazard", "spent", "survival", "wait"]


def event_time(alpha: Numbers, beta: Numbers, energy: Numbers, constant: Numbers = 0.0) -> Float[Array, "..."]:
    """The time at which the hazard of the rate (alpha + beta s)_+ + constant reaches `energy`, or inf if it never does; all arguments broadcast.

    Args:
        alpha: where the linear rate begins.
        beta: its slope, of any sign.
        energy: a draw of Exp(1) for an event time; positive.
        constant: what is added to the rate: a refreshment; non-negative.

    Raises:
        ValueError: if an energy is not positive or a constant is negative, or a value is not finite.
    """
    alpha, beta, energy, constant = _checked(alpha, beta, ("energy", energy), constant)
    if is_concrete(energy) and np.any(np.asarray(energy) <= 0):
        refuse("energy", f"{float(jnp.min(energy)):.6g}", "positive numbers", "It is a draw of the exponential law, which is positive.")
    return _together(wait, alpha, beta, energy, constant)


def hazard(alpha: Numbers, beta: Numbers, s: Numbers, constant: Numbers = 0.0) -> Float[Array, "..."]:
    """The integral of (alpha + beta u)_+ + constant over 0 <= u <= s.

    Raises:
        ValueError: if a time or a constant is negative, or a value is not finite.
    """
    alpha, beta, s, constant = _checked(alpha, beta, ("s", s), constant)
    if is_concrete(s) and np.any(np.asarray(s) < 0):
        refuse("s", f"{float(jnp.min(s)):.6g}", "times >= 0", "A clock starts at 0.")
    return _together(spent, alpha, beta, s, constant)


def survival(alpha: Numbers, beta: Numbers, s: Numbers, constant: Numbers = 0.0) -> Float[Array, "..."]:
    """The probability exp(-hazard) that nothing has happened by time s.

    Raises:
        ValueError: as `hazard`.
    """
    return jnp.exp(-hazard(alpha, beta, s, constant))


def wait(alpha: Float[Array, "..."], beta: Float[Array, "..."], energy: Float[Array, "..."], constant: Float[Array, "..."] | None = None) -> Float[Array, "..."]:
    """`event_time` of arrays of one shape, unchecked; without the constant where it is None, which is quicker."""
    a, grows, none = jnp.maximum(alpha, 0), beta > 0, jnp.zeros((), alpha.dtype)
    least, slope = (none if constant is None else constant), jnp.where(beta == 0, 1, jnp.abs(beta))
    begun = jnp.where(grows, jnp.maximum(-alpha, 0) / slope, 0)  # when the line begins to grow from 0
    rest = energy - least * begun
    gained, first = 2 * beta * rest, a + least
    square = first**2 + gained
    on_the_line = begun + _over(2 * rest, first + jnp.where(gained == 0, first, _root(square)))  # the square of a tiny rate is 0
    if constant is None:
        return jnp.where((square < 0) | ~(grows | (a > 0)), jnp.inf, on_the_line)
    fallen = jnp.where(beta < 0, a / slope, 0)  # when the line has fallen to 0
    beside = jnp.where(grows, energy, energy - fallen * a / 2)
    off_the_line = jnp.where(constant > 0, _over(beside, constant), jnp.inf)
    return jnp.where((rest > 0) & jnp.where(beta < 0, (a > 0) & (square >= constant**2), grows | (a > 0)), on_the_line, off_the_line)


def _over(numerator: Float[Array, "..."], denominator: Float[Array, "..."]) -> Float[Array, "..."]:
    return numerator / jnp.where(denominator > 0, denominator, 1)


def _root(square: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def spent(alpha: Float[Array, "..."], beta: Float[Array, "..."], s: Float[Array, "..."], constant: Float[Array, "..."] | None = None) -> Float[Array, "..."]:
    """`hazard` of arrays of one shape, unchecked."""
    q = alpha + beta * s
    above, size = jnp.maximum(alpha, 0) + jnp.maximum(q, 0), jnp.abs(alpha) + jnp.abs(q)
    on_the_line = s / 2 * above * (above / jnp.where(size > 0, size, 1))
    return on_the_line if constant is None else on_the_line + constant * s


def _checked(alpha: Numbers, beta: Numbers, third: tuple[str, Numbers], constant: Numbers) -> tuple[Float[Array, "..."], ...]:
    arrays = tuple(as_floats(name, value) for name, value in (("alpha", alpha), ("beta", beta), third, ("constant", constant)))
    if is_concrete(arrays[3]) and np.any(np.asarray(arrays[3]) < 0):
        refuse("constant", f"{float(jnp.min(arrays[3])):.6g}", "rates >= 0", "A rate is not negative.")
    return arrays


@partial(jax.jit, static_argnums=0)
def _together(function: Callable[..., Array], *arrays: Float[Array, "..."]) -> Float[Array, "..."]:
    return function(*jnp.broadcast_arrays(*arrays))
