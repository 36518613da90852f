r"""Flows dx/dt = v(t, x) followed by an adaptive solver: their maps between noise and data, and the likelihoods of the models they define.

Along a path the log-density changes by d/dt log p_t(x_t) = -div v(t, x_t). A model that begins from the law p_T at the horizon T therefore has, at time t and with x_T the
end of the path through x,

    log p_t(x) = log p_T(x_T) + int_t^T div v(s, x_s) ds.

The divergence is the trace of the Jacobian J_s, exactly by d of its products with vectors, or estimated by Hutchinson's eps^T J_s eps with one probe eps, E eps eps^T = I,
along the whole path. The integral is then eps^T M eps with M = int J_s ds; only the symmetric part of M matters, and the variance is exactly

    2 || off-diagonal part of sym M ||_F^2  for independent signs (Rademacher),      2 || sym M ||_F^2  for eps ~ N(0, I).

All points are one system, with the largest error of any coordinate of any point held to the tolerance: what a field computes of the time alone is computed once a stage.
Sources: Hutchinson (1990); Grathwohl et al. (2019); Song et al. (2021), section 4.3.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.fields import Field, require_field
from ensembletheory.laws import Law, standard_normal
from ensembletheory.laws.law import checked_point
from ensembletheory.linalg import symmetrised
from ensembletheory.processes import Clock

__all__ = ["flow_log_prob", "flow_map", "hutchinson_log_prob", "hutchinson_variance"]

_MOST_STEPS = 4096
_WRITTEN_OUT = 4
_TIGHT = 1e-6  # tolerances under which a method of order 8 needs less work than one of order 5
_PROBES = {"rademacher": jax.random.rademacher, "gaussian": jax.random.normal}


def flow_map(process: Clock, velocity: Field, x: Numbers, begin: Numbers | None = None, end: Numbers = 0.0, tolerance: float | None = None) -> Float[Array, "... d"]:
    """The points at time `end` of the paths through x (..., d) at time `begin`; by default from noise to data.

    Args:
        process: whose horizon bounds the times.
        velocity: exact or trained.
        x: the points.
        begin: default the horizon.
        end: earlier or later than `begin`.
        tolerance: of the error of a step, relative and absolute; default the root of the dtype's rounding.

    Raises:
        ValueError: if a time is outside of the horizon, the field is no velocity or its vectors are not as long as x, or the law of an exact field has no density at a time.
        RuntimeError: naming the time at which the solver gave up.
    """
    begin, end = process.checked_time("begin", process.horizon if begin is None else begin), process.checked_time("end", end)
    points, rows = _checked(velocity, x)
    return _followed(velocity, rows, jnp.asarray(np.zeros((0, 1, rows.shape[1]), rows.dtype)), begin, end, tolerance)[0].reshape(points.shape)


def flow_log_prob(process: Clock, velocity: Field, x: Numbers, start: Law | None = None, time: Numbers = 0.0, tolerance: float | None = None) -> Float[Array, "..."]:
    """The log-density in nats at x (..., d), at a time, of the flow that begins from `start` at the horizon, with the exact divergence: d products with the Jacobian.

    Args:
        process: whose horizon bounds the times.
        velocity: exact or trained.
        x: the points.
        start: the law at the horizon; default N(0, I).
        time: of the density; later than 0 where the law at time 0 has none.
        tolerance: of the error of a step, relative and absolute; default the root of the dtype's rounding.

    Raises:
        ValueError, RuntimeError: as `flow_map`; also if `start` is of another dimension than x.
    """
    points, rows = _checked(velocity, x)
    axes = jnp.asarray(np.eye(rows.shape[1], dtype=rows.dtype)[:, None, :])
    base, integrals = _log_probs(process, velocity, rows, axes, start, time, tolerance)
    return _summed(base, integrals).reshape(points.shape[:-1])


def hutchinson_log_prob(
    key: PRNGKeyArray,
    process: Clock,
    velocity: Field,
    x: Numbers,
    start: Law | None = None,
    time: Numbers = 0.0,
    probes: int = 16,
    law: str = "rademacher",
    tolerance: float | None = None,
) -> Estimate:
    """`flow_log_prob` with Hutchinson's estimate of the divergence: the mean over several probes a point, with its standard error; see `hutchinson_variance`.

    Args:
        key: for the probes.
        process: as in `flow_log_prob`, and so are velocity, x, start, time and tolerance.
        velocity: exact or trained.
        x: the points.
        start: the law at the horizon.
        time: of the density.
        probes: how many, at least two.
        law: of the probes' coordinates, independent: "rademacher" (signs) or "gaussian".
        tolerance: of the error of a step.

    Raises:
        ValueError: as `flow_log_prob`; also for fewer than two probes, or an unknown law of them.
        RuntimeError: naming the time at which the solver gave up.
    """
    if probes < 2:
        refuse("probes", str(probes), "at least 2, to know the standard error", "Use flow_log_prob where d products with the Jacobian are cheap enough.")
    _require_probes(law)
    points, rows = _checked(velocity, x)
    directions = _PROBES[law](key, (probes, *rows.shape), dtype=rows.dtype)
    base, integrals = _log_probs(process, velocity, rows, directions, start, time, tolerance)
    value, error = _averaged(base, integrals)
    return Estimate(value.reshape(points.shape[:-1]), error.reshape(points.shape[:-1]), "monte_carlo")


def hutchinson_variance(jacobian: Numbers, law: str = "rademacher") -> Float[Array, ""]:
    """The variance of eps^T M eps, one probe of the trace of a square matrix M, symmetric or not; along a flow, M is the integral of the Jacobian over the path.

    Args:
        jacobian: M (d, d).
        law: of eps, as in `hutchinson_log_prob`.

    Raises:
        ValueError: if M is not square, or the law is unknown.
    """
    _require_probes(law)
    M = as_floats("jacobian", jacobian)
    if M.ndim != 2 or M.shape[0] != M.shape[1]:
        refuse("jacobian", f"shape {M.shape}", "a square matrix (d, d)", "Integrate the Jacobian over the path of one point.")
    return _variance(M, law == "rademacher")


@eqx.filter_jit
def _variance(M: Float[Array, "d d"], signs: bool) -> Float[Array, ""]:
    squares = symmetrised(M) ** 2
    return 2 * jnp.sum(squares - jnp.diag(jnp.diagonal(squares)) if signs else squares)


@jax.jit
def _summed(base: Float[Array, " n"], integrals: Float[Array, "m n"]) -> Float[Array, " n"]:
    return base + jnp.sum(integrals, axis=0)


@jax.jit
def _averaged(base: Float[Array, " n"], integrals: Float[Array, "m n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    return base + jnp.mean(integrals, axis=0), jnp.std(integrals, axis=0, ddof=1) / np.sqrt(len(integrals))


def _require_probes(law: str) -> None:
    if law not in _PROBES:
        refuse("law", repr(law), "'rademacher' or 'gaussian'", "Signs have the smaller variance.")


def _checked(velocity: Field, x: Numbers) -> tuple[Float[Array, "... d"], Float[Array, "n d"]]:
    """The points as they are given and in rows, once the field is seen to be a velocity with vectors as long as they are."""
    points = as_floats("x", x)
    points = checked_point("x", points, points.shape[-1] if points.ndim else 1)
    require_field("velocity", velocity, "velocity", points.shape[-1])
    return points, points.reshape(-1, points.shape[-1])


def _log_probs(
    process: Clock, velocity: Field, rows: Float[Array, "n d"], directions: Float[Array, "m _ d"], start: Law | None, time: Numbers, tolerance: float | None
) -> tuple[Float[Array, " n"], Float[Array, "m n"]]:
    """The log-density of `start` at the ends of the paths, and for each direction e the integral of e^T J e along them."""
    start = standard_normal(rows.shape[1]) if start is None else start
    if start.dim != rows.shape[1]:
        refuse("start", f"dimension {start.dim}", f"dimension {rows.shape[1]}, that of the points", "Give the law at the horizon.")
    ends, integrals = _followed(velocity, rows, directions, process.checked_time("time", time), process.horizon, tolerance)
    return start.log_prob(ends), integrals


def _followed(
    velocity: Field, rows: Float[Array, "n d"], directions: Float[Array, "m _ d"], begin: Float[Array, ""], end: Float[Array, ""], tolerance: float | None
) -> tuple[Float[Array, "n d"], Float[Array, "m n"]]:
    """The ends of the paths, and for each direction e the integral of e^T J e along them."""
    for t in (begin, end):
        velocity.check(t)
    tolerance = float(np.sqrt(jnp.finfo(rows.dtype).eps)) if tolerance is None else tolerance
    ends, integrals, reached, arrived = _solved(velocity, rows, directions, begin, end, jnp.asarray(tolerance, rows.dtype), 8 if tolerance < _TIGHT else 5)
    if is_concrete(arrived) and not arrived:
        where = f"after {_MOST_STEPS} steps the flow from time {float(begin):.6g} to {float(end):.6g} had reached time {float(reached):.6g}"
        raise RuntimeError(f"{where}. Ask for a larger tolerance, or stay away from times at which the velocity is not finite.")
    return ends, integrals


@eqx.filter_jit
def _solved(
    velocity: Field, rows: Float[Array, "n d"], directions: Float[Array, "m _ d"], begin: Float[Array, ""], end: Float[Array, ""], tolerance: Float[Array, ""], order: int
) -> tuple[Float[Array, "n d"], Float[Array, "m n"], Float[Array, ""], Bool[Array, ""]]:
    """The ends, the integrals (NaN unless the solver arrived), the time reached, and whether it is `end`."""
    import diffrax  # a fifth of the time of importing the package

    def rates(t, state, _):
        v, push = jax.linearize(lambda points: velocity.batch(t, points), state[0])
        return v, _each(lambda e: jnp.sum(push(jnp.broadcast_to(e, v.shape)) * e, axis=1), directions, state[1])

    state = rows, jnp.zeros((len(directions), len(rows)), rows.dtype)
    control = diffrax.PIDController(tolerance, tolerance, norm=optimistix.max_norm)
    solver = diffrax.Dopri8() if order == 8 else diffrax.Tsit5()
    solution = diffrax.diffeqsolve(diffrax.ODETerm(rates), solver, begin, end, None, state, stepsize_controller=control, max_steps=_MOST_STEPS, throw=False)
    assert solution.ys is not None
    assert solution.ts is not None
    arrived = solution.result == diffrax.RESULTS.successful
    ends, integrals = jax.tree.map(lambda leaf: jnp.where(arrived, leaf[-1], jnp.nan), solution.ys)
    return ends, integrals, solution.ts[-1], arrived


def _each(function: Callable[[Float[Array, "_ d"]], Float[Array, " n"]], directions: Float[Array, "m _ d"], like: Float[Array, "m n"]) -> Float[Array, "m n"]:
    """The values of a function at every direction: few are written out, many are taken in turn."""
    if len(directions) == 0:
        return jnp.zeros_like(like)
    return jnp.stack([function(e) for e in directions]) if len(directions) <= _WRITTEN_OUT else jax.lax.map(function, directions)
