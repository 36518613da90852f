r"""Claims about the W2 barycenter: where covariances commute squared W2 gains exactly the members' spread, KL need not gain.

Commuting covariances are diagonal in one basis, where W2 between Gaussians is the Euclidean distance of means and standard deviations, and the barycenter is their average:
W2^2(p, b) = sum_k w_k W2^2(p, q_k) - sum_k w_k W2^2(b, q_k) is Krogh and Vedelsby's identity. Elsewhere the left side is larger, for the space is curved.

On the line the barycenter averages standard deviations s_k. KL(N(0, v) || N(0, s^2)) = log s + v / (2 s^2) + const is convex in s only where s^2 < 3 v, so wide
members make the barycenter worse than they are on average.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.members import average, gaussian, gaussians
from ensembletheory.claims.parts import positive, real, simplex, spd
from ensembletheory.divergences import kl, w2_squared
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian
from ensembletheory.pooling import w2_barycenter

__all__ = ["barycenter_identity", "barycenter_kl"]

PLANE = Domain(
    target_mean=real(-3, 3, shape=(2,)),
    target_covariance=positive(0.1, 10, shape=(2,)),
    means=real(-3, 3, shape=(2, 2)),
    covariances=positive(0.05, 20, shape=(2, 2)),
    weights=simplex(2),
)


def _some() -> Iterator[dict[str, Any]]:
    for weights in ([0.5, 0.5], [0.2, 0.8]):
        members = {"means": [[1.0, 0.0], [-2.0, 3.0]], "covariances": [[1.0, 0.2], [0.3, 9.0]], "weights": weights}
        yield {"target_mean": [0.5, -1.0], "target_covariance": [2.0, 0.4], **members}


def _terms(target_mean, target_covariance, means, covariances, weights):
    """Average, spread and ensemble."""
    p, members = Gaussian(target_mean, target_covariance), [Gaussian(means[k], covariances[k]) for k in range(2)]
    barycenter = w2_barycenter(members, weights)
    spread = average(weights, members, lambda q: w2_squared(barycenter, q))
    return average(weights, members, lambda q: w2_squared(p, q)), spread, w2_squared(p, barycenter)


def _half_the_spread(**instance) -> Estimate:
    mean, spread, ensemble = _terms(**instance)
    return closed_form(-jnp.abs((mean - spread * 0.5 - ensemble).value))


def _identity(target_mean, target_covariance, means, covariances, weights) -> Estimate:
    mean, spread, ensemble = _terms(target_mean, target_covariance, means, covariances, weights)
    return closed_form(-jnp.abs((mean - spread - ensemble).value))


@claim(
    id="barycenter-identity",
    statement=r"W_2^2(p, b) = \sum_k w_k \, W_2^2(p, q_k) - \sum_k w_k \, W_2^2(b, q_k) \quad (\mathrm{commuting\ covariances})",
    source="Krogh & Vedelsby (1995) in the coordinates of means and standard deviations; the inequality elsewhere: Ahidar-Coutrix, Le Gouic & Paris (2020)",
    domain=PLANE,
    kind="theorem",
    references=["krogh1995neural", "agueh2011barycenters", "ahidar2020convergence"],
    equality=_some,
    mutants={
        "any-covariances": Mutant(
            "covariances that commute",
            _identity,
            PLANE.replace(target_covariance=spd(2, 0.1, 10), covariances=spd(2, 0.05, 20, shape=(2,))),
        ),
        "half-the-spread": Mutant("the constant: half the spread", _half_the_spread),
    },
    proof="In a common eigenbasis W2 is the Euclidean distance of means and standard deviations, which the barycenter averages.",
)
def barycenter_identity(target_mean, target_covariance, means, covariances, weights) -> Estimate:
    """Minus the distance between the two sides: 0 where the identity holds."""
    return _identity(target_mean, target_covariance, means, covariances, weights)


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
