r"""Integrals in one and two dimensions with an error that can be believed.

The box spanned by sorted break points is cut into panels; on each panel the integral is taken by the 16-point Gauss-Legendre rule (its tensor square in 2-D). The
reported error adds
 - truncation: the sum over panels of |16-point - 8-point|, which overestimates the 16-point rule's error wherever the integrand is resolved at all;
 - rounding: with eps the unit of the dtype, 4 eps times the integral of `scale(x)` + |x| |grad integrand(x)|, where `scale` is the sum of the absolute values of the
   terms from which the integrand is formed, and the second term is the effect of a node that is off by one rounding.
This fixed rule jits, batches and differentiates (the break points carry no derivative). Where values can be looked at, panels that miss the tolerance are handed to
SciPy's adaptive `cubature` (global subdivision, Gauss-Kronrod). Where the integrand is infinite at a node, so is the integral, without error.

Break points should mark every length scale of the integrand: rules cannot see a feature that falls between their nodes.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.integrate import cubature

from ensembletheory.errors import is_concrete
from ensembletheory.estimate import Estimate

__all__ = ["Integrand", "gauss_legendre", "integrate", "panels"]

Integrand = Callable[[Float[Array, " d"]], tuple[Float[Array, ""], Float[Array, ""]]]  # x -> (value, scale)

_MOST_SUBDIVISIONS = 2000


def integrate(integrand: Integrand, breaks: tuple[Float[Array, " _"], ...], rtol: float | None = None) -> Estimate:
    """The integral of `integrand` over the box from the first to the last break point of each axis (one or two axes).

    Args:
        integrand: a pytree (such as `jax.tree_util.Partial`) that maps a point (d,) to (value, scale).
        breaks: for each axis its sorted break points.
        rtol: relative error above which panels are refined; default 1e-10. Out of reach under jit, vmap or grad, where the fixed panels' error is reported as it is.
    """
    values, errors, rounding = _fixed_panels(integrand, breaks)
    if is_concrete(values):
        tolerance = max((1e-10 if rtol is None else rtol) * abs(float(jnp.sum(values))), float(rounding))
        if float(jnp.sum(errors)) > tolerance:
            values, errors = _refined(integrand, breaks, values, errors, tolerance)
    return Estimate(jnp.sum(values), jnp.sum(errors) + rounding, "quadrature")


def panels(breaks: tuple[Float[Array, " _"], ...]) -> tuple[Float[Array, "panels d"], Float[Array, "panels d"]]:
    """Lower and upper corners of all panels."""
    lower = jnp.stack([g.ravel() for g in jnp.meshgrid(*[b[:-1] for b in breaks], indexing="ij")], axis=-1)
    upper = jnp.stack([g.ravel() for g in jnp.meshgrid(*[b[1:] for b in breaks], indexing="ij")], axis=-1)
    return lower, upper


def gauss_legendre(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (n^d, d) in the unit cube and weights (n^d,)."""
    nodes, weights = np.polynomial.legendre.leggauss(n)
    grid = np.stack(np.meshgrid(*[(nodes + 1) / 2] * d, indexing="ij"), axis=-1).reshape(-1, d)
    product = np.prod(np.stack(np.meshgrid(*[weights / 2] * d, indexing="ij"), axis=-1), axis=-1)
    return grid, product.ravel()


@eqx.filter_jit
def _fixed_panels(integrand: Integrand, breaks: tuple[Float[Array, " _"], ...]):
    """Value and truncation error of each panel, and the rounding error of their sum."""
    breaks = jax.lax.stop_gradient(breaks)
    lower, upper = panels(breaks)
    d = lower.shape[1]
    (fine_nodes, fine_weights), (coarse_nodes, coarse_weights) = gauss_legendre(16, d), gauss_legendre(8, d)
    nodes = jnp.asarray(np.concatenate([fine_nodes, coarse_nodes]), lower.dtype)

    points = lower[:, None, :] + (upper - lower)[:, None, :] * nodes[None, :, :]
    values, scales = jax.vmap(lambda x: _with_node_error(integrand, x))(points.reshape(-1, d))
    values, scales = values.reshape(-1, len(nodes)), scales.reshape(-1, len(nodes))
    volumes, n = jnp.prod(upper - lower, axis=1), fine_weights.size
    fine, coarse, scale = (
        jnp.where(volumes > 0, volumes * (part @ w), 0.0) for part, w in ((values[:, :n], fine_weights), (values[:, n:], coarse_weights), (scales[:, :n], fine_weights))
    )
    errors, rounding = jnp.where(jnp.isinf(fine), 0.0, jnp.abs(fine - coarse)), 4 * jnp.finfo(values.dtype).eps * jnp.sum(scale)
    return fine, errors, jnp.where(jnp.isinf(fine).any(), 0.0, rounding)


def _with_node_error(integrand: Integrand, x: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    (value, scale), slope = jax.value_and_grad(integrand, has_aux=True)(x)
    return value, scale + jnp.sum(jnp.abs(jax.lax.stop_gradient(x * slope)))


@eqx.filter_jit
def _values(integrand: Integrand, points: Float[Array, "n d"]) -> Float[Array, " n"]:
    return jax.vmap(lambda x: integrand(x)[0])(points)


def _on_points(integrand: Integrand) -> Callable[[np.ndarray], np.ndarray]:
    return lambda points: np.asarray(_values(integrand, jnp.asarray(points)))


def _refined(integrand: Integrand, breaks: tuple[Float[Array, " _"], ...], values: Array, errors: Array, tolerance: float) -> tuple[Array, Array]:
    """Values and truncation errors after adaptive refinement of the panels that exceed their share of the tolerance."""
    lower, upper = map(np.asarray, panels(breaks))
    sums, bounds, share = np.array(values), np.array(errors), tolerance / errors.size
    for i in np.flatnonzero(bounds > share):
        result = cubature(_on_points(integrand), lower[i], upper[i], rule="gk21", rtol=0, atol=share, max_subdivisions=_MOST_SUBDIVISIONS)  # pyright: ignore
        sums[i], bounds[i] = result.estimate, result.error
    return jnp.asarray(sums), jnp.asarray(bounds)
