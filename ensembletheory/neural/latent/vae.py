r"""A variational autoencoder (Kingma & Welling 2014): perceptrons as decoder and encoder, and a noise variance that is learned.

With m and c^2 the mean and the variance per coordinate of the data, and perceptrons F and G,

    x | z ~ N(m + c F(z), c^2 diag(u)),      (mean of z | x, log-variances of z | x) = G((x - m) / c),

u one number (`noise="scalar"`), one a coordinate ("diagonal"), or a fixed one. With no hidden layer (`depth=0`) F is affine, G is affine for the mean, and the encoder's
log-variances do not depend on x: the linear VAE, whose decoder is a `Ppca` exactly (for one noise variance) and whose encoder is an `AffineKernel`, so that everything in
`ensembletheory.latent` holds of it. The law of x does not change when z is turned by an orthogonal matrix; the ELBO does not when the turn is a signed permutation
(`ensembletheory.neural.latent.averaged_vae`). As the initial parameters are independent normal numbers and Adam works entry by entry, training commutes with signed
permutations of z, and all 2^q q! copies of an optimum are equally likely to be reached.

The noise variance begins at a tenth of that of the data: columns of W whose share of the data's variance is below the noise collapse (`latent.collapse_thresholds`).
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ensembletheory.covariance import AxisAligned, Diagonal
from ensembletheory.errors import checked_count, refuse
from ensembletheory.kernels import AffineKernel
from ensembletheory.latent import Ppca, best_diagonal_encoder
from ensembletheory.laws import Law
from ensembletheory.neural.data import scale_of
from ensembletheory.neural.latent.variational import VariationalModel
from ensembletheory.neural.perceptron import Perceptron

__all__ = ["Vae", "linear_vae"]

_FIRST_NOISE = 0.1


class Vae(VariationalModel):
    """A variational autoencoder.

    Args:
        key: of the initial parameters.
        law: of the data, from which location and scale are taken.
        latent: the dimension q of z, at most that of the data.
        width: units in a hidden layer.
        depth: number of hidden layers; 0 is the linear VAE.
        noise: "scalar" or "diagonal" for what is learned, or the variance of the noise if it is not.

    Raises:
        ValueError: if q is not in 1 ... d, a layer has no units, the noise is neither, or the law has no spread.
    """

    decoder: Perceptron
    encoder: Perceptron
    constants: Float[Array, " c"]
    log_noise: Float[Array, " u"]
    mean: Float[Array, " d"]
    scale: Float[Array, ""]
    learns_noise: bool = eqx.field(static=True)

    def __init__(self, key: PRNGKeyArray, law: Law, latent: int, width: int = 64, depth: int = 2, noise: Literal["scalar", "diagonal"] | float = "scalar"):
        if checked_count("latent", latent, 1) > law.dim:
            refuse("latent", f"{latent}", f"at most {law.dim}, the dimension of the data", "More latent than data dimensions say nothing that fewer do not.")
        for_decoder, for_encoder = jax.random.split(key)
        self.decoder = Perceptron(for_decoder, latent, law.dim, width, depth)
        self.encoder = Perceptron(for_encoder, law.dim, 2 * latent if depth else latent, width, depth)
        self.constants = jnp.zeros(0 if depth else latent)
        self.mean, self.scale = law.mean, scale_of(law)
        self.log_noise = _log_noise(noise, law.dim, self.scale)
        self.learns_noise = isinstance(noise, str)

    @property
    def dim(self) -> int:
        """The dimension d of x."""
        return self.mean.shape[-1]

    @property
    def latent(self) -> int:
        """The dimension q of z."""
        return self.decoder.layers[0].shape[-1] - 1

    @property
    def affine(self) -> bool:
        """Whether the decoder has no hidden layer."""
        return len(self.decoder.layers) == 1

    @property
    def noise_variances(self) -> Float[Array, " d"]:
        """The variances of x given z."""
        log_noise = self.log_noise if self.learns_noise else jax.lax.stop_gradient(self.log_noise)
        return jnp.broadcast_to(jax.lax.stop_gradient(self.scale) ** 2 * jnp.exp(log_noise), (self.dim,))

    def decode(self, z: Float[Array, " q"]) -> Float[Array, " d"]:
        """The mean of x given z."""
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        return mean + scale * self.decoder(z)

    def encode(self, x: Float[Array, " d"]) -> tuple[Float[Array, " q"], Float[Array, " q"]]:
        """Mean and variances of z given x.

        Raises:
            ValueError: if x is not (d,).
        """
        if jnp.shape(x) != (self.dim,):
            refuse("x", f"shape {jnp.shape(x)}", f"({self.dim},)", "An encoder sees one point; use vmap for more.")
        mean, scale = jax.lax.stop_gradient((self.mean, self.scale))
        outputs = jnp.concatenate([self.encoder((x - mean) / scale), self.constants])
        return outputs[: self.latent], jnp.exp(outputs[self.latent :])

    def ppca(self) -> Ppca:
        """The linear VAE's generative model.

        Raises:
            ValueError: if the decoder has hidden layers, or there are several noise variances.
        """
        _require_linear(self.decoder)
        if self.log_noise.size != 1:
            refuse("model", f"a VAE of {self.log_noise.size} noise variances", "one noise variance", "PPCA has one; `law()` gives the law of factor analysis.")
        return _ppca(self)

    def encoder_kernel(self) -> AffineKernel:
        """The linear VAE's encoder.

        Raises:
            ValueError: if the encoder has hidden layers.
        """
        _require_linear(self.encoder)
        return _kernel(self)


def linear_vae(model: Ppca, encoder: AffineKernel | None = None) -> Vae:
    """The linear VAE that is a given PPCA, with a given encoder of diagonal covariance (by default that of largest ELBO).

    Raises:
        ValueError: if the encoder does not map x to z, or its covariance is not diagonal.
    """
    encoder = best_diagonal_encoder(model) if encoder is None else encoder
    if encoder.A.shape != model.loadings.shape[::-1] or not isinstance(encoder.C, AxisAligned):
        got = f"a kernel of shape {encoder.A.shape} with {type(encoder.C).__name__} covariance"
        refuse("encoder", got, f"{model.loadings.shape[::-1]} and Diagonal", "Take best_diagonal_encoder(model).")
    return _linear_vae(model, encoder)


@eqx.filter_jit
def _linear_vae(model: Ppca, encoder: AffineKernel) -> Vae:
    vae = Vae(jax.random.key(0), model.law, model.loadings.shape[1], depth=0)
    outputs = jnp.concatenate([model.loadings / vae.scale, jnp.zeros((model.dim, 1))], axis=1)
    inputs = jnp.concatenate([encoder.A * vae.scale, (encoder.b + encoder.A @ model.mean)[:, None]], axis=1)
    variances = jnp.log(encoder.C.diagonal()), jnp.log(model.noise_variance / vae.scale**2)[None]
    return eqx.tree_at(lambda v: (v.decoder.layers[0], v.encoder.layers[0], v.constants, v.log_noise), vae, (outputs, inputs, *variances))


def _require_linear(network: Perceptron) -> None:
    if len(network.layers) > 1:
        refuse("model", f"a VAE with {len(network.layers) - 1} hidden layers", "a linear VAE", "Build it with depth=0.")


def _log_noise(noise: Literal["scalar", "diagonal"] | float, dim: int, scale: Float[Array, ""]) -> Float[Array, " u"]:
    """The first log-variances of the noise, in units of the data's."""
    if isinstance(noise, str) and noise in ("scalar", "diagonal"):
        return jnp.full(1 if noise == "scalar" else dim, np.log(_FIRST_NOISE))
    if isinstance(noise, str | bool) or noise is None or np.ndim(noise) or not 0 < noise < np.inf:
        refuse("noise", repr(noise), "'scalar', 'diagonal' or a positive number", "A number is the variance, and stays as it is.")
    return (jnp.log(jnp.asarray(noise, scale.dtype)) - 2 * jnp.log(scale))[None]


@eqx.filter_jit
def _ppca(vae: Vae) -> Ppca:
    layer = vae.decoder.layers[0]
    return Ppca(vae.scale * layer[:, :-1], vae.mean + vae.scale * layer[:, -1], vae.noise_variances[0])


@eqx.filter_jit
def _kernel(vae: Vae) -> AffineKernel:
    layer = vae.encoder.layers[0]
    A = layer[:, :-1] / vae.scale
    return AffineKernel(A, layer[:, -1] - A @ vae.mean, Diagonal(jnp.exp(vae.constants)))
