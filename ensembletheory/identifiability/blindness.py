r"""The score sees no weights of separated modes, and what cures it.

For p = w N(a, 1) + (1 - w) N(-a, 1) and q with v in the place of w, with r the responsibilities of the right component,

    F(p || q) = E_p |s_p - s_q|^2 = 4 a^2 E_p (r_p - r_q)^2
              = 4 a^2 (w - v)^2 e^{-a^2 / 2} E[ 1 / (P(aX) Q(aX)^2) ],  X ~ N(0, 1),  P(t) = w e^t + (1 - w) e^{-t},  Q the same with v.

Bounding the normal density by its value at 0 and the integral of 1 / (P Q^2) by Hoelder's inequality (int P^{-3} = (pi / 16) (w (1-w))^{-3/2}),

    F(p || q)  <=  sqrt(2 pi) / 8  a (w - v)^2 e^{-a^2 / 2} / ( sqrt(w (1 - w)) v (1 - v) )                                          (`fisher_bound`)

while KL(p || q) tends to that of two Bernoulli laws: the blindness of Wenliang & Kanagawa (2020), with its rate. Noise cures it. With p_u the law of
sqrt(u) X + sqrt(1 - u) Z, Z ~ N(0, I),

    KL(p || q) - KL(p_u || q_u) = 1/2 int_u^1 F(p_s || q_s) ds / s                                                                   (`integrated_fisher`)

for every u in [0, 1) (de Bruijn's identity along the Ornstein-Uhlenbeck process, whose schedule drops out); the second term is 0 at u = 0. A score error that is small at
all noise levels is therefore a small KL, though one at u = 1 is not.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.divergences import fisher_divergence
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.kernels import AffineKernel
from ensembletheory.laws import Law
from ensembletheory.laws.law import require_same_dim
from ensembletheory.quadrature import integrate

__all__ = ["fisher_bound", "integrated_fisher", "noised_fisher"]

_BREAKS = (0.0, 1e-3, 0.01, 0.04, 0.1, 0.2, 0.35, 0.55, 0.75, 0.9, 0.97, 1.0)  # of the time integral, as parts of [u, 1]


def fisher_bound(separation: Numbers, weight: Numbers, other: Numbers) -> Float[Array, "..."]:
    """The upper bound on F(p || q) for modes at +-separation of variance 1 and right weights `weight` in p and `other` in q (see the module).

    Raises:
        ValueError: unless the separation is >= 0 and both weights lie strictly between 0 and 1.
    """
    a, w, v = as_floats("separation", separation), as_floats("weight", weight), as_floats("other", other)
    if is_concrete(a, w, v) and not (np.all(a >= 0) and np.all((w > 0) & (w < 1)) and np.all((v > 0) & (v < 1))):
        refuse("separation, weight, other", f"{a}, {w}, {v}", "separation >= 0 and weights in (0, 1)", "At weight 0 or 1 there is one mode, and nothing to be blind to.")
    return np.sqrt(2 * np.pi) / 8 * a * (w - v) ** 2 * jnp.exp(-(a**2) / 2) / (jnp.sqrt(w * (1 - w)) * v * (1 - v))


@eqx.filter_jit
def noised_fisher(p: Law, q: Law, signal: Numbers) -> Estimate:
    """F(p_u || q_u) at u = `signal`, with p_u the law of sqrt(u) X + sqrt(1 - u) Z: what denoising score matching sees at that noise level."""
    u = jnp.asarray(signal)
    kernel = AffineKernel.scaling(jnp.sqrt(u), 1 - u, p.dim)
    return fisher_divergence(kernel.push(p), kernel.push(q))


def integrated_fisher(p: Law, q: Law, signal: float = 0.0, rtol: float | None = None) -> Estimate:
    """1/2 int_signal^1 F(p_s || q_s) ds / s = KL(p || q) - KL(p_signal || q_signal), by quadrature over noise levels, in one or two dimensions or for Gaussians.

    Args:
        p: a Gaussian or a Gaussian mixture.
        q: another on the same space.
        signal: the noise level to stop at, in [0, 1); a VP diffusion with schedule b stops at exp(-int b).
        rtol: relative error asked of the quadrature over noise levels.

    Raises:
        ValueError: if the dimensions differ, `signal` is not in [0, 1), or a divergence would need Monte Carlo.
    """
    require_same_dim(p, q)
    if not 0 <= signal < 1:
        refuse("signal", f"{signal:.6g}", "a number in [0, 1)", "0 is pure noise, where the divergence is gone.")
    breaks = signal + (1 - signal) * jnp.asarray(_BREAKS)
    return integrate(Partial(_rate, p, q), (breaks,), rtol)


def _rate(p: Law, q: Law, u: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    u = jax.lax.stop_gradient(u[0])  # the effect of a node that is off by one rounding is far below the error of the inner quadrature
    fisher = noised_fisher(p, q, u)
    return fisher.value / (2 * u), (jnp.abs(fisher.value) + fisher.error / jnp.finfo(u.dtype).eps) / (2 * u)
