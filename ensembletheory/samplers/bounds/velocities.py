r"""Bounds on the distance W2 of data p from the law p_theta that the flow of a model's velocity w makes.

Data X_0 ~ p, X_t of law p_t with the exact velocity v, L_t a Lipschitz constant of w(t, .), K = max_t L_t; the model is generated from the horizon T, begun at a law pi. The
distance D of a path of the model from one of the exact flow grows at most at the rate L |D| + |w - v|, so that by Gronwall's inequality

    W2(p, p_theta) <= e^{int L_t dt} ( W2(p_T, pi) + (T int E |w - v|^2 (t, X_t) dt)^{1/2} ),
    W2^2(p, p_theta) <= e^{(1 + 2K) T} ( W2^2(p_T, pi) + int E |w - v|^2 (t, X_t) dt )

(Benton, Deligiannidis & Doucet 2024, theorem 1; Albergo & Vanden-Eijnden 2023; both for T = 1 and pi = p_T, derived here for others). There the first is never
above the second, since int L <= K. It is attained by errors that displace all points alike, at constant speed and without stretching; the second, which pays for
2 D . (w - v) <= |D|^2 + |w - v|^2, only where there is no error.

The Lipschitz constant must be the model's: with that of v both bounds are false.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.divergences import w2_squared
from ensembletheory.errors import Numbers
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.fields import Field
from ensembletheory.laws import Law
from ensembletheory.processes import Process
from ensembletheory.samplers.bounds.mean_squares import FieldError, Sized, mean_product, over_time, panels, require_affine

__all__ = ["albergo_bound", "benton_bound"]

_LOOKED_AT = 129  # times among which the largest Lipschitz constant is bracketed
_GOLDEN, _CUTS = (np.sqrt(5) - 1) / 2, 60


def benton_bound(
    process: Process, law: Law, velocity: Field, start: Law | None = None, end: Numbers = 0.0, lipschitz: Partial | None = None, rtol: float | None = None
) -> Estimate:
    """The bound on W2(p_end, model), for what the flow of `velocity` makes, by the integral of its Lipschitz constant.

    Args:
        process: the path, from whose horizon the model is generated.
        law: of the data.
        velocity: the model's.
        start: the law at the horizon from which the model is generated; default the exact one.
        end: the time at which generation stops.
        lipschitz: t -> a Lipschitz constant of the velocity, as a `jax.tree_util.Partial`; default the spectral norm of the matrix of an affine velocity.
        rtol: relative error asked of the quadratures over time (default 1e-10).

    Raises:
        ValueError: if the field is no velocity, or not affine and no Lipschitz constant is given, the data have no density at the end, or there are more than two dimensions
            and the data are not Gaussian or the velocity not affine.
        TypeError: if the exact velocity of the data is not known.
    """
    error, times, constant, squares = _prepared(process, law, velocity, start, end, lipschitz, rtol)
    stretch = over_time(_constant_at, error, times, rtol, constant)
    span = times[-1] - times[0]
    return _increasing(lambda stretch, begun, added: jnp.exp(stretch) * (_root(begun) + _root(span * added)), stretch, *squares)


def albergo_bound(
    process: Process, law: Law, velocity: Field, start: Law | None = None, end: Numbers = 0.0, lipschitz: Partial | None = None, rtol: float | None = None
) -> Estimate:
    """The bound on W2(p_end, model), for what the flow of `velocity` makes, by its largest Lipschitz constant.

    Args:
        process: as in `benton_bound`, and so are all others.
        law: of the data.
        velocity: the model's.
        start: the law at the horizon.
        end: the time at which generation stops.
        lipschitz: t -> a Lipschitz constant, whose maximum is looked for.
        rtol: relative error asked of the quadrature over time.

    Raises:
        ValueError, TypeError: as `benton_bound`.
    """
    _, times, constant, squares = _prepared(process, law, velocity, start, end, lipschitz, rtol)
    span = times[-1] - times[0]
    return _increasing(lambda largest, begun, added: jnp.exp((0.5 + largest) * span) * _root(begun + added), _largest(constant, times), *squares)


def _prepared(process: Process, law: Law, velocity: Field, start: Law | None, end: Numbers, lipschitz: Partial | None, rtol: float | None):
    """The error of the velocity, the times of the panels, t -> L_t, and W2^2 at the start with int E |w - v|^2 dt."""
    end, begin = process.checked_interval(end, process.horizon)
    times = panels(end, begin)
    error = FieldError(process, law, velocity, "velocity", times)
    if lipschitz is None:
        require_affine(velocity, times, law.dim, "Pass lipschitz=jax.tree_util.Partial(f), f(t) a Lipschitz constant of the velocity at time t.")
    begun = closed_form(0.0) if start is None else w2_squared(process.marginal(law, begin), start)
    constant = Partial(_spectral_norm, velocity, jnp.zeros(law.dim)) if lipschitz is None else lipschitz
    return error, times, constant, (begun, over_time(_while_followed, error, times, rtol))


def _while_followed(error: FieldError, t: Float[Array, ""]) -> Sized:
    """E |w - v|^2."""
    return mean_product(error.process.marginal(error.law, t), Partial(_gap, error, t))


def _gap(error: FieldError, t: Float[Array, ""], x: Float[Array, " d"]):
    w, exact = error.field(t, x), error.exact(t, x)
    return w - exact, w - exact, jnp.abs(w) + jnp.abs(exact)


def _constant_at(error: FieldError, lipschitz: Partial, t: Float[Array, ""]) -> Sized:
    constant = lipschitz(t)
    return constant, constant


def _spectral_norm(field: Field, none: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, ""]:
    """The largest singular value of the matrix of an affine field, whose derivative leaves the singular vectors where they are."""
    matrix = jax.jacfwd(lambda x: field(t, x))(none)
    if none.shape[0] == 1:
        return jnp.abs(matrix[0, 0])
    left, _, right = jnp.linalg.svd(jax.lax.stop_gradient(matrix))
    return left[:, 0] @ matrix @ right[0]


@eqx.filter_jit
def _largest(constant: Partial, times: Float[Array, " n"]) -> Estimate:
    """The largest value of a function of time; its error is the distance from what half as many times find."""
    looked_at = jnp.linspace(times[0], times[-1], _LOOKED_AT)
    values = jax.vmap(constant)(looked_at)
    found, coarse = (_peak(constant, looked_at[::step], values[::step]) for step in (1, 2))
    return Estimate(found, jnp.abs(found - coarse), "quadrature")


def _peak(constant: Partial, times: Float[Array, " n"], values: Float[Array, " n"]) -> Float[Array, ""]:
    """The largest value, and beside it that at the end of a golden-section search between its neighbours."""
    best = jnp.argmax(values)

    def cut(_, bracket):
        low, high = bracket
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        return jax.lax.cond(constant(left) < constant(right), lambda: (left, high), lambda: (low, right))

    bracket = times[jnp.maximum(best - 1, 0)], times[jnp.minimum(best + 1, times.shape[0] - 1)]
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, _CUTS, cut, jax.lax.stop_gradient(bracket)))
    return jnp.maximum(values[best], constant((low + high) / 2))


def _increasing(f: Callable, *estimates: Estimate) -> Estimate:
    """The value of f at numbers >= 0, in all of which it increases."""
    value, low, high = (f(*[jnp.maximum(one.value + sign * one.error, 0.0) for one in estimates]) for sign in (0, -1, 1))
    return Estimate(value, jnp.maximum(high - value, value - low) + 8 * jnp.finfo(value.dtype).eps * value, "quadrature")


def _root(x: Float[Array, ""]) -> Float[Array, ""]:
    """Its square root, with derivative 0 at 0."""
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)
