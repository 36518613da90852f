r"""Claims about averaged scores of exact Gaussian members with any covariances, in the plane.

**Covariances.** Let R_k = (I + u C_k)^{-1}, C_k = S_k - I, P = sum_k w_k R_k, and H = P^{-1} the covariance of the log pool of the noised members. With churn eta, e = eta^2,
the sampled covariance obeys u dS/du = S - (1 + e)/2 (P S + S P) + e I. Since u R_k' = R_k^2 - R_k, u dH/du = H - I - H N H, N = sum_k w_k (R_k - P)^2 >= 0, and the difference

    u d(S - H)/du = (S - H) - (1 + e)/2 [P (S - H) + (S - H) P] + H N H

starts from 0 at u = 0 and is driven by a matrix >= 0: S >= H in Loewner's order. It also follows from p_hat being above the geometric mean of the members far out.

**Log pool.** With Z_t the integral of prod_k q_{k,t}^{w_k} and g_t = prod_k q_{k,t}^{w_k} / Z_t, d/dt log Z_t = 1/2 b E_{g_t} sum_k w_k |s_k - s|^2, s = sum_k w_k s_k: the
gain of the log pool is the score diversity under the pools of the noised members, integrated over time. Derived here; see the documentation.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.mean_score import limit_law
from ensembletheory.claims.members import gain
from ensembletheory.claims.parts import positive, real, simplex, spd
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Gaussian
from ensembletheory.pooling import linear_pool, mean_score_law
from ensembletheory.pooling.log import gaussian_log_pool, log_normaliser
from ensembletheory.processes import GaussianPath, VariancePreserving
from ensembletheory.quadrature import integrate

__all__ = [
    "COVARIANCES",
    "MATRIX_ROUNDING",
    "MEMBERS",
    "REFERENCES",
    "SOME_TARGET",
    "TARGET",
    "early_law",
    "gaussians_in_the_plane",
    "log_pool_gain_is_diversity",
    "mean_score_dominates_log_pool_covariance",
    "mean_score_kl_average_in_the_plane",
    "some_members",
]

MATRIX_ROUNDING = 1e-8  # moments of full covariances are good to about 1e-10, and enter through precisions up to 10
REFERENCES = ("razafindralambo2026scores", "song2021scorebased")

TARGET = {"target_mean": real(-2, 2, shape=(2,)), "target_cov": spd(2, 0.1, 10)}
COVARIANCES = {"covs": spd(2, 0.1, 10, shape=(2,)), "weights": simplex(2)}
MEMBERS = {"means": real(-2, 2, shape=(2, 2)), **COVARIANCES}
CHURN = {"churn": real(0, 2)}

TURNED = [[2.0, 0.5], [0.5, 1.0]]
EQUAL_MEMBERS = {"means": [[1.0, -0.5]] * 2, "covs": [TURNED] * 2, "weights": [0.3, 0.7]}
SOME_TARGET = {"target_mean": [0.5, 0.0], "target_cov": [[1.0, -0.5], [-0.5, 2.0]]}


def gaussians_in_the_plane(means: Float[Array, "K 2"], covs: Float[Array, "K 2 2"]) -> list[Gaussian]:
    """The members N(means[k], covs[k])."""
    return [Gaussian(mean, cov) for mean, cov in zip(means, covs, strict=True)]


def early_law(members: Sequence[Gaussian], weights: Float[Array, " K"], churn: Float[Array, ""]) -> Gaussian:
    """The law sampled from N(0, I) at T = 1 with b = 1."""
    return mean_score_law(members, VariancePreserving(1.0, 1.0), churn=churn, weights=weights)


def some_members(**others: Any) -> Iterator[dict[str, Any]]:
    """Instances with members whose covariances do not commute, and with members of one covariance."""
    for covs in ([TURNED, [[0.5, -0.3], [-0.3, 4.0]]], [TURNED, TURNED]):
        yield {"means": [[1.0, 0.0], [-0.5, 2.0]], "covs": covs, "weights": [0.3, 0.7], **others}


def _gain_in_the_plane(target_mean, target_cov, means, covs, weights, churn, law: Callable = limit_law) -> Estimate:
    members = gaussians_in_the_plane(means, covs)
    return gain(Gaussian(target_mean, target_cov), weights, members, law(members, weights, churn))


@claim(
    id="mean-score-kl-average-in-the-plane",
    statement=r"\mathrm{KL}(p \,\|\, \hat p_\eta) \leq \sum_k w_k \, \mathrm{KL}(p \,\|\, q_k) \quad (T = \infty, \; \eta \geq 0, \; q_k = \mathcal{N}(m_k, S_k))",
    source="mean-score-kl-average, for covariances that do not commute; derived here",
    domain=Domain(**TARGET, **MEMBERS, **CHURN),
    kind="theorem",
    references=REFERENCES,
    equality=lambda: ({**SOME_TARGET, **EQUAL_MEMBERS, "churn": churn} for churn in (0.0, 0.5, 1.0, 2.0)),
    mutants={"finite-horizon": Mutant("the infinite horizon: T = 1 with b = 1, instead", lambda **instance: _gain_in_the_plane(**instance, law=early_law))},
    proof="Feynman-Kac for exp(log p_hat - sum_k w_k log q_k), whose potential is the variance of the members' scores.",
    rounding=MATRIX_ROUNDING,
)
def mean_score_kl_average_in_the_plane(target_mean, target_cov, means, covs, weights, churn) -> Estimate:
    """The gain in forward KL of the law sampled from the averaged score."""
    return _gain_in_the_plane(target_mean, target_cov, means, covs, weights, churn)


def _least_excess(covs, weights, churn, bound: Callable) -> Float[Array, ""]:
    members = gaussians_in_the_plane(jnp.zeros((2, 2)), covs)
    return jnp.linalg.eigvalsh(limit_law(members, weights, churn).cov - bound(members, weights).cov)[0]


def _above_the_arithmetic_mean(covs, weights, churn) -> Float[Array, ""]:
    return _least_excess(covs, weights, churn, linear_pool)


@claim(
    id="mean-score-dominates-log-pool-covariance",
    statement=r"\mathrm{Cov}\, \hat p_\eta \succeq (\sum_k w_k S_k^{-1})^{-1} \quad (T = \infty, \; \eta \geq 0, \; q_k = \mathcal{N}(m_k, S_k))",
    source="derived here",
    domain=Domain(**COVARIANCES, **CHURN),
    kind="theorem",
    references=REFERENCES,
    equality=lambda: ({"covs": [TURNED] * 2, "weights": [0.3, 0.7], "churn": churn} for churn in (0.0, 1.0, 2.0)),
    mutants={"arithmetic-mean": Mutant("the harmonic mean of covariances: the arithmetic mean", _above_the_arithmetic_mean)},
    proof="The difference obeys a linear Lyapunov equation that starts from 0 and is driven by H sum_k w_k (R_k - P)^2 H >= 0; see the module.",
    rounding=MATRIX_ROUNDING,
)
def mean_score_dominates_log_pool_covariance(covs, weights, churn) -> Float[Array, ""]:
    """The least eigenvalue of the sampled covariance less the log pool's."""
    return _least_excess(covs, weights, churn, gaussian_log_pool)


