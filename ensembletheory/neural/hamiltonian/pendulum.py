r"""A pendulum, its exact motion and pictures of it: sequences of frames whose law of motion is known.

With q the angle from below, H(q, p) = p^2 / 2 + w^2 (1 - cos q). Swings up to the angle a < pi have energy E = 2 w^2 k^2, k = sin(a / 2), and

    sin(q / 2) = k sin(phi),     p = 2 w k cos(phi),     phi = am(w t + u | k),     period 4 K(k) / w,

with Jacobi's amplitude am and the complete elliptic integral K. Both come from the arithmetic-geometric mean (A, B) <- ((A + B) / 2, sqrt(A B)) begun at 1 and sqrt(1 - k^2):
K = pi / (2 A_N), and am(v) = phi_0 from phi_N = 2^N A_N v by  sin(2 phi_{n-1} - phi_n) = (C_n / A_n) sin(phi_n),  C_n = (A_{n-1} - B_{n-1}) / 2  (Abramowitz & Stegun 1964,
16.4 and 17.6). Convergence is quadratic: six means reach rounding for a <= 3.

A picture shows a bob of brightness exp(-|x - c|^2 / (2 s^2)) at c = r (sin q, -cos q) on the midpoints x of side^2 pixels of the square [-1, 1]^2, row by row. The pixels lie
symmetrically, so that the angle of the first moments sum_x I(x) x is the same for I, for 3 I and for I + 1: it reads q off a picture whatever its contrast and its
background, up to what the edges cut off and by how much the sum is not the integral (2e-4 on 12 pixels a side, 1e-7 on 16). First moments are linear: those of an average
of pictures are the average of theirs.
"""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, checked_count, refuse
from ensembletheory.laws.law import checked_point
from ensembletheory.processes.arguments import positive

__all__ = ["Pendulum", "angles", "momenta", "pictures"]

_MEANS = 6
_RADIUS, _WIDTH = 0.4, 0.12  # r and s: the edges are 5 s away
_STENCIL = np.array([-1.0, 9.0, -45.0, 0.0, 45.0, -9.0, 1.0]) / 60  # the derivative, exact for polynomials of degree 6
_LARGEST_SWING = 3.0


class Pendulum(eqx.Module):
    """A pendulum whose small swings have frequency w.

    Args:
        frequency: w.

    Raises:
        ValueError: unless it is positive and finite.
    """

    frequency: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if not 0 < self.frequency < np.inf:
            refuse("frequency", f"{self.frequency}", "a positive number", "Of small swings, in radians a unit of time.")

    def energy(self, z: Numbers) -> Float[Array, "..."]:
        """H at points (..., 2) of phase space.

        Raises:
            ValueError: if they have another dimension.
        """
        return _energy(self.frequency, checked_point("z", z, 2))

    def period(self, swing: Numbers) -> Float[Array, "..."]:
        """The period of swings up to the angle `swing`.

        Raises:
            ValueError: unless 0 < swing <= 3.
        """
        return _period(self.frequency, _checked_swing(swing))

    def orbit(self, swing: Numbers, phase: Numbers, times: Numbers) -> Float[Array, "... times 2"]:
        """Where swings up to the angle `swing` (...) are at `times` (times,), in phase space.

        Args:
            swing: largest angle, at most 3.
            phase: the share of the period that has gone at time 0, 0 at the lowest point with p > 0.
            times: in order or not.

        Raises:
            ValueError: unless 0 < swing <= 3, and times are (times,).
        """
        return _orbit(self.frequency, _checked_swing(swing), as_floats("phase", phase), _checked_times(times))

    def sequences(self, key: PRNGKeyArray, n: int, times: Numbers, swings: tuple[float, float] = (0.4, 1.4)) -> Float[Array, "n times 2"]:
        """`n` orbits, their swings uniform between two angles, their phases uniform.

        Raises:
            ValueError: if n < 1, there are not two angles in (0, 3], or times are not (times,).
        """
        ends = _checked_swing(swings)
        if ends.shape != (2,):
            refuse("swings", f"shape {ends.shape}", "(2,), the least and the largest angle", "Swings are uniform between them.")
        return _sequences(key, checked_count("n", n, 1), self.frequency, ends, _checked_times(times))


def pictures(q: Numbers, side: int = 16) -> Float[Array, "... pixels"]:
    """Pictures of the bob at angles (...): side^2 pixels each.

    Raises:
        ValueError: if there are fewer than 8 pixels a side, on which the bob has no shape.
    """
    return _pictures(as_floats("q", q), checked_count("side", side, 8))


def angles(frames: Numbers) -> Float[Array, "..."]:
    """The angle that each picture (..., side^2) shows, in (-pi, pi], by its first moments.

    Raises:
        ValueError: if the number of pixels is no square.
    """
    frames = as_floats("frames", frames)
    pixels = frames.shape[-1] if frames.ndim else 0
    side = round(pixels**0.5)
    if not pixels or side**2 != pixels:
        refuse("frames", f"{pixels} pixels", "a square number", "The last axis holds the pixels of one picture, row by row.")
    return _angles(frames, side)


