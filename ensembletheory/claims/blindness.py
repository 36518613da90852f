r"""Claims about what the score does not see: the weights of separated modes.

Two mixtures of N(a, 1) and N(-a, 1) with different weights have nearly the same score: their Fisher divergence falls like a exp(-a^2 / 2) while their KL divergence tends
to that of two Bernoulli laws (Wenliang & Kanagawa 2020; the bound is derived in `ensembletheory.identifiability.blindness`). No constant bounds KL by Fisher.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp

from ensembletheory.claims.claim import Mutant, claim
from ensembletheory.claims.domain import Domain
from ensembletheory.claims.parts import positive, real
from ensembletheory.divergences import fisher_divergence, kl
from ensembletheory.estimate import Estimate
from ensembletheory.identifiability.blindness import fisher_bound
from ensembletheory.laws import GaussianMixture

__all__ = ["blindness", "blindness_rate"]

TWO_MODES = Domain(separation=positive(0.25, 5), weight=real(0.05, 0.95), other=real(0.05, 0.95))
CONSTANT = 100.0


def _modes(separation, weight, variance=1.0) -> GaussianMixture:
    """The mixture weight N(separation, variance) + (1 - weight) N(-separation, variance)."""
    means = jnp.stack([separation, -separation])[:, None]
    return GaussianMixture(jnp.stack([weight, 1 - weight]), means, variance * jnp.ones((2, 1)))


def _equal_weights() -> Iterator[dict[str, Any]]:
    for separation, weight in ((0.5, 0.5), (2.0, 0.2), (4.0, 0.9)):
        yield {"separation": separation, "weight": weight, "other": weight}


def _slack(separation, weight, other, variance=1.0, constant=1.0) -> Estimate:
    """The constant times the bound, less the Fisher divergence, both times exp(a^2 / 2), which keeps them of order one."""
    fisher = fisher_divergence(_modes(separation, weight, variance), _modes(separation, other, variance))
    return (constant * fisher_bound(separation, weight, other) - fisher) * jnp.exp(separation**2 / 2)


def _smaller_constant(separation, weight, other) -> Estimate:
    return _slack(separation, weight, other, constant=0.9)


def _wider_modes(separation, weight, other) -> Estimate:
    return _slack(separation, weight, other, variance=1.5)


@claim(
    id="blindness",
    statement=r"\mathrm{KL}(p \,\|\, q) \leq 100 \, E_p |\nabla \log p - \nabla \log q|^2, \quad p = w N(a, 1) + (1-w) N(-a, 1), \; q = v N(a, 1) + (1-v) N(-a, 1)",
    source="Wenliang & Kanagawa (2020): score-based divergences do not see the weights of separated modes; refuted here for a constant of 100",
    domain=TWO_MODES,
    kind="refuted",
    references=["wenliang2020blindness"],
    proof="The Fisher divergence falls like a exp(-a^2 / 2), the KL divergence tends to that of the weights.",
)
def blindness(separation, weight, other) -> Estimate:
    """What a hundred Fisher divergences leave of the KL divergence."""
    p, q = _modes(separation, weight), _modes(separation, other)
    return CONSTANT * fisher_divergence(p, q) - kl(p, q)


@claim(
    id="blindness-rate",
    statement=r"\mathrm{F}(p_w \,\|\, p_v) \leq \sqrt{\pi / 32} \; a (w - v)^2 e^{-a^2/2} / (\sqrt{w (1-w)} \, v (1-v)), \quad p_w = w N(a, 1) + (1-w) N(-a, 1)",
    source="derived here, in the setting of Wenliang & Kanagawa (2020)",
    domain=TWO_MODES,
    kind="theorem",
    references=["wenliang2020blindness"],
    equality=_equal_weights,
    mutants={
        "smaller-constant": Mutant("the constant: 0.9 of it", _smaller_constant),
        "wider-modes": Mutant("modes of variance one: 1.5, instead", _wider_modes),
    },
    proof="E_p (s_p - s_q)^2 = 4 a^2 (w - v)^2 e^{-a^2/2} E[1 / (P Q^2)] at a normal variable; bound its density by its value at 0, then Hoelder and int sech^3 = pi / 2.",
)
def blindness_rate(separation, weight, other) -> Estimate:
    """The slack of the bound, in units of exp(-a^2 / 2)."""
    return _slack(separation, weight, other)
