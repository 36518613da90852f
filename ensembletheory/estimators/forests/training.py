r"""Forests trained as diffusion and flow models (Jolicoeur-Martineau et al. 2023): one forest a noise level, on duplicated rows.

At level t every row x_i is taken K times, with fresh noise: X_t = a x_i + s Z. A regressor of a readout of (x_i, Z) given X_t, of Z itself for diffusion or of
a' x_i + (s^2)' / (2 s) Z for flow matching, estimates the exact field of the law of the rows, whose minimiser it is; what trees make of it is said in
`ensembletheory.estimators.forests.leaves`. Here one tree predicts all coordinates at once, where the source has one boosted model a coordinate, and a member of the forest is
one tree a level, with duplicates and random state of its own: given the rows, members are independent and alike, so that the expected squared error of the average of M of
them, at any point, is A + B / M.

A tree grown until leaves are pure keeps one draw a leaf: on the line it is the nearest neighbour, whose Z is, as the duplicates grow dense, a draw from the law of Z given
X_t: twice the least loss, where the average of M such trees has (1 + 1/M) times the least loss.

**Missing values.** A coordinate that is missing in a row stays missing in its duplicates, and trees send missing values to one of both sides. As a target it is replaced by
the mean of its column while the tree is grown; the values of leaves then are means over those draws in which the coordinate is observed, or where there is none those of
the nearest ancestor that has one.

A. Jolicoeur-Martineau, K. Fatras and T. Kachman, "Generating and imputing tabular data via diffusion and flow-based gradient-boosted trees" (arXiv 2309.09968).
"""

from typing import NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from sklearn.base import clone
from sklearn.tree import DecisionTreeRegressor

from ensembletheory.errors import checked_count, refuse
from ensembletheory.estimators.forests.leaves import leaf_means
from ensembletheory.estimators.forests.trees import Nodes, TreeField, nodes_of, stacked
from ensembletheory.fitting.rows import read_values
from ensembletheory.processes import GaussianPath

__all__ = ["fit_forest", "grown"]


class Level(NamedTuple):
    """The coefficients of a path and of a readout at one time."""

    a: float
    s: float
    alpha: float
    c: float


def fit_forest(
    key: PRNGKeyArray,
    X: Float[np.ndarray, "n d"],
    process: GaussianPath,
    times: Float[np.ndarray, " L"],
    kind: str = "noise",
    trees: int = 10,
    duplicates: int = 20,
    tree: DecisionTreeRegressor | None = None,
    exact_leaves: bool = False,
) -> TreeField:
    """A forest a level, as a stack of `trees` fields.

    Args:
        key: of the noise and of the trees' random states.
        X: the rows, NaN = missing.
        process: the path.
        times: of the levels, at which the path has noise.
        kind: what is estimated: "noise", "score", "velocity" or "denoiser".
        trees: number of members.
        duplicates: how often each row is taken.
        tree: a regressor that says how trees are grown, which is copied; by default leaves have five draws at least.
        exact_leaves: whether leaves have the values of infinitely many duplicates.

    Raises:
        ValueError: if X is not a table of numbers, a column has no observed value, a count is below 1, or a time is without noise.
    """
    rows, times = read_values(X), np.asarray(times)
    trees, duplicates = checked_count("trees", trees, 1), checked_count("duplicates", duplicates, 1)
    if np.isnan(rows).all(axis=0).any():
        refuse("X", "a column wholly missing", "at least one observed value a column", "Drop it: nothing is known of it.")
    template = DecisionTreeRegressor(min_samples_leaf=5) if tree is None else tree
    levels, rng = _levels(process, kind, times), np.random.default_rng(np.asarray(jax.random.key_data(key)))
    members = [[grown(rng, rows, level, duplicates, template, exact_leaves) for level in levels] for _ in range(trees)]
    return stacked(process, kind, times, members)


def _levels(process: GaussianPath, kind: str, times: Float[np.ndarray, " L"]) -> list[Level]:
    table = np.stack(_coefficients(process, kind, jnp.asarray(times, jnp.result_type(float))), axis=1)
    if not np.all(table[:, 1] > 0):
        refuse("times", f"{np.min(times):.6g}, at which there is no noise", "times with noise", "Begin with a time later than 0.")
    return [Level(*map(float, row)) for row in table]


@eqx.filter_jit
def _coefficients(process: GaussianPath, kind: str, times: Float[Array, " L"]) -> tuple[Float[Array, " L"], ...]:
    return jax.vmap(lambda t: (process.a(t), jnp.sqrt(process.noise_variance(t)), *process.readout(kind, t)))(times)


def grown(rng: np.random.Generator, rows: Float[np.ndarray, "n d"], level: Level, duplicates: int, template: DecisionTreeRegressor, exact_leaves: bool) -> Nodes:
    """One tree of one level."""
    start, noise = np.tile(rows, (duplicates, 1)), rng.normal(size=(duplicates * len(rows), rows.shape[1]))
    points, targets = level.a * start + level.s * noise, level.alpha * start + level.c / level.s * noise
    targets = np.where(np.isnan(start), np.nan, targets)
    regressor = cast(DecisionTreeRegressor, clone(template)).set_params(random_state=int(rng.integers(2**31)))
    tree = regressor.fit(points, np.where(np.isnan(targets), np.nanmean(targets, axis=0), targets)).tree_
    nodes = nodes_of(tree)
    if np.isnan(rows).any():
        path = regressor.decision_path(points)[:, nodes.number]
        nodes = nodes._replace(value=_observed_means(path, targets, nodes.parent))
    return _with_exact_leaves(nodes, rows, level) if exact_leaves else nodes


def _observed_means(path, targets: Float[np.ndarray, "draws d"], parent: np.ndarray) -> Float[np.ndarray, "nodes d"]:
    """The means of the observed targets that pass each node; of those that pass its parent where there is none."""
    seen = ~np.isnan(targets)
    count, total = path.T @ seen.astype(float), path.T @ np.where(seen, targets, 0.0)
    means = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    for node in np.flatnonzero(np.isnan(means).any(axis=1)):
        means[node] = np.where(np.isnan(means[node]), means[parent[node]], means[node])
    return means


def _with_exact_leaves(nodes: Nodes, rows: Float[np.ndarray, "n d"], level: Level) -> Nodes:
    exact = leaf_means(nodes, rows, *level).mean
    value = nodes.value.copy()
    value[nodes.is_leaf] = np.where(np.isnan(exact), value[nodes.is_leaf], exact)
    return nodes._replace(value=value)
