r"""What is missing given what is observed, exactly, for rows with holes under a Gaussian, a Gaussian mixture, a PPCA or a mixture of PPCAs.

A row x has observed coordinates o and missing ones u. Values are missing at random: the mechanism then drops out of the law of x_u given x_o, and of the likelihood of the
parameters. For x ~ N(m, S):

    x_u | x_o ~ N( m_u + S_uo S_oo^{-1} (x_o - m_o),   S_uu - S_uo S_oo^{-1} S_ou );

for a mixture each component is conditioned, and its weight is multiplied by N(x_o; m_k,o, S_k,oo) and renormalised. With r_k these weights, m_k(x_o) and C_k the components'
conditional means and covariances,

    E[x_u | x_o] = sum_k r_k m_k(x_o),      Var[x_j | x_o] = sum_k r_k [ C_k,jj + (m_k,j(x_o) - E[x_j | x_o])^2 ].

Rows of the same mask share one factorisation a component. With D the diagonal 0/1 matrix of o, and P = W^T W the inverse of D S D + (I - D):

    z = W D (x - m),    log N(x_o; m_o, S_oo) = -1/2 (|z|^2 + log det S_oo + |o| log 2 pi),    E[x | x_o] = m + (W D S)^T z,
    root of Cov[x | x_o]:   R = (I - S D P D) L   with L L^T = S,

for if y ~ N(0, S) then y - S D P D y has the conditional covariance (it is the error of the regression on y_o) and is independent of x_o. So a draw needs no second
factorisation, and variances are sums of squares. A covariance F F^T + diag(noise) is conditioned through its factors, in O(d k^2) a mask and O(d k) a row:

    z | x_o ~ N(M^{-1} F_o^T N_o^{-1} (x_o - m_o), M^{-1}),    M = I + F_o^T N_o^{-1} F_o,    x_u = m_u + F_u z + noise

(Tipping & Bishop 1999 for PPCA). A row wholly missing has the law itself as its conditional, a row wholly observed is left as it is and has variance 0.
"""

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.covariance import LowRankPlusDiagonal
from ensembletheory.errors import Numbers, checked_count, is_concrete, refuse
from ensembletheory.imputation.tiles import Tiles, read_rows, restored, tiled
from ensembletheory.latent import Ppca, PpcaMixture
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.laws.gaussian import is_singular
from ensembletheory.laws.mixture import weighted_components
from ensembletheory.laws.weights import log_weighted_sum, relative_terms
from ensembletheory.linalg import cholesky, substitute

__all__ = ["Model", "conditional_draws", "conditional_law", "conditional_mean", "conditional_variance", "observed_log_prob"]

_LOG_2PI = math.log(2 * math.pi)

Model = Gaussian | GaussianMixture | Ppca | PpcaMixture


def observed_log_prob(law: Model, X: Numbers) -> Float[Array, " n"]:
    """The log-density in nats of the observed coordinates of each row of X (n, d), NaN = missing; 0 for a row wholly missing.

    Raises:
        ValueError: if X is not a table of numbers with the columns of the law, holds an infinity, or the law is singular.
        TypeError: if the law is of another kind.
    """
    return _answered(law, X)[0]


def conditional_mean(law: Model, X: Numbers) -> Float[Array, "n d"]:
    """E[x | x_o] of each row of X (n, d), NaN = missing: observed values are kept.

    Raises:
        ValueError: if X is not a table of numbers with the columns of the law, holds an infinity or rows that overflow under every component, or the law is singular.
        TypeError: if the law is of another kind.
    """
    return _known(_answered(law, X)[1])


def conditional_variance(law: Model, X: Numbers) -> Float[Array, "n d"]:
    """Var[x_j | x_o] of each entry of X (n, d), NaN = missing: 0 where observed.

    Raises:
        ValueError: if X is not a table of numbers with the columns of the law, holds an infinity or rows that overflow under every component, or the law is singular.
        TypeError: if the law is of another kind.
    """
    return _known(_answered(law, X)[2])


