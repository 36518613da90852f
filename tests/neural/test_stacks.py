import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float
from scipy import stats

from ensembletheory.fields import Field, MeanField, differ
from ensembletheory.laws import Gaussian, GaussianMixture, standard_normal
from ensembletheory.neural import member, members, stack
from ensembletheory.neural.stacks import count
from ensembletheory.pooling import Alternating, DominantField, FeynmanKac, MeanOfSamples, MedianField, Routed, ShiftedGeometricField, WeightedSum
from ensembletheory.processes import VariancePreserving
from ensembletheory.samplers import EulerMaruyama, Sampler

WEIGHTS = [0.5, 0.2, 0.3]
KEY = jax.random.key(5)
at = eqx.filter_jit(lambda field, t, x: field(t, x))
batch = eqx.filter_jit(lambda field, t, x: field.batch(t, x))


def test_the_averaged_field_is_the_numpy_average_of_the_members(trained, times):
    points = jnp.array([-2.0, 0.0, 0.3, 1.5])
    for t, x in zip(times, points, strict=True):
        values = [np.asarray(at(member(trained.model, k), t, x[None])) for k in range(3)]
        assert np.ptp(values) > 0
        np.testing.assert_allclose(at(MeanField(trained.model), t, x[None]), np.mean(values, axis=0), rtol=1e-12)
        np.testing.assert_allclose(at(MeanField(trained.model, WEIGHTS), t, x[None]), np.average(values, axis=0, weights=WEIGHTS), rtol=1e-12)


def test_a_stack_of_exact_fields_averages_like_the_list(process, times):
    laws = [GaussianMixture([0.3, 0.7], [[m, 0.0], [0.0, 1.0]], [[[1.0, 0.2], [0.2, 0.5]], [[0.3, 0.0], [0.0, 2.0]]]) for m in (-1.0, 0.5, 2.0)]
    fields = [process.score(law) for law in laws]
    stacked, listed, x = MeanField(stack(fields), WEIGHTS), MeanField(fields, WEIGHTS), jnp.array([0.7, -0.2])
    for t in times:
        np.testing.assert_allclose(at(stacked, t, x), at(listed, t, x), rtol=1e-12)


RULES = {
    "sum": (lambda fields: WeightedSum(fields, [1.5, -0.5, 0.25]), lambda v: 1.5 * v[0] - 0.5 * v[1] + 0.25 * v[2]),
    "median": (MedianField, lambda v: np.median(v, axis=0)),
    "dominant": (DominantField, lambda v: np.take_along_axis(v, np.argmax(np.abs(v), axis=0)[None], axis=0)[0]),
    "geometric": (lambda fields: ShiftedGeometricField(fields, 50.0), lambda v: stats.gmean(v + 50.0, axis=0) - 50.0),
}


@pytest.mark.parametrize("rule", list(RULES))
def test_every_rule_of_fields_takes_a_stack_of_networks(trained, process, rule):
    """At one point and at many, against NumPy; kind, process and what is known of the rule are those of the members."""
    build, by_numpy = RULES[rule]
    points, t = jnp.array([[-2.0], [0.0], [1.5]]), jnp.asarray(0.3)
    vectors = [np.asarray(batch(MeanField(trained.model, row), t, points)) for row in np.eye(3)]
    combined = build(trained.model)
    np.testing.assert_allclose(batch(combined, t, points), by_numpy(np.stack(vectors)), rtol=1e-9)
    np.testing.assert_allclose(at(combined, t, points[2]), by_numpy(np.stack(vectors))[2], rtol=1e-9)
    assert (combined.kind, combined.piecewise, len(combined.fields)) == ("score", rule in ("median", "dominant"), 3)
    assert not differ(combined.origin, process)


@pytest.mark.parametrize(
    "sampled",
    [
        lambda run: run(EulerMaruyama()).sample(KEY, 16, standard_normal(1)),
        lambda run: run(Alternating(EulerMaruyama())).sample(KEY, 16, standard_normal(1)),
        lambda run: FeynmanKac(run(EulerMaruyama()), batches=4).sample(KEY, 16, standard_normal(1)).log_weights,
    ],
)
def test_samplers_of_a_stack_draw_what_those_of_the_list_draw(trained, process, sampled):
    grid = jnp.linspace(1.0, 0.1, 5)
    of_stack, of_list = (sampled(lambda scheme: Sampler(process, MeanField(fields, WEIGHTS), scheme, grid)) for fields in (trained.model, members(trained.model)))  # noqa: B023
    np.testing.assert_allclose(of_stack, of_list, rtol=1e-9, atol=1e-9)
    assert np.ptp(of_stack) > 0


