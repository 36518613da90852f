r"""Several inputs, one trunk, several heads (MIMO, MixMo), in the linear-Gaussian case where everything is exact.

*Model.* M slots. In training, slot k holds its own input x_k ~ N(0, S) in R^d, independent over slots, and its own target y_k = B x_k + e_k in R^p, e_k of covariance N.
Own linear encoders C_k (r x d) feed a shared trunk of width r, in which features are mixed with coefficients lambda on the simplex,
$$ h = M \sum_k \lambda_k C_k x_k, \qquad \hat y_i = D_i h, $$
and M linear heads D_i (p x r) are trained on sum_i r_i E|y_i - \hat y_i|^2 with r_i = M lambda_i^{1/q} / sum_j lambda_j^{1/q}. lambda = 1/M is MIMO (plain sum, r_i = 1);
a linear trunk between mixing and heads changes nothing but the width r. When testing, one input x goes to all slots, features are mixed with tau (default 1/M), and the
heads are averaged.

*Optimum.* With S = L L^T and B L = sum_j sigma_j u_j v_j^T, the heads' maps of slot k, A_ik = D_i M lambda_k C_k, form a matrix of rank at most r, and the loss is
sum_ik r_i |A_ik L - delta_ik B L|^2 + sum_i r_i tr N: reduced-rank regression (Eckart & Young). Its target is block diagonal with singular values sqrt(r_i) sigma_j, of
which the r largest are kept. So *the trunk's width is shared out among the slots*: with M equal slots, width r is worth r/M to each.

Where weights are equal, sqrt(r_i) sigma_j is the same for all i, and if only t of the M fit, any t-dimensional subspace of slots, with projection Q_j, is optimal in
training: A_ik = sum_j (Q_j)_ik sigma_j u_j v_j^T L^{-1}. Two of these optima are offered:
- "slots": Q_j is diagonal, t heads learn component j and the others do not (the most diverse heads);
- "shared": Q_j contains the direction 1/sqrt(M) (1, ..., 1) first. With t = 1 every head predicts the average of the component over all slots, which is 1/M of it in
  training and all of it when every slot holds the same input.

*Errors.* In training head i has E|y_i - \hat y_i|^2 = tr N + sum_j sigma_j^2 (1 - (Q_j)_ii). When testing it passes
g_ij = sum_k (Q_j)_ik tau_k / lambda_k of component j, so that
$$ E\, (y - \hat y_i)^T (y - \hat y_l) = tr N + \sum_j \sigma_j^2 (1 - g_{ij})(1 - g_{lj}), $$
and the average of the heads has tr N + sum_j sigma_j^2 (1 - mean_i g_ij)^2, by Jensen at most the heads' average error.

*Random mixing.* In a wide trunk (r >= M rank B), with lambda drawn anew for every example and unknown to the heads, the optimum is D_i C_k = delta_ik kappa_i B with
kappa_i = E[r_i M lambda_i] / E[r_i (M lambda_i)^2]. Heads shrink, for they do not know how strongly their input is present: kappa_i <= 1 for exchangeable lambda, because
E[r_i M lambda_i] >= 1 (Chebyshev's sum inequality) and by Jensen.

*Finite samples.* In a wide trunk, lambda = 1/M, one output with noise variance s^2, trained by least squares on n tuples of M independent examples: every head regresses on
M d inputs, of which (M - 1) d are noise to it, and by the mean of an inverse Wishart matrix its test error is s^2 (1 + M d / (n - M d - 1)). Given the inputs, the heads'
estimates use different targets and are uncorrelated, so the average of the heads has s^2 (1 + d / (n - M d - 1)), and two heads' errors correlate by
(n - M d - 1) / (n - 1), only through the noise of the test target. One network fitted to n examples has s^2 (1 + d / (n - d - 1)), less than the M heads on average: the
diversity of the heads only pays back what the other slots' inputs cost.

Source: Havasi et al., "Training independent subnetworks for robust prediction" (ICLR 2021) for MIMO; Rame, Sun & Cord, "MixMo" (ICCV 2021) for the mixing and the weights
(q = 3 there). The closed forms are derived here.
"""

from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.covariance import Covariance, as_covariance, refuse_singular
from ensembletheory.errors import Numbers, as_floats, is_concrete, refuse
from ensembletheory.laws.weights import checked_weights
from ensembletheory.supervised.arguments import positive

__all__ = ["LinearMimo", "MimoSampleErrors", "linear_mimo", "mimo_sample_errors", "mixmo_shrinkage", "mixmo_weights"]

_SAME = 1e-9  # relative: slots whose values differ by less are taken in their order


