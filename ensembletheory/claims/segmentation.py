r"""Claims about the generalised energy distance of laws of masks (`ensembletheory.segmentation.ged`).

*It is a metric.* With h(A) the first pixel of the mask A in a random order of the pixels (none, for the empty mask), P(h(A) = h(B)) is the Jaccard index, so GED^2 is the
average over orders of sum_x (P(h(S) = x) - Q(h(Y) = x))^2. The margin compares both on the 8 masks of three pixels. There the kernel's least eigenvalue on masses that sum
to 0, lambda_3 = 0.0812, gives the sharp bound lambda_3 |P - Q|^2, a claim of its own. With Dice's coefficient instead there is no such bound from four pixels on.

*Ensembles.* Laws are mixed linearly and GED^2 is a squared Hilbert distance: the ambiguity decomposition holds, and the mean D_M over all ensembles of M of three members
is A + B / M, of which D_1 - 4 D_2 + 3 D_3 = 0 is the test. The margin is minus the larger gap.

*Estimates.* The margin enumerates all pairs of samples and pairs of graders on two pixels: V-statistics are too high by the diversity of what was drawn over the number of
draws, on both sides, and U-statistics are unbiased.
"""

from collections.abc import Iterator
from itertools import combinations, permutations, product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import simplex
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.segmentation import MaskLaw, dice, expected_v_statistic, ged_decomposition, ged_squared, ged_u_statistic, ged_v_statistic, jaccard, jaccard_empty_differs

__all__ = ["dice_ged_metric", "ged_ensemble_law", "ged_estimator_bias", "ged_is_mmd", "ged_separates_laws"]


def _all_masks(pixels: int) -> np.ndarray:
    return np.array(list(product((False, True), repeat=pixels))).reshape(-1, 1, pixels)


def _first_pixels(masks: np.ndarray) -> np.ndarray:
    """Whether the first pixel of each mask is x, or it has none: a row for each order of the pixels and each x, scaled so that squares sum to the average over orders."""
    flat = masks.reshape(len(masks), -1)
    orders = list(permutations(range(flat.shape[1])))
    first = np.array([np.where(flat.any(axis=1), np.argmax(flat[:, order], axis=1), -1) for order in orders])
    return (first[:, None, :] == np.arange(-1, flat.shape[1])[None, :, None]).reshape(-1, len(masks)) / np.sqrt(len(orders))


def _least(features: np.ndarray) -> tuple[float, np.ndarray]:
    """The least eigenvalue of the Gram matrix on vectors that sum to 0, and its eigenvector."""
    m = features.shape[1]
    basis = np.linalg.qr(np.concatenate([np.ones((m, 1)), np.eye(m)[:, 1:]], axis=1))[0][:, 1:]
    values, vectors = np.linalg.eigh(basis.T @ features.T @ features @ basis)
    return float(values[0]), basis @ vectors[:, 0]


THREE_PIXELS, TWO_PIXELS = _all_masks(3), _all_masks(2)
TWO_OF_FOUR = np.array([np.isin(np.arange(4), pair) for pair in combinations(range(4), 2)])[:, None, :]
FIRST_PIXELS = _first_pixels(THREE_PIXELS)
LEAST, WORST = _least(FIRST_PIXELS)

LAWS = Domain(first=simplex(8), second=simplex(8))
ENSEMBLES = Domain(target=simplex(8), members=simplex(shape=(3, 8)), weights=simplex(3))
DRAWN = Domain(model=simplex(4), graders=simplex(4))
SAME_SIZE = Domain(first=simplex(6), second=simplex(6))


def _law(masses: Float[Array, " m"]) -> MaskLaw:
    return MaskLaw(THREE_PIXELS, masses)


def _as_mmd(first, second, overlap=jaccard) -> Estimate:
    embedded = jnp.asarray(FIRST_PIXELS) @ (first - second)
    return closed_form(-jnp.abs(ged_squared(_law(first), _law(second), overlap).value - embedded @ embedded))


def _two_pairs() -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for _ in range(2):
        yield {"first": rng.dirichlet(np.ones(8)), "second": rng.dirichlet(np.ones(8))}


