r"""Modes of a Gaussian mixture: the points where the score is zero and the Hessian of the log-density negative definite.

Every mode lies on the ridgeline manifold of the points ( sum_k a_k S_k^{-1} )^{-1} sum_k a_k S_k^{-1} m_k, a on the simplex (Ray & Lindsay 2005). Climbs start from its
corners, the components' means, and from the middles of its edges, where two components cross. One step of the climb is

    x <- ( sum_k r_k S_k^{-1} )^{-1} sum_k r_k S_k^{-1} m_k,

EM for a translation of the mixture, by which the density never falls (Carreira-Perpinan 2000), and, wherever that gains more, Newton's step. A climb that ends at
a saddle goes on from points beside it, along the direction in which the density is convex.

On the line a mixture of K components of equal variance has at most K modes. In two or more dimensions there may be more modes than components (Carreira-Perpinan & Williams
2003), and a mode into which no start climbs is not found.
"""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ensembletheory.errors import is_concrete, refuse
from ensembletheory.linalg import solve_spd

if TYPE_CHECKING:
    from ensembletheory.laws.mixture import GaussianMixture

__all__ = ["modes"]

_STEPS = 2000
_STILL = 1e-10  # a climb ends where its step is this fraction of a standard deviation
_BESIDE = 1e-3  # standard deviations by which a climb leaves a saddle
_ROUNDS = 8
_SINGULAR = 1e-5  # curvature, relative to that of the components, below which a mode is not told from a saddle
_SAME = 1e-5  # distance, in standard deviations, between copies of a mode


def modes(mixture: "GaussianMixture") -> Float[Array, "M d"]:
    """The modes reached from the components' means and from where two components cross, the highest first.

    Raises:
        ValueError: if values cannot be looked at, or a climb ends where the Hessian is singular.
    """
    if not is_concrete(*jax.tree.leaves(mixture)):
        refuse("mixture", "traced values", "numbers", "How many modes there are depends on them: call it outside jit, vmap and grad.")
    starts, found = _ridge_points(mixture), []
    n = len(starts)
    for _ in range(_ROUNDS):
        ends, curvatures, directions = (np.asarray(part) for part in _climbed(mixture, starts))
        found.append(ends[curvatures < -_SINGULAR])
        left = curvatures > _SINGULAR
        if np.any(~left & (curvatures >= -_SINGULAR)):
            refuse("mixture", "a climb that ends where the Hessian is singular", "modes that are strict", "A mode is about to split there: move a component.")
        if not np.any(left):
            break
        beside = np.concatenate([ends + _BESIDE * directions, ends - _BESIDE * directions])[np.concatenate([left, left])]
        starts = jnp.asarray(np.resize(beside, (2 * n, mixture.dim)))
    return _distinct(mixture, np.concatenate(found))


@eqx.filter_jit
def _ridge_points(mixture: "GaussianMixture") -> Float[Array, "n d"]:
    """The middle of the edge of the ridgeline manifold between each two components; of one with itself it is the mean."""
    precisions = jax.vmap(lambda component: component.covariance.inverse().as_matrix())(mixture.components)
    shifts = jax.vmap(jnp.matmul)(precisions, mixture.means)
    first, second = np.triu_indices(len(mixture.means))
    return jax.vmap(lambda j, k: solve_spd(precisions[j] + precisions[k], (shifts[j] + shifts[k])[:, None])[:, 0])(first, second)


def _distinct(mixture: "GaussianMixture", points: np.ndarray) -> Float[Array, "M d"]:
    order = np.argsort(-np.asarray(mixture.log_prob(points)), kind="stable")
    width = np.min(np.asarray(mixture.pieces()[1]), axis=0)
    kept: list[np.ndarray] = []
    for point in points[order]:
        if all(np.linalg.norm((point - other) / width) > _SAME for other in kept):
            kept.append(point)
    return jnp.asarray(np.stack(kept))


@eqx.filter_jit
def _climbed(mixture: "GaussianMixture", starts: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Float[Array, " n"], Float[Array, "n d"]]:
    """Where climbs end, the largest eigenvalue of the Hessian there relative to that of the components, and its direction, one standard deviation long."""

    def climb(x):
        start = (x, jnp.asarray(jnp.inf, x.dtype), jnp.asarray(0))
        return _judged(mixture, jax.lax.while_loop(_moving, lambda state: _step(mixture, state), start)[0])

    return jax.vmap(climb)(starts)


def _moving(state) -> Bool[Array, ""]:
    _, moved, count = state
    return (moved > _STILL) & (count < _STEPS)


def _step(mixture: "GaussianMixture", state):
    x, _, count = state
    precision, score = _precision(mixture, x), mixture._score(x)
    hessian = mixture._hessian(x)
    shifted = x + solve_spd(precision, score[:, None])[:, 0]
    newton = x - jnp.linalg.solve(hessian, score)
    rises = (jnp.linalg.eigvalsh(hessian)[-1] < 0) & (mixture._log_prob(newton) >= mixture._log_prob(shifted))
    following = jnp.where(rises, newton, shifted)
    gap = following - x
    return following, jnp.sqrt(gap @ precision @ gap), count + 1


def _precision(mixture: "GaussianMixture", x: Float[Array, " d"]) -> Float[Array, "d d"]:
    own = jax.vmap(lambda component: component._hessian(x))(mixture.components)
    return -jnp.einsum("k,kij->ij", mixture.responsibilities(x), own)


def _judged(mixture: "GaussianMixture", x: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, ""], Float[Array, " d"]]:
    root = jnp.linalg.cholesky(_precision(mixture, x))
    inverse = jax.scipy.linalg.solve_triangular(root, jnp.eye(x.size, dtype=x.dtype), lower=True)
    curvatures, directions = jnp.linalg.eigh(inverse @ mixture._hessian(x) @ inverse.T)
    return x, curvatures[-1], inverse.T @ directions[:, -1]
