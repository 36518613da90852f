r"""What randomised Hamiltonian Monte Carlo remembers: products of cosines of the times between refreshments.

Along a mode of frequency 1 a deviation from the target's mean is multiplied by cos g over every gap g between refreshments, the last, cut one included. So given the
refreshments a point x_0 ~ N(m, s^2) is N(m prod cos g_i, 1 + (s^2 - 1) prod cos^2 g_i) at time t: the law of x_t is a Gaussian scale mixture, with heavier tails than a
Gaussian. With refreshments at rate lambda, u_p(t) = E prod cos^p g_i solves the renewal equation

    u = f + lambda f * u,      f(t) = e^{-lambda t} cos^p t.

cos^p t is a sum of cosines of the frequencies p, p - 2, ..., so f(t) = c^T e^{A t} b with p + 1 states, and closing the loop u_p(t) = c^T exp((A + lambda b c^T) t) b
exactly. It decays at the rate at which the slowest eigenvalue does: at most 1 for p = 1 (at lambda = 2, as Langevin dynamics of friction 2), at most 1 / sqrt 2 for p = 2,
at lambda = 3 / sqrt 2: a refreshment at a random time leaves more of the second moment than Langevin's friction, whose best rate is 2.
"""

from math import comb

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.linalg import transition
from ensembletheory.processes.pdmp.process import checked_rate

__all__ = ["forgetting_rate", "remembered"]


def remembered(refreshment: Numbers, t: Numbers, power: int = 2) -> Float[Array, ""]:
    """E prod cos^power g_i over the gaps g_i of refreshments up to time t.

    Args:
        refreshment: the rate lambda >= 0.
        t: the time, >= 0.
        power: 1 for means, 2 for variances, 4 for what fourth moments need beside.

    Raises:
        ValueError: if rate or time are negative, or `power` is below 1.
    """
    rate, time = checked_rate("refreshment", refreshment), as_floats("t", t)
    if is_concrete(time) and float(time) < 0:
        refuse("t", f"{float(time):.6g}", "a time >= 0", "Refreshments are counted from time 0.")
    return _remembered(rate, time, _checked_power(power))


def forgetting_rate(refreshment: Numbers, power: int = 2) -> Float[Array, ""]:
    """The rate at which E prod cos^power g_i decays in the long run.

    Raises:
        ValueError: if the refreshment is negative, or `power` is below 1.
    """
    return _forgetting_rate(checked_rate("refreshment", refreshment), _checked_power(power))


def _checked_power(power: int) -> int:
    if power < 1:
        refuse("power", str(power), "an integer of at least 1", "Take 2 for variances.")
    return power


def _loop(rate: Float[Array, ""], power: int) -> tuple[Float[Array, "n n"], Float[Array, " n"], Float[Array, " n"]]:
    """The closed loop A + lambda b c^T, with b and c."""
    frequencies = range(power, -1, -2)
    sizes = [1 if w == 0 else 2 for w in frequencies]
    A, b, c = np.zeros((power + 1, power + 1)), np.zeros(power + 1), np.zeros(power + 1)
    for k, (w, at) in enumerate(zip(frequencies, np.cumsum([0, *sizes]), strict=False)):
        b[at], c[at] = 1, sizes[k] * comb(power, k) / 2**power
        if w:
            A[at, at + 1], A[at + 1, at] = -w, w
    loop = jnp.asarray(A, rate.dtype) + rate * jnp.asarray(np.outer(b, c) - np.eye(power + 1), rate.dtype)
    return loop, jnp.asarray(b, rate.dtype), jnp.asarray(c, rate.dtype)


@eqx.filter_jit
def _remembered(rate: Float[Array, ""], t: Float[Array, ""], power: int) -> Float[Array, ""]:
    loop, b, c = _loop(rate, power)
    return c @ transition(loop, jnp.zeros_like(loop), t)[0] @ b


@eqx.filter_jit
def _forgetting_rate(rate: Float[Array, ""], power: int) -> Float[Array, ""]:
    return -jnp.max(jnp.linalg.eigvals(_loop(rate, power)[0]).real)