def conditional_draws(key: PRNGKeyArray, law: Model, X: Numbers, n: int) -> Float[Array, "n rows d"]:
    """`n` completed copies of X (rows, d), NaN = missing: in each the missing part of every row is drawn from its exact conditional, independently.

    Raises:
        ValueError: if X is not a table of numbers with the columns of the law, holds an infinity or rows that overflow under every component, n < 1, or the law is
            singular.
        TypeError: if the law is of another kind.
    """
    model, tiles, places = _checked(law, X)
    return _known(restored(places, _drawn(key, model, tiles, checked_count("n", n, 1)), axis=2))


def conditional_law(law: Model, x: Numbers) -> Gaussian | GaussianMixture:
    """The law of the missing coordinates of one row x (d,), in order, given the observed ones; of a row wholly missing, the law itself.

    Raises:
        ValueError: if x is not a row with the law's dimension, holds an infinity, or nothing in it is missing.
        TypeError: if the law is of another kind.
    """
    whole = _of_observables(law)
    row = read_rows(np.asarray(x)[None], whole.dim)[0]
    seen = np.flatnonzero(~np.isnan(row))
    if seen.size == row.size:
        refuse("x", "a row wholly observed", "at least one NaN", "Nothing of it is random: its conditional is the row itself.")
    return whole.condition(seen.tolist(), row[seen]) if seen.size else whole  # pyright: ignore[reportReturnType]


class _Given(eqx.Module):
    """A Gaussian and a mask: what its conditionals need and no row changes."""

    mean: eqx.AbstractVar[Float[Array, " d"]]
    log_volume: eqx.AbstractVar[Float[Array, ""]]  # log det (2 pi S_oo)

    @abstractmethod
    def whitened(self, gaps: Float[Array, "t d"]) -> Float[Array, "t w"]:
        """Of gaps x - m, 0 where missing: vectors whose squared length is that of the gap in the metric of S_oo."""

    @abstractmethod
    def shifts(self, whitened: Float[Array, "t w"]) -> Float[Array, "t d"]:
        """E[x | x_o] - m on the missing coordinates."""

    @abstractmethod
    def noise(self, z: Float[Array, "t v"]) -> Float[Array, "t d"]:
        """Of standard normal vectors: vectors with the conditional covariance, 0 where observed."""

    @abstractmethod
    def variances(self) -> Float[Array, " d"]:
        """The diagonal of the conditional covariance, 0 where observed."""


class _Dense(_Given):
    mean: Float[Array, " d"]
    log_volume: Float[Array, ""]
    whitener: Float[Array, "d d"]
    regressor: Float[Array, "d d"]
    root: Float[Array, "d d"]

    def whitened(self, gaps: Float[Array, "t d"]) -> Float[Array, "t w"]:
        return gaps @ self.whitener.T

    def shifts(self, whitened: Float[Array, "t w"]) -> Float[Array, "t d"]:
        return whitened @ self.regressor

    def noise(self, z: Float[Array, "t v"]) -> Float[Array, "t d"]:
        return z @ self.root.T

    def variances(self) -> Float[Array, " d"]:
        return jnp.sum(self.root**2, axis=1)


class _LowRank(_Given):
    mean: Float[Array, " d"]
    log_volume: Float[Array, ""]
    scaled: Float[Array, "d k"]  # N_o^{-1/2} F_o
    precision: Float[Array, " d"]  # N_o^{-1/2}
    latent_root: Float[Array, "k k"]  # of M^{-1}
    loadings: Float[Array, "d k"]  # F_u
    noise_scale: Float[Array, " d"]  # N_u^{1/2}

    def whitened(self, gaps: Float[Array, "t d"]) -> Float[Array, "t w"]:
        y = gaps * self.precision[None, :]
        z = y @ self.scaled @ self.latent_root @ self.latent_root.T
        return jnp.concatenate([y - z @ self.scaled.T, z], axis=1)

    def shifts(self, whitened: Float[Array, "t w"]) -> Float[Array, "t d"]:
        return whitened[:, self.mean.size :] @ self.loadings.T

    def noise(self, z: Float[Array, "t v"]) -> Float[Array, "t d"]:
        d = self.mean.size
        return z[:, :d] * self.noise_scale[None, :] + z[:, d:] @ self.latent_root.T @ self.loadings.T

    def variances(self) -> Float[Array, " d"]:
        return self.noise_scale**2 + jnp.sum((self.loadings @ self.latent_root) ** 2, axis=1)


