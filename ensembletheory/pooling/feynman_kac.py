r"""Averaged scores, corrected by weights: the sampler of averaged scores made to sample the log pool (Feynman-Kac correctors).

Noising dX = F X dt + G dW with D = G G^T. A member's density at time t obeys, with its score s_k,

    d log q_k / dt = -tr F - F x . s_k + (1/2) [ div(D s_k) + s_k . D s_k ].

The weighted mean r = sum_k w_k log q_k, sum_k w_k = 1, whose gradient is s_bar = sum_k w_k s_k, therefore obeys in reverse time tau = T - t

    dr/dtau = tr F + F x . s_bar - (1/2) [ div(D s_bar) + s_bar . D s_bar + V ],     V = sum_k w_k (s_k - s_bar) . D (s_k - s_bar) >= 0,

V the score diversity in the metric D. The sampler with churn eta, dx = A dtau + eta G dW with A = -F x + (1 + eta^2)/2 D s_bar, moves a density rho by
-div(A rho) + (eta^2/2) div(D grad rho), which at rho = exp(r), grad rho = rho s_bar, is

    rho { tr F + F x . s_bar - (1/2) [ div(D s_bar) + s_bar . D s_bar ] }     whatever eta.

The two differ by -(1/2) V rho: exp(r) is the density of particles which move like the sampler and lose weight at the rate of the score diversity,

    d log w = -(1/2) V dtau.

Begun from the log pool of the noised members at T, whose normaliser is Z_T, they have E[w phi(x)] = int phi prod_k q_k^{w_k} / Z_T: weighted they sample the log pool, and
the mean weight is Z_0 / Z_T <= 1. If they begin from another density instead, such as N(0, I), then E[w phi] moves by at most sup |phi| times the L1 distance of the two,
since w <= 1.

Steps: the weight of a step is taken at its beginning (order 1, that of Euler-Maruyama); Langevin corrections leave exp(r) where it is but for their own bias, of the order of
their length, and even out the weights. Particles come in independent batches (`WeightedSample`); in each of them, when the effective sample size (sum w)^2 / sum w^2 falls
below a fraction of its size, particles are resampled systematically (the quantiles (u + i)/m, one uniform u) and go on with the mean weight, which keeps E[w phi]. With a
deterministic scheme copies never part: do not resample there.
Sources: Skreta et al. (2025), "Feynman-Kac correctors in diffusion", arXiv 2503.02819; the derivation for every churn and matrices F and G is made here.
"""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.fields import Batching, MeanField, require_vectors
from ensembletheory.laws import Law
from ensembletheory.pooling.weighted_sample import WeightedSample
from ensembletheory.processes import Process
from ensembletheory.samplers import AdaptiveLangevinCorrector, Ddpm, EulerMaruyama, ExponentialIntegrator, LangevinCorrector, Sampler, Scheme

__all__ = ["FeynmanKac"]


class FeynmanKac(eqx.Module):
    """The sampler of averaged scores with the weights that turn its law into the log pool.

    Args:
        sampler: with a `MeanField` of scores, and a scheme that follows a reverse SDE (of any churn).
        resample_below: particles of a batch are resampled when its effective sample size falls below this fraction of its particles; 0 never.
        batches: independent batches, at least two, from which standard errors come.

    Raises:
        ValueError: if the sampler's field is not an average, its scheme takes no scores, or another argument is out of range.
    """

    sampler: Sampler
    resample_below: Float[Array, ""]
    batches: int = eqx.field(static=True)

    def __init__(self, sampler: Sampler, resample_below: Numbers = 0.5, batches: int = 32):
        self.sampler, self.resample_below, self.batches = sampler, as_floats("resample_below", resample_below), batches

    def __check_init__(self):
        if not isinstance(self.sampler.field, MeanField):
            refuse("sampler", f"the field {type(self.sampler.field).__name__}", "a MeanField of the members' scores", "Other rules have other weights.")
        if not _reverses(self.sampler.scheme):
            refuse("sampler", f"the scheme {type(self.sampler.scheme).__name__}", "a scheme of the reverse SDE", "EulerMaruyama, whose churn may be any.")
        if self.batches < 2:
            refuse("batches", str(self.batches), "at least 2", "Standard errors are those of batches.")
        if is_concrete(self.resample_below) and not 0 <= self.resample_below <= 1:
            refuse("resample_below", f"{float(self.resample_below):.6g}", "a fraction from 0 to 1", "0 never resamples.")

    def sample(self, key: PRNGKeyArray, n: int, start: Law) -> WeightedSample:
        """`n` weighted particles, begun from `start` at the first time of the grid; `log_normaliser` of the result estimates log Z_0 - log Z_T.

        Raises:
            ValueError: if n is not a multiple of the number of batches, or a field's vectors are not of the dimension of `start`.
            FloatingPointError: naming the step, if a particle leaves the finite numbers.
        """
        if n <= 0 or n % self.batches:
            refuse("n", str(n), f"a positive multiple of {self.batches}, the number of batches", "Batches are of equal size.")
        require_vectors("field", self.sampler.field, start.dim)
        weighted, diverged = _weighted(self, key, n, start)
        self.sampler._require_finite(diverged)
        return weighted

    def _rate(self, t: Float[Array, ""], x: Float[Array, "n d"]) -> Float[Array, " n"]:
        """V at time t."""
        mean = self.sampler.field
        assert isinstance(mean, MeanField)
        scores = mean.each(lambda field: field.batch(t, x))
        apart = scores - jnp.tensordot(mean.weights, scores, axes=1)[None]
        spread = jax.vmap(jax.vmap(lambda y: cast(Process, self.sampler.process).spread(t, y)))(apart)
        return mean.weights @ jnp.sum(apart * spread, axis=2)


