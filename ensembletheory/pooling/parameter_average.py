r"""Averages of parameters: of PPCA loadings as they stand, of aligned loadings, of covariances; and the Gaussian with the moments of the linear pool.

Loadings W and W Q describe the same law for every orthogonal Q, so that members that agree in law may have loadings that do not. Averaged as they stand, W and its copy
turned by an angle theta (two factors) give the covariance cos^2(theta / 2) W W^T + s2 I. Averages that do not depend on Q:

 - aligned loadings: the W that minimises sum_k w_k min_Q |W_k Q - W|^2, the Frechet mean in the Procrustes metric, which is the Bures metric of the W_k W_k^T. For two
   members it lies on the Bures geodesic, W = w_1 W_1 + w_2 W_2 Q with Q the orthogonal polar factor of W_2^T W_1, hence W W^T is the W2 barycenter of the W_k W_k^T.
   For more it is a fixed point of W = sum_k w_k W_k Q_k, Q_k the polar factor of W_k^T W (generalised Procrustes analysis, Gower 1975), reached from the leading
   eigenvectors of sum_k w_k W_k W_k^T along decreasing values of that sum: a local minimum among loadings with q columns. It is the fixed-point equation of the
   barycenter of Gaussians, but barycenters of several singular covariances may have a rank above q, and then come closer to the members.
 - covariances: sum_k w_k (W_k W_k^T + s2_k I), which need not have the form of PPCA with q factors.

Means and noise variances are averaged by all of them. None of these accounts for the differences between the means, as `match_moments` does: its covariance adds their
scatter sum_k w_k (m_k - m)(m_k - m)^T. Among Gaussians q it minimises sum_k w_k KL(q_k || q).
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.covariance import Dense
from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.latent import Ppca
from ensembletheory.laws import Gaussian
from ensembletheory.laws.weights import checked_weights
from ensembletheory.linalg import nearest_orthogonal, symmetrised
from ensembletheory.pooling.log import _total
from ensembletheory.pooling.members import Member, checked_gaussians, checked_laws, stacked_means

__all__ = ["average_aligned_loadings", "average_covariances", "average_loadings", "match_moments"]

_ITERATIONS = 200
_RESIDUAL = 1e-9


def average_loadings(members: Sequence[Member], weights: Numbers | None = None) -> Ppca:
    """The PPCA whose loadings, mean and noise variance are the averages of the members', as they stand.

    Raises:
        ValueError: if there is no member, shapes of loadings differ, or the weights are off the simplex.
        TypeError: if a member is not a Ppca.
    """
    loadings, means, noises, weights = _stacked(members, weights)
    return Ppca(jnp.tensordot(weights, loadings, 1), weights @ means, weights @ noises)


def average_aligned_loadings(members: Sequence[Member], weights: Numbers | None = None) -> Ppca:
    """The PPCA whose loadings are the average of the members' after the best rotations (and reflections) of their factors: see the module.

    Raises:
        ValueError: as `average_loadings`; or if the alignment of more than two members does not converge.
        TypeError: if a member is not a Ppca.
    """
    loadings, means, noises, weights = _stacked(members, weights)
    W, residual = _aligned(loadings, weights)
    if is_concrete(residual) and not residual < _RESIDUAL:
        refuse("members", f"an alignment residual of {float(residual):.3g}", f"less than {_RESIDUAL}", "The loadings have no stable alignment: average covariances.")
    return Ppca(W, weights @ means, weights @ noises)


def average_covariances(members: Sequence[Member], weights: Numbers | None = None) -> Gaussian:
    """The Gaussian whose mean and covariance are the averages of the members'.

    Raises:
        ValueError: if there is no member, dimensions differ, or the weights are off the simplex.
        TypeError: if a member is neither Gaussian nor a Ppca.
    """
    gaussians, weights = checked_gaussians(members, weights, "average of covariances")
    scaled = [member.covariance.scaled(weight) for weight, member in zip(weights, gaussians, strict=True)]
    return Gaussian(weights @ stacked_means(gaussians), _total(scaled))


def match_moments(members: Sequence[Member], weights: Numbers | None = None) -> Gaussian:
    """The Gaussian with the mean and the covariance of the linear pool.

    Raises:
        ValueError: if there is no member, dimensions differ, or the weights are off the simplex.
    """
    laws, weights = checked_laws(members, weights)
    return _matched(jnp.stack([law.mean for law in laws]), jnp.stack([law.cov for law in laws]), weights)


@eqx.filter_jit
def _matched(means: Float[Array, "K d"], covs: Float[Array, "K d d"], weights: Float[Array, " K"]) -> Gaussian:
    mean = weights @ means
    centred = means - mean[None, :]
    return Gaussian(mean, Dense(jnp.tensordot(weights, covs, 1) + symmetrised((weights[:, None] * centred).T @ centred)))


def _stacked(members: Sequence[Member], weights: Numbers | None) -> tuple[Float[Array, "K d q"], Float[Array, "K d"], Float[Array, " K"], Float[Array, " K"]]:
    """Loadings, means, noise variances and weights."""
    if isinstance(members, Ppca) or not len(members):
        got = "one model" if isinstance(members, Ppca) else "an empty list"
        refuse("members", got, "a list of at least one Ppca", "Average a list of models.")
    models = [member for member in members if isinstance(member, Ppca)]
    for k, member in enumerate(members):
        if not isinstance(member, Ppca):
            raise TypeError(f"`members[{k}]`: got {type(member).__name__}; expected Ppca, which has loadings. Use average_covariances for Gaussians.")
    shapes = sorted({model.loadings.shape for model in models})
    if len(shapes) > 1:
        refuse("members", f"loadings of shapes {shapes}", "one shape", "Fit the same number of factors to the same coordinates, or average covariances.")
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    return stack.loadings, stack.mean, stack.noise_variance, checked_weights(weights, len(models))


@eqx.filter_jit
def _aligned(loadings: Float[Array, "K d q"], weights: Float[Array, " K"]) -> tuple[Float[Array, "d q"], Float[Array, ""]]:
    """The average of the aligned loadings, and its relative residual in the fixed-point equation."""
    if len(loadings) <= 2:
        turned = loadings[-1] @ nearest_orthogonal(loadings[-1].T @ loadings[0])
        return weights[0] * loadings[0] + jnp.sum(weights[1:]) * turned, jnp.zeros(())

    def step(W):
        turned = jax.vmap(lambda member: member @ nearest_orthogonal(member.T @ W))(loadings)
        return jnp.tensordot(weights, turned, 1)

    W = jax.lax.scan(lambda W, _: (step(W), None), jax.lax.stop_gradient(_leading(loadings, weights)), length=_ITERATIONS)[0]
    return W, jnp.max(jnp.abs(step(W) - W)) / jnp.max(jnp.abs(loadings))


def _leading(loadings: Float[Array, "K d q"], weights: Float[Array, " K"]) -> Float[Array, "d q"]:
    """The best approximation of sum_k w_k W_k W_k^T by loadings with q columns."""
    wide = jnp.concatenate(list(jnp.sqrt(weights)[:, None, None] * loadings), axis=1)
    U, singular, _ = jnp.linalg.svd(wide, full_matrices=False)
    q = loadings.shape[2]
    return U[:, :q] * singular[None, :q]
