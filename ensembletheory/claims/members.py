"""Members of an ensemble, and the average of what they do, as claims write them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxtyping import Array, Float

from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import kl
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian, Law

__all__ = ["THREE_MEMBERS", "average", "equal_members", "gain", "gaussian", "gaussians"]

THREE_MEMBERS = Domain(
    target_mean=real(-3, 3),
    target_variance=positive(0.1, 10),
    means=real(-3, 3, shape=(3,)),
    variances=positive(0.05, 20, shape=(3,)),
    weights=simplex(3),
)


def gaussian(mean: Float[Array, ""], variance: Float[Array, ""]) -> Gaussian:
    """N(mean, variance) on the line."""
    return Gaussian(mean[None], variance[None])


def gaussians(means: Float[Array, " K"], variances: Float[Array, " K"]) -> list[Gaussian]:
    """The members N(means[k], variances[k]) on the line."""
    return [gaussian(means[k], variances[k]) for k in range(means.shape[0])]


def average(weights: Float[Array, " K"], members: Sequence[Gaussian], divergence: Callable[[Gaussian], Estimate]) -> Estimate:
    """sum_k w_k divergence(q_k)."""
    return sum((divergence(member) * weights[k] for k, member in enumerate(members)), closed_form(0.0))


def gain(p: Gaussian, weights: Float[Array, " K"], members: Sequence[Gaussian], pool: Law) -> Estimate:
    """sum_k w_k KL(p || q_k) - KL(p || pool)."""
    return average(weights, members, lambda q: kl(p, q)) - kl(p, pool)


def equal_members() -> Iterator[dict[str, Any]]:
    """Instances of `THREE_MEMBERS` whose members agree: where pooling gains nothing."""
    for mean, variance in ((0.0, 1.0), (-2.0, 0.25), (1.5, 9.0)):
        yield {"target_mean": 0.5, "target_variance": 2.0, "means": [mean] * 3, "variances": [variance] * 3, "weights": [0.2, 0.3, 0.5]}
