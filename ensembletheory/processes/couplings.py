r"""Couplings: joint laws on R^{2d} of a data point X_0 (the first d coordinates) and a source point X_1 (the last d), with the two laws as marginals.

Gaussians N(m, S) and N(n, R), with the symmetric root S^{1/2} and K = S^{1/2} R S^{1/2}; the cross-covariance Cov(X_0, X_1) is

- independent: 0;
- optimal transport, the least E|X_0 - X_1|^2: S^{1/2} K^{1/2} S^{-1/2}, a singular joint law, X_1 = n + T (X_0 - m) with T = S^{-1/2} K^{1/2} S^{-1/2};
- Schroedinger bridge (entropic optimal transport), the least E|X_0 - X_1|^2 + epsilon KL(joint || data x source): with e = epsilon / 4,

      S^{1/2} { (K + e^2 I)^{1/2} - e I } S^{-1/2} = S^{1/2} { K [ (K + e^2 I)^{1/2} + e I ]^{-1} } S^{-1/2},

  the solution of Cov = (2 / epsilon) S (R - Cov^T S^{-1} Cov): the off-diagonal block of the joint precision is -(2 / epsilon) I, as the density's factor
  exp(-|x_0 - x_1|^2 / epsilon) asks. This is the bridge of a Brownian motion of variance sigma^2 at time 1, epsilon = 2 sigma^2, whose X_t has gamma_t^2 = sigma^2 t (1 - t);
- minibatch optimal transport on the line: each batch of B pairs is sorted, so that the correlation of X_0 and X_1 is rho_B = (1/B) sum_i (E Z_{i:B})^2, with Z_{i:B} the
  order statistics of B standard normals. The joint law has these moments, and is not Gaussian for 1 < B < infinity.

Sources: Dowson & Landau (1982), Olkin & Pukelsheim (1982) for optimal transport; Janati et al. (2020), Bunne et al. (2023) for the bridge; Tong et al. (2024) for minibatches,
whose correlation is derived here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import log_ndtr

from ensembletheory.covariance import Dense, SemiDefinite, refuse_singular
from ensembletheory.errors import Numbers, as_floats, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.laws import Gaussian, GaussianMixture, Law
from ensembletheory.laws.gaussian import is_singular
from ensembletheory.laws.mixture import weighted_components
from ensembletheory.linalg import solve_spd, sqrtm, symmetrised
from ensembletheory.processes.arguments import positive
from ensembletheory.processes.path import as_gaussians

__all__ = ["coupling_cost", "halved", "independent", "minibatch_correlation", "minibatch_moments", "optimal_transport", "schroedinger_bridge"]


def independent(data: Law, source: Law) -> Gaussian | GaussianMixture:
    """The product of the two laws: a Gaussian of two Gaussians, else a mixture of all pairs of components.

    Raises:
        ValueError: if the dimensions differ.
        TypeError: if a law is none of Gaussian, GaussianMixture and FiniteLaw.
    """
    _require_same_dim(data, source)
    return _product(as_gaussians(data), as_gaussians(source))


def optimal_transport(data: Law, source: Law) -> Gaussian:
    """The coupling of least E|X_0 - X_1|^2, whose covariance is singular.

    Raises:
        ValueError: if the dimensions differ, or the data's covariance is singular.
        TypeError: if a law is not Gaussian.
    """
    return _transported(*_gaussians(data, source))


def schroedinger_bridge(data: Law, source: Law, epsilon: Numbers) -> Gaussian:
    """The coupling of least E|X_0 - X_1|^2 + epsilon KL(coupling || data x source).

    Raises:
        ValueError: if the dimensions differ, the data's covariance is singular, or epsilon is not positive.
        TypeError: if a law is not Gaussian.
    """
    return _bridged(*_gaussians(data, source), positive("epsilon", epsilon))


def minibatch_correlation(batch: int) -> Estimate:
    """rho_B, the correlation between a Gaussian on the line and another when batches of B pairs are coupled by sorting: 0 for B = 1, increasing to 1.

    Raises:
        ValueError: if the size of the batch is below 1.
    """
    if batch < 1:
        refuse("batch", str(batch), "a number of pairs, at least 1", "1 is the independent coupling.")
    fine, coarse = (_sorted_correlation(batch, nodes * int(np.ceil(np.sqrt(batch)))) for nodes in (512, 256))
    return Estimate(jnp.asarray(fine), jnp.asarray(abs(fine - coarse) + 8 * batch * np.finfo(float).eps), "quadrature")


def minibatch_moments(data: Law, source: Law, batch: int) -> tuple[Float[Array, "2"], Float[Array, "2 2"]]:
    """The exact mean and covariance of (X_0, X_1) on the line when batches are coupled by optimal transport.

    Raises:
        ValueError: if a law is not on the line, or the size of the batch is below 1.
        TypeError: if a law is not Gaussian.
    """
    data, source = _gaussians(data, source)
    if data.dim != 1:
        refuse("data", f"dimension {data.dim}", "dimension 1, where sorting is the optimal plan", "In more dimensions the correlation has no closed form: draw batches.")
    return _correlated(data, source, minibatch_correlation(batch).value)


def coupling_cost(mean: Numbers, cov: Numbers) -> Float[Array, ""]:
    """E|X_0 - X_1|^2 of a coupling with this mean (2d,) and covariance (2d, 2d)."""
    m, S = as_floats("mean", mean), as_floats("cov", cov)
    halved(m.size)
    return _cost(m, S)


def halved(size: int) -> int:
    """The dimension d of the two points of a coupling on R^size.

    Raises:
        ValueError: if the size is odd.
    """
    if size % 2:
        refuse(
            "coupling",
            f"dimension {size}",
            "an even dimension, twice that of the data",
            "A coupling is a joint law of (X_0, X_1), such as couplings.independent(data, source).",
        )
    return size // 2


def _require_same_dim(data: Law, source: Law) -> None:
    if data.dim != source.dim:
        refuse("source", f"dimension {source.dim}", f"dimension {data.dim}, that of the data", "Couple laws on the same space.")


def _gaussians(data: Law, source: Law) -> tuple[Gaussian, Gaussian]:
    if not isinstance(data, Gaussian) or not isinstance(source, Gaussian):
        got = f"{type(data).__name__} and {type(source).__name__}"
        raise TypeError(f"`data`, `source`: got {got}; expected Gaussians, between which this coupling has a closed form. Couple independently, or by draws.")
    _require_same_dim(data, source)
    refuse_singular("data", data.covariance)
    return data, source


def _joint(data: Gaussian, source: Gaussian, cross: Float[Array, "d d"], singular: bool) -> Gaussian:
    covariance = Dense(jnp.block([[data.cov, cross], [cross.T, source.cov]]))
    return Gaussian(jnp.concatenate([data.mean, source.mean]), SemiDefinite(covariance) if singular else covariance)


@eqx.filter_jit
def _product(data: Gaussian | GaussianMixture, source: Gaussian | GaussianMixture) -> Gaussian | GaussianMixture:
    zero = jnp.zeros((data.dim, data.dim))
    if isinstance(data, Gaussian) and isinstance(source, Gaussian):
        return _joint(data, source, zero, is_singular(data) or is_singular(source))
    (w, first), (v, second) = weighted_components(data), weighted_components(source)
    pairs = jax.vmap(lambda one: jax.vmap(lambda other: _joint(one, other, zero, False))(second))(first)
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), pairs)
    return GaussianMixture((w[:, None] * v[None, :]).ravel(), flat.mean, flat.covariance)


@eqx.filter_jit
def _transported(data: Gaussian, source: Gaussian) -> Gaussian:
    root = sqrtm(data.cov)
    return _joint(data, source, _conjugated(root, sqrtm(_inner(root, source))), True)


@eqx.filter_jit
def _bridged(data: Gaussian, source: Gaussian, epsilon: Float[Array, ""]) -> Gaussian:
    root, e = sqrtm(data.cov), epsilon / 4 * jnp.eye(data.dim)
    K = _inner(root, source)
    return _joint(data, source, _conjugated(root, symmetrised(solve_spd(sqrtm(K + e @ e) + e, K))), is_singular(source))


@eqx.filter_jit
def _correlated(data: Gaussian, source: Gaussian, correlation: Float[Array, ""]) -> tuple[Float[Array, "2"], Float[Array, "2 2"]]:
    joint = _joint(data, source, correlation * jnp.sqrt(data.cov * source.cov), True)
    return joint.mean, joint.cov


@jax.jit
def _cost(m: Float[Array, " pair"], S: Float[Array, "pair pair"]) -> Float[Array, ""]:
    d = m.size // 2
    return jnp.sum((m[:d] - m[d:]) ** 2) + jnp.trace(S[:d, :d] + S[d:, d:] - 2 * S[:d, d:])


def _inner(root: Float[Array, "d d"], source: Gaussian) -> Float[Array, "d d"]:
    return symmetrised(root @ source.cov @ root)


def _conjugated(root: Float[Array, "d d"], M: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The matrix root M root^{-1}, for M symmetric."""
    return solve_spd(root, M @ root).T


def _sorted_correlation(batch: int, nodes: int) -> float:
    """rho_B by the trapezoid rule, which converges geometrically; each density of an order statistic is normalised by the same rule."""
    x = np.linspace(-12.0, 12.0, nodes + 1)
    below, above = log_ndtr(x), log_ndtr(-x)
    total = 0.0
    for i in range(batch):
        exponents = i * below + (batch - 1 - i) * above - x**2 / 2
        density = np.exp(exponents - exponents.max())
        total += (density @ x / density.sum()) ** 2
    return total / batch
