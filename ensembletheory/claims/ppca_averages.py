r"""Claims about averages of the parameters of PPCA members that agree in law: the loadings W and a copy of them turned by an angle theta (two factors).

w W + (1 - w) W R(theta) = W ( w I + (1 - w) R(theta) ), and in the plane |w + (1 - w) e^{i theta}|^2 = 1 - 4 w (1 - w) sin^2(theta / 2): averaged as they stand, the loadings
keep that share of W W^T, cos^2(theta / 2) for equal weights, and none for opposite copies. Aligned loadings and covariances do not depend on the angle, nor on reflections.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real, simplex
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.latent import Ppca
from ensembletheory.pooling import average_aligned_loadings, average_covariances, average_loadings

__all__ = ["ppca_aligned_average", "ppca_covariance_average", "ppca_rotation_average"]

COPIES = Domain(loadings=real(-2, 2, shape=(3, 2)), noise_variance=positive(0.1, 5), angle=real(-np.pi, np.pi), weights=simplex(2))
ANY = COPIES.replace(other=real(-2, 2, shape=(3, 2)))
REFLECTION = np.diag([1.0, -1.0])


def _some() -> Iterator[dict[str, Any]]:
    for angle, weights in ((0.0, [0.5, 0.5]), (2.0, [0.5, 0.5]), (np.pi, [0.3, 0.7])):
        yield {"loadings": [[1.0, 0.5], [-0.5, 2.0], [0.0, 1.0]], "noise_variance": 0.5, "angle": angle, "weights": weights}


def _turn(angle: Float[Array, ""]) -> Float[Array, "2 2"]:
    c, s = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])


def _models(loadings, noise_variance, other) -> list[Ppca]:
    return [Ppca(W, jnp.zeros(3), noise_variance) for W in (loadings, other)]


def _distance(cov: Float[Array, "3 3"], loadings: Float[Array, "3 2"], noise_variance: Float[Array, ""], kept: Float[Array, ""] | float) -> Estimate:
    """Minus the largest difference to kept W W^T + s2 I."""
    return closed_form(-jnp.max(jnp.abs(cov - kept * loadings @ loadings.T - noise_variance * jnp.eye(3))))


def _share(angle, weights):
    return 1 - 4 * weights[0] * weights[1] * jnp.sin(angle / 2) ** 2


def _raw(loadings, noise_variance, copy, weights, kept) -> Estimate:
    average = average_loadings(_models(loadings, noise_variance, copy), weights)
    return _distance(average.law.cov, loadings, noise_variance, kept)


def _not_squared(loadings, noise_variance, angle, weights) -> Estimate:
    return _raw(loadings, noise_variance, loadings @ _turn(angle), weights, jnp.sqrt(_share(angle, weights)))


def _reflected(loadings, noise_variance, angle, weights) -> Estimate:
    return _raw(loadings, noise_variance, loadings @ _turn(angle) @ REFLECTION, weights, _share(angle, weights))


def _nothing_lost(loadings, noise_variance, angle, weights) -> Estimate:
    return _raw(loadings, noise_variance, loadings @ _turn(angle), weights, 1.0)


@claim(
    id="ppca-rotation-average",
    statement=r"\bar W \bar W^T = (1 - 4 w_1 w_2 \, \sin^2 \frac{\theta}{2}) \, W W^T, \quad \bar W = w_1 W + w_2 W R_\theta, \quad q = 2",
    source="derived here",
    domain=COPIES,
    kind="theorem",
    references=["tipping1999probabilistic"],
    equality=_some,
    mutants={
        "not-squared": Mutant("the constant: the root of that share", _not_squared),
        "reflected": Mutant("rotations: a reflected copy", _reflected),
        "nothing-lost": Mutant("the constant: nothing is lost", _nothing_lost),
    },
    proof="A combination of rotations of the plane is a rotation times its length, |w_1 + w_2 exp(i theta)|.",
)
def ppca_rotation_average(loadings, noise_variance, angle, weights) -> Estimate:
    """Minus the largest difference of the covariances: 0 where the identity holds."""
    return _raw(loadings, noise_variance, loadings @ _turn(angle), weights, _share(angle, weights))


def _aligned(loadings, noise_variance, copy, weights) -> Estimate:
    average = average_aligned_loadings(_models(loadings, noise_variance, copy), weights)
    return _distance(average.law.cov, loadings, noise_variance, 1.0)


def _other_loadings_aligned(loadings, noise_variance, angle, weights, other) -> Estimate:
    return _aligned(loadings, noise_variance, other @ _turn(angle), weights)


@claim(
    id="ppca-aligned-average",
    statement=r"\bar W \bar W^T = W W^T, \quad \bar W = w_1 W + w_2 W Q \hat Q, \quad \hat Q = \mathrm{argmin}_{O} |W Q O - W|, \quad Q \in O(2)",
    source="derived here from the orthogonal Procrustes problem",
    domain=COPIES,
    kind="theorem",
    references=["tipping1999probabilistic", "gower1975generalized"],
    equality=_some,
    mutants={
        "not-aligned": Mutant("the alignment", _nothing_lost),
        "other-loadings": Mutant("members that agree in law", _other_loadings_aligned, ANY),
    },
    proof="The alignment of a turned or reflected copy gives W back.",
)
def ppca_aligned_average(loadings, noise_variance, angle, weights) -> Estimate:
    """Minus the largest difference of the covariances, for a copy that is turned, or turned and reflected, whichever is larger."""
    turned, reflected = (_aligned(loadings, noise_variance, loadings @ _turn(angle) @ flip, weights).value for flip in (np.eye(2), REFLECTION))
    return closed_form(jnp.minimum(turned, reflected))


def _by_covariance(loadings, noise_variance, copy, weights) -> Estimate:
    average = average_covariances(_models(loadings, noise_variance, copy), weights)
    return _distance(average.cov, loadings, noise_variance, 1.0)


def _other_covariances(loadings, noise_variance, angle, weights, other) -> Estimate:
    return _by_covariance(loadings, noise_variance, other @ _turn(angle), weights)


@claim(
    id="ppca-covariance-average",
    statement=r"\sum_k w_k (W Q_k Q_k^T W^T + \sigma^2 I) = W W^T + \sigma^2 I, \quad Q_k \in O(2)",
    source="derived here",
    domain=COPIES,
    kind="theorem",
    references=["tipping1999probabilistic"],
    equality=_some,
    mutants={
        "other-loadings": Mutant("members that agree in law", _other_covariances, ANY),
        "loadings": Mutant("averaging covariances: loadings as they stand", _nothing_lost),
    },
    proof="Every member has the same covariance.",
)
def ppca_covariance_average(loadings, noise_variance, angle, weights) -> Estimate:
    """Minus the largest difference of the covariances."""
    return _by_covariance(loadings, noise_variance, loadings @ _turn(angle) @ REFLECTION, weights)
