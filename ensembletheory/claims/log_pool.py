r"""Claims about the log pool g = prod_k q_k^{w_k} / Z.

Forward KL gains exactly -log Z, whatever the target. Reverse KL need not gain: the entropy of g can fall below the members' average by more than its fit improves.

With equal weights the log pool of K + 1 members is the log pool of the K + 1 pools that leave one out, so it is at least as good as these on average, and for exchangeable
members the expected KL does not increase with K.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.members import THREE_MEMBERS, average, equal_members, gain, gaussian, gaussians
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import kl
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import Gaussian
from ensembletheory.pooling import log_normaliser, log_pool

__all__ = ["log_pool_kl", "log_pool_monotone", "log_pool_reverse_kl"]

EQUAL_WEIGHTS = Domain(**{name: part for name, part in THREE_MEMBERS.parts.items() if name != "weights"})
TWO_MEMBERS = THREE_MEMBERS.replace(means=real(-3, 3, shape=(2,)), variances=positive(0.05, 20, shape=(2,)), weights=simplex(2))


def _more_than_the_normaliser(target_mean, target_variance, means, variances, weights) -> Estimate:
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return gain(p, weights, members, log_pool(members, weights)) + log_normaliser(members, weights) * 1.1


def _product_of_experts(target_mean, target_variance, means, variances, weights) -> Estimate:
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    product = log_pool(gaussians(means, variances / means.shape[0]))
    return gain(p, weights, members, product)


@claim(
    id="log-pool-kl",
    statement=r"\mathrm{KL}(p \,\|\, g) = \sum_k w_k \, \mathrm{KL}(p \,\|\, q_k) + \log Z, \quad \log Z \leq 0, \quad g = \prod_k q_k^{w_k} / Z",
    source="Heskes (1998)",
    domain=THREE_MEMBERS,
    kind="theorem",
    references=["heskes1998selecting", "genest1986combining"],
    equality=equal_members,
    mutants={
        "larger-gain": Mutant("the constant: a gain of -1.1 log Z", _more_than_the_normaliser),
        "product-of-experts": Mutant("weights that sum to one: the product of all members", _product_of_experts),
    },
    proof="log g = sum_k w_k log q_k - log Z pointwise; -log Z = sum_k w_k KL(g || q_k) >= 0.",
)
def log_pool_kl(target_mean, target_variance, means, variances, weights) -> Estimate:
    """The gain where it is less than 0, else minus the distance between the gain and -log Z: never above 0, and 0 where the identity holds."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    gained = gain(p, weights, members, log_pool(members, weights)).value
    surplus = gained + log_normaliser(members, weights).value
    return closed_form(jnp.minimum(gained, -jnp.abs(surplus)))


def _without_weights() -> Iterator[dict[str, Any]]:
    for instance in equal_members():
        yield {name: value for name, value in instance.items() if name != "weights"}


def _leave_one_out(members: list[Gaussian], pool: Callable[[list[Gaussian]], Any]) -> list[Any]:
    return [pool(members[:k] + members[k + 1 :]) for k in range(len(members))]


def _products(target_mean, target_variance, means, variances) -> Estimate:
    def product(members: list[Gaussian]) -> Any:
        return log_pool([Gaussian(member.mean, member.covariance.scaled(jnp.asarray(1 / len(members)))) for member in members])

    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return average(jnp.full(3, 1 / 3), _leave_one_out(members, product), lambda q: kl(p, q)) - kl(p, product(members))


def _best_of_the_smaller(target_mean, target_variance, means, variances) -> Estimate:
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    smaller = [kl(p, pool).value for pool in _leave_one_out(members, log_pool)]
    return closed_form(jnp.min(jnp.stack(smaller))) - kl(p, log_pool(members))


@claim(
    id="log-pool-monotone",
    statement=r"\mathrm{KL}(p \,\|\, g_{123}) \leq \frac{1}{3} \sum_k \, \mathrm{KL}(p \,\|\, g_{-k}), \quad g_S \propto \prod_{j \in S} q_j^{1/|S|}",
    source="Heskes (1998), applied to the pools that leave one member out; for exchangeable members the expected KL does not increase with their number",
    domain=EQUAL_WEIGHTS,
    kind="theorem",
    references=["heskes1998selecting", "mattei2025ensembles"],
    equality=_without_weights,
    mutants={
        "product-of-experts": Mutant("weights that sum to one: products of all members", _products),
        "best-of-the-smaller": Mutant("the average over the smaller pools: the best of them", _best_of_the_smaller),
    },
    proof="The log pool of three is the log pool of the three pools of two, and log-pool-kl.",
)
def log_pool_monotone(target_mean, target_variance, means, variances) -> Estimate:
    """What the pool of three gains on the pools of two, on average."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return average(jnp.full(3, 1 / 3), _leave_one_out(members, log_pool), lambda q: kl(p, q)) - kl(p, log_pool(members))


@claim(
    id="log-pool-reverse-kl",
    statement=r"\mathrm{KL}(g \,\|\, p) \leq \sum_k w_k \, \mathrm{KL}(q_k \,\|\, p), \quad g \propto \prod_k q_k^{w_k}",
    source="the analogue of log-pool-kl for the reverse divergence; refuted here",
    domain=TWO_MEMBERS,
    kind="refuted",
    references=["genest1986combining"],
    proof="Members near p whose geometric mean is much narrower than p.",
)
def log_pool_reverse_kl(target_mean, target_variance, means, variances, weights) -> Estimate:
    """The gain of the log pool in reverse KL."""
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return average(weights, members, lambda q: kl(q, p)) - kl(log_pool(members, weights), p)