def test_rules_of_runs_take_the_members_of_a_stack(trained, process):
    """One compiled program a member's run. The mean of runs that share everything is that of the members' ends; a route is one of them."""
    grid, points = jnp.linspace(1.0, 0.1, 5), standard_normal(1)
    runs = [Sampler(process, field, EulerMaruyama(), grid) for field in members(trained.model)]
    ends = [np.asarray(MeanOfSamples(runs, row, "everything").sample(KEY, 16, points)) for row in np.eye(3)]
    np.testing.assert_allclose(MeanOfSamples(runs, WEIGHTS, "everything").sample(KEY, 16, points), np.average(ends, axis=0, weights=WEIGHTS), rtol=1e-9)
    keys = jax.random.split(KEY, 4)[1:]
    alone = np.stack([np.asarray(run.sample(key, 16, points)) for key, run in zip(keys, runs, strict=True)])
    routed = np.asarray(Routed(runs, WEIGHTS).sample(KEY, 16, points))
    assert np.all(np.any(np.isclose(alone, routed[None], rtol=1e-9), axis=0))


def test_a_field_that_is_no_stack_is_refused(trained, process):
    with pytest.raises(ValueError, match="`fields`: got one ScoreNetwork, whose arrays have shapes .*; expected a list of fields, or a stack of them"):
        MeanField(member(trained.model, 0))


def test_a_stack_of_none_or_of_fields_of_several_processes_is_refused(process):
    two = stack([process.score(Gaussian([0.0], 1.0)), VariancePreserving(0.1, 5.0).score(Gaussian([1.0], 2.0))])
    with pytest.raises(ValueError, match="`fields`: got a stack of fields of VariancePreserving processes that differ; expected fields of one process"):
        MeanField(two)
    none = jax.tree.map(lambda array: array[:0], two)
    for rule in (MeanField, lambda fields: WeightedSum(fields, [])):
        with pytest.raises(ValueError, match=r"`fields`: got one ExactField, whose arrays have shapes \[\(0,\)"):
            rule(none)


def test_a_stack_of_exact_scores_is_evaluated_where_nothing_is_compiled(process):
    """-(x - a m) / (a^2 S + s^2), averaged by hand."""
    field, a = MeanField(stack([process.score(Gaussian([m], S)) for m, S in ((0.0, 1.0), (1.0, 2.0))])), float(process.a(jnp.asarray(0.3)))
    truth = -(0.7 + (0.7 - a) / (1 + a**2)) / 2
    np.testing.assert_allclose(field(jnp.asarray(0.3), jnp.array([0.7])), [truth], rtol=1e-12)


def test_a_member_that_is_not_a_number_is_not_hidden_by_the_median(process):
    rule = MedianField(stack([process.score(Gaussian([m], 1.0)) for m in (0.0, 1.0, 2.0)]))
    np.testing.assert_array_equal(rule.combine(jnp.array([[1.0, 1.0], [jnp.nan, 4.0], [2.0, 3.0]])), [np.nan, 3.0])


def test_members_come_back_as_they_went_in(process):
    fields = [process.score(Gaussian([m], 1.0 + m)) for m in (0.0, 1.0, 2.0)]
    together = stack(fields)
    assert count(together) == 3
    for k in (0, 2, -1):
        assert eqx.tree_equal(member(together, k), fields[k])


class Power(Field):
    order: int

    def __call__(self, t: Float[Array, ""], x: Float[Array, " d"]) -> Float[Array, " d"]:
        return x**self.order


@pytest.mark.parametrize(
    "models",
    [
        [Gaussian([0.0], 1.0), Gaussian([0.0, 0.0], 1.0)],
        [Gaussian([0.0], 1.0), Gaussian([0.0], [[1.0]])],
        [Power(1), Power(2)],
    ],
)
def test_models_that_cannot_be_stacked_are_refused(models):
    with pytest.raises(ValueError, match=r"`models\[1\]`: got a structure or shapes other than those of models\[0\]"):
        stack(models)


def test_wrong_members_and_weights_are_refused(process):
    together = stack([process.score(Gaussian([0.0], 1.0))] * 2)
    with pytest.raises(ValueError, match=r"`k`: got 2; expected a member of 0 \.\.\. 1"):
        member(together, 2)
    with pytest.raises(ValueError, match="`weights`"):
        MeanField(together, [0.5, 0.6])
    with pytest.raises(ValueError, match="`models`: got none"):
        stack([])


def test_a_mean_of_no_members_at_weight_zero_is_the_other_member(process):
    fields = [process.score(Gaussian([m], 1.0)) for m in (0.0, 1.0)]
    t, x = jnp.asarray(0.2), jax.random.normal(jax.random.key(0), (1,))
    assert at(MeanField(stack(fields), [0.0, 1.0]), t, x) == fields[1](t, x)
