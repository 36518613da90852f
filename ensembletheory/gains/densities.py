r"""Decompositions of the divergence between a target p and a pool of members q_k, weights w_k on the simplex. Each term is computed on its own.

| function                    | pool                     | ensemble    | average             | diversity                                                               |
|-----------------------------|--------------------------|-------------|---------------------|-------------------------------------------------------------------------|
| `kl_linear_decomposition`   | m = sum w_k q_k          | KL(p || m)  | sum w_k KL(p||q_k)  | E_p[ log m - sum_k w_k log q_k ] >= 0 by Jensen; depends on p           |
| `kl_log_decomposition`      | g = prod q_k^{w_k} / Z   | KL(p || g)  | sum w_k KL(p||q_k)  | sum_k w_k KL(g || q_k) = -log Z, whatever p is (Heskes 1998)            |
| `reverse_kl_decomposition`  | m                        | KL(m || p)  | sum w_k KL(q_k||p)  | sum_k w_k KL(q_k || m), the generalised Jensen-Shannon divergence,      |
|                             |                          |             |                     | whatever p is                                                           |
| `l2_decomposition`          | m                        | |p - m|^2   | sum w_k |p - q_k|^2 | sum_k w_k |m - q_k|^2, whatever p is, in L2 or another Hilbert distance |
| `w2_decomposition`          | b, the W2 barycenter     | W2^2(p, b)  | sum w_k W2^2(p,q_k) | spread - defect, see below                                              |

W2: with T_k the optimal map from b to q_k and T that from b to p, sum_k w_k T_k is the identity, so that in L2(b)

    sum_k w_k |T_k - T|^2 = sum_k w_k |T_k - 1|^2 + |T - 1|^2 = sum_k w_k W2^2(b, q_k) + W2^2(b, p).

T_k T^{-1} moves p to q_k, if not optimally: W2^2(p, q_k) <= |T_k - T|^2. Hence W2^2(p, b) = average - spread + defect, with the spread sum_k w_k W2^2(b, q_k) and the defect
sum_k w_k ( |T_k - T|^2 - W2^2(p, q_k) ) >= 0, which is due to the curvature of the space (Ahidar-Coutrix, Le Gouic & Paris 2020) and zero when covariances commute.

Size: K members drawn at random leave an expected |p - mean of them|^2 of exactly A + B / K in any Hilbert distance, if they are exchangeable: A = E<p - q_1, p - q_2>,
A + B = E|p - q_1|^2. With bias b, variance s^2 and correlation r of the members, A = b^2 + r s^2 and B = (1 - r) s^2.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.divergences import kl, l2_squared, w2_squared
from ensembletheory.divergences.bures import optimal_map
from ensembletheory.errors import Numbers, refuse
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.gains.decomposition import Decomposition, terms_of, weighted_sum
from ensembletheory.laws import Gaussian, Law
from ensembletheory.laws.expectation import expectation
from ensembletheory.pooling import linear_pool, log_pool, w2_barycenter
from ensembletheory.pooling.log import normaliser_of
from ensembletheory.pooling.members import Member, checked_gaussians, checked_laws

__all__ = [
    "SizeLaw",
    "W2Decomposition",
    "generalised_jensen_shannon",
    "kl_linear_decomposition",
    "kl_log_decomposition",
    "l2_decomposition",
    "reverse_kl_decomposition",
    "size_law",
    "w2_decomposition",
]


class W2Decomposition(eqx.Module):
    """`ensemble` = `average` - `spread` + `defect`; see the module."""

    average: Estimate
    spread: Estimate
    defect: Estimate
    ensemble: Estimate

    @property
    def residual(self) -> Estimate:
        """`average` - `spread` + `defect` - `ensemble`: zero up to rounding."""
        return self.average - self.spread + self.defect - self.ensemble

    def __str__(self) -> str:
        return terms_of(self)


class SizeLaw(eqx.Module):
    """The expected error A + B / K of K exchangeable members: `limit` A, `excess` B."""

    limit: Estimate
    excess: Estimate

    def __call__(self, K: Numbers) -> Estimate:
        """The expected error at size K (one or many)."""
        inverse = 1 / jnp.asarray(K, dtype=jnp.result_type(float))
        return Estimate(self.limit.value + self.excess.value * inverse, self.limit.error + self.excess.error * inverse, (self.limit + self.excess).kind)


def kl_linear_decomposition(
    target: Law, members: Sequence[Member], weights: Numbers | None = None, key: PRNGKeyArray | None = None, samples: int | None = None
) -> Decomposition:
    """KL(target || linear pool).

    Args:
        target: the law p.
        members: the laws q_k.
        weights: on the simplex; default equal.
        key: needed where only Monte Carlo can answer; all terms then see the same draws.
        samples: number of those draws.

    Raises:
        ValueError: if there is no member, dimensions differ, weights are off the simplex, or a key is needed.
    """
    laws, weights = checked_laws(members, weights)
    pool = linear_pool(laws, weights)
    average = weighted_sum(weights, [kl(target, law, key=key, samples=samples) for law in laws])
    return Decomposition(average, linear_pool_surplus(target, laws, weights, pool, key, samples), kl(target, pool, key=key, samples=samples))


def kl_log_decomposition(target: Law, members: Sequence[Member], weights: Numbers | None = None, key: PRNGKeyArray | None = None, samples: int | None = None) -> Decomposition:
    """KL(target || log pool); the diversity is -log Z.

    Args:
        target: the law p.
        members: laws of which there is a log pool.
        weights: on the simplex; default equal.
        key: needed where only Monte Carlo can answer; all terms then see the same draws.
        samples: number of those draws.

    Raises:
        ValueError: as `kl_linear_decomposition`.
        TypeError: as `log_pool`.
    """
    laws, weights = checked_laws(members, weights)
    average = weighted_sum(weights, [kl(target, law, key=key, samples=samples) for law in laws])
    pool = log_pool(laws, weights)
    return Decomposition(average, -normaliser_of(pool, laws, weights), kl(target, pool, key=key, samples=samples))


def reverse_kl_decomposition(
    target: Law, members: Sequence[Member], weights: Numbers | None = None, key: PRNGKeyArray | None = None, samples: int | None = None
) -> Decomposition:
    """KL(linear pool || target); the diversity is the members' generalised Jensen-Shannon divergence.

    Args:
        target: the law p.
        members: the laws q_k.
        weights: on the simplex; default equal.
        key: needed where only Monte Carlo can answer.
        samples: number of draws from each law.

    Raises:
        ValueError: as `kl_linear_decomposition`.
    """
    laws, weights = checked_laws(members, weights)
    average = weighted_sum(weights, [kl(law, target, key=key, samples=samples) for law in laws])
    ensemble = kl(linear_pool(laws, weights), target, key=key, samples=samples)
    return Decomposition(average, generalised_jensen_shannon(laws, weights, key, samples), ensemble)


def generalised_jensen_shannon(members: Sequence[Member], weights: Numbers | None = None, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """sum_k w_k KL(q_k || sum_j w_j q_j), in nats: between 0 and the entropy of the weights.

    Raises:
        ValueError: as `kl_linear_decomposition`.
    """
    laws, weights = checked_laws(members, weights)
    pool = linear_pool(laws, weights)
    return weighted_sum(weights, [kl(law, pool, key=key, samples=samples) for law in laws])


def l2_decomposition(target: Law, members: Sequence[Member], weights: Numbers | None = None, squared_distance: Callable[[Law, Law], Estimate] = l2_squared) -> Decomposition:
    """The squared distance between the densities of target and linear pool.

    Args:
        target: the law p.
        members: the laws q_k.
        weights: on the simplex; default equal.
        squared_distance: that of a Hilbert space in which densities are mixed linearly, such as `l2_squared` or `mmd_squared`.

    Raises:
        ValueError: as `kl_linear_decomposition`.
    """
    laws, weights = checked_laws(members, weights)
    pool = linear_pool(laws, weights)
    average = weighted_sum(weights, [squared_distance(target, law) for law in laws])
    return Decomposition(average, spread_about(pool, laws, weights, squared_distance), squared_distance(target, pool))


def w2_decomposition(target: Member, members: Sequence[Member], weights: Numbers | None = None) -> W2Decomposition:
    """W2^2 between a Gaussian target and the barycenter of Gaussian members.

    Args:
        target: the law p.
        members: the laws q_k.
        weights: on the simplex; default equal.

    Raises:
        ValueError: if there is no member, dimensions differ, the weights are off the simplex, or the barycenter does not converge.
        TypeError: if a law is not Gaussian.
    """
    gaussians, weights = checked_gaussians(members, weights, "W2 barycenter")
    (p,), _ = checked_gaussians([target], None, "W2 barycenter")
    checked_laws([p, *gaussians], None)
    barycenter = w2_barycenter(gaussians, weights)
    distances = [w2_squared(p, law) for law in gaussians]
    tangent = _tangent_distances(barycenter, p, gaussians)
    defect = weighted_sum(weights, [closed_form(flat) - true for flat, true in zip(tangent, distances, strict=True)])
    return W2Decomposition(weighted_sum(weights, distances), spread_about(barycenter, gaussians, weights, w2_squared), defect, w2_squared(p, barycenter))


@eqx.filter_jit
def _tangent_distances(base: Gaussian, p: Gaussian, members: list[Gaussian]) -> list[Float[Array, ""]]:
    """|T_k - T|^2 in L2(base), of the optimal maps from `base`."""
    T = optimal_map(base.cov, p.cov)

    def squared(law: Gaussian):
        gap = optimal_map(base.cov, law.cov) - T
        return jnp.sum((law.mean - p.mean) ** 2) + jnp.sum((gap @ base.cov) * gap)

    return [squared(law) for law in members]


def size_law(decomposition: Decomposition, members: int | None = None) -> SizeLaw:
    """The exact expected error of K members drawn at random from those of a decomposition in a Hilbert distance (`krogh_vedelsby`, `l2_decomposition`).

    Args:
        decomposition: that of the whole list.
        members: None: they are drawn with replacement, by the weights of the decomposition; else the length M >= 2 of the list, which had equal weights: they are drawn
            without replacement, K <= M.

    Raises:
        ValueError: if `members` is less than 2.
    """
    if members is None:
        return SizeLaw(decomposition.ensemble, decomposition.diversity)
    if members < 2:
        refuse("members", str(members), "the length of the list, at least 2, or None", "From one member there is nothing to draw.")
    beyond = decomposition.diversity * (1 / (members - 1))
    return SizeLaw(decomposition.ensemble - beyond, beyond * float(members))


def spread_about(centre: Law, laws: Sequence[Law], weights: Float[Array, " K"], squared_distance: Callable[[Law, Law], Estimate]) -> Estimate:
    """sum_k w_k squared_distance(centre, q_k)."""
    return weighted_sum(weights, [squared_distance(centre, law) for law in laws])


def linear_pool_surplus(target: Law, laws: Sequence[Law], weights: Float[Array, " K"], pool: Law, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """E_p[ log pool - sum_k w_k log q_k ]."""
    return expectation(target, _surplus, (pool, weights, *laws), key, samples)


def _surplus(x: Float[Array, " d"], pool: Law, weights: Float[Array, " K"], *members: Law) -> tuple[Float[Array, ""], Float[Array, ""]]:
    log_pool_x, log_members = pool._log_prob(x), jnp.stack([member._log_prob(x) for member in members])
    return log_pool_x - weights @ log_members, jnp.abs(log_pool_x) + weights @ jnp.abs(log_members)
