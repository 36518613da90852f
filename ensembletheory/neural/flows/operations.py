r"""Counting the floating-point operations of a function, from its jaxpr: the same on every machine, and of loops every turn.

| operation | counted as |
|---|---|
| product of matrices | 2 m k n |
| LU factorisation of an n x n matrix | 2 n^3 / 3 |
| Cholesky factorisation of an n x n matrix | n^3 / 3 |
| triangular solution of n equations with k right-hand sides | n^2 k |
| sums and maxima over an axis | the size of what is reduced |
| one function of every element (also exp, log, tanh) | the size of the result |
| loop of known length | length times body; of two branches the larger |

Moving, comparing, rounding and choosing numbers counts nothing, nor does what gives integers or drawn bits. Only what the result depends on is counted. Any other primitive
(convolutions, Fourier transforms, eigenvalues, gamma functions, ...) is refused, rather than counted as nothing.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval

from ensembletheory.errors import refuse

__all__ = ["operations"]

_ELEMENTWISE = {
    *("add", "add_any", "sub", "mul", "div", "neg", "abs", "sign", "max", "min", "square", "sqrt", "rsqrt", "cbrt", "pow", "integer_pow", "clamp", "atan2"),
    *("exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "sin", "cos", "tan", "erf", "erfc", "erf_inv", "sinh", "cosh"),
    *("asinh", "acosh", "atanh", "atan", "asin", "acos"),
}
_REDUCING = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"}
_MOVING = {
    *("broadcast_in_dim", "reshape", "transpose", "squeeze", "expand_dims", "concatenate", "pad", "rev", "split", "slice", "dynamic_slice", "dynamic_update_slice", "gather"),
    *("copy", "copy_p", "convert_element_type", "bitcast_convert_type", "reduce_precision", "stop_gradient", "optimization_barrier", "device_put"),
    *("sort", "select_n", "scatter", "floor", "ceil", "round", "iota", "empty"),
}
_ADDING = {"scatter-add", "scatter_add", "scatter-mul", "scatter_mul"}  # to the entries that are pointed at
_CALLING = {"jit", "pjit", "closed_call", "core_call", "remote_call", "remat", "remat2", "checkpoint", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}


def operations(function: Callable[..., Any], *arguments: Any) -> int:
    """How many floating-point operations `function(*arguments)` takes.

    Raises:
        ValueError: if it holds a loop whose length depends on values, or a primitive with no count in the table.
    """
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    return _of(partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def _of(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, parameters = equation.primitive.name, equation.params
    if name == "while":
        refuse("function", "a loop whose length depends on values", "loops of known length", "Take a fixed number of steps, by lax.scan.")
    if name == "scan":
        return parameters["length"] * _of(parameters["jaxpr"].jaxpr)
    if name == "cond":
        return max(_of(branch.jaxpr) for branch in parameters["branches"])
    if name == "custom_linear_solve":  # of its four programs only the solution runs
        return _of(parameters["jaxprs"].solve.jaxpr)
    if name in _CALLING:
        return sum(_of(getattr(value, "jaxpr", value)) for value in parameters.values() if hasattr(value, "eqns") or hasattr(value, "jaxpr"))
    return _of_primitive(name, parameters, [v.aval for v in equation.invars], [v.aval for v in equation.outvars])


def _of_primitive(name: str, parameters: dict[str, Any], takes: list[Any], gives: list[Any]) -> int:
    if not jnp.issubdtype(gives[0].dtype, jnp.inexact):
        return 0
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        return 2 * gives[0].size * prod(takes[0].shape[axis] for axis in contracted)
    if name == "lu":
        *batch, n, _ = takes[0].shape
        return prod(batch) * 2 * n**3 // 3
    if name == "cholesky":
        *batch, n, _ = takes[0].shape
        return prod(batch) * n**3 // 3
    if name in _ADDING:
        return takes[2].size
    if name == "triangular_solve":
        return takes[0].shape[-1] * takes[1].size
    if name not in _REDUCING | _ELEMENTWISE | _MOVING:
        refuse(
            "function",
            f"the primitive {name}",
            "primitives whose operations are known",
            "Count that part by hand, or write it with products of matrices and functions of elements.",
        )
    return takes[0].size if name in _REDUCING else gives[0].size if name in _ELEMENTWISE else 0
