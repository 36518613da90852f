r"""Counting the floating-point operations of a function, from its jaxpr: the same on every machine, and of loops every turn.

| operation | counted as |
|---|---|
| product of matrices | 2 m k n |
| LU factorisation of an n x n matrix | 2 n^3 / 3 |
| triangular solution of n equations with k right-hand sides | n^2 k |
| sums and maxima over an axis | the size of what is reduced |
| one function of every element (also exp, log, tanh) | the size of the result |
| loop of known length | length times body; of two branches the larger |

Moving, comparing and choosing numbers counts nothing. Only what the result depends on is counted.
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
    *("add", "add_any", "sub", "mul", "div", "neg", "abs", "sign", "max", "min", "square", "sqrt", "rsqrt", "pow", "integer_pow", "clamp", "atan2"),
    *("exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "sin", "cos", "tan", "erf", "erfc", "erf_inv", "sinh", "cosh", "asinh", "atan", "asin", "acos"),
}
_REDUCING = {"reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "cumsum", "cumprod", "cummax", "cumlogsumexp", "argmax", "argmin"}


def operations(function: Callable[..., Any], *arguments: Any) -> int:
    """How many floating-point operations `function(*arguments)` takes.

    Raises:
        ValueError: if it holds a loop whose length depends on values.
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
    inner = [getattr(value, "jaxpr", value) for value in parameters.values() if hasattr(value, "eqns") or hasattr(value, "jaxpr")]
    if inner:
        return sum(map(_of, inner))
    return _of_primitive(name, parameters, [v.aval for v in equation.invars], [v.aval for v in equation.outvars])


def _of_primitive(name: str, parameters: dict[str, Any], takes: list[Any], gives: list[Any]) -> int:
    if not jnp.issubdtype(gives[0].dtype, jnp.floating):
        return 0
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        return 2 * gives[0].size * prod(takes[0].shape[axis] for axis in contracted)
    if name == "lu":
        *batch, n, _ = takes[0].shape
        return prod(batch) * 2 * n**3 // 3
    if name == "triangular_solve":
        return takes[0].shape[-1] * takes[1].size
    return takes[0].size if name in _REDUCING else gives[0].size if name in _ELEMENTWISE else 0