def _given(component: Gaussian, lower: Float[Array, "d d"] | None, observed: Bool[Array, " d"]) -> _Given:
    """What the conditionals of one component need; `lower` is a root of its covariance, of which factors need none."""
    if lower is None:
        return _given_factors(component.mean, component.covariance, observed)  # pyright: ignore[reportArgumentType]
    seen, S = observed.astype(component.mean.dtype), component.cov
    factor = cholesky(seen[:, None] * S * seen[None, :] + jnp.diag(1 - seen))
    whitener = substitute(factor, jnp.diag(seen))
    regressor = whitener @ S * (1 - seen)[None, :]
    root = (1 - seen)[:, None] * lower - regressor.T @ (whitener @ lower)
    return _Dense(component.mean, 2 * jnp.sum(jnp.log(jnp.diagonal(factor))) + jnp.sum(seen) * _LOG_2PI, whitener, regressor, root)


def _given_factors(mean: Float[Array, " d"], covariance: LowRankPlusDiagonal, observed: Bool[Array, " d"]) -> _LowRank:
    F, noise, seen = covariance.loadings, covariance.noise, observed.astype(mean.dtype)
    scaled = (precision := seen / jnp.sqrt(noise))[:, None] * F
    identity = jnp.eye(F.shape[1], dtype=F.dtype)
    factor = cholesky(identity + scaled.T @ scaled)
    log_volume = 2 * jnp.sum(jnp.log(jnp.diagonal(factor))) + seen @ (jnp.log(noise) + _LOG_2PI)
    return _LowRank(mean, log_volume, scaled, precision, substitute(factor, identity).T, (1 - seen)[:, None] * F, (1 - seen) * jnp.sqrt(noise))


class _Tile(eqx.Module):
    """Rows of one mask, and each component's log-densities and conditional means of them."""

    weights: Float[Array, " K"]
    given: _Given  # batched: every leaf has a leading axis K
    values: Float[Array, "t d"]
    observed: Bool[Array, " d"]
    log_probs: Float[Array, "K t"]
    means: Float[Array, "K t d"]

    def shares(self) -> Float[Array, "K t"]:
        """The components' probabilities given what is observed; NaN where all their log-densities overflow, which tells nothing of several."""
        if len(self.weights) == 1:
            return jnp.ones_like(self.log_probs)
        return jax.vmap(relative_terms, (None, 1), 1)(self.weights, self.log_probs)

    def kept(self, results: Float[Array, "t d"]) -> Float[Array, "t d"]:
        """The observed values, and the results where they are missing."""
        return jnp.where(self.observed[None, :], self.values, results)


def _moments(tile: _Tile) -> tuple[Float[Array, " t"], Float[Array, "t d"], Float[Array, "t d"]]:
    """Log-density of what is observed, conditional mean and variance."""
    mean = jnp.einsum("kt,ktd->td", tile.shares(), tile.means)
    within = jnp.einsum("kt,kd->td", tile.shares(), jax.vmap(lambda given: given.variances())(tile.given))
    between = jnp.einsum("kt,ktd->td", tile.shares(), (tile.means - mean[None]) ** 2)
    variance = jnp.where(tile.observed[None, :], 0.0, within + between)
    return jax.vmap(log_weighted_sum, (None, 1))(tile.weights, tile.log_probs), tile.kept(mean), variance


def _draws(tile: _Tile, noise: tuple[Float[Array, "n t"], Float[Array, "n t v"]]) -> Float[Array, "n t d"]:
    steps = jnp.cumsum(tile.shares(), axis=0)

    def one(part):
        uniform, z = part
        label = jnp.sum((uniform * steps[-1])[None, :] >= steps, axis=0)
        candidates = tile.means + jax.vmap(lambda given: given.noise(z))(tile.given)
        drawn = jnp.einsum("tk,ktd->td", jax.nn.one_hot(label, len(steps), dtype=steps.dtype), candidates)
        return tile.kept(jnp.where(jnp.isnan(steps[-1])[:, None], jnp.nan, drawn))

    return jax.lax.map(one, noise)


