r"""RePaint with the exact score in infinitely many steps: closed laws of one missing coordinate of a Gaussian row.

In units X_t / a_t a path is Y_w = X_0 + sqrt(w) Z, w = (s_t / a_t)^2 from infinity to 0, whatever its coefficients. For X_0 ~ N(m, S), r resamplings with a jump length of
one step do, as steps shrink, r times the reverse SDE and r - 1 times the noising: with L(w) = (S + w I)^{-1}, and with the observed coordinates redrawn at every step, so that
their noise is averaged out,

    -dy_m/dw = -r [ L_mm (y_m - m_m) + L_mo (x_o* - m_o) ] + sqrt(2 r - 1) noise.

Let S = U diag(l) U^T, and one coordinate be missing. With Phi(w) = prod_i (1 + w / l_i)^{-r U_mi^2},

    x_m ~ N( m_m + b (x_o* - m_o), C ),      b = -r int_0^infty Phi(w) L_mo(w) dw,      C = (2 r - 1) int_0^infty Phi(w)^2 dw.

For r -> infinity these are the regression and its residual variance, with an error of order 1 / r. For two coordinates of equal variance c and correlation rho

    r = 1:  b = (1 - sqrt(1 - rho^2)) / rho,   C = c (1 - rho^2) artanh(rho) / rho,
    rho -> 0:  b = rho r / (r + 1),   C = c [1 - rho^2 2 r / (2 r + 1)],

where the conditional has b = rho and C = c (1 - rho^2): replacement loses half of a weak dependence, ten resamplings an eleventh. Derived here.

The integrals are taken by the trapezoid rule in log w, which converges geometrically.
"""

from typing import cast

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.imputation.conditionals import conditional_law
from ensembletheory.imputation.tiles import read_rows
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.gaussian import is_singular

__all__ = ["continuous_moments", "repaint_limit"]

_NODES = 512
_REACH = 38.0  # exp(-38) is below the rounding of 1


def repaint_limit(law: Law, x: Numbers, resamplings: Numbers) -> Gaussian:
    """The law that RePaint with the exact score of `law` gives the missing coordinate of one row, in infinitely many steps that are each run `resamplings` times.

    Args:
        law: of whole rows.
        x: (d,), with one NaN.
        resamplings: r >= 1; infinity gives the exact conditional.

    Raises:
        ValueError: if not exactly one value is missing, r < 1, the law is singular, or the row does not fit it.
        TypeError: if the law is not a Gaussian.
    """
    if not isinstance(law, Gaussian):
        raise TypeError(f"`law`: got {type(law).__name__}; expected a Gaussian, for which the limit is closed. Sample Repaint instead.")
    if is_singular(law):
        refuse("law", "a singular Gaussian", "one with a density", "Condition its regular part, or add noise to it.")
    row = read_rows(np.asarray(x)[None], law.dim)[0]
    holes = np.flatnonzero(np.isnan(row))
    if holes.size != 1:
        refuse("x", f"{holes.size} missing values", "one", "Of several the limit is no integral: take Repaint(...).law with many steps.")
    r = resamplings if isinstance(resamplings, Array) else np.asarray(resamplings, dtype=float)
    if is_concrete(r) and not (r.ndim == 0 and float(r) >= 1):
        refuse("resamplings", f"{resamplings}", "a number >= 1", "1 is replacement without resampling.")
    if is_concrete(r) and np.isinf(r):
        return cast(Gaussian, conditional_law(law, row))
    return _limit(law, int(holes[0]), np.delete(row, holes[0]), r)


@eqx.filter_jit
def _limit(law: Gaussian, hole: int, seen: Float[np.ndarray, " others"] | Float[Array, " others"], r: ArrayLike) -> Gaussian:
    slopes, variance, _ = continuous_moments(law.cov, hole, r)
    shift = slopes @ (seen - law.mean[np.delete(np.arange(law.dim), hole)])
    return Gaussian((law.mean[hole] + shift)[None], variance[None])


@eqx.filter_jit
def continuous_moments(cov: Float[Array, "d d"], hole: int, resamplings: ArrayLike) -> tuple[Float[Array, " others"], Float[Array, ""], Float[Array, ""]]:
    """The slopes b (d - 1,), the variance C, and a bound on the relative error of their integrals: what the rule of half as many nodes is off by."""
    r = jnp.asarray(resamplings, dtype=cov.dtype)
    eigenvalues, U = jnp.linalg.eigh(cov)
    shares, given = U[hole] ** 2, np.delete(np.arange(cov.shape[0]), hole)
    low, high = jnp.log(jnp.min(eigenvalues) / r) - _REACH, jnp.log(jnp.max(eigenvalues)) + _REACH
    w = jnp.exp(low + (high - low) * jnp.asarray(np.linspace(0.0, 1.0, _NODES + 1)))
    log_phi = -r * jnp.log1p(w[:, None] / eigenvalues[None, :]) @ shares
    cross = (U[hole][None, :] / (eigenvalues[None, :] + w[:, None])) @ U[given].T
    terms = jnp.concatenate([-r * (w * jnp.exp(log_phi))[:, None] * cross, ((2 * r - 1) * w * jnp.exp(2 * log_phi))[:, None]], axis=1)
    step = (high - low) / _NODES
    fine, coarse = step * jnp.sum(terms, axis=0), 2 * step * jnp.sum(terms[::2], axis=0)
    return fine[:-1], fine[-1], jnp.max(jnp.abs(fine - coarse)) / fine[-1]
