r"""Models x = g(z) + noise of a latent z, with an encoder: what is asked of them whatever g is.

    z ~ N(0, I_q),   x | z ~ N(g(z), diag(v)),   encoder e(z | x) = N(m(x), diag(D(x))),   weight w = p(x, z) / e(z | x) for z from the encoder, E w = p(x).

**Bounds.** With independent weights w_1 ... w_K, L_K(x) = E log (1/K) sum_k w_k (Burda, Grosse & Salakhutdinov 2016), so that by Jensen's inequality, for any g, m, D and v,

    ELBO = L_1 <= L_K <= L_{K+1} <= log p(x);

on given draws the mean of log-means over groups of k of them is at most the log-mean of all. The ELBO is E log N(x; g(z), v) - KL(e || N(0, I)), the latter in closed form.

**The law of x** is
 - N(g(0), W W^T + diag(v)) if g(z) = g(0) + W z is affine: PPCA if the v are equal, else factor analysis;
 - for q = 1 or 2 a Gaussian mixture with a component N(g(z_j), diag(v)) at each node z_j of the trapezoidal rule for N(0, I) on [-8, 8]^q (what lies outside weighs less than
   3e-15). The rule converges geometrically once its step h is below the posterior standard deviations, which are (1 + |g'|^2 / v)^{-1/2} or more where g is nearly straight;
   2 h is chosen to be at most the smallest of these for |z_i| <= 3. The same rule with step 2 h, whose error is about the fourth root, tells the error; where the two
   differ by a tenth nothing is resolved, and the error is infinite. Of x far out the posterior may lie beyond the nodes. Of a normal one, of standard deviation 1 or
   less, what is beyond weighs at most 2 / h times the outermost nodes if its mean is among them, by Mills's ratio, and these weigh more than h / 2 if it is not: 2 / h times
   their share is part of the error. `law()`, which has no error, refuses models that ask for more nodes than the most that are taken;
 - known at points by Monte Carlo for any q. Half of the draws are from the encoder, half from the prior, with the weights p(x, z) / (e(z | x) / 2 + p(z) / 2): their mean is
   p(x), and they are at most 2 p(x | z) <= 2 prod_i (2 pi v_i)^{-1/2}, so that whatever the encoder they have a variance (those of the bounds need not). The logarithm of
   their mean, whose bias is -r^2 / 2 + O(r^3) with r its relative standard error, is corrected by r^2 / 2: an estimate of log p(x), not a bound. Where a few draws outweigh
   all others (neither encoder nor prior reach the posterior) the error is infinite (`ensembletheory.estimate`).
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import LowRankPlusDiagonal
from ensembletheory.errors import Numbers, checked_count, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form, log_mean, monte_carlo
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.laws.law import checked_point

__all__ = ["VariationalModel"]

_REACH = 8.0  # of the nodes, in standard deviations of the prior
_NODES = {1: 256, 2: 64}  # an axis, by latent dimension, where values cannot be looked at
_MOST_NODES = {1: 2**14, 2: 2**8}
_UNRESOLVED = 0.1  # nats
_SAMPLES = 10_000
_BLOCK = 2**18  # numbers held at once


class VariationalModel(eqx.Module):
    """A law of x through a latent z, with an encoder; see `Vae` and `AveragedVae`."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """The dimension d of x."""

    @property
    @abstractmethod
    def latent(self) -> int:
        """The dimension q of z."""

    @property
    @abstractmethod
    def affine(self) -> bool:
        """Whether g is affine."""

    @property
    @abstractmethod
    def noise_variances(self) -> Float[Array, " d"]:
        """The variances v of x given z."""

    @abstractmethod
    def decode(self, z: Float[Array, " q"]) -> Float[Array, " d"]:
        """The mean g(z) of x given z."""

    @abstractmethod
    def encode(self, x: Float[Array, " d"]) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        """The mean m(x) and the variances D(x) of the encoder."""

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """`n` independent draws of x."""
        return _drawn(self, key, n)

    def law(self, nodes: int | None = None) -> Gaussian | GaussianMixture:
        """The law of x as an object, which goes through pools and divergences: exactly if g is affine, else (or if `nodes` asks for it) by quadrature over z.

        A mixture knows of no error: `log_prob` with as many nodes tells how well the nodes resolve the law near a point.

        Args:
            nodes: an axis of z; default by the slopes of g, at most 16,384 for q = 1 and 256 for q = 2 (under jit, vmap or grad 256 and 64).

        Raises:
            ValueError: if g is not affine and q > 2, more nodes than the most are needed (where values can be looked at), or the nodes are not an even number >= 2.
        """
        if self.affine and nodes is None:
            return _gaussian(self)
        return GaussianMixture(*_components(self, self._checked_nodes(nodes, resolved=True)))

    def log_prob(self, x: Numbers, key: PRNGKeyArray | None = None, samples: int | None = None, nodes: int | None = None) -> Estimate:
        """The log-density in nats at x (..., d): in closed form if g is affine, by quadrature over z for q <= 2, by Monte Carlo if a key is given.

        Args:
            x: the points.
            key: asks for Monte Carlo.
            samples: number of its draws a point (default 10,000).
            nodes: of the quadrature, as in `law`.

        Raises:
            ValueError: if the last axis of x is not d, only Monte Carlo can answer and no key is given, or samples or nodes are not as asked.
        """
        points = checked_point("x", x, self.dim)
        if key is not None:
            return _by_importance(self, key, points, checked_count("samples", _SAMPLES if samples is None else samples, 4))
        if self.affine and nodes is None:
            return closed_form(_gaussian(self).log_prob(points))
        return _by_quadrature(self, points, self._checked_nodes(nodes))

    def elbo(self, key: PRNGKeyArray, x: Numbers, samples: int = 64) -> Estimate:
        """The evidence lower bound in nats at x (..., d): in closed form if g is affine, else by Monte Carlo.

        Raises:
            ValueError: if the last axis of x is not d, or there are fewer than two samples.
        """
        points, samples = checked_point("x", x, self.dim), checked_count("samples", samples, 2)
        value = _elbos(self, key, points, samples)
        return closed_form(value.value) if self.affine else value

    def iwae(self, key: PRNGKeyArray, x: Numbers, K: int, samples: int = 64) -> Estimate:
        """The bound L_K in nats at x (..., d) by `samples` draws of K weights.

        Raises:
            ValueError: if the last axis of x is not d, K < 1, or there are fewer than two samples.
        """
        return _iwaes(self, key, checked_point("x", x, self.dim), checked_count("K", K, 1), checked_count("samples", samples, 2))

    def log_weights(self, key: PRNGKeyArray, x: Float[Array, " d"], K: int) -> Float[Array, " K"]:
        """Log p(x, z) / e(z | x) at one point, for K draws of z from the encoder.

        Raises:
            ValueError: if x is not (d,), or K < 1.
        """
        (m, D), K = self.encode(x), checked_count("K", K, 1)

        def log_weight(e):
            return self._log_joint(x, m + jnp.sqrt(D) * e) - _log_normal(e, jnp.ones_like(e)) + 0.5 * jnp.sum(jnp.log(D))

        return jax.vmap(log_weight)(jax.random.normal(key, (K, self.latent), x.dtype))

    def bound(self, key: PRNGKeyArray, x: Float[Array, " d"], K: int) -> Float[Array, ""]:
        """One draw of log (1/K) sum_k w_k at one point, whose mean is L_K."""
        return jax.nn.logsumexp(self.log_weights(key, x, K)) - np.log(K)

    def fit_and_divergence(self, key: PRNGKeyArray, x: Float[Array, " d"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """One draw of log N(x; g(z), v), z from the encoder (its mean, if g is affine), and KL(e || N(0, I)), at one point; their difference has mean ELBO."""
        m, D = self.encode(x)
        if self.affine:
            fit = _log_normal(x - self.decode(m), self.noise_variances) - 0.5 * jnp.sum((_slopes(self) ** 2 @ D) / self.noise_variances)
        else:
            fit = _log_normal(x - self.decode(m + jnp.sqrt(D) * jax.random.normal(key, m.shape, m.dtype)), self.noise_variances)
        return fit, 0.5 * jnp.sum(D + m**2 - 1 - jnp.log(D))

    def _log_joint(self, x: Float[Array, " d"], z: Float[Array, " q"]) -> Float[Array, ""]:
        return _log_normal(x - self.decode(z), self.noise_variances) + _log_normal(z, jnp.ones_like(z))

    def _checked_nodes(self, nodes: int | None, resolved: bool = False) -> int:
        """How many nodes an axis; if they are to be `resolved` the most are not taken for more."""
        if self.latent > 2:
            refuse("key", "None", f"a PRNG key, since with {self.latent} latent dimensions only Monte Carlo can answer", "Pass key=jax.random.key(0) to log_prob.")
        if nodes is None:
            slope, most = _steepest(self), _MOST_NODES[self.latent]
            if not is_concrete(slope):
                return _NODES[self.latent]
            enough = _enough(float(slope))
            if resolved and not enough <= most:
                remedy = "Take log_prob(x, key=...), which needs no nodes, or pass nodes=... for a law that is a comb at the scale of the noise."
                refuse("model", f"a decoder so steep beside its noise that {enough:g} nodes an axis are needed", f"at most {most}", remedy)
            return int(min(most, enough))
        if checked_count("nodes", nodes, 2) % 2:
            refuse("nodes", f"{nodes}", "an even number", "Every second node tells the error.")
        return nodes


def _log_normal(x: Float[Array, " d"], variances: Float[Array, " d"]) -> Float[Array, ""]:
    return -0.5 * jnp.sum(x**2 / variances + jnp.log(2 * np.pi * variances))


def _rule(q: int, nodes: int) -> tuple[Float[Array, "J q"], Float[Array, " J"]]:
    """Nodes of the trapezoidal rule on [-8, 8]^q and their weights under N(0, I)."""
    axis = np.linspace(-_REACH, _REACH, nodes + 1)
    z = np.stack(np.meshgrid(*[axis] * q, indexing="ij"), axis=-1).reshape(-1, q)
    weights = np.exp(-0.5 * np.sum(z**2, axis=1))
    return jnp.asarray(z), jnp.asarray(weights / np.sum(weights))


@eqx.filter_jit
def _steepest(model: VariationalModel) -> Float[Array, ""]:
    """The largest norm of v^{-1/2} g' at nodes up to 3 standard deviations from 0."""
    z = np.stack(np.meshgrid(*[np.linspace(-3, 3, 31)] * model.latent, indexing="ij"), axis=-1).reshape(-1, model.latent)
    slopes = jax.vmap(jax.jacfwd(model.decode))(jnp.asarray(z)) / jnp.sqrt(model.noise_variances)[None, :, None]
    return jnp.sqrt(jnp.max(jnp.sum(slopes**2, axis=(1, 2))))


