r"""Expected loss of the average of K exchangeable predictors, for one convex and one bounded loss.

Let y be the truth and d = mean_K - y the error of the average, where every member errs by delta on average with standard deviation s and any two members
correlate by rho >= 0; then E d = delta and Var d = V_K = s^2 (rho + (1 - rho)/K).

*Squared error* (any law of the members): E d^2 = delta^2 + V_K = A + B/K, with A = delta^2 + rho s^2 and B = (1 - rho) s^2. Convex, hence never rising with K.

*Welsch loss* 1 - exp(-d^2 / (2 h^2)) (jointly Gaussian members):
$$ E = 1 - \sqrt{\frac{h^2}{h^2 + V_K}} \exp\Big( -\frac{\delta^2}{2 (h^2 + V_K)} \Big), $$
whose derivative in V has the sign of h^2 + V - delta^2. So more members help while V_K > delta^2 - h^2 and harm after: small biases improve for ever, large
ones worsen from the start, and in between the loss falls, then rises.

Source: the convex-loss theorem and its converse in Mattei & Garreau, "Are ensembles getting better all the time?" (JMLR 26, 2025); the closed forms are
Gaussian integrals.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers, as_floats
from ensembletheory.supervised.arguments import mean_variance, positive

__all__ = ["squared_loss", "welsch_loss"]


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
