r"""Piecewise deterministic Markov processes that keep a Gaussian target N(m, S^{-1}) in x, with a velocity v: a flow, clocks that ring, and what a ring does to v.

Time runs from data (0) to noise (the horizon): data of any law are forgotten, and x and v tend to the target and to the stationary law of velocities, independent of each
other. `simulate` is exact: event times are found in closed form (`event_times`), and the means over time of x and x^2 are integrals along the flow, not averages of points.

Paths are lanes of arrays, a chunk of which stays in the cache; an iteration brings each lane to its next event, and a lane that has reached its end waits. Of the clocks of
a lane the one that rings first gets a new exponential energy, and the others keep what they have left, which is exponential too. Uniform numbers are counted by path and
event (`draws`), so that a path does not depend on the other paths.

Source of the frame: Davis (1984), "Piecewise-deterministic Markov processes".
"""

from abc import abstractmethod
from functools import reduce
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt32

from ensembletheory.covariance import AxisAligned
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.gaussian import is_singular
from ensembletheory.laws.law import checked_point
from ensembletheory.processes.pdmp.draws import Words, exponential, threefry, uniform
from ensembletheory.processes.process import Clock

__all__ = ["PiecewiseDeterministic", "Simulation", "Skeleton", "checked_rate", "checked_target"]

_LANES = 4096  # a chunk of lanes of the plane takes half a megabyte in 64 bits
_UNROLLED = 16  # dimensions up to which a product with the precision is written out, so that it is fused with what is around it

Lanes = Float[Array, "d n"]
Times = Float[Array, " n"]
Clocks = tuple[Float[Array, "clocks n"], ...]  # by kind
Rings = tuple[Bool[Array, "clocks n"], ...]


class Simulation(eqx.Module):
    """Ends of paths, what happened along them, and exact averages over their time.

    Attributes:
        positions: x at the end.
        velocities: v at the end.
        events: how often each clock rang before the end.
        mean: (1 / T) int_0^T x dt, of every path.
        second_moment: (1 / T) int_0^T x^2 dt, by coordinate.
    """

    positions: Float[Array, "n d"]
    velocities: Float[Array, "n d"]
    events: Int[Array, "n clocks"]
    mean: Float[Array, "n d"]
    second_moment: Float[Array, "n d"]


class Skeleton(eqx.Module):
    """Paths by their events: at `times` a path is at `positions` and leaves with `velocities`; after its end it stays where it is."""

    process: "PiecewiseDeterministic"
    times: Float[Array, "n events"]
    positions: Float[Array, "n events d"]
    velocities: Float[Array, "n events d"]

    def at(self, times: Numbers) -> Float[Array, "n m d"]:
        """The positions at given times, from 0 to the last of `times`, along the flow between events.

        Raises:
            ValueError: if a time is later than the last event that was kept of a path.
        """
        asked = as_floats("times", times).reshape(-1)
        if is_concrete(asked, self.times):
            least, most, known = np.min(np.asarray(asked)), np.max(np.asarray(asked)), np.min(np.asarray(self.times)[:, -1])
            if least < 0 or most > known * (1 + 1e-12):
                refuse("times", f"{least:.6g} to {most:.6g}", f"times from 0 to {known:.6g}, up to which every path is known", "Keep more events.")
        return _between(self, asked)


