r"""Does the averaged-score law come closer to the target with every member? On random instances it does (claim `mean-score-monotone-in-k`, refuted).

For members q_1, ..., q_K and a target p, let p_A be the law sampled with the average of the exact scores of the members in A (T = infinity), and

    D_k = mean over the subsets A of size k of KL(p || p_A),   k = 1, ..., K.

D_K <= D_1 is a theorem. D_{k+1} <= D_k is false for some members, which a search finds, and holds for all that are drawn here.

Instances: d <= 4, K <= 8; members N(m_j, S_j) and target N(m, S); m_j and m normal with a
random common spread, the logarithms of all eigenvalues uniform with quotients at most `condition`, S in a random frame. The frames of the members are `common`
(diagonal members, which stand for all that commute: the prior N(0, I) and the divergence do not change under a common rotation) or `own` (each member in a random
frame of its own; d >= 2, fewer replicates because the law is a matrix integral). All subsets are enumerated (at most 70 of a size), so a row holds no sampling
error: for one instance and one sampler, the smallest margin D_k - D_{k+1} and its k, with D_1 and D_K, in nats.

A negative margin beyond rounding would be a counter-example met by chance.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.divergences import kl
from ensembletheory.laws import Gaussian
from ensembletheory.pooling import mean_score_law
from ensembletheory.processes import VariancePreserving
from simulations.study import Cell, Row, Study

__all__ = ["CHURN", "REPLICATES", "divergences_by_size", "instance_of", "simulate", "study", "turned"]

REPLICATES = {"common": 64, "own": 8}
LARGEST_SPREAD = 3.0
CHURN = {"sde": 1.0, "ode": 0.0}

Instance = tuple[Float[Array, "K d"], Float[Array, "K ..."], Float[Array, " d"], Float[Array, "d d"]]  # members' means and variances or covariances, target's


def simulate(cell: Cell, key: PRNGKeyArray) -> list[Row]:
    """Rows of one block of random instances, two (SDE and ODE) for each."""
    instances = _draw_instances(key, cell["frames"], cell["members"], cell["dim"], float(cell["condition"]))
    averages = {sampler: np.asarray(_divergences(instances, churn)) for sampler, churn in CHURN.items()}
    return [_row(i, sampler, averages[sampler][i]) for i in range(REPLICATES[cell["frames"]]) for sampler in CHURN]


def instance_of(normals: Float[Array, " n"], members: int, dim: int, condition: Float[Array, ""]) -> Instance:
    """Means (K, d) and variances (K, d) of the members, mean (d,) and covariance (d, d) of the target, from n = 2 (K + 1) d + d^2 + 1 normal numbers."""
    spread, means, variances, frame = jnp.split(normals, np.cumsum([1, (members + 1) * dim, (members + 1) * dim]))
    means = LARGEST_SPREAD * ndtr(spread[0]) * means.reshape(members + 1, dim)
    variances = condition ** (ndtr(variances) - 0.5).reshape(members + 1, dim)
    rotation = jnp.linalg.qr(frame.reshape(dim, dim))[0]
    return means[:-1], variances[:-1], means[-1], (rotation * variances[-1][None, :]) @ rotation.T


def turned(key: PRNGKeyArray, instance: Instance) -> Instance:
    """The instance with each member's covariance in a random frame of its own."""
    means, variances, target_mean, target_cov = instance
    frames = jnp.linalg.qr(jax.random.normal(key, (*variances.shape, variances.shape[-1])))[0]
    return means, jnp.einsum("kij,kj,klj->kil", frames, variances, frames), target_mean, target_cov


def divergences_by_size(instance: Instance, churn: Float[Array, ""]) -> Float[Array, " K"]:
    """D_1, ..., D_K of one instance, sampled with `churn` (1: SDE, 0: ODE)."""
    means, variances, target_mean, target_cov = instance
    members = [Gaussian(mean, variance) for mean, variance in zip(means, variances, strict=True)]
    target, process = Gaussian(target_mean, target_cov), VariancePreserving()

    def divergence(weights):
        return kl(target, mean_score_law(members, process, churn=churn, weights=weights, horizon=jnp.inf)).value

    subsets = _subsets(len(members))
    sizes = subsets.sum(axis=1)
    of_size = sizes[None, :] == np.arange(1, len(members) + 1)[:, None]
    values = jax.lax.map(divergence, jnp.asarray(subsets / sizes[:, None]), batch_size=16)  # all 255 at once would be 100 MB
    return jnp.asarray(of_size / of_size.sum(axis=1, keepdims=True)) @ values


@partial(jax.jit, static_argnames=("frames", "members", "dim"))
def _draw_instances(key: PRNGKeyArray, frames: str, members: int, dim: int, condition: Float[Array, ""]) -> Instance:
    key_normals, key_frames = jax.random.split(key)
    normals = jax.random.normal(key_normals, (REPLICATES[frames], 2 * (members + 1) * dim + dim**2 + 1))
    instances = jax.vmap(lambda normals: instance_of(normals, members, dim, condition))(normals)
    return instances if frames == "common" else jax.vmap(turned)(jax.random.split(key_frames, REPLICATES[frames]), instances)


@jax.jit
def _divergences(instances: Instance, churn: Float[Array, ""]) -> Float[Array, "n K"]:
    return jax.lax.map(lambda instance: divergences_by_size(instance, churn), instances)


def _subsets(members: int) -> np.ndarray:
    """The non-empty subsets as rows of zeros and ones."""
    return np.array([[number >> member & 1 for member in range(members)] for number in range(1, 2**members)])


def _row(replicate: int, sampler: str, averages: np.ndarray) -> Row:
    margins = averages[:-1] - averages[1:]
    k = int(np.argmin(margins))
    values = {"margin": margins[k], "k": k + 1, "kl_of_one": averages[0], "kl_of_all": averages[-1]}
    return {"replicate": replicate, "sampler": sampler, **values}


def _grid(frames, dims, members, conditions, blocks) -> list[Cell]:
    return [{"frames": frames, "dim": d, "members": K, "condition": c, "block": b} for d in dims for K in members for c in conditions for b in blocks]


study = Study(
    "mean-score-monotone",
    cells=_grid("common", range(1, 5), range(2, 9), (4, 100, 10_000), range(4)) + _grid("own", range(2, 5), range(2, 9), (4, 100), range(1)),
    simulate=simulate,
    quick=_grid("common", (1, 3), (4,), (4, 100), range(1)) + _grid("own", (2,), (3,), (4,), range(1)),
    uses=("ensembletheory.pooling.mean_score", "ensembletheory.pooling.mean_score_matrix", "ensembletheory.divergences.kl"),
)
