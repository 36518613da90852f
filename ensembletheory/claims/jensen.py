r"""Claims about the linear pool that follow, or fail to follow, from Jensen's inequality.

KL(p || .) is convex, so the pool is at least as good as its members on average. The Fisher divergence of the pooled density is not convex in it: where p has its
mass, responsibilities of a narrow and a very wide member switch, and the score of the pool bends more than any member's.
"""

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.members import THREE_MEMBERS, average, equal_members, gaussian, gaussians
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import fisher_divergence, kl
from ensembletheory.estimate import Estimate
from ensembletheory.pooling import linear_pool

__all__ = ["linear_pool_fisher", "linear_pool_kl"]

TWO_MEMBERS = THREE_MEMBERS.replace(means=real(-4, 4, shape=(2,)), variances=positive(0.05, 1e4, shape=(2,)), weights=simplex(2))


def _other_weights(target_mean, target_variance, means, variances, weights) -> Estimate:
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return average(weights, members, lambda q: kl(p, q)) - kl(p, linear_pool(members))


@claim(
    id="linear-pool-kl",
    statement=r"\mathrm{KL}(p \,\|\, \sum_k w_k q_k) \leq \sum_k w_k \, \mathrm{KL}(p \,\|\, q_k)",
    source="Jensen's inequality for the convex -log; for ensembles under a convex loss see Mattei & Garreau (2025)",
    domain=THREE_MEMBERS,
    kind="theorem",
    references=["mattei2025ensembles", "genest1986combining"],
    equality=equal_members,
    mutants={"other-weights": Mutant("the pool has the weights of the average: equal ones, instead", _other_weights)},
    proof="E_p of log sum_k w_k q_k >= sum_k w_k log q_k, pointwise by concavity of the logarithm.",
)
def linear_pool_kl(target_mean, target_variance, means, variances, weights) -> Estimate:
    """The gain of the linear pool over its members' average."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return average(weights, members, lambda q: kl(p, q)) - kl(p, linear_pool(members, weights))


@claim(
    id="linear-pool-fisher",
    statement=r"\mathrm{F}(p \,\|\, \sum_k w_k q_k) \leq \sum_k w_k \, \mathrm{F}(p \,\|\, q_k), \quad \mathrm{F}(p \,\|\, q) = E_p |\nabla \log p - \nabla \log q|^2",
    source="the analogue of linear-pool-kl for the divergence of score matching; refuted here",
    domain=TWO_MEMBERS,
    kind="refuted",
    references=["hyvarinen2005estimation"],
    proof="A member away from p beside a very wide one: their responsibilities switch where p has its mass.",
)
def linear_pool_fisher(target_mean, target_variance, means, variances, weights) -> Estimate:
    """The gain of the linear pool in Fisher divergence."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return average(weights, members, lambda q: fisher_divergence(p, q)) - fisher_divergence(p, linear_pool(members, weights))
