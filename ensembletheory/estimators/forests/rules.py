r"""Every aggregation rule on trees: completed rows by replacement and resampling, the members combined at every point, at every step or at the end of their runs.

| name | what is combined |
|---|---|
| "mean", "median", "dominant", "geometric", "sum", "disturbed" | the members' scores, by the fields of `ensembletheory.pooling.field_rules` |
| "alternating", "deviation" | steps: one member a step; the mean with the noise of K averaged draws |
| "routed" | runs: one member a row and draw, all the way |
| "samples", "coupled" | runs: the mean of the members' completed rows, with noise of their own or one noise for all |

The scores' rules need what the names leave open: "geometric" has as offset 1 + the largest magnitude of a score in any leaf at points of at most 30 standard deviations, so
that no entry met there is below -offset; "disturbed" is the mean with a relative error of 0.2 in the direction (1, ..., 1). A function of the members' scores is a rule too,
such as `lambda scores: WeightedSum(scores, [2.0, -1.0])`.

Not among them: weights by posterior probabilities and Feynman-Kac corrections, which need members with densities (the divergence of a tree is 0 almost everywhere, and all
that there is of it is in its jumps), exact linear and log pools, which need laws ("routed" is the linear pool of the sampled laws), and runs that share their start only,
which a reverse diffusion forgets.

The rules of scores and "deviation" run one compiled program, in which the rule is a number, and so do runs of members.
"""

from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from ensembletheory.errors import Numbers, as_floats, checked_count, refuse
from ensembletheory.estimators.forests.trees import TreeField
from ensembletheory.fields import Field, FieldStack, MeanField
from ensembletheory.fitting.rows import read_values
from ensembletheory.imputation import Repaint
from ensembletheory.imputation.replacement import row_keys
from ensembletheory.pooling import Alternating, AnyRule, DominantField, MedianField, RelativeNoise, ScaledNoise, ShiftedGeometricField, WeightedSum
from ensembletheory.processes import GaussianPath, convert
from ensembletheory.samplers import Ddim, Scheme

__all__ = ["RULES", "ForestSampler", "Rule", "denoiser"]

Rule = str | Callable[[Field], Field]

STEP = Ddim(eta=1.0)  # the whole noise of the posterior, and none in the step that ends in the data
_OF_SCORES = ("mean", "median", "dominant", "geometric", "sum")
_REACH = 30.0  # standard deviations
_OF_RUNS = ("routed", "samples", "coupled")
RULES = (*_OF_SCORES, "disturbed", "alternating", "deviation", *_OF_RUNS)


class ForestSampler(eqx.Module):
    """Replacement and resampling (`ensembletheory.imputation.Repaint`) with the members combined by a rule.

    Args:
        rule: a name of RULES, or a function of the stack of the members' scores.
        members: a stack of fields, one a member.
        grid: decreasing times, at which the members have trees but for the last.
        resamplings: how often a step is done; 1 is replacement.

    Raises:
        ValueError: if the rule is unknown, or `resamplings` is below 1.
    """

    rule: Rule = eqx.field(static=True)
    members: TreeField
    grid: Float[Array, " times"]
    resamplings: int = eqx.field(static=True)

    def __init__(self, rule: Rule, members: TreeField, grid: Numbers, resamplings: int = 1):
        self.rule, self.members, self.grid, self.resamplings = rule, members, as_floats("grid", grid), checked_count("resamplings", resamplings, 1)

    def __check_init__(self):
        _require_rule(self.rule)

    def sample(self, key: PRNGKeyArray, X: Numbers, n: int = 1, by_row: bool = False) -> Float[Array, "n rows d"]:
        """`n` completed copies of the rows X (rows, d), NaN = missing, in the units that the members were trained in; `by_row` as in `Repaint.sample`.

        Raises:
            ValueError, FloatingPointError: as `Repaint.sample`.
        """

        def drawn(key: PRNGKeyArray, field: Field, scheme: Scheme) -> Float[Array, "n rows d"]:
            return Repaint(_process(self.members), field, scheme, self.grid, self.resamplings).sample(key, X, n, by_row=by_row)

        K = len(FieldStack(self.members))
        if self.rule == "alternating":
            return drawn(key, MeanField(_converted(self.members, "denoiser")), Alternating(STEP))
        if callable(self.rule):
            return drawn(key, denoiser(self.rule, self.members), STEP)
        if self.rule not in _OF_RUNS:
            return drawn(key, denoiser(self.rule, self.members), ScaledNoise(STEP, jnp.asarray(K**-0.5 if self.rule == "deviation" else 1.0)))
        key_choice, key_runs = jax.random.split(key)
        keys = [key_runs] * K if self.rule == "coupled" else jax.random.split(key_runs, K)
        runs = jnp.stack([drawn(keys[k], _converted(_member(self.members, k), "denoiser"), STEP) for k in range(K)])
        return _chosen(row_keys(key_choice, read_values(X), n, by_row), runs) if self.rule == "routed" else _averaged(runs)


