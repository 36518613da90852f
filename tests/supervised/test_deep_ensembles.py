"""Mixtures of Gaussian predictions: moments by quadrature, likelihoods by SciPy, and what more members do to each of the two predictions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from ensembletheory.laws import Gaussian, GaussianMixture
from ensembletheory.supervised import gaussian_nll, mixture_nll, moment_matched, moment_matching_cost

MEANS, VARIANCES, WEIGHTS = np.array([-1.0, 2.0, 0.5]), np.array([0.25, 4.0, 1.5]), np.array([0.2, 0.5, 0.3])


def density(y, means=MEANS, variances=VARIANCES, weights=WEIGHTS):
    return sum(w * stats.norm(m, np.sqrt(v)).pdf(y) for w, m, v in zip(weights, means, variances, strict=True))


def integral(f):
    value, error = integrate.quad(f, -40, 45, points=[-1.0, 0.0, 0.5, 2.0], limit=400, epsabs=1e-12)
    assert error < 1e-8
    return value


def test_moments_are_those_of_the_mixture():
    prediction = moment_matched(MEANS, VARIANCES, WEIGHTS)
    mean = integral(lambda y: y * density(y))
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(prediction.variance, integral(lambda y: (y - mean) ** 2 * density(y)), rtol=1e-9)
    np.testing.assert_allclose(prediction.aleatoric, 0.2 * 0.25 + 0.5 * 4 + 0.3 * 1.5, rtol=1e-14)
    np.testing.assert_allclose(prediction.epistemic, WEIGHTS @ (MEANS - mean) ** 2, rtol=1e-9)


def test_equal_weights_give_the_formula_of_the_paper():
    means, variances = np.stack([MEANS, 2 * MEANS]), np.stack([VARIANCES, VARIANCES + 1])
    prediction = moment_matched(means, variances)
    np.testing.assert_allclose(prediction.variance, (variances + means**2).mean(axis=0) - means.mean(axis=0) ** 2, rtol=1e-13)


def test_likelihoods_are_scipys():
    y = np.array([0.3, -4.0, 40.0])
    means, variances = np.repeat(MEANS[:, None], 3, axis=1), np.repeat(VARIANCES[:, None], 3, axis=1)
    logs = np.log(WEIGHTS)[:, None] + stats.norm.logpdf(y, means, np.sqrt(variances))
    np.testing.assert_allclose(mixture_nll(y, means, variances, WEIGHTS), -np.logaddexp.reduce(logs, axis=0), rtol=1e-12)
    np.testing.assert_allclose(gaussian_nll(y, 0.5, 2.0), -stats.norm.logpdf(y, 0.5, np.sqrt(2)), rtol=1e-13)


@pytest.mark.parametrize("target", ["gaussian", "mixture"])
def test_the_cost_of_moment_matching_is_a_difference_of_expected_likelihoods(target):
    means, variances, weights = ([0.3], [1.2], [1.0]) if target == "gaussian" else (MEANS, VARIANCES, WEIGHTS)
    law = Gaussian(means, [variances]) if target == "gaussian" else GaussianMixture(weights, means[:, None], variances[:, None])
    mean = WEIGHTS @ MEANS
    matched = stats.norm(mean, np.sqrt(WEIGHTS @ (VARIANCES + MEANS**2) - mean**2))
    expected = integral(lambda y: density(y, means, variances, weights) * (np.log(density(y)) - matched.logpdf(y)))
    cost = moment_matching_cost(law, MEANS, VARIANCES, WEIGHTS)
    assert abs(float(cost) - expected) <= float(cost.error) + 1e-8
    assert target == "gaussian" or float(cost) > 0


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0.1, 4)), min_size=4, max_size=4), st.floats(-4, 4))
def test_the_mixture_never_gets_worse_over_subsets(members, y):
    """Mean over all subsets of K of four members: what exchangeable members do on average."""
    means, variances = (np.array(column) for column in zip(*members, strict=True))
    curve = [np.mean([-np.log(density(y, means[list(s)], variances[list(s)], [1 / K] * K)) for s in combinations(range(4), K)]) for K in (1, 2, 3, 4)]
    assert np.all(np.diff(curve) <= 1e-12)
    np.testing.assert_allclose(mixture_nll(y, means, variances), curve[-1], rtol=1e-10, atol=1e-12)


def test_the_moment_matched_gaussian_gets_worse_when_every_member_overestimates_the_noise():
    means, variances = np.zeros((2, 1)), np.array([[1.0], [9.0]])
    alone = float(np.mean(gaussian_nll(0.0, 0.0, [1.0, 9.0])))
    together = moment_matched(means, variances)
    assert float(gaussian_nll([0.0], together.mean, together.variance)[0]) > alone + 0.2
    assert float(mixture_nll([0.0], means, variances)[0]) < alone


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: moment_matched([1.0, 2.0], [1.0]), r"`means`: got shape \(2,\) beside variances of shape \(1,\)"),
        (lambda: moment_matched([1.0], [0.0]), "`variances`: got 0"),
        (lambda: moment_matched([1.0, 2.0], [1.0, 1.0], [0.5, 0.6]), "`weights`"),
        (lambda: mixture_nll([0.0, 1.0], [[1.0]], [[1.0]]), r"`targets`: got shape \(2,\)"),
        (lambda: moment_matching_cost(Gaussian([0.0, 0.0], 1.0), [0.0], [1.0]), "`target`: got dimension 2"),
        (lambda: moment_matching_cost(Gaussian([0.0], 1.0), [[0.0]], [[1.0]]), r"`means`: got shape \(1, 1\)"),
    ],
)
def test_bad_input_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()
