r"""Weight matching: which relabelling of the hidden units of one perceptron brings its weights nearest to another's (Ainsworth, Hayase & Srinivasa 2023).

With the layers A_1 ... A_{L+1} and B_1 ... B_{L+1} of two perceptrons, each a matrix (W b), and g = (g_1, ..., g_L) an element for each hidden layer,

    |A - g . B|^2 = |A|^2 + |B|^2 - 2 overlap(g),      overlap(g) = sum_l <A_l, g_l B_l diag(g_{l-1}, 1)^T>,      g_0 = I,  g_{L+1} = I.

In one g_l, the others fixed, the overlap is linear, <C_l, g_l>, with A', B' the layers without their biases and

    C_l = A_l diag(g_{l-1}, 1) B_l^T  +  A'_{l+1}^T g_{l+1} B'_{l+1},

so that the best g_l is a linear assignment (with signs, of |C_l|). One hidden layer needs one assignment and is solved exactly. With several, the layers of even number given,
those of odd number are independent assignments: small networks are solved by trying all elements of the even layers. Larger ones go by coordinate descent, which never
lowers the overlap and ends at a local maximum, from three starts: the identity; layer by layer from the inputs, each by its incoming weights alone; and layer by layer from
the outputs, each by its outgoing weights. The best of the three is kept.

*Exact on plants.* If B = h . A and in no layer two incoming rows of A agree (up to sign, with signs), the start from the inputs is h^{-1}: <A_1, g_1 B_1> <= |A_1|^2 by the
rearrangement of rows, with equality only where each row meets itself, and so on with g_1 known. No start does better: the overlap is |A|^2 there.
"""

import itertools
from collections.abc import Sequence
from math import prod

import numpy as np
from jaxtyping import Float

from ensembletheory.identifiability.groups import Group

__all__ = ["best_match", "descend", "overlap", "starts"]

Layers = Sequence[Float[np.ndarray, "outputs inputs_and_one"]]
Elements = list[Float[np.ndarray, "h h"]]

_MOST_TRIALS = 512  # elements of the even layers that are tried one by one
_MOST_SWEEPS = 100
_GAIN = 1e-12  # of the size of the overlap: less than this is rounding


def best_match(a: Layers, b: Layers, groups: Sequence[Group]) -> Elements:
    """The elements (one a hidden layer) of the largest overlap that was found; see the module for when that is the largest there is."""
    if prod(group.order for group in groups[1::2]) <= _MOST_TRIALS:
        found = [_given_even(a, b, groups, even) for even in itertools.product(*(group.elements() for group in groups[1::2]))]
    else:
        found = [descend(a, b, groups, start)[0] for start in starts(a, b, groups)]
    return max(found, key=lambda elements: overlap(a, b, elements))


def overlap(a: Layers, b: Layers, elements: Elements) -> float:
    """The inner product of a and of b moved by the elements."""
    after, before = [*elements, np.eye(len(a[-1]))], [np.eye(a[0].shape[1] - 1), *elements]
    return float(sum(np.sum(x * (g @ y @ _with_bias(h).T)) for x, y, g, h in zip(a, b, after, before, strict=True)))


def starts(a: Layers, b: Layers, groups: Sequence[Group]) -> list[Elements]:
    """The identity, and what incoming weights alone and outgoing weights alone say."""
    forward, backward = ([group.identity for group in groups] for _ in range(2))
    for i in range(len(groups)):
        forward[i] = groups[i].nearest(_incoming(a, b, forward, i))
    for i in reversed(range(len(groups))):
        backward[i] = groups[i].nearest(_outgoing(a, b, backward, i))
    return [[group.identity for group in groups], forward, backward]


def descend(a: Layers, b: Layers, groups: Sequence[Group], start: Elements) -> tuple[Elements, list[float]]:
    """Where coordinate descent ends, and the overlaps after each sweep over the layers, which never fall."""
    elements, overlaps = list(start), [overlap(a, b, start)]
    for _ in range(_MOST_SWEEPS):
        for i in range(len(groups)):
            elements[i] = groups[i].nearest(_weights(a, b, elements, i))
        overlaps.append(overlap(a, b, elements))
        if overlaps[-1] - overlaps[-2] <= _GAIN * abs(overlaps[-1]):
            break
    return elements, overlaps


def _given_even(a: Layers, b: Layers, groups: Sequence[Group], even: tuple[Float[np.ndarray, "h h"], ...]) -> Elements:
    """The best elements with these in the layers of even number."""
    elements = [even[i // 2] if i % 2 else group.identity for i, group in enumerate(groups)]
    for i in range(0, len(groups), 2):
        elements[i] = groups[i].nearest(_weights(a, b, elements, i))
    return elements


def _weights(a: Layers, b: Layers, elements: Elements, i: int) -> Float[np.ndarray, "h h"]:
    return _incoming(a, b, elements, i) + _outgoing(a, b, elements, i)


def _incoming(a: Layers, b: Layers, elements: Elements, i: int) -> Float[np.ndarray, "h h"]:
    return a[i] @ b[i].T if i == 0 else a[i] @ _with_bias(elements[i - 1]) @ b[i].T


def _outgoing(a: Layers, b: Layers, elements: Elements, i: int) -> Float[np.ndarray, "h h"]:
    x, y = a[i + 1][:, :-1], b[i + 1][:, :-1]
    return x.T @ y if i == len(elements) - 1 else x.T @ elements[i + 1] @ y


def _with_bias(g: Float[np.ndarray, "h h"]) -> Float[np.ndarray, "h_and_one h_and_one"]:
    """The matrix diag(g, 1)."""
    whole = np.eye(len(g) + 1)
    whole[:-1, :-1] = g
    return whole