class LinearMimo(eqx.Module):
    """The optimum of a linear MIMO model, with exact expected errors summed over the p outputs; see the module.

    Args:
        maps: (M, M, p, d); maps[i, k] is what head i does in training to the input of slot k.
        training_errors: (M,) of the heads, on independent inputs.
        error_products: (M, M), E (y - y_i)^T (y - y_l) of heads i and l when one input fills all slots; its diagonal holds the heads' errors.
        average_error: of the heads' average, one input in all slots.
    """

    maps: Float[Array, "M M p d"]
    training_errors: Float[Array, " M"]
    error_products: Float[Array, "M M"]
    average_error: Float[Array, ""]

    @property
    def test_errors(self) -> Float[Array, " M"]:
        """Expected squared error of each head when one input fills all slots."""
        return jnp.diagonal(self.error_products)

    @property
    def error_correlations(self) -> Float[Array, "M M"]:
        """Correlations between the heads' errors (which have mean zero), one input in all slots."""
        scale = jnp.sqrt(self.test_errors)
        return self.error_products / (scale[:, None] * scale[None, :])


class MimoSampleErrors(NamedTuple):
    """Expected squared test errors, over training samples too, of one head, of the heads' average, and of one network alone; and the correlation of two heads' errors."""

    head: Float[Array, "..."]
    average: Float[Array, "..."]
    alone: Float[Array, "..."]
    correlation: Float[Array, "..."]


def mixmo_weights(mixing: Numbers, root: float = 3.0) -> Float[Array, "... M"]:
    """r_i = M lambda_i^{1/q} / sum_j lambda_j^{1/q}, whose mean is 1.

    Args:
        mixing: (..., M) coefficients lambda > 0 that sum to 1 along the last axis.
        root: q > 0; 1 weights the heads as their inputs, and large q all alike.

    Raises:
        ValueError: if a coefficient or the root is not positive, or they do not sum to 1.
    """
    return _weights(_mixing(mixing), positive("root", root))


def linear_mimo(
    slope: Numbers,
    input_cov: Covariance | Numbers,
    noise_cov: Covariance | Numbers,
    width: int,
    mixing: Numbers,
    root: float = 3.0,
    test_mixing: Numbers | None = None,
    ties: Literal["slots", "shared"] = "slots",
) -> LinearMimo:
    """The best linear model of M slots with a shared trunk, and its exact errors.

    Args:
        slope: B (p, d) of the targets y = B x + e.
        input_cov: covariance of x: (d, d), (d,) diagonal or a scalar.
        noise_cov: covariance of e: (p, p), (p,) diagonal or a scalar.
        width: r >= 0 of the trunk.
        mixing: lambda (M,), positive, summing to 1; equal for MIMO.
        root: q of the weights `mixmo_weights(mixing, q)`.
        test_mixing: tau (M,) on the simplex, when one input fills all slots (default 1/M each).
        ties: which optimum, where several slots compete for less width than they need: "slots" or "shared" (equal mixing only).

    Raises:
        ValueError: if shapes do not agree, a covariance is not positive definite, the width is negative, the mixing is not positive or off the simplex, or `ties` is
            neither of the two, or "shared" with unequal mixing.
    """
    B = as_floats("slope", slope)
    if B.ndim != 2 or 0 in B.shape:
        refuse("slope", f"shape {B.shape}", "(p, d)", "One row an output, one column an input coordinate.")
    p, d = B.shape
    coefficients = _mixing(mixing)
    if coefficients.ndim != 1:
        refuse("mixing", f"shape {coefficients.shape}", "(M,)", "One coefficient a slot; for random mixing see mixmo_shrinkage.")
    M = coefficients.shape[0]
    if width < 0 or int(width) != width:
        refuse("width", str(width), "a whole number >= 0", "It is the number of units of the trunk.")
    if ties not in ("slots", "shared"):
        refuse("ties", repr(ties), "'slots' or 'shared'", "See the module.")
    if ties == "shared" and not np.allclose(coefficients, 1 / M, rtol=1e-12, atol=0):
        refuse("ties", "'shared' with unequal mixing", "'slots'", "Only slots of equal weight can share a component.")
    tested = checked_weights(test_mixing, M)
    inputs, noise = as_covariance("input_cov", input_cov, d), as_covariance("noise_cov", noise_cov, p)
    refuse_singular("input_cov", inputs)
    return _optimum(B, inputs, noise, coefficients, mixmo_weights(mixing, root), tested, jnp.asarray(int(width)), ties)


def mixmo_shrinkage(mixings: Numbers, probabilities: Numbers | None = None, root: float = 3.0) -> Float[Array, " M"]:
    """kappa_i of a wide trunk whose mixing coefficients are random: what each head keeps of B when its features are present in full.

    Args:
        mixings: (L, M) the values of lambda, each positive and summing to 1.
        probabilities: (L,) of these values (default equal); for a Beta law, nodes and weights of a quadrature rule.
        root: q of the weights `mixmo_weights(lambda, q)`.

    Returns:
        E[r_i M lambda_i] / E[r_i (M lambda_i)^2].

    Raises:
        ValueError: if a coefficient is not positive, a row does not sum to 1, or the probabilities are off the simplex.
    """
    coefficients = _mixing(mixings)
    if coefficients.ndim != 2:
        refuse("mixings", f"shape {coefficients.shape}", "(L, M)", "One row a value of the mixing coefficients.")
    law = checked_weights(probabilities, coefficients.shape[0])
    return _shrinkage(coefficients, law, positive("root", root))


