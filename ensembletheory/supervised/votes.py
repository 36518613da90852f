r"""Expected error of a vote, against the number of voters.

A label is decided by comparing the mean of K votes with a threshold; the ensemble errs when the mean falls on the wrong side. Two laws of the votes have a
closed form.

*Gaussian scores.* Votes are exchangeable N(mu, s^2) with pairwise correlation rho >= 0, so their mean is N(mu, s^2 (rho + (1 - rho)/K)) and
$$ P(\text{mean}_K < t) = \Phi\Big( \frac{t - \mu}{s \sqrt{\rho + (1 - \rho)/K}} \Big), $$
which falls with K when mu > t, rises when mu < t, and for rho > 0 levels off at Phi((t - mu) / (s sqrt(rho))).

*Condorcet's jury.* Votes are independent, each right with probability p, the majority decides and an even jury that is split tosses a fair coin. For odd K =
2m - 1 the error is P(Bin(K, p) < m) = I_{1-p}(m, m), the regularised incomplete beta function; an even jury of 2m errs exactly as often as one of 2m - 1 (its
last voter only matters in a split that the coin would decide). Increments: err_{2m-1} - err_{2m+1} = (2p - 1) C(2m-1, m) (p (1-p))^m.

Both are the 0/1 loss of Mattei & Garreau, "Are ensembles getting better all the time?" (JMLR 26, 2025): not convex, so that more members help where the
expected vote is right and harm where it is wrong. Here, unlike for general votes, this holds from the first member on.
"""

import jax.numpy as jnp
from jax.scipy.special import betainc
from jax.scipy.stats import norm
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats
from ensembletheory.supervised.arguments import ensemble_size, fraction, mean_variance

__all__ = ["gaussian_vote_error", "majority_vote_error"]


def gaussian_vote_error(members: Numbers, mean: Numbers, sd: Numbers, threshold: Numbers = 0.5, correlation: Numbers = 0.0) -> Float[Array, "..."]:
    """Probability that the mean of K Gaussian votes falls below the threshold (the right answer being above it).

    Args:
        members: K, whole numbers of any shape; all arguments are taken elementwise, scalars go with every shape.
        mean: expectation mu of one vote.
        sd: standard deviation s > 0 of one vote.
        threshold: t; a mean vote below it is an error.
        correlation: rho in [0, 1] between any two votes.

    Returns:
        Phi((t - mu) / (s sqrt(rho + (1 - rho)/K))), of the common shape.

    Raises:
        ValueError: if K is not a whole number >= 1, s is not positive, rho lies outside [0, 1] or something is not finite.
    """
    distance = as_floats("threshold", threshold) - as_floats("mean", mean)
    return norm.cdf(distance / jnp.sqrt(mean_variance(members, sd, correlation)))


def majority_vote_error(members: Numbers, accuracy: Numbers) -> Float[Array, "..."]:
    """Probability that the majority of K independent voters is wrong, a split being decided by a fair coin.

    Args:
        members: K, whole numbers of any shape.
        accuracy: p in [0, 1], the probability that one voter is right; a scalar or of the shape of `members`.

    Returns:
        I_{1-p}(m, m) with m = floor((K + 1)/2), of the common shape; relative error below 1e-12 for K <= 1000 (it grows like 1e-15 K).

    Raises:
        ValueError: if K is not a whole number >= 1 or p lies outside [0, 1].
    """
    needed = jnp.floor((ensemble_size(members) + 1) / 2)
    wrong = 1 - fraction("accuracy", accuracy)
    needed, wrong = jnp.broadcast_arrays(needed, wrong)
    return betainc(needed, needed, wrong)
