"""The diversity-accuracy plane: target values, enumerated joint laws of two classifiers, simulated ones."""

import numpy as np
import pytest

from ensembletheory.supervised import copy_disagreement, disagreement, independent_disagreement
from tests.helpers import assert_mean


def test_both_curves_reach_the_targets():
    a = np.array([0.8, 0.7, 0.6])
    np.testing.assert_allclose(independent_disagreement(a, 0.8, 10) / (1 - a), [1.7778, 1.4444, 1.2778], atol=5e-5)
    np.testing.assert_allclose(copy_disagreement(a, 0.8, 10) / (1 - a), [0, 0.42857, 0.64286], atol=5e-6)


@pytest.mark.parametrize(("a", "reference", "classes"), [(0.5, 0.7, 3), (0.9, 0.6, 2), (0.0, 0.3, 5), (1.0, 1.0, 4)])
def test_independent_errors_by_the_joint_table(a, reference, classes):
    one, two = ([right, *[(1 - right) / (classes - 1)] * (classes - 1)] for right in (a, reference))
    table = np.outer(one, two)
    np.testing.assert_allclose(independent_disagreement(a, reference, classes), 1 - np.trace(table), atol=1e-15)


@pytest.mark.parametrize(("q", "reference", "classes"), [(0.0, 0.9, 10), (0.4, 0.7, 3), (1.0, 0.6, 2)])
def test_random_labels_by_the_joint_table(q, reference, classes):
    predicted = np.array([reference, *[(1 - reference) / (classes - 1)] * (classes - 1)])
    channel = (1 - q) * np.eye(classes) + q / classes
    joint = predicted[:, None] * channel
    accuracy = joint.sum(axis=0)[0]
    np.testing.assert_allclose(copy_disagreement(accuracy, reference, classes), 1 - np.trace(joint), atol=1e-12)


def test_a_simulated_copy_lies_on_its_curve_and_measured_disagreement_counts_points():
    rng, n, classes = np.random.default_rng(5), 200_000, 4
    reference = np.where(rng.random(n) < 0.8, 0, rng.integers(1, classes, n))
    copy = np.where(rng.random(n) < 0.5, rng.integers(0, classes, n), reference)
    differ = (copy != reference).astype(float)
    np.testing.assert_allclose(disagreement(np.stack([copy, reference]), reference), [differ.mean(), 0.0])
    assert_mean(differ, float(copy_disagreement(0.5 * 0.8 + 0.5 / classes, 0.8, classes)))


def test_the_copy_is_the_lower_curve_and_both_respect_the_triangle():
    a = np.linspace(0.1, 0.8, 15)
    copy, independent = copy_disagreement(a, 0.8, 10), independent_disagreement(a, 0.8, 10)
    assert np.all(copy <= independent + 1e-15)
    assert np.all(copy >= 0.8 - a - 1e-15)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: independent_disagreement(1.2, 0.5, 3), "`accuracy`: got 1.2"),
        (lambda: independent_disagreement(0.5, 0.5, 1), "`classes`: got 1; expected at least 2"),
        (lambda: copy_disagreement(0.9, 0.8, 10), "`accuracy`: got 0.9"),
        (lambda: copy_disagreement(0.1, 0.1, 10), "`reference_accuracy`: got 0.1; expected above 1/10"),
        (lambda: disagreement([[0, 1, 2]], [0, 1]), r"`predictions`: got shape \(1, 3\) beside \(2,\)"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()
