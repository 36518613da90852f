r"""Mixtures of probabilistic principal component analysers (Tipping & Bishop 1999b), the generative model of a linear VAE with a discrete latent.

    label k with probability w_k,   z ~ N(0, I_q),   x | k, z ~ N(W_k z + mu_k, s2_k I),   hence   p(x) = sum_k w_k N(x; mu_k, W_k W_k^T + s2_k I).

Given x the label has probability r_k(x) = w_k p_k(x) / p(x), and given the label too, z has the posterior of component k: z | x is a Gaussian mixture.

With encoders e_k(z | x) and label probabilities c_k(x) the evidence lower bound is sum_k c_k ( log w_k - log c_k + ELBO_k(x) ). At the best diagonal encoders ELBO_k is
log p_k(x) - g_k with g_k the Hadamard gap of component k, a constant; the best labels are then c_k proportional to w_k p_k(x) e^{-g_k}, and (derived here, by Gibbs'
variational principle)

    ELBO(x) = log sum_k w_k p_k(x) e^{-g_k},      log p(x) - ELBO(x) = -log sum_k r_k(x) e^{-g_k}  in  [min g_k, max g_k]:

the gap depends on x, unlike that of one component, and is 0 if and only if the columns of each W_k are orthogonal.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.estimate import Estimate
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent.model import LatentModel
from ensembletheory.latent.ppca import Ppca, hadamard_gap
from ensembletheory.laws import GaussianMixture
from ensembletheory.laws.law import checked_point
from ensembletheory.laws.weights import checked_weights, log_weighted_sum

__all__ = ["PpcaMixture", "mixture_elbo"]


class PpcaMixture(LatentModel):
    """The mixture of K PPCAs; its `law` is a Gaussian mixture whose covariances keep their low rank.

    Args:
        weights: (K,), non-negative, summing to 1.
        loadings: (K, d, q).
        means: (K, d).
        noise_variances: (K,), positive.

    Raises:
        ValueError: if shapes do not agree, weights are off the simplex, a value is not finite, or a noise variance is not positive.
    """

    weights: Float[Array, " K"]
    components: Ppca  # batched: every leaf has a leading axis K

    def __init__(self, weights: Numbers, loadings: Numbers, means: Numbers, noise_variances: Numbers):
        loadings, means = as_floats("loadings", loadings), as_floats("means", means)
        noise_variances = as_floats("noise_variances", noise_variances)
        if loadings.ndim != 3 or means.shape != loadings.shape[:2] or noise_variances.shape != loadings.shape[:1]:
            got = f"shapes {loadings.shape}, {means.shape}, {noise_variances.shape}"
            refuse("loadings, means, noise_variances", got, "(K, d, q), (K, d) and (K,)", "One of each a component, all with the same latent dimension.")
        if is_concrete(noise_variances) and np.min(np.asarray(noise_variances)) <= 0:
            refuse("noise_variances", f"{float(np.min(noise_variances)):.6g}", "positive numbers", "Pass variances, not their logarithms.")
        self.weights = checked_weights(weights, loadings.shape[0])
        self.components = jax.vmap(Ppca)(loadings, means, noise_variances)

    @property
    def dim(self) -> int:
        """The dimension d of x."""
        return self.components.loadings.shape[-2]

    @property
    def loadings(self) -> Float[Array, "K d q"]:
        """The components' loadings."""
        return self.components.loadings

    @property
    def means(self) -> Float[Array, "K d"]:
        """The components' means."""
        return self.components.mean

    @property
    def noise_variances(self) -> Float[Array, " K"]:
        """The components' noise variances."""
        return self.components.noise_variance

    @property
    def law(self) -> GaussianMixture:
        """The law of x."""
        return _law(self)

    @property
    def posteriors(self) -> AffineKernel:
        """The exact encoders x -> z | x, k, batched over the components."""
        return _posteriors(self)

    def entropy(self, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
        """The differential entropy of x, as that of a Gaussian mixture."""
        return self.law.entropy(key, samples)

    def responsibilities(self, x: Numbers) -> Float[Array, "... K"]:
        """The probabilities r_k(x) of the labels given x (..., d)."""
        return _responsibilities(self.law, checked_point("x", x, self.dim))

    def latent_law(self, x: Numbers) -> GaussianMixture:
        """The law of z given one point x (d,), labels summed out."""
        return _latent_law(self, checked_point("x", x, self.dim))


def mixture_elbo(model: PpcaMixture, x: Numbers) -> Float[Array, "..."]:
    """The largest evidence lower bound in nats at x (..., d) with a label and, for each label, an encoder of diagonal covariance: log sum_k w_k p_k(x) e^{-g_k}."""
    return _mixture_elbo(model, checked_point("x", x, model.dim))


@eqx.filter_jit
def _law(model: PpcaMixture) -> GaussianMixture:
    return GaussianMixture(model.weights, model.means, jax.vmap(lambda component: component.law.covariance)(model.components))


@eqx.filter_jit
def _posteriors(model: PpcaMixture) -> AffineKernel:
    return jax.vmap(lambda component: component.posterior)(model.components)


@eqx.filter_jit
def _responsibilities(law: GaussianMixture, x: Float[Array, "... d"]) -> Float[Array, "... K"]:
    return jnp.vectorize(law.responsibilities, signature="(d)->(k)")(x)


@eqx.filter_jit
def _latent_law(model: PpcaMixture, x: Float[Array, " d"]) -> GaussianMixture:
    posteriors = jax.vmap(lambda component: component.posterior.at(x))(model.components)
    covs = jax.vmap(lambda posterior: posterior.cov)(posteriors)
    return GaussianMixture(model.law.responsibilities(x), posteriors.mean, covs)


@eqx.filter_jit
def _mixture_elbo(model: PpcaMixture, x: Float[Array, "... d"]) -> Float[Array, "..."]:
    gaps, law = jax.vmap(hadamard_gap)(model.components), model.law

    def at(point):
        return log_weighted_sum(model.weights, jax.vmap(lambda component: component._log_prob(point))(law.components) - gaps)

    return jnp.vectorize(at, signature="(d)->()")(x)