def _reverses(scheme: Scheme) -> bool:
    """Whether the steps of a scheme follow the reverse dynamics of some churn, or of one and then Langevin corrections."""
    if isinstance(scheme, LangevinCorrector | AdaptiveLangevinCorrector):
        return _reverses(scheme.predictor)
    return isinstance(scheme, EulerMaruyama | ExponentialIntegrator | Ddpm)


@eqx.filter_jit
def _weighted(corrected: FeynmanKac, key: PRNGKeyArray, n: int, start: Law) -> tuple[WeightedSample, Int[Array, ""]]:
    sampler, B = corrected.sampler, corrected.batches
    key_start, key_noise, key_resampling = jax.random.split(key, 3)
    moving = eqx.tree_at(lambda one: one.field, sampler, Batching(sampler.field))

    def step(carry, inputs):
        (x, log_weights, diverged), (t, s, i) = carry, inputs
        log_weights = log_weights - (t - s) / 2 * corrected._rate(t, x).reshape(B, -1)
        sizes = jax.vmap(_effective_size)(log_weights)
        places = jax.random.uniform(jax.random.fold_in(key_resampling, i), (B,), x.dtype)
        index, log_weights = jax.vmap(_resampled, (0, 0, None))(places, log_weights, corrected.resample_below)
        x = jnp.take_along_axis(x.reshape(B, -1, x.shape[1]), index[:, :, None], axis=1).reshape(x.shape)
        z = jax.random.normal(jax.random.fold_in(key_noise, i), (n, sampler.scheme.draws, x.shape[1]), x.dtype)
        x = jax.vmap(moving._move(t, s))(x, z)
        finite = jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(log_weights))
        return (x, log_weights, jnp.where((diverged < 0) & ~finite, i, diverged)), sizes

    first = start.sample(key_start, n)
    steps = (sampler.grid[:-1], sampler.grid[1:], jnp.arange(sampler.grid.size - 1))
    (x, log_weights, diverged), sizes = jax.lax.scan(step, (first, jnp.zeros((B, n // B), first.dtype), jnp.asarray(-1)), steps)
    sizes = jnp.concatenate([jnp.full((1, B), n // B, sizes.dtype), sizes])
    return WeightedSample(x, log_weights.ravel(), sizes), diverged


def _effective_size(log_weights: Float[Array, " m"]) -> Float[Array, ""]:
    weights = jax.nn.softmax(log_weights)
    return 1 / jnp.sum(weights**2)


def _resampled(place: Float[Array, ""], log_weights: Float[Array, " m"], below: Float[Array, ""]) -> tuple[Int[Array, " m"], Float[Array, " m"]]:
    """Whom each particle continues, and its log-weight: itself and its own, unless the effective sample size is below the given fraction."""
    m = log_weights.size
    quantiles = (place + jnp.arange(m, dtype=place.dtype)) / m
    chosen = jnp.minimum(jnp.searchsorted(jnp.cumsum(jax.nn.softmax(log_weights)), quantiles), m - 1)
    poor = _effective_size(log_weights) < below * m
    mean = jax.nn.logsumexp(log_weights) - np.log(m)
    return jnp.where(poor, chosen, jnp.arange(m, dtype=chosen.dtype)), jnp.where(poor, jnp.full_like(log_weights, mean), log_weights)
