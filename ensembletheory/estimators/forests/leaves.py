r"""What a leaf says of infinitely many duplicates: the exact noise prediction of the rows, averaged over the leaf's box.

A tree is grown on draws X_t = a X_0 + s Z with X_0 uniform on the rows x_1, ..., x_n. Held fixed, its leaf B = prod_j (l_j, u_j] has as value the mean of Z over the draws
in it, which for infinitely many of them is E[Z | X_t in B] = E[ n_t(X_t) | X_t in B ], with n_t = E[Z | X_t] the exact noise prediction of the law of the rows: the tree is
the projection of n_t on functions constant in its boxes. Given a row the coordinates are independent normals, so with alpha_ij = (l_j - a x_ij) / s, beta_ij likewise,

    P_i(B) = prod_j [ Phi(beta_ij) - Phi(alpha_ij) ],     E[Z_j | x_i, B] = ( phi(alpha_ij) - phi(beta_ij) ) / ( Phi(beta_ij) - Phi(alpha_ij) ),
    E[Z_j | B] = sum_i P_i(B) E[Z_j | x_i, B] / sum_i P_i(B),     P(B) = mean_i P_i(B).

So the loss of any values v_B on these boxes is known too: E|Z - T(X_t)|^2 = d - sum_B P(B) |m_B|^2 + sum_B P(B) |v_B - m_B|^2, m_B the exact means; the last term is what a
finite number of duplicates costs. A value that is missing in a row stays missing: it goes where the tree sends missing values, with probability 0 or 1, and E[Z_j | B] is
over the rows in which coordinate j is observed.

The target can be any readout alpha X_0 + (c / s) Z, of mean alpha x_ij + (c / s) E[Z_j | x_i, B] given a row.

Finer boxes come nearer to n_t, hence to a diffusion that draws the rows themselves: what keeps new rows from being copies is that leaves are coarse.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import log_ndtr

from ensembletheory.estimators.forests.trees import Nodes

__all__ = ["Boxes", "LeafMeans", "boxes", "leaf_means"]

_BLOCK = 2**21  # numbers at a time


class Boxes(NamedTuple):
    """The boxes (lower, upper] of the leaves, in the order of their nodes, and whether a missing value of a coordinate gets there."""

    lower: Float[np.ndarray, "leaves d"]
    upper: Float[np.ndarray, "leaves d"]
    takes_missing: Bool[np.ndarray, "leaves d"]


class LeafMeans(NamedTuple):
    """Exact probabilities of leaves, and means of the target there; NaN where no row that observes the coordinate gets there."""

    probability: Float[np.ndarray, " leaves"]
    mean: Float[np.ndarray, "leaves d"]


def boxes(tree: Nodes) -> Boxes:
    """The boxes of a tree's leaves."""
    nodes, d = tree.value.shape
    lower, upper, missing = np.full((nodes, d), -np.inf), np.full((nodes, d), np.inf), np.ones((nodes, d), bool)
    for node in np.flatnonzero(~tree.is_leaf):  # parents come before children
        left, right, j = tree.left[node], tree.left[node] + 1, tree.feature[node]
        for table in (lower, upper, missing):
            table[left] = table[right] = table[node]
        upper[left, j], lower[right, j] = min(upper[node, j], tree.threshold[node]), max(lower[node, j], tree.threshold[node])
        missing[left if not tree.missing_left[node] else right, j] = False
    leaf = tree.is_leaf
    return Boxes(lower[leaf], upper[leaf], missing[leaf])


def leaf_means(tree: Nodes, rows: Float[np.ndarray, "n d"], a: float, s: float, alpha: float = 0.0, c: float | None = None) -> LeafMeans:
    """Probabilities of the leaves, and means of alpha X_0 + (c / s) Z there (by default of Z), for infinitely many duplicates of the rows, NaN = missing.

    Args:
        tree: whose boxes are taken.
        rows: the data.
        a: the path's coefficient of the data.
        s: that of the noise, > 0.
        alpha: the readout's coefficient of the data.
        c: s times that of the noise; s if left out.
    """
    parts, (n, d) = boxes(tree), rows.shape
    step = max(1, _BLOCK // (n * d))
    blocks = [_means(Boxes(*(table[i : i + step] for table in parts)), rows, a, s, alpha, s if c is None else c) for i in range(0, len(parts.lower), step)]
    return LeafMeans(*(np.concatenate(column) for column in zip(*blocks, strict=True)))


def _means(parts: Boxes, rows: Float[np.ndarray, "n d"], a: float, s: float, alpha: float, c: float) -> LeafMeans:
    seen, centres = ~np.isnan(rows), a * np.nan_to_num(rows)
    low, high = ((bound[:, None, :] - centres) / s for bound in (parts.lower, parts.upper))
    log_mass, noise = _truncated(low, high)
    with np.errstate(divide="ignore"):
        log_mass = np.where(seen, log_mass, np.log(parts.takes_missing.astype(float))[:, None, :]).sum(axis=2)
    top = log_mass.max(axis=1, keepdims=True)
    share = np.exp(log_mass - np.where(np.isfinite(top), top, 0.0))
    weights = np.einsum("li,ij->lj", share, seen.astype(float))
    totals = np.einsum("li,lij->lj", share, np.where(seen, alpha * np.nan_to_num(rows) + c / s * noise, 0.0))
    return LeafMeans(np.exp(log_mass).mean(axis=1), np.divide(totals, weights, out=np.full_like(totals, np.nan), where=weights > 0))


def _truncated(low: Float[np.ndarray, "*n"], high: Float[np.ndarray, "*n"]) -> tuple[Float[np.ndarray, "*n"], Float[np.ndarray, "*n"]]:
    """The logarithm of the probability of (low, high], and the mean there, of a standard normal; the mean is 0 where the interval has no probability."""
    flip = low > 0  # towards the tail on the left, where differences of probabilities keep their digits
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    log_low, log_high = log_ndtr(low), log_ndtr(high)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_mass = np.where(low < high, log_high + np.log1p(-np.exp(log_low - log_high)), -np.inf)
        mean = np.exp(-(low**2) / 2 - log_mass) - np.exp(-(high**2) / 2 - log_mass)
    return log_mass, np.where(log_mass > -np.inf, np.where(flip, -mean, mean) / np.sqrt(2 * np.pi), 0.0)
