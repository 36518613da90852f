r"""Mean products E a(X) . b(X) of vectors made of a model's field and of the exact one, and their integrals over time.

Under N(m, L L^T), with l_j the columns of L, affine a and b have E a . b = a(m) . b(m) + sum_j (a(m + l_j) - a(m)) . (b(m + l_j) - b(m)): closed form, in any dimension. Under
other laws, or for other fields, the expectation is an integral over the line or the plane.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.errors import is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.fields import Field, require_field
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.processes import Process
from ensembletheory.quadrature import integrate

__all__ = ["FieldError", "Sized", "affine_defect", "mean_product", "over_time", "panels", "require_affine"]

Sized = tuple[Float[Array, ""], Float[Array, ""]]  # a value, and the size of the terms from which it is formed

_AFFINE = 1e-9  # the largest relative distance of a field from its linearisation that counts as rounding
_SHARES = np.concatenate([[0.0], 0.5 ** np.arange(10, 0, -1), [0.75, 1.0]])  # of time


def panels(end: Float[Array, ""], begin: Float[Array, ""]) -> Float[Array, " n"]:
    """Times from `end` to `begin` that part the panels of an integral, closer towards the data."""
    return end + (begin - end) * jnp.asarray(_SHARES)


class FieldError(eqx.Module):
    """A model's field beside the exact one, for data of `law`; `doubt` is 0, or infinite where a field met under jit turns out not to be affine."""

    process: Process
    law: Law
    field: Field
    exact: Field
    doubt: Float[Array, ""]

    def __init__(self, process: Process, law: Law, field: Field, kind: str, times: Float[Array, " n"]):
        require_field(kind, field, kind, law.dim)
        exact = getattr(process, kind)
        exact(law).check(times[0])
        defect = affine_defect(field, times, law.dim)
        affine = not is_concrete(defect) or bool(defect <= _AFFINE)
        if law.dim > 2 and not (affine and isinstance(law, Gaussian)):
            got = f"{type(law).__name__} in dimension {law.dim}" + ("" if affine else f" and a field that is off an affine one by {float(defect):.3g}")
            refuse("law", got, "Gaussian data and an affine field, or at most two dimensions", "Take marginals, or a Gaussian's field.")
        self.process, self.field = process, field
        self.law = law if affine or not isinstance(law, Gaussian) else GaussianMixture([1.0], law.mean[None], law.cov[None])
        self.exact = exact(self.law)
        self.doubt = jnp.where(defect <= _AFFINE, 0.0, jnp.inf) if isinstance(self.law, Gaussian) else jnp.zeros(())


def affine_defect(field: Field, times: Float[Array, " n"], dim: int) -> Float[Array, ""]:
    """How far a field is from affine between the given times; infinite if it may be affine in pieces."""
    return jnp.asarray(jnp.inf) if field.piecewise else _curvature(field, times, dim)


@eqx.filter_jit
def _curvature(field: Field, times: Float[Array, " n"], dim: int) -> Float[Array, ""]:
    """The largest relative size of f(x + y) - f(x) - f(y) + f(0), for a random x and a y that turns the sign of every coordinate."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=dim)
    y = -x * rng.uniform(1.5, 2.5, dim)

    def at(t):
        both, first, second, none = jax.vmap(field, (None, 0))(t, jnp.asarray([x + y, x, y, 0 * x]))
        return jnp.max(jnp.abs(both - first - second + none)) / (1 + jnp.max(jnp.abs(first)))

    return jnp.max(jax.vmap(at)((times[1:] + times[:-1]) / 2))


def require_affine(field: Field, times: Float[Array, " n"], dim: int, remedy: str) -> None:
    """Refuse a field, whose values can be looked at, that is not affine.

    Raises:
        ValueError: by how much.
    """
    defect = affine_defect(field, times, dim)
    if is_concrete(defect) and not defect <= _AFFINE:
        refuse("field", f"one that is off an affine one by {float(defect):.3g}", "an affine field", remedy)


def over_time(integrand: Callable[..., Sized], error: FieldError, times: Float[Array, " n"], rtol: float | None, *parts) -> Estimate:
    """The integral of integrand(error, *parts, t) over the panels between the times."""
    found = integrate(Partial(_at_time, integrand, error, *parts), (times,), rtol)
    return Estimate(found.value, found.error + error.doubt, found.kind)


def _at_time(integrand: Callable[..., Sized], *parts_and_time) -> Sized:
    *parts, time = parts_and_time
    return integrand(*parts, time[0])


def mean_product(law: Law, factors: Partial) -> Sized:
    """E a . b of the vectors a, b and c = factors(X), X ~ law, where c is the size of the terms from which a is formed; a and b are affine in X if the law is a Gaussian."""
    if not isinstance(law, Gaussian):
        found = expectation(law, _product_at, (factors,))
        return found.value, found.value + found.error / (4 * jnp.finfo(found.value.dtype).eps)  # in the units in which rounding is counted
    a, b, c = jax.vmap(factors)(law.mean[None] + jnp.concatenate([jnp.zeros((1, law.dim)), law.covariance.factor().T]))
    a, b, c = _from_the_first(a), _from_the_first(b), c + c[:1]
    return jnp.sum(a * b), jnp.sum(jnp.abs(b) * c)


def _from_the_first(rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return jnp.concatenate([rows[:1], rows[1:] - rows[:1]])


def _product_at(x: Float[Array, " d"], factors: Partial) -> Sized:
    a, b, c = factors(x)
    return a @ b, jnp.abs(b) @ c
