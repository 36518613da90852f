r"""The claim that mixing segmenters' laws beats averaging their pixel probabilities, and for which truth.

Let M = sum_k w_k P_k be the mixture of laws of masks, and I the law of independent pixels with its pixel probabilities. For D = KL and D = GED^2 alike

    sum_k w_k [D(P_k, I) - D(P_k, M)] = D(M, I) >= 0:

where the truth is one of the members, drawn with the weights (each grader is known to one member, and all count as they do among the graders), mixing is better on average, by
what the average of probabilities forgets: how pixels depend on each other. The margin is the smaller of both differences, over all masks of three pixels. It is 0 where the
mixture itself has independent pixels, whether or not its members have. For one of the members as the truth, or for I, averaging probabilities may be better.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import simplex
from ensembletheory.estimate import Estimate, closed_form
from ensembletheory.segmentation import IndependentPixels, MaskLaw, ged_squared

__all__ = ["mixing_beats_pixel_average"]

MASKS = np.array(list(product((False, True), repeat=3)))[:, None, :]
MEMBERS = Domain(members=simplex(shape=(3, 8)), weights=simplex(3))


def _pools(members: Float[Array, "3 8"], weights: Float[Array, " 3"]) -> tuple[Float[Array, " 8"], Float[Array, " 8"]]:
    """The masses of the mixture and of the average of pixel probabilities."""
    mixed = weights @ members
    pixels = jnp.clip(MaskLaw(MASKS, mixed).pixel_probabilities(), 0, 1)
    return mixed, jnp.exp(IndependentPixels(pixels).log_prob(MASKS))


def _gains(truths: Float[Array, "n 8"], chances: Float[Array, " n"], members: Float[Array, "3 8"], weights: Float[Array, " 3"]) -> Estimate:
    """By how much the mixture is nearer to the truths, on average with their chances: the smaller of both distances' answers."""
    mixed, averaged = _pools(members, weights)
    mass = chances[:, None] * truths
    seen = (mass > 0) & (averaged > 0)[None]  # where both give nothing, neither is nearer
    ratio = jnp.log(jnp.where(seen, mixed[None], 1.0)) - jnp.log(jnp.where(seen, averaged[None], 1.0))
    squared = jax.vmap(lambda truth: _ged_squared(truth, averaged) - _ged_squared(truth, mixed))(truths)
    return closed_form(jnp.minimum(jnp.sum(jnp.where(seen, mass * ratio, 0.0)), chances @ squared))


def _ged_squared(first: Float[Array, " 8"], second: Float[Array, " 8"]) -> Float[Array, ""]:
    return ged_squared(MaskLaw(MASKS, first), MaskLaw(MASKS, second)).value


def _one_member(members, weights) -> Estimate:
    return _gains(members[:1], jnp.ones(1), members, weights)


def _independent_truth(members, weights) -> Estimate:
    return _gains(_pools(members, weights)[1][None], jnp.ones(1), members, weights)


def _independent_mixtures() -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(0)
    for p in rng.uniform(0.1, 0.9, (2, 3)):
        law = np.prod(np.where(MASKS[:, 0], p, 1 - p), axis=1)
        yield {"members": np.stack([law] * 3), "weights": rng.dirichlet(np.ones(3))}
        parts = [np.where(MASKS[:, 0, 0] == drawn, law, 0.0) for drawn in (False, True)]
        yield {"members": np.stack([*(part / part.sum() for part in parts), law]), "weights": np.array([1 - p[0], p[0], 0.0])}


@claim(
    id="mixing-beats-pixel-average",
    statement=r"\sum_k w_k D(P_k, \sum_j w_j P_j) \leq \sum_k w_k D(P_k, \prod_i \bar p_i), \quad D \in \{\mathrm{KL}, \mathrm{GED}^2\}, \quad \bar p_i = \sum_k w_k P_k(i)",
    source="the compensation identity, for KL and for squared Hilbert distances; derived here for laws of masks",
    domain=MEMBERS,
    kind="theorem",
    references=["kohl2018probabilistic", "mattei2025ensembles"],
    equality=_independent_mixtures,
    mutants={
        "one-member": Mutant("that the truth is each member in turn: it is the first", _one_member),
        "independent-truth": Mutant("that the truth is a member: its pixels are independent, with the average probabilities", _independent_truth),
    },
    proof="sum_k w_k D(P_k, R) = sum_k w_k D(P_k, M) + D(M, R) for every law R, M the mixture.",
)
def mixing_beats_pixel_average(members, weights) -> Estimate:
    """By how much the mixture is nearer to its members than independent pixels with its probabilities, in KL or GED^2, whichever is less."""
    return _gains(members, weights, members, weights)
