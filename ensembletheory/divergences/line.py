r"""Wasserstein distances on the line, where the monotone coupling is optimal for every convex cost.

- Densities: W2^2 = E_p (x - T(x))^2 with T = F_q^{-1} o F_p, by quadrature; panels break at the marks of p and at the pre-images of those of q, so that a jump of T over
a gap of q falls on a break. W1 = int |F_p - F_q|, each difference taken in the tail where both are small.
- Gaussians: W1 = E|m_p - m_q + (s_p - s_q) Z|, the mean of a folded normal law.
- Two laws of finite support: the sum over levels u at which neither quantile function jumps.
- Finite support x_1 < ... < x_n against a density: x_i is sent to the cell between the quantiles of levels w_1 + ... + w_{i-1} and w_1 + ... + w_i; moments of a Gaussian
on an interval are closed forms, those of a grid law integrals.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, ndtr
from jax.scipy.stats import norm
from jax.tree_util import Partial
from jaxtyping import Array, Float

from ensembletheory.divergences.pairs import Components, components, joint_breaks
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.laws import FiniteLaw, Gaussian, Law
from ensembletheory.laws.expectation import breaks
from ensembletheory.laws.univariate import log_tail, quantile, smaller_tail
from ensembletheory.quadrature import integrate

__all__ = ["line_distance"]

_FAR = 40.0  # standard deviations at which a normal density underflows
_LEAST = 1e-300


def line_distance(p: Law, q: Law, power: int, rtol: float | None) -> Estimate:
    """W1 for power 1, W2^2 for power 2, of two laws on the line that are not both Gaussian for power 2."""
    if isinstance(p, FiniteLaw) and isinstance(q, FiniteLaw):
        return closed_form(_between_atoms(p, q, power))
    if isinstance(p, FiniteLaw):
        return _atoms_against(p, q, power, rtol)
    if isinstance(q, FiniteLaw):
        return _atoms_against(q, p, power, rtol)
    if power == 2:
        return integrate(Partial(_squared_move, p, q), (_breaks_with_preimages(p, q),), rtol)
    if isinstance(p, Gaussian) and isinstance(q, Gaussian):
        return closed_form(_folded(p, q))
    return integrate(Partial(_tail_gap, p, q), joint_breaks(p, q), rtol)


@eqx.filter_jit
def _folded(p: Gaussian, q: Gaussian) -> Float[Array, ""]:
    shift = p.mean[0] - q.mean[0]
    S, R = p.cov[0, 0], q.cov[0, 0]
    spread = jnp.abs(S - R) / (jnp.sqrt(S) + jnp.sqrt(R))
    ratio = shift / jnp.where(spread > 0, spread, 1.0)
    folded = spread * jnp.sqrt(2 / jnp.pi) * jnp.exp(-(ratio**2) / 2) + shift * erf(ratio / np.sqrt(2))
    return jnp.asarray(jnp.where(spread > 0, folded, jnp.abs(shift)))


def _squared_move(p: Law, q: Law, x: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    image = quantile(q, *smaller_tail(p, x[0]))
    density = jnp.exp(p._log_prob(x))
    return density * (x[0] - image) ** 2, density * (x[0] ** 2 + image**2)


@eqx.filter_jit
def _breaks_with_preimages(p: Law, q: Law) -> Float[Array, " n"]:
    (own,), (other,) = breaks(p, ()), breaks(q, ())
    preimages = jax.vmap(lambda y: quantile(p, *smaller_tail(q, y)))(other)
    return jnp.sort(jnp.concatenate([own, jnp.clip(preimages, own[0], own[-1])]))


def _tail_gap(p: Law, q: Law, x: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """|F_p - F_q| with its scale."""
    below, above = (jnp.stack([log_tail(law, x[0], jnp.asarray(side)) for law in (p, q)]) for side in (1.0, -1.0))
    logs = jnp.where(jnp.max(below) < jnp.max(above), below, above)
    tails = jnp.exp(logs)
    return jnp.abs(tails[0] - tails[1]), jnp.sum(tails * (1 + jnp.abs(jnp.where(tails > 0, logs, 0.0))))


@eqx.filter_jit
def _between_atoms(p: FiniteLaw, q: FiniteLaw, power: int) -> Float[Array, ""]:
    (x, cumulated), (y, others) = (_ordered(law) for law in (p, q))
    levels = jnp.sort(jnp.concatenate([jnp.zeros(1, x.dtype), cumulated, others]))
    middle = (levels[1:] + levels[:-1]) / 2
    at_p, at_q = (points[jnp.clip(jnp.searchsorted(sums, middle), 0, points.size - 1)] for points, sums in ((x, cumulated), (y, others)))
    return jnp.diff(levels) @ jnp.abs(at_p - at_q) ** power


def _ordered(law: FiniteLaw) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Atoms in increasing order, and their cumulated probabilities."""
    order = jnp.argsort(law.points[:, 0])
    return law.points[order, 0], jnp.cumsum(law.weights[order])


