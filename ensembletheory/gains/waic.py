r"""How unlikely a point is under an ensemble of densities: scores for points out of distribution, high where the point belongs.

With log-likelihoods l_k = log q_k(x) of members drawn with probabilities w_k,

    waic = E l - Var l  <=  mean = E l  <=  log_mean = log E exp(l) = log of the linear pool,

the first by Var >= 0, the second by Jensen's inequality, both equalities if and only if all members agree at x (Choi, Jang & Alemi 2018).

Members N(t, S) with a common covariance S and random means t ~ N(m, C), the posterior or bootstrap law of a Gaussian mean, are exact for every x: with y = x - m and
P = S^{-1}, |x - t|^2_P has mean y^T P y + tr(P C) and variance 2 tr(P C P C) + 4 y^T P C P y, hence

    E l = -1/2 [ log det(2 pi S) + y^T P y + tr(P C) ],   Var l = 1/2 tr(P C P C) + y^T P C P y,   log_mean = log N(x; m, S + C).

Far out both E l and Var l are quadratic in y: along an eigenvector of P C with eigenvalue c the waic falls 1 + 2 c times as fast as E l, and log_mean 1/(1 + c) times.
For the mean of n points c = 1/n.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.errors import Numbers
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.law import checked_point
from ensembletheory.laws.weights import log_weighted_sum
from ensembletheory.pooling.members import Member, checked_gaussians, checked_laws

__all__ = ["Scores", "waic", "waic_of_gaussian_means"]


class Scores(eqx.Module):
    """Scores of points, in nats: `waic` = `mean` - `variance` <= `mean` <= `log_mean`."""

    mean: Float[Array, "..."]
    variance: Float[Array, "..."]
    log_mean: Float[Array, "..."]

    @property
    def waic(self) -> Float[Array, "..."]:
        """The mean log-likelihood less its variance over the members."""
        return self.mean - self.variance


def waic(x: Numbers, members: Sequence[Member], weights: Numbers | None = None) -> Scores:
    """Scores of x (..., d) under the members, with `weights` (default equal), each shaped (...).

    Raises:
        ValueError: if there is no member, dimensions differ, weights are off the simplex, or the last axis of x is not d.
    """
    laws, weights = checked_laws(members, weights)
    points = checked_point("x", x, laws[0].dim)
    return _of_members(laws, weights, points)


@eqx.filter_jit
def _of_members(laws: list[Law], weights: Float[Array, " K"], x: Float[Array, "... d"]) -> Scores:
    def at(point):
        logs = jnp.stack([law._log_prob(point) for law in laws])
        mean = weights @ logs
        return Scores(mean, weights @ (logs - mean) ** 2, log_weighted_sum(weights, logs))

    return _over(at, x)


def waic_of_gaussian_means(x: Numbers, means: Member, covariance: Member) -> Scores:
    """Scores of x (..., d) under Gaussians whose means follow the law `means` and whose covariance is that of `covariance`, a Gaussian (its mean plays no part).

    Raises:
        ValueError: if dimensions differ.
        TypeError: if a law is not Gaussian.
    """
    (centre, noise), _ = checked_gaussians([means, covariance], None, "exact score of Gaussian means")
    return _of_means(centre, noise, checked_point("x", x, centre.dim))


@eqx.filter_jit
def _of_means(centre: Gaussian, noise: Gaussian, x: Float[Array, "... d"]) -> Scores:
    ratio = jax.vmap(noise.covariance.solve, in_axes=1, out_axes=1)(centre.cov)  # P C
    pool = Gaussian(centre.mean, noise.covariance + centre.covariance)
    middle = Gaussian(centre.mean, noise.covariance)

    def at(point):
        pull = noise.covariance.solve(point - centre.mean)
        mean = middle._log_prob(point) - 0.5 * jnp.trace(ratio)
        return Scores(mean, 0.5 * jnp.sum(ratio * ratio.T) + pull @ centre.cov @ pull, pool._log_prob(point))

    return _over(at, x)


def _over(at, x: Float[Array, "... d"]) -> Scores:
    scores = jax.vmap(at)(x.reshape(-1, x.shape[-1]))
    return jax.tree.map(lambda score: score.reshape(x.shape[:-1]), scores)