@claim(
    id="ged-is-mmd",
    statement=r"\mathrm{GED}^2(P, Q) = E_h \sum_x (P(h = x) - Q(h = x))^2, \quad h \; \mathrm{the \; first \; pixel \; of \; a \; mask}",
    source="energy distance as maximum mean discrepancy, by minwise hashing (Broder 1997); the Jaccard index is positive definite: Bouchard, Jousselme & Dore (2013)",
    domain=LAWS,
    kind="theorem",
    references=["broder1997resemblance", "bouchard2013jaccard", "kohl2018probabilistic"],
    equality=_two_pairs,
    mutants={
        "dice": Mutant("the Jaccard index: Dice's coefficient, instead", lambda first, second: _as_mmd(first, second, dice)),
        "empty-masks-differ": Mutant("that two empty masks agree", lambda first, second: _as_mmd(first, second, jaccard_empty_differs)),
    },
    proof="Two masks have the same first pixel in a random order with probability their Jaccard index.",
)
def ged_is_mmd(first, second) -> Estimate:
    """Minus the gap between both sides."""
    return _as_mmd(first, second)


def _above_bound(first, second, factor=1.0) -> Estimate:
    gap = first - second
    return ged_squared(_law(first), _law(second)) - factor * LEAST * gap @ gap


def _equal_and_worst() -> Iterator[dict[str, Any]]:
    yield {"first": np.full(8, 1 / 8), "second": np.full(8, 1 / 8)}
    yield {"first": 1 / 8 + 0.1 * WORST, "second": 1 / 8 - 0.1 * WORST}


@claim(
    id="ged-separates-laws",
    statement=r"\mathrm{GED}^2(P, Q) \geq \lambda_3 \, |P - Q|^2, \quad \lambda_3 = 0.0812, \quad \mathrm{for \; laws \; of \; masks \; of \; three \; pixels}",
    source="the Jaccard index is positive definite: Bouchard, Jousselme & Dore (2013); the constant: derived here",
    domain=LAWS,
    kind="theorem",
    references=["bouchard2013jaccard", "kohl2018probabilistic"],
    equality=_equal_and_worst,
    mutants={"larger-constant": Mutant("lambda_3: 1.1 times as much, instead", lambda first, second: _above_bound(first, second, 1.1))},
    proof="lambda_3 is the least eigenvalue of the kernel on masses that sum to 0, and P - Q sums to 0.",
)
def ged_separates_laws(first, second) -> Estimate:
    """The distance above the bound, 0 along the eigenvector."""
    return _above_bound(first, second)


def _subsets() -> np.ndarray:
    """The weights of all ensembles of one, two and three of three members."""
    return np.array([np.isin(np.arange(3), team) / size for size in (1, 2, 3) for team in combinations(range(3), size)])


def _size_gap(target, members, transform=lambda squared: squared) -> Float[Array, ""]:
    teams = jnp.asarray(_subsets()) @ members
    values = transform(jax.vmap(lambda masses: ged_squared(_law(masses), _law(target)).value)(teams))
    return jnp.mean(values[:3]) - 4 * jnp.mean(values[3:6]) + 3 * values[6]


def _decomposition(target, members, weights):
    return ged_decomposition(_law(target), [_law(masses) for masses in members], weights)


def _whole_diversity(target, members, weights) -> Estimate:
    terms = _decomposition(target, members, weights)
    return closed_form(-jnp.abs((terms.residual - terms.diversity).value))


def _roots(target, members, weights) -> Estimate:
    return closed_form(-jnp.abs(_size_gap(target, members, jnp.sqrt)))


def _ensembles() -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for _ in range(3):
        yield {"target": rng.dirichlet(np.ones(8)), "members": rng.dirichlet(np.ones(8), 3), "weights": rng.dirichlet(np.ones(3))}


@claim(
    id="ged-ensemble-law",
    statement=r"\mathrm{GED}^2(\sum_k w_k P_k, Q) = \sum_k w_k \mathrm{GED}^2(P_k, Q) - \frac{1}{2} \sum_{kl} w_k w_l \mathrm{GED}^2(P_k, P_l); "
    r"\quad \mathrm{hence} \; D_M = A + B / M",
    source="the ambiguity decomposition in a Hilbert space; the quadratic case of Mattei & Garreau (2025); derived here for GED",
    domain=ENSEMBLES,
    kind="theorem",
    references=["mattei2025ensembles", "kohl2018probabilistic"],
    equality=_ensembles,
    mutants={
        "whole-diversity": Mutant("the half of the diversity: all of it, instead", _whole_diversity),
        "roots": Mutant("the squares: A + B / M for the distance itself", _roots),
    },
    proof="GED^2 is a squared norm of P - Q, and the pool is linear; the mean over subsets of a quadratic form of their mean is A + B / M.",
)
def ged_ensemble_law(target, members, weights) -> Estimate:
    """Minus the larger gap of the two identities."""
    gaps = jnp.stack([_decomposition(target, members, weights).residual.value, _size_gap(target, members)])
    return closed_form(-jnp.max(jnp.abs(gaps)))


