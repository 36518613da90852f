r"""The exact kernels of the reverse dynamics in continuous time, for Gaussian data on a Gaussian path.

Data N(m, S), X_t of covariance C_t = a_t^2 S + s_t^2 I. With churn e = eta^2 (e = 0: probability flow; e = 1: reverse SDE; any e has the marginals of the path)

    dX = [f X - (1 + e)/2 g^2 score] dt + sqrt(e) g dW,     time running down,

is linear, and all C_t commute. With r^2 = (a_t / a_s)^2 C_s C_t^{-1}, the squared correlation of X_s and X_t along every eigenvector of S, the point at time s < t is

    X_s = a_s m + r^e C_s^{1/2} C_t^{-1/2} (X_t - a_t m) + xi,     Cov xi = C_s (1 - r^{2e}),

(f + (1 + e)/2 g^2 C^{-1} = [(1 + e) (log C)' - 2 e (log a)']/2, and C_t itself is a solution). Churn thus turns the correlation r into r^e: the flow is the monotone
map of the marginals, the SDE Bayes' posterior of X_s given X_t, infinite churn independent draws.
Source: Pierret & Galerne (2025), propositions 2 to 4, for e = 0 and 1 of VP diffusions; the general form is derived here.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import AxisAligned, Dense, Diagonal, SemiDefinite, refuse_singular
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.kernels import AffineKernel, DiagonalKernel
from ensembletheory.laws import Gaussian, Law
from ensembletheory.linalg import symmetrised
from ensembletheory.processes.path import GaussianPath

__all__ = ["reverse_kernel"]


def reverse_kernel(process: GaussianPath, law: Law, s: Numbers, t: Numbers, churn: Numbers = 1.0) -> AffineKernel | DiagonalKernel:
    """The law of X_s given X_t, s <= t, under the reverse dynamics with the exact score; push any law of X_t through it.

    Args:
        process: the path.
        law: of the data; one with a covariance along the axes gives a `DiagonalKernel`, in O(d).
        s: the time nearer to the data.
        t: the time nearer to the noise.
        churn: the noise level eta >= 0: 0 is the probability flow, 1 the reverse SDE, `jnp.inf` a draw of X_s that forgets X_t.

    Raises:
        ValueError: unless 0 <= s <= t <= horizon and churn >= 0, or if X_t has no density.
        TypeError: if `law` is not Gaussian.
    """
    if not isinstance(law, Gaussian):
        raise TypeError(f"`law`: got {type(law).__name__}; expected Gaussian, for which the reverse dynamics is linear. Use a Sampler with short steps.")
    s, t = process.checked_interval(s, t)
    eta = jnp.asarray(churn, dtype=t.dtype)
    if is_concrete(eta) and not eta >= 0:
        refuse("churn", f"{float(eta):.6g}", "a noise level >= 0", "0 is the probability flow, 1 the reverse SDE, jnp.inf a fresh draw.")
    if is_concrete(t) and float(process.noise_variance(t)) == 0:
        refuse_singular(f"law, met without noise at time {float(t):.6g},", law.covariance)
    return _reversed(process, law, s, t, eta**2)


@eqx.filter_jit
def _reversed(process: GaussianPath, law: Gaussian, s: Float[Array, ""], t: Float[Array, ""], e: Float[Array, ""]) -> AffineKernel | DiagonalKernel:
    a_s, a_t = process.a(s), process.a(t)

    def along(variances: Float[Array, " d"]) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """The factor and the noise variance along every eigenvector."""
        C_s, C_t = (a**2 * variances + process.noise_variance(time) for a, time in ((a_s, s), (a_t, t)))
        kept = jnp.minimum((a_t / a_s) ** 2 * C_s / C_t, 1.0)
        return kept ** (e / 2) * jnp.sqrt(C_s / C_t), C_s * (1 - kept**e)

    covariance = law.covariance.inner if isinstance(law.covariance, SemiDefinite) else law.covariance
    if isinstance(covariance, AxisAligned):
        factor, noise = along(covariance.variances)
        return DiagonalKernel(factor, (a_s - factor * a_t) * law.mean, Diagonal(noise))
    variances, Q = jnp.linalg.eigh(covariance.as_matrix())
    factor, noise = along(jnp.maximum(variances, 0.0))
    A = (Q * factor[None, :]) @ Q.T
    return AffineKernel(A, a_s * law.mean - a_t * (A @ law.mean), Dense(symmetrised((Q * noise[None, :]) @ Q.T)))
