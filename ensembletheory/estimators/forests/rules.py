r"""Every aggregation rule on trees: completed rows by replacement and resampling, the members combined at every point, at every step or at the end of their runs.

| name | what is combined |
|---|---|
| "mean", "median", "dominant", "geometric", "sum", "disturbed" | the members' scores, by the fields of `ensembletheory.pooling.field_rules` |
| "alternating", "deviation" | steps: one member a step; the mean with the noise of K averaged draws |
| "routed" | runs: one member a row and draw, all the way |
| "samples", "coupled" | runs: the mean of the members' completed rows, with noise of their own or one noise for all |

The scores' rules need what the names leave open: "geometric" has as offset 1 + the largest magnitude of a score in any leaf, so that no entry is below -offset; "disturbed" is
the mean with a relative error of 0.2 in the direction (1, ..., 1). A function of the members' scores is a rule too, such as `lambda scores: WeightedSum(scores, [2.0, -1.0])`.

Not among them: weights by posterior probabilities and Feynman-Kac corrections, which need members with densities (the divergence of a tree is 0 almost everywhere, and all
that there is of it is in its jumps), exact linear and log pools, which need laws ("routed" is the linear pool of the sampled laws), and runs that share their start only,
which a reverse diffusion forgets.

All names but "alternating" run one compiled program: the rule is a number in it, and a member's run is that of the mean with all weight on the member.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ensembletheory.errors import Numbers, refuse
from ensembletheory.estimators.forests.trees import TreeField
from ensembletheory.fields import CombinedField, Field, Fields, FieldStack, MeanField
from ensembletheory.imputation import Repaint
from ensembletheory.pooling import Alternating, DominantField, MedianField, RelativeNoise, ScaledNoise, ShiftedGeometricField, WeightedSum
from ensembletheory.processes import convert
from ensembletheory.samplers import Ddim, Scheme

__all__ = ["RULES", "Rule", "complete", "denoiser"]

Rule = str | Callable[[Field], Field]

STEP = Ddim(eta=1.0)  # the whole noise of the posterior, and none in the step that ends in the data
_OF_SCORES = ("mean", "median", "dominant", "geometric", "sum")
_OF_RUNS = ("routed", "samples", "coupled")
RULES = (*_OF_SCORES, "disturbed", "alternating", "deviation", *_OF_RUNS)


def complete(
    key: PRNGKeyArray, rule: Rule, members: TreeField, grid: Float[Array | np.ndarray, " times"], X: Float[np.ndarray, "rows d"], n: int = 1, resamplings: int = 1
) -> Float[Array, "n rows d"]:
    """`n` completed copies of the rows X, NaN = missing.

    Args:
        key: of all draws.
        rule: a name of RULES, or a function of the stack of the members' scores.
        members: a stack of noise predictions, one a member.
        grid: decreasing times, at which the members have trees but for the last.
        X: the rows, in the units that the members were trained in.
        n: how many copies.
        resamplings: how often a step is done; see `ensembletheory.imputation.Repaint`.

    Raises:
        ValueError: if the rule is unknown, the members predict something else, or as `Repaint`.
    """
    process, K = FieldStack(members)[0].origin, len(FieldStack(members))

    def drawn(key: PRNGKeyArray, field: Field, scheme: Scheme) -> Float[Array, "n rows d"]:
        return Repaint(process, field, scheme, grid, resamplings).sample(key, X, n)

    if rule == "alternating":
        return drawn(key, MeanField(_converted(members, "denoiser")), Alternating(STEP))
    if callable(rule):
        return drawn(key, denoiser(rule, members), STEP)
    if rule not in _OF_RUNS:
        return drawn(key, denoiser(rule, members), ScaledNoise(STEP, jnp.asarray(K**-0.5 if rule == "deviation" else 1.0)))
    key_choice, key_runs = jax.random.split(key)
    keys = [key_runs] * K if rule == "coupled" else jax.random.split(key_runs, K)
    alone = [denoiser("mean", members, weights) for weights in np.eye(K)]
    runs = jnp.stack([drawn(key, field, ScaledNoise(STEP, jnp.asarray(1.0))) for key, field in zip(keys, alone, strict=True)])
    return _routed(key_choice, runs) if rule == "routed" else _averaged(runs)


def denoiser(rule: Rule, members: TreeField, weights: Numbers | None = None) -> Field:
    """The field E[X_0 | X_t = x] that belongs to the members' combined scores; `weights` are those of the mean, equal if left out.

    Raises:
        ValueError: if the rule is unknown, or the members predict something else.
    """
    if members.kind != "noise":
        refuse("members", f"fields of kind {members.kind!r}", "noise predictions, whose scores are bounded", "Fit them with kind='noise'.")
    scores = _converted(members, "score")
    combined = _named(rule, scores, members, weights) if isinstance(rule, str) else rule(scores)
    return convert(FieldStack(members)[0].origin, combined, "denoiser", given="score")


def _named(rule: str, scores: Field, members: TreeField, weights: Numbers | None) -> Field:
    if rule not in RULES:
        refuse("rule", repr(rule), f"one of {', '.join(RULES)}, or a function of scores", "See ensembletheory.estimators.forests.rules.")
    K, d = len(FieldStack(members)), members.value.shape[-1]
    weights = np.full(K, 1 / K) if weights is None else weights
    every = MeanField(scores, weights), MedianField(scores), DominantField(scores), ShiftedGeometricField(scores, _offset(members)), WeightedSum(scores, np.ones(K))
    index = _OF_SCORES.index(rule) if rule in _OF_SCORES else 0
    return RelativeNoise(_AnyRule(every, jnp.asarray(index)), np.ones(d), 0.2 if rule == "disturbed" else 0.0)


class _AnyRule(CombinedField):
    """The rule of one index, so that all rules are one program."""

    rules: tuple[CombinedField, ...]
    index: Int[Array, ""]

    def __init__(self, rules: tuple[CombinedField, ...], index: Int[Array, ""]):
        self.rules, self.index = rules, index

    @property
    def fields(self) -> Fields:
        """Those of the rules."""
        return self.rules[0].fields

    @property
    def piecewise(self) -> bool:
        """As trees are."""
        return True

    def combine(self, vectors: Float[Array, "K *points d"]) -> Float[Array, "*points d"]:
        """That rule."""
        return jax.lax.switch(self.index, [lambda vectors, rule=rule: rule.combine(vectors) for rule in self.rules], vectors)


@eqx.filter_jit
def _converted(members: TreeField, kind: str) -> Field:
    """The stack of the members' fields as one of another kind."""
    return eqx.filter_vmap(lambda field: convert(field.origin, field, kind))(members)


@eqx.filter_jit
def _offset(members: TreeField) -> Float[Array, ""]:
    """One more than the largest magnitude of a score in any leaf."""
    variances = jax.vmap(lambda field: jax.vmap(field.process.noise_variance)(field.times))(members)
    return 1 + jnp.max(jnp.abs(members.value) / jnp.sqrt(variances)[:, :, None, None])


@jax.jit
def _routed(key: PRNGKeyArray, runs: Float[Array, "K n rows d"]) -> Float[Array, "n rows d"]:
    chosen = jax.random.randint(key, (1, *runs.shape[1:3], 1), 0, len(runs))
    return jnp.take_along_axis(runs, chosen, axis=0)[0]


@jax.jit
def _averaged(runs: Float[Array, "K n rows d"]) -> Float[Array, "n rows d"]:
    return jnp.mean(runs, axis=0)
