r"""A claim about the linear VAE with a diagonal encoder: what the evidence lower bound leaves behind.

Model z ~ N(0, I), x | z ~ N(W z, s2 I); posterior N(M^{-1} W^T x, s2 M^{-1}) with M = W^T W + s2 I. For any encoder N(m, diag D) at x,

    log p(x) - ELBO = KL( N(m, diag D) || posterior )
                    = 1/2 [ tr(M D) / s2 - q - sum_j log(D_j / s2) - log det M + |m - posterior mean|^2_{M / s2} ],

least at the posterior mean and D_j = s2 / M_jj, where it is 1/2 (sum_j log M_jj - log det M) >= 0 by Hadamard's inequality, with equality iff W has orthogonal columns.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent import Ppca, elbo, hadamard_gap

__all__ = ["linear_vae_elbo_gap"]

THREE_BY_TWO = Domain(
    loadings=real(-2, 2, shape=(3, 2)),
    noise_variance=positive(0.1, 5),
    x=real(-3, 3, shape=(3,)),
    encoder_mean=real(-3, 3, shape=(2,)),
    encoder_variances=positive(0.01, 1, shape=(2,)),
)


def _best_encoders() -> Iterator[dict[str, Any]]:
    for loadings, noise_variance in (([[1.0, 0.5], [-0.5, 2.0], [0.0, 1.0]], 0.5), ([[2.0, 1.0], [0.0, 1.0], [1.0, -2.0]], 1.5)):
        W, x = np.array(loadings), np.array([1.0, -2.0, 0.5])
        M = W.T @ W + noise_variance * np.eye(2)
        encoder = {"encoder_mean": np.linalg.solve(M, W.T @ x), "encoder_variances": noise_variance / np.diag(M)}
        yield {"loadings": W, "noise_variance": noise_variance, "x": x, **encoder}


def _slack(loadings, noise_variance, x, encoder_mean, encoder_covariance, gap):
    """What is left between log p - gap and the ELBO."""
    model = Ppca(loadings, jnp.zeros(3), noise_variance)
    encoder = AffineKernel(jnp.zeros((2, 3)), encoder_mean, encoder_covariance)
    return model.log_prob(x) - gap(model) - elbo(model, encoder, x)


def _any_covariance(loadings, noise_variance, x, encoder_mean, encoder_variances, encoder_correlation) -> Estimate:
    cross = encoder_correlation * jnp.sqrt(encoder_variances[0] * encoder_variances[1])
    covariance = jnp.diag(encoder_variances) + cross * jnp.asarray([[0.0, 1.0], [1.0, 0.0]])
    return closed_form(_slack(loadings, noise_variance, x, encoder_mean, covariance, hadamard_gap))


def _larger_gap(loadings, noise_variance, x, encoder_mean, encoder_variances) -> Estimate:
    return closed_form(_slack(loadings, noise_variance, x, encoder_mean, encoder_variances, lambda model: 1.1 * hadamard_gap(model)))


@claim(
    id="linear-vae-elbo-gap",
    statement=r"\mathrm{ELBO}(x; m, \mathrm{diag}\, D) \leq \log p(x) - \frac{1}{2} (\sum_j \log M_{jj} - \log \det M) \leq \log p(x), \quad M = W^\top W + \sigma^2 I",
    source="derived here (KL between Gaussians and Hadamard's inequality), in the setting of Lucas et al. (2019)",
    domain=THREE_BY_TWO,
    kind="theorem",
    references=["lucas2019dont", "tipping1999probabilistic"],
    equality=_best_encoders,
    mutants={
        "any-covariance": Mutant("a diagonal encoder", _any_covariance, THREE_BY_TWO.replace(encoder_correlation=real(-0.95, 0.95))),
        "larger-gap": Mutant("the constant: 1.1 times the gap", _larger_gap),
    },
    proof="The gap is the KL divergence from the encoder to the posterior; minimise it in m and D; Hadamard's inequality for det M.",
)
def linear_vae_elbo_gap(loadings, noise_variance, x, encoder_mean, encoder_variances) -> Estimate:
    """The slack of the first inequality or, if less, of the second."""
    gap = hadamard_gap(Ppca(loadings, jnp.zeros(3), noise_variance))
    return closed_form(jnp.minimum(_slack(loadings, noise_variance, x, encoder_mean, encoder_variances, hadamard_gap), gap))
