r"""EM for a Gaussian mixture with full covariances, rows weighted, values missing at random.

Row i has observed coordinates o (missing ones u) and weight w_i; n = sum_i w_i. The observed-data log-likelihood is exact,

    l = sum_i w_i log sum_k pi_k N(x_io; m_k,o, S_k,oo),        penalised by  - (ridge n / 2) sum_k tr S_k^{-1}.

Without the penalty l is unbounded: a component that sits on one row and shrinks gains without end. With ridge > 0 it is bounded, for the penalty falls like the inverse
of the smallest variance while l grows like its logarithm. The penalty is the logarithm of an (improper) prior density, so the fit is a maximum a posteriori one. Columns
are in units of their own standard deviations, so that `ridge` is a fraction of each column's variance.

E-step.  r_ik = pi_k N(x_io; m_k,o, S_k,oo) / sum_j (same of j), and given component k
         xhat_ik = E[x_i | x_io, k] = m_k + S_k,:o S_k,oo^{-1} (x_io - m_k,o),     C_ik = Cov[x_i | x_io, k] = S_k - S_k,:o S_k,oo^{-1} S_k,o:.
M-step.  N_k = sum_i w_i r_ik,   pi_k = N_k / n,   m_k = sum_i w_i r_ik xhat_ik / N_k,
         S_k = ( sum_i w_i r_ik [ (xhat_ik - m_k)(xhat_ik - m_k)^T + C_ik ] + ridge n I ) / N_k.
(Dempster, Laird & Rubin 1977; Ghahramani & Jordan 1994; the penalty adds the constant matrix to the scatter because it is linear in S_k^{-1}.) As a function of S_k the
maximised expression is -N_k/2 ( log det S_k + tr(S_k^{-1} T_k) ) with T_k the matrix above; when covariances are confined to a family, its maximiser there replaces T_k.

Masking: with D the diagonal 0/1 matrix of o, the matrix D S D + (I - D) has the determinant of S_oo and acts on o as S_oo does, so every row has the same shape.
Complete rows need no factorisation of their own: whitening z = L_k^{-1} (x - m_k) is one product for all components and rows. Rows are taken in blocks that fit the
cache; the moments of blocks pool exactly (scatter within plus scatter between), by sums of positive semi-definite matrices only, so no covariance loses its sign to
rounding.
"""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ensembletheory.fitting.em import Climb, climb
from ensembletheory.fitting.rows import Rows, blocks
from ensembletheory.fitting.seeding import settled_centres, spread_centres, within_covariance
from ensembletheory.linalg import cholesky, substitute

__all__ = ["MixtureParameters", "ascend", "block_size", "condition", "fit", "observed_log_prob", "start", "step"]

Nearest = Callable[[Float[Array, "d d"]], Float[Array, "d d"]]

_CACHE = 2**16  # numbers a block's largest array may hold: half a megabyte in 64 bits
_TRIAL_STEPS = 10  # EM steps every start gets before the best goes on (Biernacki, Celeux & Govaert 2003)


class MixtureParameters(eqx.Module):
    """Weights, means and covariances of the components."""

    weights: Float[Array, "... K"]
    means: Float[Array, "... K d"]
    covs: Float[Array, "... K d d"]


class Moments(eqx.Module):
    """Of some rows: their weighted log-likelihood and, for each component, expected weight, mean and scatter about that mean."""

    log_likelihood: Float[Array, "..."]
    mass: Float[Array, "... K"]
    means: Float[Array, "... K d"]
    scatters: Float[Array, "... K d d"]


