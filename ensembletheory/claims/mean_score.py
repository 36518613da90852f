r"""Claims about the law sampled from averaged scores, for exact members and infinite horizon.

Let p_hat be the law at the data end of the reverse dynamics with churn eta (0: probability flow, 1: reverse SDE) driven by s_bar = sum_k w_k s_k, the average of the
exact scores of the noised members q_k. With b the schedule of the variance-preserving process, e = log p_hat - sum_k w_k log q_k obeys in reverse time

    d e^e / d tau = (b/2) [ -(x + (1 - eta^2) s_bar) . grad + eta^2 Laplacian + sum_k w_k |s_k - s_bar|^2 ] e^e,

so by Feynman-Kac e^e at the data end is an expectation of exp( e_T + 1/2 int b Var_k(s_k) ), and e_T -> 0 as the horizon grows. Hence e >= 0 pointwise, and
KL(p || p_hat) <= sum_k w_k KL(p || q_k) for every p. Derived here; related: Feynman-Kac correctors, and Razafindralambo et al. (2026) on averaging scores.

It needs the infinite horizon: from N(0, I) at a finite one the members themselves are not sampled exactly.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.members import average, gain, gaussian, gaussians
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import kl
from ensembletheory.errors import Numbers
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Gaussian
from ensembletheory.pooling import log_pool, mean_score_law
from ensembletheory.processes import VariancePreserving

__all__ = ["MEMBERS", "limit_law", "log_pool_beats_mean_score", "mean_score_beats_best", "mean_score_beats_log_pool", "mean_score_kl_average"]

MEMBERS = Domain(
    target_mean=real(-3, 3),
    target_variance=positive(0.1, 10),
    means=real(-3, 3, shape=(2,)),
    variances=positive(0.05, 20, shape=(2,)),
    weights=simplex(2),
    churn=real(0, 2),
)


def _equal_members() -> Iterator[dict[str, Any]]:
    for churn in (0.0, 0.5, 1.0, 2.0):
        yield {"target_mean": 0.5, "target_variance": 2.0, "means": [1.5, 1.5], "variances": [0.25, 0.25], "weights": [0.3, 0.7], "churn": churn}


def limit_law(members: Sequence[Gaussian], weights: Float[Array, " K"], churn: Numbers) -> Gaussian:
    """The law sampled from the averaged score in the limit of infinite time."""
    return mean_score_law(members, VariancePreserving(), churn=churn, weights=weights, horizon=jnp.inf)


def _finite_horizon(target_mean, target_variance, means, variances, weights, churn) -> Estimate:
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return gain(p, weights, members, mean_score_law(members, VariancePreserving(1.0, 1.0), churn=churn, weights=weights))


def _reverse_kl(target_mean, target_variance, means, variances, weights, churn) -> Estimate:
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    sampled = limit_law(members, weights, churn)
    return average(weights, members, lambda q: kl(q, p)) - kl(sampled, p)


@claim(
    id="mean-score-kl-average",
    statement=r"\mathrm{KL}(p \,\|\, \hat p_\eta) \leq \sum_k w_k \, \mathrm{KL}(p \,\|\, q_k) \quad (T = \infty, \; \eta \geq 0)",
    source="derived here; a related study of averaged scores is Razafindralambo et al. (2026)",
    domain=MEMBERS,
    kind="theorem",
    references=["razafindralambo2026scores", "song2021scorebased"],
    equality=_equal_members,
    mutants={
        "finite-horizon": Mutant("the infinite horizon: T = 1 with b = 1, instead", _finite_horizon),
        "reverse-kl": Mutant("the direction of the divergence: KL from the sampled law, instead", _reverse_kl),
    },
    proof="Feynman-Kac for exp(log p_hat - sum_k w_k log q_k), whose potential is the variance of the members' scores; see the module.",
)
def mean_score_kl_average(target_mean, target_variance, means, variances, weights, churn) -> Estimate:
    """The gain in forward KL of the law sampled from the averaged score."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return gain(p, weights, members, limit_law(members, weights, churn))


@claim(
    id="mean-score-beats-best",
    statement=r"\mathrm{KL}(p \,\|\, \hat p_\eta) \leq \min_k \, \mathrm{KL}(p \,\|\, q_k) \quad (T = \infty, \; \eta \geq 0)",
    source="the analogue of mean-score-kl-average for the best member; refuted here",
    domain=MEMBERS,
    kind="refuted",
    references=["razafindralambo2026scores"],
    proof="Where one member is p, no other law does better.",
)
def mean_score_beats_best(target_mean, target_variance, means, variances, weights, churn) -> Estimate:
    """The gain over the best member."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    best = jnp.minimum(kl(p, members[0]).value, kl(p, members[1]).value)
    return best - kl(p, limit_law(members, weights, churn))


def _lead_of_the_mean_score(target_mean, target_variance, means, variances, weights, churn) -> Estimate:
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return kl(p, log_pool(members, weights)) - kl(p, limit_law(members, weights, churn))


@claim(
    id="mean-score-beats-log-pool",
    statement=r"\mathrm{KL}(p \,\|\, \hat p_\eta) \leq \mathrm{KL}(p \,\|\, g), \quad g \propto \prod_k q_k^{w_k} \quad (T = \infty, \; \eta \geq 0)",
    source="derived here; both rules gain on their members' average, and neither on the other; refuted here",
    domain=MEMBERS,
    kind="refuted",
    references=["razafindralambo2026scores"],
    proof="Where p is the log pool, of which the sampled law is wider, no other law does better.",
)
def mean_score_beats_log_pool(target_mean, target_variance, means, variances, weights, churn) -> Estimate:
    """The lead of the law sampled from the averaged score."""
    return _lead_of_the_mean_score(target_mean, target_variance, means, variances, weights, churn)


@claim(
    id="log-pool-beats-mean-score",
    statement=r"\mathrm{KL}(p \,\|\, g) \leq \mathrm{KL}(p \,\|\, \hat p_\eta), \quad g \propto \prod_k q_k^{w_k} \quad (T = \infty, \; \eta \geq 0)",
    source="the converse of mean-score-beats-log-pool; refuted here",
    domain=MEMBERS,
    kind="refuted",
    references=["razafindralambo2026scores"],
    proof="Where p is the sampled law no other law does better.",
)
def log_pool_beats_mean_score(target_mean, target_variance, means, variances, weights, churn) -> Estimate:
    """The lead of the log pool."""
    return -_lead_of_the_mean_score(target_mean, target_variance, means, variances, weights, churn)
