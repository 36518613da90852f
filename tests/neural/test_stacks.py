import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from ensembletheory.fields import Field, MeanField
from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.neural import StackedMean, member, stack
from ensembletheory.neural.stacks import count

WEIGHTS = [0.5, 0.2, 0.3]
at = eqx.filter_jit(lambda field, t, x: field(t, x))


def test_the_averaged_field_is_the_numpy_average_of_the_members(trained, times):
    points = jnp.array([-2.0, 0.0, 0.3, 1.5])
    for t, x in zip(times, points, strict=True):
        members = [np.asarray(at(member(trained.model, k), t, x[None])) for k in range(3)]
        assert np.ptp(members) > 0
        np.testing.assert_allclose(at(StackedMean(trained.model), t, x[None]), np.mean(members, axis=0), rtol=1e-12)
        np.testing.assert_allclose(at(StackedMean(trained.model, WEIGHTS), t, x[None]), np.average(members, axis=0, weights=WEIGHTS), rtol=1e-12)


def test_a_stack_of_exact_fields_averages_like_the_list(process, times):
    laws = [GaussianMixture([0.3, 0.7], [[m, 0.0], [0.0, 1.0]], [[[1.0, 0.2], [0.2, 0.5]], [[0.3, 0.0], [0.0, 2.0]]]) for m in (-1.0, 0.5, 2.0)]
    fields = [process.score(law) for law in laws]
    stacked, listed, x = StackedMean(stack(fields), WEIGHTS), MeanField(fields, WEIGHTS), jnp.array([0.7, -0.2])
    for t in times:
        np.testing.assert_allclose(at(stacked, t, x), at(listed, t, x), rtol=1e-12)


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
        StackedMean(together, [0.5, 0.6])
    with pytest.raises(ValueError, match="`models`: got none"):
        stack([])


def test_a_mean_of_no_members_at_weight_zero_is_the_other_member(process):
    fields = [process.score(Gaussian([m], 1.0)) for m in (0.0, 1.0)]
    t, x = jnp.asarray(0.2), jax.random.normal(jax.random.key(0), (1,))
    assert at(StackedMean(stack(fields), [0.0, 1.0]), t, x) == fields[1](t, x)
