r"""E_p f for a law p and a function f built from laws: by quadrature in one and two dimensions, else by Monte Carlo.

The integrand p f is integrated over the box that holds every piece of p to 13 standard deviations (what lies outside weighs less than 1e-37). Panels break at the marks of
p and of the laws in f, which are fixed multiples of the standard deviations around the centres of their pieces. Under a law of finite support the expectation is a sum.
Where p is 0, f adds nothing, whatever it is.

Where a law was itself normalised by quadrature, the error of its log-density is added, times 1 + |f| + the scale of f: enough for an f linear in log-densities, or built of
scores.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import refuse
from ensembletheory.estimate import Estimate, closed_form, monte_carlo
from ensembletheory.laws.finite import FiniteLaw
from ensembletheory.laws.law import Law
from ensembletheory.quadrature import integrate

__all__ = ["breaks", "expectation", "surprise"]

_DEFAULT_SAMPLES = 100_000

Integrated = Callable[..., tuple[Float[Array, ""], Float[Array, ""]]]  # (x, *parts) -> (f(x), sum of the absolute values of the terms of f)


def expectation(p: Law, f: Integrated, parts: Sequence[Any], key: PRNGKeyArray | None = None, samples: int | None = None, rtol: float | None = None) -> Estimate:
    """E_p f(x, *parts), where f returns its value and the sum of the absolute values of its terms; f must be a module-level function.

    Args:
        p: the law of x.
        f: the function.
        parts: what f is built from, laws (whose features the quadrature resolves) and other arrays.
        key: needed for d > 2; with `samples`, asks for Monte Carlo in any dimension.
        samples: number of Monte-Carlo draws (default 100,000).
        rtol: relative error asked of the quadrature.

    Raises:
        ValueError: if only Monte Carlo can answer and no key is given.
    """
    parts = tuple(parts)
    if isinstance(p, FiniteLaw):
        return closed_form(_summed(p, f, parts))
    if p.dim <= 2 and samples is None:
        return integrate(Partial(_weighted, f, p, *parts), breaks(p, tuple(part for part in parts if isinstance(part, Law))), rtol)
    if key is None:
        refuse("key", "None", f"a PRNG key, since in dimension {p.dim} only Monte Carlo can answer", "Pass key=jax.random.key(0), and samples=n if you like.")
    return _sampled(key, p, f, parts, _DEFAULT_SAMPLES if samples is None else samples)


@eqx.filter_jit
def _summed(p: FiniteLaw, f: Integrated, parts: tuple[Any, ...]) -> Float[Array, ""]:
    values = jax.vmap(lambda x: f(x, *parts)[0])(p.points)
    return jnp.sum(jnp.where(p.weights > 0, p.weights * values, 0.0))


def _weighted(f: Integrated, p: Law, *parts_and_x):
    *parts, x = parts_and_x
    density = jnp.exp(p._log_prob(x))
    log_p, value, scale = (jnp.where(density > 0, part, 0.0) for part in (p._log_prob(x), *f(x, *parts)))
    doubt = sum(law._doubt() for law in (p, *parts) if isinstance(law, Law)) / (4 * jnp.finfo(density.dtype).eps)  # in the units in which rounding is counted
    return density * value, density * (scale + jnp.abs(value * log_p) + doubt * (1 + jnp.abs(value) + scale))


@eqx.filter_jit
def _sampled(key: PRNGKeyArray, p: Law, f: Integrated, parts: tuple[Any, ...], samples: int) -> Estimate:
    return monte_carlo(jax.vmap(lambda x: f(x, *parts)[0])(p.sample(key, samples)))


def surprise(x: Float[Array, " d"], law: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """-log p(x), whose expectation under p is the entropy."""
    log_prob = law._log_prob(x)
    return -log_prob, jnp.abs(log_prob)


@eqx.filter_jit
def breaks(p: Law, laws: tuple[Law, ...]) -> tuple[Float[Array, " _"], ...]:
    """Sorted break points on each axis, in the box of p."""
    own, others = p.marks(), [law.marks() for law in laws]
    return tuple(jnp.sort(jnp.clip(jnp.concatenate([marks, *[other[axis] for other in others]]), marks[0], marks[-1])) for axis, marks in enumerate(own))