def mimo_sample_errors(slots: Numbers, dim: Numbers, samples: Numbers, noise_variance: Numbers = 1.0) -> MimoSampleErrors:
    """Expected test errors of a wide linear MIMO model fitted by least squares to n tuples of independent Gaussian inputs, without intercept.

    Args:
        slots: M >= 1; numbers go elementwise, scalars with every shape.
        dim: d >= 1, of one input.
        samples: n > M d + 1, of tuples.
        noise_variance: s^2 > 0 of the targets.

    Raises:
        ValueError: if M, d or n is not positive, s^2 is not, or n <= M d + 1 (where the expectation is infinite).
    """
    M, d, n, s2 = positive("slots", slots), positive("dim", dim), positive("samples", samples), positive("noise_variance", noise_variance)
    if is_concrete(M, d, n) and np.any(np.asarray(n) <= np.asarray(M) * np.asarray(d) + 1):
        refuse("samples", f"{np.min(n):g} with {np.max(np.asarray(M) * np.asarray(d)):g} regressors", "more than M d + 1", "With fewer the expected error is infinite.")
    return _sample_errors(M, d, n, s2)


def _mixing(mixing: Numbers) -> Float[Array, "... M"]:
    coefficients = positive("mixing", mixing)
    if coefficients.ndim == 0:
        refuse("mixing", "one number", "(M,)", "One coefficient a slot, such as [0.5, 0.5].")
    if is_concrete(coefficients) and not np.allclose(np.sum(coefficients, axis=-1), 1, rtol=0, atol=1e-12):
        refuse("mixing", f"coefficients that sum to {np.sum(coefficients, axis=-1).ravel()[0]:.12g}", "1", "Divide them by their sum.")
    return coefficients


@eqx.filter_jit
def _weights(mixing: Array, root: Array) -> Array:
    powers = mixing ** (1 / root)
    return powers.shape[-1] * powers / jnp.sum(powers, axis=-1, keepdims=True)


@eqx.filter_jit
def _shrinkage(mixings: Array, law: Array, root: Array) -> Array:
    present, weights = mixings.shape[1] * mixings, _weights(mixings, root)
    return (law @ (weights * present)) / (law @ (weights * present**2))


@eqx.filter_jit
def _sample_errors(M: Array, d: Array, n: Array, s2: Array) -> MimoSampleErrors:
    left = n - M * d - 1
    return MimoSampleErrors(s2 * (1 + M * d / left), s2 * (1 + d / left), s2 * (1 + d / (n - d - 1)), left / (n - 1))


@eqx.filter_jit
def _optimum(B, inputs: Covariance, noise: Covariance, mixing, weights, tested, width: Array, ties: str) -> LinearMimo:
    L = jnp.linalg.cholesky(inputs.as_matrix())
    U, sigma, Vt = jnp.linalg.svd(B @ L, full_matrices=False)
    whitened = jnp.linalg.solve(L.T, Vt.T).T
    kept = _kept(weights, sigma, width)
    basis = jnp.asarray(_slot_basis(len(weights), ties))
    Q = jnp.einsum("ia,aj,ka->jik", basis, kept, basis)
    passed = jnp.einsum("jik,k->ij", Q, tested / mixing)
    floor, lost = jnp.trace(noise.as_matrix()), 1 - passed
    return LinearMimo(
        maps=jnp.einsum("jik,j,pj,jd->ikpd", Q, sigma, U, whitened),
        training_errors=floor + (1 - jnp.einsum("jii->ij", Q)) @ sigma**2,
        error_products=floor + (lost * sigma[None, :] ** 2) @ lost.T,
        average_error=floor + jnp.mean(lost, axis=0) ** 2 @ sigma**2,
    )


def _kept(weights: Float[Array, " M"], sigma: Float[Array, " m"], width: Array) -> Float[Array, "M m"]:
    """1 for the `width` largest of sqrt(r_a) sigma_j, ties going to the first slots, else 0."""
    values = jnp.sqrt(weights)[:, None] * sigma[None, :]
    ranked = values * (1 - _SAME * jnp.arange(values.shape[0], dtype=values.dtype))[:, None]
    places = jnp.argsort(jnp.argsort(-ranked.T.ravel()))
    return (places < width).astype(values.dtype).reshape(values.T.shape).T


def _slot_basis(slots: int, ties: str) -> np.ndarray:
    """An orthogonal basis of the space of slots, in columns: the slots themselves, or cosines of which the first is constant."""
    if ties == "slots":
        return np.eye(slots)
    i, a = np.arange(slots)[:, None], np.arange(slots)[None, :]
    return np.cos(np.pi * a * (2 * i + 1) / (2 * slots)) * np.where(a == 0, np.sqrt(1 / slots), np.sqrt(2 / slots))
