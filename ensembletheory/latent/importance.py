r"""The importance-weighted bound L_K of a linear VAE (Burda, Grosse & Salakhutdinov 2016): exactly, for every K, and how fast it approaches log p(x).

At x the posterior is N(m, S) and the encoder N(m + delta, D). The relative weight r = N(z; m, S) / N(z; m + delta, D), z from the encoder, has mean 1, and

    log p(x) - L_K(x) = -E log( (r_1 + ... + r_K) / K ).

**The law of r.** With k_i the eigenvalues of D^{1/2} S^{-1} D^{1/2} and h the coordinates of D^{-1/2} delta in its eigenbasis, for standard normal e_i

    log r = c - 1/2 sum_i [ k_i (e_i + h_i)^2 - e_i^2 ],   c = 1/2 sum_i log k_i,
    E r^s = e^{c s} prod_i (1 + s (k_i - 1))^{-1/2} exp( -s k_i h_i^2 / 2 + (s k_i h_i)^2 / (2 (1 + s (k_i - 1))) ).

**The gap.** log y = int (e^{-t} - e^{-t y}) dt / t, so with the Laplace transform phi(t) = E e^{-t r}

    log p(x) - L_K(x) = int_0^infinity ( phi(t)^K - e^{-K t} ) dt / t,        phi(t) = 1/(2 pi i) int_{Re s = v} Gamma(s) t^{-s} E r^{-s} ds   (v > 0; minus 1 if -1 < v < 0)

(derived here; the second is Mellin's inversion): two integrals on the line whatever q and K, both by the trapezoidal rule, which converges geometrically for them. At
K = 1 the gap is KL(encoder || posterior) = 1/2 sum_i (k_i - 1 - log k_i + k_i h_i^2).

**The rate.** E r^a is finite if and only if a < alpha = 1 / (1 - min_i k_i) (all a, if min k_i >= 1). With 1 - t + e(t) for phi(t), e(t) = E[e^{-tr} - 1 + tr], the gap is
int e^{-t} K e(t / K) dt / t (1 + o(1)), hence, as K grows,

    alpha > 2:         (E r^2 - 1) / (2 K),     the condition being that of `iwae_threshold`, 2 D > S;
    1 < alpha < 2:     pi / sin(pi (alpha - 1)) * l(K) * K^{1 - alpha}  for P(r > u) = u^{-alpha} l(u),  as e(t) ~ Gamma(2 - alpha) / (alpha - 1) * t^alpha l(1 / t).

If delta = 0 and min k has multiplicity n, l(u) = e^{alpha c} (alpha log u)^{n/2 - 1} / Gamma(n/2) * prod_{other i} (1 - alpha (1 - k_i))^{-1/2}. For q = 2 and the best
diagonal encoder k = 1 +- rho, with rho the posterior correlation: alpha = 1 / |rho|, so the rate changes from 1 / K to K^{1 - 1/|rho|} (log K)^{-1/2} at |rho| = 1/2.
(Derived here by the Abelian argument above; for the 1 / K side Domke & Sheldon 2018. What is open is the gap at finite K: claim `iwae-rate`.)
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import gammaln, loggamma

from ensembletheory.errors import Numbers, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form, monte_carlo
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent.ppca import Ppca
from ensembletheory.laws.law import checked_point

__all__ = ["iwae_bound", "iwae_gap", "iwae_rate", "iwae_tail_exponent"]

_DEFAULT_SAMPLES = 10_000
_BLOCK = 2**15  # latents drawn at once
_NEGLIGIBLE = 38.0  # minus the logarithm of what integrals leave out
_STEP = 0.2  # in log t
_HEIGHT = 2 * np.pi / _STEP  # of the contour, so that one FFT links the two grids: |Gamma(-1/2 + 31 i)| < 1e-21
_MOST_NODES = 2**22


class Weights(eqx.Module):
    """The law of the relative weight: `k` and `h` of the module's description."""

    k: np.ndarray
    h: np.ndarray

    @property
    def c(self) -> float:
        """1/2 sum log k."""
        return 0.5 * float(np.sum(np.log(self.k)))

    @property
    def tail_exponent(self) -> float:
        """1 / (1 - min k)."""
        return np.inf if self.k[0] >= 1 else float(1 / (1 - self.k[0]))

    @property
    def first_gap(self) -> float:
        """The gap at K = 1."""
        return 0.5 * float(np.sum(self.k - 1 - np.log(self.k) + self.k * self.h**2))

    def log_moment(self, s: Any) -> Any:
        """The logarithm of E r^s, s real or complex, Re s below the tail exponent."""
        k, s = self.k, np.asarray(s)[..., None]
        spread = 1 + s * (k - 1)
        return np.sum(0.5 * (s * np.log(k) - np.log(spread) - s * k * self.h**2 + (s * k * self.h) ** 2 / spread), axis=-1)


