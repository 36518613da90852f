r"""Full covariances at many points: every component is factorised once, and a block of points is whitened by all components in one matrix product.

With S_k = L_k L_k^T and a common centre c, z_k = L_k^{-1} (x - c) - L_k^{-1} (m_k - c) for all k and all points is one product of the stacked inverse factors with the block.
The inverse factors come from substitution, so that rounding is that of a relative change of x - c and m_k - c by the unit of the dtype. In up to four dimensions z_k is
written out coordinate by coordinate from x - m_k. Log-densities are computed component-major, (K, d, n), so that sums over components and coordinates run along contiguous
points; scores, in more dimensions, point-major, (n, K d), which both matrix products then read as it lies.
"""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import Dense
from ensembletheory.laws.weights import relative_terms
from ensembletheory.linalg import cholesky, substitute

if TYPE_CHECKING:
    from ensembletheory.laws.gaussian import Gaussian

__all__ = ["Whitening", "whitening"]

_WRITTEN_OUT = 4


class Whitening(eqx.Module):
    """Inverse factors (and, side by side, their transposes), means about the centre, and log-density constants of K components."""

    centre: Float[Array, " d"]
    means: Float[Array, "K d"]
    inverses: Float[Array, "K d d"]
    transposes: Float[Array, "d Kd"]
    constants: Float[Array, " K"]

    def log_densities(self, points: Float[Array, "n d"]) -> Float[Array, "K n"]:
        """Of every component at every point."""
        return self._log_densities(self._whitened(points))

    def mixed_scores(self, weights: Float[Array, " K"], points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The score of the mixture with these weights: minus the sum over k of r_k L_k^{-T} z_k."""
        K, d, _ = self.inverses.shape
        if d <= _WRITTEN_OUT:
            z = self._whitened(points)
            y = jax.vmap(relative_terms, in_axes=(None, 1), out_axes=1)(weights, self._log_densities(z))[:, None, :] * z
            return -jnp.stack([jnp.sum(sum(self.inverses[:, i, j, None] * y[:, i] for i in range(j, d)), axis=0) for j in range(d)], axis=-1)
        z = ((points - self.centre[None, :]) @ self.transposes - self._shifts().reshape(1, K * d)).reshape(-1, K, d)
        r = jax.vmap(relative_terms, in_axes=(None, 0))(weights, self.constants[None, :] - 0.5 * jnp.sum(z * z, axis=2))
        return -(r[:, :, None] * z).reshape(-1, K * d) @ self.inverses.reshape(K * d, d)

    def _whitened(self, points: Float[Array, "n d"]) -> Float[Array, "K d n"]:
        K, d, _ = self.inverses.shape
        x = (points - self.centre[None, :]).T
        if d <= _WRITTEN_OUT:
            gaps = x[None] - self.means[:, :, None]
            return jnp.stack([sum(self.inverses[:, i, j, None] * gaps[:, j] for j in range(i + 1)) for i in range(d)], axis=1)
        return (self.inverses.reshape(K * d, d) @ x - self._shifts().reshape(K * d, 1)).reshape(K, d, -1)

    def _log_densities(self, z: Float[Array, "K d n"]) -> Float[Array, "K n"]:
        return self.constants[:, None] - 0.5 * jnp.sum(z * z, axis=1)

    def _shifts(self) -> Float[Array, "K d"]:
        return jax.vmap(jnp.matmul)(self.inverses, self.means)


def whitening(components: "Gaussian") -> Whitening | None:
    """Of stacked components whose covariances are full; None for other structures, where one point at a time is as cheap."""
    if not isinstance(components.covariance, Dense):
        return None
    factors = jax.vmap(cholesky)(components.covariance.matrix)
    d = factors.shape[-1]
    inverses = jax.vmap(lambda L: substitute(L, jnp.eye(d, dtype=L.dtype)))(factors)
    half_logdets = jnp.sum(jnp.log(jnp.diagonal(factors, axis1=1, axis2=2)), axis=1)
    centre = jnp.mean(components.mean, axis=0)
    transposes = inverses.reshape(-1, d).T
    return Whitening(centre, components.mean - centre[None, :], inverses, transposes, -0.5 * d * np.log(2 * np.pi) - half_logdets)
