r"""Between two networks: losses along the segment of weights, barriers, and how far averaged weights are from averaged functions.

On the segment theta_t = (1 - t) a + t b the *barrier* of a loss L is (Frankle et al. 2020, Ainsworth et al. 2023)

    max_t [ L(theta_t) - (1 - t) L(a) - t L(b) ]  >=  0,

with equality at the ends. For a loss that is convex in the function, the averaged function (1 - t) F_a + t F_b has no barrier (Jensen), and neither have averaged weights
if the function is affine in them. In general, with phi(s) = F(theta_s) at one x, twice differentiable in s, and Green's function G(t, s) = min(s, t) (1 - max(s, t)),

    phi(t) - (1 - t) phi(0) - t phi(1) = - int_0^1 G(t, s) phi''(s) ds,

so that in L2 over any law of x, by Minkowski's inequality,

    |F(theta_t) - (1 - t) F_a - t F_b|  <=  int_0^1 G(t, s) |phi''(s)| ds  <=  t (1 - t) / 2  max_s |phi''(s)|.

The first bound is attained where phi'' keeps its direction in L2, as it does for linear networks of two layers, phi''(s) = 2 dV dW x. It is a bound on the barrier too: for a
mean squared error L, sqrt L is a distance in L2, and by Jensen

    sqrt L(theta_t)  <=  sqrt L((1 - t) F_a + t F_b) + gap_t,       gap_t the left side above.

Small second derivatives along the segment, and hence low barriers, are what matching the units of b to those of a is for.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.neural.perceptron import Perceptron

__all__ = ["Barrier", "averaging_bound", "averaging_gap", "barrier", "losses_along", "segment"]

_NODES = (32, 16)  # of the integral over s, on each side of t; the error is the difference


class Barrier(eqx.Module):
    """Losses at `times` along a segment, their `excess` over the chord between its ends, and the largest excess: its `height`, at least 0, and where it is, `at`."""

    times: Float[Array, " T"]
    losses: Float[Array, " T"]
    excess: Float[Array, " T"]
    height: Float[Array, ""]
    at: Float[Array, ""]


def barrier(loss: Callable[[Any], Float[Array, ""]], a: Any, b: Any, points: int = 33) -> Barrier:
    """The losses along the segment from a to b, at evenly spaced points.

    Args:
        loss: of one model; a module that holds its data is compiled once.
        a: a model.
        b: a model of the same structure.
        points: how many, both ends included; the largest excess is that at these points.

    Raises:
        ValueError: if the models differ in structure, or there are fewer than three points.
    """
    if points < 3:
        refuse("points", f"{points}", "at least 3", "Both ends and something between them.")
    _require_alike(a, b)
    return _barrier(loss, a, b, jnp.asarray(np.linspace(0.0, 1.0, points)))


def losses_along(loss: Callable[[Any], Float[Array, ""]], a: Any, b: Any, times: Numbers) -> Float[Array, " T"]:
    """The losses of (1 - t) a + t b.

    Raises:
        ValueError: if the models differ in structure.
    """
    _require_alike(a, b)
    return _losses_along(loss, a, b, as_floats("times", times))


def segment(a: Any, b: Any, t: Float[Array, ""] | float) -> Any:
    """The model (1 - t) a + t b; what is not a floating array is that of a."""
    (left, rest), right = eqx.partition(a, eqx.is_inexact_array_like), eqx.filter(b, eqx.is_inexact_array_like)
    return eqx.combine(jax.tree.map(lambda x, y: (1 - t) * x + t * y, left, right), rest)


def averaging_gap(a: Any, b: Any, inputs: Numbers, t: Numbers = 0.5) -> Float[Array, ""]:
    """The distance in L2, over rows (n, d) of inputs, between averaged weights and averaged functions, (1 - t) of a and t of b.

    Raises:
        ValueError: if the models differ in structure.
    """
    _require_alike(a, b)
    return _averaging_gap(a, b, as_floats("inputs", inputs), as_floats("t", t))


def averaging_bound(a: Any, b: Any, inputs: Numbers, t: Numbers = 0.5) -> Estimate:
    """The bound int G(t, s) |phi''(s)| ds on `averaging_gap`, by quadrature.

    Raises:
        ValueError: if the models differ in structure, hold no perceptron, or one of their perceptrons an activation with a kink or a jump on [-8, 8], where there is no
            second derivative.
    """
    _require_alike(a, b)
    activations = _activations(a)
    if not activations:
        refuse(
            "a", f"a {type(a).__name__} without perceptrons", "a model whose activations are those of its perceptrons", "Of others it is not known whether they are smooth."
        )
    if any(map(_kinked, activations)):
        refuse("a", "a network with a kinked activation", "one that is twice differentiable along the segment", "Use tanh, SiLU or softplus.")
    return _averaging_bound(a, b, as_floats("inputs", inputs), as_floats("t", t))


@eqx.filter_jit
def _barrier(loss: Callable[[Any], Float[Array, ""]], a: Any, b: Any, times: Float[Array, " T"]) -> Barrier:
    losses = _losses_along(loss, a, b, times)
    excess = losses - (1 - times) * losses[0] - times * losses[-1]
    return Barrier(times, losses, excess, jnp.max(excess), times[jnp.argmax(excess)])


@eqx.filter_jit
def _losses_along(loss: Callable[[Any], Float[Array, ""]], a: Any, b: Any, times: Float[Array, " T"]) -> Float[Array, " T"]:
    return jax.vmap(lambda t: loss(segment(a, b, t)))(times)


@eqx.filter_jit
def _averaging_gap(a: Any, b: Any, inputs: Float[Array, "n d"], t: Float[Array, ""]) -> Float[Array, ""]:
    outputs = jax.vmap(lambda x: segment(a, b, t)(x) - (1 - t) * a(x) - t * b(x))(inputs)
    return jnp.sqrt(jnp.mean(jnp.sum(outputs**2, axis=-1)))


@eqx.filter_jit
def _averaging_bound(a: Any, b: Any, inputs: Float[Array, "n d"], t: Float[Array, ""]) -> Estimate:
    def bend(s):
        along = lambda x: jax.jvp(lambda r: jax.jvp(lambda q: segment(a, b, q)(x), (r,), (jnp.ones_like(r),))[1], (s,), (jnp.ones_like(s),))[1]  # noqa: E731
        return jnp.sqrt(jnp.mean(jnp.sum(jax.vmap(along)(inputs) ** 2, axis=-1)))

    rules = [np.polynomial.legendre.leggauss(n) for n in _NODES]
    shares = jnp.asarray(np.concatenate([(x + 1) / 2 for x, _ in rules]))
    s = jnp.concatenate([t * shares, t + (1 - t) * shares])
    green = jnp.minimum(s, t) * (1 - jnp.maximum(s, t)) * jnp.concatenate([t * jnp.ones_like(shares), (1 - t) * jnp.ones_like(shares)])
    left, right = jnp.split(green * jax.lax.map(bend, s), 2)
    fine, coarse = ((left + right)[: _NODES[0]] @ (rules[0][1] / 2), (left + right)[_NODES[0] :] @ (rules[1][1] / 2))
    return Estimate(fine, jnp.abs(fine - coarse) + 64 * jnp.finfo(fine.dtype).eps * fine, "quadrature")


def _require_alike(a: Any, b: Any) -> None:
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(model)] for model in (a, b)]
    if shapes[0] != shapes[1] or jax.tree.structure(a) != jax.tree.structure(b):
        refuse("b", f"a model with arrays of shapes {shapes[1]}", f"{shapes[0]}, and the structure of `a`", "Only models of one structure have a segment between them.")


def _activations(model: Any) -> list[Callable[[Array], Array]]:
    """Those of the perceptrons in a model."""
    parts = jax.tree.leaves(model, is_leaf=lambda part: isinstance(part, Perceptron))
    return [part.activation for part in parts if isinstance(part, Perceptron)]


def _kinked(activation: Callable[[Array], Array]) -> bool:
    """Whether the largest step of f or f' from point to point of a grid stays what it is, instead of halving, when the grid is twice as fine."""
    with jax.ensure_compile_time_eval():
        grid = jnp.linspace(-8.0, 8.0, 2**13 + 1)
        curves = np.stack(jax.jvp(activation, (grid,), (jnp.ones_like(grid),)))
    fine, coarse = (np.max(np.abs(np.diff(curves[:, ::stride], axis=1)), axis=1) for stride in (1, 2))
    return bool(np.any(fine > 0.75 * coarse))