def _score_diversity(p: Gaussian, members: Sequence[Gaussian], weights: Float[Array, " K"]) -> Float[Array, ""]:
    """E_p sum_k w_k |s_k - s|^2, from the mean of p and the columns of a factor of its covariance, since scores are affine."""

    def spread(x: Float[Array, " d"]) -> Float[Array, "K d"]:
        s = jnp.stack([member._score(x) for member in members])
        return s - (weights @ s)[None]

    at_mean = spread(p.mean)
    along = jax.vmap(lambda column: spread(p.mean + column) - at_mean, in_axes=1)(p.covariance.factor())
    return weights @ (jnp.sum(at_mean**2, axis=1) + jnp.sum(along**2, axis=(0, 2)))


def _noised(process: GaussianPath, members: Sequence[Gaussian], t: Float[Array, ""]) -> list[Gaussian]:
    return cast(list[Gaussian], [process.marginal(member, t) for member in members])


def _rate_of_the_normaliser(process: GaussianPath, means, covs, weights, time: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    t = jax.lax.stop_gradient(time[0])  # a node; its derivative would serve only to count rounding
    noised = _noised(process, gaussians_in_the_plane(means, covs), t)
    rate = process.diffusion(t) / 2 * _score_diversity(gaussian_log_pool(noised, weights), noised, weights)
    return rate, rate


def _defect_of_the_normaliser(means, covs, weights, rates, left: float = 1.0) -> Estimate:
    process, members = VariancePreserving(rates[0], rates[1]), gaussians_in_the_plane(means, covs)
    noised = _noised(process, members, process.horizon)
    gained = integrate(Partial(_rate_of_the_normaliser, process, means, covs, weights), (jnp.linspace(0.0, 1.0, 9) ** 2 * process.horizon,))
    defect = gained - log_normaliser(noised, weights) * left + log_normaliser(members, weights)
    return Estimate(-jnp.abs(defect.value), defect.error, defect.kind)


@claim(
    id="log-pool-gain-is-diversity",
    statement=r"-\log Z_0 = -\log Z_T + \int_0^T \frac{b}{2} \, E_{g_t} \sum_k w_k |s_k - \bar s|^2 dt, \quad g_t = \prod_k q_{k,t}^{w_k} / Z_t",
    source="derived here; -log Z_0 is the gain of the log pool by Heskes (1998), and the integrand the weight of Feynman-Kac correctors",
    domain=Domain(**MEMBERS, rates=positive(0.1, 5, shape=(2,))),
    kind="theorem",
    references=["heskes1998selecting", *REFERENCES],
    equality=lambda: (instance for rates in ([1.0, 1.0], [0.1, 5.0]) for instance in some_members(rates=rates)),
    mutants={"without-the-end": Mutant("the infinite horizon: what noise has left is dropped", lambda **instance: _defect_of_the_normaliser(**instance, left=0.0))},
    proof="Differentiate Z_t under the integral; all but the variance of the scores is a divergence.",
)
def log_pool_gain_is_diversity(means, covs, weights, rates) -> Estimate:
    """Minus the distance between the two sides, by quadrature over time: 0 everywhere."""
    return _defect_of_the_normaliser(means, covs, weights, rates)
