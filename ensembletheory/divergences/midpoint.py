r"""Two Gaussians seen from the covariance halfway between them.

With S = (S_p + S_q) / 2 = L L^T, let rho_i be the eigenvalues of L^{-1} (S_p - S_q) L^{-T} / 2, in (-1, 1), and g = |L^{-1} (m_p - m_q)|^2. Then

    det S_p = det S prod (1 + rho_i),   det S_q = det S prod (1 - rho_i),

and both rho and g are known to their last digits where the laws are nearly equal, since the difference of the covariances is formed first.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.laws import Gaussian
from ensembletheory.linalg import cholesky, substitute, symmetrised

__all__ = ["midpoint", "relative_spectrum"]


@eqx.filter_jit
def midpoint(p: Gaussian, q: Gaussian) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """The rho_i and g of the module's docstring."""
    S_p, S_q = p.cov, q.cov
    L = cholesky((S_p + S_q) / 2)
    ratios = relative_spectrum(L, (S_p - S_q) / 2)
    gap = substitute(L, (p.mean - q.mean)[:, None])
    return jnp.clip(ratios, -1.0, 1.0), jnp.sum(gap**2)


def relative_spectrum(L: Float[Array, "d d"], D: Float[Array, "d d"]) -> Float[Array, " d"]:
    """The eigenvalues of L^{-1} D L^{-T}, for D symmetric."""
    if L.shape[0] == 1:
        return (D / L**2)[0]
    return jnp.linalg.eigvalsh(symmetrised(substitute(L, substitute(L, D).T)))