def _enough(slope: float) -> float:
    """The power of two that makes two steps as short as the smallest posterior standard deviation."""
    return 2 ** np.ceil(np.log2(4 * _REACH * np.sqrt(1 + slope**2)))


@eqx.filter_jit
def _components(model: VariationalModel, nodes: int) -> tuple[Float[Array, " J"], Float[Array, "J d"], Float[Array, "J d"]]:
    """Weights, means and variances."""
    z, weights = _rule(model.latent, nodes)
    means = jax.vmap(model.decode)(z)
    return weights, means, jnp.broadcast_to(model.noise_variances, means.shape)


@eqx.filter_jit
def _drawn(model: VariationalModel, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
    for_latents, for_noise = jax.random.split(key)
    means = jax.vmap(model.decode)(jax.random.normal(for_latents, (n, model.latent)))
    return means + jnp.sqrt(model.noise_variances)[None, :] * jax.random.normal(for_noise, means.shape, means.dtype)


def _slopes(model: VariationalModel) -> Float[Array, "d q"]:
    """The matrix W of an affine g."""
    return jax.vmap(lambda z: model.decode(z) - model.decode(jnp.zeros_like(z)), out_axes=1)(jnp.eye(model.latent))


@eqx.filter_jit
def _gaussian(model: VariationalModel) -> Gaussian:
    return Gaussian(model.decode(jnp.zeros(model.latent)), LowRankPlusDiagonal(_slopes(model), model.noise_variances))


def _over_points(at: Callable, points: Float[Array, "... d"], width: int, key: PRNGKeyArray | None = None) -> Any:
    """What `at` gives for each point (and a key of its own, which comes first), in blocks that hold `width` numbers a point."""
    rows = points.reshape(-1, points.shape[-1])
    arguments = (rows,) if key is None else (jax.random.split(key, len(rows)), rows)
    found = jax.lax.map(lambda one: at(*one), arguments, batch_size=max(1, _BLOCK // width))
    return jax.tree.map(lambda values: values.reshape(points.shape[:-1]), found)


@eqx.filter_jit
def _by_quadrature(model: VariationalModel, points: Float[Array, "... d"], nodes: int) -> Estimate:
    z, weights = _rule(model.latent, nodes)
    _, coarse_weights = _rule(model.latent, nodes // 2)
    means, outermost = jax.vmap(model.decode)(z), jnp.max(jnp.abs(z), axis=1) == _REACH

    def at(x):
        terms = jax.vmap(lambda mean: _log_normal(x - mean, model.noise_variances))(means)
        every_second = terms.reshape((nodes + 1,) * model.latent)[(slice(None, None, 2),) * model.latent].ravel()
        fine, coarse = jax.nn.logsumexp(terms + jnp.log(weights)), jax.nn.logsumexp(every_second + jnp.log(coarse_weights))
        cut = nodes / _REACH * jnp.exp(jax.nn.logsumexp(terms + jnp.log(weights), where=outermost) - fine)  # 2 / h times the share of the outermost nodes
        error = jnp.abs(fine - coarse) + cut + 64 * jnp.finfo(fine.dtype).eps * (1 + jnp.abs(fine))
        return Estimate(fine, jnp.where(error < _UNRESOLVED, error, jnp.inf), "quadrature")

    return _over_points(at, points, means.size)


@eqx.filter_jit
def _by_importance(model: VariationalModel, key: PRNGKeyArray, points: Float[Array, "... d"], samples: int) -> Estimate:
    pairs = samples // 2

    def at(key, x):
        m, D = model.encode(x)
        first, second = jax.random.normal(key, (2, pairs, model.latent), x.dtype)

        def log_weight(z):
            proposals = jnp.stack([_log_normal(z - m, D), _log_normal(z, jnp.ones_like(z))])
            return model._log_joint(x, z) - jax.nn.logsumexp(proposals) + np.log(2.0)

        logs = jax.vmap(log_weight)(jnp.concatenate([jax.vmap(lambda e: m + jnp.sqrt(D) * e)(first), second]))
        return log_mean(jnp.logaddexp(logs[:pairs], logs[pairs:]) - np.log(2.0))

    return _over_points(at, points, samples * model.dim, key)


@eqx.filter_jit
def _elbos(model: VariationalModel, key: PRNGKeyArray, points: Float[Array, "... d"], samples: int) -> Estimate:
    def at(key, x):
        fits, divergences = jax.vmap(lambda k: model.fit_and_divergence(k, x))(jax.random.split(key, samples))
        return monte_carlo(fits - divergences)

    return _over_points(at, points, samples * model.dim, key)


@eqx.filter_jit
def _iwaes(model: VariationalModel, key: PRNGKeyArray, points: Float[Array, "... d"], K: int, samples: int) -> Estimate:
    def at(key, x):
        return monte_carlo(jax.vmap(lambda k: model.bound(k, x, K))(jax.random.split(key, samples)))

    return _over_points(at, points, samples * K * model.dim, key)