def denoiser(rule: Rule, members: TreeField) -> Field:
    """The field E[X_0 | X_t = x] that belongs to the members' combined scores.

    Raises:
        ValueError: if the rule is unknown.
    """
    _require_rule(rule)
    scores = _converted(members, "score")
    combined = _named(rule, scores, members) if isinstance(rule, str) else rule(scores)
    return convert(_process(members), combined, "denoiser", given="score")


def _require_rule(rule: Rule) -> None:
    if not callable(rule) and rule not in RULES:
        refuse("rule", repr(rule), f"one of {', '.join(RULES)}, or a function of scores", "See ensembletheory.estimators.forests.rules.")


def _named(rule: str, scores: Field, members: TreeField) -> Field:
    K, d = len(FieldStack(members)), members.value.shape[-1]
    every = MeanField(scores), MedianField(scores), DominantField(scores), ShiftedGeometricField(scores, _offset(members)), WeightedSum(scores, np.ones(K))
    index = _OF_SCORES.index(rule) if rule in _OF_SCORES else 0
    return RelativeNoise(AnyRule(every, jnp.asarray(index)), np.ones(d), 0.2 if rule == "disturbed" else 0.0)


@eqx.filter_jit
def _converted(members: TreeField, kind: str) -> Field:
    """A member, or the stack of all, as a field of another kind."""
    if members.times.ndim == 1:
        return convert(members.process, members, kind)
    return eqx.filter_vmap(lambda field: convert(field.process, field, kind))(members)


def _member(members: TreeField, k: int) -> TreeField:
    """One of a stack, sliced where nothing is compiled."""
    return jax.tree.map(lambda array: jnp.asarray(np.asarray(array)[k]), members)


def _process(members: TreeField) -> GaussianPath:
    return _member(members, 0).process


@eqx.filter_jit
def _offset(members: TreeField) -> Float[Array, ""]:
    """One more than the largest magnitude of a score (alpha x - a q) / (a c - s^2 alpha), q in any leaf and |x| up to the reach."""

    def largest(field: TreeField, level: Int[Array, ""]) -> Float[Array, ""]:
        t = field.times[level]
        a, (alpha, c) = field.process.a(t), field.process.readout(field.readout, t)
        det = a * c - field.process.noise_variance(t) * alpha
        return (a * jnp.max(jnp.abs(field.value[level])) + jnp.abs(alpha) * _REACH) / jnp.abs(det)

    return 1 + jnp.max(jax.vmap(lambda field: jax.vmap(partial(largest, field))(jnp.arange(field.times.size)))(members))


@jax.jit
def _chosen(keys: Key[Array, "n rows"], runs: Float[Array, "K n rows d"]) -> Float[Array, "n rows d"]:
    """One member's run for each row and copy."""
    chosen = jax.vmap(jax.vmap(lambda key: jax.random.randint(key, (), 0, len(runs))))(keys)
    return jnp.take_along_axis(runs, chosen[None, :, :, None], axis=0)[0]


@jax.jit
def _averaged(runs: Float[Array, "K n rows d"]) -> Float[Array, "n rows d"]:
    return jnp.mean(runs, axis=0)
