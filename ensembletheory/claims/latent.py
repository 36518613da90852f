r"""Claims about PPCA and the linear VAE as optimisation problems, and about the importance-weighted bound.

**Collapse of a beta-VAE.** For data of covariance S with eigenvalues l_j, fixed s2 and t = beta s2, any decoder W and encoder N(V x, D) has

    E ELBO_beta <= -beta/2 sum_j [ log 2 pi + log max(l_j, t) + min(l_j / t, 1) ] + d/2 ( beta log(2 pi t) - log(2 pi s2) )        (q = d)

with equality at W = U (L - t)_+^{1/2}: column j collapses if and only if l_j <= beta s2.

**Stability.** At a stationary point W of PPCA for fixed s2 that uses the eigenvalue l_j and leaves l_k unused, the second derivative of the average log-likelihood, and of the
ELBO at its best diagonal encoder, is (l_k - s2) / s2^2 along u_k in a zero column and (l_k - l_j) / (s2 l_j) along u_k in the column in use (`ensembletheory.latent`).

**Rate.** For two latents, the best diagonal encoder and posterior correlation rho, is K times the gap log p - L_K of the importance-weighted bound non-decreasing? If so the
gap is never below 1/K of the ELBO's, nor, for |rho| < 1/2, above its asymptote (E r^2 - 1) / (2 K). Beyond |rho| = 1/2 the gap falls like K^{1 - 1/|rho|} up to a root of
log K (`ensembletheory.latent.importance`), which settles large K only. With three latents it is false.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import loggamma

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, spd
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent import Ppca, average_elbo

__all__ = ["beta_vae_threshold", "iwae_rate", "ppca_stationary_stability"]

PLANE = Domain(
    covariance=spd(2, 0.1, 5),
    noise_variance=positive(0.1, 3),
    beta=positive(0.2, 4),
    loadings=real(-2, 2, shape=(2, 2)),
    encoder=real(-2, 2, shape=(2, 2)),
    encoder_variances=positive(0.01, 2, shape=(2,)),
)


def _optimum(covariance, noise_variance, beta, threshold) -> Float[Array, ""]:
    """The ELBO_beta of W = U (L - threshold)_+^{1/2} with its best encoder."""
    spectrum, t = jnp.linalg.eigvalsh(covariance), beta * noise_variance
    variances = jnp.maximum(spectrum - threshold, 0.0) + t
    likelihood = -0.5 * jnp.sum(jnp.log(2 * np.pi * variances) + spectrum / variances)
    return beta * likelihood + beta * jnp.log(2 * np.pi * t) - jnp.log(2 * np.pi * noise_variance)


def _lead(threshold, covariance, noise_variance, beta, loadings, encoder, encoder_variances) -> Estimate:
    found = average_elbo(Ppca(loadings, jnp.zeros(2), noise_variance), AffineKernel(encoder, jnp.zeros(2), encoder_variances), covariance, beta)
    return closed_form(_optimum(covariance, noise_variance, beta, threshold) - found)


def _threshold_without_beta(covariance, noise_variance, beta, loadings, encoder, encoder_variances) -> Estimate:
    return _lead(noise_variance, covariance, noise_variance, beta, loadings, encoder, encoder_variances)


def _optima() -> Iterator[dict[str, Any]]:
    S = np.array([[2.0, 0.8], [0.8, 1.0]])
    spectrum, U = np.linalg.eigh(S)
    for s2, beta in ((0.2, 2.0), (0.5, 2.0), (1.0, 3.0)):  # none, one and both of the columns have collapsed
        W, t = U * np.sqrt(np.maximum(spectrum - beta * s2, 0.0)), beta * s2
        N = np.sum(W**2, axis=0) + t
        yield {"covariance": S, "noise_variance": s2, "beta": beta, "loadings": W, "encoder": W.T / N[:, None], "encoder_variances": t / N}


@claim(
    id="beta-vae-threshold",
    statement=r"\mathrm{ELBO}_\beta(W, V, D) \leq \mathrm{ELBO}_\beta(U (\Lambda - \beta \sigma^2)_+^{1/2}), \quad \mathrm{collapse\ iff}\ \lambda_j \leq \beta \sigma^2",
    source="derived here, from Tipping & Bishop (1999) and Lucas et al. (2019), for the objective of Higgins et al. (2017)",
    domain=PLANE,
    kind="theorem",
    references=["higgins2017beta", "lucas2019dont", "tipping1999probabilistic"],
    equality=_optima,
    mutants={"noise-alone": Mutant("beta in the threshold: columns collapse at the noise variance", _threshold_without_beta)},
    proof="ELBO_beta at noise s2 is beta times the ELBO at noise beta s2, plus a constant; that is at most the log-likelihood, whose maximum keeps l_j > beta s2.",
)
def beta_vae_threshold(covariance, noise_variance, beta, loadings, encoder, encoder_variances) -> Estimate:
    """The lead of the optimum over any decoder and encoder."""
    return _lead(beta * noise_variance, covariance, noise_variance, beta, loadings, encoder, encoder_variances)


THREE_EIGENVALUES = Domain(noise_variance=positive(0.2, 3), excess=positive(0.1, 4), unused=positive(0.2, 6, shape=(2,)))


def _stretched(noise_variance, excess, unused, length) -> Estimate:
    return _discrepancy(noise_variance, excess, unused, length, 1.0)


def _shifted(noise_variance, excess, unused) -> Estimate:
    return _discrepancy(noise_variance, excess, unused, 1.0, 1.1)


def _discrepancy(noise_variance, excess, unused, length, factor) -> Estimate:
    """Minus the largest difference of the second derivatives of both objectives from what is stated, over both unused directions."""
    used = noise_variance + excess
    S = jnp.diag(jnp.concatenate([used[None], unused]))
    base = jnp.zeros((3, 2)).at[0, 0].set(length * jnp.sqrt(excess))

    def objective(step, row, column, weight):
        W = base.at[row, column].add(step)
        return _likelihood(W, S, noise_variance) - weight * _gap(W, noise_variance)

    curvature = jax.vmap(jax.grad(jax.grad(objective)), (None, 0, 0, 0))
    rows, columns, weights = (jnp.asarray(axis.ravel()) for axis in np.meshgrid([1, 2], [0, 1], [0.0, 1.0], indexing="ij"))
    unused_value = unused[rows - 1]
    stated = jnp.where(columns == 1, (unused_value - factor * noise_variance) / noise_variance**2, (unused_value - used) / (noise_variance * used))
    return closed_form(-jnp.max(jnp.abs(curvature(jnp.zeros(()), rows, columns, weights) - stated)))


def _gram(W: Float[Array, "3 2"], noise_variance: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """The entries M_11, M_12, M_22: with two columns, determinant and inverse are written out, which compiles in no time."""
    first, second = W[:, 0], W[:, 1]
    return first @ first + noise_variance, first @ second, second @ second + noise_variance


def _likelihood(W: Float[Array, "3 2"], S: Float[Array, "3 3"], noise_variance: Float[Array, ""]) -> Float[Array, ""]:
    """The average log-likelihood of PPCA but for a constant."""
    a, b, c = _gram(W, noise_variance)
    (p, r), (_, u) = W.T @ S @ W
    explained = (c * p - 2 * b * r + a * u) / (a * c - b**2)
    return -0.5 * (jnp.log(noise_variance) + jnp.log(a * c - b**2) + (jnp.trace(S) - explained) / noise_variance)


def _gap(W: Float[Array, "3 2"], noise_variance: Float[Array, ""]) -> Float[Array, ""]:
    """The Hadamard gap."""
    a, b, c = _gram(W, noise_variance)
    return -0.5 * jnp.log1p(-(b**2) / (a * c))


@claim(
    id="ppca-stationary-stability",
    statement=r"\partial^2 L = (\lambda_k - \sigma^2) / \sigma^4\ (\mathrm{zero\ column}), \ (\lambda_k - \lambda_j) / (\sigma^2 \lambda_j)\ (\mathrm{column}\ j)",
    source="derived here (second variation of the log-likelihood of Tipping & Bishop 1999; for the ELBO, in the setting of Lucas et al. 2019)",
    domain=THREE_EIGENVALUES,
    kind="theorem",
    references=["tipping1999probabilistic", "lucas2019dont"],
    equality=lambda: iter([{"noise_variance": 0.5, "excess": 2.0, "unused": np.array([1.0, 0.3])}, {"noise_variance": 2.0, "excess": 0.5, "unused": np.array([3.0, 1.0])}]),
    mutants={
        "not-stationary": Mutant("a stationary point: the column has another length", _stretched, THREE_EIGENVALUES.replace(length=positive(0.3, 3))),
        "larger-noise": Mutant("the constant: stability from 1.1 times the noise variance on", _shifted),
    },
    proof="Expand L at W + eps B: the terms are (l_k / s2 - 1) / s2 |B|^2 and, for the column in use, -(l_j - s2) l_k / (s2^2 l_j) |B|^2; Hadamard's gap is of fourth order.",
)
def ppca_stationary_stability(noise_variance, excess, unused) -> Estimate:
    """Minus the largest difference between second derivatives, of the likelihood and of the ELBO, and what is stated: 0 everywhere."""
    return _discrepancy(noise_variance, excess, unused, 1.0, 1.0)


# Both contours of `ensembletheory.latent.importance` at fixed abscissas, for k < 3 and K <= 16: phi(t) on a grid of log t by one FFT each.
_STEP, _LOW, _HIGH, _NODES = 0.2, -41.0, 45.0, 2048
_LOG_T = np.arange(_LOW, _HIGH, _STEP)
_HEIGHTS = 2 * np.pi / _STEP / _NODES * np.arange(_NODES)
_GAMMA = {v: np.exp(loggamma(v + 1j * _HEIGHTS) - 1j * _HEIGHTS * _LOW) * np.where(_HEIGHTS == 0, 0.5, 1.0) * _HEIGHTS[1] / np.pi for v in (-0.5, 0.5)}


def _gaps(k: Float[Array, " q"], counts: tuple[int, ...]) -> Float[Array, " n"]:
    """The gaps of the best diagonal encoder at each of the numbers of samples but the first, which is 1 and has a closed form."""
    small, large = jnp.maximum(_contour(k, -0.5), -0.99), jnp.clip(_contour(k, 0.5), np.finfo(float).tiny, 1.0)
    log_phi = jnp.where(_LOG_T < 0, jnp.log1p(small), jnp.log(large))
    K = jnp.asarray(counts[1:], dtype=float)[:, None]
    many = jnp.sum(jnp.exp(K * log_phi[None, :]) - jnp.exp(-K * jnp.exp(jnp.asarray(_LOG_T))[None, :]), axis=1) * _STEP
    return jnp.concatenate([-0.5 * jnp.sum(jnp.log(k))[None], many])


def _contour(k: Float[Array, " q"], abscissa: float) -> Float[Array, " n"]:
    s = jnp.asarray(abscissa + 1j * _HEIGHTS)[:, None]
    z = k.astype(s.dtype)[None, :]
    moment = jnp.exp(-0.5 * jnp.sum(s * jnp.log(z) + jnp.log(1 - s * (z - 1)), axis=1))
    return jnp.fft.fft(jnp.asarray(_GAMMA[abscissa]) * moment).real[: _LOG_T.size] * np.exp(-abscissa * _LOG_T)


def _least_rise(k: Float[Array, " q"]) -> Estimate:
    """The least of 2 K gap_{2K} - K gap_K over K = 1, 2, 4, 8."""
    counts = (1, 2, 4, 8, 16)
    scaled = jnp.asarray(counts, dtype=float) * _gaps(k, counts)
    return Estimate(jnp.min(scaled[1:] - scaled[:-1]), jnp.asarray(1e-10), "quadrature")


def _three_latents(correlation) -> Estimate:
    return _least_rise(jnp.stack([1 - correlation / 2, 1 - correlation / 2, 1 + correlation]))


@claim(
    id="iwae-rate",
    statement=r"2K\, (\log p(x) - L_{2K}(x)) \geq K\, (\log p(x) - L_K(x)) \quad (q = 2,\ D_{jj} = \sigma^2 / M_{jj})",
    source="asked here, from exact values on both sides of the threshold |rho| = 1/2",
    domain=Domain(correlation=positive(0.02, 0.98)),
    references=["burda2016importance", "domke2018importance"],
    mutants={"three-latents": Mutant("two latents: three, with equal correlations", _three_latents)},
    proof="Open. For large K it holds: K times the gap tends to (E r^2 - 1) / 2 for |rho| < 1/2, and grows like K^{2 - 1/|rho|} beyond.",
)
def iwae_rate(correlation) -> Estimate:
    """The least of 2 K gap_{2K} - K gap_K over K = 1, 2, 4, 8."""
    return _least_rise(jnp.stack([1 - correlation, 1 + correlation]))
