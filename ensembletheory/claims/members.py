"""Members of an ensemble, and the average of what they do, as claims write them."""

from collections.abc import Callable, Sequence

from jaxtyping import Array, Float

from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian

__all__ = ["average", "gaussian", "gaussians"]


def gaussian(mean: Float[Array, ""], variance: Float[Array, ""]) -> Gaussian:
    """N(mean, variance) on the line."""
    return Gaussian(mean[None], variance[None])


def gaussians(means: Float[Array, " K"], variances: Float[Array, " K"]) -> list[Gaussian]:
    """The members N(means[k], variances[k]) on the line."""
    return [gaussian(means[k], variances[k]) for k in range(means.shape[0])]


def average(weights: Float[Array, " K"], members: Sequence[Gaussian], divergence: Callable[[Gaussian], Estimate]) -> Estimate:
    """sum_k w_k divergence(q_k)."""
    return sum((divergence(member) * weights[k] for k, member in enumerate(members)), closed_form(0.0))