def iwae_bound(model: Ppca, encoder: AffineKernel, x: Numbers, K: int, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """The bound L_K(x) = E log (1/K) sum_k p(x, z_k) / e(z_k | x) in nats at one point x (d,): by quadrature, or by Monte Carlo if a key is given.

    Args:
        model: the linear VAE.
        encoder: any linear-Gaussian encoder.
        x: the point.
        K: number of importance samples, >= 1.
        key: asks for Monte Carlo.
        samples: number of Monte-Carlo draws of K latents each (default 10,000).

    Raises:
        ValueError: if an argument does not fit the model, K is not a whole number >= 1, or `samples` comes without a key.
    """
    point, K = checked_point("x", x, model.dim), _checked_count(K)
    if samples is not None and key is None:
        refuse("key", "None", "a PRNG key, since `samples` asks for Monte Carlo", "Pass key=jax.random.key(0), or leave `samples` out.")
    if key is not None:
        return _sampled(model, encoder, point, key, K, _DEFAULT_SAMPLES if samples is None else samples)
    return model.log_prob(point) - iwae_gap(model, encoder, point, K)


def iwae_gap(model: Ppca, encoder: AffineKernel, x: Numbers, K: int) -> Estimate:
    """Log p(x) - L_K(x) in nats at one point x (d,): closed form for K = 1, else by quadrature; the point has to be a value, not traced.

    Raises:
        ValueError: if an argument does not fit the model, or K is not a whole number >= 1.
    """
    weights, K = _weights(model, encoder, x), _checked_count(K)
    return closed_form(weights.first_gap) if K == 1 else _gap(weights, K)


def iwae_tail_exponent(model: Ppca, encoder: AffineKernel) -> float:
    """The alpha with E r^a finite if and only if a < alpha, the same at every x; infinite if the weights are bounded or nearly so. Above 2 the gap is O(1/K)."""
    return _weights(model, encoder, model.mean).tail_exponent


def iwae_rate(model: Ppca, encoder: AffineKernel, x: Numbers, K: Numbers) -> np.ndarray:
    """What the gap is asymptotic to as K grows, at each of the numbers K > 1.

    Raises:
        ValueError: if 1 < alpha < 2 and the encoder's mean is not the posterior mean, or alpha = 2 or alpha <= 1, for which no form is given here.
    """
    weights, counts = _weights(model, encoder, x), np.asarray(K, dtype=float)
    alpha = weights.tail_exponent
    if alpha > 2:
        return np.expm1(weights.log_moment(2.0)) / (2 * counts)
    if not 1 < alpha < 2 or np.any(np.abs(weights.h) > 1e-6):
        refuse("encoder", f"tail exponent {alpha:.6g}, mean off by {np.max(np.abs(weights.h)):.3g}", "1 < alpha < 2 and the posterior mean", "Use iwae_gap, which is exact.")
    others = weights.k[weights.k > weights.k[0] * (1 + 1e-9)]
    half = (weights.k.size - others.size) / 2
    log_factor = alpha * weights.c - gammaln(half) - 0.5 * np.sum(np.log(1 - alpha * (1 - others)))
    return np.pi / np.sin(np.pi * (alpha - 1)) * np.exp(log_factor) * (alpha * np.log(counts)) ** (half - 1) * counts ** (1 - alpha)


def _weights(model: Ppca, encoder: AffineKernel, x: Numbers) -> Weights:
    if encoder.A.shape != model.loadings.shape[::-1]:
        refuse("encoder", f"a kernel of shape {encoder.A.shape}", f"{model.loadings.shape[::-1]}", "An encoder maps x to z.")
    if not is_concrete(x, model.loadings, encoder.A):
        refuse("x", "an array traced by jit, vmap or grad", "values", "The exact bound is computed outside of transformations; pass a key for Monte Carlo.")
    point = np.asarray(checked_point("x", x, model.dim))
    W, s2, V = np.asarray(model.loadings), float(model.noise_variance), np.asarray(encoder.A)
    precision = (W.T @ W + s2 * np.eye(W.shape[1])) / s2
    root = np.linalg.cholesky(np.asarray(encoder.C.as_matrix()))
    k, vectors = np.linalg.eigh(root.T @ precision @ root)
    delta = V @ point + np.asarray(encoder.b) - np.linalg.solve(precision, W.T @ (point - np.asarray(model.mean))) / s2
    return Weights(k, vectors.T @ np.linalg.solve(root, delta))


def _gap(weights: Weights, K: int) -> Estimate:
    """The double integral; its error is the change when every second node of both rules is left out, and rounding."""
    right = min(0.5, 0.5 / max(weights.k[-1] - 1, 1e-3), 2 / max(weights.first_gap, 1e-3))  # E r^{-right} is finite, and not so large that phi drowns in rounding
    low = -np.log(K) - _NEGLIGIBLE
    high = (_NEGLIGIBLE / K + float(weights.log_moment(-right))) / right  # phi(t) <= t^{-right} E r^{-right}
    period = high - low + 2 * _NEGLIGIBLE / right  # images of phi, which the rule on the contour adds, are one period away
    count = 2 ** int(np.ceil(np.log2(2 * period / _STEP)))
    if count > _MOST_NODES:
        refuse(
            "encoder", f"precisions up to {weights.k[-1]:.3g} and a gap of {weights.first_gap:.3g} nats", "an encoder nearer to the posterior", "Pass a key for Monte Carlo."
        )
    (fine, rounding), (coarse, _) = _integral(weights, K, count, low, high, right, 1), _integral(weights, K, count // 2, low, high, right, 2)
    value = np.asarray([fine, abs(fine - coarse) + rounding], dtype=jnp.result_type(float))
    return Estimate(jnp.asarray(value[0]), jnp.asarray(value[1]), "quadrature")


def _integral(weights: Weights, K: int, count: int, low: float, high: float, right: float, every: int) -> tuple[float, float]:
    """The gap with `count` nodes on the contours and every `every`-th node in log t, and a bound on its rounding."""
    log_t = low + _STEP * np.arange(0, int((high - low) / _STEP) + 1, every)
    t, left = np.exp(np.minimum(log_t, 700.0)), log_t < 0
    below, below_error = _inverted(weights, count, low, log_t, every, -0.5)
    above, above_error = _inverted(weights, count, low, log_t, every, right)
    phi = np.where(left, 1 + below, np.clip(above, np.finfo(float).tiny, 1.0))
    log_phi = np.where(left, np.log1p(np.maximum(below, -1 + np.finfo(float).eps)), np.log(phi))
    power = np.exp(K * log_phi)
    rounding = np.where(left, below_error, above_error) * K * power / phi
    return float(np.trapezoid(power - np.exp(-K * t), log_t)), float(np.trapezoid(rounding, log_t)) + 4 * np.finfo(float).eps


def _inverted(weights: Weights, count: int, low: float, log_t: np.ndarray, every: int, abscissa: float) -> tuple[np.ndarray, np.ndarray]:
    """phi(t), or phi(t) - 1 left of the pole at 0, by the trapezoidal rule on the contour Re s = abscissa, one FFT for all t; and a bound on its rounding."""
    width = _HEIGHT / count
    s = abscissa + 1j * width * np.arange(count)
    values = width / np.pi * np.exp(loggamma(s) + weights.log_moment(-s) - 1j * s.imag * low)
    values[0] /= 2
    decay = np.exp(np.minimum(-abscissa * log_t, 300.0))
    return np.fft.fft(values).real[: log_t.size * every : every] * decay, 4 * np.finfo(float).eps * np.sum(np.abs(values)) * decay


def _checked_count(K: int) -> int:
    if not isinstance(K, int | np.integer) or isinstance(K, bool) or K < 1:
        refuse("K", repr(K), "a whole number >= 1", "K = 1 is the evidence lower bound.")
    return int(K)


@eqx.filter_jit
def _sampled(model: Ppca, encoder: AffineKernel, x: Float[Array, " d"], key: PRNGKeyArray, K: int, samples: int) -> Estimate:
    W, s2, law = model.loadings, model.noise_variance, encoder.at(x)

    def log_weight(z):
        residual = x - model.mean - W @ z
        log_joint = -0.5 * (jnp.sum(residual**2) / s2 + x.size * jnp.log(2 * np.pi * s2) + jnp.sum(z**2) + z.size * np.log(2 * np.pi))
        return log_joint - law._log_prob(z)

    def bounds(key):
        log_weights = jax.vmap(log_weight)(law.sample(key, rows * K)).reshape(rows, K)
        return jax.nn.logsumexp(log_weights, axis=1) - np.log(K)

    rows = min(samples, max(1, _BLOCK // K))
    draws = jax.lax.map(bounds, jax.random.split(key, -(-samples // rows)))
    return monte_carlo(draws.ravel()[:samples])
