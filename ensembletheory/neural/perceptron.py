r"""A multilayer perceptron h <- f(W h + b), with a last layer that is affine.

Each layer is one matrix (W b), begun with independent normal entries of variance gain / (inputs + 1): gain 2 in hidden layers, which keeps the size of what goes through
(He et al. 2015), and 1 in the last and for f = tanh. (A gain of 1/3, the default elsewhere, leaves deep narrow networks all but constant for the first thousands of steps.)
"""

import sys
from collections.abc import Callable
from importlib import import_module
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import checked_count

__all__ = ["Perceptron"]


class Perceptron(eqx.Module):
    """`depth` hidden layers of `width` units, f = `activation`, between `inputs` and `outputs`.

    Raises:
        ValueError: if a layer has no units.
    """

    layers: tuple[Float[Array, "outputs inputs_and_one"], ...]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, inputs: int, outputs: int, width: int, depth: int, activation: Callable[[Array], Array] = jax.nn.silu):
        for name, size in {"inputs": inputs, "outputs": outputs, "width": width}.items():
            checked_count(name, size, 1)
        checked_count("depth", depth, 0)
        shapes = [(after, before + 1) for before, after in pairwise([inputs, *[width] * depth, outputs])]
        ends = np.cumsum([after * before for after, before in shapes])
        draws = jnp.split(jax.random.normal(key, (int(ends[-1]),)), ends[:-1])  # one draw: every draw is a program of its own to compile
        gains = [1.0 if activation is jnp.tanh else 2.0] * depth + [1.0]
        self.activation = activation
        self.layers = tuple(np.sqrt(gain / shape[1]) * draw.reshape(shape) for gain, shape, draw in zip(gains, shapes, draws, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """The fields, with an activation that has a name by its name: compiled functions of JAX do not pickle."""
        f = self.activation
        module, name = getattr(f, "__module__", ""), getattr(f, "__qualname__", "")
        return vars(self) | ({"activation": (module, name)} if getattr(sys.modules.get(module), name, None) is f else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        f = state["activation"]
        fields = state | ({"activation": getattr(import_module(f[0]), f[1])} if isinstance(f, tuple) else {})
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __call__(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The outputs at one point."""
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer[:, :-1] @ x + layer[:, -1])
        return last[:, :-1] @ x + last[:, -1]
