r"""Full covariances at many points: every component is factorised once, and a block of points is whitened by all components in one matrix product.

With S_k = L_k L_k^T and a common centre c, z_k = L_k^{-1} (x - c) - L_k^{-1} (m_k - c) for all k and all points is one product of the stacked inverse factors with the block.
The inverse factors come from substitution, so that rounding is that of a relative change of x - c and m_k - c by the unit of the dtype. In up to four dimensions z_k is
written out coordinate by coordinate from x - m_k. Log-densities are computed component-major, (K, d, n), so that sums over components and coordinates run along contiguous
points; scores, in more dimensions, point-major, (n, K d), which both matrix products then read as it lies.
"""

from itertools import pairwise
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
_HALVED = 32  # from this dimension on the two halves of the rows are multiplied apart, because a quarter of a triangular factor is zero

Band = tuple[Float[Array, "_ _"], Float[Array, "_ _"], Float[Array, " _"]]


class Whitening(eqx.Module):
    """Inverse factors, means about the centre and log-density constants of K components; in more than four dimensions also the bands of rows that are multiplied at once.

    A band holds, of all components one below the other, rows of the inverse factors up to the last column that is not zero, their transposes, and what they make of the means.
    """

    centre: Float[Array, " d"]
    means: Float[Array, "K d"]
    inverses: Float[Array, "K d d"]
    constants: Float[Array, " K"]
    bands: tuple[Band, ...]

    def log_densities(self, points: Float[Array, "n d"]) -> Float[Array, "K n"]:
        """Of every component at every point."""
        x = (points - self.centre[None, :]).T
        if not self.bands:
            return self._log_densities([self._written_out(x)])
        return self._log_densities([(rows @ x[: rows.shape[1]] - shifts[:, None]).reshape(len(self.means), -1, len(points)) for rows, _, shifts in self.bands])

    def mixed_scores(self, weights: Float[Array, " K"], points: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """The score of the mixture with these weights: minus the sum over k of r_k L_k^{-T} z_k."""
        d = points.shape[1]
        if not self.bands:
            _, y = self._shares(weights, points)
            return -jnp.stack([jnp.sum(sum(self.inverses[:, i, j, None] * y[:, i] for i in range(j, d)), axis=0) for j in range(d)], axis=-1)
        r, zs = self._banded(weights, points)
        parts = [(r[:, :, None] * z).reshape(len(points), -1) @ rows for z, (rows, _, _) in zip(zs, self.bands, strict=True)]
        return -sum((jnp.pad(part, ((0, 0), (0, d - part.shape[1]))) for part in parts), jnp.zeros_like(points))

    def mixed(self, weights: Float[Array, " K"], points: Float[Array, "n d"], offsets: Float[Array, "K d"], matrices: Float[Array, "K d d"]) -> Float[Array, "n d"]:
        """The sum over k of r_k (o_k + M_k z_k)."""
        d = points.shape[1]
        if not self.bands:
            r, y = self._shares(weights, points)
            terms = [offsets[:, i, None] * r + sum(matrices[:, i, j, None] * y[:, j] for j in range(d)) for i in range(d)]
            return jnp.stack([jnp.sum(term, axis=0) for term in terms], axis=-1)
        r, zs = self._banded(weights, points)
        y = r[:, :, None] * jnp.concatenate(zs, axis=2)
        return r @ offsets + y.reshape(len(points), -1) @ matrices.transpose(0, 2, 1).reshape(-1, d)

    def _shares(self, weights: Float[Array, " K"], points: Float[Array, "n d"]) -> tuple[Float[Array, "K n"], Float[Array, "K d n"]]:
        """r_k and r_k z_k."""
        z = self._written_out((points - self.centre[None, :]).T)
        r = jax.vmap(relative_terms, in_axes=(None, 1), out_axes=1)(weights, self._log_densities([z]))
        return r, r[:, None, :] * z

    def _banded(self, weights: Float[Array, " K"], points: Float[Array, "n d"]) -> tuple[Float[Array, "n K"], list[Float[Array, "n K _"]]]:
        """r_k, and z_k band by band."""
        x, K = points - self.centre[None, :], len(self.means)
        zs = [(x[:, : len(transposes)] @ transposes - shifts[None, :]).reshape(len(x), K, -1) for _, transposes, shifts in self.bands]
        squares = sum(jnp.sum(z * z, axis=2) for z in zs)
        return jax.vmap(relative_terms, in_axes=(None, 0))(weights, self.constants[None, :] - 0.5 * squares), zs

    def _written_out(self, x: Float[Array, "d n"]) -> Float[Array, "K d n"]:
        """L_k^{-1} (x - m_k)."""
        gaps = x[None] - self.means[:, :, None]
        return jnp.stack([sum(self.inverses[:, i, j, None] * gaps[:, j] for j in range(i + 1)) for i in range(len(x))], axis=1)

    def _log_densities(self, zs: list[Float[Array, "K _ n"]]) -> Float[Array, "K n"]:
        return self.constants[:, None] - 0.5 * sum(jnp.sum(z * z, axis=1) for z in zs)


def whitening(components: "Gaussian") -> Whitening | None:
    """Of stacked components whose covariances are full; None for other structures, where one point at a time is as cheap."""
    if not isinstance(components.covariance, Dense):
        return None
    factors = jax.vmap(cholesky)(components.covariance.matrix)
    d = factors.shape[-1]
    inverses = jax.vmap(lambda L: substitute(L, jnp.eye(d, dtype=L.dtype)))(factors)
    half_logdets = jnp.sum(jnp.log(jnp.diagonal(factors, axis1=1, axis2=2)), axis=1)
    centre = jnp.mean(components.mean, axis=0)
    means = components.mean - centre[None, :]
    return Whitening(centre, means, inverses, -0.5 * d * np.log(2 * np.pi) - half_logdets, _bands(inverses, means))


def _bands(inverses: Float[Array, "K d d"], means: Float[Array, "K d"]) -> tuple[Band, ...]:
    d = means.shape[1]
    if d <= _WRITTEN_OUT:
        return ()
    shifts, ends = jax.vmap(jnp.matmul)(inverses, means), [0, d] if d < _HALVED else [0, d // 2, d]
    rows = [inverses[:, begin:end, :end].reshape(-1, end) for begin, end in pairwise(ends)]
    return tuple((block, block.T, shifts[:, begin:end].ravel()) for block, (begin, end) in zip(rows, pairwise(ends), strict=True))