def _scanned(law: Model, tiles: Tiles, ask: Callable[..., Any], extra: Any = None) -> Any:
    """`ask` of each tile (and of its slice of `extra`), with one factorisation a mask and component."""
    weights, components = weighted_components(_of_observables(law))
    lowers = None if isinstance(components.covariance, LowRankPlusDiagonal) else jax.vmap(lambda component: cholesky(component.cov))(components)

    def given(observed):
        return jax.vmap(_given, (0, 0, None))(components, lowers, observed)

    def step(carried, part):
        values, observed, fresh, own = part
        held = jax.lax.cond(fresh, given, lambda _: carried, observed)
        gaps = jnp.where(observed[None, None, :], values[None] - held.mean[:, None, :], 0.0)
        whitened = jax.vmap(lambda one, gap: one.whitened(gap))(held, gaps)
        distances = jnp.sum(whitened**2, axis=2) + held.log_volume[:, None]
        means = held.mean[:, None, :] + jax.vmap(lambda one, z: one.shifts(z))(held, whitened)
        tile = _Tile(weights, held, values, observed, -0.5 * distances, means)
        return held, ask(tile) if own is None else ask(tile, own)

    begin = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), eqx.filter_eval_shape(given, jnp.asarray(tiles.observed[0])))
    return jax.lax.scan(step, begin, (jnp.asarray(tiles.values), jnp.asarray(tiles.observed), jnp.asarray(tiles.fresh), extra))[1]


@eqx.filter_jit
def _tile_moments(law: Model, tiles: Tiles) -> tuple[Float[Array, "tiles t"], Float[Array, "tiles t d"], Float[Array, "tiles t d"]]:
    return _scanned(law, tiles, _moments)


@eqx.filter_jit
def _drawn(key: PRNGKeyArray, law: Model, tiles: Tiles, n: int) -> Float[Array, "tiles n t d"]:
    width = weighted_components(_of_observables(law))[1].covariance.width
    key_label, key_noise = jax.random.split(key)
    shape, dtype = (len(tiles.fresh), n, tiles.values.shape[1]), tiles.values.dtype
    noise = jax.random.uniform(key_label, shape, dtype), jax.random.normal(key_noise, (*shape, width), dtype)
    return _scanned(law, tiles, _draws, noise)


def _answered(law: Model, X: Numbers) -> list[Array]:
    """Log-densities, conditional means and variances of the rows."""
    model, tiles, places = _checked(law, X)
    return [restored(places, part) for part in _tile_moments(model, tiles)]


def _known(results: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """The results.

    Raises:
        ValueError: if a row is so far from a mixture that its density overflows under every component.
    """
    if is_concrete(results) and np.isnan(np.asarray(results)).any():
        rows = np.flatnonzero(np.isnan(np.asarray(results)).any(axis=-1).reshape(-1, results.shape[-2]).any(axis=0))
        got = f"{rows.size} rows so far from every component that log-densities overflow (index {', '.join(map(str, rows[:5]))})"
        refuse("X", got, "rows on the scale of the law", "Check their units: rounding leaves no component nearer than another.")
    return results


def _checked(law: Model, X: Numbers) -> tuple[Model, Tiles, np.ndarray]:
    """The law, the rows in tiles and their places.

    Raises:
        ValueError: if the law is singular, or the rows do not fit it.
        TypeError: if the law is of another kind.
    """
    return law, *tiled(read_rows(X, _of_observables(law).dim))


def _of_observables(law: Model) -> Gaussian | GaussianMixture:
    """The law of x.

    Raises:
        ValueError: if it is singular.
        TypeError: if it has no conditionals in closed form.
    """
    whole = law.law if isinstance(law, Ppca | PpcaMixture) else law
    if not isinstance(whole, Gaussian | GaussianMixture):
        raise TypeError(f"`law`: got {type(law).__name__}; expected Gaussian, GaussianMixture, Ppca or PpcaMixture, whose conditionals are known.")
    if is_singular(whole):
        refuse("law", "a singular Gaussian", "one with a density", "Condition its regular part, or add noise to it.")
    return whole