def momenta(q: Numbers, step: float) -> Float[Array, "... inner"]:
    """dq/dt along angles (..., times) that are `step` apart, at all but the first and the last three: central differences, off by step^6 q^(7) / 140.

    Raises:
        ValueError: if there are fewer than seven angles, or the step is not positive.
    """
    q = as_floats("q", q)
    if q.ndim == 0 or q.shape[-1] < _STENCIL.size:
        refuse("q", f"{q.shape[-1] if q.ndim else 1} angles", "at least 7", "The difference takes three on either side.")
    return _differences(q) / positive("step", step)


def _checked_times(times: Numbers) -> Float[Array, " times"]:
    times = as_floats("times", times)
    if times.ndim != 1:
        refuse("times", f"shape {times.shape}", "(times,)", "One list of times is that of all orbits.")
    return times


def _checked_swing(swing: Numbers) -> Float[Array, "..."]:
    swing = as_floats("swing", swing)
    if not np.all((np.asarray(swing) > 0) & (np.asarray(swing) <= _LARGEST_SWING)):
        refuse("swing", f"{swing}", f"angles in (0, {_LARGEST_SWING:g}]", "Swings towards the upright position, pi, never return.")
    return swing


def _means(swing: Float[Array, "..."]) -> tuple[list[Float[Array, "..."]], list[Float[Array, "..."]]]:
    """A_0 ... A_N and C_0 ... C_N."""
    A, B, C = jnp.ones_like(swing), jnp.cos(swing / 2), jnp.sin(swing / 2)
    As, Cs = [A], [C]
    for _ in range(_MEANS):
        A, B, C = (A + B) / 2, jnp.sqrt(A * B), (A - B) / 2
        As.append(A)
        Cs.append(C)
    return As, Cs


@jax.jit
def _energy(w: ArrayLike, z: Float[Array, "... 2"]) -> Float[Array, "..."]:
    return z[..., 1] ** 2 / 2 + w**2 * (1 - jnp.cos(z[..., 0]))


@jax.jit
def _period(w: ArrayLike, swing: Float[Array, "..."]) -> Float[Array, "..."]:
    return 2 * jnp.pi / (_means(swing)[0][-1] * w)


@partial(jax.jit, static_argnums=1)
def _sequences(key: PRNGKeyArray, n: int, w: ArrayLike, swings: Float[Array, "2"], times: Float[Array, " times"]) -> Float[Array, "n times 2"]:
    shares = jax.random.uniform(key, (2, n), times.dtype)
    return _orbit(w, swings[0] + (swings[1] - swings[0]) * shares[0], shares[1], times)


@partial(jax.jit, static_argnums=1)
def _angles(frames: Float[Array, "... pixels"], side: int) -> Float[Array, "..."]:
    moments = frames @ jnp.asarray(_grid(side), frames.dtype)
    return jnp.arctan2(moments[..., 0], -moments[..., 1])


@jax.jit
def _orbit(w: ArrayLike, swing: Float[Array, "..."], phase: Float[Array, "..."], times: Float[Array, " times"]) -> Float[Array, "... times 2"]:
    def at(swing, phase):
        A, C = _means(swing)
        phi = 2**_MEANS * (2 * jnp.pi * phase + A[-1] * w * times)
        for a, c in zip(A[:0:-1], C[:0:-1], strict=True):
            phi = (phi + jnp.arcsin(c / a * jnp.sin(phi))) / 2
        return jnp.stack([2 * jnp.arcsin(C[0] * jnp.sin(phi)), 2 * w * C[0] * jnp.cos(phi)], axis=-1)

    shape = jnp.broadcast_shapes(swing.shape, phase.shape)
    return jnp.vectorize(at, signature="(),()->(t,n)")(jnp.broadcast_to(swing, shape), jnp.broadcast_to(phase, shape))


@partial(jax.jit, static_argnums=1)
def _pictures(q: Float[Array, "..."], side: int) -> Float[Array, "... pixels"]:
    def at(q):
        bob = _RADIUS * jnp.stack([jnp.sin(q), -jnp.cos(q)])
        return jnp.exp(-jnp.sum((jnp.asarray(_grid(side), q.dtype) - bob[None]) ** 2, axis=1) / (2 * _WIDTH**2))

    return jnp.vectorize(at, signature="()->(n)")(q)


@jax.jit
@partial(jnp.vectorize, signature="(t)->(n)")
def _differences(q: Float[Array, " times"]) -> Float[Array, " inner"]:
    return jnp.correlate(jnp.unwrap(q), jnp.asarray(_STENCIL, q.dtype), mode="valid")


def _grid(side: int) -> Float[np.ndarray, "pixels 2"]:
    """Midpoints of the pixels, row by row from the top."""
    x = (2 * np.arange(side) + 1) / side - 1
    return np.stack([np.tile(x, side), np.repeat(-x, side)], axis=-1)
