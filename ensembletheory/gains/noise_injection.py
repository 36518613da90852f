r"""The noise-injection experiment on a Gaussian target on the line, exactly: the score s replaced by s + eta |s| z/|z|, with one direction z for all times and points.

The relative error of the score is eta everywhere (Razafindralambo et al. 2026 use it to relate score error and Frechet distance). On the line z/|z| is a sign. With the clock
Lambda of `score_errors`, w = (x - a m)/sqrt(v) follows dw/dlambda = -(c/2) w along the probability flow, with c = +eta where z s > 0 and -eta where z s < 0: either half-line
is kept, and from p_T the flow samples a law of two halves of mass 1/2 each, normal of standard deviations sqrt(S) exp(-y/2) and sqrt(S) exp(y/2), y = eta Lambda. Hence

    loss = eta^2 Lambda / 2,     KL(p || sampled) = sinh^2(y/2),     Frechet^2 = S [ 1 + C - 2 sqrt( C - (C - 1)/pi ) ],  C = cosh(y).

For small eta KL ~ (Lambda/2) loss and Frechet^2 ~ (S Lambda/pi) loss: the three are the same up to factors. KL and Frechet^2 then grow exponentially with eta Lambda and part
from the loss. KL exceeds the loss for every eta once Lambda >= 2: the bound of Song et al. (2021) is one on the law of the reverse SDE, not on that of the flow.

K members with independent fair signs leave the error eta times the mean of the signs: E loss = eta^2 Lambda / (2K), E KL = ( cosh(y/K)^K - 1 )/2, and E Frechet^2 is a sum
over the binomial law of the number of positive signs. All three are convex in y and fall with K: errors without a bias do not make them part. Derived here.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.stats import binom

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import closed_form
from ensembletheory.gains.score_errors import Quality, clock
from ensembletheory.laws import Law
from ensembletheory.processes import GaussianPath

__all__ = ["noise_injection"]


def noise_injection(target: Law, process: GaussianPath, size: Numbers, K: int = 1) -> Quality:
    """Expected loss, KL and squared Frechet distance of the averaged score of K members with relative noise, by the probability flow from the noised target.

    Args:
        target: a Gaussian on the line.
        process: the noising process.
        size: the relative errors eta >= 0, of any shape, which the answers take.
        K: number of members, with independent directions.

    Raises:
        ValueError: if the target is not on the line, a size is negative, K < 1, or the noise level at the horizon is infinite.
        TypeError: if the target is not Gaussian.
    """
    eta, ticks = as_floats("size", size), clock(target, process)
    if target.dim != 1:
        refuse("target", f"dimension {target.dim}", "a Gaussian on the line", "Coordinates are coupled by the norm of the score: sample.")
    if is_concrete(eta) and not np.all(np.asarray(eta) >= 0):
        refuse("size", f"{float(np.min(eta)):.6g}", "relative errors >= 0", "The sign is that of the direction.")
    if K < 1:
        refuse("K", str(K), "a number of members >= 1", "K = 1 is a single model.")
    return _expected(target.cov[0, 0], ticks[0], eta, K)


@eqx.filter_jit
def _expected(S: Float[Array, ""], ticks: Float[Array, ""], eta: Float[Array, "..."], K: int) -> Quality:
    positive, mass = np.arange(K + 1), binom.pmf(np.arange(K + 1), K, 0.5)
    y = jnp.multiply.outer(eta * ticks, 2 * positive / K - 1)
    C = jnp.cosh(y)
    frechet = S * (1 + C - 2 * jnp.sqrt(C - (C - 1) / np.pi))
    return Quality(closed_form(eta**2 * ticks / (2 * K)), closed_form(jnp.sinh(y / 2) ** 2 @ mass), closed_form(frechet @ mass))
