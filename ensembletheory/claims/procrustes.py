r"""Claims about loadings up to rotation: which law they give, and how far two laws are if their loadings differ.

The quotient metric d(W, V) = min over orthogonal Q of |W - V Q| is the Bures-Wasserstein distance of W W^T and V V^T (Bhatia, Jain & Lim 2019). It is at most the distance
|A^{1/2} - B^{1/2}| of the symmetric roots, one of the choices of Q, so the inequality of Powers & Stormer (1970) gives the converse of rotation invariance with a modulus:

    d(W, V)^2 <= |W W^T - V V^T|_1 (the sum of absolute eigenvalues): equal laws have loadings that differ by a rotation.

The exponent 2 is needed where W has less than full rank.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import orthogonal, positive, real, spd
from ensembletheory.divergences import kl
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.latent import Ppca
from ensembletheory.linalg import cholesky

__all__ = ["ppca_rotation_invariance", "procrustes_is_bures", "procrustes_modulus"]

TWO_COVARIANCES = Domain(first=spd(2, 0.1, 10), second=spd(2, 0.1, 10), rotation=orthogonal(2))
TWO_LOADINGS = Domain(first=real(-2, 2, shape=(2, 2)), second=real(-2, 2, shape=(2, 2)))
ROTATED = Domain(loadings=real(-2, 2, shape=(3, 2)), noise_variance=positive(0.1, 5), rotation=orthogonal(2))

_SMALLEST = 1e-300  # under a root, whose derivative at 0 is infinite


def _root(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.maximum(x, _SMALLEST))


def _det(S: Float[Array, "2 2"]) -> Float[Array, ""]:
    return S[0, 0] * S[1, 1] - S[0, 1] * S[1, 0]


def _bures_squared(A: Float[Array, "2 2"], B: Float[Array, "2 2"]) -> Float[Array, ""]:
    """The number tr A + tr B - 2 tr (A^{1/2} B A^{1/2})^{1/2}, whose last trace is sqrt(tr(AB) + 2 sqrt(det A det B)) for 2 x 2 matrices."""
    return jnp.trace(A) + jnp.trace(B) - 2 * _root(jnp.sum(A * B) + 2 * _root(_det(A) * _det(B)))


def _procrustes_squared(W: Float[Array, "2 2"], V: Float[Array, "2 2"]) -> Float[Array, ""]:
    """The number |W|^2 + |V|^2 - 2 |W^T V|_*, whose last norm is sqrt(|M|^2 + 2 |det M|) for 2 x 2 matrices."""
    M = W.T @ V
    return jnp.sum(W**2) + jnp.sum(V**2) - 2 * _root(jnp.sum(M**2) + 2 * jnp.abs(_det(M)))


def _absolute_eigenvalues(S: Float[Array, "2 2"]) -> Float[Array, ""]:
    """The number |l_1| + |l_2| = max(|l_1 + l_2|, |l_1 - l_2|)."""
    return jnp.maximum(jnp.abs(jnp.trace(S)), _root((S[0, 0] - S[1, 1]) ** 2 + 4 * S[0, 1] ** 2))


def _best_rotations() -> Iterator[dict[str, Any]]:
    for first, second in (([[2.0, 0.5], [0.5, 1.0]], [[1.0, -0.5], [-0.5, 3.0]]), ([[1.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 4.0]])):
        L, K = np.linalg.cholesky(first), np.linalg.cholesky(second)
        U, _, V = np.linalg.svd(K.T @ L)
        yield {"first": first, "second": second, "rotation": U @ V}


def _slack(first, second, right, constant=1.0) -> Estimate:
    squared = jnp.sum((cholesky(first) - cholesky(second) @ right) ** 2)
    return closed_form(squared - constant * _bures_squared(first, second))


def _larger_distance(first, second, rotation) -> Estimate:
    return _slack(first, second, rotation, constant=1.1)


def _shrunk(first, second, rotation, factor) -> Estimate:
    return _slack(first, second, factor * rotation)


@claim(
    id="procrustes-is-bures",
    statement=r"\min_{Q^\top Q = I} \|W - V Q\|^2 = \mathrm{tr}\, A + \mathrm{tr}\, B - 2 \, \mathrm{tr} (A^{1/2} B A^{1/2})^{1/2}, \quad A = W W^\top, \; B = V V^\top",
    source="Bhatia, Jain & Lim (2019)",
    domain=TWO_COVARIANCES,
    kind="theorem",
    references=["bhatia2019bures"],
    equality=_best_rotations,
    mutants={
        "larger-distance": Mutant("the constant: 1.1 times the Bures distance", _larger_distance),
        "any-matrix": Mutant("an orthogonal Q: a rotation times a factor", _shrunk, TWO_COVARIANCES.replace(factor=real(0.1, 1))),
    },
    proof="max over Q of tr(W^T V Q) is the nuclear norm of W^T V, and (W^T V)^T W^T V has the spectrum of A^{1/2} B A^{1/2}.",
)
def procrustes_is_bures(first, second, rotation) -> Estimate:
    """|L - K Q|^2 less the squared Bures distance of A = L L^T and B = K K^T: >= 0, and 0 at the polar factor of K^T L."""
    return _slack(first, second, rotation)


def _orthogonal_loadings() -> Iterator[dict[str, Any]]:
    yield {"first": [[1.0, 0.0], [0.0, 0.0]], "second": [[0.0, 0.0], [0.5, 1.0]]}
    yield {"first": [[1.0, -0.5], [2.0, 0.5]], "second": [[0.0, 0.0], [0.0, 0.0]]}


def _modulus(first, second, constant=1.0) -> Estimate:
    return closed_form(_absolute_eigenvalues(first @ first.T - second @ second.T) - constant * _procrustes_squared(first, second))


def _larger_modulus(first, second) -> Estimate:
    return _modulus(first, second, constant=1.1)


def _euclidean_modulus(first, second) -> Estimate:
    return closed_form(_root(jnp.sum((first @ first.T - second @ second.T) ** 2)) - _procrustes_squared(first, second))


@claim(
    id="procrustes-modulus",
    statement=r"\min_{Q^\top Q = I} \|W - V Q\|^2 \leq \| W W^\top - V V^\top \|_1",
    source="Powers & Stormer (1970) for the roots of W W^T and V V^T, which are loadings too",
    domain=TWO_LOADINGS,
    kind="theorem",
    references=["powers1970free", "bhatia2019bures"],
    equality=_orthogonal_loadings,
    mutants={
        "larger-constant": Mutant("the constant: 1.1", _larger_modulus),
        "euclidean-norm": Mutant("the sum of absolute eigenvalues: the root of the sum of their squares, instead", _euclidean_modulus),
    },
    proof="The symmetric roots are W Q and V R for some rotations, so the left side is at most their squared distance, which Powers & Stormer bound.",
)
def procrustes_modulus(first, second) -> Estimate:
    """How far the laws are apart, less the squared quotient distance of the loadings."""
    return _modulus(first, second)


def _rotations() -> Iterator[dict[str, Any]]:
    W = [[1.0, 0.5], [-0.5, 2.0], [0.0, 1.0]]
    for c, s in ((1.0, 0.0), (0.6, 0.8), (0.0, -1.0)):
        yield {"loadings": W, "noise_variance": 0.5, "rotation": [[c, -s], [s, c]]}


def _divergence(loadings, noise_variance, right) -> Estimate:
    zero = jnp.zeros(loadings.shape[0])
    return -kl(Ppca(loadings, zero, noise_variance).law, Ppca(loadings @ right, zero, noise_variance).law)


def _sheared(loadings, noise_variance, rotation, shear) -> Estimate:
    return _divergence(loadings, noise_variance, rotation @ (jnp.eye(2) + shear * jnp.asarray([[0.0, 1.0], [0.0, 0.0]])))


@claim(
    id="ppca-rotation-invariance",
    statement=r"\mathrm{KL}(p_W \,\|\, p_{W Q}) = 0 \; \mathrm{for} \; Q^\top Q = I, \quad p_W = N(0, W W^\top + \sigma^2 I)",
    source="Tipping & Bishop (1999)",
    domain=ROTATED,
    kind="theorem",
    references=["tipping1999probabilistic"],
    equality=_rotations,
    mutants={"shear": Mutant("an orthogonal Q: a rotation times a shear", _sheared, ROTATED.replace(shear=real(-1, 1)))},
    proof="W Q Q^T W^T = W W^T.",
)
def ppca_rotation_invariance(loadings, noise_variance, rotation) -> Estimate:
    """Minus the divergence between the laws of rotated loadings: never above 0, and 0 where the laws agree."""
    return _divergence(loadings, noise_variance, rotation)