def _means(model, graders) -> tuple[Float[Array, ""], Float[Array, ""], MaskLaw, MaskLaw]:
    """E V and E U of two samples and two graders, by enumeration, and both laws."""
    which = np.array(list(product(range(4), repeat=4)))
    samples, truths = TWO_PIXELS[which[:, :2]], TWO_PIXELS[which[:, 2:]]
    mass = model[which[:, 0]] * model[which[:, 1]] * graders[which[:, 2]] * graders[which[:, 3]]
    means = mass @ ged_v_statistic(samples, truths), mass @ ged_u_statistic(samples, truths, graders_drawn=True)
    return *means, MaskLaw(TWO_PIXELS, model), MaskLaw(TWO_PIXELS, graders)


def _samples_only(model, graders) -> Estimate:
    mean, _, p, q = _means(model, graders)
    return closed_form(-jnp.abs(mean - expected_v_statistic(p, q, 2).value))


def _one_sample_less(model, graders) -> Estimate:
    mean, _, p, q = _means(model, graders)
    return closed_form(-jnp.abs(mean - expected_v_statistic(p, q, 1, 1).value))


def _pairs_of_laws() -> Iterator[dict[str, Any]]:
    yield {"model": np.full(4, 1 / 4), "graders": np.full(4, 1 / 4)}
    yield {"model": [0.5, 0.25, 0.25, 0.0], "graders": [0.0, 0.25, 0.25, 0.5]}


@claim(
    id="ged-estimator-bias",
    statement=r"E\, V_{n,m} = \mathrm{GED}^2(P, Q) + \frac{1}{n} E\, d(S, S') + \frac{1}{m} E\, d(Y, Y'), \quad E\, U_{n,m} = \mathrm{GED}^2(P, Q)",
    source="bias of V-statistics (Hoeffding 1948); derived here for GED from samples",
    domain=DRAWN,
    kind="theorem",
    references=["kohl2018probabilistic"],
    equality=_pairs_of_laws,
    mutants={
        "samples-only": Mutant("the graders' share of the bias", _samples_only),
        "one-sample-less": Mutant("the divisors n and m: n - 1 and m - 1, instead", _one_sample_less),
    },
    proof="Of n^2 pairs of samples n are of a sample with itself, at distance 0 rather than E d(S, S').",
)
def ged_estimator_bias(model, graders) -> Estimate:
    """Minus the larger of the gaps of both identities, for two samples and two graders."""
    v, u, p, q = _means(model, graders)
    return closed_form(-jnp.maximum(jnp.abs(v - expected_v_statistic(p, q, 2, 2).value), jnp.abs(u - ged_squared(p, q).value)))


@claim(
    id="dice-ged-metric",
    statement=r"\mathrm{GED}^2_{\mathrm{Dice}}(P, Q) \geq c \, \mathrm{GED}^2(P, Q) \quad \mathrm{for \; some} \; c > 0, \; \mathrm{hence} \; > 0 \; \mathrm{for} \; P \neq Q",
    source="that a GED with Dice's coefficient tells laws of masks apart as well, if less sharply; refuted here",
    domain=SAME_SIZE,
    kind="refuted",
    references=["kohl2018probabilistic"],
    proof="{1, 2} or {3, 4} against {1, 3} or {2, 4}: every pixel is as likely in masks of every size, which is all that Dice-GED sees. It is 0 there, so that no c will do.",
)
def dice_ged_metric(first, second) -> Estimate:
    """Dice-GED above c = 1/10 of GED, both squared, for laws of masks that hold two of four pixels; least where Dice-GED is 0, which refutes every c."""
    p, q = MaskLaw(TWO_OF_FOUR, first), MaskLaw(TWO_OF_FOUR, second)
    return ged_squared(p, q, dice) - ged_squared(p, q) * 0.1