class PiecewiseDeterministic(Clock):
    """A process of positions and velocities with a Gaussian target; see `ZigZag`, `BouncyParticle`, `RandomisedHmc` and `ForwardEventChain`.

    What stands below for one point is written for lanes, arrays (d, n) of deviations x - m and of velocities; `prepared` is what is computed of the target once.
    """

    target: eqx.AbstractVar[Gaussian]

    @property
    def dim(self) -> int:
        """The dimension of x and of v."""
        return self.target.dim

    @property
    @abstractmethod
    def _groups(self) -> tuple[int, ...]:
        """How many clocks there are of each kind."""

    @property
    def clocks(self) -> int:
        """How many clocks ring."""
        return sum(self._groups)

    @property
    @abstractmethod
    def _uniforms(self) -> int:
        """How many uniform numbers a ring needs beside the new energy."""

    @abstractmethod
    def draw_velocities(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` draws of the stationary law of velocities."""

    @abstractmethod
    def _rates(self, prepared: Any, z: Lanes, v: Lanes) -> Clocks:
        """The rates of the clocks."""

    @abstractmethod
    def _waits(self, prepared: Any, z: Lanes, v: Lanes, energies: Clocks) -> Clocks:
        """When each clock would ring."""

    @abstractmethod
    def _spent(self, prepared: Any, z: Lanes, v: Lanes, s: Times) -> Clocks:
        """The energies that the clocks spend up to s."""

    @abstractmethod
    def _jumped(self, prepared: Any, z: Lanes, v: Lanes, rang: Rings, uniforms: Float[Array, "m n"]) -> Lanes:
        """The velocities after those of the clocks that rang."""

    def _prepared(self) -> Any:
        """The precision, as its diagonal where that is all there is."""
        inverse = self.target.covariance.inverse()
        return inverse.diagonal() if isinstance(inverse, AxisAligned) else inverse.as_matrix()

    def _moved(self, prepared: Any, z: Lanes, v: Lanes, s: Times) -> tuple[Lanes, Lanes]:
        """Deviations and velocities after time s on the flow: straight motion."""
        return z + v * s[None, :], v

    def _integrals(self, prepared: Any, z: Lanes, v: Lanes, s: Times) -> tuple[Lanes, Lanes]:
        """The integrals of z and z^2 over time s of the flow."""
        s = s[None, :]
        return s * (z + v * s / 2), s * (z**2 + s * v * (z + v * s / 3))

    def flow(self, x: Float[Array, " d"], v: Float[Array, " d"], s: Numbers) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Position and velocity after time s of any sign without an event, from one point."""
        z, v = self._moved(self._prepared(), (x - self.target.mean)[:, None], v[:, None], jnp.asarray(s, x.dtype)[None])
        return self.target.mean + z[:, 0], v[:, 0]

    def rates(self, x: Float[Array, " d"], v: Float[Array, " d"]) -> Float[Array, " clocks"]:
        """The rates of the clocks at one point."""
        return jnp.concatenate(self._rates(self._prepared(), (x - self.target.mean)[:, None], v[:, None]))[:, 0]

    def jump(self, key: PRNGKeyArray, x: Float[Array, " d"], v: Float[Array, " d"], clock: int | Int[Array, ""]) -> Float[Array, " d"]:
        """The velocity after the clock of that number rang at one point."""
        uniforms = jax.random.uniform(key, (self._uniforms, 1), x.dtype, minval=jnp.finfo(x.dtype).tiny)
        rang = tuple(jnp.split((jnp.arange(self.clocks) == clock)[:, None], np.cumsum(self._groups)[:-1].tolist()))
        return self._jumped(self._prepared(), (x - self.target.mean)[:, None], v[:, None], rang, uniforms)[:, 0]

    def simulate(self, key: PRNGKeyArray, n: int, start: Law | None = None, until: Numbers | None = None) -> Simulation:
        """`n` independent paths from `start` with stationary velocities.

        Args:
            key: a random key.
            n: how many.
            start: the law of x at time 0; the target if left out, which the process keeps.
            until: when they end; the horizon if left out.

        Raises:
            ValueError: if `start` is not of the dimension of the target, or `until` not within [0, horizon].
        """
        key_path, x, v = self._begun(key, n, start)
        return self.run(key_path, x, v, until)

    def run(self, key: PRNGKeyArray, positions: Numbers, velocities: Numbers, until: Numbers | None = None) -> Simulation:
        """Paths from given points; see `simulate`. `until` may be one time for each path.

        Raises:
            ValueError: if positions and velocities are not of one shape (n, d), or `until` is neither a time nor n times within [0, horizon].
        """
        x, v = self._points(positions, velocities)
        return _run(self, key, x, v, self._ends(self.horizon if until is None else until, len(x)), _LANES)

    def noised(self, key: PRNGKeyArray, positions: Numbers, times: Numbers) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        """Place and velocity of paths from `positions` (n, d) with stationary velocities, each at a time of its own: what reversed processes learn from.

        Raises:
            ValueError: if positions are not of shape (n, d), or `times` is neither a time nor n times within [0, horizon].
        """
        key_path, key_velocity = jax.random.split(key)
        x = as_floats("positions", positions)
        end = self.run(key_path, x, self.draw_velocities(key_velocity, len(x)), times)
        return end.positions, end.velocities

    def skeleton(self, key: PRNGKeyArray, n: int, events: int, start: Law | None = None, until: Numbers | None = None) -> Skeleton:
        """The first events of `n` paths, the same as those of `simulate` with the same key: times, positions and velocities at the start and after every event.

        Args:
            key: a random key.
            n: how many paths.
            events: how many events are kept; of a path with fewer, the end is repeated.
            start: the law of x at time 0; the target if left out.
            until: when they end; the horizon if left out.

        Raises:
            ValueError: as `simulate`, or if `events` is below 1.
        """
        if events < 1:
            refuse("events", str(events), "at least 1", "A skeleton without events is its start.")
        key_path, x, v = self._begun(key, n, start)
        return Skeleton(self, *_skeleton(self, key_path, x, v, self.checked_time("until", self.horizon if until is None else until), events))

    def _begun(self, key: PRNGKeyArray, n: int, start: Law | None) -> tuple[PRNGKeyArray, Float[Array, "n d"], Float[Array, "n d"]]:
        if n < 1:
            refuse("n", str(n), "at least 1", "Ask for one path or more.")
        start = self.target if start is None else start
        self._require(start)
        return _started(self, key, n, start)

    def _require(self, start: Law) -> None:
        if start.dim != self.dim:
            refuse("start", f"dimension {start.dim}", f"dimension {self.dim}, that of the target", "Begin in the space of the target.")

    def _ends(self, until: Numbers, n: int) -> Float[Array, "..."]:
        times = jnp.asarray(until, self.horizon.dtype)
        if times.shape not in ((), (n,)):
            refuse("until", f"shape {times.shape}", f"one time, or one for each of {n} paths", "Give every path its end.")
        if is_concrete(times):
            for end in (np.min(np.asarray(times)), np.max(np.asarray(times))):
                self.checked_time("until", end)
        return times

    def _points(self, positions: Numbers, velocities: Numbers) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        x, v = checked_point("positions", positions, self.dim), checked_point("velocities", velocities, self.dim)
        if x.ndim != 2 or x.shape != v.shape:
            refuse("velocities", f"shapes {x.shape} of positions and {v.shape}", "one shape (n, d) of both", "Give every position a velocity.")
        return x, v


def checked_target(target: Law) -> Gaussian:
    """`target`, if it is a Gaussian with a density.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(target, Gaussian) or is_singular(target):
        refuse("target", type(target).__name__, "a Gaussian with a positive definite covariance", "Event times are in closed form where the potential is quadratic.")
    return target


def checked_rate(argument: str, rate: Numbers, positive: str | None = None) -> Float[Array, ""]:
    """`rate` as a number >= 0, and above 0 where `positive` says why.

    Raises:
        ValueError: otherwise.
    """
    number = as_floats(argument, rate)
    if number.ndim:
        refuse(argument, f"shape {number.shape}", "one number", "All coordinates share one rate.")
    if is_concrete(number) and (float(number) < 0 or (positive is not None and float(number) == 0)):
        refuse(argument, f"{float(number):.6g}", "a rate >= 0" if positive is None else "a rate > 0", positive or "Take 0 for none.")
    return number


def along(prepared: Array, u: Lanes) -> Lanes:
    """The product of a matrix, or of a diagonal, with every lane."""
    if prepared.ndim == 1:
        return prepared[:, None] * u
    if len(prepared) > _UNROLLED:
        return prepared @ u
    return reduce(jnp.add, [prepared[:, j, None] * u[None, j] for j in range(len(prepared))])


def dot(u: Lanes, v: Lanes) -> Times:
    """u.v of every lane."""
    if len(u) > _UNROLLED:
        return jnp.sum(u * v, axis=0)
    return reduce(jnp.add, [a * b for a, b in zip(u, v, strict=True)])


class _Path(eqx.Module):
    """The state of lanes between two events, with the uniform numbers of the next: carried, they are computed once, where XLA would fuse them into each use."""

    z: Lanes
    v: Lanes
    energies: Clocks
    left: Times
    drawn: Float[Array, "m n"]


def _stepped(process: PiecewiseDeterministic, prepared: Any, words: Words, lanes: UInt32[Array, " n"], i: UInt32[Array, ""], path: _Path) -> tuple[_Path, Times, Rings]:
    """Every lane at its next event or at its end, how long that took, and which clocks rang; `i` counts the events before."""
    waits = process._waits(prepared, path.z, path.v, path.energies)
    first = reduce(jnp.minimum, [row for kind in waits for row in kind])
    s = jnp.minimum(first, path.left)
    rang = tuple((kind <= s[None, :]) & (first < path.left)[None, :] for kind in waits)
    renewed, used, least = exponential(path.drawn[:1]), process._spent(prepared, path.z, path.v, s), jnp.finfo(s.dtype).tiny
    energies = tuple(jnp.where(rings, renewed, jnp.maximum(had - less, least)) for rings, had, less in zip(rang, path.energies, used, strict=True))
    z, v = process._moved(prepared, path.z, path.v, s)
    after = _Path(z, process._jumped(prepared, z, v, rang, path.drawn[1:]), energies, path.left - s, _drawn(process, words, lanes, i + np.uint32(1), s.dtype))
    return after, s, rang


def _counted(words: Words, lanes: UInt32[Array, " n"], counters: UInt32[Array, " m"], dtype: jnp.dtype) -> Float[Array, "m n"]:
    return uniform(threefry(words, lanes[None, :], counters[:, None]), dtype)


def _drawn(process: PiecewiseDeterministic, words: Words, lanes: UInt32[Array, " n"], i: UInt32[Array, ""], dtype: jnp.dtype) -> Float[Array, "m n"]:
    """The uniform numbers of event i."""
    draws = process._uniforms + 1
    return _counted(words, lanes, i * np.uint32(draws) + jnp.arange(draws, dtype=jnp.uint32), dtype)


def _first(process: PiecewiseDeterministic, key: PRNGKeyArray, x: Float[Array, "n d"], v: Float[Array, "n d"], until: Float[Array, "..."]) -> tuple[Words, _Path]:
    """The lanes at time 0, whose first energies are counted from the last counter down."""
    high, low = jax.random.bits(key, (2,), jnp.uint32)
    words, lanes, dtype = (high, low), jnp.arange(len(x), dtype=jnp.uint32), x.dtype
    energies = exponential(_counted(words, lanes, np.uint32(2**32 - 1) - jnp.arange(process.clocks, dtype=jnp.uint32), dtype))
    by_kind = tuple(jnp.split(energies, np.cumsum(process._groups)[:-1].tolist()))
    drawn = _drawn(process, words, lanes, jnp.uint32(0), dtype)
    return words, _Path((x - process.target.mean[None, :]).T, v.T, by_kind, jnp.broadcast_to(until, (len(x),)).astype(dtype), drawn)


@eqx.filter_jit
def _started(process: PiecewiseDeterministic, key: PRNGKeyArray, n: int, start: Law) -> tuple[PRNGKeyArray, Float[Array, "n d"], Float[Array, "n d"]]:
    """The key of the paths, and positions and velocities at time 0."""
    key_path, key_start, key_velocity = jax.random.split(key, 3)
    return key_path, start.sample(key_start, n), process.draw_velocities(key_velocity, n)


@eqx.filter_jit
def _run(process: PiecewiseDeterministic, key: PRNGKeyArray, x: Float[Array, "n d"], v: Float[Array, "n d"], until: Float[Array, "..."], most: int) -> Simulation:
    """Chunks of at most so many lanes, one after the other."""
    prepared, n = process._prepared(), len(x)
    words, path = _first(process, key, x, v, until)
    lanes = min(n, most)
    chunks = -(-n // lanes)
    path = jax.tree.map(lambda leaf: jnp.pad(leaf, (*((0, 0),) * (leaf.ndim - 1), (0, chunks * lanes - n))), path)  # the lanes added have no time left

    def advanced(chunk):
        path, number = chunk
        lane = number * np.uint32(lanes) + jnp.arange(lanes, dtype=jnp.uint32)

        def body(carry):
            path, sums, squares, events, i = carry
            after, s, rang = _stepped(process, prepared, words, lane, i, path)
            linear, square = process._integrals(prepared, path.z, path.v, s)
            counted = tuple(count + kind.astype(jnp.int32) for count, kind in zip(events, rang, strict=True))
            return after, sums + linear, squares + square, counted, i + np.uint32(1)

        none = jnp.zeros_like(path.z)
        none_rang = tuple(jnp.zeros((kind, lanes), jnp.int32) for kind in process._groups)
        first = (path, none, none, none_rang, jnp.uint32(0))
        end, sums, squares, events, _ = jax.lax.while_loop(lambda carry: jnp.any(carry[0].left > 0), body, first)
        return end.z.T, end.v.T, sums.T, squares.T, jnp.concatenate(events).T

    by_chunk = jax.tree.map(lambda leaf: jnp.moveaxis(leaf.reshape(*leaf.shape[:-1], chunks, lanes), -2, 0), path)
    z, v, sums, squares, events = (leaf.reshape(chunks * lanes, -1)[:n] for leaf in jax.lax.map(advanced, (by_chunk, jnp.arange(chunks, dtype=jnp.uint32))))
    until = jnp.broadcast_to(until, (n,))[:, None]
    m, moved = process.target.mean[None, :], until > 0
    first, second = (jnp.where(moved, total / jnp.where(moved, until, 1), at_once) for total, at_once in ((sums, z), (squares, z**2)))
    return Simulation(m + z, v, events, m + first, m**2 + 2 * m * first + second)


@eqx.filter_jit
def _skeleton(
    process: PiecewiseDeterministic, key: PRNGKeyArray, x: Float[Array, "n d"], v: Float[Array, "n d"], until: Float[Array, ""], events: int
) -> tuple[Float[Array, "n events"], Float[Array, "n events d"], Float[Array, "n events d"]]:
    prepared, lane = process._prepared(), jnp.arange(len(x), dtype=jnp.uint32)
    words, path = _first(process, key, x, v, until)

    def step(path, i):
        after, *_ = _stepped(process, prepared, words, lane, i, path)
        return after, (until - after.left, after.z.T, after.v.T)

    later = jax.lax.scan(step, path, jnp.arange(events, dtype=jnp.uint32))[1]
    first = (until - path.left, path.z.T, path.v.T)
    times, z, velocities = (jnp.swapaxes(jnp.concatenate([begin[None], rest]), 0, 1) for begin, rest in zip(first, later, strict=True))
    return times, process.target.mean[None, None, :] + z, velocities


@eqx.filter_jit
def _between(skeleton: Skeleton, asked: Float[Array, " m"]) -> Float[Array, "n m d"]:
    process = skeleton.process
    prepared = process._prepared()

    def of_path(times, positions, velocities):
        last = jnp.clip(jnp.searchsorted(times, asked, side="right") - 1, 0, len(times) - 1)
        z, _ = process._moved(prepared, (positions[last] - process.target.mean[None, :]).T, velocities[last].T, asked - times[last])
        return process.target.mean[None, :] + z.T

    return jax.vmap(of_path)(skeleton.times, skeleton.positions, skeleton.velocities)
