r"""Claims about the flow of averaged velocities of exact members, followed through points (see `pooling.diversity`): what it gains is the diversity of the scores.

Along the flow log p_hat = sum_k w_k log q_k + D, where D >= 0 is the score diversity, integrated over time. Hence p_hat is above the geometric mean of the members everywhere,
and for every p

    sum_k w_k KL(p || q_k) - KL(p || p_hat) = E_p D.

The averaged velocities of an interpolant, whatever its schedule, are those of the averaged scores' probability flow in other units of time and space, at T = infinity.
Derived here; see the documentation.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.claims.averaged_score import MATRIX_ROUNDING, MEMBERS, REFERENCES, SOME_TARGET, TARGET, early_law, gaussians_in_the_plane, some_members
from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.mean_score import limit_law
from ensembletheory.claims.members import gain
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.pooling.diversity import averaged_flow
from ensembletheory.processes import GaussianPath, Interpolant, LinearInterpolant

__all__ = ["mean_score_gain_is_diversity", "mean_score_pointwise", "mean_velocity_equals_mean_score"]


def _mean_diversity(p: Gaussian, members: Sequence[Gaussian], weights: Float[Array, " K"]) -> Estimate:
    """E_p D: D is quadratic for Gaussian members, so that its mean over the points m +- d^{1/2} L e_i, S = L L^T, is exact."""
    steps = jnp.sqrt(1.0 * p.dim) * p.covariance.factor().T
    diversity = averaged_flow(LinearInterpolant(), members, p.mean[None] + jnp.concatenate([steps, -steps]), weights).diversity
    return Estimate(jnp.mean(diversity.value), jnp.mean(diversity.error), diversity.kind)


def _defect_of_the_gain(target_mean, target_cov, means, covs, weights, churn=0.0) -> Estimate:
    members, p = gaussians_in_the_plane(means, covs), Gaussian(target_mean, target_cov)
    defect = gain(p, weights, members, limit_law(members, weights, churn)) - _mean_diversity(p, members, weights)
    return Estimate(-jnp.abs(defect.value), defect.error, defect.kind)


@claim(
    id="mean-score-gain-is-diversity",
    statement=r"\sum_k w_k \, \mathrm{KL}(p \,\|\, q_k) - \mathrm{KL}(p \,\|\, \hat p_0) = E_p [ \frac{1}{2} \int b \, \sum_k w_k |s_k - \bar s|^2 (x_t, t) \, dt ]",
    source="derived here, for the flow of averaged scores or velocities at T = infinity",
    domain=Domain(**TARGET, **MEMBERS),
    kind="theorem",
    references=REFERENCES,
    equality=lambda: some_members(**SOME_TARGET),
    mutants={"reverse-sde": Mutant("the flow: the reverse SDE, whose gain is another", lambda **instance: _defect_of_the_gain(**instance, churn=1.0))},
    proof="d/dt (log p_t - sum_k w_k log q_k)(x_t) = sum_k w_k (v_k - v) . s_k along the averaged flow, by continuity.",
    rounding=MATRIX_ROUNDING,
)
def mean_score_gain_is_diversity(target_mean, target_cov, means, covs, weights) -> Estimate:
    """Minus the distance of the gain, from the moments of the law, to the diversity along the paths of a flow-matching interpolant: 0 everywhere."""
    return _defect_of_the_gain(target_mean, target_cov, means, covs, weights)


def _signal(bend: Float[Array, ""], t: Float[Array, ""]) -> Float[Array, ""]:
    return (1 - t) * (1 + bend * t)


def _deviation(bend: Float[Array, ""], t: Float[Array, ""]) -> Float[Array, ""]:
    return t * (1 + bend * (1 - t))


def _bent(bends: Float[Array, " 2"]) -> GaussianPath:
    """A path with the right ends whatever the bends."""
    return Interpolant(Partial(_signal, bends[0]), Partial(_deviation, bends[1]))


def _defect_of_the_density(means, covs, weights, bends, point, law: Callable = limit_law) -> Estimate:
    members = gaussians_in_the_plane(means, covs)
    followed = averaged_flow(_bent(bends), members, point, weights).log_prob
    return Estimate(-jnp.abs(followed.value - law(members, weights, 0.0)._log_prob(point)), followed.error, followed.kind)


@claim(
    id="mean-velocity-equals-mean-score",
    statement=r"\hat p = \hat p_0 \ \mathrm{for\ the\ flow\ of}\ \sum_k w_k v_k \ \mathrm{on}\ X_t = a_t X_0 + s_t Z, \ \mathrm{whatever\ the\ schedule}\ (a_t, s_t)",
    source="derived here, for the paths of Lipman et al. (2023) and Albergo & Vanden-Eijnden (2023)",
    domain=Domain(**MEMBERS, bends=real(-0.5, 2, shape=(2,)), point=real(-3, 3, shape=(2,))),
    kind="theorem",
    references=["lipman2023flow", "albergo2023building", "razafindralambo2026scores"],
    equality=lambda: (instance for bends in ([0.0, 0.0], [2.0, -0.5]) for instance in some_members(bends=bends, point=[1.0, -1.0])),
    mutants={"finite-horizon": Mutant("the infinite horizon of the scores: T = 1 with b = 1", lambda **instance: _defect_of_the_density(**instance, law=early_law))},
    proof="v_k is affine in x and s_k with coefficients that are the same for all members, and flows of one s / a differ by units of time and space only.",
    rounding=MATRIX_ROUNDING,
)
def mean_velocity_equals_mean_score(means, covs, weights, bends, point) -> Estimate:
    """Minus the distance between log p_hat by change of variables along the averaged velocities of a schedule, and log p_hat_0 by the moments: 0 everywhere."""
    return _defect_of_the_density(means, covs, weights, bends, point)


MIXTURES = Domain(shares=simplex(shape=(2, 2)), means=real(-2, 2, shape=(2, 2)), variances=positive(0.2, 5, shape=(2, 2)), weights=simplex(2), point=real(-4, 4))


def _above(shares, means, variances, weights, point, of_members: Callable | None = None) -> Estimate:
    members = [GaussianMixture(shares[k], means[k][:, None], variances[k][:, None]) for k in range(2)]
    followed = averaged_flow(LinearInterpolant(), members, point[None], weights)
    logs = jnp.stack([member._log_prob(point[None]) for member in members])
    return followed.log_prob - (followed.log_geometric_mean if of_members is None else of_members(logs, weights))


def _above_the_arithmetic_mean(**instance) -> Estimate:
    return _above(**instance, of_members=lambda logs, weights: jax.scipy.special.logsumexp(logs, b=weights))


def _equal_mixtures() -> Iterator[dict[str, Any]]:
    for point in (-2.0, 0.0, 1.5):
        yield {"shares": [[0.4, 0.6]] * 2, "means": [[-1.0, 1.5]] * 2, "variances": [[0.5, 1.0]] * 2, "weights": [0.3, 0.7], "point": point}


@claim(
    id="mean-score-pointwise",
    statement=r"\hat p_0(x) \geq \prod_k q_k(x)^{w_k} \quad (T = \infty, \; \mathrm{mixtures\ on\ the\ line})",
    source="derived here; by exact change of variables along averaged velocities",
    domain=MIXTURES,
    kind="theorem",
    references=REFERENCES,
    equality=_equal_mixtures,
    mutants={"arithmetic-mean": Mutant("the geometric mean of the densities: the arithmetic mean", _above_the_arithmetic_mean)},
    proof="The logarithm of the ratio is the score diversity integrated along the averaged flow from x.",
)
def mean_score_pointwise(shares, means, variances, weights, point) -> Estimate:
    """Log p_hat_0(x) - sum_k w_k log q_k(x)."""
    return _above(shares, means, variances, weights, point)