def _atoms_against(finite: FiniteLaw, law: Law, power: int, rtol: float | None) -> Estimate:
    parts = components(law)
    if parts is not None:
        return closed_form(_cells(finite, law, parts, power))
    atoms, cuts = _cut(finite, law)
    (marks,) = breaks(law, ())
    inner = jnp.clip(jnp.concatenate([atoms, cuts]), marks[0], marks[-1])
    return integrate(Partial(_to_atom, law, atoms, cuts, jnp.asarray(power)), (jnp.sort(jnp.concatenate([marks, inner])),), rtol)


@eqx.filter_jit
def _cut(finite: FiniteLaw, law: Law) -> tuple[Float[Array, " n"], Float[Array, " n-1"]]:
    """The atoms in increasing order, and the points that part the cells sent to them."""
    atoms, cumulated = _ordered(finite)
    below, above = cumulated[:-1], cumulated[-1] - cumulated[:-1]
    low = below < above
    log_tails = jnp.log(jnp.maximum(jnp.where(low, below, above), _LEAST))
    return atoms, jax.vmap(lambda side, log_probability: quantile(law, side, log_probability))(jnp.where(low, 1.0, -1.0), log_tails)


def _to_atom(law: Law, atoms: Float[Array, " n"], cuts: Float[Array, " m"], power: Array, x: Float[Array, " 1"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    gap = jnp.abs(x[0] - atoms[jnp.sum(x[0] > cuts)])
    value = jnp.exp(law._log_prob(x)) * jnp.where(power == 1, gap, gap**2)
    return value, value


@eqx.filter_jit
def _cells(finite: FiniteLaw, law: Law, parts: Components, power: int) -> Float[Array, ""]:
    atoms, cuts = _cut(finite, law)
    weights, means, scales = parts[0], parts[1][:, 0], jnp.sqrt(parts[2][:, 0, 0])
    ends = jnp.concatenate([jnp.min(means - _FAR * scales)[None], cuts, jnp.max(means + _FAR * scales)[None]])
    moments = jax.vmap(lambda m, s: jnp.sum(_moment(m, s, ends[:-1], ends[1:], atoms, power)))(means, scales)
    return weights @ moments


def _moment(m: Array, s: Array, low: Array, high: Array, a: Array, power: int) -> Array:
    """The integral of |x - a|^power under N(m, s^2) from low to high."""
    if power == 2:
        alpha, beta, mass, edge = _interval(m, s, low, high)
        return ((m - a) ** 2 + s**2) * mass + s**2 * (alpha * norm.pdf(alpha) - beta * norm.pdf(beta)) + 2 * s * (m - a) * edge
    split = jnp.clip(a, low, high)
    (_, _, mass_above, edge_above), (_, _, mass_below, edge_below) = _interval(m, s, split, high), _interval(m, s, low, split)
    return (m - a) * (mass_above - mass_below) + s * (edge_above - edge_below)


def _interval(m: Array, s: Array, low: Array, high: Array) -> tuple[Array, Array, Array, Array]:
    """Standardised ends, the probability between them, and phi(alpha) - phi(beta)."""
    alpha, beta = (low - m) / s, (high - m) / s
    flip = jnp.where(alpha > 0, -1.0, 1.0)
    mass = jnp.abs(ndtr(flip * beta) - ndtr(flip * alpha))
    return alpha, beta, mass, norm.pdf(alpha) - norm.pdf(beta)
