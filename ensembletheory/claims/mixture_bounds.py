r"""Bounds for mixtures of Gaussians on the line: Durrieu's sandwich of KL, and what MW2 says of W2 (see `ensembletheory.divergences.bounds`)."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import bounds, kl, w2
from ensembletheory.estimate import Estimate
from ensembletheory.laws import GaussianMixture

__all__ = ["durrieu_sandwich", "mw2_bounds"]

TWO_MIXTURES = Domain(
    weights=simplex(2),
    means=real(-3, 3, shape=(2,)),
    variances=positive(1e-3, 1e3, shape=(2,)),
    other_weights=simplex(2),
    other_means=real(-3, 3, shape=(2,)),
    other_variances=positive(1e-3, 1e3, shape=(2,)),
)
NARROWER = TWO_MIXTURES.replace(variances=positive(1e-4, 10, shape=(2,)), other_variances=positive(1e-4, 10, shape=(2,)))


def _mixtures(weights, means, variances, other_weights, other_means, other_variances) -> tuple[GaussianMixture, GaussianMixture]:
    return GaussianMixture(weights, means[:, None], variances[:, None]), GaussianMixture(other_weights, other_means[:, None], other_variances[:, None])


def _least(first: Estimate, second: Estimate) -> Estimate:
    """The smaller of two margins that share their error."""
    return Estimate(jnp.minimum(first.value, second.value), jnp.maximum(first.error, second.error), first.kind)


def _variational_from_below(**instance) -> Estimate:
    p, q = _mixtures(**instance)
    return kl(p, q) - bounds.hershey_olsen(p, q)


def _product_from_above(**instance) -> Estimate:
    p, q = _mixtures(**instance)
    return bounds.product_approximation(p, q) - kl(p, q)


def _points_against_the_plane() -> Iterator[dict[str, Any]]:
    """Laws so narrow beside q that log q is linear where p lives: the bound from below is off by (S / V)^2 / 4."""
    for mean in (0.0, 1.0):
        p = {"weights": [0.5, 0.5], "means": [mean, mean], "variances": [1e-3, 1e-3]}
        yield {**p, "other_weights": [0.25, 0.75], "other_means": [mean, mean], "other_variances": [1e3, 1e3]}


@claim(
    id="durrieu-sandwich",
    statement=r"\mathrm{lower}(p, q) \leq \mathrm{KL}(p \,\|\, q) \leq \mathrm{upper}(p, q) \mathrm{\ \ (mixtures\ of\ Gaussians)}",
    source="Durrieu, Thiran & Kelly (2012)",
    domain=TWO_MIXTURES,
    kind="theorem",
    references=["durrieu2012lower", "hershey2007approximating"],
    equality=_points_against_the_plane,
    mutants={
        "variational-from-below": Mutant("the bound: the variational approximation from below", _variational_from_below),
        "product-from-above": Mutant("the bound: the product approximation from above", _product_from_above),
    },
    proof="E log of a mixture under a component is at least its variational bound and at most the log of its mean (Jensen): one for p, the other for q.",
)
def durrieu_sandwich(weights, means, variances, other_weights, other_means, other_variances) -> Estimate:
    """The smaller of KL - lower and upper - KL."""
    p, q = _mixtures(weights, means, variances, other_weights, other_means, other_variances)
    divergence, (lower, upper) = kl(p, q), bounds.durrieu(p, q)
    return _least(divergence - lower, upper - divergence)


def _mw2(p: GaussianMixture, q: GaussianMixture) -> Float[Array, ""]:
    """MW2 of two components each: the cost is linear in the one free entry of the plan, so one of its ends is best."""
    gaps = (p.means[:, None, 0] - q.means[None, :, 0]) ** 2 + (jnp.sqrt(p.covs[:, None, 0, 0]) - jnp.sqrt(q.covs[None, :, 0, 0])) ** 2
    a, b = p.weights[0], q.weights[0]

    def cost(entry):
        return entry * gaps[0, 0] + (a - entry) * gaps[0, 1] + (b - entry) * gaps[1, 0] + (1 - a - b + entry) * gaps[1, 1]

    squared = jnp.minimum(cost(jnp.maximum(0.0, a + b - 1)), cost(jnp.minimum(a, b)))
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)


def _mw2_margins(constant: float, **instance) -> tuple[Estimate, Estimate]:
    p, q = _mixtures(**instance)
    distance, ceiling = w2(p, q), _mw2(p, q)
    slack = sum(jnp.sqrt(constant * law.weights @ law.covs[:, 0, 0]) for law in (p, q))
    return ceiling - distance, distance + slack - ceiling


def _free_coupling(**instance) -> Estimate:
    first, _ = _mw2_margins(2.0, **instance)
    return -first


def _smaller_constant(**instance) -> Estimate:
    _, second = _mw2_margins(0.25, **instance)
    return second


def _translated() -> Iterator[dict[str, Any]]:
    for shift in (0.5, 1.0):
        p = {"weights": [0.25, 0.75], "means": [-1.0, 1.0], "variances": [0.25, 1.0]}
        yield {**p, "other_weights": [0.25, 0.75], "other_means": [-1.0 + shift, 1.0 + shift], "other_variances": [0.25, 1.0]}


@claim(
    id="mw2-bounds",
    statement=r"W_2(p, q) \leq \mathrm{MW}_2(p, q) \leq W_2(p, q) + \sqrt{2 \sum_a \pi_a \mathrm{tr}\, S_a} + \sqrt{2 \sum_b w_b \mathrm{tr}\, R_b}",
    source="Delon & Desolneux (2020)",
    domain=NARROWER,
    kind="theorem",
    references=["delon2020wasserstein"],
    equality=_translated,
    mutants={
        "couplings-cost-nothing": Mutant("the slack: MW2 <= W2", _free_coupling),
        "smaller-constant": Mutant("the constant: 1/4 for 2 under the roots", _smaller_constant),
    },
    proof="Left: fewer couplings. Right: from the best coupling (X, Y) draw labels, then X' and Y' anew from their components: E|X - X'|^2 = 2 sum_a pi_a tr S_a, and add up.",
)
def mw2_bounds(weights, means, variances, other_weights, other_means, other_variances) -> Estimate:
    """The smaller of MW2 - W2 and W2 + slack - MW2."""
    parts = {"weights": weights, "means": means, "variances": variances}
    others = {"other_weights": other_weights, "other_means": other_means, "other_variances": other_variances}
    return _least(*_mw2_margins(2.0, **parts, **others))