def unconstrained(cov: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Any covariance is admitted."""
    return cov


def fit(
    key: PRNGKeyArray,
    rows: Rows,
    K: int,
    starts: int,
    ridge: Float[Array, ""],
    tolerance: Float[Array, ""],
    max_iterations: Int[Array, ""],
    nearest: Nearest = unconstrained,
) -> Climb:
    """The best of `starts` short climbs, continued until it converges; `nearest` maps a covariance to the admitted one of least divergence from it."""
    cut = blocks(rows, block_size(rows, K))
    begun = jax.vmap(lambda key: constrained(start(key, rows, K, ridge), nearest))(jax.random.split(key, starts))

    def stage(best: Climb, index: Array):
        last = index == starts
        own = jax.tree.map(lambda leaf: leaf[jnp.minimum(index, starts - 1)], begun)
        begin = jax.tree.map(lambda carried, fresh: jnp.where(last, carried, fresh), best.parameters, own)
        end = ascend(begin, cut, ridge, tolerance, jnp.where(last, max_iterations, _TRIAL_STEPS), nearest)
        take = last | (end.objective > best.objective)
        return jax.tree.map(lambda new, old: jnp.where(take, new, old), end, best), None

    nothing = Climb(jax.tree.map(lambda leaf: leaf[0], begun), jnp.asarray(-jnp.inf, dtype=ridge.dtype), jnp.asarray(0), jnp.asarray(False))
    return jax.lax.scan(stage, nothing, jnp.arange(starts + 1))[0]


def start(key: PRNGKeyArray, rows: Rows, K: int, ridge: Float[Array, ""]) -> MixtureParameters:
    """Equal weights, spread centres, and one pooled covariance."""
    d = rows.values.shape[1]
    centres = settled_centres(rows.values, rows.weights, spread_centres(key, rows.values, rows.weights, K))
    cov = within_covariance(rows.values, rows.weights, centres) + jnp.maximum(ridge, jnp.finfo(ridge.dtype).eps ** 0.5) * jnp.eye(d)
    return MixtureParameters(jnp.full((K,), 1 / K), centres, jnp.broadcast_to(cov, (K, d, d)))


def ascend(
    begin: MixtureParameters, cut: Rows, ridge: Float[Array, ""], tolerance: Float[Array, ""], max_iterations: Int[Array, ""], nearest: Nearest = unconstrained
) -> Climb:
    """EM from `begin` on rows cut into blocks."""
    return climb(lambda parameters: step(parameters, cut, ridge, nearest), begin, tolerance, max_iterations)


def constrained(parameters: MixtureParameters, nearest: Nearest) -> MixtureParameters:
    """The parameters with each covariance replaced by the nearest admitted one."""
    return MixtureParameters(parameters.weights, parameters.means, jax.vmap(nearest)(parameters.covs))


def step(parameters: MixtureParameters, cut: Rows, ridge: Float[Array, ""], nearest: Nearest = unconstrained) -> tuple[Float[Array, ""], MixtureParameters]:
    """The penalised log-likelihood of the parameters per unit of weight, and the parameters after one EM step."""
    whiteners = jax.vmap(_inverse_root)(parameters.covs)
    expect = _expect_complete if cut.observed is None else _expect_missing
    moments = pooled(jax.lax.map(lambda block: expect(parameters, whiteners, block), cut))
    penalty = -0.5 * ridge * jnp.sum(whiteners**2)
    return moments.log_likelihood / jnp.sum(moments.mass) + penalty, constrained(_maximise(moments, ridge), nearest)


def pooled(parts: Moments) -> Moments:
    """The moments of all blocks together, from those of each (leading axis)."""
    mass = jnp.sum(parts.mass, axis=0)
    means = jnp.einsum("bk,bki->ki", parts.mass, parts.means) / _positive(mass)[:, None]
    apart = parts.means - means[None]
    between = jnp.einsum("bk,bki,bkj->kij", parts.mass, apart, apart)
    return Moments(jnp.sum(parts.log_likelihood), mass, means, jnp.sum(parts.scatters, axis=0) + between)


def _maximise(moments: Moments, ridge: Float[Array, ""]) -> MixtureParameters:
    """The M-step; a component whose mass has faded below rounding keeps a finite covariance."""
    total = jnp.sum(moments.mass)
    held = jnp.maximum(moments.mass, jnp.finfo(total.dtype).eps * total)
    scatters = moments.scatters + ridge * total * jnp.eye(moments.means.shape[1])[None]
    return MixtureParameters(moments.mass / total, moments.means, scatters / held[:, None, None])


def _expect_complete(parameters: MixtureParameters, whiteners: Float[Array, "K d d"], block: Rows) -> Moments:
    """The E-step of rows without missing values, component-major: arrays are (K, d, rows)."""
    X = block.values.T
    z = jnp.einsum("kij,jb->kib", whiteners, X) - jnp.einsum("kij,kj->ki", whiteners, parameters.means)[:, :, None]
    log_volume = jnp.sum(jnp.log(jnp.diagonal(whiteners, axis1=1, axis2=2)), axis=1)
    log_joint = (jnp.log(parameters.weights) + log_volume)[:, None] - 0.5 * (jnp.sum(z**2, axis=1) + X.shape[0] * math.log(2 * math.pi))
    log_likelihood, shares = _responsibilities(log_joint, block.weights)
    mass = jnp.sum(shares, axis=1)
    means = shares @ X.T / _positive(mass)[:, None]
    centred = X[None] - means[:, :, None]
    return Moments(log_likelihood, mass, means, jnp.einsum("kib,kjb->kij", centred * shares[:, None, :], centred))


def _expect_missing(parameters: MixtureParameters, whiteners: Float[Array, "K d d"], block: Rows) -> Moments:
    """The E-step of rows with missing values: one factorisation a row and component."""
    per_row = jax.vmap(condition, (None, None, 0, 0))
    log_probs, filled, spreads = jax.vmap(per_row, (0, 0, None, None))(parameters.means, parameters.covs, block.values, block.observed)
    log_likelihood, shares = _responsibilities(jnp.log(parameters.weights)[:, None] + log_probs, block.weights)
    mass = jnp.sum(shares, axis=1)
    means = jnp.einsum("kb,kbi->ki", shares, filled) / _positive(mass)[:, None]
    centred = filled - means[:, None, :]
    scatters = jnp.einsum("kbi,kbj->kij", shares[:, :, None] * centred, centred) + jnp.einsum("kb,kbij->kij", shares, spreads)
    return Moments(log_likelihood, mass, means, scatters)


def observed_log_prob(parameters: MixtureParameters, x: Float[Array, " d"], observed: Bool[Array, " d"]) -> Float[Array, ""]:
    """The log-density of the observed coordinates of one row; the others are 0."""
    log_probs = jax.vmap(lambda mean, cov: condition(mean, cov, x, observed)[0])(parameters.means, parameters.covs)
    return jax.nn.logsumexp(jnp.log(parameters.weights) + log_probs)


def condition(mean: Float[Array, " d"], cov: Float[Array, "d d"], x: Float[Array, " d"], observed):
    """For x ~ N(mean, cov): log-density of the observed coordinates, E[x | them], Cov[x | them]."""
    seen = observed.astype(x.dtype)
    gap = seen * (x - mean)
    root = cholesky(seen[:, None] * cov * seen[None, :] + jnp.diag(1 - seen))
    whitened = substitute(root, jnp.concatenate([gap[:, None], seen[:, None] * cov], axis=1))
    z, gains = whitened[:, 0], whitened[:, 1:]
    log_prob = -0.5 * (z @ z + jnp.sum(seen) * math.log(2 * math.pi)) - jnp.sum(jnp.log(jnp.diagonal(root)))
    hidden = 1 - seen
    spread = hidden[:, None] * (cov - gains.T @ gains) * hidden[None, :]
    return log_prob, jnp.where(observed, x, mean + gains.T @ z), spread


def _responsibilities(log_joint: Float[Array, "K b"], weights: Float[Array, " b"]) -> tuple[Float[Array, ""], Float[Array, "K b"]]:
    """The weighted log-likelihood, and each component's share of each row's weight."""
    log_probs = jax.nn.logsumexp(log_joint, axis=0)
    return weights @ log_probs, jnp.exp(log_joint - log_probs[None, :]) * weights[None, :]


def _inverse_root(cov: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """The inverse of the lower Cholesky factor."""
    return substitute(cholesky(cov), jnp.eye(cov.shape[0]))


def _positive(mass: Float[Array, " K"]) -> Float[Array, " K"]:
    """A mass one may divide by: a component that owns nothing has moments 0."""
    return jnp.maximum(mass, jnp.finfo(mass.dtype).tiny)


def block_size(rows: Rows, K: int) -> int:
    """How many rows a block holds."""
    n, d = rows.values.shape
    numbers_a_row = K * d if rows.observed is None else K * d * (d + 1)
    return min(n, max(16, _CACHE // numbers_a_row))
