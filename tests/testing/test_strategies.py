"""The strategies themselves: what they build is valid, varied and readable, and they shrink to models a reader can type."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import ensembletheory as et
from ensembletheory.testing import ensembles, gaussians, mixtures, ppcas

QUIET = settings(max_examples=60, derandomize=True, database=None, deadline=None, phases=(Phase.generate, Phase.shrink))


def minimal(strategy, condition=lambda law: True):
    return find(strategy, condition, settings=QUIET)


def numbers(law):
    """All numbers that define a law, in one NumPy array."""
    if isinstance(law, et.Ppca):
        parts = (law.loadings, law.mean, law.noise_variance)
    elif isinstance(law, et.GaussianMixture):
        parts = (law.means, law.covs)
    else:
        parts = (law.mean, law.cov)
    return np.concatenate([np.ravel(part) for part in parts])


@pytest.mark.parametrize("strategy", [gaussians(), mixtures(zero_weights=True), ppcas()], ids=["gaussians", "mixtures", "ppcas"])
def test_every_number_can_be_typed_and_none_is_subnormal(strategy):
    @settings(max_examples=25)
    @given(strategy)
    def holds(law):
        values = numbers(law)
        assert np.all(np.isfinite(values))
        np.testing.assert_array_equal(values * 4, np.round(values * 4))
        assert np.max(np.abs(values)) < 20

    holds()


@settings(max_examples=25)
@given(gaussians(structures=("dense",), dims=(3,)))
def test_covariances_are_positive_definite_and_not_nearly_singular(law):
    spectrum = np.linalg.eigvalsh(np.asarray(law.cov))
    assert spectrum[0] > 1e-4 * spectrum[-1]
    np.testing.assert_array_equal(law.cov, np.asarray(law.cov).T)


@settings(max_examples=25)
@given(mixtures(components=(3,), zero_weights=True))
def test_weights_lie_on_the_simplex(law):
    weights = np.asarray(law.weights)
    assert np.all(weights >= 0)
    assert weights[0] > 0
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-15)


def test_gaussians_shrink_to_the_standard_normal():
    law = minimal(gaussians())
    assert (law.dim, float(law.mean[0]), float(law.cov[0, 0])) == (1, 0.0, 1.0)
    plane = minimal(gaussians(dims=(2,), structures=("dense",)))
    np.testing.assert_array_equal(plane.mean, np.zeros(2))
    np.testing.assert_array_equal(plane.cov, np.eye(2))


def test_a_condition_shrinks_to_its_simplest_witness():
    moved = minimal(gaussians(), lambda law: np.asarray(law.mean)[0] > 1)
    assert (moved.dim, float(moved.mean[0]), float(moved.cov[0, 0])) == (1, 1.5, 1.0)
    coupled = minimal(gaussians(dims=(1, 2)), lambda law: law.dim == 2 and np.asarray(law.cov)[0, 1] != 0)
    np.testing.assert_array_equal(coupled.mean, np.zeros(2))
    np.testing.assert_array_equal(coupled.cov, [[1.0, 0.5], [0.5, 1.25]])


def test_mixtures_shrink_to_one_component_or_to_equal_weights():
    one = minimal(mixtures())
    assert (one.weights.shape, float(one.means[0, 0]), float(one.covs[0, 0, 0])) == ((1,), 0.0, 1.0)
    two = minimal(mixtures(), lambda law: len(set(np.asarray(law.means)[:, 0])) == 2)
    np.testing.assert_array_equal(two.weights, [0.5, 0.5])
    assert sorted(np.abs(np.asarray(two.means)).ravel()) == [0.0, 0.5]
    np.testing.assert_array_equal(two.covs, np.ones((2, 1, 1)))


def test_ppcas_shrink_to_noise_and_to_one_loading():
    noise = minimal(ppcas())
    assert (noise.loadings.shape, float(noise.noise_variance)) == ((2, 1), 1.0)
    np.testing.assert_array_equal(noise.loadings, np.zeros((2, 1)))
    loaded = minimal(ppcas(), lambda model: np.any(np.asarray(model.loadings)))
    assert sorted(np.abs(np.asarray(loaded.loadings)).ravel()) == [0.0, 0.5]


def test_ensembles_share_a_space_and_shrink_to_two_equal_members():
    smallest = minimal(ensembles())
    assert len(smallest) == 2
    assert all((law.dim, float(law.mean[0]), float(law.cov[0, 0])) == (1, 0.0, 1.0) for law in smallest)

    @settings(max_examples=15)
    @given(st.one_of(ensembles(), ensembles(kind=ppcas, dims=(2, 3)), ensembles(kind=partial(mixtures, reach=1), members=(3,))))
    def holds(laws):
        assert len({law.dim for law in laws}) == 1
        assert 2 <= len(laws) <= 3

    holds()


@pytest.mark.parametrize(
    ("strategy", "condition"),
    [
        (gaussians(), lambda law: isinstance(law.covariance, et.Dense) and law.dim == 3),
        (gaussians(), lambda law: isinstance(law.covariance, et.Diagonal) and np.ptp(np.asarray(law.covariance.variances)) > 0),
        (mixtures(zero_weights=True), lambda law: np.any(np.asarray(law.weights) == 0)),
        (ppcas(), lambda model: np.linalg.matrix_rank(np.asarray(model.loadings)) == 2),
        (ensembles(), lambda laws: len(laws) == 3 and laws[0].dim == 2),
    ],
    ids=["dense", "unequal variances", "zero weight", "two factors", "three in the plane"],
)
def test_the_awkward_members_are_found(strategy, condition):
    assert condition(minimal(strategy, condition))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussians(dims=()), r"`dims`: got \(\); expected one or more positive integers"),
        (lambda: gaussians(dims=(0,)), "`dims`"),
        (lambda: gaussians(dims=(1.5,)), "`dims`"),
        (lambda: gaussians(reach=0), "`reach`: got 0; expected a positive integer"),
        (lambda: gaussians(structures=("banded",)), "`structures`.*isotropic"),
        (lambda: mixtures(components=(0,)), "`components`"),
        (lambda: mixtures(reach=0.5), "`reach`"),
        (lambda: ppcas(dims=(1,), factors=(1,)), r"`dims, factors`: got \(1,\), \(1,\); expected a pair with fewer factors than dimensions"),
        (lambda: ppcas(factors=()), "`factors`"),
        (lambda: ensembles(members=()), "`members`"),
        (lambda: ensembles(kind=ppcas, dims=(1,)), "`dims, factors`"),
    ],
)
def test_invalid_arguments_are_refused_when_the_strategy_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("strategy", [gaussians, mixtures, ppcas, ensembles])
def test_arguments_are_keywords(strategy):
    with pytest.raises(TypeError):
        strategy((1, 2))


def test_without_hypothesis_the_extra_is_named():
    code = "import sys; sys.modules['hypothesis'] = None\nimport ensembletheory.testing"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "ensembletheory[test]" in result.stderr
