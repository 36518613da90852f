r"""Does the averaged-score law come closer to the target with every member? (open conjecture `mean-score-monotone-in-k`).

For members q_1, ..., q_K and a target p, let p_A be the law sampled with the average of the exact scores of the members in A (T = infinity), and

    D_k = mean over the subsets A of size k of KL(p || p_A),   k = 1, ..., K.

D_K <= D_1 is a theorem; whether D_{k+1} <= D_k for every k is open. Instances: d <= 4, K <= 8; members N(m_j, diag v_j), target N(m, S) with S in a
random frame; m_j and m normal with a random common spread, the logarithms of all variances uniform with quotients at most `condition`. Diagonal members
stand for all that commute: the prior N(0, I) and the divergence do not change under a common rotation. All subsets are enumerated (at most 70 of a size),
so a row holds no sampling error: for one instance and one sampler, the smallest margin D_k - D_{k+1} and its k, with D_1 and D_K, in nats.

A negative margin beyond rounding refutes the conjecture. Margins that are all positive are evidence, not proof.
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

__all__ = ["CHURN", "REPLICATES", "divergences_by_size", "instance_of", "simulate", "study"]

REPLICATES = 64
LARGEST_SPREAD = 3.0
CHURN = {"sde": 1.0, "ode": 0.0}

Instance = tuple[Float[Array, "K d"], Float[Array, "K d"], Float[Array, " d"], Float[Array, "d d"]]


def simulate(cell: Cell, key: PRNGKeyArray) -> list[Row]:
    """Rows of one block of random instances, two (SDE and ODE) for each."""
    instances = _draw_instances(key, cell["members"], cell["dim"], float(cell["condition"]))
    averages = {sampler: np.asarray(_divergences(instances, churn)) for sampler, churn in CHURN.items()}
    return [_row(i, sampler, averages[sampler][i]) for i in range(REPLICATES) for sampler in CHURN]


def instance_of(normals: Float[Array, " n"], members: int, dim: int, condition: Float[Array, ""]) -> Instance:
    """Means (K, d) and variances (K, d) of the members, mean (d,) and covariance (d, d) of the target, from n = 2 (K + 1) d + d^2 + 1 normal numbers."""
    spread, means, variances, frame = jnp.split(normals, np.cumsum([1, (members + 1) * dim, (members + 1) * dim]))
    means = LARGEST_SPREAD * ndtr(spread[0]) * means.reshape(members + 1, dim)
    variances = condition ** (ndtr(variances) - 0.5).reshape(members + 1, dim)
    rotation = jnp.linalg.qr(frame.reshape(dim, dim))[0]
    return means[:-1], variances[:-1], means[-1], (rotation * variances[-1][None, :]) @ rotation.T


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
    return jnp.asarray(of_size / of_size.sum(axis=1, keepdims=True)) @ jax.vmap(divergence)(jnp.asarray(subsets / sizes[:, None]))


@partial(jax.jit, static_argnames=("members", "dim"))
def _draw_instances(key: PRNGKeyArray, members: int, dim: int, condition: Float[Array, ""]) -> Instance:
    normals = jax.random.normal(key, (REPLICATES, 2 * (members + 1) * dim + dim**2 + 1))
    return jax.vmap(lambda normals: instance_of(normals, members, dim, condition))(normals)


@jax.jit
def _divergences(instances: Instance, churn: Float[Array, ""]) -> Float[Array, "n K"]:
    return jax.lax.map(lambda instance: divergences_by_size(instance, churn), instances)  # one at a time: 255 subsets are 100 MB


def _subsets(members: int) -> np.ndarray:
    """The non-empty subsets as rows of zeros and ones."""
    return np.array([[number >> member & 1 for member in range(members)] for number in range(1, 2**members)])


def _row(replicate: int, sampler: str, averages: np.ndarray) -> Row:
    margins = averages[:-1] - averages[1:]
    k = int(np.argmin(margins))
    values = {"margin": margins[k], "k": k + 1, "kl_of_one": averages[0], "kl_of_all": averages[-1]}
    return {"replicate": replicate, "sampler": sampler, **values}


def _grid(dims, members, conditions, blocks) -> list[Cell]:
    return [{"dim": d, "members": K, "condition": c, "block": b} for d in dims for K in members for c in conditions for b in blocks]


study = Study(
    "mean-score-monotone",
    cells=_grid(range(1, 5), range(2, 9), (4, 100, 10_000), range(4)),
    simulate=simulate,
    quick=_grid((1, 3), (4,), (4, 100), range(1)),
    uses=("ensembletheory.pooling.mean_score", "ensembletheory.divergences.kl"),
)
