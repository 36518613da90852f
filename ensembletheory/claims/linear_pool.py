r"""The linear pool in divergences other than forward KL: below the members' average, and better with every member.

Each D below is convex in its pooled argument, hence D(pool) <= sum_k w_k D(q_k). "Monotone" is what exchangeable members need: the pool of all K is the average of the K
pools that leave one member out, so D(pool of K) <= average of D(pools of K - 1), and in expectation a pool of K members is no worse than one of K - 1. Roots of convex
functions need not be convex: for the Hellinger distance and W2 themselves both fail, with two atoms.

Domains are the cheapest in which nothing is lost: laws on four atoms, where f-divergences, W1 and W2 are finite sums, and Gaussians on the line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Claim, Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.members import THREE_MEMBERS, gaussian, gaussians
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.divergences import chi_squared, hellinger_squared, kl, mmd_squared, total_variation, w1, w2_squared
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import FiniteLaw, Law
from ensembletheory.pooling import linear_pool

__all__ = [
    "linear_pool_chi2",
    "linear_pool_chi2_monotone",
    "linear_pool_f_divergence",
    "linear_pool_f_divergence_monotone",
    "linear_pool_hellinger",
    "linear_pool_hellinger2",
    "linear_pool_hellinger2_monotone",
    "linear_pool_kl_monotone",
    "linear_pool_mmd2",
    "linear_pool_mmd2_monotone",
    "linear_pool_reverse_kl",
    "linear_pool_reverse_kl_monotone",
    "linear_pool_tv",
    "linear_pool_tv_monotone",
    "linear_pool_w1",
    "linear_pool_w1_monotone",
    "linear_pool_w2",
    "linear_pool_w2sq",
    "linear_pool_w2sq_monotone",
]

ATOMS = Domain(target=simplex(4), members=simplex(shape=(3, 4)), weights=simplex(3))
PLACES = ATOMS.replace(points=real(-3, 3, shape=(4,)))
CREASES = ATOMS.replace(knots=real(0, 4, shape=(3,)), slopes=real(0, 1, shape=(3,)))
BANDWIDTH = THREE_MEMBERS.replace(bandwidth=positive(0.1, 10))
TWO_ATOMS = Domain(target=simplex(2), members=simplex(shape=(2, 2)), weights=simplex(2))

Ensemble = tuple[Law, list[Law], Callable[[Float[Array, " K"]], Law]]  # target, members, the pool with given weights


def _on_atoms(target, members, points=None, **_) -> Ensemble:
    places = (jnp.arange(target.size, dtype=target.dtype) if points is None else points)[:, None]
    return FiniteLaw(places, target), [FiniteLaw(places, masses) for masses in members], lambda weights: FiniteLaw(places, weights @ members)


def _on_the_line(target_mean, target_variance, means, variances, **_) -> Ensemble:
    members = gaussians(means, variances)
    return gaussian(target_mean, target_variance), list(members), lambda weights: linear_pool(members, weights)


@dataclass(frozen=True)
class _Row:
    """One divergence: its name and symbol, the laws it is asked about, and why it is convex; `unlike` are mutants of its own."""

    name: str
    symbol: str
    divergence: Callable[..., Estimate]
    domain: Domain
    laws: Callable[..., Ensemble]
    convex: str
    references: tuple[str, ...]
    roots: bool = False  # whether the unsquared distance is tried as a mutant
    relative: bool = False  # whether margins are divided by 1 + bound, for divergences so large that rounding exceeds what claims allow


def _gain(row: _Row, instance: dict[str, Any], average: Float[Array, " K"], pooled: Float[Array, " K"], root: bool = False) -> Estimate:
    """sum_k average_k D(q_k) - D(pool with weights `pooled`)."""
    target, members, pool = row.laws(**instance)
    distances = [_rooted(row.divergence(target, member, **_options(instance)), root) for member in members]
    return _less(row, _weighted(average, distances), _rooted(row.divergence(target, pool(pooled), **_options(instance)), root))


def _leave_one_out(row: _Row, instance: dict[str, Any], left_out: int | None = None, root: bool = False) -> Estimate:
    """The average of D over the pools that leave one member out (or D of one of them), less D of the pool of all."""
    target, members, pool = row.laws(**instance)
    K = len(members)
    chosen = range(K) if left_out is None else (left_out,)
    pools = [pool(jnp.asarray((1 - np.eye(K)[k]) / (K - 1))) for k in chosen]
    distances = [_rooted(row.divergence(target, one, **_options(instance)), root) for one in pools]
    whole = row.divergence(target, pool(jnp.full(K, 1 / K)), **_options(instance))
    return _less(row, _weighted(jnp.full(len(pools), 1 / len(pools)), distances), _rooted(whole, root))


def _options(instance: dict[str, Any]) -> dict[str, Any]:
    return {name: instance[name] for name in ("bandwidth", "knots", "slopes") if name in instance}


def _weighted(weights: Float[Array, " K"], terms: list[Estimate]) -> Estimate:
    """sum_k w_k D_k, where a member of weight 0 counts for nothing even if its D is infinite."""
    total = closed_form(0.0)
    for weight, term in zip(weights, terms, strict=True):
        present = weight > 0
        total = total + Estimate(jnp.where(present, term.value, 0.0), jnp.where(present, term.error, 0.0), term.kind) * weight
    return total


def _less(row: _Row, bound: Estimate, pooled: Estimate) -> Estimate:
    """The bound less the pooled divergence, or 1 where the bound is infinite."""
    finite = jnp.isfinite(bound.value)
    above, below = (Estimate(jnp.where(finite, part.value, other), jnp.where(finite, part.error, 0.0), part.kind) for part, other in ((bound, 1.0), (pooled, 0.0)))
    return (above - below) * (1 / (1 + above.value) if row.relative else 1.0)


def _rooted(squared: Estimate, root: bool) -> Estimate:
    if not root:
        return squared
    positive_part = jnp.where(squared.value > 0, squared.value, 1.0)
    return closed_form(jnp.where(squared.value > 0, jnp.sqrt(positive_part), 0.0))


def _equal(row: _Row, weights: bool) -> Callable[[], Iterator[dict[str, Any]]]:
    """Instances whose members agree: where pooling gains nothing."""
    parts = {
        "target": [0.5, 0.25, 0.125, 0.125],
        "points": [0.0, 2.0, -1.0, 0.5],
        "knots": [0.5, 1.0, 2.0],
        "slopes": [0.5, 1.0, 0.25],
        "bandwidth": 0.5,
        "target_mean": 0.5,
        "target_variance": 2.0,
        "weights": [0.2, 0.3, 0.5],
    }

    def instances():
        for masses, mean, variance in (([0.25] * 4, 0.0, 1.0), ([0.125, 0.5, 0.25, 0.125], -2.0, 0.25)):
            whole = {**parts, "members": [masses] * 3, "means": [mean] * 3, "variances": [variance] * 3}
            yield {name: whole[name] for name in row.domain.parts if weights or name != "weights"}

    return instances


def _below_average(row: _Row) -> Claim:
    def margin(**instance) -> Estimate:
        return _gain(row, instance, instance["weights"], instance["weights"])

    def other_weights(**instance) -> Estimate:
        return _gain(row, instance, instance["weights"], jnp.full_like(instance["weights"], 1 / instance["weights"].size))

    def unsquared(**instance) -> Estimate:
        return _gain(row, instance, instance["weights"], instance["weights"], root=True)

    mutants = {"other-weights": Mutant("the pool has the weights of the average: equal ones, instead", other_weights)}
    return claim(
        id=f"linear-pool-{row.name}",
        statement=row.symbol.format(q=r"\sum_k w_k q_k") + r" \leq \sum_k w_k \, " + row.symbol.format(q="q_k"),
        source="Jensen's inequality for a divergence that is convex in the pooled law",
        domain=row.domain,
        kind="theorem",
        references=row.references,
        equality=_equal(row, weights=True),
        mutants={**mutants, "unsquared": Mutant("the square: the distance itself, instead", unsquared)} if row.roots else mutants,
        proof=row.convex,
    )(margin)


def _monotone(row: _Row) -> Claim:
    domain = Domain(**{name: part for name, part in row.domain.parts.items() if name != "weights"})

    def margin(**instance) -> Estimate:
        return _leave_one_out(row, instance)

    def one_smaller_pool(**instance) -> Estimate:
        return _leave_one_out(row, instance, left_out=2)

    return claim(
        id=f"linear-pool-{row.name}-monotone",
        statement=row.symbol.format(q=r"\bar{q}") + r" \leq \frac{1}{3} \sum_k " + row.symbol.format(q=r"\bar{q}_{-k}"),
        source="for exchangeable members: Mattei & Garreau (2025), here with the pools that leave one of three members out",
        domain=domain,
        kind="theorem",
        references=("mattei2025ensembles", *row.references),
        equality=_equal(row, weights=False),
        mutants={"one-smaller-pool": Mutant("the average: one of the smaller pools alone, instead", one_smaller_pool)},
        proof=f"The pool of all members is the average of the pools that leave one out. {row.convex}",
    )(margin)


def _creased(p: FiniteLaw, q: FiniteLaw, knots: Float[Array, " m"], slopes: Float[Array, " m"]) -> Estimate:
    """The f-divergence of f(t) = sum_j slope_j |t - knot_j|, less f(1); every convex f is a limit of such, up to a linear function that changes nothing."""
    gaps = jnp.abs(p.weights[:, None] - knots[None, :] * q.weights[:, None])
    return closed_form(slopes @ (jnp.sum(gaps, axis=0) - jnp.abs(1 - knots)))


_JOINTLY = "(p, q) -> q f(p / q) is the perspective of the convex f, hence jointly convex."
KL = _Row("kl", r"\mathrm{{KL}}(p \,\|\, {q})", kl, THREE_MEMBERS, _on_the_line, "-log is convex.", ("genest1986combining",))
REVERSE_KL = _Row(
    "reverse-kl",
    r"\mathrm{{KL}}({q} \,\|\, p)",
    lambda p, q: kl(q, p),
    THREE_MEMBERS,
    _on_the_line,
    "t log t is convex; the gain is sum_k w_k KL(q_k || pool), whatever p.",
    ("genest1986combining", "cover2006elements"),
)
CHI2 = _Row("chi2", r"\chi^2(p \,\|\, {q})", chi_squared, ATOMS, _on_atoms, "1/t is convex, so p^2 / q is convex in q.", ("csiszar1967information",), relative=True)
TV = _Row("tv", r"\mathrm{{TV}}(p, {q})", total_variation, ATOMS, _on_atoms, "A norm of p - q is convex in q.", ("csiszar1967information",))
HELLINGER2 = _Row("hellinger2", r"H^2(p, {q})", hellinger_squared, ATOMS, _on_atoms, "The root of q is concave.", ("csiszar1967information",), roots=True)
W1 = _Row("w1", r"W_1(p, {q})", w1, PLACES, _on_atoms, "A mixture of optimal plans is a plan to the pool.", ("villani2009optimal",))
W2SQ = _Row(
    "w2sq",
    r"W_2^2(p, {q})",
    w2_squared,
    PLACES,
    _on_atoms,
    "A mixture of optimal plans is a plan to the pool.",
    ("villani2009optimal",),
    roots=True,
)
MMD2 = _Row("mmd2", r"\mathrm{{MMD}}^2(p, {q})", mmd_squared, BANDWIDTH, _on_the_line, "A squared Hilbert norm of an affine function of q is convex.", ("gretton2012kernel",))
F_DIVERGENCE = _Row("f-divergence", r"D_f(p \,\|\, {q})", _creased, CREASES, _on_atoms, _JOINTLY, ("csiszar1967information",))

linear_pool_reverse_kl = _below_average(REVERSE_KL)
linear_pool_chi2 = _below_average(CHI2)
linear_pool_tv = _below_average(TV)
linear_pool_hellinger2 = _below_average(HELLINGER2)
linear_pool_w1 = _below_average(W1)
linear_pool_w2sq = _below_average(W2SQ)
linear_pool_mmd2 = _below_average(MMD2)
linear_pool_f_divergence = _below_average(F_DIVERGENCE)

linear_pool_kl_monotone = _monotone(KL)
linear_pool_reverse_kl_monotone = _monotone(REVERSE_KL)
linear_pool_chi2_monotone = _monotone(CHI2)
linear_pool_tv_monotone = _monotone(TV)
linear_pool_hellinger2_monotone = _monotone(HELLINGER2)
linear_pool_w1_monotone = _monotone(W1)
linear_pool_w2sq_monotone = _monotone(W2SQ)
linear_pool_mmd2_monotone = _monotone(MMD2)
linear_pool_f_divergence_monotone = _monotone(F_DIVERGENCE)


@claim(
    id="linear-pool-hellinger",
    statement=r"H(p, \sum_k w_k q_k) \leq \sum_k w_k \, H(p, q_k), \quad H^2(p, q) = 1 - \sum \sqrt{p q}",
    source="linear-pool-hellinger2 for the distance itself; refuted here, with two atoms",
    domain=TWO_ATOMS,
    kind="refuted",
    references=("csiszar1967information",),
    proof="p and one member at an atom, the other member at the other: sqrt(1 - 1/sqrt 2) > 1/2.",
)
def linear_pool_hellinger(target, members, weights) -> Estimate:
    """The gain of the linear pool in the Hellinger distance."""
    return _gain(HELLINGER2, {"target": target, "members": members, "weights": weights}, weights, weights, root=True)


@claim(
    id="linear-pool-w2",
    statement=r"W_2(p, \sum_k w_k q_k) \leq \sum_k w_k \, W_2(p, q_k)",
    source="linear-pool-w2sq for the distance itself; refuted here, with the atoms 0 and 1",
    domain=TWO_ATOMS,
    kind="refuted",
    references=("villani2009optimal",),
    proof="p and one member at 0, the other member at 1: sqrt(1/2) > 1/2.",
)
def linear_pool_w2(target, members, weights) -> Estimate:
    """The gain of the linear pool in W2."""
    return _gain(W2SQ, {"target": target, "members": members, "weights": weights}, weights, weights, root=True)
