r"""Expected loss of the average of K exchangeable predictors, for convex losses, a bounded one, and smooth ones to second order.

Let y be the truth and d = mean_K - y the error of the average, where every member errs by delta on average with standard deviation s and any two members
correlate by rho >= 0; then E d = delta and Var d = V_K = s^2 (rho + (1 - rho)/K).

*Squared error* (any law of the members): E d^2 = delta^2 + V_K = A + B/K, with A = delta^2 + rho s^2 and B = (1 - rho) s^2. Convex, hence never rising with K.

*Welsch loss* 1 - exp(-d^2 / (2 h^2)) (jointly Gaussian members):
$$ E = 1 - \sqrt{\frac{h^2}{h^2 + V_K}} \exp\Big( -\frac{\delta^2}{2 (h^2 + V_K)} \Big), $$
whose derivative in V has the sign of h^2 + V - delta^2. So more members help while V_K > delta^2 - h^2 and harm after: small biases improve for ever, large
ones worsen from the start, and in between the loss falls, then rises.

*Brier score* |mean_K - e_y|^2 of predicted probabilities (any law): the squared error summed over classes, |delta|^2 + V_K, where s^2 is now the trace of one member's
covariance.

*Smooth losses* (independent members or correlated ones with a common part; any law with enough moments): by Taylor's formula
$$ E\, l(mean_K) = l(\mu) + l''(\mu) \, V_K / 2 + O(V_K^{3/2}), $$
with an error of order K^{-2} for independent members, so that in the end the sign of l'' at the members' expectation decides, whether or not l is convex elsewhere.

Source: the convex-loss theorem and its converse in Mattei & Garreau, "Are ensembles getting better all the time?" (JMLR 26, 2025); the closed forms are
Gaussian integrals.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.supervised.arguments import mean_variance, positive

__all__ = ["brier_score", "second_order_loss", "squared_loss", "welsch_loss"]


def squared_loss(members: Numbers, bias: Numbers, sd: Numbers, correlation: Numbers = 0.0) -> Float[Array, "..."]:
    """Expected squared error of the average of K exchangeable members, whatever their law.

    Args:
        members: K, whole numbers of any shape; all arguments are taken elementwise, scalars go with every shape.
        bias: delta, expected error of one member.
        sd: standard deviation s > 0 of one member.
        correlation: rho in [0, 1] between any two members.

    Returns:
        delta^2 + s^2 (rho + (1 - rho)/K), of the common shape.

    Raises:
        ValueError: if K is not a whole number >= 1, s is not positive, rho lies outside [0, 1] or something is not finite.
    """
    return as_floats("bias", bias) ** 2 + mean_variance(members, sd, correlation)


def welsch_loss(members: Numbers, bias: Numbers, sd: Numbers, width: Numbers, correlation: Numbers = 0.0) -> Float[Array, "..."]:
    """Expected Welsch loss 1 - exp(-d^2 / (2 h^2)) of the average of K jointly Gaussian members.

    Args:
        members: K, whole numbers of any shape; all arguments are taken elementwise, scalars go with every shape.
        bias: delta, expected error of one member.
        sd: standard deviation s > 0 of one member.
        width: h > 0, the error at which the loss starts to saturate.
        correlation: rho in [0, 1] between any two members.

    Returns:
        1 - sqrt(h^2 / (h^2 + V)) exp(-delta^2 / (2 (h^2 + V))) with V = s^2 (rho + (1 - rho)/K), of the common shape.

    Raises:
        ValueError: if K is not a whole number >= 1, s or h is not positive, rho lies outside [0, 1] or something is not finite.
    """
    scale = positive("width", width) ** 2
    total = scale + mean_variance(members, sd, correlation)
    return -jnp.expm1(0.5 * jnp.log(scale / total) - as_floats("bias", bias) ** 2 / (2 * total))


def brier_score(members: Numbers, mean: Numbers, truth: Numbers, sd: Numbers, correlation: Numbers = 0.0) -> Float[Array, "..."]:
    """Expected Brier score of the average of K exchangeable members' predicted probabilities, whatever their law.

    Args:
        members: K, whole numbers of any shape.
        mean: (C,) expectation of one member's probabilities.
        truth: (C,) the true class as a one-hot vector, or probabilities, for the squared distance to them.
        sd: square root s > 0 of the trace of one member's covariance.
        correlation: rho in [0, 1]; the covariance of two members has trace rho s^2.

    Returns:
        |mean - truth|^2 + s^2 (rho + (1 - rho)/K), of the shape of `members`.

    Raises:
        ValueError: if the shapes of mean and truth differ, or as `squared_loss`.
    """
    mean, truth = as_floats("mean", mean), as_floats("truth", truth)
    if mean.ndim != 1 or mean.shape != truth.shape:
        refuse("truth", f"shape {truth.shape} beside a mean of shape {mean.shape}", "(C,) both", "Give one number a class.")
    return jnp.sum((mean - truth) ** 2) + mean_variance(members, sd, correlation)


def second_order_loss(members: Numbers, loss: Callable[[Float[Array, ""]], Float[Array, ""]], mean: Numbers, sd: Numbers, correlation: Numbers = 0.0) -> Float[Array, "..."]:
    """Expected loss of the average of K members up to second order (not a bound): l(mu) + l''(mu) s^2 (rho + (1 - rho)/K) / 2.

    Args:
        members: K, whole numbers of any shape.
        loss: of one prediction, twice differentiable by JAX.
        mean: expectation mu of one member, one number.
        sd: standard deviation s > 0 of one member.
        correlation: rho in [0, 1] between any two members.

    Raises:
        ValueError: if the mean is not one number, or as `squared_loss`.
    """
    mu = as_floats("mean", mean)
    if mu.ndim:
        refuse("mean", f"shape {mu.shape}", "one number", "Expand the loss at one expectation at a time.")
    return loss(mu) + jax.grad(jax.grad(loss))(mu) * mean_variance(members, sd, correlation) / 2
