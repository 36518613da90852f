r"""Transport, entropy and information: Gelbrich's bound, Talagrand's inequality, the logarithmic Sobolev inequality, HWI, and the data-processing inequality.

With g = N(0, I) and F(p || g) = E_p |grad log p - grad log g|^2 (no factor 1/2):

    W2^2(p, g) <= 2 KL(p || g)  (Talagrand),   KL(p || g) <= F / 2  (log-Sobolev, Gross),   KL(p || g) <= W2 sqrt(F) - W2^2 / 2  (HWI, Otto & Villani),

each attained by translations of g.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import orthogonal, positive, real, simplex, spd
from ensembletheory.divergences import fisher_divergence, kl, w2_squared
from ensembletheory.estimate import Estimate
from ensembletheory.laws import FiniteLaw, Gaussian, GaussianMixture

__all__ = ["data_processing", "gelbrich_bound", "hwi", "log_sobolev", "talagrand"]

TWO_SETS_OF_ATOMS = Domain(points=real(-3, 3, shape=(3,)), masses=simplex(3), other_points=real(-3, 3, shape=(3,)), other_masses=simplex(3))
IN_THE_PLANE = Domain(mean=real(-3, 3, shape=(2,)), cov=spd(2, 0.05, 20))
ON_THE_LINE = Domain(weights=simplex(2), means=real(-3, 3, shape=(2,)), variances=positive(0.05, 20, shape=(2,)))
CHANNEL = Domain(
    mean=real(-3, 3, shape=(2,)),
    cov=spd(2, 0.05, 20),
    other_mean=real(-3, 3, shape=(2,)),
    other_cov=spd(2, 0.05, 20),
    rotation=orthogonal(2),
    gains=positive(0.1, 10, shape=(2,)),
    noise=real(0, 5),
)


def _standard(variance: float = 1.0, d: int = 2) -> Gaussian:
    return Gaussian(jnp.zeros(d), jnp.full(d, variance))


def _root(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), 0.0)


def _moment_gap(points, masses, other_points, other_masses, factor: float, root=_root) -> Estimate:
    p, q = FiniteLaw(points[:, None], masses), FiniteLaw(other_points[:, None], other_masses)
    spread = root(p.cov[0, 0]) - root(q.cov[0, 0])
    return w2_squared(p, q) - factor * ((p.mean[0] - q.mean[0]) ** 2 + spread**2)


def _larger_moment_gap(points, masses, other_points, other_masses) -> Estimate:
    return _moment_gap(points, masses, other_points, other_masses, 1.1)


def _variances_for_deviations(points, masses, other_points, other_masses) -> Estimate:
    return _moment_gap(points, masses, other_points, other_masses, 1.0, root=lambda variance: variance)


def _increasing_images() -> Iterator[dict[str, Any]]:
    for scale, shift in ((1.0, 1.0), (0.5, -1.0), (2.0, 0.0)):
        points, masses = [-1.0, 0.5, 1.0], [0.25, 0.25, 0.5]
        yield {"points": points, "masses": masses, "other_points": [scale * x + shift for x in points], "other_masses": masses}


@claim(
    id="gelbrich-bound",
    statement=r"W_2^2(p, q) \geq |m_p - m_q|^2 + \mathrm{tr}\, S_p + \mathrm{tr}\, S_q - 2 \, \mathrm{tr} \, (S_p^{1/2} S_q S_p^{1/2})^{1/2}",
    source="Gelbrich (1990); on the line, where the last three terms are the squared difference of the standard deviations",
    domain=TWO_SETS_OF_ATOMS,
    kind="theorem",
    references=["gelbrich1990formula"],
    equality=_increasing_images,
    mutants={
        "larger-constant": Mutant("the constant: 1.1 times the bound", _larger_moment_gap),
        "variances": Mutant("the root: variances for standard deviations", _variances_for_deviations),
    },
    proof="E|X - Y|^2 = |m_p - m_q|^2 + tr S_p + tr S_q - 2 tr Cov(X, Y), and tr Cov(X, Y) is at most the last trace for every coupling.",
)
def gelbrich_bound(points, masses, other_points, other_masses) -> Estimate:
    """W2^2 less the bound, for laws of three atoms on the line."""
    return _moment_gap(points, masses, other_points, other_masses, 1.0)


def _translations() -> Iterator[dict[str, Any]]:
    for mean in ([1.0, 0.0], [-0.5, 2.0]):
        yield {"mean": mean, "cov": [[1.0, 0.0], [0.0, 1.0]]}


def _talagrand(mean, cov, constant: float = 2.0, target: float = 1.0) -> Estimate:
    p, g = Gaussian(mean, cov), _standard(target)
    return constant * kl(p, g) - w2_squared(p, g)


@claim(
    id="talagrand",
    statement=r"W_2^2(p, \mathcal{N}(0, I)) \leq 2 \, \mathrm{KL}(p \,\|\, \mathcal{N}(0, I))",
    source="Talagrand (1996)",
    domain=IN_THE_PLANE,
    kind="theorem",
    references=["talagrand1996transportation"],
    equality=_translations,
    mutants={
        "smaller-constant": Mutant("the constant: 1.9 for 2", lambda mean, cov: _talagrand(mean, cov, constant=1.9)),
        "wider-target": Mutant("the standard normal target: N(0, 2 I), instead", lambda mean, cov: _talagrand(mean, cov, target=2.0)),
    },
    proof="For Gaussians, eigenvalue by eigenvalue: (s - 1)^2 <= s^2 - 1 - 2 log s. In general by the displacement convexity of the entropy.",
)
def talagrand(mean, cov) -> Estimate:
    """2 KL less W2^2, for Gaussians in the plane."""
    return _talagrand(mean, cov)


def _log_sobolev(weights, means, variances, constant: float = 0.5, target: float = 1.0) -> Estimate:
    p, g = GaussianMixture(weights, means[:, None], variances[:, None]), _standard(target, 1)
    return constant * fisher_divergence(p, g) - kl(p, g)


def _translations_on_the_line() -> Iterator[dict[str, Any]]:
    for mean in (1.0, -2.5):
        yield {"weights": [0.25, 0.75], "means": [mean] * 2, "variances": [1.0, 1.0]}


@claim(
    id="log-sobolev",
    statement=r"\mathrm{KL}(p \,\|\, g) \leq \frac{1}{2} \, E_p |\nabla \log p - \nabla \log g|^2, \quad g = \mathcal{N}(0, I)",
    source="Gross (1975)",
    domain=ON_THE_LINE,
    kind="theorem",
    references=["gross1975logarithmic"],
    equality=_translations_on_the_line,
    mutants={
        "smaller-constant": Mutant("the constant: 0.45 for 1/2", lambda weights, means, variances: _log_sobolev(weights, means, variances, constant=0.45)),
        "wider-target": Mutant("the standard normal target: N(0, 2), instead", lambda weights, means, variances: _log_sobolev(weights, means, variances, target=2.0)),
    },
    proof="Along the Ornstein-Uhlenbeck flow KL falls at the rate of the Fisher divergence, which itself falls at least as fast as exp(-2 t).",
)
def log_sobolev(weights, means, variances) -> Estimate:
    """Half the Fisher divergence less KL, for mixtures on the line."""
    return _log_sobolev(weights, means, variances)


def _hwi(mean, cov, curvature: float = 0.5) -> Estimate:
    p, g = Gaussian(mean, cov), _standard()
    squared, information = w2_squared(p, g), fisher_divergence(p, g)
    return _root(squared.value * information.value) - curvature * squared - kl(p, g)


@claim(
    id="hwi",
    statement=r"\mathrm{KL}(p \,\|\, g) \leq W_2(p, g) \, \sqrt{F(p \,\|\, g)} - \frac{1}{2} \, W_2^2(p, g), \quad g = \mathcal{N}(0, I)",
    source="Otto & Villani (2000)",
    domain=IN_THE_PLANE,
    kind="theorem",
    references=["otto2000generalization"],
    equality=_translations,
    mutants={"more-curvature": Mutant("the constant: 0.55 for 1/2", lambda mean, cov: _hwi(mean, cov, curvature=0.55))},
    proof="KL is 1-convex along the W2 geodesic from p to g, and its slope at p is at least -W2 sqrt(F).",
)
def hwi(mean, cov) -> Estimate:
    """The right side less the left, for Gaussians in the plane."""
    return _hwi(mean, cov)


def _through(mean, cov, A, noise) -> Gaussian:
    return Gaussian(A @ mean, A @ cov @ A.T + noise * jnp.eye(2))


def _lost(mean, cov, other_mean, other_cov, rotation, gains, noise, other_noise) -> Estimate:
    A = rotation * gains[None, :]
    p, q = Gaussian(mean, cov), Gaussian(other_mean, other_cov)
    return kl(p, q) - kl(_through(mean, cov, A, noise), _through(other_mean, other_cov, A, other_noise))


def _noise_for_one(mean, cov, other_mean, other_cov, rotation, gains, noise) -> Estimate:
    return _lost(mean, cov, other_mean, other_cov, rotation, gains, noise, 0.0)


def _bijections() -> Iterator[dict[str, Any]]:
    for gains in ([1.0, 1.0], [0.5, 3.0]):
        laws = {"mean": [1.0, 0.0], "cov": [[1.0, 0.5], [0.5, 2.0]], "other_mean": [-0.5, 1.0], "other_cov": [[2.0, 0.0], [0.0, 0.5]]}
        yield {**laws, "rotation": [[0.6, -0.8], [0.8, 0.6]], "gains": gains, "noise": 0.0}


@claim(
    id="data-processing",
    statement=r"\mathrm{KL}(p K \,\|\, q K) \leq \mathrm{KL}(p \,\|\, q), \quad K(x, \cdot) = \mathcal{N}(A x, c I)",
    source="the data-processing inequality, for affine Gaussian kernels in the plane",
    domain=CHANNEL,
    kind="theorem",
    references=["cover2006elements"],
    equality=_bijections,
    mutants={"noise-for-one": Mutant("the same kernel for both: noise for p alone", _noise_for_one)},
    proof="The chain rule for the joint law of input and output, where conditioning on the output can only add to the divergence of inputs.",
)
def data_processing(mean, cov, other_mean, other_cov, rotation, gains, noise) -> Estimate:
    """What the kernel takes from KL."""
    return _lost(mean, cov, other_mean, other_cov, rotation, gains, noise, noise)
