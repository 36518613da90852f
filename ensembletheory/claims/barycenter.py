r"""A claim about the W2 barycenter: squared W2 gains exactly the members' spread on the line, KL need not gain.

On the line the barycenter averages standard deviations s_k. KL(N(0, v) || N(0, s^2)) = log s + v / (2 s^2) + const is convex in s only where s^2 < 3 v, so wide
members make the barycenter worse than they are on average.
"""

from ensembletheory.claims.claim import claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.members import average, gaussian, gaussians
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import kl
from ensembletheory.estimate import Estimate
from ensembletheory.pooling import w2_barycenter

__all__ = ["barycenter_kl"]


@claim(
    id="barycenter-kl",
    statement=r"\mathrm{KL}(p \,\|\, b) \leq \sum_k w_k \, \mathrm{KL}(p \,\|\, q_k), \quad b = \mathrm{argmin}_q \sum_k w_k W_2^2(q, q_k)",
    source="the analogue of log-pool-kl for the W2 barycenter (Agueh & Carlier 2011); refuted here",
    domain=Domain(
        target_mean=real(-3, 3),
        target_variance=positive(0.1, 10),
        means=real(-3, 3, shape=(2,)),
        variances=positive(0.05, 20, shape=(2,)),
        weights=simplex(2),
    ),
    kind="refuted",
    references=["agueh2011barycenters"],
    proof="log s + v / (2 s^2) is concave in s where s^2 > 3 v.",
)
def barycenter_kl(target_mean, target_variance, means, variances, weights) -> Estimate:
    """The gain of the barycenter in forward KL."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return average(weights, members, lambda q: kl(p, q)) - kl(p, w2_barycenter(members, weights))
