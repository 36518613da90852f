r"""Symmetries of perceptrons: which changes of the weights leave the function as it is.

Let g_l act on hidden layer l of a perceptron with layers (W_l b_l), l = 1 ... L + 1, and g_0 = g_{L+1} = I:

    (W_l  b_l)  ->  g_l (W_l  b_l) diag(g_{l-1}, 1)^{-1}.

The function stays if the activation f commutes with g_l entry by entry, f(g x) = g f(x):

| activation                                  | group of a hidden layer of h units               | converse                                                    |
|---------------------------------------------|--------------------------------------------------|-------------------------------------------------------------|
| odd (tanh, erf)                             | signed permutations, 2^h h!                      | tanh, one hidden layer: if no unit is idle, constant or the |
|                                             |                                                  | copy or negative of another (Sussmann 1992)                 |
| f(c x) = c f(x) for c > 0 (ReLU, leaky)     | permutations times positive scalings             | generic only: dead units are free, parallel units trade     |
| any other (SiLU, softplus)                  | permutations, h!                                 |                                                             |

Activations with symmetries of another form are refused: f(-x) = c - f(x) with c other than 0 (sigmoid), whose units may change sign if the next bias is shifted; even f, the
signs of whose incoming weights are free; f(c x) = c^a f(x) with a other than 1, whose scalings are not the inverse of each other on both sides. `permutations_of` serves for
them, but is not all.

What kind an activation is, is measured at a few points. Permutations and signs act by isometries; scalings do not, so that weights are first moved along their orbit to where
the rows (W_l b_l) of hidden layers have length one. The quotient metric min_g |a - g . b| is weight matching (`ensembletheory.neural.weights.matching`): exact with one hidden
layer and for few units; else a local minimum, an upper bound.

Whether a network is identified up to these, and what else leaves it as it is, is one line:

    identifiability.check(OnNormalInputs(2), symmetry_of(network), lambda key: Perceptron(key, 2, 1, 4, 1, jnp.tanh))

Averages of functions do not depend on the g_k by which networks are represented,

    sum_k w_k F(g_k . a_k) = sum_k w_k F(a_k),

so ensembles of scores, velocities, potentials or probabilities need no alignment; averages of weights do depend on them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.linalg import block_diag

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.identifiability import Group, Permutations, PositiveMonomial, Product, SignedPermutations, Symmetry
from ensembletheory.identifiability.actions import norm, subtract
from ensembletheory.laws.weights import checked_weights
from ensembletheory.neural.perceptron import Perceptron
from ensembletheory.neural.weights.matching import best_match

__all__ = ["PerceptronSymmetry", "average_weights", "matched", "permutations_of", "symmetry_of"]

_POINTS = np.array([0.3, 0.7, 1.9, 4.1])
_FACTORS = (0.5, 3.0)
_MOST_ROUNDS = 50
_GAIN = 1e-9  # of the spread: less than this ends the rounds


@dataclass(frozen=True)
class PerceptronSymmetry(Symmetry):
    """One group for each hidden layer of a perceptron; made by `symmetry_of` and `permutations_of`, for `identifiability.check`."""

    group: Product

    def act(self, g: np.ndarray, parameters: Perceptron) -> Perceptron:
        """The perceptron with its hidden units moved; its arrays stay NumPy or JAX arrays.

        Raises:
            ValueError: if its hidden layers have other widths than the groups.
        """
        widths = [layer.shape[0] for layer in parameters.layers[:-1]]
        if widths != [part.size for part in self.group.parts]:
            refuse("parameters", f"hidden layers of widths {widths}", f"{[part.size for part in self.group.parts]}", "Take the symmetry of a network of this shape.")
        after, before = ([*self.group.split(g), None], [None, *self.group.split(self.group.inverse(g))])
        moved = [_moved(left, layer, right) for left, layer, right in zip(after, parameters.layers, before, strict=True)]
        return eqx.tree_at(lambda network: network.layers, parameters, tuple(moved))

    def section(self, parameters: Perceptron) -> Perceptron:
        """The perceptron itself, or, if there are scalings, that of its orbit whose hidden units have incoming weights and bias of length one.

        Raises:
            ValueError: if those of a unit are all zero.
        """
        if self.group.compact_part is self.group:
            return parameters
        scales, before = [], np.ones(parameters.layers[0].shape[1] - 1)
        for number, layer in enumerate(parameters.layers[:-1], start=1):
            lengths = np.linalg.norm(np.asarray(layer) * np.append(before, 1.0)[None, :], axis=1)
            if np.any(lengths == 0):
                refuse("parameters", f"a unit of hidden layer {number} without weights", "units with weights", "Its scale is free: there is no metric; drop the unit.")
            scales.append(1 / lengths)
            before = lengths
        return self.act(np.diag(np.concatenate(scales)), parameters)

    def _aligned(self, a: Perceptron, b: Perceptron) -> np.ndarray:
        shapes = [[layer.shape for layer in network.layers] for network in (a, b)]
        if shapes[0] != shapes[1]:
            refuse("b", f"layers of shapes {shapes[1]}", f"{shapes[0]}, those of `a`", "Compare networks of one shape.")
        left, right = ([np.asarray(layer, dtype=float) for layer in network.layers] for network in (a, b))
        compact = self.group.compact_part
        return self.group.join(best_match(left, right, compact.parts if isinstance(compact, Product) else (compact,)))


def symmetry_of(network: Perceptron) -> PerceptronSymmetry:
    """The symmetries of a perceptron, by the table of the module.

    Raises:
        ValueError: if it has no hidden layer, or more than the table lists leaves its function as it is: its activation is linear, even, a constant less its mirror image, or
            homogeneous of a degree other than 1.
    """
    return _symmetry(network, _kind(network.activation))


def permutations_of(network: Perceptron) -> PerceptronSymmetry:
    """The relabellings of hidden units alone, a symmetry of any perceptron.

    Raises:
        ValueError: if it has no hidden layer.
    """
    return _symmetry(network, Permutations)


def matched(reference: Perceptron, networks: Sequence[Perceptron], symmetry: Symmetry | None = None) -> list[Perceptron]:
    """The networks as functions, with the weights nearest to the reference (both in the section, if there are scalings).

    Args:
        reference: a perceptron.
        networks: perceptrons of the same shape.
        symmetry: by which to move them; default `symmetry_of(reference)`.

    Raises:
        ValueError: if shapes differ.
    """
    symmetry = symmetry_of(reference) if symmetry is None else symmetry
    return [symmetry.aligned(reference, network) for network in networks]


def average_weights(networks: Sequence[Any], weights: Numbers | None = None, symmetry: Symmetry | None = None) -> Any:
    """The network whose weights are the averages of the members', as they stand or matched.

    With a symmetry, all members are matched to the average of the matched ones, again and again (Ainsworth et al. 2023), while sum_k w_k |average - member_k|^2 falls.

    Args:
        networks: modules of one structure, such as perceptrons or score networks; with a symmetry, what it acts on.
        weights: (K,) on the simplex; default 1/K each.
        symmetry: by which they are matched, such as `symmetry_of(networks[0])`; default not at all.

    Raises:
        ValueError: if there is no network, shapes differ, or the weights are off the simplex.
    """
    if not networks:
        refuse("networks", "none", "at least one", "Pass a list of networks.")
    shares = np.asarray(checked_weights(weights, len(networks)))
    if symmetry is None:
        return _average(networks, shares)
    average, least = symmetry.section(networks[0]), np.inf
    for _ in range(_MOST_ROUNDS):
        moved = matched(average, networks, symmetry)
        candidate = _average(moved, shares)
        spread = sum(share * norm(subtract(candidate, network)) ** 2 for share, network in zip(shares, moved, strict=True))
        if not spread < least * (1 - _GAIN):
            break
        average, least = candidate, spread
    return average


def _average(networks: Sequence[Any], shares: np.ndarray) -> Any:
    structures = [[np.shape(leaf) for leaf in jax.tree.leaves(network)] for network in networks]
    for k, structure in enumerate(structures):
        if structure != structures[0]:
            refuse(f"networks[{k}]", f"arrays of shapes {structure}", f"{structures[0]}, those of networks[0]", "Average networks of one shape.")
    weights = [eqx.filter(network, eqx.is_inexact_array_like) for network in networks]
    averages = jax.tree.map(lambda *leaves: _like(leaves[0], np.tensordot(shares, np.stack([np.asarray(leaf) for leaf in leaves]), 1)), *weights)
    return eqx.combine(averages, networks[0])


def _symmetry(network: Perceptron, kind: Callable[[int], Group]) -> PerceptronSymmetry:
    if network.layers[0].ndim != 2:
        refuse("network", f"layers of shape {network.layers[0].shape}", "one network", "Take the members of a stack one by one.")
    if len(network.layers) < 2:
        refuse("network", "a perceptron without hidden layers", "one with hidden layers", "An affine map has no hidden units to move, and its weights are its function.")
    return PerceptronSymmetry(Product(tuple(kind(layer.shape[0]) for layer in network.layers[:-1])))


def _kind(activation: Callable[[Array], Array]) -> type[Group]:
    """The group of a hidden layer, by looking at the activation."""
    p = np.concatenate([_POINTS, -_POINTS])
    with jax.ensure_compile_time_eval():
        values = np.asarray(activation(jnp.asarray(np.concatenate([p, -p, *(c * p for c in _FACTORS)]))))
    at, opposite, *scaled = values.reshape(-1, p.size)
    odd = np.allclose(opposite, -at, rtol=1e-5, atol=1e-6)
    homogeneous = all(np.allclose(value, c * at, rtol=1e-5, atol=1e-6) for value, c in zip(scaled, _FACTORS, strict=True))
    if odd and homogeneous:
        refuse("network", "a linear activation", "one that is not linear", "Any invertible matrix then moves its hidden units; compare the product of its layers.")
    if further := _further(at, opposite, scaled, odd or homogeneous):
        refuse(
            "network", f"an activation {further}", "one without symmetries of that form", "Use `permutations_of` for its relabellings, which are not all of its symmetries."
        )
    return SignedPermutations if odd else PositiveMonomial if homogeneous else Permutations


def _further(at: np.ndarray, opposite: np.ndarray, scaled: Sequence[np.ndarray], listed: bool) -> str:
    """In words, what symmetry the values f(x), f(-x) and f(c x) show that the table of the module does not list; empty if none."""
    alike = partial(np.allclose, rtol=1e-5, atol=1e-6)
    if alike(opposite, at):
        return "that is even, f(-x) = f(x)"
    if not listed and alike(opposite + at, opposite[0] + at[0]):
        return f"with f(-x) = {opposite[0] + at[0]:.4g} - f(x)"
    if not (listed and alike(scaled[0], _FACTORS[0] * at)) and all(alike(np.outer(value, at), np.outer(at, value)) for value in scaled):
        return "with f(c x) proportional to f(x), by another factor than c"
    return ""


def _moved(left: np.ndarray | None, layer: Any, right: np.ndarray | None) -> Any:
    """The layer (W b) as left (W right, b)."""
    values = np.asarray(layer) if is_concrete(layer) else layer
    if right is not None:
        values = values @ np.asarray(block_diag(right, 1.0), values.dtype)
    return _like(layer, values if left is None else np.asarray(left, values.dtype) @ values)


def _like(layer: Any, values: Any) -> Any:
    return jnp.asarray(values, layer.dtype) if isinstance(layer, jax.Array) else values
