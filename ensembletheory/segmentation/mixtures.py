r"""Ensembles of segmenters: the linear pool of their laws, against averages of what they say of each pixel.

Members P_k, with weights w, say p^k_i = P_k(i in the mask) of pixel i. Three ways to make one law of them:

 - mixing laws, M = sum_k w_k P_k: draw a member, then a mask of it. Its pixel probabilities are sum_k w_k p^k_i;
 - averaging probabilities: independent pixels with these same probabilities, the product of the mixture's margins;
 - averaging logits: independent pixels with logit sum_k w_k logit p^k_i.

Let D be KL(Q || .) or GED^2(Q, .) and I the average of probabilities. As both are of Bregman's kind (KL by the compensation identity of information theory, GED^2 as a
squared distance in a Hilbert space), sum_k w_k D(P_k, R) = sum_k w_k D(P_k, M) + D(M, R) for every law R, so that

    sum_k w_k [D(P_k, I) - D(P_k, M)] = D(M, I) >= 0 :

where the truth is one of the members, drawn with the weights, mixing is better by the distance of the mixture from the product of its own margins: for KL the total
correlation sum_i h(p_i) - H(M). It is 0 only where the mixture has independent pixels itself. Of another truth Q nothing follows: for Q = I the average of probabilities is
exact. Between the two, Q = (1 - s) M + s I, GED^2(Q, I) - GED^2(Q, M) = (1 - 2 s) GED^2(M, I) changes its sign half-way.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ensembletheory.errors import Numbers, checked_count, is_concrete, refuse
from ensembletheory.estimate import Estimate, closed_form, monte_carlo
from ensembletheory.laws.weights import checked_weights
from ensembletheory.segmentation.factors import FactorMasks, tolerance
from ensembletheory.segmentation.independent import IndependentPixels
from ensembletheory.segmentation.mask_law import MaskDistribution, MaskLaw, require_same_shape
from ensembletheory.segmentation.products import Products, as_products

__all__ = ["MixtureOfMasks", "average_logits", "average_probabilities", "law_over_all_masks", "mask_kl", "total_correlation"]

_MOST_PIXELS = 12  # whose masks are listed
_DEFAULT_SAMPLES = 1000


@runtime_checkable
class HasLikelihood(Protocol):
    """A law of masks whose likelihood is known."""

    def log_prob(self, masks: Numbers) -> Float[Array, "..."]: ...


class MixtureOfMasks(MaskDistribution):
    """The linear pool sum_k w_k P_k of laws of masks.

    Args:
        members: the laws P_k.
        weights: (K,), non-negative, summing to 1; default 1/K each.

    Raises:
        ValueError: if there are no members, their shapes differ, or weights are off the simplex.
    """

    members: tuple[MaskDistribution, ...]
    weights: Float[Array, " K"]

    def __init__(self, members: Sequence[MaskDistribution], weights: Numbers | None = None):
        self.members, self.weights = _checked_members(members, weights)

    @property
    def shape(self) -> tuple[int, int]:
        """The shape (H, W) of a mask."""
        return self.members[0].shape

    def pixel_probabilities(self) -> Float[Array, "H W"]:
        """The probability that each pixel is in the mask."""
        return _mean_pixels(self.members, self.weights)

    def sample(self, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
        """`n` independent masks."""
        return _drawn(self, key, checked_count("n", n, 1))

    def log_prob(self, masks: Numbers) -> Float[Array, "..."]:
        """Log-probability of masks (..., H, W), as (...).

        Raises:
            TypeError: if a member's likelihood is not known.
            ValueError: if they are not masks of this law's shape.
        """
        return _pooled(self.weights, [_likelihood(member).log_prob(masks) for member in self.members])


def _checked_members(members: Sequence[MaskDistribution], weights: Numbers | None) -> tuple[tuple[MaskDistribution, ...], Float[Array, " K"]]:
    listed = tuple(members)
    if len({member.shape for member in listed}) != 1:
        refuse("members", f"masks of shapes {[member.shape for member in listed]}", "one or more laws of one shape", "Pool laws of masks of one image.")
    return listed, checked_weights(weights, len(listed))


def _pixels(members: tuple[MaskDistribution, ...]) -> Float[Array, "K H W"]:
    return jnp.stack([member.pixel_probabilities() for member in members])


@eqx.filter_jit
def _mean_pixels(members: tuple[MaskDistribution, ...], weights: Float[Array, " K"]) -> Float[Array, "H W"]:
    return jnp.clip(jnp.tensordot(weights, _pixels(members), axes=1), 0, 1)  # weights sum to 1 up to rounding


@eqx.filter_jit
def _drawn(law: MixtureOfMasks, key: PRNGKeyArray, n: int) -> Bool[Array, "n H W"]:
    of_members, *of_draws = jax.random.split(key, 1 + len(law.members))
    drawn = jnp.stack([member.sample(each, n) for member, each in zip(law.members, of_draws, strict=True)])
    return drawn[jax.random.choice(of_members, len(law.members), (n,), p=law.weights), jnp.arange(n)]


@jax.jit
def _pooled(weights: Float[Array, " K"], of_members: list[Float[Array, "*n"]]) -> Float[Array, "*n"]:
    logs = jnp.stack(of_members, axis=-1)
    return jnp.asarray(jax.nn.logsumexp(logs, axis=-1, b=jnp.broadcast_to(weights, logs.shape)))


@as_products.register
def _of_mixture(law: MixtureOfMasks) -> Products:
    parts = [as_products(member) for member in law.members]
    weights = jnp.concatenate([w * part.weights for w, part in zip(law.weights, parts, strict=True)])
    coarse = jnp.concatenate([w * part.coarse for w, part in zip(law.weights, parts, strict=True)])
    doubt = jnp.sum(jnp.stack([w * part.doubt for w, part in zip(law.weights, parts, strict=True)]))
    return Products(jnp.concatenate([part.probabilities for part in parts]), weights, coarse, doubt, all(part.exact for part in parts))


def average_probabilities(members: Sequence[MaskDistribution], weights: Numbers | None = None) -> IndependentPixels:
    """Independent pixels with the members' average probabilities.

    Raises:
        ValueError: if there are no members, their shapes differ, or weights are off the simplex.
    """
    listed, shares = _checked_members(members, weights)
    return IndependentPixels(_mean_pixels(listed, shares))


def average_logits(members: Sequence[MaskDistribution], weights: Numbers | None = None) -> IndependentPixels:
    """Independent pixels with the members' average logits: of each pixel, the logarithmic pool.

    Raises:
        ValueError: if there are no members, their shapes differ, weights are off the simplex, or of some pixel one member is sure and another sure of the contrary.
    """
    listed, shares = _checked_members(members, weights)
    pooled = _log_pool(listed, shares)
    if is_concrete(pooled) and np.any(np.isnan(pooled)):
        refuse("members", "members sure of contraries", "of each pixel, none that says 0 beside one that says 1", "Mix their laws instead, or average their probabilities.")
    return IndependentPixels(pooled)


@eqx.filter_jit
def _log_pool(members: tuple[MaskDistribution, ...], weights: Float[Array, " K"]) -> Float[Array, "H W"]:
    """The sigmoid of sum_k w_k log p - sum_k w_k log (1 - p), where weights of zero do not count; NaN where both sums are -inf."""
    p, w = _pixels(members), weights[:, None, None]
    inside, outside = (jnp.sum(jnp.where(w > 0, w * jnp.log(share), 0.0), axis=0) for share in (p, 1 - p))
    return jax.nn.sigmoid(inside - outside)


def law_over_all_masks(law: MaskDistribution) -> MaskLaw:
    """The law, listed mask by mask: a law of finite support as it is, another of at most 12 pixels over all 2^n masks.

    Raises:
        ValueError: if it has no finite support and more pixels.
        TypeError: if its likelihood is not known.
    """
    return _listed(law)[0]


def _listed(law: MaskDistribution) -> tuple[MaskLaw, float]:
    """The law, mask by mask, and how far from 1 the masses summed before they were scaled to it."""
    if isinstance(law, MaskLaw):
        return law, 0.0
    pixels = law.shape[0] * law.shape[1]
    if pixels > _MOST_PIXELS:
        refuse("law", f"{pixels} pixels", f"at most {_MOST_PIXELS}, whose masks can be listed", "Pass key=jax.random.key(0) where draws can answer.")
    masks = (np.arange(2**pixels)[:, None] >> np.arange(pixels)[None, :] & 1).astype(bool).reshape(-1, *law.shape)
    weights = np.exp(_likelihood(law).log_prob(masks))
    return MaskLaw(masks, weights / weights.sum()), abs(1 - float(weights.sum()))


def _likelihood(law: MaskDistribution) -> HasLikelihood:
    if not hasattr(law, "log_prob"):
        raise TypeError(f"`law`: got {type(law).__name__}, which has no log_prob; expected a law whose likelihood is known. Compare by GED, of samples.")
    return law  # pyright: ignore[reportReturnType]


def mask_kl(p: MaskDistribution, q: MaskDistribution, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """KL(p || q) of laws of masks, in nats: a sum over the masks of p where they can be listed and no number of samples is given, else by Monte Carlo.

    Where a law has Gaussian factors, the sum inherits the error of its likelihoods, and what their sum misses of 1.

    Args:
        p: a law; where it is not of finite support, at most 12 pixels, or its likelihood is used at draws.
        q: a law whose likelihood is known.
        key: needed where the masks of p cannot be listed.
        samples: number of Monte-Carlo draws (default 1,000).

    Raises:
        ValueError: if their shapes differ, or only Monte Carlo can answer and no key is given.
        TypeError: if a likelihood is not known.
    """
    require_same_shape(p, q)
    if key is not None and (samples is not None or not _listable(p)):
        masks = p.sample(key, _DEFAULT_SAMPLES if samples is None else samples)
        return _mean_gap(_likelihood(p).log_prob(masks), _likelihood(q).log_prob(masks))
    listed, deficit = _listed(p)
    merged = listed.merged()
    divergence, absolute = _summed(merged.weights, _likelihood(q).log_prob(merged.masks))
    if not (_integrates(p) or _integrates(q)):
        return closed_form(divergence)
    return Estimate(divergence, (deficit + tolerance(absolute.dtype, absolute)) * (2 + absolute), "quadrature")


def _integrates(law: MaskDistribution) -> bool:
    """Whether a likelihood of a law of masks comes from a rule of integration."""
    return isinstance(law, FactorMasks) or (isinstance(law, MixtureOfMasks) and any(_integrates(member) for member in law.members))


def _listable(law: MaskDistribution) -> bool:
    return isinstance(law, MaskLaw) or law.shape[0] * law.shape[1] <= _MOST_PIXELS


@jax.jit
def _mean_gap(log_p: Float[Array, " n"], log_q: Float[Array, " n"]) -> Estimate:
    return monte_carlo(log_p - log_q)


@jax.jit
def _summed(weights: Float[Array, " m"], log_q: Float[Array, " m"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The divergence, and the mean of the absolute terms."""
    terms = weights * (jnp.log(weights) - log_q)
    return jnp.maximum(jnp.sum(terms), 0.0), jnp.sum(jnp.abs(terms))


def total_correlation(law: MaskDistribution, key: PRNGKeyArray | None = None, samples: int | None = None) -> Estimate:
    """KL of the law to the product of its margins, sum_i h(p_i) - H: the least KL(law || .) of laws with independent pixels.

    Args:
        law: the law.
        key: as of `mask_kl`.
        samples: as of `mask_kl`.

    Raises:
        ValueError: if only Monte Carlo can answer and no key is given.
        TypeError: if its likelihood is not known.
    """
    return mask_kl(law, IndependentPixels(jnp.clip(law.pixel_probabilities(), 0, 1)), key, samples)
