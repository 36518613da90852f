"""Perceptrons with NumPy weights, and their values by NumPy: nothing is compiled."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ensembletheory.neural import Perceptron

ACTIVATIONS = {jnp.tanh: np.tanh, jax.nn.relu: lambda x: np.maximum(x, 0), jax.nn.silu: lambda x: x / (1 + np.exp(-x))}


def drawn(rng, inputs, outputs, width, depth, activation, scale=1.0):
    """A perceptron of the given shape with normal weights."""
    shapes = eqx.filter_eval_shape(Perceptron, jax.random.key(0), inputs, outputs, width, depth, activation)
    return jax.tree.map(lambda leaf: scale * rng.normal(size=leaf.shape), shapes)


def planted(*layers, activation):
    """The perceptron with these layers (W b)."""
    layers = [np.asarray(layer, dtype=float) for layer in layers]
    shape = drawn(np.random.default_rng(0), layers[0].shape[1] - 1, len(layers[-1]), len(layers[0]), len(layers) - 1, activation)
    return eqx.tree_at(lambda network: network.layers, shape, tuple(layers))


def values(network, x):
    """The outputs at rows (n, d)."""
    for layer in network.layers[:-1]:
        layer = np.asarray(layer)
        x = ACTIVATIONS.get(network.activation, network.activation)(x @ layer[:, :-1].T + layer[:, -1])
    last = np.asarray(network.layers[-1])
    return x @ last[:, :-1].T + last[:, -1]


def relabelled(network, order, signs):
    """The network with its only hidden layer reordered and some units flipped, by hand."""
    first, last = (np.asarray(layer) for layer in network.layers)
    return eqx.tree_at(lambda n: n.layers, network, (signs[:, None] * first[order], np.hstack([last[:, :-1][:, order] * signs, last[:, -1:]])))
