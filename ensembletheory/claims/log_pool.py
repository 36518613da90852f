r"""Claims about the log pool g = prod_k q_k^{w_k} / Z.

Forward KL gains exactly -log Z, whatever the target. Reverse KL need not gain: the entropy of g can fall below the members' average by more than its fit improves.
"""

import jax.numpy as jnp

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.members import THREE_MEMBERS, average, equal_members, gaussian, gaussians
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import kl
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.pooling import log_normaliser, log_pool

__all__ = ["log_pool_kl", "log_pool_reverse_kl"]

TWO_MEMBERS = THREE_MEMBERS.replace(means=real(-3, 3, shape=(2,)), variances=positive(0.05, 20, shape=(2,)), weights=simplex(2))


def _gain(p, members, weights, pool) -> Estimate:
    return average(weights, members, lambda q: kl(p, q)) - kl(p, pool)


def _more_than_the_normaliser(target_mean, target_variance, means, variances, weights) -> Estimate:
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    return _gain(p, members, weights, log_pool(members, weights)) + log_normaliser(members, weights) * 1.1


def _product_of_experts(target_mean, target_variance, means, variances, weights) -> Estimate:
    p, members = gaussian(target_mean, target_variance), gaussians(means, variances)
    product = log_pool(gaussians(means, variances / means.shape[0]))
    return _gain(p, members, weights, product)


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
    gain = _gain(p, members, weights, log_pool(members, weights)).value
    surplus = gain + log_normaliser(members, weights).value
    return closed_form(jnp.minimum(gain, -jnp.abs(surplus)))


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
