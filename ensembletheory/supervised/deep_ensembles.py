r"""Deep ensembles for regression: M networks that each predict a mean and a variance, combined as a mixture of Gaussians.

At one input, members predict N(m_k, s_k^2) with weights w_k. The ensemble predicts the mixture sum_k w_k N(m_k, s_k^2), whose moments are those of
$$ N(m_*, s_*^2), \qquad m_* = \sum_k w_k m_k, \qquad s_*^2 = \sum_k w_k s_k^2 + \sum_k w_k (m_k - m_*)^2 , $$
by the law of total variance: what the members think noise (aleatoric) plus how far they differ (epistemic, the ambiguity of their means).

Negative log-likelihoods (NLL):
- the mixture is convex in its members, so that its NLL is at most their average at every target, and its expected NLL never rises with the number of exchangeable
  members;
- N(m_*, s_*^2) is the Gaussian nearest to the mixture (least KL from it), but has no such guarantee: members N(m, s_k^2) of equal mean give
  log s_*^2 >= mean of log s_k^2, so at targets near m, where every member has overestimated the noise, the combination is worse than its members. For a target
  N(m, v) the expected NLL of N(m, s^2), 1/2 (log 2 pi s^2 + v / s^2), is concave in s^2 where s^2 > 2 v;
- for a target law p their difference is KL(p || N(m_*, s_*^2)) - KL(p || mixture), the first term in closed form, the second by quadrature.

Source: Lakshminarayanan, Pritzel & Blundell, "Simple and scalable predictive uncertainty estimation using deep ensembles" (NeurIPS 2017).
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from ensembletheory.divergences import kl
from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.laws.weights import checked_weights
from ensembletheory.supervised.arguments import positive

__all__ = ["Prediction", "gaussian_nll", "mixture_nll", "moment_matched", "moment_matching_cost"]


class Prediction(eqx.Module):
    """Mean and the two parts of the variance of an ensemble of Gaussian predictions."""

    mean: Float[Array, "..."]
    aleatoric: Float[Array, "..."]
    epistemic: Float[Array, "..."]

    @property
    def variance(self) -> Float[Array, "..."]:
        """Aleatoric plus epistemic: the variance of the mixture."""
        return self.aleatoric + self.epistemic


def moment_matched(means: Numbers, variances: Numbers, weights: Numbers | None = None) -> Prediction:
    """Mean and variance of the mixture of the members' Gaussians, elementwise over inputs.

    Args:
        means: (M, ...) of the members.
        variances: (M, ...), positive.
        weights: (M,) on the simplex (default equal).

    Raises:
        ValueError: if the shapes do not agree, a variance is not positive or the weights are off the simplex.
    """
    return _matched(*_members(means, variances, weights))


def gaussian_nll(targets: Numbers, mean: Numbers, variance: Numbers) -> Float[Array, "..."]:
    """-log N(y; mean, variance) in nats, elementwise.

    Raises:
        ValueError: if a variance is not positive or something is not finite.
    """
    y, mean, variance = as_floats("targets", targets), as_floats("mean", mean), positive("variance", variance)
    return _gaussian_nll(y, mean, variance)


def mixture_nll(targets: Numbers, means: Numbers, variances: Numbers, weights: Numbers | None = None) -> Float[Array, "..."]:
    """-log of the mixture of the members' Gaussians at the targets, in nats.

    Args:
        targets: (...) one a input.
        means: (M, ...) of the members.
        variances: (M, ...), positive.
        weights: (M,) on the simplex (default equal).

    Raises:
        ValueError: if the shapes do not agree, a variance is not positive or the weights are off the simplex.
    """
    means, variances, weights = _members(means, variances, weights)
    y = as_floats("targets", targets)
    if y.shape != means.shape[1:]:
        refuse("targets", f"shape {y.shape}", f"{means.shape[1:]}, that of one member's means", "Give one target an input.")
    return _mixture_nll(y, means, variances, weights)


def moment_matching_cost(target: Gaussian | GaussianMixture, means: Numbers, variances: Numbers, weights: Numbers | None = None) -> Estimate:
    """Expected NLL of N(m_*, s_*^2) minus that of the mixture, at one input whose target has the given law on the line.

    It is positive for a target drawn from the mixture, and may be negative for others.

    Args:
        target: the law of the target.
        means: (M,) of the members.
        variances: (M,), positive.
        weights: (M,) on the simplex (default equal).

    Raises:
        ValueError: if the target is not on the line, means is not (M,), or as `moment_matched`.
    """
    if target.dim != 1:
        refuse("target", f"dimension {target.dim}", "a law on the line", "Take a marginal.")
    means, variances, weights = _members(means, variances, weights)
    if means.ndim != 1:
        refuse("means", f"shape {means.shape}", "(M,)", "Take one input at a time.")
    matched = moment_matched(means, variances, weights)
    single = Gaussian(matched.mean[None], matched.variance[None])
    return kl(target, single) - kl(target, GaussianMixture(weights, means[:, None], variances[:, None]))


def _members(means: Numbers, variances: Numbers, weights: Numbers | None) -> tuple[Array, Array, Array]:
    means, variances = as_floats("means", means), positive("variances", variances)
    if means.ndim == 0 or means.shape != variances.shape or means.shape[0] == 0:
        refuse("means", f"shape {means.shape} beside variances of shape {variances.shape}", "(M, ...) both", "The first axis counts the members.")
    return means, variances, checked_weights(weights, means.shape[0])


@eqx.filter_jit
def _matched(means: Array, variances: Array, weights: Array) -> Prediction:
    mean = jnp.tensordot(weights, means, 1)
    return Prediction(mean, jnp.tensordot(weights, variances, 1), jnp.tensordot(weights, (means - mean[None]) ** 2, 1))


@eqx.filter_jit
def _gaussian_nll(y: Array, mean: Array, variance: Array) -> Array:
    return 0.5 * (jnp.log(2 * np.pi * variance) + (y - mean) ** 2 / variance)


@eqx.filter_jit
def _mixture_nll(y: Array, means: Array, variances: Array, weights: Array) -> Array:
    logs = -_gaussian_nll(jnp.broadcast_to(y, means.shape), means, variances)
    return -logsumexp(logs, axis=0, b=jnp.broadcast_to(weights.reshape(-1, *[1] * y.ndim), means.shape))
